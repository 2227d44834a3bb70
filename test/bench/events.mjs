// The user-space half of events, on this host and one core: from batches of the rings' records to filtered-off records, to JSON
// lines in a file, through a sink with its spool, and to a client over gRPC. Prints a line a figure.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync, statSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PerformanceObserver } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import { EventReader } from '../../dist/event/decode.js';
import { EventLog } from '../../dist/event/log.js';
import { alertRecord, execRecord } from '../../dist/event/make-record.js';
import { enums } from '../../dist/kernel/abi.js';
import { serve } from '../../dist/serve/server.js';
import { FORMATS } from '../../dist/sink/formats/format.js';
import { makeSink } from '../../dist/sink/make.js';
import { batchOf } from './recorded.mjs';

const RECORDS = 2500; // about as many as fit into a batch of 1 MiB
const WORKLOADS = 100;
const SECONDS = 2;
const batch = batchOf(RECORDS, WORKLOADS);

const workload = {
  ...{ namespace: 'shop', name: 'checkout-7c9d8f6b5-x2x4v', container: 'app', containerId: 'c'.repeat(64) },
  ...{ image: 'registry.example/shop/checkout:1.42', cgroup: '' },
  labels: new Map([
    ['app', 'checkout'],
    ['pod-template-hash', '7c9d8f6b5'],
  ]),
  owner: { kind: 'ReplicaSet', name: 'checkout-7c9d8f6b5' },
};
const rule = {
  ...{ policy: 'checkout', namespace: 'shop', rule: 'file.matchDirectories[2]', dryRun: false, severity: 7 },
  ...{ tags: ['MITRE_T1005'], message: 'data is for the database only' },
};
const attribution = { workload, rule };

let collections = 0;
new PerformanceObserver((list) => {
  collections += list.getEntries().length;
}).observe({ entryTypes: ['gc'] });

/** Runs `work` (which does `RECORDS` records) for some seconds. */
function rate(work) {
  for (let i = 0; i < 20; i++) work();
  const cpu = process.cpuUsage();
  const begun = performance.now();
  let rounds = 0;
  while (performance.now() - begun < SECONDS * 1000) {
    work();
    rounds++;
  }
  const { user, system } = process.cpuUsage(cpu);
  const seconds = (performance.now() - begun) / 1000;
  return { perSecond: (rounds * RECORDS) / seconds, perCore: (rounds * RECORDS * 1e6) / (user + system) };
}
const figure = (what, value) => process.stdout.write(`${what}: ${value}\n`);
const thousands = ({ perSecond, perCore }) =>
  `${Math.round(perCore).toLocaleString('en')} records per CPU second (${Math.round(perSecond).toLocaleString('en')} per second of this run)`;

const reader = new EventReader();
let sink = 0;
const filtered = () => {
  reader.open(batch);
  while (reader.next()) if (reader.ring === enums.ring.RING_TELEMETRY && reader.workload === WORKLOADS) sink++;
};
for (let i = 0; i < 200; i++) filtered();
await sleep(10);
collections = 0;
const heap = process.memoryUsage().heapUsed;
for (let i = 0; i < 400; i++) filtered();
const grown = process.memoryUsage().heapUsed - heap;
await sleep(10);
figure('decoded and filtered off', thousands(rate(filtered)));
figure('heap for 1 000 000 records filtered off', `${Math.max(0, grown)} bytes, ${collections} collections`);

let sequence = 0n;
const recordOf = () => {
  const context = { node: 'worker-17', cluster: 'prod', bootTime: 1_700_000_000_000_000_000n, id: `0a1b2c3d4e5f-${(++sequence).toString(36)}`, sequence };
  return reader.ring === enums.ring.RING_TELEMETRY
    ? execRecord(reader, attribution, context)
    : alertRecord(reader, attribution, context);
};
figure(
  'decoded to records',
  thousands(
    rate(() => {
      reader.open(batch);
      while (reader.next()) sink += recordOf().type.length;
    }),
  ),
);

const directory = mkdtempSync(join(tmpdir(), 'belay-bench-'));
const path = join(directory, 'events.jsonl');
let bytes = 0;
let lines = 0;
let fd = openSync(path, 'w');
figure(
  'to JSON lines in a file',
  thousands(
    rate(() => {
      const all = [];
      reader.open(batch);
      while (reader.next()) all.push(FORMATS.belay(recordOf()));
      const text = `${all.join('\n')}\n`;
      bytes += writeSync(fd, text);
      lines += all.length;
      if (bytes > 500e6) {
        closeSync(fd);
        fd = openSync(path, 'w');
        bytes = lines = 0;
      }
    }),
  ),
);
figure('bytes of a JSON event', Math.round(statSync(path).size / lines));
for (const name of ['kubearmor', 'ecs', 'ocsf', 'cef']) {
  figure(
    `formatted as ${name}`,
    thousands(
      rate(() => {
        reader.open(batch);
        while (reader.next()) sink += FORMATS[name](recordOf()).length;
      }),
    ),
  );
}

// the kernel's ring is read in its order, so this is how long one denial waits behind as many of others as there is room for
const RING_BYTES = 2 << 20; // DENIALS_BYTES in bpf/state.h
const full = Math.ceil((RING_BYTES / batch.length) * RECORDS);
const batches = [];
for (let left = full; left > 0; left -= RECORDS) batches.push(batchOf(Math.min(left, RECORDS), 1));
const delays = Array.from({ length: 30 }, () => {
  const from = performance.now();
  for (const each of batches) {
    const all = [];
    reader.open(each);
    while (reader.next()) all.push(FORMATS.belay(recordOf()));
    writeSync(fd, `${all.join('\n')}\n`);
  }
  return performance.now() - from;
}).sort((a, b) => a - b);
figure('a denial behind a full ring of others', `${full} records, ${delays[15].toFixed(0)} ms (longest ${delays[29].toFixed(0)} ms)`);

const file = join(directory, 'sink.jsonl');
const made = await makeSink(
  { name: 'bench', type: 'file', path: file, spoolMiB: 1024 },
  { node: 'worker-17', spool: join(directory, 'spool'), formats: FORMATS, onTrouble: () => {} },
);
const cpu = process.cpuUsage();
const begun = performance.now();
const rounds = 40;
for (let i = 0; i < rounds; i++) {
  reader.open(batch);
  while (reader.next()) made.write(recordOf());
  made.flush();
  await sleep(0);
}
while (made.stats.waiting > 0) await sleep(5);
const used = process.cpuUsage(cpu);
figure(
  'through a spool to a file, both on the disk',
  thousands({
    perSecond: (rounds * RECORDS * 1000) / (performance.now() - begun),
    perCore: (rounds * RECORDS * 1e6) / (used.user + used.system),
  }),
);
figure('dropped', made.stats.dropped);

// what the agent does for a client in another process; the client's own work is not counted
const events = new EventLog();
const socket = join(directory, 'belay.sock');
const serving = await serve({
  ...{ events, log: pino({ level: 'silent' }) },
  node: { health: () => ({ node: 'worker-17' }) },
  socket: { path: socket, peer: () => ({ uid: 0 }) },
});
const client = fork(fileURLToPath(new URL('watcher.mjs', import.meta.url)), [socket]);
let [had] = await once(client, 'message');
client.on('message', (message) => {
  had = message;
});
async function watched(rounds) {
  const wanted = had.records + rounds * RECORDS;
  for (let i = 0; i < rounds; i++) {
    reader.open(batch);
    while (reader.next()) events.append(recordOf());
    // no more than the log keeps: a client that is slower misses the rest, which is no figure of this
    while (had.records < wanted - (rounds - 1 - i) * RECORDS && had.missed === 0) await once(client, 'message');
  }
}
await watched(10);
const before = process.cpuUsage();
const start = performance.now();
await watched(rounds);
const spent = process.cpuUsage(before);
figure(
  'to a client over gRPC',
  thousands({
    perSecond: (rounds * RECORDS * 1000) / (performance.now() - start),
    perCore: (rounds * RECORDS * 1e6) / (spent.user + spent.system),
  }),
);
figure('missed by the client', had.missed);
client.kill();
await once(client, 'exit');
await serving.close();
await made.close();
closeSync(fd);
rmSync(directory, { recursive: true });
if (sink < 0) throw new Error('not to be optimised away');
