import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  Belay,
  brief,
  cgroup,
  eventually,
  inCgroup,
  makeCgroup,
  removeCgroup,
  Shell,
  T,
  type WorkloadEntry,
  workload,
} from './harness.js';

const BPFFS = '/sys/fs/bpf';
const PINS = `${BPFFS}/belay`;
/** As a pod's, with the agent's own container's below. */
const POD = cgroup('agent-home');
const HOME = `${POD}/own`;

const strangers: readonly WorkloadEntry[] = [workload('stranger', cgroup('protect')), workload('agent', POD)];

let belay: Belay;
let shell: Shell;
let node: Shell;

const bpftool = (...args: string[]) =>
  JSON.parse(execFileSync('bpftool', ['-j', ...args], { encoding: 'utf8' }));

beforeAll(async () => {
  if (!existsSync(`${BPFFS}/belay`)) {
    mkdirSync(BPFFS, { recursive: true });
    execFileSync('mount', ['-t', 'bpf', 'bpf', BPFFS]);
  }
  // workloads like any other, that no policy reaches
  makeCgroup(POD);
  makeCgroup(HOME);
  belay = await Belay.start({ workloads: strangers, flags: ['--pin', PINS] });
  writeFileSync(`${HOME}/cgroup.procs`, String(belay.pid));
  shell = inCgroup(makeCgroup(cgroup('protect')));
  node = new Shell('/bin/sh', []);
  // the agent looks at all tasks when a workload comes, and finds where it is itself
  belay.writeWorkloads([...strangers, workload('another', makeCgroup(cgroup('protect-another')))]);
  await shell.run(`mkdir -p ${T}`);
  await new Promise((resolve) => setTimeout(resolve, 3000));
});

afterAll(async () => {
  await shell.close();
  await node.close();
  expect(await belay.stop()).toBe(0);
  for (const each of ['protect', 'protect-another', 'protect-third']) await removeCgroup(cgroup(each));
  await removeCgroup(POD);
  execFileSync('rm', ['-rf', PINS]);
});

const ATTACKS: readonly (readonly [string, string, () => readonly string[]])[] = [
  ['is not killed', 'signal', () => ['signal', String(belay.pid), '9']],
  ['is not stopped', 'signal', () => ['signal', String(belay.pid), '19']],
  ['is not taken hold of', 'ptrace', () => ['seize', String(belay.pid)]],
  ['keeps its limits', 'limit', () => ['prlimit', String(belay.pid)]],
  ['keeps its processors', 'schedule', () => ['affinity', String(belay.pid)]],
  ['keeps its priority', 'schedule', () => ['nice', String(belay.pid)]],
  ['keeps its priority at the disk', 'schedule', () => ['io-priority', String(belay.pid)]],
  ['is not made the first to die', 'open', () => ['write', `/proc/${belay.pid}/oom_score_adj`]],
  [
    'is not made the first to die by its thread',
    'open',
    () => ['write', `/proc/${belay.pid}/task/${belay.pid}/oom_score_adj`],
  ],
  ['is not killed with its cgroup', 'open', () => ['write', `${HOME}/cgroup.kill`]],
  ['is not frozen', 'open', () => ['write', `${HOME}/cgroup.freeze`]],
  [
    'keeps its maps to itself',
    'bpf',
    () => ['map-of', String(bpftool('map', 'show', 'pinned', `${PINS}/v1/map_workloads`).id)],
  ],
  [
    'keeps its programs to itself',
    'bpf',
    () => {
      const programs: { id: number; name: string }[] = bpftool('prog', 'show');
      return ['program-of', String(programs.find((each) => each.name === 'file_open')?.id)];
    },
  ],
  [
    'keeps its links to itself',
    'bpf',
    () => {
      const links: { id: number; type: string }[] = bpftool('link', 'show');
      return ['link-of', String(links.find((each) => each.type === 'tracing')?.id)];
    },
  ],
  ['keeps its pinned links attached', 'bpf', () => ['detach', `${PINS}/v1/link_file_open`]],
  ['keeps its pins', 'unlink', () => ['unlink', `${PINS}/v1/link_file_open`]],
  ['keeps the names of its pins', 'rename', () => ['rename', `${PINS}/v1`, `${PINS}/v0`]],
  ['keeps what its pins are on', 'umount', () => ['umount', BPFFS]],
];

it.each(ATTACKS)('the agent %s by a workload without policies, and tells', async (_, operation, act) => {
  const from = belay.records().length;
  expect(await shell.do(...act())).toBe('EACCES');
  const alert = await belay.alert((a) => a.rule === 'selfProtection', from);
  expect(brief(alert)).toMatchObject({
    pod: 'stranger',
    operation,
    policy: '',
    action: 'Block',
    verdict: 'Denied',
  });
});

it('the agent is not killed by a descriptor that becomes ready', async () => {
  const victim = await shell.run('sleep 100 >/dev/null & echo $!');
  expect(await shell.do('signal-io', victim, '9')).toBe('ok');
  await eventually('a process of its own is', async () =>
    (await shell.do('signal', victim, '0')) === 'ESRCH' ? true : undefined,
  );
  expect(await shell.do('signal-io', String(belay.pid), '9')).toBe('ok');
  await new Promise((resolve) => setTimeout(resolve, 1000));
  expect(await node.do('signal', String(belay.pid), '0')).toBe('ok');
});

it('a workload does not become the agent’s by going where it is', async () => {
  const there = `${POD}/of-the-stranger`;
  await shell.run(`mkdir ${there}; echo $$ > ${there}/cgroup.procs`);
  expect(await shell.run('cat /proc/self/cgroup')).toContain('/of-the-stranger');
  // each time it looks at all tasks
  const third = workload('third', makeCgroup(cgroup('protect-third')));
  belay.writeWorkloads([...strangers, workload('another', cgroup('protect-another')), third]);
  await belay.logged(/workloads? in force/);
  await new Promise((resolve) => setTimeout(resolve, 3000));
  expect(await shell.do('signal', String(belay.pid), '18')).toBe('EACCES');
  await shell.run(`echo $$ > ${cgroup('protect')}/cgroup.procs; rmdir ${there}`);
});

it('what is a workload’s own stays its own', async () => {
  const from = belay.records().length;
  const script = `sleep 100 & ${shell.act} signal $! 19 && ${shell.act} nice $! && ${shell.act} affinity $! &&
    ${shell.act} prlimit $! && ${shell.act} signal $! 9 && ${shell.act} bpf && ${shell.act} signal ${belay.pid} 0`;
  expect(await shell.run(script)).toBe(Array(7).fill('ok').join('\n'));
  const made = `${BPFFS}/of-the-workload`;
  expect(await shell.run(`mkdir ${made} && ${shell.act} rename ${made} ${made}-2 && rmdir ${made}-2`)).toBe(
    'ok',
  );
  expect(belay.alerts(undefined, from).map(brief)).toEqual([]);
});

it('the node’s own processes may do to it what they like', async () => {
  for (const act of [
    ['signal', String(belay.pid), '18'],
    ['map-of', String(bpftool('map', 'show', 'pinned', `${PINS}/v1/map_workloads`).id)],
    ['write', `${HOME}/cgroup.freeze`],
  ]) {
    expect([act[0], await node.do(...act)]).toEqual([act[0], 'ok']);
  }
});

it('where there is no agent, its maps are still not a workload’s, and another takes over', async () => {
  const id = String(bpftool('map', 'show', 'pinned', `${PINS}/v1/map_workloads`).id);
  await belay.stop('SIGKILL');
  expect(await shell.do('map-of', id)).toBe('EACCES');
  expect(await shell.do('unlink', `${PINS}/v1/link_file_open`)).toBe('EACCES');
  belay = await Belay.start({
    workloads: strangers,
    flags: ['--pin', PINS],
    folder: belay.folder,
  });
  expect(await shell.do('signal', String(belay.pid), '9')).toBe('EACCES');
});
