import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { BelayRecord } from '../../agent/event/record.js';
import { EventStream } from '../../agent/event/stream.js';
import { Throttle } from '../../agent/event/throttle.js';
import { enums, maps, structs } from '../../agent/kernel/abi.js';
import { BATCH_HEAD, loadAddon } from '../../agent/kernel/addon.js';
import type { Enforcer } from '../../agent/kernel/enforcer.js';
import type { Kernel } from '../../agent/kernel/kernel.js';
import { Counted } from '../../agent/kernel/untold.js';
import { Sink } from '../../agent/sink/sink.js';
import { Sinks } from '../../agent/sink/sinks.js';
import { NOTHING_REFUSED, type Transport } from '../../agent/sink/transport.js';

/** The agent does so much more before it is killed; then nothing. */
let left = Number.POSITIVE_INFINITY;
class Killed extends Error {}
const { step } = vi.hoisted(() => ({ step: { take: () => {} } }));
step.take = () => {
  if (--left <= 0) throw new Killed();
};
vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>();
  const killable =
    <A extends unknown[], R>(call: (...args: A) => R) =>
    (...args: A): R => {
      step.take();
      const result = call(...args);
      step.take();
      return result;
    };
  const [writeSync, ftruncateSync, truncateSync, unlinkSync] = [
    killable(fs.writeSync as (...args: unknown[]) => number),
    killable(fs.ftruncateSync),
    killable(fs.truncateSync),
    killable(fs.unlinkSync),
  ];
  return { ...fs, writeSync, ftruncateSync, truncateSync, unlinkSync };
});

const addon = loadAddon();
const W = structs.workload;
const F = structs.fold;
const E = structs.event;

/** What stays when an agent is killed: rings, and the maps' memory. As bpf/emit.h does with them. */
class Machine {
  readonly memory = {
    folds: new ArrayBuffer(maps.folds.entries * F.size),
    workloads: new ArrayBuffer(maps.workloads.entries * W.size),
    settings: new ArrayBuffer(structs.settings.size),
  };
  readonly rings = [1, 2, 3].map(() => ({ records: new Map<number, Buffer>(), read: 0, written: 0 }));
  readonly failures = new Map([[0, 0n]]);
  readonly produced = new Map<string, number>();

  #count(workload: number, more: number): void {
    this.produced.set(`w${workload}`, (this.produced.get(`w${workload}`) ?? 0) + more);
  }

  /** By default with names and arguments as short as they ever are; `age` in seconds. */
  happens(ring: number, workload: number, key: bigint, { names = 64, age = 0 } = {}): void {
    const bytes = Buffer.alloc(E.size + names);
    bytes.writeBigUInt64LE(BigInt(Date.now() - age * 1000) * 1_000_000n, E.fields.time.offset);
    bytes.writeBigUInt64LE(key, E.fields.fold_key.offset);
    bytes.writeBigUInt64LE(1n, E.fields.count.offset);
    bytes.writeUInt32LE(workload, E.fields.workload.offset);
    bytes[E.fields.operation.offset] = enums.operation[ring === 2 ? 'OPERATION_EXEC' : 'OPERATION_OPEN'];
    bytes[E.fields.verdict.offset] = ring === 0 ? 1 : 0;
    const to = this.rings[ring];
    to.records.set(to.written, bytes);
    to.written += 8 + bytes.length;
    this.#count(workload, 1);
  }

  repeats(slot: number, workload: number, key: bigint, count: number, rule = 0): void {
    const view = new DataView(this.memory.folds, slot * F.size);
    view.setBigUint64(F.fields.key.offset, key, true);
    view.setUint32(F.fields.workload.offset, workload, true);
    view.setUint32(F.fields.rule.offset, rule, true);
    const { offset } = F.fields.count;
    view.setBigUint64(offset, view.getBigUint64(offset, true) + BigInt(count), true);
    this.#count(workload, count);
  }

  loses(ring: number, workload: number, count: number): void {
    const view = new DataView(this.memory.workloads, workload * W.size);
    const at = W.fields.lost.offset + ring * 8;
    view.setBigUint64(at, view.getBigUint64(at, true) + BigInt(count), true);
    this.#count(workload, count);
  }
}

/** The addon's part, which can be killed between any two steps. */
class KernelOf {
  readonly #machine: Machine;
  readonly counted: Counted;
  readonly bootTime = 0n;
  readonly #readsEveryMs: number;
  #onBatch: Parameters<Kernel['read']>[0] = () => {};
  #timer: NodeJS.Timeout | undefined;

  constructor(machine: Machine, readsEveryMs = 50) {
    this.#readsEveryMs = readsEveryMs;
    this.#machine = machine;
    const change = (memory: Uint8Array, offset: number, to: (before: bigint) => bigint) => {
      step.take();
      const view = new DataView(memory.buffer);
      view.setBigUint64(offset, BigInt.asUintN(64, to(view.getBigUint64(offset, true))), true);
      step.take();
    };
    this.counted = new Counted(
      {
        store64: (memory, offset, value) => change(memory, offset, () => value),
        add64: (memory, offset, more) => change(memory, offset, (before) => before + more),
        differing: addon.differing,
      },
      { ...machine.memory, failures: () => machine.failures },
    );
  }

  mapId = () => 9;
  takeMissed = () => 0;
  retirePrevious = async () => undefined;
  ringPositions = () => this.#machine.rings.map(({ read, written }) => [read, written] as const);

  read(onBatch: Parameters<Kernel['read']>[0]): void {
    this.#onBatch = onBatch;
    this.#timer = setInterval(() => this.drain(), this.#readsEveryMs);
  }

  stopReading(): void {
    clearInterval(this.#timer);
    this.drain();
  }

  drain(): void {
    const parts: Buffer[] = [];
    this.#machine.rings.forEach(({ records, read }, ring) => {
      for (const [at, bytes] of records) {
        if (at < read) continue;
        const head = Buffer.alloc(BATCH_HEAD);
        head.writeUInt32LE(ring, 0);
        head.writeUInt32LE(bytes.length, 4);
        head.writeBigUInt64LE(BigInt(at), 8);
        parts.push(head, bytes);
      }
    });
    if (parts.length === 0) return;
    this.#onBatch(Buffer.concat(parts), [1, 2, 3]);
    for (const ring of this.#machine.rings) {
      step.take();
      ring.read = ring.written;
    }
  }
}

/** A peer and what it has, each once: how many events, by workload. */
class Peer {
  readonly #counts = new Map<string, readonly [workload: string, count: number, type: string]>();

  take(payload: Buffer): void {
    const { id, pod, count, lost, type } = JSON.parse(payload.toString());
    if (type === 'failure') this.#counts.set(id, ['failures', Number(count), type]);
    else this.#counts.set(id, [pod, Number((type === 'gap' ? lost : count) ?? 0), type]);
  }

  sums(): Map<string, number> {
    const sums = new Map<string, number>();
    for (const [workload, count] of this.#counts.values())
      sums.set(workload, (sums.get(workload) ?? 0) + count);
    return sums;
  }

  get alerts(): number {
    return this.of('alert');
  }

  of(type: string): number {
    return [...this.#counts.values()].filter(([, , each]) => each === type).length;
  }
}

/** One agent's life; sinks are given what they have room for. */
class Agent {
  readonly sinks: Sinks;
  readonly stream: EventStream;
  readonly drain: () => void;
  readonly #sinks: Sink[];

  constructor(
    machine: Machine,
    directory: string,
    peers: readonly Peer[],
    { delivers, throttle }: { readonly delivers: boolean; readonly throttle?: Throttle },
  ) {
    const transportOf = (peer: Peer): Transport => ({
      ...{ maxEntries: 100, maxBytes: 1 << 20, gatherMs: 0 },
      encode: (record) => {
        step.take();
        return JSON.stringify(record);
      },
      async send(entries) {
        // one that is killed later has not finished
        if (!delivers) return new Promise(() => {});
        for (const { payload } of entries) peer.take(payload);
        return NOTHING_REFUSED;
      },
      close: async () => {},
    });
    this.#sinks = peers.map(
      (peer, at) =>
        new Sink({
          ...{ name: `s${at}`, node: 'n', filter: {}, transport: transportOf(peer) },
          // the second has room for a few
          ...{ directory: join(directory, `s${at}`), maxBytes: at === 0 ? 4 << 20 : 24 << 10 },
        }),
    );
    this.sinks = new Sinks(this.#sinks);
    const attribute = (id: number) => ({
      workload: { namespace: 'shop', name: `w${id}`, container: 'c' },
      rule: undefined,
    });
    const kernel = new KernelOf(machine);
    this.drain = () => kernel.drain();
    this.stream = new EventStream(
      kernel as unknown as Kernel,
      { attribute } as unknown as Enforcer,
      { node: 'n', cluster: 'c' },
      {
        write: (record, position) => {
          step.take();
          this.sinks.write(record, position);
        },
        withhold: (alert, position) => {
          step.take();
          this.sinks.withhold(alert, position);
        },
        keep: () => this.sinks.flush(),
      },
      throttle,
    );
  }

  tick(): void {
    for (const sink of this.#sinks) sink.tick();
  }

  delivered(): boolean {
    return this.sinks.stats.every(({ waiting, untold }) => waiting === 0 && untold === 0);
  }
}

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'belay-stream-'));
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'setImmediate'] });
});
afterEach(() => {
  left = Number.POSITIVE_INFINITY;
  vi.useRealTimers();
  rmSync(directory, { recursive: true, force: true });
});

/** What happens, whoever is there to tell of it. */
const STORY: readonly ((machine: Machine) => void)[] = [
  (machine) => {
    for (let i = 0; i < 12; i++) machine.happens([0, 1, 0, 2][i % 4], 1 + (i % 2), BigInt(100 + i));
    machine.repeats(5, 1, 100n, 5);
    machine.repeats(900, 2, 77n, 4);
    machine.loses(0, 1, 7);
    machine.failures.set(0, 3n);
  },
  (machine) => {
    for (let i = 0; i < 4; i++) machine.happens(i < 3 ? 0 : 2, 2, BigInt(200 + i));
    machine.repeats(5, 1, 100n, 6);
    machine.loses(1, 2, 2);
    machine.failures.set(0, 4n);
  },
];

/** @returns whether it was killed */
function live(agent: () => Agent, story: () => void): boolean {
  try {
    const { stream } = agent();
    void stream.start();
    vi.advanceTimersByTime(500);
    story();
    vi.advanceTimersByTime(500);
  } catch (error) {
    if (!(error instanceof Killed)) throw error;
  } finally {
    vi.clearAllTimers();
  }
  return left <= 0;
}

test.each([
  ['', undefined],
  [', and alerts throttled', { alertsPerSecond: 1, seconds: 60 }],
])(
  'whenever an agent is killed, each workload’s events are told or counted, exactly%s',
  {
    timeout: 120_000,
  },
  async (_, limits) => {
    const throttle = () => limits && new Throttle(limits);
    let kills = 0;
    let toldLess = false;
    for (let at = 1; ; at++) {
      const machine = new Machine();
      const here = join(directory, String(at));
      const peers = [new Peer(), new Peer()];
      let told = 0;
      STORY[told++](machine);
      const more = () => STORY[told++]?.(machine);
      left = at;
      const killed = live(
        () => new Agent(machine, here, peers, { delivers: false, throttle: throttle() }),
        more,
      );
      // and the next one somewhere else
      left = 1 + ((at * 7) % 50);
      live(() => new Agent(machine, here, peers, { delivers: false, throttle: throttle() }), more);
      left = Number.POSITIVE_INFINITY;
      const last: Agent[] = [];
      live(() => {
        last.push(new Agent(machine, here, peers, { delivers: true, throttle: throttle() }));
        return last[0];
      }, more);
      const [agent] = last;
      // what was held back is told of at the end
      if (limits) agent.stream.close();
      await vi.waitFor(
        () => {
          agent.tick();
          expect(agent.delivered()).toBe(true);
        },
        { timeout: 5000, interval: 2 },
      );
      if (!limits) agent.stream.close();
      await agent.sinks.close();
      for (const peer of peers) {
        const sums = peer.sums();
        expect(sums.get('failures'), `killed at step ${at}`).toBe(4);
        sums.delete('failures');
        expect(sums, `killed at step ${at}`).toEqual(machine.produced);
      }
      toldLess ||= limits ? peers[0].of('throttle') > 0 : peers[1].alerts < peers[0].alerts;
      if (!killed) break;
      kills++;
    }
    // it was killed in all there is to do, and there was not room for all
    expect(kills).toBeGreaterThan(100);
    expect(toldLess).toBe(true);
  },
);

test('a container that has too many alerts is named once, and then by how many there were, to each sink by its filter', async () => {
  const machine = new Machine();
  for (let i = 0; i < 5; i++) machine.happens(0, 1, BigInt(i + 1));
  machine.happens(0, 2, 9n);
  machine.repeats(3, 1, 1n, 40);
  const throttle = new Throttle({ alertsPerSecond: 2, seconds: 60 });
  const peer = new Peer();
  const agent = new Agent(machine, directory, [peer], { delivers: true, throttle });
  await agent.stream.start();
  agent.drain();
  agent.tick();
  await vi.waitFor(() =>
    expect(peer.sums()).toEqual(
      new Map([
        ['w1', 2],
        ['w2', 1],
      ]),
    ),
  );
  expect([peer.of('alert'), peer.of('throttle'), peer.of('gap')]).toEqual([3, 1, 0]);
  throttle.limits = undefined;
  vi.advanceTimersByTime(500);
  agent.tick();
  await vi.waitFor(() => expect(peer.sums()).toEqual(machine.produced));
  expect([peer.of('alert'), peer.of('throttle'), peer.of('gap')]).toEqual([3, 1, 1]);
  agent.stream.close();
  await agent.sinks.close();
});

test('a record that cannot be one is told of as a failure, and takes none of the others with it', async () => {
  const machine = new Machine();
  machine.happens(0, 1, 1n);
  machine.rings[0].records.set(machine.rings[0].written, Buffer.alloc(8));
  machine.rings[0].written += 16;
  machine.happens(0, 1, 2n);
  const peer = new Peer();
  const agent = new Agent(machine, directory, [peer], { delivers: true });
  await agent.stream.start();
  agent.drain();
  await vi.waitFor(() => {
    agent.tick();
    expect(agent.delivered()).toBe(true);
  });
  expect(Object.fromEntries(peer.sums())).toEqual({ w1: 2, failures: 1 });
  agent.stream.close();
  await agent.sinks.close();
});

test('a denial behind as many of another workload’s as find room in the ring is told within a second', {
  timeout: 120_000,
}, async () => {
  vi.useRealTimers();
  const machine = new Machine();
  const peer = new Peer();
  const agent = new Agent(machine, directory, [peer], { delivers: true });
  await agent.stream.start();
  const times: number[] = [];
  for (let round = 1; round <= 3; round++) {
    const { written } = machine.rings[0];
    // a workload holds half of the ring at most
    for (let i = 0; machine.rings[0].written - written < 1 << 20; i++) machine.happens(0, 1, BigInt(i));
    machine.happens(0, 2, 1n << 40n);
    // of the processor's time, since others may be using it too
    const begun = process.cpuUsage();
    agent.drain();
    await vi.waitFor(() => expect(peer.sums().get('w2')).toBe(round), { timeout: 30_000, interval: 20 });
    const { user, system } = process.cpuUsage(begun);
    times.push((user + system) / 1e6);
  }
  // the first ones warm up what an agent that has run for a while has warm
  expect(times.at(-1), `${times}`).toBeLessThan(1);
  agent.stream.close();
  await agent.sinks.close();
  expect(peer.sums()).toEqual(machine.produced);
});

/** What an agent that only reads is told of repeats: `key: count`, or `folded: count` when their first report is not kept. */
async function repeatsOf(machine: Machine, repeats: () => void, readsEveryMs?: number): Promise<string[]> {
  const told: BelayRecord[] = [];
  const kernel = new KernelOf(machine, readsEveryMs);
  const attribute = () => ({ workload: undefined, rule: undefined });
  const write = (record: BelayRecord) => told.push(record);
  const enforcer = { attribute } as unknown as Enforcer;
  const stream = new EventStream(
    kernel as unknown as Kernel,
    enforcer,
    { node: 'n', cluster: 'c' },
    { write, keep: () => {} },
  );
  await stream.start();
  kernel.drain();
  vi.advanceTimersByTime(500);
  repeats();
  told.length = 0;
  vi.advanceTimersByTime(500);
  stream.close();
  return told.map((record) => (record.type === 'gap' ? `${record.ring}: ${record.lost}` : record.type));
}

test.each([0, 2])('of ring %i, first reports are kept within so many bytes, the newest', async (ring) => {
  const machine = new Machine();
  // some 40 MiB
  for (let key = 1n; key <= 10_000n; key++) machine.happens(ring, 1, key, { names: 4096 });
  const rule = ring === 2 ? enums.built_in_rule.RULE_NONE : 0;
  const told = await repeatsOf(machine, () => {
    machine.repeats(1, 1, 1n, 5, rule);
    machine.repeats(2, 1, 7000n, 6, rule);
    machine.repeats(3, 1, 10_000n, 7, rule);
  });
  expect(told).toEqual(['folded: 5', ring === 2 ? 'exec' : 'alert', ring === 2 ? 'exec' : 'alert']);
});

test('repeats of what waits to be read are told after it', async () => {
  const machine = new Machine();
  const repeats = () => {
    machine.happens(0, 1, 1n);
    machine.repeats(1, 1, 1n, 5);
  };
  expect(await repeatsOf(machine, repeats, 10_000)).toEqual(['alert', 'alert']);
});

test('repeats of alerts wait neither for telemetry nor once their first report has been read', async () => {
  const machine = new Machine();
  machine.happens(0, 1, 1n);
  const repeats = () => {
    machine.happens(2, 2, 9n);
    machine.happens(0, 1, 2n);
    machine.repeats(1, 1, 1n, 5);
  };
  // the repeats, before what is read at the end
  expect(await repeatsOf(machine, repeats, 10_000)).toEqual(['alert', 'alert', 'exec']);
  expect(machine.produced).toEqual(
    new Map([
      ['w1', 7],
      ['w2', 1],
    ]),
  );
});

test('a first report whose repeats have been told long ago is kept no longer', async () => {
  const machine = new Machine();
  machine.happens(0, 1, 1n, { age: 10 });
  machine.happens(0, 1, 2n, { age: 2 });
  const told = await repeatsOf(machine, () => {
    machine.repeats(1, 1, 1n, 5);
    machine.repeats(2, 1, 2n, 6);
  });
  expect(told).toEqual(['folded: 5', 'alert']);
});
