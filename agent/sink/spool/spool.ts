import { mkdirSync } from 'node:fs';
import { type Entry, entriesOf, FrameBuilder, type NewEntry, readFrame, sizeOf } from './frame.js';
import { Lane, type Read } from './lane.js';
import { type Cursor, Ledger, type State } from './ledger.js';

/** In the order in which one commit writes them: the last one's frame carries the new state. */
const LANES = ['bulk', 'express'] as const;
export type LaneName = (typeof LANES)[number];

const FRAME_BYTES = 1 << 20;
const MIN_SEGMENT = 64 << 10;
const MAX_SEGMENT = 8 << 20;
/** Sources whose marks are kept: those of an agent's past runs are of no use. */
const MAX_MARKS = 16;

/**
 * Why events were dropped: no room; refused for good by who should take them; unreadable on the disk; or because nothing but their
 * number is wanted.
 */
export type DropReason = 'spool-full' | 'refused' | 'damaged' | 'throttled';

/** Where a record comes from, if that can tell it a second time; positions of a source only grow. */
export interface Position {
  readonly source: string;
  readonly at: number;
}

/** Dropped events that are to be told of. */
export interface Drops {
  readonly reason: DropReason;
  readonly workload: string;
  readonly count: number;
}

export interface Taken extends Read {
  readonly lane: LaneName;
}

export interface SpoolOptions {
  readonly directory: string;
  /** Of all its files. */
  readonly maxBytes: number;
  /** Makes the entry that tells of drops. */
  readonly marker: (drops: Drops) => NewEntry;
}

/**
 * What waits on disk for one sink. What is offered is kept or counted as dropped, by workload; `commit` makes that final,
 * for entries, counts and the sources' positions together, so that an agent killed at any time leaves a state in which each
 * record was kept, was counted, or was never taken in.
 *
 * Room is shared by dynamic thresholds (Choudhury and Hahne, 1998): a workload's denials may hold four times what is still
 * free, its other records as much as is free. A flood so leaves room for others, however long it lasts.
 */
export class Spool {
  readonly #maxBytes: number;
  readonly #marker: (drops: Drops) => NewEntry;
  readonly #ledger: Ledger;
  readonly #lanes: Readonly<Record<LaneName, Lane>>;
  readonly #builders = { bulk: new FrameBuilder(), express: new FrameBuilder() };
  /** Bytes by workload, denials apart. */
  readonly #held = new Map<string, number>();
  #serial = 0;
  readonly #marks = new Map<string, number>();
  readonly #pending = new Map<string, number>();
  readonly #newMarks = new Map<string, number>();
  readonly #newDrops = new Map<string, number>();
  #filesBytes = 0;
  #dropped = 0;
  #error: Error | undefined;

  /** @throws the file system's error when the directory cannot be used */
  constructor({ directory, maxBytes, marker }: SpoolOptions) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    this.#maxBytes = maxBytes;
    this.#marker = marker;
    this.#ledger = new Ledger(directory);
    const segment = Math.min(MAX_SEGMENT, Math.max(MIN_SEGMENT, maxBytes >> 4));
    const lane = (name: LaneName) => new Lane(directory, name, segment);
    this.#lanes = { bulk: lane('bulk'), express: lane('express') };
    this.#recover();
  }

  #recover(): void {
    const found = LANES.map((name) => this.#lanes[name].recover());
    const kept = this.#ledger.read();
    let newest = kept;
    let of: LaneName | undefined;
    found.forEach(({ serial, state }, at) => {
      if (state === undefined || serial <= (newest?.serial ?? -1)) return;
      newest = { serial, state: JSON.parse(state) as State };
      of = LANES[at];
    });
    // the agent was killed between two frames that belong together
    if (of !== undefined && newest?.state.half) this.#lanes[of].cutLast();
    this.#serial = newest?.serial ?? 0;
    LANES.forEach((name, at) => {
      const lane = this.#lanes[name];
      lane.begin(newest?.state.cursors[at]);
      for (const entry of lane.rest()) this.#hold(entry, entry.size);
    });
    for (const [source, at] of Object.entries(newest?.state.marks ?? {})) this.#marks.set(source, at);
    for (const [key, count] of Object.entries(newest?.state.pending ?? {})) this.#pending.set(key, count);
    this.#measure();
    this.#keepState();
  }

  /** Records that wait. */
  get waiting(): number {
    return LANES.reduce((sum, name) => {
      const { written, cursor } = this.#lanes[name];
      return sum + written - cursor.index + this.#builders[name].entries;
    }, 0);
  }

  /** Bytes of its files. */
  get bytes(): number {
    return this.#filesBytes;
  }

  /** Events dropped since the start, but for throttled ones. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Why the disk could not be written to; undefined = it can. */
  get error(): Error | undefined {
    return this.#error;
  }

  /** Whether what stands there has been taken in before. */
  has({ source, at }: Position): boolean {
    return at <= (this.#newMarks.get(source) ?? this.#marks.get(source) ?? -1);
  }

  /** From there on, what the source has been read up to is taken in. */
  mark({ source, at }: Position): void {
    this.#newMarks.set(source, at);
  }

  /** Keeps the entry, or counts it as dropped; final with the next `commit`. */
  offer(lane: LaneName, entry: NewEntry): void {
    const builder = this.#builders[lane];
    const most = sizeOf(entry);
    const free =
      this.#maxBytes - this.#filesBytes - this.#builders.bulk.length - this.#builders.express.length;
    const held = this.#held.get(queueOf(entry)) ?? 0;
    if (most > free || held + most > free * (entry.urgent ? 4 : 1)) {
      this.drop('spool-full', entry.workload, entry.count);
      return;
    }
    this.#hold(entry, builder.add(entry));
    if (builder.length > FRAME_BYTES) this.commit();
  }

  /** Counts events as dropped; final with the next `commit`. */
  drop(reason: DropReason, workload: string, count: number): void {
    this.#count(this.#newDrops, reason, workload, count);
    if (reason !== 'throttled') this.#dropped += count;
  }

  /** Writes what was offered since the last time, and the counts of what was not kept. */
  commit(): void {
    const { bulk, express } = this.#builders;
    // with the state as it was: if it comes to no more than this, it does not count, and the sources tell all of it again
    if (bulk.entries > 0 && express.entries > 0) this.#append('bulk', this.#state({ half: true }));
    const changed = this.#newDrops.size > 0;
    const last = express.entries > 0 ? 'express' : bulk.entries > 0 ? 'bulk' : undefined;
    this.#settle();
    if (last !== undefined && this.#append(last, this.#state())) return;
    this.#settle();
    if (last !== undefined || changed) this.#keepState();
  }

  #settle(): void {
    for (const [source, at] of this.#newMarks) {
      this.#marks.delete(source);
      this.#marks.set(source, at);
    }
    this.#newMarks.clear();
    for (const source of this.#marks.keys()) {
      if (this.#marks.size <= MAX_MARKS) break;
      this.#marks.delete(source);
    }
    for (const [key, count] of this.#newDrops) this.#pending.set(key, (this.#pending.get(key) ?? 0) + count);
    this.#newDrops.clear();
  }

  /**
   * Turns counts of drops into entries that tell of them, if there is room for them.
   * @param final whether there will be no more of those for now; others wait
   */
  tellDrops(final: (drops: Drops) => boolean = () => true): void {
    this.commit();
    if (this.#maxBytes - this.#filesBytes < this.#maxBytes >> 3) return;
    const told = [...this.#pending].filter(([key, count]) => final(dropsOf(key, count)));
    if (told.length === 0) return;
    for (const [key, count] of told) {
      const entry = this.#marker(dropsOf(key, count));
      this.#hold(entry, this.#builders.express.add(entry));
      this.#pending.delete(key);
    }
    if (this.#append('express', this.#state())) return;
    // a marker that was not written has been counted as a drop by what it tells of: once is enough
    this.#newDrops.clear();
    for (const [key, count] of told) this.#pending.set(key, count);
    this.#keepState();
  }

  /** Events that were dropped and are not told of yet. */
  get untold(): number {
    let sum = 0;
    for (const count of this.#pending.values()) sum += count;
    return sum;
  }

  /** Writes a lane's frame. If the disk does not take it, its entries become drops that the next state counts. */
  #append(name: LaneName, state: string): boolean {
    const builder = this.#builders[name];
    const lane = this.#lanes[name];
    const { entries } = builder;
    const frame = builder.finish(++this.#serial, lane.written, state);
    try {
      lane.append(frame, entries);
      this.#error = undefined;
      this.#filesBytes += frame.length;
      return true;
    } catch (error) {
      this.#error = error instanceof Error ? error : new Error(String(error));
      const written = readFrame(frame, 0);
      for (const entry of written ? entriesOf(written) : []) {
        this.#release(entry, entry.size);
        this.drop('spool-full', entry.workload, entry.count);
      }
      return false;
    }
  }

  /** The next entries to send, express ones first, and every other time bulk ones if there are any. */
  take(maxEntries: number, maxBytes: number): Taken | undefined {
    this.#turn = !this.#turn;
    const order: readonly LaneName[] = this.#turn ? ['express', 'bulk'] : ['bulk', 'express'];
    for (const lane of order) {
      const read = this.#lanes[lane].read(maxEntries, maxBytes);
      if (read !== undefined) return { ...read, lane };
    }
    return undefined;
  }
  #turn = false;

  /** What was taken is done: delivered, but for those refused for good (indices), which are counted as dropped. */
  done({ lane, entries, cursor, damaged }: Taken, refused: ReadonlySet<number>, unattributed = 0): void {
    if (unattributed > 0) {
      this.#count(this.#pending, 'refused', '', unattributed);
      this.#dropped += unattributed;
    }
    if (damaged > 0) {
      this.#count(this.#pending, 'damaged', '', damaged);
      this.#dropped += damaged;
    }
    entries.forEach((entry, at) => {
      this.#release(entry, entry.size);
      if (!refused.has(at)) return;
      this.#count(this.#pending, 'refused', entry.workload, entry.count);
      this.#dropped += entry.count;
    });
    const cursors = LANES.map((name) => (name === lane ? cursor : this.#lanes[name].cursor));
    this.#keepState(cursors);
    this.#lanes[lane].advance(cursor);
    // what could not be read was not released
    if (this.waiting === 0) this.#held.clear();
    this.#measure();
  }

  /** Brings what was committed to the disk, in the background. */
  sync(): void {
    for (const name of LANES) this.#lanes[name].sync();
  }

  close(): void {
    this.commit();
    for (const name of LANES) this.#lanes[name].close();
    this.#ledger.close();
  }

  #state(but: Partial<State> = {}): string {
    const state: State = {
      marks: Object.fromEntries(this.#marks),
      pending: Object.fromEntries(this.#pending),
      cursors: LANES.map((name) => this.#lanes[name].cursor),
      ...but,
    };
    return JSON.stringify(state);
  }

  #keepState(cursors?: readonly Cursor[]): void {
    try {
      this.#ledger.write(++this.#serial, this.#state(cursors && { cursors }));
    } catch (error) {
      this.#error = error instanceof Error ? error : new Error(String(error));
    }
  }

  #measure(): void {
    this.#filesBytes = LANES.reduce((sum, name) => sum + this.#lanes[name].bytes, 0);
  }

  #count(counts: Map<string, number>, reason: DropReason, workload: string, count: number): void {
    const key = `${reason} ${workload}`;
    counts.set(key, (counts.get(key) ?? 0) + count);
  }

  #hold(entry: Omit<Entry, 'payload'>, size: number): void {
    const queue = queueOf(entry);
    this.#held.set(queue, (this.#held.get(queue) ?? 0) + size);
  }

  #release(entry: Entry, size: number): void {
    const queue = queueOf(entry);
    const left = (this.#held.get(queue) ?? 0) - size;
    if (left > 0) this.#held.set(queue, left);
    else this.#held.delete(queue);
  }
}

const queueOf = ({ workload, urgent }: Omit<Entry, 'payload'>) => (urgent ? `!${workload}` : workload);

function dropsOf(key: string, count: number): Drops {
  const at = key.indexOf(' ');
  return { reason: key.slice(0, at) as DropReason, workload: key.slice(at + 1), count };
}
