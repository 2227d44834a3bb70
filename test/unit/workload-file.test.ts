import { describe, expect, test } from 'vitest';
import { readWorkloads } from '../../agent/workload/file.js';

const ITEM = '{name: web-1, cgroup: /sys/fs/cgroup/web}';
const item = (fields: string): string => `workloads:\n- ${fields}\n`;

describe('a list of workloads', () => {
  test('gives every field', () => {
    const text = `
containerd: /run/containerd/containerd.sock
workloads:
- {namespace: shop, name: web-1, labels: {app: web, tier: }, container: nginx, image: "nginx:1", cgroup: /sys/fs/cgroup/a/b}
`;
    expect(readWorkloads(text, 'w.yaml')).toEqual({
      containerd: '/run/containerd/containerd.sock',
      workloads: [
        {
          namespace: 'shop',
          name: 'web-1',
          labels: new Map([
            ['app', 'web'],
            ['tier', ''],
          ]),
          container: 'nginx',
          containerId: '',
          image: 'nginx:1',
          cgroup: '/sys/fs/cgroup/a/b',
        },
      ],
      diagnostics: [],
    });
  });

  test('needs no more than a name and a cgroup', () => {
    const { workloads, diagnostics, containerd } = readWorkloads(item(ITEM), 'w.yaml');
    expect(diagnostics).toEqual([]);
    expect(containerd).toBeUndefined();
    expect(workloads).toEqual([
      {
        namespace: 'default',
        name: 'web-1',
        labels: new Map(),
        container: 'web-1',
        containerId: '',
        image: '',
        cgroup: '/sys/fs/cgroup/web',
      },
    ]);
  });

  test.each([
    ['no workload, said so', 'workloads: []\n'],
    ['containerd only', 'containerd: /run/c.sock\n'],
    ['a cgroup of the greatest length', item(`{name: a, cgroup: /sys/fs/cgroup/${'c'.repeat(254)}}`)],
    ['two containers of a pod', `${item(ITEM)}- {name: web-1, container: b, cgroup: /sys/fs/cgroup/b}\n`],
    ['a cgroup with odd letters', item('{name: a, cgroup: "/sys/fs/cgroup/a:b \\u00e4"}')],
    [
      'anchors',
      `workloads:\n- &a {name: a, cgroup: /sys/fs/cgroup/a}\n- {<<: *a, name: b, cgroup: /sys/fs/cgroup/b}\n`,
    ],
  ])('may be %s', (_, text) => {
    expect(readWorkloads(text, 'w.yaml').diagnostics).toEqual([]);
  });
});

describe('a fault is told where it stands', () => {
  /** `@@` stands before every place that must be reported, and is taken out. */
  test.each<readonly [string, string, ...string[]]>([
    ['an empty file', '@@', 'names no workloads'],
    ['comments only', '@@# none\n', 'names no workloads'],
    ['null', '@@~\n', 'names no workloads'],
    ['neither field', '@@{}\n', 'names no workloads'],
    ['a list', '@@- a\n', 'must be a mapping'],
    ['text', '@@hello\n', 'must be a mapping'],
    ['a syntax error', 'workloads: @@[', 'YAML syntax'],
    ['a second document', 'workloads: []\n---\n@@containerd: /c\n', 'second document'],
    ['a broken alias', 'workloads: @@*nothing\n', 'no anchor'],
    ['an unknown field at the top', '@@workload: []\nworkloads: []\n', 'did you mean'],
    ['no list', 'workloads: @@{name: a}\n', 'must be a list'],
    ['no mapping', item('@@web'), 'workloads[0] must be a mapping'],
    ['an empty item', 'workloads:\n- @@\n', 'workloads[0] is empty'],
    ['no name', item('@@{cgroup: /sys/fs/cgroup/a}'), 'workloads[0] has no name'],
    ['an empty name', item('{name: @@"", cgroup: /sys/fs/cgroup/a}'), 'name is empty'],
    ['a name with blanks', item('{name: @@a b, cgroup: /sys/fs/cgroup/a}'), 'not a valid name'],
    ['a number for a name', item('{name: @@1, cgroup: /sys/fs/cgroup/a}'), 'put it in quotes'],
    ['a bad namespace', item('{namespace: @@Shop, name: a, cgroup: /sys/fs/cgroup/a}'), 'lower-case'],
    ['a bad container', item('{container: @@a/b, name: a, cgroup: /sys/fs/cgroup/a}'), 'not a valid name'],
    ['an unknown field', item('{@@conatiner: a, name: a, cgroup: /sys/fs/cgroup/a}'), 'did you mean'],
    [
      'a label of a number',
      item('{labels: {v: @@1}, name: a, cgroup: /sys/fs/cgroup/a}'),
      'label v must be text',
    ],
    ['a label without a name', item('{labels: {@@"": a}, name: a, cgroup: /sys/fs/cgroup/a}'), 'has no name'],
    ['labels in a list', item('{labels: @@[a], name: a, cgroup: /sys/fs/cgroup/a}'), 'must be a mapping'],
    ['a list for an image', item('{image: @@[a], name: a, cgroup: /sys/fs/cgroup/a}'), 'must be text'],
    ['no cgroup', item('@@{name: a}'), 'has no cgroup'],
    ['an empty cgroup', item('{name: a, cgroup: @@""}'), 'cgroup is empty'],
    ['a relative cgroup', item('{name: a, cgroup: @@system.slice/a}'), 'is not absolute'],
    ['a cgroup elsewhere', item('{name: a, cgroup: @@/sys/fs/bpf}'), 'is not below /sys/fs/cgroup'],
    ['a cgroup beside', item('{name: a, cgroup: @@/sys/fs/cgroups/a}'), 'is not below /sys/fs/cgroup'],
    ['the root cgroup', item('{name: a, cgroup: @@/sys/fs/cgroup}'), 'root of all cgroups'],
    ['the root cgroup, with a slash', item('{name: a, cgroup: @@/sys/fs/cgroup/}'), 'root of all cgroups'],
    ['a way out', item('{name: a, cgroup: @@/sys/fs/cgroup/../bpf}'), 'is not below'],
    ['dots', item('{name: a, cgroup: @@/sys/fs/cgroup/a/../b}'), 'write /sys/fs/cgroup/b'],
    ['two slashes', item('{name: a, cgroup: @@/sys/fs/cgroup//b}'), 'write /sys/fs/cgroup/b'],
    ['a slash at the end', item('{name: a, cgroup: @@/sys/fs/cgroup/b/}'), 'write /sys/fs/cgroup/b'],
    ['a long cgroup', item(`{name: a, cgroup: @@/sys/fs/cgroup/${'c'.repeat(255)}}`), 'is 256 bytes long'],
    ['a cgroup with NUL', item('{name: a, cgroup: @@"/sys/fs/cgroup/a\\0"}'), 'NUL'],
    [
      'a twin',
      `${item(ITEM)}- {name: @@web-1, cgroup: /sys/fs/cgroup/b}\n`,
      'first as workloads[0] on line 2',
    ],
    [
      'a shared cgroup',
      `${item(ITEM)}- {name: b, cgroup: @@/sys/fs/cgroup/web}\n`,
      'first as workloads[0] on line 2',
    ],
    ['a relative socket', 'containerd: @@containerd.sock\n', 'absolute'],
    ['a socket as an address', 'containerd: @@unix:///run/c.sock\n', 'write its path alone: /run/c.sock'],
    ['a long socket', `containerd: @@/${'s'.repeat(107)}\n`, 'longer than'],
    ['a socket of another type', 'containerd: @@[a]\n', 'must be text'],
    [
      'all of them at once',
      'containerd: @@c.sock\nworkloads:\n- @@{nam: a}\n- {name: a, @@x: 1, cgroup: @@/tmp}\n'.replace(
        '{nam',
        '{@@nam',
      ),
      'absolute',
      'has no name',
      'has no cgroup',
      'did you mean',
      'unknown field "x"',
      'is not below',
    ],
  ])('%s', (_, marked, ...messages) => {
    const places: string[] = [];
    let text = '';
    for (const [i, part] of marked.split('@@').entries()) {
      const lines = text.split('\n');
      if (i > 0) places.push(`${lines.length}:${(lines.at(-1) ?? '').length + 1}`);
      text += part;
    }
    const diagnostics = readWorkloads(text, 'w.yaml').diagnostics.filter((d) => d.severity === 'error');
    const at = diagnostics.map((found) => `${found.at.line}:${found.at.column}`);
    expect([...new Set(at)]).toEqual(places);
    for (const [i, message] of messages.entries()) expect(diagnostics[i]?.message).toContain(message);
    expect(diagnostics).toHaveLength(messages.length);
    for (const { at: where } of diagnostics) expect(where.file).toBe('w.yaml');
  });

  test('and the others of the list are read', () => {
    const { workloads } = readWorkloads(`${item(ITEM)}- {name: b, cgroup: b}\n`, 'w.yaml');
    expect(workloads.map(({ name }) => name)).toEqual(['web-1']);
  });

  test('a long text is refused unread', () => {
    const { diagnostics } = readWorkloads('x'.repeat((1 << 20) + 1), 'w.yaml');
    expect(diagnostics.map(({ message }) => message)).toEqual([expect.stringContaining('longer than 1 MiB')]);
  });

  test('aliases that expand without end are refused', () => {
    const levels = Array.from({ length: 12 }, (_, i) => `l${i}: &l${i} [${`*l${i - 1},`.repeat(i ? 9 : 0)}]`);
    const text = `${levels.join('\n')}\nworkloads: *l11\n`;
    expect(readWorkloads(text, 'w.yaml').diagnostics.length).toBeGreaterThan(0);
  });

  test('deep nesting is refused', () => {
    const { diagnostics } = readWorkloads(`workloads: ${'['.repeat(100_000)}`, 'w.yaml');
    expect(diagnostics).toHaveLength(1);
  });
});
