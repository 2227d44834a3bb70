/**
 * Inside of a machine: what the real agent needs with 10 000 rules in 200 policies on 100 workloads. Prints one JSON
 * line a figure: resident set of the agent, memory of its maps, time to compile and to be ready.
 */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeTexts } from './policies.mjs';

const DIR = '/tmp/footprint';
const main = new URL('../../dist/bin/main.js', import.meta.url).pathname;
mkdirSync(`${DIR}/policies`, { recursive: true });

const figure = (what, rules, value, unit) => console.log(JSON.stringify({ what, rules, value, unit }));

async function run(rules, workloads) {
  execFileSync('/bin/sh', ['-c', `rm -f ${DIR}/policies/* ${DIR}/ready`]);
  makeTexts(rules).forEach((text, i) => writeFileSync(`${DIR}/policies/p${i}.yaml`, text));
  const list = Array.from({ length: workloads }, (_, i) => {
    mkdirSync(`/sys/fs/cgroup/foot${i}`, { recursive: true });
    return `- {namespace: bench, name: w${i}, labels: {group: g${i % 10}}, container: c, cgroup: /sys/fs/cgroup/foot${i}}`;
  });
  writeFileSync(`${DIR}/workloads.yaml`, `workloads:\n${list.join('\n')}\n`);
  const start = Date.now();
  const agent = spawn(
    process.execPath,
    [
      '--max-semi-space-size=2', main, 'agent', '--policies', `${DIR}/policies`, '--workloads', `${DIR}/workloads.yaml`,
      '--output', '/dev/null', '--ready-file', `${DIR}/ready`, '--log-level', 'warn',
    ],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  const ended = new Promise((resolve) => agent.once('exit', resolve));
  while (!existsSync(`${DIR}/ready`)) {
    if (agent.exitCode !== null) throw new Error(`the agent ended with ${agent.exitCode}`);
    await sleep(200);
  }
  figure('seconds until ready (emulated)', rules, (Date.now() - start) / 1000, 's');
  await sleep(5000);
  const status = readFileSync(`/proc/${agent.pid}/status`, 'utf8');
  const kib = (name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)[1]);
  figure('agent resident, of its own', rules, (kib('RssAnon') / 1024).toFixed(1), 'MiB');
  figure('agent resident, all', rules, (kib('VmRSS') / 1024).toFixed(1), 'MiB');
  figure('agent resident, peak', rules, (kib('VmHWM') / 1024).toFixed(1), 'MiB');
  const maps = JSON.parse(execFileSync('bpftool', ['map', 'show', '-j'], { encoding: 'utf8' }));
  const bytes = maps.reduce((sum, m) => sum + (m.bytes_memlock ?? 0), 0);
  figure('memory of all maps', rules, (bytes / 2 ** 20).toFixed(1), 'MiB');
  agent.kill('SIGTERM');
  await ended;
}

await run(0, 1);
await run(10_000, 100);
