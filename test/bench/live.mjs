/**
 * Inside of a machine: what an agent needs for events, as it runs there. One JSON line a figure.
 *   execs      processor time of 1 000 fork+exec without an agent and with one, and the agent's own; for a machine that counts
 *              instructions, where a microsecond is a thousand of them
 *   memory     the agent's resident set with 10 000 live processes in a workload, found at its start, and after 10 000 more
 *   flood      how late denials of one workload are told, from the operation to the line in a file, while another's are as many as can be
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, openSync, readFileSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const DIR = '/tmp/live';
const SECRETS = `${DIR}/secret/`;
const COST = new URL('../../build/cost', import.meta.url).pathname;
const ACT = new URL('../../build/act', import.meta.url).pathname;
const MAIN = new URL('../../dist/bin/main.js', import.meta.url).pathname;
const WORKLOAD = '/sys/fs/cgroup/bench';
const OTHER = '/sys/fs/cgroup/other';
const AGENT = '/sys/fs/cgroup/agent';
const POLICY = `apiVersion: security.belay.dev/v1
kind: WorkloadPolicy
metadata: {name: bench, namespace: bench}
spec:
  selector: {matchLabels: {app: bench}}
  file: {matchDirectories: [{dir: ${SECRETS}, recursive: true}]}
`;

for (const dir of [`${DIR}/policies`, SECRETS, WORKLOAD, OTHER, AGENT]) mkdirSync(dir, { recursive: true });
writeFileSync(`${DIR}/policies/bench.yaml`, POLICY);
const entry = (name, cgroup) => `- {namespace: bench, name: ${name}, labels: {app: bench}, container: c, cgroup: ${cgroup}}\n`;
writeFileSync(`${DIR}/workloads.yaml`, `workloads:\n${entry('bench', WORKLOAD)}${entry('other', OTHER)}`);

const figure = (what, value, unit) => console.log(JSON.stringify({ what, value, unit }));
const inside = (cgroup, ...command) => ['-c', `echo $$ > ${cgroup}/cgroup.procs; exec "$@"`, 'sh', ...command];

async function startAgent(visibility) {
  const ready = `${DIR}/ready`;
  rmSync(ready, { force: true });
  const agent = spawn(
    '/bin/sh',
    inside(
      AGENT, process.execPath, '--max-semi-space-size=2', MAIN, 'agent', '--policies', `${DIR}/policies`, '--workloads',
      `${DIR}/workloads.yaml`, '--output', `${DIR}/events.jsonl`, '--visibility', visibility, '--ready-file', ready, '--log-level', 'warn',
    ),
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  while (!existsSync(ready)) {
    if (agent.exitCode !== null) throw new Error(`the agent ended with ${agent.exitCode}`);
    await sleep(200);
  }
  await sleep(3000); // what it does at its start
  return agent;
}

async function stopAgent(agent) {
  const ended = once(agent, 'exit');
  agent.kill('SIGTERM');
  await ended;
}

/** Microseconds of processor that a cgroup has used. */
const used = (cgroup) => Number(/^usage_usec (\d+)/m.exec(readFileSync(`${cgroup}/cpu.stat`, 'utf8'))[1]);
const lines = () => {
  const path = `${DIR}/events.jsonl`;
  return existsSync(path) ? readFileSync(path, 'latin1').split('\n').length - 1 : 0;
};

async function execs() {
  const COUNT = 1000;
  const measure = async (variant) => {
    const before = [used(WORKLOAD), used(AGENT), lines()];
    execFileSync('/bin/sh', inside(WORKLOAD, COST, 'exec', String(COUNT - 8), '-'));
    await sleep(3000); // for what the agent has still to tell of
    figure(`${variant}: the workload`, used(WORKLOAD) - before[0], 'us');
    figure(`${variant}: the agent`, used(AGENT) - before[1], 'us');
    figure(`${variant}: records`, lines() - before[2], '');
  };
  await measure('no agent');
  for (const visibility of ['none', 'process']) {
    const agent = await startAgent(visibility);
    await measure(`visibility ${visibility}`);
    const idle = used(AGENT);
    await sleep(3000);
    figure(`visibility ${visibility}: the agent, of that at rest`, used(AGENT) - idle, 'us');
    await stopAgent(agent);
  }
}

async function memory() {
  const COUNT = 10_000;
  const stay = async () => {
    const child = spawn('/bin/sh', inside(WORKLOAD, COST, 'stay', String(COUNT)), { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
  };
  await stay();
  const agent = await startAgent('process');
  const live = () => readFileSync(`${WORKLOAD}/cgroup.procs`, 'latin1').split('\n').length - 1;
  const resident = (when) => {
    const status = readFileSync(`/proc/${agent.pid}/status`, 'utf8');
    const mib = (name) => (Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)[1]) / 1024).toFixed(1);
    figure(`${when}: processes`, live(), '');
    figure(`${when}: resident, all`, mib('VmRSS'), 'MiB');
    figure(`${when}: resident, of its own`, mib('RssAnon'), 'MiB');
    figure(`${when}: resident, peak`, mib('VmHWM'), 'MiB');
  };
  await sleep(5000);
  resident('found at the start');
  await stay();
  await sleep(5000);
  resident('and as many more');
  figure('records', lines(), '');
  await stopAgent(agent);
  writeFileSync(`${WORKLOAD}/cgroup.kill`, '1');
}

/** What comes to a file of records, line by line and each once. */
class Tail {
  #fd;
  #rest = Buffer.alloc(0);
  #buffer = Buffer.alloc(1 << 20);

  constructor(path) {
    this.#fd = openSync(path, 'r');
  }

  *lines() {
    for (;;) {
      const length = readSync(this.#fd, this.#buffer);
      if (length === 0) return;
      const text = Buffer.concat([this.#rest, this.#buffer.subarray(0, length)]);
      const end = text.lastIndexOf(10) + 1;
      this.#rest = text.subarray(end);
      yield* text.toString('latin1', 0, end).split('\n').slice(0, -1);
    }
  }
}

async function flood() {
  const SECONDS = 60;
  const agent = await startAgent('none');
  const tail = new Tail(`${DIR}/events.jsonl`);
  const flooding = spawn('/bin/sh', inside(WORKLOAD, ACT, '-n', String(1e9), 'create-counted', SECRETS), { stdio: 'ignore' });
  await sleep(5000);
  const sum = { told: 0, lost: 0, floodTold: 0, floodLost: 0 };
  const delays = [];
  /** Whether the denial of `name` is among what has come. */
  const look = (name) => {
    let found = false;
    for (const line of tail.lines()) {
      const gap = line.includes('"type":"gap"');
      // a line of the flood is about one denial, for each has a name of its own
      if (!gap && !line.includes('"pod":"other"')) {
        sum.floodTold++;
        continue;
      }
      const { pod, lost, count, object } = JSON.parse(line);
      if (gap) sum[pod === 'other' ? 'lost' : 'floodLost'] += Number(lost);
      else sum.told += Number(count);
      if (object?.path === name) found = true;
    }
    return found;
  };
  const end = performance.now() + SECONDS * 1000;
  for (let i = 0; performance.now() < end; i++) {
    const name = `${SECRETS}other-${i}`;
    // what has come meanwhile is not read on this one's time
    look('');
    // the operation comes a moment before the end of this
    execFileSync('/bin/sh', inside(OTHER, '/bin/sh', '-c', `( : > ${name} ) 2> /dev/null; true`));
    const done = performance.now();
    while (!look(name)) {
      if (performance.now() - done > 30_000) throw new Error(`${name} was not told of within 30 s`);
      await sleep(10);
    }
    delays.push(performance.now() - done);
    await sleep(500);
  }
  flooding.kill('SIGKILL');
  await stopAgent(agent);
  look('');
  delays.sort((a, b) => a - b);
  figure('denials of the other workload', delays.length, '');
  figure('told of them', sum.told, '');
  figure('lost of them', sum.lost, '');
  figure('delay, median', delays[delays.length >> 1].toFixed(0), 'ms');
  figure('delay, longest', delays.at(-1).toFixed(0), 'ms');
  figure('denials of the flood that were told', sum.floodTold, '');
  figure('denials of the flood that were only counted', sum.floodLost, '');
}

await { execs, memory, flood }[process.argv[2]]();
