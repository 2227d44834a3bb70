import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  Belay,
  brief,
  cgroup,
  containerName,
  inCgroup,
  inContainer,
  makeCgroup,
  policy,
  removeCgroup,
  type Shell,
  workload,
} from './harness.js';

const DENIED = /Permission denied|not permitted|cannot be preloaded|failed to map segment/;
const drift = (action: string) => policy('drift', `severity: 9\nprocess: {drift: ${action}}`);

const { name, cgroup: path } = containerName();
const places = new Map<string, Shell>();
let belay: Belay;

/** What the shell runs it with is of the image, so that only the object decides. */
const run = (where: string, script: string) => places.get(where)?.run(script) ?? '';

beforeAll(async () => {
  belay = await Belay.start({
    workloads: [workload('container', path), workload('cgroup', cgroup('drift'))],
  });
  places.set('container', await inContainer(name));
  places.set('cgroup', inCgroup(makeCgroup(cgroup('drift'))));
  for (const where of places.keys()) {
    // as the image has them, and not: new, changed, on another file system
    const made = await run(
      where,
      `mkdir -p /usr/local/bin /usr/local/lib /mnt; cp /bin/true /usr/local/bin/new; printf '#!/bin/sh\\necho ran\\n' > /usr/local/bin/script
      chmod +x /usr/local/bin/script; busybox mount -t tmpfs none /mnt; cp /bin/true /mnt/elsewhere; cp $(ls /lib/*/libc.so.6) /usr/local/lib/copy.so
      chmod 0700 /usr/bin/uname`,
    );
    expect(made).toBe('');
  }
});

afterAll(async () => {
  for (const shell of places.values()) await shell.close();
  execFileSync('umount', ['/mnt']);
  await removeCgroup(cgroup('drift'));
  expect(await belay.stop()).toBe(0);
});

it('what the overlay’s type says of where the upper layer is, is what is assumed without it', () => {
  const dump = (...args: string[]) =>
    execFileSync('bpftool', ['btf', 'dump', ...args], { encoding: 'utf8', maxBuffer: 512 << 20 });
  const inode = dump('file', '/sys/kernel/btf/vmlinux').match(/STRUCT 'inode' size=(\d+)/)?.[1];
  const overlay = dump('file', '/sys/kernel/btf/overlay', '-B', '/sys/kernel/btf/vmlinux');
  const members = overlay.slice(overlay.indexOf("STRUCT 'ovl_inode'"));
  const at = (member: string) =>
    Number(members.match(new RegExp(`'${member}' type_id=\\d+ bits_offset=(\\d+)`))?.[1]) / 8;
  expect(at('__upperdentry') - at('vfs_inode')).toBe(Number(inode));
});

describe.each(['container', 'cgroup'])('in a %s', (where) => {
  const denials = [
    ['a program that was copied', '/usr/local/bin/new', '/usr/local/bin/new', 'exec'],
    ['a program whose mode was changed', '/usr/bin/uname', '/usr/bin/uname', 'exec'],
    ['a program on a tmpfs', '/mnt/elsewhere', '/mnt/elsewhere', 'exec'],
    ['a script', '/usr/local/bin/script', '/usr/local/bin/script', 'exec'],
    [
      'a program by way of ld.so',
      '/lib64/ld-linux-x86-64.so.2 /usr/local/bin/new',
      '/usr/local/bin/new',
      'map',
    ],
    ['a library', 'LD_PRELOAD=/usr/local/lib/copy.so /bin/true', '/usr/local/lib/copy.so', 'map'],
  ] as const;

  it.each(denials)('%s that is not of the image does not run', async (_, script, object, operation) => {
    await belay.enforce(drift('Block'));
    const from = belay.records().length;
    expect(await run(where, script)).toMatch(DENIED);
    const alert = await belay.alert((a) => a.pod === where && a.object.path === object, from);
    expect(brief(alert)).toMatchObject({
      class: 'Process',
      operation,
      policy: 'drift',
      rule: 'process.drift',
      action: 'Block',
      verdict: 'Denied',
    });
    expect(alert.severity).toBe(9);
  });

  it('programs and libraries of the image run', async () => {
    await belay.enforce(drift('Block'));
    const from = belay.records().length;
    expect(await run(where, '/bin/true && /bin/sh -c "cat /etc/passwd > /dev/null; echo well"')).toBe('well');
    expect(belay.alerts((a) => a.pod === where, from).map(brief)).toEqual([]);
  });

  it('in Audit all of it runs, and is told', async () => {
    await belay.enforce(drift('Audit'));
    const from = belay.records().length;
    expect(await run(where, '/usr/local/bin/script')).toBe('ran');
    const alert = await belay.alert((a) => a.pod === where && a.rule === 'process.drift', from);
    expect(brief(alert)).toMatchObject({ action: 'Audit', verdict: 'Passed' });
  });
});

it('a container is entered by what is of its image, and by nothing else', async () => {
  await belay.enforce(drift('Block'));
  const enter = (program: string) => {
    try {
      return execFileSync(
        'ctr',
        ['task', 'exec', '--exec-id', `e${Math.random()}`.slice(0, 12), name, program],
        {
          encoding: 'utf8',
          stdio: 'pipe',
        },
      );
    } catch (error) {
      return String(error);
    }
  };
  expect(enter('/bin/true')).toBe('');
  expect(enter('/usr/local/bin/new')).toMatch(/permission denied/i);
});
