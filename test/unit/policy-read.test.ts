import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { AddressRule, NameRule, Policy, Rule } from '../../agent/policy/model.js';
import { readPolicies } from '../../agent/policy/read.js';
import { decodePolicyFile, MAX_FILE_BYTES } from '../../agent/policy/source.js';

function read(text: string): Policy {
  const { policies, diagnostics } = readPolicies(text, 'p.yaml');
  expect(diagnostics.filter(({ severity }) => severity === 'error')).toEqual([]);
  expect(policies).toHaveLength(1);
  const [policy] = policies;
  if (policy === undefined) throw new Error('unreachable');
  return policy;
}

const spec = (text: string, kind = 'WorkloadPolicy', api = 'security.belay.dev/v1'): string =>
  `apiVersion: ${api}\nkind: ${kind}\nmetadata: {name: p, namespace: shop}\nspec:\n${text}`;

const rules = (text: string): readonly Rule[] => read(spec(`  selector: {}\n${text}`)).rules;

test('the closest of rule, section and spec wins, field by field', () => {
  const [a, b, c] = rules(`
  severity: 2
  message: from spec
  tags: [spec]
  action: Audit
  file:
    action: Allow
    severity: 3
    matchPaths:
    - {path: /a, severity: 4, tags: []}
    - {path: /b, action: Kill, message: from rule}
  process:
    matchPaths: [{path: /c}]
`).toSorted((x, y) => x.at.line - y.at.line);
  expect(a).toMatchObject({ action: 'Allow', severity: 4, message: 'from spec', tags: [] });
  expect(b).toMatchObject({ action: 'Kill', severity: 3, message: 'from rule', tags: ['spec'] });
  expect(c).toMatchObject({ action: 'Audit', severity: 2, message: 'from spec', tags: ['spec'] });
});

test('what nobody says has defaults: Block, severity 1, no tags, no message', () => {
  expect(rules('  file: {matchPaths: [{path: /a}]}')[0]).toEqual({
    id: 'file.matchPaths[0]',
    at: { file: 'p.yaml', line: 6, column: 23 },
    class: 'file',
    match: { kind: 'path', path: '/a' },
    action: 'Block',
    severity: 1,
    tags: [],
    message: '',
    sources: [],
    ownerOnly: false,
    readOnly: false,
    noTty: false,
  });
});

test('every form of name rule', () => {
  const found = rules(`
  process:
    matchPaths:
    - {path: /a, ownerOnly: true, pts: false, allowedArgs: ["-m", random]}
    - {execname: apt, fromSource: [{path: /b}, {dir: /c/, recursive: true}, {dir: /d/}, {pattern: "/e/*"}]}
    matchDirectories: [{dir: /f/, recursive: yes, pts: true}]
    matchPatterns: [{pattern: "/**/*.sh"}]
  file:
    matchDirectories: [{dir: /, readOnly: true}]
`) as NameRule[];
  expect(found.map(({ id, match }) => [id, match])).toEqual([
    ['process.matchPaths[0]', { kind: 'path', path: '/a' }],
    ['process.matchPaths[1]', { kind: 'execname', name: 'apt' }],
    ['process.matchDirectories[0]', { kind: 'directory', dir: '/f/', recursive: true }],
    ['process.matchPatterns[0]', { kind: 'pattern', pattern: '/**/*.sh' }],
    ['file.matchDirectories[0]', { kind: 'directory', dir: '/', recursive: false }],
  ]);
  expect(found[0]).toMatchObject({ ownerOnly: true, noTty: true, allowedArgs: ['-m', 'random'] });
  expect(found[1]?.sources).toEqual([
    { kind: 'path', path: '/b' },
    { kind: 'directory', dir: '/c/', recursive: true },
    { kind: 'directory', dir: '/d/', recursive: false },
    { kind: 'pattern', pattern: '/e/*' },
  ]);
  expect(found[2]).toMatchObject({ noTty: false });
  expect(found[4]).toMatchObject({ readOnly: true });
});

test('an unused index is not given away: a rule keeps its place in the list as its id', () => {
  const { diagnostics } = readPolicies(
    spec('  selector: {}\n  file: {matchPaths: [{path: /a}, {path: b}]}'),
    'p.yaml',
  );
  expect(diagnostics[0]?.message).toContain('file.matchPaths[1].path');
});

test('protocols and capabilities are read whatever their case', () => {
  const found = rules(`
  network: {matchProtocols: [{protocol: TCP}, {protocol: icmpv6}]}
  capabilities: {matchCapabilities: [{capability: CAP_NET_RAW}, {capability: checkpoint_restore}]}
`);
  expect(found).toMatchObject([
    { kind: 'protocol', protocol: 'tcp' },
    { kind: 'protocol', protocol: 'icmpv6' },
    { capability: 13, name: 'net_raw' },
    { capability: 40, name: 'checkpoint_restore' },
  ]);
});

test('ways out take sources and actions; drift takes what its section says', () => {
  const found = rules(`
  action: Audit
  escape:
    severity: 6
    matchOperations: [{operation: mount, action: Kill}, {operation: bpf, fromSource: [{path: /usr/bin/trace}]}]
  process: {severity: 9, message: new, drift: Block}
`);
  expect(found).toMatchObject([
    { id: 'process.drift', class: 'preset', preset: 'drift', action: 'Block', severity: 9, message: 'new' },
    { id: 'escape.matchOperations[0]', class: 'escape', operation: 'mount', action: 'Kill', severity: 6 },
    { operation: 'bpf', action: 'Audit', sources: [{ kind: 'path', path: '/usr/bin/trace' }] },
  ]);
});

test('addresses: blocks with exceptions, port ranges, IPv4-mapped IPv6 as IPv4', () => {
  const [a, b, c] = rules(`
  network:
    action: Allow
    egress:
    - to: [{cidr: 10.0.0.0/8, except: [10.9.0.0/16]}, {cidr: "::ffff:192.0.2.0/120"}, {cidr: "2001:db8::/32"}]
      ports: [{port: 443, endPort: 444, protocol: TCP}, {protocol: udp}, {port: 53}]
    - {}
    ingress: [{from: [{cidr: 0.0.0.0/0}]}]
`) as AddressRule[];
  expect(a).toMatchObject({ direction: 'egress', action: 'Allow', id: 'network.egress[0]' });
  expect(a?.peers).toEqual([
    { cidr: { bytes: [10, 0, 0, 0], prefix: 8 }, except: [{ bytes: [10, 9, 0, 0], prefix: 16 }] },
    { cidr: { bytes: [192, 0, 2, 0], prefix: 24 }, except: [] },
    { cidr: { bytes: [0x20, 1, 0xd, 0xb8, ...Array(12).fill(0)], prefix: 32 }, except: [] },
  ]);
  expect(a?.ports).toEqual([
    { protocol: 'TCP', from: 443, to: 444 },
    { protocol: 'UDP', from: 0, to: 65535 },
    { from: 53, to: 53 },
  ]);
  expect([b?.peers, b?.ports]).toEqual([[], []]);
  expect(c).toMatchObject({ direction: 'ingress', peers: [{ cidr: { bytes: [0, 0, 0, 0], prefix: 0 } }] });
});

test('a rule whose peers are all of kinds not enforced leaves no rule, and never one for any peer', () => {
  for (const action of ['Allow', 'Block']) {
    const found = rules(`
  network:
    action: ${action}
    egress:
    - to: [{fqdn: example.com}, {podSelector: {matchLabels: {a: b}}, namespaceSelector: {}}]
    - to: [{fqdn: example.com}, {cidr: 10.0.0.0/8}]
`) as AddressRule[];
    expect(found.map(({ id, peers }) => [id, peers.length])).toEqual([['network.egress[1]', 1]]);
  }
});

test('domains are read without their case and their last dot, and deny where others kill', () => {
  const found = rules(`
  network:
    action: Kill
    matchDNSQueries:
    - {domain: Google.COM., fromSource: [{path: /a}]}
    - {domain: "*.example.com", action: Allow}
`);
  expect(found).toMatchObject([
    { kind: 'dns', domain: 'google.com', below: false, action: 'Block', sources: [{ path: '/a' }] },
    { kind: 'dns', domain: 'example.com', below: true, action: 'Allow', id: 'network.matchDNSQueries[1]' },
  ]);
});

describe('system calls', () => {
  const lists = [
    ['matchSyscalls', 'syscall: [unlink]'],
    ['matchPaths', 'path: /a/, recursive: true, syscall: [unlink]'],
  ] as const;

  test.each(lists)('of %s audit, and what is said of them comes from the closest', (list, what) => {
    const read = (outer: string, section: string, own: string) =>
      rules(`  action: Block\n${outer}  syscalls: {${section}${list}: [{${what}${own}}]}`)[0];
    const global = '  severity: 2\n  message: global\n';
    expect(read(global, '', '')).toMatchObject({ action: 'Audit', severity: 2, message: 'global' });
    expect(read('', '', ', severity: 7, message: local')).toMatchObject({ severity: 7, message: 'local' });
    expect(read(global, 'severity: 3, ', ', severity: 7, message: local')).toMatchObject({
      action: 'Audit',
      severity: 7,
      message: 'local',
    });
    expect(read(global, '', ', severity: 7')).toMatchObject({ severity: 7, message: 'global' });
  });

  test('on a path are those that a path can be told of; a source that cannot be used takes the rule along', () => {
    const found = rules(`
  syscalls:
    matchPaths:
    - {path: /a/, recursive: true, syscall: [unlink, getpid]}
    - {path: /a, syscall: [getpid]}
    matchSyscalls:
    - {syscall: [unlink], fromSource: [{dir: /b/, recursive: true}, {path: /c}]}
    - {syscall: [unlink], fromSource: [{}]}
`);
    expect(found).toMatchObject([
      {
        id: 'syscalls.matchSyscalls[0]',
        sources: [
          { kind: 'directory', dir: '/b/', recursive: true },
          { kind: 'path', path: '/c' },
        ],
      },
      {
        id: 'syscalls.matchPaths[0]',
        syscalls: ['unlink'],
        match: { kind: 'directory', dir: '/a/', recursive: true },
      },
    ]);
    expect(found).toHaveLength(2);
  });
});

test('presets take Audit and Block, of their own or inherited', () => {
  const found = rules(
    '  action: Audit\n  presets: [{name: filelessExec, action: Block}, {name: protectEnv}]',
  );
  expect(found).toMatchObject([
    { class: 'preset', preset: 'filelessExec', action: 'Block', id: 'presets[0]' },
    { class: 'preset', preset: 'protectEnv', action: 'Audit' },
  ]);
});

describe('selectors', () => {
  test.each([
    ['"[a, b]"', ['a', 'b']],
    ['"[ ,a,, b ,]"', ['a', 'b']],
    ['"[]"', []],
    ['""', []],
    ['', []],
    ['nginx', ['nginx']],
    [`"['a', b]"`, ['a', 'b']],
  ])('the container label %s', (written, containers) => {
    const text = `  selector: {matchLabels: {app: web, kubearmor.io/container.name: ${written}}}\n  action: Block`;
    const { selector } = read(spec(text, 'KubeArmorPolicy', 'security.kubearmor.com/v1'));
    expect(selector.containers).toEqual(containers);
    expect([...selector.labels]).toEqual([['app', 'web']]);
  });

  test('expressions of both kinds', () => {
    const { selector } = read(
      spec(`
  selector:
    matchExpressions:
    - {key: label, operator: NotIn, values: [container=ubuntu-3]}
    - {key: tier, operator: Exists}
    - {key: app, operator: In, values: [a, b]}
`),
    );
    expect(selector.expressions).toEqual([
      { key: 'label', operator: 'NotIn', values: ['container=ubuntu-3'] },
      { key: 'tier', operator: 'Exists' },
      { key: 'app', operator: 'In', values: ['a', 'b'] },
    ]);
  });

  test('namespaces of a cluster kind', () => {
    const text = '  selector: {matchExpressions: [{key: namespace, operator: NotIn, values: [a]}]}';
    const policy = read(spec(text, 'KubeArmorClusterPolicy', 'security.kubearmor.com/v1'));
    expect(policy).toMatchObject({ scope: 'cluster', namespace: '' });
    expect(policy.selector.namespaces).toEqual([{ operator: 'NotIn', values: ['a'] }]);
  });

  test('a namespaced policy without a namespace is in "default"', () => {
    expect(read(spec('  selector: {}').replace(', namespace: shop', '')).namespace).toBe('default');
  });
});

test('merge keys, anchors and aliases mean what they stand for', () => {
  const found = rules(`
  file:
    matchPaths:
    - &one {path: /a, readOnly: true, severity: 4}
    - {<<: *one, path: /b}
    - *one
`) as NameRule[];
  expect(found.map(({ match, readOnly }) => [match.kind === 'path' && match.path, readOnly])).toEqual([
    ['/a', true],
    ['/b', true],
    ['/a', true],
  ]);
});

test('a Kubernetes list holds policies, and metadata written by the API server is passed over', () => {
  const { policies, diagnostics } = readPolicies(
    `apiVersion: v1
kind: List
items:
- apiVersion: security.belay.dev/v1
  kind: WorkloadPolicy
  metadata: {name: a, uid: x, creationTimestamp: null, labels: {a: b}}
  spec: {selector: {}, file: {matchPaths: [{path: /a}]}}
  status: {}
- apiVersion: security.belay.dev/v1
  kind: WorkloadPolicy
  metadata: {name: b}
  spec: {selector: {}, file: {matchPaths: [{path: a}]}}
`,
    'p.yaml',
  );
  expect(policies.map(({ name }) => name)).toEqual(['a']);
  expect(diagnostics.filter(({ severity }) => severity === 'error').map(({ at }) => at.line)).toEqual([12]);
});

describe('bytes', () => {
  const decode = (bytes: Uint8Array) => decodePolicyFile(bytes, 'p.yaml');

  test('a byte that is not UTF-8 is shown with its place', () => {
    const bytes = Buffer.concat([Buffer.from('é: 1\nöb: '), Buffer.from([0xff]), Buffer.from('\n')]);
    expect(decode(bytes)).toMatchObject({ fault: { at: { line: 2, column: 5 }, severity: 'error' } });
    expect(decode(Buffer.from([0x61, 0xe2, 0x82]))).toMatchObject({ fault: { at: { line: 1, column: 2 } } });
  });

  test('more than 1 MiB is refused, and exactly that much is read', () => {
    expect(decode(new Uint8Array(MAX_FILE_BYTES + 1))).toHaveProperty('fault');
    expect(decode(new Uint8Array(MAX_FILE_BYTES).fill(0x20))).toHaveProperty('text');
  });

  test('a byte order mark is no part of the text', () => {
    expect(decode(Buffer.from('\ufeffa: 1'))).toEqual({ text: 'a: 1' });
  });

  test('the first byte that is wrong is found wherever it stands', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (before, after) => {
        const head = Buffer.from(before.replaceAll('\n', ''));
        const found = decode(Buffer.concat([head, Buffer.from([0xff]), Buffer.from(after)]));
        const column = new TextDecoder().decode(head).length + 1;
        expect(found).toMatchObject({ fault: { at: { line: 1, column } } });
      }),
    );
  });
});

describe('no text makes reading throw', () => {
  const sane = (text: string) => {
    const { policies, diagnostics } = readPolicies(text, 'p.yaml');
    for (const { at, message } of diagnostics) {
      expect(at.line).toBeGreaterThan(0);
      expect(at.column).toBeGreaterThan(0);
      expect(at.line).toBeLessThanOrEqual(text.split('\n').length);
      expect(message).not.toContain('\n');
    }
    if (policies.length === 0) expect(diagnostics).not.toEqual([]);
  };

  test('arbitrary text', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 200 }), sane), { numRuns: 300 });
  });

  const policy =
    spec(`  selector: {matchLabels: {app: web}, matchExpressions: [{key: label, operator: In, values: [a=b]}]}
  containers: ["a*"]
  severity: 3
  process: &p
    matchPaths: [{path: /a, fromSource: [{dir: /b/, recursive: true}]}, {execname: b, allowedArgs: [x]}]
    matchPatterns: [{pattern: "/*/a"}]
  network:
    matchProtocols: [{protocol: tcp}]
    egress: [{to: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}, {fqdn: a.b}], ports: [{port: 1, endPort: 2}]}]
  capabilities: {matchCapabilities: [{capability: kill}]}
  syscalls: {matchPaths: [{path: /a/, syscall: [unlink]}]}
  presets: [{name: exec}]
`);
  const pieces = [
    '\n',
    '  ',
    '- ',
    ': ',
    '{',
    '}',
    '[',
    ']',
    '"',
    '*p',
    '&p ',
    '<<: ',
    '/',
    'null',
    '5',
    '---\n',
    '\t',
    '#',
    '|',
    '!!str ',
    '\0',
    'é',
  ];

  test('a policy with pieces cut out and put in', () => {
    const edit = fc.tuple(fc.nat(policy.length), fc.nat(12), fc.constantFrom(...pieces, ''));
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 6 }), (edits) => {
        let text = policy;
        for (const [at, length, piece] of edits) text = text.slice(0, at) + piece + text.slice(at + length);
        sane(text);
      }),
      { numRuns: 500 },
    );
  });

  test('any JSON in the place of any field', () => {
    const fields = [
      'metadata',
      'spec',
      'selector',
      'process',
      'network',
      'matchPaths',
      'egress',
      'presets',
      'to',
    ];
    fc.assert(
      fc.property(fc.constantFrom(...fields), fc.json(), (field, json) => {
        sane(policy.replace(new RegExp(`${field}: [^\\n]*`), `${field}: ${json}`));
      }),
      { numRuns: 300 },
    );
  });
});
