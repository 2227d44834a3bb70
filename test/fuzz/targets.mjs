// What is fuzzed in TypeScript, and what it promises whatever it is given. `check` throws where a promise is broken.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { EventStream } from '../../dist/event/stream.js';
import { enums, maps, structs } from '../../dist/kernel/abi.js';
import { BATCH_HEAD, loadAddon } from '../../dist/kernel/addon.js';
import { Arena, ArenaFull } from '../../dist/kernel/arena.js';
import { OnDemand } from '../../dist/kernel/on-demand.js';
import { Checker } from '../../dist/policy/check.js';
import { compile } from '../../dist/policy/compile.js';
import { keepLastGood } from '../../dist/policy/last-good.js';
import { readPolicies } from '../../dist/policy/read.js';
import { decodePolicyFile } from '../../dist/policy/source.js';
import { FORMATS } from '../../dist/sink/formats/format.js';
import { readWorkloads } from '../../dist/workload/file.js';
import { batchOf } from '../bench/recorded.mjs';

const root = new URL('../../', import.meta.url);
const BLOCK = { file: 'block', network: 'block', capabilities: 'block' };

function files(directory) {
  const url = new URL(`${directory}/`, root);
  return existsSync(url) ? readdirSync(url).sort().map((name) => readFileSync(new URL(name, url))) : [];
}

/** The inputs to begin with: those that are kept, what else there is of the kind, and what was found before. */
export function corpus(name, grown) {
  const kept = [...files(`test/fuzz/corpus/${name}`), ...(targets[name].also?.() ?? [])];
  return grown ? [...kept, ...files(`build/fuzz/corpus/${name}`)] : kept;
}

/** Every diagnostic is in the text. */
function checkPlaces(bytes, diagnostics) {
  const lines = new TextDecoder().decode(bytes).split('\n');
  for (const { at, message } of diagnostics) {
    const line = lines[at.line - 1];
    assert(line !== undefined && at.column >= 1 && at.column <= line.length + 1, `${at.line}:${at.column}: ${message}`);
    assert(!/[\p{Cc}\p{Zl}\p{Zp}]/u.test(message) && message !== '', `${at.line}:${at.column} ${JSON.stringify(message)}`);
  }
}

const errors = (diagnostics) => diagnostics.filter(({ severity }) => severity === 'error');
const identity = ({ kind, namespace, name }) => `${kind}/${namespace}/${name}`;
const examples = () => files('deploy/examples');
const good = examples().flatMap((bytes) => readPolicies(bytes.toString(), 'good').policies);

/** `belay check`, and a directory of policies in force whose text becomes this. */
function policies(bytes) {
  const checker = new Checker();
  checker.add(bytes, 'fuzz');
  const checked = checker.finish();
  checkPlaces(bytes, checked.diagnostics);
  assert.equal(checked.errors, errors(checked.diagnostics).length);
  const decoded = decodePolicyFile(bytes, 'fuzz');
  if ('fault' in decoded) return;
  const read = readPolicies(decoded.text, 'fuzz');
  const { policies: kept, diagnostics } = keepLastGood(read, good, BLOCK);
  checkPlaces(bytes, diagnostics);
  for (const policy of kept) assert(good.includes(policy) || read.policies.includes(policy));
  if (errors(diagnostics).length === 0) assert.deepEqual(kept, read.policies);
  const names = new Set(kept.map(identity));
  if (errors(read.diagnostics).length > 0) for (const before of good) assert(names.has(identity(before)));
}

function workloads(bytes) {
  const decoded = decodePolicyFile(bytes, 'fuzz');
  if ('fault' in decoded) return checkPlaces(bytes, [decoded.fault]);
  const read = readWorkloads(decoded.text, 'fuzz');
  checkPlaces(bytes, read.diagnostics);
  for (const { cgroup, name, container } of read.workloads) assert(cgroup.startsWith('/') && name && container);
}

/** Nothing is enforced here: the stream's other end. */
const enforcer = { attribute: () => ({ workload: undefined, rule: undefined }) };

/** A batch as the addon hands it over, through the stream into every format. */
function events(bytes) {
  const records = [];
  let take;
  const kernel = {
    bootTime: 0n,
    counted: { sweep: () => [], told() {} },
    mapId: () => 1,
    read: (onBatch) => (take = onBatch),
    retirePrevious: async () => undefined,
    ringPositions: () => [],
    stopReading() {},
    takeMissed: () => 0,
  };
  const told = { write: (record) => records.push(record), keep() {} };
  const stream = new EventStream(kernel, enforcer, { node: 'n', cluster: 'c' }, told);
  stream.start();
  try {
    take(Buffer.from(bytes), [1, 2, 3]);
  } finally {
    stream.close();
  }
  for (const record of records) {
    for (const [name, format] of Object.entries(FORMATS)) {
      const line = format(record);
      assert(!/[\0-\x1f\x7f]/.test(line), `${name}: ${JSON.stringify(line)}`);
      if (name !== 'cef') JSON.parse(line);
    }
  }
}

let addon;

/** Bytes as tables for the addon, and as places in its memory. */
function loader(bytes) {
  addon ??= loadAddon();
  const { DOMAIN_COUNT } = enums.domain;
  const name = bytes.subarray(0, 16);
  // a view that begins anywhere
  const tables = new Uint8Array(bytes.length + 3).subarray(3);
  tables.set(bytes);
  addon.subjectClass(tables, name);
  for (let domain = 0; domain < DOMAIN_COUNT; domain++) {
    for (let decide = 0; decide < enums.decide.DECIDE_COUNT; decide++) {
      const answer = addon.judge(tables, domain, decide === 0 ? null : name, [0, 1, 65535, 2], decide, 0);
      for (const rule of answer.slice(6)) addon.argumentsListed(tables, rule, name);
    }
  }
  const memory = new Uint8Array(64);
  const words = new DataView(new ArrayBuffer(64));
  Buffer.from(words.buffer).set(bytes.subarray(-64));
  const offset = words.getInt8(0);
  for (const change of [addon.store64, addon.add64]) {
    const inside = offset >= 0 && offset <= 56 && offset % 8 === 0;
    if (inside) change(memory, offset, 1n);
    else assert.throws(() => change(memory, offset, 1n), RangeError);
  }
  const size = words.getUint8(1);
  if (size >= 8 && size % 8 === 0 && offset >= 0 && offset <= size - 8 && offset % 8 === 0)
    addon.differing(tables, size, offset);
  else assert.throws(() => addon.differing(tables, size, offset), RangeError);
  adopt(Buffer.concat([bytes, Buffer.alloc(structs.set_header.size)]), words);
}

/** As an agent finds them that starts where another left tables in force, here at four places of such sizes. */
function adopt(tables, words) {
  const arena = new Arena(maps.arena.valueSize);
  const onDemand = new OnDemand({ attachOne() {}, detachOne() {} });
  const places = [0, 1, 2, 3].map((i) => ({
    offset: words.getUint32(i * 8, true) % maps.arena.valueSize & ~4095,
    size: i === 0 ? tables.readUInt32LE(structs.set_header.fields.size.offset) : words.getUint32(i * 8 + 4, true),
  }));
  // 0 is no tables
  for (const { offset, size } of places.filter((place) => place.offset > 0)) {
    arena.adopt(offset, size);
    onDemand.hold(offset, tables);
  }
  try {
    const fresh = arena.take(8192);
    assert(fresh > 0 && fresh + 8192 <= maps.arena.valueSize);
    const first = new Map(places.filter((place) => place.offset > 0).toReversed().map((place) => [place.offset, place.size]));
    for (const [offset, size] of first) assert(fresh >= offset + size || fresh + 8192 <= offset, `${fresh} ${offset} ${size}`);
  } catch (error) {
    if (!(error instanceof ArenaFull)) throw error;
  }
}

const compiled = () =>
  good.map((policy) => compile([policy], BLOCK)).map(({ set }) => Buffer.from(set.bytes)).filter((b) => b.length < 8192);

const HEAD = BATCH_HEAD + structs.event.size;

/** A record of each operation. */
function batches() {
  return Object.values(enums.operation).map((operation, i) => {
    const batch = batchOf(10, 4).subarray(0);
    let at = 0;
    for (let k = i % 10; k > 0; k--) at += BATCH_HEAD + ((batch.readUInt32LE(at + 4) + 7) & ~7);
    const one = Buffer.from(batch.subarray(at, at + BATCH_HEAD + ((batch.readUInt32LE(at + 4) + 7) & ~7)));
    one[BATCH_HEAD + structs.event.fields.operation.offset] = operation;
    return one;
  });
}

export const targets = {
  events: { check: events, most: 4 * HEAD + 4096, words: ['/proc/1/mem', '\0', '\n', '\u2028', '=|\\'], also: batches },
  loader: { check: loader, native: true, most: 16384, words: ['bel1'], also: compiled },
  policies: { check: policies, most: 1 << 17, words: ['&a', '*a', '<<: *a', '---\n', '!!binary', '|\n', '"', "'", '\u{1f600}'], also: examples },
  workloads: { check: workloads, most: 1 << 17, words: ['&a', '*a', '<<: *a', '---\n', '? ', '"', "'"] },
};
