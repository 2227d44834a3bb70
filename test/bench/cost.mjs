/**
 * Inside of a machine that counts instructions: what operations cost without an agent, with empty programs on the same
 * hooks, and with Belay. One JSON line a figure; test/bench/run makes the table.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { loadAddon } from '../../dist/kernel/addon.js';
import { Enforcer } from '../../dist/kernel/enforcer.js';
import { Kernel } from '../../dist/kernel/kernel.js';
import { makePolicies } from './policies.mjs';

const COST = new URL('../../build/cost', import.meta.url).pathname;
const POSTURES = { file: 'audit', network: 'audit', capabilities: 'audit' };
const SHALLOW = '/tmp/bench/a/b/c';
const DEEP = `/tmp/bench/${'abcdefghijklm'.split('').map((c) => c.repeat(5)).join('/')}`;
const IN = '/sys/fs/cgroup/bench';
const OUT = '/sys/fs/cgroup/elsewhere';
const OPERATIONS = [
  ['open, depth 5', 'open', 400, `${SHALLOW}/file`],
  ['open, depth 15', 'open', 400, `${DEEP}/file`],
  ['read', 'read', 400, `${SHALLOW}/file`],
  ['create+unlink', 'create', 100, `${SHALLOW}/file`],
  ['fork+exec', 'exec', 20, '-'],
  ['connect', 'connect', 40, '-'],
  ['udp send', 'send', 100, '-'],
];

for (const dir of [SHALLOW, DEEP, IN, OUT]) mkdirSync(dir, { recursive: true });
for (const dir of [SHALLOW, DEEP]) writeFileSync(`${dir}/file`, 'x');

function measure(variant, rules, cgroup, uncached) {
  for (const [label, operation, count, path] of OPERATIONS) {
    if (uncached && !operation.startsWith('open')) continue;
    const args = [operation, String(count), path, ...(uncached ? ['uncached'] : [])];
    const script = `echo $$ > ${cgroup}/cgroup.procs; exec ${COST} "$@"`;
    const value = Number(execFileSync('/bin/sh', ['-c', script, 'cost', ...args], { encoding: 'utf8' }));
    console.log(JSON.stringify({ variant, rules, operation: label, value }));
  }
}

const only = process.argv.slice(2);
const sizes = only.length > 0 ? only.map(Number) : [0, 1, 100, 10_000];

measure('no agent', 0, OUT, false);
measure('no agent, uncached', 0, OUT, true);
const addon = loadAddon();
const empty = new addon.Kernel(readFileSync(new URL('../../build/empty.bpf.o', import.meta.url)));
empty.prepare({ identity: '', attachment: 'lsm' });
empty.load();
empty.attach({ except: [] });
measure('empty programs', 0, OUT, false);
measure('empty programs, uncached', 0, OUT, true);
empty.close();

const kernel = new Kernel();
const enforcer = new Enforcer(kernel, POSTURES);
enforcer.setWorkloads([
  { namespace: 'bench', name: 'bench', labels: new Map(), container: 'bench', containerId: '', image: '', cgroup: IN },
]);
measure('unprotected', 0, OUT, false);
for (const rules of sizes) {
  const diagnostics = enforcer.setPolicies(makePolicies(rules));
  if (diagnostics.length > 0) throw new Error(JSON.stringify(diagnostics));
  measure('protected, cached', rules, IN, false);
  measure('protected, uncached', rules, IN, true);
}
kernel.close();
