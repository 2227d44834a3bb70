import type { BelayRecord, GapRecord } from './record.js';

export interface LogLimits {
  readonly records: number;
  readonly bytes: number;
}

/** Some minutes of an eventful node. */
const LIMITS: LogLimits = { records: 16_384, bytes: 24 << 20 };

/** Of a record besides its names, roughly. */
const BASE_BYTES = 1000;

/** What happened lately, for those who watch: the newest records, as many as its limits allow. */
export class EventLog {
  readonly #limits: LogLimits;
  readonly #kept: (BelayRecord | undefined)[];
  readonly #weights: Uint32Array;
  readonly #readers = new Set<LogReader>();
  /** Numbers of the oldest record and of the next one, by their order here. */
  #first = 0;
  #next = 0;
  #bytes = 0;
  /** Sequence numbers before the first record that there ever was, and of the last one that is not here any more. */
  #began: bigint | undefined;
  #gone = 0n;
  /** From this number to #gone, each is a record's that was here; before it, some are no record's. */
  #whole = 0n;
  #newest = 0n;
  #missed = 0;
  #waking = false;

  constructor(limits: Partial<LogLimits> = {}) {
    this.#limits = { ...LIMITS, ...limits };
    this.#kept = new Array(this.#limits.records);
    this.#weights = new Uint32Array(this.#limits.records);
  }

  /** Takes no longer for slow readers: who is where the oldest record goes away misses it, and is told how many. */
  append(record: BelayRecord): void {
    const weight = weigh(record);
    const { records, bytes } = this.#limits;
    while (this.#next > this.#first && (this.#next - this.#first >= records || this.#bytes + weight > bytes))
      this.#drop();
    const slot = this.#next++ % records;
    this.#newest = BigInt(record.sequence);
    if (this.#began === undefined) this.#began = this.#gone = this.#newest - 1n;
    this.#kept[slot] = record;
    this.#weights[slot] = weight;
    this.#bytes += weight;
    if (this.#readers.size === 0 || this.#waking) return;
    // once for records that come together
    this.#waking = true;
    setImmediate(() => {
      this.#waking = false;
      for (const reader of this.#readers) reader.wake();
    });
  }

  #drop(): void {
    const slot = this.#first % this.#limits.records;
    const record = this.#kept[slot] as BelayRecord;
    for (const reader of this.#readers) if (reader.passing(this.#first, record)) this.#missed++;
    const sequence = BigInt(record.sequence);
    if (sequence !== this.#gone + 1n) this.#whole = sequence;
    this.#gone = sequence;
    this.#bytes -= this.#weights[slot];
    this.#kept[slot] = undefined;
    this.#first++;
  }

  /**
   * @param wants which records are read
   * @param after the sequence number of the last record that the reader has; 0 = whatever there is; undefined = only what
   * comes from now on
   * @param all whether that is every record: how many of others are gone, nobody knows
   */
  read(wants: (record: BelayRecord) => boolean, after?: bigint, all = false): LogReader {
    const close = (reader: LogReader) => this.#readers.delete(reader);
    const at = (index: number) => (index < this.#next ? this.#kept[index % this.#limits.records] : undefined);
    let start = this.#next;
    let lost: bigint | undefined = 0n;
    if (after === 0n) start = this.#first;
    else if (after !== undefined) {
      // another agent's number: how many records there were between, nobody here knows
      const foreign = this.#began === undefined || after < this.#began || after > this.#newest;
      start = foreign ? this.#first : this.#after(after);
      const counted = all && !foreign && after + 1n >= this.#whole;
      lost = !foreign && after >= this.#gone ? 0n : counted ? this.#gone - after : undefined;
    }
    const reader = new LogReader({ at, close, wants }, start, lost);
    this.#readers.add(reader);
    return reader;
  }

  /** Where the first record after a sequence number is; they only grow. */
  #after(sequence: bigint): number {
    let low = this.#first;
    let high = this.#next;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const record = this.#kept[middle % this.#limits.records] as BelayRecord;
      if (BigInt(record.sequence) <= sequence) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** How many records went out of the log before a reader had them, that it wanted. */
  get missed(): number {
    return this.#missed;
  }

  get readers(): number {
    return this.#readers.size;
  }
}

interface Source {
  readonly at: (index: number) => BelayRecord | undefined;
  readonly close: (reader: LogReader) => void;
  readonly wants: (record: BelayRecord) => boolean;
}

/** `lost`: how many records were missed before what comes next; undefined = some, and nobody knows how many. */
export type Read = { readonly record: BelayRecord } | { readonly lost: bigint | undefined };

/** One who reads the log at a speed of its own. What goes out of the log before it was read is counted for it. */
export class LogReader {
  readonly #source: Source;
  #index: number;
  #lost: bigint | undefined;
  #woken: (() => void) | undefined;

  constructor(source: Source, index: number, lost: bigint | undefined) {
    this.#source = source;
    this.#index = index;
    this.#lost = lost;
  }

  /** @returns undefined when there is nothing more at the moment */
  next(): Read | undefined {
    const lost = this.#lost;
    if (lost !== 0n) {
      this.#lost = 0n;
      return { lost };
    }
    for (;;) {
      const record = this.#source.at(this.#index);
      if (record === undefined) return undefined;
      this.#index++;
      if (this.#source.wants(record)) return { record };
    }
  }

  /** Resolves when there may be more, or when `milliseconds` have passed. */
  more(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.wake(), milliseconds);
      this.#woken = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  wake(): void {
    const woken = this.#woken;
    this.#woken = undefined;
    woken?.();
  }

  /**
   * The record at `index` goes out of the log.
   * @returns whether it is missed
   */
  passing(index: number, record: BelayRecord): boolean {
    if (index !== this.#index) return false;
    this.#index++;
    if (!this.#source.wants(record)) return false;
    if (this.#lost !== undefined) this.#lost++;
    return true;
  }

  close(): void {
    this.#source.close(this);
    this.wake();
  }
}

function weigh(record: BelayRecord): number {
  let bytes = BASE_BYTES;
  if (record.type === 'alert' || record.type === 'log') bytes += record.object.path?.length ?? 0;
  if ('process' in record) for (const argument of record.process?.arguments ?? []) bytes += argument.length;
  return bytes;
}

/** What a reader is told in place of what it missed. */
export function missed(lost: bigint | undefined, node: string): GapRecord {
  return {
    schema: 'belay.v1',
    type: 'gap',
    time: (BigInt(Date.now()) * 1_000_000n).toString(),
    id: '',
    sequence: '0',
    node,
    ...{ namespace: '', pod: '', container: '' },
    ring: 'watch',
    lost: (lost ?? 0n).toString(),
  };
}
