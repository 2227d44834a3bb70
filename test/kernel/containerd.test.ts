import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { CGROUP_ROOT } from '../../agent/workload/cgroup.js';
import type { Workload } from '../../agent/workload/model.js';
import { watchWorkloads } from '../../agent/workload/watch.js';

const SOCKET = '/run/containerd/containerd.sock';
const IMAGE = 'localhost/busybox:1';
const wait = { timeout: 120_000, interval: 20 };

/** One state of the workloads; `there` = the cgroups that existed when it was told. */
interface State {
  readonly all: ReadonlyMap<string, Workload>;
  readonly there: ReadonlySet<string>;
}

const states: State[] = [];
const logged: { level: number; msg: string; container?: string }[] = [];
let watch: { close(): Promise<void> } | undefined;

const last = (): ReadonlyMap<string, Workload> => states.at(-1)?.all ?? new Map();
const run = promisify(execFile);
/** Not synchronous: what is followed meanwhile is followed by this very process. */
const ctr = async (...args: string[]): Promise<string> =>
  (await run('ctr', args, { encoding: 'utf8', timeout: 180_000 })).stdout;

const file = join(mkdtempSync(join(tmpdir(), 'belay-containerd-')), 'workloads.yaml');
const LIST = `containerd: ${SOCKET}\nworkloads:\n- {name: bare, cgroup: ${CGROUP_ROOT}/bare}\n`;

async function follow(): Promise<void> {
  writeFileSync(file, LIST);
  const log = pino({ base: null }, { write: (line: string) => logged.push(JSON.parse(line)) });
  const onChange = (workloads: readonly Workload[]) => {
    const all = new Map(workloads.map((w) => [w.containerId || w.name, w]));
    states.push({ all, there: new Set(workloads.map(({ cgroup }) => cgroup).filter((c) => existsSync(c))) });
  };
  watch = await watchWorkloads({ file, log, onChange });
}

/** The process id that containerd gives a container's first process. */
async function pidOf(id: string, namespace = 'default'): Promise<number> {
  const tasks = await ctr('-n', namespace, 'tasks', 'ls');
  const line = tasks.split('\n').find((row) => row.startsWith(`${id} `));
  return Number(line?.split(/\s+/)[1]);
}

/** A container that is never started, with a specification of no more than its cgroup. */
async function createIn(cgroupsPath: string, id: string): Promise<void> {
  const spec = join(mkdtempSync(join(tmpdir(), 'belay-spec-')), 'config.json');
  writeFileSync(spec, JSON.stringify({ ociVersion: '1.0.2', process: {}, linux: { cgroupsPath } }));
  await ctr('containers', 'create', '--config', spec, id);
}

const kernelsCgroup = (pid: number): string =>
  CGROUP_ROOT + readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().replace(/^0::/, '');

async function end(id: string, namespace = 'default'): Promise<void> {
  await ctr('-n', namespace, 'tasks', 'rm', '-f', id);
  await ctr('-n', namespace, 'containers', 'rm', id);
}

function daemon(): number | undefined {
  const config = '/run/containerd.toml';
  const found = readdirSync('/proc').find((pid) => {
    try {
      const [program = '', ...args] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      return program.endsWith('containerd') && args.includes(config);
    } catch {
      return false;
    }
  });
  return found === undefined ? undefined : Number(found);
}

let restarted: ChildProcess | undefined;

function startDaemon(): void {
  restarted = spawn('containerd', ['--config', '/run/containerd.toml'], { stdio: 'ignore', detached: true });
}

async function stopDaemon(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  process.kill(daemon() ?? Number.NaN, signal);
  await vi.waitFor(() => expect(daemon()).toBeUndefined(), wait);
}

async function answers(): Promise<void> {
  await vi.waitFor(() => ctr('version'), { timeout: 180_000, interval: 200 });
}

describe('workloads of containerd', () => {
  beforeAll(async () => {
    await run('test/vm/containerd', { timeout: 400_000 });
    await ctr('run', '--detach', IMAGE, 'earlier', 'sleep', '1000');
    await follow();
  });

  afterAll(async () => {
    await watch?.close();
    await end('earlier');
    restarted?.unref();
  });

  it('that ran before are told at once, beside those of the file', async () => {
    expect(states).toHaveLength(1);
    const { cgroup, ...rest } = last().get('earlier') ?? { cgroup: '' };
    expect(cgroup).toBe(kernelsCgroup(await pidOf('earlier')));
    expect(rest).toMatchObject({ namespace: 'default', name: 'earlier', container: 'earlier', image: IMAGE });
    expect([...last().keys()]).toEqual(['bare', 'earlier']);
    expect(new Set(logged.map(({ msg }) => msg))).toEqual(
      new Set([
        `workload default/bare: there is no cgroup ${CGROUP_ROOT}/bare yet; it is protected from when there is`,
        "following containerd's containers",
      ]),
    );
  });

  it('are told when the container is created, before there is a cgroup, and leave when it is deleted', async () => {
    await ctr('containers', 'create', '--label', 'app=web', IMAGE, 'later', 'sleep', '1000');
    await vi.waitFor(() => expect([...last().keys()]).toContain('later'), wait);
    const told = last().get('later');
    expect(told?.labels.get('app')).toBe('web');
    expect(existsSync(told?.cgroup ?? '/')).toBe(false);

    await ctr('tasks', 'start', '--detach', 'later');
    expect(told?.cgroup).toBe(kernelsCgroup(await pidOf('later')));

    await ctr('tasks', 'kill', '-s', 'SIGKILL', 'later');
    await vi.waitFor(() => ctr('tasks', 'rm', 'later'), wait);
    expect(last().get('later')).toEqual(told);
    await ctr('containers', 'rm', 'later');
    await vi.waitFor(() => expect([...last().keys()]).not.toContain('later'), wait);
    expect(states.filter(({ all }) => all.has('later'))).toHaveLength(1);
  });

  it('are told before their cgroup exists when a container is created and started in one go', async () => {
    for (const id of ['quick-1', 'quick-2', 'quick-3']) {
      await ctr('run', '--detach', IMAGE, id, 'sleep', '1000');
      await vi.waitFor(() => expect([...last().keys()]).toContain(id), wait);
      const first = states.find(({ all }) => all.has(id));
      expect(first?.there).not.toContain(first?.all.get(id)?.cgroup);
      await end(id);
    }
    await vi.waitFor(() => expect([...last().keys()]).toEqual(['bare', 'earlier']), wait);
  });

  it('are named by their Kubernetes labels, in any namespace of containerd, and sandboxes are left out', async () => {
    const images = (await run('test/vm/images', { encoding: 'utf8' })).stdout.trim();
    await ctr('-n', 'k8s.io', 'images', 'import', '--snapshotter', 'overlayfs', `${images}/busybox.tar`);
    const labels = (kind: string) => [
      ...['--label', 'io.kubernetes.pod.namespace=shop', '--label', 'io.kubernetes.pod.name=web-1'],
      ...['--label', 'io.kubernetes.container.name=nginx', '--label', `io.cri-containerd.kind=${kind}`],
    ];
    const cgroup = ['--cgroup', '/kubepods/burstable/pod1/c1'];
    await ctr('-n', 'k8s.io', 'containers', 'create', ...labels('sandbox'), IMAGE, 'pause', 'sleep', '1000');
    await ctr(
      '-n',
      'k8s.io',
      'run',
      '--detach',
      ...labels('container'),
      ...cgroup,
      IMAGE,
      'c1',
      'sleep',
      '1000',
    );
    await vi.waitFor(() => expect([...last().keys()]).toContain('c1'), wait);
    expect(last().get('c1')).toMatchObject({
      namespace: 'shop',
      name: 'web-1',
      container: 'nginx',
      containerId: 'c1',
      image: IMAGE,
      cgroup: kernelsCgroup(await pidOf('c1', 'k8s.io')),
    });
    await end('c1', 'k8s.io');
    await ctr('-n', 'k8s.io', 'containers', 'rm', 'pause');
    await vi.waitFor(() => expect([...last().keys()]).not.toContain('c1'), wait);
    expect(states.some(({ all }) => all.has('pause'))).toBe(false);
  });

  it('have the cgroup that systemd would make', async () => {
    await createIn('kubepods-burstable-pod2.slice:cri-containerd:c2', 'c2');
    await vi.waitFor(() => expect([...last().keys()]).toContain('c2'), wait);
    expect(last().get('c2')?.cgroup).toBe(
      `${CGROUP_ROOT}/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod2.slice/cri-containerd-c2.scope`,
    );
    await ctr('containers', 'rm', 'c2');
  });

  it('have the cgroup that the first process shows, where the specification leaves it open', async () => {
    await ctr('run', '--detach', '--cgroup', 'some/where', IMAGE, 'c3', 'sleep', '1000');
    await vi.waitFor(() => expect([...last().keys()]).toContain('c3'), wait);
    expect(last().get('c3')?.cgroup).toBe(kernelsCgroup(await pidOf('c3')));
    await end('c3');
  });

  it('are told of once if the cgroup cannot be watched', async () => {
    const long = `/${'d'.repeat(200)}/${'d'.repeat(100)}`;
    await createIn(long, 'c4');
    const warned = () => logged.filter(({ container }) => container === 'c4').map(({ msg }) => msg);
    await vi.waitFor(() => expect(warned()).toEqual([expect.stringContaining('302 bytes long')]), wait);
    await ctr('containers', 'label', 'c4', 'a=b');
    await ctr('containers', 'rm', 'c4');
    expect(warned()).toHaveLength(1);
  });

  it('change when the labels do', async () => {
    await ctr('containers', 'create', IMAGE, 'c5', 'sleep', '1000');
    await ctr('containers', 'label', 'c5', 'app=db');
    await vi.waitFor(() => expect(last().get('c5')?.labels.get('app')).toBe('db'), wait);
    await ctr('containers', 'rm', 'c5');
    await vi.waitFor(() => expect([...last().keys()]).toEqual(['bare', 'earlier']), wait);
  });

  it.each(['SIGTERM', 'SIGKILL'] as const)('stay while containerd is away after %s', async (signal) => {
    await ctr('containers', 'create', IMAGE, 'goes', 'sleep', '1000');
    await vi.waitFor(() => expect([...last().keys()]).toContain('goes'), wait);
    const before = states.length;
    logged.length = 0;

    await stopDaemon(signal);
    await vi.waitFor(() => expect(logged).toHaveLength(1), wait);
    await new Promise((resolve) => setTimeout(resolve, 5000));
    expect(logged.map(({ msg }) => msg)).toEqual([
      'containerd is away; its last known containers stay in force',
    ]);
    expect(states).toHaveLength(before);

    startDaemon();
    await vi.waitFor(() => expect(logged.at(-1)?.msg).toBe('containerd is back'), wait);
    await answers();
    expect(logged).toHaveLength(2);
    expect([...last().keys()]).toEqual(['bare', 'earlier', 'goes']);

    // and it is followed as before
    await ctr('containers', 'rm', 'goes');
    await vi.waitFor(() => expect([...last().keys()]).toEqual(['bare', 'earlier']), wait);
    expect(last().get('earlier')?.cgroup).toBe(kernelsCgroup(await pidOf('earlier')));
  });

  it('are those of the file where both name a cgroup, and end when the file no longer asks for them', async () => {
    const cgroup = last().get('earlier')?.cgroup;
    writeFileSync(file, `${LIST}- {name: mine, cgroup: ${cgroup}}\n`);
    await vi.waitFor(() => expect([...last().keys()]).toEqual(['bare', 'mine']), wait);
    writeFileSync(file, LIST);
    await vi.waitFor(() => expect([...last().keys()]).toEqual(['bare', 'earlier']), wait);
    writeFileSync(file, LIST.replace(/^containerd.*\n/, ''));
    await vi.waitFor(() => expect([...last().keys()]).toEqual(['bare']), wait);
  });
});
