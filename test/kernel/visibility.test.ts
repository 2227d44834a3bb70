import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AlertRecord, BelayRecord, ExecRecord, GapRecord, LogRecord } from '../../agent/event/record.js';
import { EventStream } from '../../agent/event/stream.js';
import { Enforcer } from '../../agent/kernel/enforcer.js';
import { Kernel } from '../../agent/kernel/kernel.js';
import { readPolicies } from '../../agent/policy/read.js';
import { NodeWorkloads, type PodFacts } from '../../agent/workload/kubernetes.js';
import { visibilityOf } from '../../agent/workload/visibility.js';
import { ACT, cgroup, eventually, quote, removeCgroup, Shell, T } from './harness.js';

/*
 * What is told of workloads although no rule asks for it. Pods and namespaces are told by hand; test/cluster has real ones.
 */

const POSTURES = { file: 'audit', network: 'audit', capabilities: 'audit' } as const;
const NAMESPACES = {
  seen: { 'kubearmor-visibility': 'process,file,network,capabilities' },
  network: { 'belay-visibility': 'network', 'kubearmor-visibility': 'process,file' },
  dark: { 'kubearmor-visibility': 'none' },
  plain: {},
} as const;
type Namespace = keyof typeof NAMESPACES;

let kernel: Kernel;
let enforcer: Enforcer;
let events: EventStream;
const workloads = new NodeWorkloads({ postures: POSTURES, unknown: 'audit', host: true });
const records: BelayRecord[] = [];
const pods: PodFacts[] = [];
const shells = new Map<string, Shell>();
const cgroups = new Map<string, string>();

/** In order, so that the pod's name says its cgroup. */
const uidOf = (n: number) => `12345678-9abc-def0-1234-${n.toString(16).padStart(12, '0')}`;

function makeCgroups(path: string): string {
  let at = '/sys/fs/cgroup';
  for (const name of path.split('/')) {
    at = join(at, name);
    if (!existsSync(at)) mkdirSync(at);
  }
  return at;
}

function tell(): void {
  const namespaces = new Map(
    Object.entries(NAMESPACES).map(([name, annotations]) => [
      name,
      { annotations: new Map(Object.entries(annotations)) },
    ]),
  );
  const node = { name: 'node-1', labels: new Map() };
  expect(enforcer.setWorkloads(workloads.of({ node, pods, namespaces, containers: [] }))).toEqual([]);
}

/** A shell that is a pod. */
function makePod(
  name: string,
  namespace: Namespace,
  annotations: Readonly<Record<string, string>> = {},
): void {
  const uid = uidOf(pods.length + 1);
  pods.push({
    ...{ uid, namespace, name, labels: new Map([['app', name]]) },
    annotations: new Map(Object.entries(annotations)),
    containers: [{ name: 'main', image: 'busybox' }],
  });
  tell();
  const path = makeCgroups(`kubepods/pod${uid}/${uid.replaceAll('-', '').padEnd(64, '0')}`);
  cgroups.set(name, path);
  shells.set(name, new Shell('/bin/sh', ['-c', `echo $$ > ${path}/cgroup.procs; exec /bin/sh`]));
}

const shell = (name: string): Shell => {
  const found = shells.get(name);
  if (found === undefined) throw new Error(`no pod ${name}`);
  return found;
};

type Seen = LogRecord | ExecRecord;
const seenOf = (pod: string, from = 0): Seen[] =>
  records.slice(from).filter((r): r is Seen => (r.type === 'log' || r.type === 'exec') && r.pod === pod);
const logsOf = (pod: string, from = 0) => seenOf(pod, from).filter((r): r is LogRecord => r.type === 'log');

/** The first log that is wanted. */
function log(pod: string, wanted: (log: LogRecord) => boolean, from = 0): Promise<LogRecord> {
  return eventually('the log', () => logsOf(pod, from).find(wanted), 20_000).catch((error) => {
    const seen = seenOf(pod, from).slice(-20);
    const told = seen.map((r) =>
      JSON.stringify(r.type === 'log' ? [r.operation, r.object] : r.process?.arguments),
    );
    throw new Error(`${error.message}; the last ones were:\n${told.join('\n')}`);
  });
}

/** Everything that a pod did until now has been told: a mark that all see has come. */
async function told(pod: string): Promise<void> {
  const from = records.length;
  await shell('witness').run('/bin/true settled');
  await eventually('the mark', () =>
    seenOf('witness', from).find((r) => r.type === 'exec' && r.process?.arguments.includes('settled')),
  );
  expect(pod).not.toBe('');
}

beforeAll(() => {
  rmSync(T, { recursive: true, force: true });
  mkdirSync(T, { recursive: true });
  for (const name of ['a', 'watched', 'free']) writeFileSync(join(T, name), '');
  copyFileSync(ACT, join(T, 'suid'));
  execFileSync('chmod', ['4755', join(T, 'suid')]);
  kernel = new Kernel();
  enforcer = new Enforcer(kernel, POSTURES);
  events = new EventStream(
    kernel,
    enforcer,
    { node: 'node-1', cluster: 'default' },
    {
      write: (record) => records.push(record),
      keep: () => {},
      cgroupMade: (path) => enforcer.cgroupMade(path),
    },
  );
  const { policies, diagnostics } = readPolicies(
    `{apiVersion: security.belay.dev/v1, kind: ClusterWorkloadPolicy, metadata: {name: audit}, spec: {
      selector: {matchLabels: {app: judged}}, action: Audit, file: {matchPaths: [{path: ${T}/watched}]},
      network: {matchProtocols: [{protocol: udp}]}}}`,
    'test',
  );
  expect(diagnostics.filter((d) => d.severity === 'error')).toEqual([]);
  expect(enforcer.setPolicies(policies)).toEqual([]);
  tell();
  makePod('witness', 'seen', { 'belay-visibility': 'process' });
  makePod('all', 'seen');
  makePod('judged', 'seen');
  makePod('network', 'network');
  makePod('file', 'network', { 'kubearmor-visibility': 'file' });
  makePod('dark', 'dark');
  makePod('plain', 'plain');
  void events.start();
});

afterAll(async () => {
  for (const each of shells.values()) await each.close();
  events.close();
  kernel.close();
  await removeCgroup(cgroup('kubepods'));
});

describe('a workload whose processes are visible', () => {
  it('is told of when a process is made and when it ends, and how', async () => {
    const from = records.length;
    await shell('all').run(`(exit 7); ${ACT} read ${T}/a; /bin/sh -c 'kill -9 $$'`);
    const ended = await log('all', (l) => l.operation === 'exit' && l.object.exitCode === 7, from);
    expect(ended).toMatchObject({ class: 'Process', namespace: 'seen', count: '1' });
    const made = await log('all', (l) => l.operation === 'fork' && l.object.pid === ended.process?.pid, from);
    expect(made.process?.pid).toBe(ended.process?.parent.pid);
    expect(made.object.pidInside).toBe(made.object.pid);
    await log(
      'all',
      (l) => l.operation === 'exit' && l.process?.program === ACT && l.object.exitCode === 0,
      from,
    );
    await log('all', (l) => l.operation === 'exit' && l.object.exitSignal === 9, from);
    const started = seenOf('all', from).filter((r) => r.type === 'exec' && r.process?.program === ACT);
    expect(started).toHaveLength(1);
  });

  it('is told of once for a process of many threads', async () => {
    const from = records.length;
    const program = 'use threads; threads->create(sub {1})->join for 1 .. 5; exit 9';
    await shell('all').run(`perl -e ${quote(program)}`);
    await log('all', (l) => l.operation === 'exit' && l.object.exitCode === 9, from);
    const of = (operation: string) =>
      logsOf('all', from).filter((l) => l.operation === operation && l.process?.comm === 'perl');
    expect(of('exit')).toHaveLength(1);
    expect(of('fork')).toHaveLength(0);
  });

  it('has the arguments of programs told as they start, cut where they are long', async () => {
    const from = records.length;
    await shell('all').run(`/bin/echo one '' three; /bin/echo ${'x'.repeat(600)}`);
    const echoes = () =>
      seenOf('all', from).filter((r) => r.type === 'exec' && r.process?.arguments[0] === '/bin/echo');
    await eventually('both', () => (echoes().length === 2 ? true : undefined));
    expect(echoes()[0].process?.arguments).toEqual(['/bin/echo', 'one', '', 'three']);
    expect(echoes()[0].process?.argumentsCut).toBeUndefined();
    expect(echoes()[1].process).toMatchObject({
      arguments: ['/bin/echo', 'x'.repeat(501)],
      argumentsCut: true,
    });
  });

  it('is told of when credentials change, and not when they stay', async () => {
    const from = records.length;
    await shell('all').run(
      `setpriv --reuid 0 true; setpriv --regid 12 --clear-groups true; ${ACT} -u 1234 -exec ${T}/suid read ${T}/a`,
    );
    const became = await log('all', (l) => l.operation === 'setuid', from);
    expect(became.object).toMatchObject({
      before: { uid: 0, effectiveUid: 0, permitted: expect.stringMatching(/^0*1ffffffffff$/) },
      after: { uid: 1234, effectiveUid: 1234, permitted: '0'.repeat(16), effective: '0'.repeat(16) },
    });
    const group = await log('all', (l) => l.operation === 'setgid', from);
    expect(group.object).toMatchObject({ before: { gid: 0 }, after: { gid: 12 } });
    const risen = await log('all', (l) => l.operation === 'exec-credentials', from);
    expect(risen.object).toMatchObject({
      before: { uid: 1234, effectiveUid: 1234 },
      after: { uid: 1234, effectiveUid: 0, effective: expect.stringMatching(/^0*1ffffffffff$/) },
    });
    await shell('all').run('/usr/sbin/capsh --caps=cap_chown=ep -- -c true');
    const less = await log(
      'all',
      (l) => l.operation === 'capset' && l.object.after?.permitted === `${'0'.repeat(15)}1`,
      from,
    );
    expect(less.object.before?.permitted).toMatch(/^0*1ffffffffff$/);
    expect(logsOf('all', from).filter((l) => l.operation === 'setuid')).toHaveLength(1);
  });
});

describe('a workload whose files are visible', () => {
  it.each([
    ['read', 'open', [`${T}/a`], 'read'],
    ['write', 'open', [`${T}/a`], 'write'],
    ['create', 'create', [`${T}/new`], 'write'],
    ['chmod', 'chmod', [`${T}/new`], 'write'],
    ['chown', 'chown', [`${T}/new`], 'write'],
    ['truncate', 'truncate', [`${T}/new`], 'write'],
    ['link', 'link', [`${T}/new`, `${T}/other`], 'write'],
    ['rename', 'rename', [`${T}/new`, `${T}/newer`], 'write'],
    ['unlink', 'unlink', [`${T}/newer`], 'write'],
    ['symlink', 'symlink', [`${T}/x`, `${T}/soft`], 'write'],
    ['mkdir', 'mkdir', [`${T}/dir`], 'write'],
    ['rmdir', 'rmdir', [`${T}/dir`], 'write'],
  ] as const)('is told of: %s', async (verb, operation, names, access) => {
    const from = records.length;
    expect(await shell('file').do(verb, ...names)).toBe('ok');
    const path = verb === 'symlink' ? names[1] : names[0];
    const found = await log('file', (l) => l.operation === operation && l.object.path === path, from);
    expect(found).toMatchObject({ class: 'File', object: { access }, process: { program: ACT } });
  });

  it('has repeats told as one with their exact number', async () => {
    const from = records.length;
    expect(await shell('file').do('-n', '500', 'read', `${T}/free`)).toBe('500');
    const count = () =>
      logsOf('file', from)
        .filter((l) => l.operation === 'open' && l.object.path === `${T}/free`)
        .map((l) => Number(l.count));
    await eventually('all of them', () => (count().reduce((a, b) => a + b, 0) === 500 ? true : undefined));
    expect(count().length).toBeLessThan(50);
  });

  it('is told of as an alert where a rule reports it, and not a second time', async () => {
    const from = records.length;
    await shell('judged').run(`${ACT} read ${T}/watched; ${ACT} read ${T}/free; ${ACT} udp`);
    await log('judged', (l) => l.operation === 'open' && l.object.path === `${T}/free`, from);
    const alerts = () =>
      records.slice(from).filter((r): r is AlertRecord => r.type === 'alert' && r.pod === 'judged');
    await eventually('the alerts', () => (alerts().length === 2 ? true : undefined));
    expect(alerts().map((a) => a.operation)).toEqual(['open', 'socket']);
    await told('judged');
    const again = logsOf('judged', from).filter(
      (l) => l.object.path === `${T}/watched` || (l.operation === 'socket' && l.object.socket === 'udp'),
    );
    expect(again).toEqual([]);
  });
});

describe('a workload whose network is visible', () => {
  it('is told of what it makes, binds, reaches, sends and accepts', async () => {
    const from = records.length;
    const server = `perl -MIO::Socket::INET -e ${quote(
      'my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1", LocalPort => 4444) or die; open F, ">", "/tmp/t/up"; $s->accept',
    )}`;
    await shell('network').run(
      `${server} & while [ ! -e ${T}/up ]; do sleep 0.1; done; ${ACT} connect 127.0.0.1 4444; ${ACT} sendto 127.0.0.1 5555; wait`,
    );
    const of = (operation: string, port: number) =>
      log('network', (l) => l.operation === operation && l.object.port === port, from);
    const peer = { protocol: 'tcp', address: '127.0.0.1' };
    expect((await of('bind', 4444)).object).toMatchObject(peer);
    expect((await of('listen', 4444)).object).toMatchObject({ protocol: 'tcp', socket: 'tcp' });
    expect((await of('connect', 4444)).object).toMatchObject(peer);
    expect((await of('accept', 4444)).object).toMatchObject(peer);
    expect((await of('send', 5555)).object).toMatchObject({ protocol: 'udp', address: '127.0.0.1' });
    await log('network', (l) => l.operation === 'socket' && l.object.socket === 'udp', from);
    expect(new Set(seenOf('network', from).map((r) => (r.type === 'log' ? r.class : r.type)))).toEqual(
      new Set(['Network']),
    );
  });
});

describe('a workload whose capabilities are visible', () => {
  it('is told of those that it uses', async () => {
    const from = records.length;
    expect(await shell('all').do('hostname')).toBe('ok');
    const used = await log('all', (l) => l.object.capability === 'sys_admin', from);
    expect(used).toMatchObject({ class: 'Capabilities', operation: 'capable', process: { program: ACT } });
  });
});

describe('visibility', () => {
  const acts = `${ACT} read ${T}/a; ${ACT} udp; (exit 3)`;

  it('is none where the namespace says so, and the agent’s where it says nothing', async () => {
    const from = records.length;
    await shell('dark').run(acts);
    await shell('plain').run(acts);
    await told('dark');
    expect(seenOf('dark')).toEqual([]);
    expect(seenOf('plain')).toEqual([]);
    expect(enforcer.setVisibility(visibilityOf('file'))).toEqual([]);
    await shell('dark').run(acts);
    await shell('plain').run(acts);
    await log('plain', (l) => l.object.path === `${T}/a`, from);
    await told('plain');
    expect(seenOf('plain', from).every((r) => r.type === 'log' && r.class === 'File')).toBe(true);
    expect(seenOf('dark')).toEqual([]);
    expect(enforcer.setVisibility(0)).toEqual([]);
    const after = records.length;
    await shell('plain').run(acts);
    await told('plain');
    expect(seenOf('plain', after)).toEqual([]);
  });

  it('of one workload leaves room for the others’, and what is left out is counted', async () => {
    const from = records.length;
    const many = 8_000;
    mkdirSync(`${T}/d`);
    // nobody reads the rings while this process waits for them
    const run = (pod: string, ...program: readonly string[]) =>
      execFileSync('/bin/sh', [
        '-c',
        'echo $$ > "$0"/cgroup.procs; exec "$@"',
        cgroups.get(pod) ?? '',
        ...program,
      ]);
    run('file', 'perl', '-e', `mkdir "${T}/d/$_" for 1 .. ${many}`);
    run('witness', '/bin/true', 'unheard');
    await eventually('the other workload’s', () =>
      seenOf('witness', from).find((r) => r.type === 'exec' && r.process?.arguments.includes('unheard')),
    );
    const made = () => logsOf('file', from).filter((l) => l.object.path?.startsWith(`${T}/d/`)).length;
    const gaps = () =>
      records
        .slice(from)
        .filter((r): r is GapRecord => r.type === 'gap' && r.pod === 'file')
        .reduce((sum, gap) => sum + Number(gap.lost), 0);
    await eventually('the rest is counted', () => (made() + gaps() >= many ? true : undefined));
    const rings = records.slice(from).filter((r): r is GapRecord => r.type === 'gap');
    expect(new Set(rings.map((gap) => gap.ring))).toEqual(new Set(['budget']));
    expect(rings.every((gap) => gap.pod === 'file')).toBe(true);
    expect(made()).toBeLessThan(many);
    expect(made() + gaps()).toBeLessThan(many + 50);
  });
});
