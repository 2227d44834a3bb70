import { randomBytes } from 'node:crypto';
import type { AlertRecord, BelayRecord, GapRecord } from '../event/record.js';
import { Delivery, type DeliveryStats } from './delivery.js';
import { type Filter, passes } from './filter.js';
import { countOf, isDenial, ofAgent, workloadOf } from './formats/words.js';
import { entryOf, type NewEntry } from './spool/frame.js';
import { type Drops, type LaneName, type Position, Spool } from './spool/spool.js';
import type { Transport } from './transport.js';

/** A workload's records beyond so many in a second wait behind those of others. */
const FLOOD = 100;

export interface SinkOptions {
  readonly name: string;
  readonly node: string;
  readonly filter: Filter;
  readonly transport: Transport;
  /** The spool's directory. */
  readonly directory: string;
  /** Of the spool. */
  readonly maxBytes: number;
  readonly onTrouble?: (trouble: string | undefined) => void;
  /** For tests. */
  readonly pace?: number;
}

export interface SinkStats extends DeliveryStats {
  readonly name: string;
  /** Records that wait in the spool. */
  readonly waiting: number;
  readonly spoolBytes: number;
  /** Events that were dropped since the start, and counted. */
  readonly dropped: number;
  /** Events, dropped or throttled, that no gap record tells of yet. */
  readonly untold: number;
  readonly diskTrouble: string | undefined;
}

/**
 * Who takes finished records and brings them to one peer, at least once: each record is filtered, written in the peer's form,
 * and kept on disk until the peer has it, or else counted, by workload, in a gap record that the peer gets instead.
 */
export class Sink {
  readonly name: string;
  readonly #options: SinkOptions;
  readonly #spool: Spool;
  readonly #delivery: Delivery;
  readonly #instance = randomBytes(6).toString('hex');
  #markers = 0;
  /** Workloads whose alerts are only counted at the moment. */
  readonly #throttled = new Set<string>();
  /** Records of this second, by workload. */
  readonly #rates = new Map<string, number>();

  /** @throws the file system's error when the spool cannot be used */
  constructor(options: SinkOptions) {
    this.name = options.name;
    this.#options = options;
    const { directory, maxBytes, transport, onTrouble, pace } = options;
    this.#spool = new Spool({ directory, maxBytes, marker: (drops) => this.#markerOf(drops) });
    this.#delivery = new Delivery({
      ...{ spool: this.#spool, transport, onTrouble, pace },
      // that some were refused is true when it gets there; their number follows
      probe: () => entryOf(this.#markerOf({ reason: 'refused', workload: '', count: 0 })),
    });
  }

  /** Keeps the record or counts it; final with the next `flush`. */
  write(record: BelayRecord, position?: Position): void {
    if (!this.#isNew(position)) return;
    // the spool knows how many of them were for this peer
    if (record.type === 'gap' && record.ring === 'throttled') this.#throttled.delete(workloadOf(record));
    else if (passes(this.#options.filter, record)) this.#take(record);
  }

  /** Counts the alert, and tells of the number once a gap record says that there are no more of them; final with the next `flush`. */
  withhold(alert: AlertRecord, position?: Position): void {
    if (!this.#isNew(position) || !passes(this.#options.filter, alert)) return;
    const workload = workloadOf(alert);
    this.#throttled.add(workload);
    this.#spool.drop('throttled', workload, countOf(alert));
  }

  #isNew(position: Position | undefined): boolean {
    if (position === undefined) return true;
    if (this.#spool.has(position)) return false;
    // first, since there may be a commit while it is taken
    this.#spool.mark(position);
    return true;
  }

  #take(record: BelayRecord): void {
    const workload = workloadOf(record);
    const payload = this.#options.transport.encode(record);
    const count = countOf(record);
    if (payload === undefined) {
      this.#spool.drop('refused', workload, count);
      return;
    }
    const urgent = isDenial(record) || ofAgent(record);
    this.#spool.offer(this.#laneOf(record, workload), { workload, id: record.id, count, urgent, payload });
  }

  #laneOf(record: BelayRecord, workload: string): LaneName {
    const rate = (this.#rates.get(workload) ?? 0) + 1;
    this.#rates.set(workload, rate);
    return rate > FLOOD || record.type === 'exec' || record.type === 'log' ? 'bulk' : 'express';
  }

  /** What was written is kept, also if the agent is killed now. */
  flush(): void {
    this.#spool.commit();
    this.#delivery.wake();
  }

  /** To be called every second: tells of what was dropped, and brings what is kept to the disk itself. */
  tick(): void {
    this.#rates.clear();
    this.#spool.tellDrops(({ reason, workload }) => reason !== 'throttled' || !this.#throttled.has(workload));
    this.#spool.sync();
    this.#delivery.wake();
  }

  #markerOf({ reason, workload, count }: Drops): NewEntry {
    const [namespace = '', pod = '', ...container] = workload.split('/');
    const sequence = ++this.#markers;
    const record: GapRecord = {
      schema: 'belay.v1',
      type: 'gap',
      time: (BigInt(Date.now()) * 1_000_000n).toString(),
      id: `${this.#instance}-${sequence}`,
      sequence: String(sequence),
      node: this.#options.node,
      ...{ namespace, pod, container: container.join('/') },
      ring: reason,
      lost: String(count),
    };
    const payload = this.#options.transport.encode(record) ?? '';
    return { workload, id: record.id, count, urgent: true, payload };
  }

  get stats(): SinkStats {
    return {
      name: this.name,
      ...this.#delivery.stats,
      waiting: this.#spool.waiting,
      spoolBytes: this.#spool.bytes,
      dropped: this.#spool.dropped,
      untold: this.#spool.untold,
      diskTrouble: this.#spool.error?.message,
    };
  }

  /** What cannot be delivered within `graceMs` stays for the next start. */
  async close(graceMs = 2000): Promise<void> {
    this.#spool.tellDrops();
    await this.#delivery.close(graceMs);
    this.#spool.close();
  }
}
