import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  ACT,
  cgroup,
  containerName,
  eventually,
  inCgroup,
  inContainer,
  makeCgroup,
  PROJECT,
  removeCgroup,
  type Shell,
  T,
  workload,
} from '../kernel/harness.js';
import { descriptors, difference, inKernel, resident, told } from './accounts.js';
import { Random } from './random.js';
import { Agent, Clock, eatMemory, SMALL, SmallDisk } from './trouble.js';
import { BAD, BESIDE, FREE, GOOD, SECRET, Tally, version, versions, Worker } from './work.js';

/** All that is drawn follows from the seed; when it comes does not, since machines are not equally fast. */
const SEED = Number(process.env.BELAY_CHAOS_SEED || 1 + Math.floor(Math.random() * 2 ** 31));
const SECONDS = Number(process.env.BELAY_CHAOS_SECONDS || 180);
/** For as much of the time as this, at the end, the agent lives, so that what it does not give back adds up. */
const LIVES = 0.4;
/** Resident memory that an agent may have more than when it was new: what V8 keeps and the records that are remembered. */
const MORE_MIB = 128;

const BPFFS = '/sys/fs/bpf';
const PIN = `${BPFFS}/chaos`;
const HERE = '/tmp/chaos';
const KEPT = `${HERE}/kept.jsonl`;

const guest = containerName();
const lodging = containerName();
const PATHS = {
  first: cgroup('first'),
  second: cgroup('second'),
  loud: cgroup('loud'),
  visitor: cgroup('visitor'),
  lodger: lodging.cgroup,
  guest: guest.cgroup,
};
const WORKLOADS = Object.entries(PATHS).map(([name, path]) => workload(name, path));
const ALLOWED = [FREE, GOOD, '127.0.0.1'];
const IN_CONTAINER = ['--mount', `type=bind,src=${T},dst=${T},options=rbind:rw`];

const random = new Random(SEED);
const clock = new Clock();
const shells: Shell[] = [];
let agent: Agent;
let workers: Worker[];
let spool: SmallDisk;
let output: SmallDisk;
let began = performance.now();

const elapsed = () => (performance.now() - began) / 1000;
const now = () => `${elapsed().toFixed(1)} s`;
const say = (what: string) => process.stdout.write(`[${now().padStart(7)}] ${what}\n`);
const tally = new Tally(say);

beforeAll(async () => {
  say(`BELAY_CHAOS_SEED=${SEED} BELAY_CHAOS_SECONDS=${SECONDS}`);
  mkdirSync(BPFFS, { recursive: true });
  if (!readFileSync('/proc/mounts', 'utf8').includes(` ${BPFFS} bpf `))
    execFileSync('mount', ['-t', 'bpf', 'bpf', BPFFS]);
  for (const directory of [T, HERE]) rmSync(directory, { recursive: true, force: true });
  mkdirSync(join(T, 'many'), { recursive: true });
  mkdirSync(HERE);
  for (const file of [SECRET, FREE]) writeFileSync(file, '');
  for (const file of [BAD, GOOD]) cpSync(ACT, file);
  spool = new SmallDisk('spool', 16);
  output = new SmallDisk('output', 4);
  writeFileSync(
    `${HERE}/config.yaml`,
    `networkPosture: block
spool: ${spool.path}
sinks:
- {name: kept, type: file, path: ${KEPT}, maxMiB: 10000, spoolMiB: 8}
`,
  );
  Worker.prepare();
  for (const path of [PATHS.first, PATHS.second, PATHS.loud]) makeCgroup(path);
  agent = new Agent({
    folder: `${HERE}/agent`,
    output: `${output.path}/events.jsonl`,
    flags: ['--pin', PIN, '--config', `${HERE}/config.yaml`],
    workloads: WORKLOADS,
    say,
  });
  writeFileSync(join(agent.folder, 'policies/policy.yaml'), version(0, random));
  agent.spawn();
  await agent.ready();
  shells.push(inCgroup(PATHS.first), inCgroup(PATHS.second), await inContainer(lodging.name, IN_CONTAINER));
  workers = ['first', 'second', 'lodger'].map((pod, at) => new Worker(pod, shells[at], tally));
  say('the agent and its workloads are there');
});

afterAll(async () => {
  Worker.stopAll();
  clock.restore();
  for (const disk of [spool, output]) disk.free();
  await agent.stop('SIGTERM');
  for (const shell of shells) await shell.close();
  for (const path of [PATHS.first, PATHS.second, PATHS.loud, PATHS.visitor]) await removeCgroup(path);
  spawnSync(process.execPath, [join(PROJECT, 'dist/bin/main.js'), 'uninstall', '--pin', PIN]);
  for (const disk of [spool, output]) disk.unmount();
});

// ---- trouble, by who makes it; those who make it do so at the same time

type Trouble = (random: Random) => Promise<void>;

/** One trouble after another, until it is time. */
async function make(
  troubles: readonly Trouble[],
  random: Random,
  pause: number,
  until: number,
): Promise<void> {
  while (elapsed() < until && tally.wrong.length === 0) {
    await random.of(troubles)(random);
    await sleep(1000 * random.between(0, pause));
  }
}

const lives = () => elapsed() > SECONDS * (1 - LIVES);

const ofTheAgent: readonly Trouble[] = [
  async (random) => {
    const away = random.once(2) ? 0 : random.between(0, 5);
    const again = random.once(3) ? random.between(0, 4) : undefined;
    if (lives()) return;
    say(
      `agent: killed, away for ${away.toFixed(1)} s${again ? `, killed again ${again.toFixed(1)} s later` : ''}`,
    );
    await agent.stop('SIGKILL');
    await sleep(away * 1000);
    agent.spawn();
    if (again) {
      await sleep(again * 1000);
      await agent.stop('SIGKILL');
      agent.spawn();
    }
    await agent.ready();
    say('agent: there again');
  },
  async (random) => {
    const away = random.between(0, 3);
    if (lives()) return;
    say(`agent: told to end, away for ${away.toFixed(1)} s`);
    await agent.stop('SIGTERM');
    await sleep(away * 1000);
    agent.spawn();
    await agent.ready();
    say('agent: there again');
  },
  async (random) => {
    const seconds = random.between(1, 8);
    const killed = random.once(3) && !lives();
    say(`agent: stopped for ${seconds.toFixed(1)} s${killed ? ', then killed' : ''}`);
    await agent.pause(seconds, killed);
    if (!killed) return;
    agent.spawn();
    await agent.ready();
    say('agent: there again');
  },
];

const ofPolicies: readonly Trouble[] = [
  async (random) => {
    const times = 1 + random.below(8);
    const numbers = Array.from({ length: times }, () => random.below(versions));
    say(`policies: versions ${numbers.join(', ')}`);
    for (const number of numbers) {
      agent.write('policy.yaml', version(number, random));
      await sleep(random.between(0, 1500));
    }
  },
  async (random) => {
    const name = random.of(Object.keys(BESIDE));
    say(`policies: one that is ${name}`);
    agent.write('beside.yaml', BESIDE[name]);
    await sleep(random.between(0, 3000));
    if (random.once(2)) agent.write('beside.yaml', undefined);
  },
  async (random) => {
    const more = random.below(20);
    say(`workloads: ${more} more`);
    const others = Array.from({ length: more }, (_, i) =>
      workload(`more-${i}`, cgroup(`more-${random.below(50)}-${i}`)),
    );
    agent.writeWorkloads([...WORKLOADS, ...others]);
    await sleep(random.between(0, 2000));
    agent.writeWorkloads(WORKLOADS);
  },
];

/** What comes and goes. Its first act is denied. */
const ofWorkloads: readonly Trouble[] = [
  async (random) => {
    const times = 1 + random.below(5);
    say(`workloads: a cgroup comes and goes ${times} times`);
    for (let i = 0; i < times; i++) await visit();
  },
  async (random) => {
    say('workloads: a container comes and goes');
    await host(random);
  },
  async (random) => {
    const times = 1000 + random.below(8000);
    say(`workloads: a flood of ${times}`);
    const shell = inCgroup(PATHS.loud);
    await tally.one('loud', shell, now, 'create', times);
    await shell.close();
  },
];

async function visit(): Promise<void> {
  makeCgroup(PATHS.visitor);
  const first = ['-cgroup', `${PATHS.visitor}/cgroup.procs`, '-become', '-n', '1', 'read', SECRET];
  tally.take('visitor', now(), 'read', execFileSync(ACT, first, { encoding: 'utf8' }).trim(), 1);
  const shell = inCgroup(PATHS.visitor);
  await tally.all('visitor', shell, now, ['read', 'exec', 'read-free', 'exec-good', 'connect-near']);
  await shell.close();
  await removeCgroup(PATHS.visitor);
}

async function host(random: Random): Promise<void> {
  const shell = await inContainer(guest.name, IN_CONTAINER);
  await tally.one('guest', shell, now, 'read', 1 + random.below(3));
  await tally.all('guest', shell, now);
  await shell.close();
  await eventually('the container’s cgroup is gone', () => !existsSync(PATHS.guest) || undefined);
}

const ofTheNode: readonly Trouble[] = [
  async (random) => {
    const seconds = random.between(1, 8);
    say(`node: no room on the disks of the spool and of --output for ${seconds.toFixed(1)} s`);
    for (const disk of [spool, output]) disk.fill();
    await sleep(seconds * 1000);
    writeFileSync(`${output.path}/events.jsonl`, '');
    for (const disk of [spool, output]) disk.free();
  },
  async (random) => {
    const hours = random.between(-20, 20);
    say(`node: the clock jumps by ${hours.toFixed(2)} h`);
    clock.jump(hours * 3600);
    await sleep(random.between(0, 3000));
    if (random.once(2)) clock.restore();
  },
  async (random) => {
    const left = random.once(2) ? -500 : random.between(40, 200);
    const seconds = random.between(0, 4);
    say(left < 0 ? 'node: memory runs out' : `node: ${left.toFixed(0)} MiB of memory are left`);
    await eatMemory(Math.round(left), Math.round(seconds));
    say('node: memory is free again');
  },
];

describe('random trouble', () => {
  it('changes no verdict, loses no denial uncounted, and leaves nothing behind', {
    timeout: (SECONDS + 1200) * 1000,
  }, async () => {
    // everything has been there once
    for (const worker of workers) {
      const shell = shells[workers.indexOf(worker)];
      await tally.all(worker.pod, shell, now);
    }
    await visit();
    await host(random);
    await arrives();
    await tidy();
    const before = { kernel: inKernel(), agent: descriptors(agent.pid, SMALL), memory: resident(agent.pid) };
    say(`before: ${before.memory} MiB of memory`);

    began = performance.now();
    for (const worker of workers) worker.start();
    let going = true;
    const watch = (async () => {
      while (going) {
        await sleep(500);
        agent.look();
        for (const worker of workers) worker.look();
      }
    })();
    await Promise.all([
      make(ofTheAgent, random.apart(), 6, SECONDS),
      make(ofPolicies, random.apart(), 3, SECONDS),
      make(ofWorkloads, random.apart(), 3, SECONDS),
      make(ofTheNode, random.apart(), 8, SECONDS),
    ]);
    say('no more trouble');
    going = false;
    await watch;
    Worker.stopAll();
    for (const worker of workers) await worker.ended();
    clock.restore();
    agent.write('beside.yaml', undefined);
    agent.write('policy.yaml', version(0, random));

    expect(tally.wrong).toEqual([]);
    expect(agent.deaths).toEqual([]);
    await arrives();

    await tidy();
    let leaks: string[] = [];
    await eventually('the kernel has cleaned up', () => {
      leaks = difference(before.kernel, inKernel());
      return leaks.length === 0 || undefined;
    }).catch(() => {});
    leaks.push(...difference(before.agent, descriptors(agent.pid, SMALL)));
    const memory = resident(agent.pid);
    say(`after: ${memory} MiB of memory`);
    expect(leaks).toEqual([]);
    expect(memory).toBeLessThan(before.memory + MORE_MIB);
  });
});

/** Has the agent give up what it knows of containers' roots that are gone, which it does when a workload goes. */
async function tidy(): Promise<void> {
  agent.writeWorkloads([...WORKLOADS, workload('passing', cgroup('passing'))]);
  await sleep(3000);
  agent.writeWorkloads(WORKLOADS);
  await sleep(3000);
}

/** Waits until all that was denied is told, and sees that no more is. */
async function arrives(): Promise<void> {
  const wanted = Object.fromEntries(tally.pods.map((pod) => [pod, tally.tried(pod)]));
  const sums = () =>
    Object.fromEntries(
      [...told(KEPT, ALLOWED).byPod].map(([pod, { alerts, counted }]) => [pod, alerts + counted]),
    );
  const complete = () => Object.entries(sums()).every(([pod, sum]) => sum >= (wanted[pod] ?? 0));
  await eventually(
    'all is told',
    async () => {
      await sleep(1000);
      return complete() || undefined;
    },
    240_000,
  ).catch(() => {});
  // and no more
  await sleep(3000);
  const { byPod, strange } = told(KEPT, ALLOWED);
  for (const [pod, { alerts, counted }] of byPod)
    say(`${pod}: ${wanted[pod]} denied; ${alerts} told, ${counted} counted`);
  expect(sums()).toEqual(wanted);
  expect(strange).toEqual([]);
}
