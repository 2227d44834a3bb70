import { enums, maps, structs } from './abi.js';
import type { Addon } from './addon.js';

const F = structs.fold;
const W = structs.workload;
const S = structs.settings.fields;
/** Where events are lost: the rings, and LOST_TO_OTHERS. */
const LOSSES = enums.ring.LOST_TO_OTHERS + 1;
/** FOLD_CLAIMED of bpf/event.h. */
export const CLAIMED = 1n << 63n;
/** Whatever a sweep tells of has a place of its own in it, in this order: repeats, what was lost, failures. */
const LOST_AT = maps.folds.entries;
const FAILURES_AT = LOST_AT + maps.workloads.entries * LOSSES;
const PLACES = 1 << 16;

/** Of an event that was told: RULE_NONE is telemetry. */
export interface Repeats {
  readonly key: bigint;
  readonly workload: number;
  readonly rule: number;
  readonly count: bigint;
}

/** So many of something that were counted in the kernel. */
export type Untold = {
  readonly count: bigint;
  /** The same if it is told again, and more than that of all before it. */
  readonly at: number;
} & (
  | ({ readonly kind: 'repeats' } & Repeats)
  | { readonly kind: 'lost'; readonly workload: number; readonly ring: number }
  | { readonly kind: 'failure'; readonly failure: number }
);

/** The values of maps, in memory shared with the programs. */
export interface CountedIn {
  readonly folds: ArrayBuffer;
  readonly workloads: ArrayBuffer;
  readonly settings: ArrayBuffer;
  /** By enum failure. */
  readonly failures: () => ReadonlyMap<number, bigint>;
}

/**
 * What was counted in the kernel instead of told at once, told in sweeps: how many of what a sweep tells is written down in
 * the maps before, and taken away after it has been told. An agent that finds a sweep that was not finished tells exactly
 * the same once more, by the same numbers, so that who has been told can know.
 *
 *     for (const untold of counted.sweep(now, window)) tell(untold);
 *     counted.told();
 */
export class Counted {
  readonly #in: CountedIn;
  readonly #addon: Pick<Addon, 'add64' | 'store64' | 'differing'>;
  readonly #folds: DataView;
  readonly #workloads: DataView;
  readonly #settings: DataView;
  #recovered = false;
  #telling: readonly Untold[] = [];

  constructor(addon: Pick<Addon, 'add64' | 'store64' | 'differing'>, counted: CountedIn) {
    this.#addon = addon;
    this.#in = counted;
    this.#folds = new DataView(counted.folds);
    this.#workloads = new DataView(counted.workloads);
    this.#settings = new DataView(counted.settings);
  }

  /**
   * What is to be told now: of repeats, those whose window has ended.
   * @param now CLOCK_BOOTTIME, ns
   * @param waits whether repeats from so long ago are still to wait for their first report
   */
  sweep(
    now: bigint,
    windowNs: bigint,
    waits: (key: bigint, rule: number, since: bigint) => boolean,
  ): readonly Untold[] {
    if (this.#recovered) this.#telling = [];
    else this.#telling = this.#unfinished();
    this.#recovered = true;
    if (this.#telling.length === 0) this.#telling = this.#begin(now - windowNs, waits);
    return this.#telling;
  }

  /** What the last sweep gave has been told. */
  told(): void {
    for (const untold of this.#telling) {
      const { at, count } = untold;
      if (untold.kind === 'repeats') this.#release(at % PLACES, count);
      else if (untold.kind === 'lost') {
        const told = this.#lostAt(untold.workload, untold.ring, 'told');
        this.#addon.add64(new Uint8Array(this.#in.workloads), told, count);
      } else {
        const told = S.failures_told.offset + untold.failure * 8;
        this.#addon.add64(new Uint8Array(this.#in.settings), told, count);
      }
    }
    this.#telling = [];
  }

  #begin(before: bigint, waits: Parameters<Counted['sweep']>[2]): readonly Untold[] {
    const { count } = F.fields;
    const repeats = this.#addon
      .differing(new Uint8Array(this.#in.folds), F.size, count.offset)
      .filter((slot) => {
        const since = this.#fold(slot, 'since');
        return since <= before && !waits(this.#fold(slot, 'key'), this.#foldOf(slot, 'rule'), since);
      });
    const lost = this.#differing('lost');
    const failures = [...this.#in.failures()].filter(
      ([failure, sum]) => sum > this.#failure(failure, 'told'),
    );
    if (repeats.length + lost.length + failures.length === 0) return [];
    // first, so that what is found written down is always this sweep's
    this.#store(this.#in.settings, S.sweep.offset, this.#settings.getBigUint64(S.sweep.offset, true) + 1n);
    for (const slot of repeats)
      this.#addon.add64(new Uint8Array(this.#in.folds), slot * F.size + F.fields.count.offset, CLAIMED);
    for (const [workload, ring] of lost) {
      const sum = this.#workloads.getBigUint64(this.#lostAt(workload, ring, 'lost'), true);
      this.#store(this.#in.workloads, this.#lostAt(workload, ring, 'telling'), sum);
    }
    for (const [failure, sum] of failures)
      this.#store(this.#in.settings, S.failures_telling.offset + failure * 8, sum);
    return this.#unfinished(repeats);
  }

  /**
   * What is written down of the present sweep.
   * @param slots of the folds: no other is claimed
   */
  #unfinished(slots: Iterable<number> = Array(maps.folds.entries).keys()): readonly Untold[] {
    const base = Number(this.#settings.getBigUint64(S.sweep.offset, true)) * PLACES;
    const all: Untold[] = [];
    for (const slot of slots) {
      const count = this.#claimed(slot);
      if (count === 0n) continue;
      const [workload, rule] = [this.#foldOf(slot, 'workload'), this.#foldOf(slot, 'rule')];
      all.push({ kind: 'repeats', at: base + slot, key: this.#fold(slot, 'key'), workload, rule, count });
    }
    for (const [workload, ring] of this.#differing('telling')) {
      const [telling, told] = (['telling', 'told'] as const).map((field) =>
        this.#workloads.getBigUint64(this.#lostAt(workload, ring, field), true),
      );
      const count = telling - told;
      // less: an upgrade has added what was told by the version before
      if (count <= 0n) continue;
      all.push({ kind: 'lost', at: base + LOST_AT + workload * LOSSES + ring, workload, ring, count });
    }
    for (let failure = 0; failure < enums.failure.FAILURE_COUNT; failure++) {
      const count = this.#failure(failure, 'telling') - this.#failure(failure, 'told');
      if (count > 0n) all.push({ kind: 'failure', at: base + FAILURES_AT + failure, failure, count });
    }
    return all;
  }

  /** How many repeats in a slot are the agent's to tell; from when it looks first, they stay as many. */
  #claimed(slot: number): bigint {
    const at = slot * F.size;
    const { telling } = F.fields;
    const written = this.#fold(slot, 'telling');
    const found = this.#fold(slot, 'count') - CLAIMED;
    if (found < 0n) {
      // they were taken away already
      if (written > 0n) this.#store(this.#in.folds, at + telling.offset, 0n);
      return 0n;
    }
    if (written > 0n) return written;
    // the programs have told of them first
    if (found === 0n) this.#release(slot, 0n);
    else this.#store(this.#in.folds, at + telling.offset, found);
    return found;
  }

  #release(slot: number, count: bigint): void {
    const at = slot * F.size;
    const folds = new Uint8Array(this.#in.folds);
    this.#addon.add64(folds, at + F.fields.count.offset, BigInt.asUintN(64, -(CLAIMED + count)));
    this.#addon.store64(folds, at + F.fields.telling.offset, 0n);
  }

  #fold(slot: number, field: 'key' | 'since' | 'count' | 'telling'): bigint {
    return this.#folds.getBigUint64(slot * F.size + F.fields[field].offset, true);
  }

  #foldOf(slot: number, field: 'workload' | 'rule'): number {
    return this.#folds.getUint32(slot * F.size + F.fields[field].offset, true);
  }

  #lostAt(workload: number, ring: number, field: 'lost' | 'told' | 'telling'): number {
    return workload * W.size + W.fields[field].offset + ring * 8;
  }

  #failure(failure: number, field: 'told' | 'telling'): bigint {
    return this.#settings.getBigUint64(S[`failures_${field}`].offset + failure * 8, true);
  }

  #store(memory: ArrayBuffer, offset: number, value: bigint): void {
    this.#addon.store64(new Uint8Array(memory), offset, value);
  }

  /** Of whom something was lost that has not been told, in the order of their places. */
  #differing(field: 'lost' | 'telling'): (readonly [workload: number, ring: number])[] {
    const memory = new Uint8Array(this.#in.workloads);
    const found = Array.from({ length: LOSSES }, (_, ring) =>
      this.#addon
        .differing(memory, W.size, this.#lostAt(0, ring, field), this.#lostAt(0, ring, 'told'))
        .map((workload) => [workload, ring] as const),
    );
    return found.flat().sort(([a], [b]) => a - b);
  }
}
