import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { AlertRecord, BelayRecord } from '../../agent/event/record.js';
import { EventStream } from '../../agent/event/stream.js';
import { structs } from '../../agent/kernel/abi.js';
import { Enforcer } from '../../agent/kernel/enforcer.js';
import { Kernel } from '../../agent/kernel/kernel.js';
import type { Posture, Postures } from '../../agent/policy/model.js';
import { readPolicies } from '../../agent/policy/read.js';
import { type ContainerFacts, NodeWorkloads, type PodFacts } from '../../agent/workload/kubernetes.js';
import { ACT, cgroup, eventually, removeCgroup, Shell, T } from './harness.js';

/*
 * Pods by the names of their cgroups, as kubelet and the runtimes give them. What a cluster has is told by hand here;
 * test/cluster has a real one.
 */

const SECRET = `${T}/secret`;
const FREE = `${T}/free`;
const POSTURES = { file: 'audit', network: 'audit', capabilities: 'audit' } as const;

let kernel: Kernel;
let enforcer: Enforcer;
let events: EventStream;
const records: BelayRecord[] = [];
const made: string[] = [];
const pods = new Map<string, PodFacts>();
const containers = new Map<string, ContainerFacts>();
let unknown: Posture = 'audit';
let number = 0;

const execute = promisify(execFile);
const hex = (n: number) => n.toString(16).padStart(12, '0');
/** A uid, and a container's id, that no test before has had. */
const newUid = () => `12345678-9abc-def0-1234-${hex(++number)}`;
const newId = () => `${'ab'.repeat(26)}${hex(++number)}`;

function pod(uid: string, names: readonly string[] = ['main'], labels = { app: 'web' }): PodFacts {
  return {
    uid,
    namespace: 'shop',
    name: `web-${uid.slice(-4)}`,
    labels: new Map(Object.entries(labels)),
    annotations: new Map(),
    containers: names.map((name) => ({ name, image: 'busybox' })),
  };
}

function tell(postures: Postures = POSTURES): void {
  const cluster = {
    node: { name: 'node-1', labels: new Map([['role', 'worker']]) },
    pods: pods.values(),
    namespaces: new Map(),
    containers: containers.values(),
  };
  expect(enforcer.setWorkloads(new NodeWorkloads({ postures, unknown, host: true }).of(cluster))).toEqual([]);
}

function enforce(...texts: readonly string[]): void {
  const read = readPolicies(texts.join('\n---\n'), 'test');
  expect(read.diagnostics.filter((d) => d.severity === 'error')).toEqual([]);
  expect(enforcer.setPolicies(read.policies)).toEqual([]);
}

const policy = (
  name: string,
  spec: string,
  kind = 'WorkloadPolicy',
  selector = 'selector: {matchLabels: {app: web}}, ',
) =>
  `{apiVersion: security.belay.dev/v1, kind: ${kind}, metadata: {name: ${name}, namespace: shop}, spec: {${selector}${spec}}}`;
const SECRETIVE = policy('secretive', `file: {matchPaths: [{path: ${SECRET}}]}`);

function makeTree(path: string): string {
  let at = '/sys/fs/cgroup';
  for (const name of path.split('/')) {
    at = join(at, name);
    if (!existsSync(at)) mkdirSync(at);
  }
  return at;
}

const podCgroup = (uid: string) => makeTree(`kubepods/besteffort/pod${uid}`);
/** With a sandbox's cgroup before it, as containerd makes them. */
function containerCgroup(uid: string, id = newId()): string {
  const at = podCgroup(uid);
  const sandbox = join(at, newId());
  mkdirSync(sandbox);
  mkdirSync(join(at, id));
  return join(at, id);
}

/** What the first program of a cgroup does first. */
const first = (path: string, ...words: readonly string[]) =>
  execFileSync(ACT, ['-cgroup', `${path}/cgroup.procs`, '-become', ...words], { encoding: 'utf8' }).trim();

/** As the programs see it once the agent has ended. */
function withoutAgent(act: () => void): void {
  const bpftool = (...args: string[]) =>
    execFileSync('bpftool', ['-j', 'map', ...args], { encoding: 'utf8' });
  const maps: { id: number; name: string }[] = JSON.parse(bpftool('show'));
  const map = ['id', String(maps.find(({ name }) => name === 'settings')?.id)];
  const key = ['key', 'hex', '00', '00', '00', '00'];
  const bytes: string[] = JSON.parse(bpftool('lookup', ...map, ...key)).value;
  const { offset, size } = structs.settings.fields.agent;
  const write = (agent: readonly string[]) => {
    bytes.splice(offset, size, ...agent);
    bpftool('update', ...map, ...key, 'value', 'hex', ...bytes.map((byte) => byte.replace('0x', '')));
  };
  const before = bytes.slice(offset, offset + size);
  write(before.map(() => '00'));
  try {
    act();
  } finally {
    write(before);
  }
}

const running: Shell[] = [];
function shellIn(path: string): Shell {
  const shell = new Shell('/bin/sh', ['-c', `echo $$ > ${path}/cgroup.procs; exec /bin/sh`]);
  running.push(shell);
  return shell;
}

const alerts = () => records.filter((r): r is AlertRecord => r.type === 'alert');

beforeAll(() => {
  rmSync(T, { recursive: true, force: true });
  mkdirSync(T, { recursive: true });
  for (const name of ['secret', 'free', 'other']) writeFileSync(join(T, name), '');
  kernel = new Kernel();
  kernel.sandboxFirst = true;
  enforcer = new Enforcer(kernel, POSTURES);
  events = new EventStream(
    kernel,
    enforcer,
    { node: 'node-1', cluster: 'default' },
    {
      write: (record) => records.push(record),
      keep: () => {},
      cgroupMade(path) {
        made.push(path);
        enforcer.cgroupMade(path);
      },
    },
  );
  void events.start();
});

afterAll(async () => {
  events.close();
  kernel.close();
  for (const top of ['kubepods', 'kubepods.slice']) await removeCgroup(cgroup(top));
});

beforeEach(async () => {
  for (const shell of running.splice(0)) await shell.close();
  pods.clear();
  containers.clear();
  unknown = 'audit';
  enforce(SECRETIVE);
  tell();
});

describe('a pod that is known before its cgroups', () => {
  it.each([
    ['kubelet’s cgroupfs driver', (uid: string) => containerCgroup(uid)],
    [
      'the systemd driver and containerd',
      (uid: string) => {
        const slice = `kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${uid.replaceAll('-', '_')}.slice`;
        makeTree(`${slice}/cri-containerd-${newId()}.scope`);
        return makeTree(`${slice}/cri-containerd-${newId()}.scope`);
      },
    ],
    [
      'the systemd driver and CRI-O',
      (uid: string) => {
        const slice = `kubepods.slice/kubepods-pod${uid.replaceAll('-', '_')}.slice`;
        makeTree(`${slice}/crio-${newId()}.scope`);
        return makeTree(`${slice}/crio-${newId()}.scope`);
      },
    ],
  ])('is judged from its first program’s first act on: %s', (_name, make) => {
    const uid = newUid();
    pods.set(uid, pod(uid));
    tell();
    const path = make(uid);
    expect(first(path, 'read', SECRET)).toBe('EACCES');
    expect(first(path, 'read', FREE)).toBe('ok');
  });

  it('never succeeds in a first act that is forbidden: 200 pods, one after the other and many at once', async () => {
    const start = async (count: number) => {
      pods.clear();
      const uids = Array.from({ length: count }, newUid);
      for (const uid of uids) pods.set(uid, pod(uid));
      tell();
      const acts = uids.map((uid) => {
        const program = ['-cgroup', `${containerCgroup(uid)}/cgroup.procs`, '-become', 'read', SECRET];
        return execute(ACT, program, { encoding: 'utf8' });
      });
      return (await Promise.all(acts)).map(({ stdout }) => stdout.trim());
    };
    const answers: string[] = [];
    for (const burst of [...Array(50).fill(1), 10, 20, 50, 70]) answers.push(...(await start(burst)));
    expect(answers).toEqual(Array(200).fill('EACCES'));
  });

  it('is judged from then on also where the agent looks at all tasks while the runtime goes in', async () => {
    const root = join(T, 'root');
    mkdirSync(join(root, T), { recursive: true });
    execFileSync('mount', ['-t', 'tmpfs', 'root', root]);
    mkdirSync(join(root, T), { recursive: true });
    writeFileSync(join(root, SECRET), '');
    execFileSync('cp', [ACT, join(root, 'act')]);
    try {
      const uid = newUid();
      pods.set(uid, pod(uid));
      tell();
      const wait = join(T, 'go');
      const words = ['-cgroup', `${containerCgroup(uid)}/cgroup.procs`, '-runtime', root, wait];
      const entrypoint = execute(ACT, [...words, 'read', SECRET], { encoding: 'utf8' });
      await eventually('the runtime', () => existsSync(`${wait}.ready`) || undefined);
      const other = newUid();
      pods.set(other, pod(other));
      tell();
      writeFileSync(wait, '');
      expect((await entrypoint).stdout.trim()).toBe('EACCES');
    } finally {
      execFileSync('umount', ['-l', root]);
    }
  });

  it('may be a static one, whose uid is a digest', () => {
    const uid = '0123456789abcdef0123456789abcdef';
    pods.set(uid, pod(uid));
    tell();
    expect(first(containerCgroup(uid), 'read', SECRET)).toBe('EACCES');
  });

  it('is left alone if no policy selects it', () => {
    const uid = newUid();
    pods.set(uid, pod(uid, ['main'], { app: 'db' }));
    tell();
    expect(first(containerCgroup(uid), 'read', SECRET)).toBe('ok');
  });

  it('has a sandbox that is not judged, nor is CRI-O’s monitor', () => {
    const uid = newUid();
    pods.set(uid, pod(uid));
    tell();
    const at = podCgroup(uid);
    const sandbox = makeTree(`kubepods/besteffort/pod${uid}/${newId()}`);
    const monitor = makeTree(`kubepods/besteffort/pod${uid}/crio-conmon-${newId()}.scope`);
    expect(first(sandbox, 'read', SECRET)).toBe('ok');
    expect(first(monitor, 'read', SECRET)).toBe('ok');
    mkdirSync(join(at, 'odd'));
    expect(first(join(at, 'odd'), 'read', SECRET)).toBe('EACCES');
  });

  it('keeps what is below a container, whatever it is called', () => {
    const [uid, other] = [newUid(), newUid()];
    pods.set(uid, pod(uid));
    pods.set(other, pod(other, ['main'], { app: 'db' }));
    tell();
    const inside = join(containerCgroup(uid), `pod${other}`);
    mkdirSync(inside);
    expect(first(inside, 'read', SECRET)).toBe('EACCES');
    const id = newId();
    containers.set(id, { id, podUid: other, name: 'main', image: 'busybox', sandbox: false });
    tell();
    mkdirSync(join(inside, id));
    expect(first(join(inside, id), 'read', SECRET)).toBe('EACCES');
  });

  it('loses its policies with its cgroup, not with its object in the API server', async () => {
    const uid = newUid();
    pods.set(uid, pod(uid));
    tell();
    const path = containerCgroup(uid);
    const shell = shellIn(path);
    expect(await shell.do('read', SECRET)).toBe('EACCES');
    pods.clear();
    tell();
    expect(await shell.do('read', SECRET)).toBe('EACCES');
    enforcer.refresh();
    expect(await shell.do('read', SECRET)).toBe('EACCES');
  });

  it('is judged by its labels as they are now', async () => {
    const uid = newUid();
    pods.set(uid, pod(uid, ['main'], { app: 'db' }));
    tell();
    const shell = shellIn(containerCgroup(uid));
    expect(await shell.do('read', SECRET)).toBe('ok');
    pods.set(uid, pod(uid));
    tell();
    expect(await shell.do('read', SECRET)).toBe('EACCES');
  });
});

describe('a container', () => {
  const OF_ONE = policy('of-one', `containers: [one], file: {matchPaths: [{path: ${SECRET}}]}`);
  const OF_TWO = policy('of-two', `containers: [two], file: {matchPaths: [{path: ${T}/other}]}`);

  it('that is not told apart yet is denied what any of its pod’s is, and afterwards what it is itself', async () => {
    enforce(OF_ONE, OF_TWO);
    const uid = newUid();
    pods.set(uid, pod(uid, ['one', 'two']));
    tell();
    const id = newId();
    const path = containerCgroup(uid, id);
    const shell = shellIn(path);
    expect(await shell.do('read', SECRET)).toBe('EACCES');
    expect(await shell.do('read', `${T}/other`)).toBe('EACCES');
    await eventually('its cgroup is told of', () => made.find((p) => path.endsWith(p)));
    containers.set(id, { id, podUid: uid, name: 'one', image: 'busybox', sandbox: false });
    tell();
    expect(await shell.do('read', SECRET)).toBe('EACCES');
    expect(await shell.do('read', `${T}/other`)).toBe('ok');
    expect(first(path, 'read', `${T}/other`)).toBe('ok');
  });

  it('that is not told apart yet is allowed nothing that only one of them is', async () => {
    const lists = (name: string, path: string) =>
      policy(`allows-${name}`, `containers: [${name}], action: Allow, file: {matchPaths: [{path: ${path}}]}`);
    enforce(lists('one', FREE), lists('two', `${T}/other`));
    const uid = newUid();
    pods.set(uid, pod(uid, ['one', 'two']));
    const block = { ...POSTURES, file: 'block' } as const;
    tell(block);
    const id = newId();
    const path = containerCgroup(uid, id);
    expect(first(path, 'read', FREE)).toBe('EACCES');
    containers.set(id, { id, podUid: uid, name: 'one', image: 'busybox', sandbox: false });
    tell(block);
    expect(first(path, 'read', FREE)).toBe('ok');
    expect(first(path, 'read', `${T}/other`)).toBe('EACCES');
  });

  it('whose name is known before it starts is itself from the first act on', () => {
    enforce(OF_ONE, OF_TWO);
    const uid = newUid();
    const id = newId();
    pods.set(uid, pod(uid, ['one', 'two']));
    containers.set(id, { id, podUid: uid, name: 'two', image: 'busybox', sandbox: false });
    tell();
    const path = containerCgroup(uid, id);
    expect(first(path, 'read', SECRET)).toBe('ok');
    expect(first(path, 'read', `${T}/other`)).toBe('EACCES');
  });

  it('that another has been taken for is put right', async () => {
    const uid = newUid();
    pods.set(uid, pod(uid));
    tell();
    // the first of the pod's, and no sandbox
    const id = newId();
    const path = makeTree(`kubepods/besteffort/pod${uid}/${id}`);
    expect(first(path, 'read', SECRET)).toBe('ok');
    containers.set(id, { id, podUid: uid, name: 'main', image: 'busybox', sandbox: false });
    tell();
    expect(first(path, 'read', SECRET)).toBe('EACCES');
  });
});

describe('a pod that nobody has told of', () => {
  it('is told of by an event, passes where the posture is audit, and is judged once it is known', async () => {
    const uid = newUid();
    const from = records.length;
    const path = containerCgroup(uid);
    const shell = shellIn(path);
    expect(await shell.do('read', SECRET)).toBe('ok');
    await eventually('the event', () =>
      records.slice(from).find((r) => r.type === 'unknown-pod' && r.podUid === uid),
    );
    pods.set(uid, pod(uid));
    tell();
    expect(await shell.do('read', SECRET)).toBe('EACCES');
    expect(first(path, 'read', SECRET)).toBe('EACCES');
  });

  it('starts nothing where the posture is block, until it is known', () => {
    unknown = 'block';
    tell();
    const uid = newUid();
    const path = containerCgroup(uid);
    expect(() => first(path, 'read', FREE)).toThrow();
    pods.set(uid, pod(uid));
    tell();
    expect(first(path, 'read', FREE)).toBe('ok');
    expect(first(path, 'read', SECRET)).toBe('EACCES');
  });

  it('may start where the posture is block while no agent runs if it could be the next one: by its right to use bpf(2)', () => {
    unknown = 'block';
    tell();
    const [ours, others] = [containerCgroup(newUid()), containerCgroup(newUid())];
    const plain = (path: string) =>
      execFileSync('setpriv', [
        ...['--bounding-set', '-bpf', '--inh-caps', '-bpf', ACT],
        ...['-cgroup', `${path}/cgroup.procs`, '-become', 'read', FREE],
      ]);
    expect(() => first(ours, 'read', FREE)).toThrow();
    withoutAgent(() => {
      expect(first(ours, 'read', FREE)).toBe('ok');
      expect(() => plain(others)).toThrow();
    });
    expect(() => first(ours, 'read', FREE)).toThrow();
  });

  it('may be known by the time that an agent looks which was not there', () => {
    const uid = newUid();
    const path = containerCgroup(uid);
    pods.set(uid, pod(uid));
    tell();
    enforcer.refresh();
    expect(first(path, 'read', SECRET)).toBe('EACCES');
  });
});

describe('the node', () => {
  const HOSTILE = policy(
    'hostile',
    `nodeSelector: {matchLabels: {role: worker}}, file: {matchPaths: [{path: ${T}/other}]}`,
    'HostPolicy',
    '',
  );

  it('is judged by host policies, its pods are not, and what it starts in a pod is the pod’s', async () => {
    const uid = newUid();
    pods.set(uid, pod(uid));
    tell();
    const before = new Shell('/bin/sh', []);
    running.push(before);
    expect(await before.do('read', `${T}/other`)).toBe('ok');
    enforce(SECRETIVE, HOSTILE);
    expect(await before.do('read', `${T}/other`)).toBe('EACCES');
    expect(await before.do('read', SECRET)).toBe('ok');
    expect(execFileSync(ACT, ['read', `${T}/other`], { encoding: 'utf8' }).trim()).toBe('EACCES');
    const path = containerCgroup(uid);
    expect(first(path, 'read', `${T}/other`)).toBe('ok');
    expect(first(path, 'read', SECRET)).toBe('EACCES');
    await eventually('the alert', () => alerts().find((a) => a.policy === 'hostile' && a.pod === 'node-1'));
    enforce(SECRETIVE);
    expect(await before.do('read', `${T}/other`)).toBe('ok');
  });

  it('is judged as the pod where it went in and failed to exec', () => {
    const uid = newUid();
    pods.set(uid, pod(uid));
    tell();
    enforce(SECRETIVE, HOSTILE);
    const path = containerCgroup(uid);
    const script = `shopt -s execfail; echo $$ > ${path}/cgroup.procs; { : < ${SECRET}; } && echo started
      exec ${T}/no-program 2> /dev/null; { : < ${SECRET}; } 2> /dev/null || echo denied`;
    execFileSync('sh', ['-c', `printf '#!/nowhere\\n' > ${T}/no-program; chmod +x ${T}/no-program`]);
    expect(execFileSync('bash', ['-c', script], { encoding: 'utf8' })).toBe('started\ndenied\n');
    enforce(SECRETIVE);
  });
});
