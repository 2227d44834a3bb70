// Fuzzes a target of targets.mjs, guided by V8's own count of what has run: an input that reaches code which none before it
// reached is kept, and changed further. The first that breaks its target's promise is written down, and ends the run.
//
//     node test/fuzz/fuzz.mjs TARGET SECONDS [SEED]   with a seed only from what is kept in the tree, and nothing is left behind
//     node test/fuzz/fuzz.mjs TARGET FILE...          tries these only
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { Session } from 'node:inspector';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { corpus, targets } from './targets.mjs';

/** A run may take so much of the processor's time, ms. */
const SLOW_MS = 10_000;
/** One that takes so much has no end. */
const ENDLESS_MS = 60_000;

const found = (name) => new URL(`../../build/fuzz/found/${name}/`, import.meta.url);

function keep(directory, bytes, as = createHash('sha256').update(bytes).digest('hex').slice(0, 16)) {
  mkdirSync(directory, { recursive: true });
  const file = new URL(as, directory);
  writeFileSync(file, bytes);
  return file.pathname;
}

/** Of the processor's time since then, since others may be using it too; ms. */
function spent(before) {
  const { user, system } = process.cpuUsage(before);
  return Math.round((user + system) / 1000);
}

/** The loop of one that does not come back is stopped from beside it. */
function watch({ name, state, input }) {
  for (;;) {
    const run = Atomics.load(state, 0);
    const begun = process.cpuUsage();
    do Atomics.wait(state, 0, run, 1000);
    while (Atomics.load(state, 0) === run && (run === 0 || spent(begun) < ENDLESS_MS));
    if (Atomics.load(state, 0) !== run) continue;
    writeSync(2, `${name}: ${keep(found(name), input.slice(0, state[1]))}\nno end within ${ENDLESS_MS} ms\n`);
    process.kill(process.pid, 'SIGKILL');
  }
}

/** Runs one input. @throws what is wrong */
function attempt(target, bytes) {
  const before = process.cpuUsage();
  target.check(bytes);
  const ms = spent(before);
  if (ms > SLOW_MS) throw new Error(`took ${ms} ms`);
}

/** What of the code has run, byte by byte of its text. */
class Coverage {
  #session = new Session();
  #seen = new Map();

  constructor() {
    this.#session.connect();
    this.#ask('Profiler.enable');
    this.#ask('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  #ask(method, parameters) {
    let answer;
    this.#session.post(method, parameters, (error, result) => {
      if (error) throw new Error(error.message);
      answer = result;
    });
    return answer;
  }

  /** Since it was asked before; by file. */
  take() {
    const ran = new Map();
    for (const { url, functions } of this.#ask('Profiler.takePreciseCoverage').result) {
      if (!url.startsWith('file:') || !url.includes('/dist/')) continue;
      const ranges = functions.flatMap((f) => f.ranges);
      const bytes = new Uint8Array(ranges.reduce((most, { endOffset }) => Math.max(most, endOffset), 0));
      // inner ones come after those around them
      for (const { startOffset, endOffset, count } of ranges) bytes.fill(count > 0 ? 1 : 0, startOffset, endOffset);
      ran.set(url, bytes);
    }
    return ran;
  }

  isNew(ran) {
    for (const [url, bytes] of ran) {
      const seen = this.#seen.get(url) ?? [];
      for (let i = 0; i < bytes.length; i++) if (bytes[i] && !seen[i]) return true;
    }
    return false;
  }

  add(ran) {
    for (const [url, bytes] of ran) {
      const seen = this.#seen.get(url) ?? new Uint8Array();
      const all = new Uint8Array(Math.max(bytes.length, seen.length));
      all.set(seen);
      for (let i = 0; i < bytes.length; i++) all[i] |= bytes[i];
      this.#seen.set(url, all);
    }
  }
}

/** Marsaglia's xorshift32. */
function randomFrom(seed) {
  let x = seed | 0 || 1;
  return (below) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
}

const NUMBERS = [0, 1, 2, 7, 8, 16, 127, 128, 255, 256, 4095, 4096, 32767, 65535, 0x7fffffff, 0x80000000, 0xffffffff];

/** Changes of bytes; each is given what there is, and answers with what there is then. */
function mutations(random, inputs, words) {
  const at = (b) => random(b.length + 1);
  const part = (b) => {
    const start = at(b);
    return b.subarray(start, start + 1 + random(Math.min(64, b.length + 1)));
  };
  const insert = (b, more, where = at(b)) => Buffer.concat([b.subarray(0, where), more, b.subarray(where)]);
  const remove = (b, start, length) => Buffer.concat([b.subarray(0, start), b.subarray(start + length)]);
  const changed = (b, change) => {
    const copy = Buffer.from(b);
    if (copy.length > 0) change(copy, random(copy.length));
    return copy;
  };
  const lines = (b, change) => {
    const all = b.toString('latin1').split('\n');
    change(all, random(all.length));
    return Buffer.from(all.join('\n'), 'latin1');
  };
  const other = () => inputs[random(inputs.length)];
  const word = () => Buffer.from(words[random(words.length)]);
  return [
    (b) => changed(b, (c, i) => (c[i] ^= 1 << random(8))),
    (b) => changed(b, (c, i) => (c[i] = random(256))),
    (b) =>
      changed(b, (c, i) => {
        const width = Math.min([1, 2, 4][random(3)], c.length - i);
        c.writeUIntLE(NUMBERS[random(NUMBERS.length)] % 2 ** (8 * width), i, width);
      }),
    (b) => remove(b, at(b), 1 + random(Math.min(64, b.length + 1))),
    (b) => b.subarray(0, at(b)),
    (b) => insert(b, Buffer.from([random(256)])),
    (b) => insert(b, part(b)),
    (b) => insert(b, part(other())),
    (b) => Buffer.concat([b.subarray(0, at(b)), other().subarray(at(other()))]),
    (b) => insert(b, word()),
    (b) => {
      const start = at(b);
      return insert(remove(b, start, random(12)), word(), start);
    },
    (b) => lines(b, (all, i) => all.splice(i, 1)),
    (b) => lines(b, (all, i) => all.splice(random(all.length), 0, all[i])),
    (b) => lines(b, (all, i) => (all[i] = ' '.repeat(random(8)) + all[i].trimStart())),
    (b) => lines(b, (all, i) => all.splice(i, 0, ...other().toString('latin1').split('\n').slice(0, 1 + random(9)))),
    (b) => (random(16) ? b : insert(b, Buffer.alloc(1 << (6 + random(12)), Buffer.concat([part(b), Buffer.from(' ')])))),
  ];
}

function fuzz(name, seconds, seed) {
  const target = targets[name];
  const inputs = [];
  const state = new Int32Array(new SharedArrayBuffer(8));
  const input = new Uint8Array(new SharedArrayBuffer(target.most));
  new Worker(new URL(import.meta.url), { workerData: { name, state, input } }).unref();
  let runs = 0;
  const tryOne = (bytes) => {
    input.set(bytes);
    state[1] = bytes.length;
    Atomics.store(state, 0, ++runs);
    // what the sanitizers stop has no other way to say at what
    if (target.native) keep(found(name), bytes, 'last');
    try {
      attempt(target, bytes);
    } catch (error) {
      console.error(`${name}: ${keep(found(name), bytes)}\n`, error);
      process.exit(1);
    }
  };
  const coverage = new Coverage();
  const random = randomFrom(seed ?? Date.now());
  for (const bytes of corpus(name, seed === undefined)) {
    tryOne(bytes);
    inputs.push(bytes);
  }
  coverage.add(coverage.take());
  const words = [...new Set([...inputs.flatMap((b) => b.toString('latin1').split(/[^\w./*-]+/)), ...target.words])];
  const ways = mutations(random, inputs, words);
  const given = inputs.length;
  const end = Date.now() + seconds * 1000;
  // as many at a time that looking at the coverage takes no longer than they do
  for (let many = 1; Date.now() < end; ) {
    const start = performance.now();
    const batch = Array.from({ length: many }, () => {
      let bytes = inputs[random(2) ? random(inputs.length) : inputs.length - 1 - random(Math.min(16, inputs.length))];
      for (let n = 1 + random(5); n > 0; n--) bytes = ways[random(ways.length)](bytes).subarray(0, target.most);
      return bytes;
    });
    for (const bytes of batch) tryOne(bytes);
    const middle = performance.now();
    const all = coverage.take();
    const fresh = coverage.isNew(all);
    const [ran, looked] = [middle - start, performance.now() - middle];
    many = Math.max(1, Math.min(256, ran < looked ? many * 2 : many >> 1));
    if (!fresh) continue;
    for (const bytes of batch) {
      tryOne(bytes);
      const one = coverage.take();
      if (!coverage.isNew(one)) continue;
      coverage.add(one);
      inputs.push(bytes);
    }
    coverage.add(all);
  }
  Atomics.store(state, 0, 0);
  if (target.native) rmSync(new URL('last', found(name)));
  if (seed === undefined)
    for (const bytes of inputs.slice(given)) keep(new URL(`../../build/fuzz/corpus/${name}/`, import.meta.url), bytes);
  console.log(`${name}: ${seconds} s, runs: ${runs}; ${inputs.length - given} inputs reach more`);
}

if (!isMainThread) watch(workerData);
else {
  const [name, first, ...rest] = process.argv.slice(2);
  if (/^\d+$/.test(first)) fuzz(name, Number(first), rest.length > 0 ? Number(rest[0]) : undefined);
  else for (const file of [first, ...rest]) attempt(targets[name], readFileSync(file));
}
