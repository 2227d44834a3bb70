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
  T,
  workload,
} from './harness.js';

const ACTOR = `${T}/act`;
const FREE = `${T}/free`;

/** [the rule's word, what is done, what the event says of it]. Done in this order, by root in a bare cgroup. */
const WAYS: readonly (readonly [string, readonly string[], object])[] = [
  ['mount', ['mount', `${T}/m`], { path: `${T}/m` }],
  ['mount', ['mount-anew', `${T}/m`], { name: 'tmpfs' }],
  ['mount', ['attach', `${T}/there`, `${T}/m`], { path: `${T}/m` }],
  ['mount', ['remount', `${T}/there`], { path: `${T}/there` }],
  ['umount', ['umount', `${T}/gone`], { path: `${T}/gone` }],
  ['pivot_root', ['pivot_root', `${T}/there`], { path: `${T}/there` }],
  ['chroot', ['chroot', T], { path: T }],
  ['ptrace', ['ptrace'], { path: ACTOR }],
  ['ptrace', ['traceme'], { path: ACTOR }],
  ['user_namespace', ['user_namespace'], {}],
  ['bpf', ['bpf'], { command: 0 }],
  ['perf_event', ['perf_event'], {}],
  ['kernel_module', ['init_module'], {}],
  ['kernel_module', ['finit_module', ACTOR], { path: ACTOR }],
  ['kexec', ['kexec', ACTOR], { path: ACTOR }],
  ['kernel_interface', ['write', '/proc/sys/kernel/core_pattern'], { path: '/proc/sys/kernel/core_pattern' }],
  ['kernel_interface', ['write', `${T}/proc/sys/kernel/modprobe`], { path: '/proc/sys/kernel/modprobe' }],
  ['device_node', ['mkblk', `${T}/b`], { path: `${T}/b` }],
  ['device_node', ['mkchr', `${T}/c`], { path: `${T}/c` }],
  ['device_node', ['read', `${T}/disk`], { path: `${T}/disk` }],
];
const WORDS = [...new Set(WAYS.map(([word]) => word))];
const named = WAYS.map(([word, act, object]) => [act[0], word, act, object] as const);
const only = (words: readonly string[], action = 'Block') =>
  policy(
    'escape',
    `severity: 8\nescape:\n  action: ${action}\n  matchOperations:\n${words.map((word) => `  - {operation: ${word}}`).join('\n')}`,
  );

let belay: Belay;
let shell: Shell;
let container: Shell;
const { name, cgroup: path } = containerName();
const later = containerName();

beforeAll(async () => {
  belay = await Belay.start({
    workloads: [
      workload('container', path),
      workload('later', later.cgroup),
      workload('cgroup', cgroup('escape')),
    ],
  });
  container = await inContainer(name);
  shell = inCgroup(makeCgroup(cgroup('escape')));
  const said = await shell.run(`rm -rf ${T}; mkdir -p ${T}/m ${T}/there ${T}/gone ${T}/proc
    cp ${shell.act} ${ACTOR}; cp ${ACTOR} ${FREE}
    mount -t tmpfs none ${T}/there; mount -t tmpfs none ${T}/gone; mount -t proc none ${T}/proc
    mknod ${T}/disk b 7 99; mkdir -p /tmp/mounter`);
  expect(said).toBe('');
  shell.act = ACTOR;
});

afterAll(async () => {
  await shell.close();
  await container.close();
  // whoever clears that folder next must not clear what is mounted there
  execFileSync('sh', ['-c', `awk '$2 ~ "^${T}/" {print $2}' /proc/mounts | tac | xargs -r umount -l`]);
  await removeCgroup(cgroup('escape'));
  expect(await belay.stop()).toBe(0);
});

describe('root in a bare cgroup', () => {
  it.each(named)('%s is denied where a rule says so, and told', async (_, word, act, object) => {
    await belay.enforce(only([word]));
    const from = belay.records().length;
    expect(await shell.do(...act)).toBe('EACCES');
    const alert = await belay.alert((a) => a.class === 'Escape', from);
    expect(brief(alert)).toMatchObject({
      program: ACTOR,
      operation: word.replaceAll('_', '-'),
      policy: 'escape',
      rule: 'escape.matchOperations[0]',
      action: 'Block',
      verdict: 'Denied',
    });
    expect(alert.object).toEqual(object);
  });

  it('a module that the kernel would load by itself is not asked for', async () => {
    await belay.enforce(only(WORDS));
    const from = belay.records().length;
    await shell.run('busybox ip link add belay0 type none 2>&1 || true');
    expect(await belay.alert((a) => a.operation === 'kernel-module', from)).toMatchObject({
      object: { name: expect.stringContaining('rtnl-link-none') },
    });
  });

  // there is a mount before a pivot_root
  it.each(named)('%s passes where rules are about something else', async (_, word, act) => {
    await belay.enforce(
      only(WORDS.filter((each) => each !== word && !(word === 'pivot_root' && each === 'mount'))),
    );
    const from = belay.records().length;
    // there is no such disk
    expect(await shell.do(...act)).toBe(act[0] === 'read' ? 'ENXIO' : 'ok');
    expect(belay.alerts((a) => a.operation === word.replaceAll('_', '-'), from)).toEqual([]);
  });

  it('an Audit rule reports and lets pass', async () => {
    await belay.enforce(only(['chroot'], 'Audit'));
    expect(await shell.do('chroot', T)).toBe('ok');
    const alert = await belay.alert((a) => a.operation === 'chroot' && a.action === 'Audit');
    expect(alert).toMatchObject({ verdict: 'Passed', severity: 8 });
  });

  it('an Allow rule is an exception for a program, and forbids nothing to others', async () => {
    const allow = `{operation: chroot, action: Allow, fromSource: [{path: ${FREE}}]}`;
    await belay.enforce(
      policy('escape', `escape: {matchOperations: [${allow}]}\npresets: [{name: hardened, action: Block}]`),
    );
    expect(await shell.do('chroot', T)).toBe('EACCES');
    expect(await shell.doAs(FREE, 'chroot', T)).toBe('ok');
    await belay.enforce(policy('escape', `escape: {matchOperations: [${allow}]}`));
    expect(await shell.do('chroot', T)).toBe('ok');
  });
});

describe('in a container that may mount', () => {
  const IN = '/tmp/e';

  beforeAll(async () => {
    await belay.enforce(policy('escape', 'file: {matchPaths: [{path: /none}]}'));
    // a proc of its own, since the runtime's is read-only
    expect(
      await container.run(`mkdir -p ${IN}/m ${IN}/proc; ${container.act} mount-type proc ${IN}/proc`),
    ).toBe('ok');
    await belay.enforce(policy('escape', 'presets: [{name: hardened, action: Block}]'));
  });

  it.each([
    ['mount', ['mount', `${IN}/m`]],
    ['mount', ['mount-anew', `${IN}/m`]],
    ['user-namespace', ['user_namespace']],
    ['chroot', ['chroot', IN]],
    ['ptrace', ['ptrace']],
    ['device-node', ['mkblk', `${IN}/b`]],
    ['kernel-interface', ['write', `${IN}/proc/sys/kernel/core_pattern`]],
  ])('the preset hardened denies %s', async (operation, act) => {
    const from = belay.records().length;
    expect(await container.do(...act)).toBe('EACCES');
    const alert = await belay.alert((a) => a.class === 'Escape', from);
    expect(brief(alert)).toMatchObject({
      pod: 'container',
      operation,
      rule: 'presets[0]',
      action: 'Block',
      verdict: 'Denied',
    });
  });

  it('the preset hardened in Audit lets all of that pass, and reports it', async () => {
    await belay.enforce(policy('escape', 'presets: [{name: hardened, action: Audit}]'));
    expect(await container.do('mount', `${IN}/m`)).toBe('ok');
    const alert = await belay.alert((a) => a.operation === 'mount' && a.verdict === 'Passed');
    expect(alert).toMatchObject({ pod: 'container', action: 'Audit', object: { path: `${IN}/m` } });
  });

  it('starting, and joining, a container is not held against it', async () => {
    await belay.enforce(policy('escape', 'presets: [{name: hardened, action: Block}]'));
    const from = belay.records().length;
    const other = await inContainer(later.name);
    expect(await other.run('echo well')).toBe('well');
    await other.close();
    expect(belay.alerts((a) => a.class === 'Escape', from).map(brief)).toEqual([]);
  });
});
