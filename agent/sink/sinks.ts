import type { AlertRecord, BelayRecord } from '../event/record.js';
import type { Sink, SinkStats } from './sink.js';
import type { Position } from './spool/spool.js';

const TICK_MS = 1000;

/** All sinks: each is given every record and sees to itself, so that a slow one is nobody else's business. */
export class Sinks {
  readonly #sinks: readonly Sink[];
  readonly #timer: NodeJS.Timeout | undefined;
  #written = false;

  constructor(sinks: readonly Sink[]) {
    this.#sinks = sinks;
    if (sinks.length === 0) return;
    this.#timer = setInterval(() => {
      for (const sink of sinks) sink.tick();
    }, TICK_MS);
  }

  /** @param position where the record comes from, if that can tell it again after a restart */
  write(record: BelayRecord, position?: Position): void {
    for (const sink of this.#sinks) sink.write(record, position);
    if (this.#written || this.#sinks.length === 0) return;
    this.#written = true;
    // together with what else is written in this turn of the event loop
    setImmediate(() => this.flush());
  }

  /** Of this alert, only the number is to be told; a gap record says when. */
  withhold(alert: AlertRecord, position?: Position): void {
    for (const sink of this.#sinks) sink.withhold(alert, position);
  }

  /** What was written is kept, also if the agent is killed now. */
  flush(): void {
    this.#written = false;
    for (const sink of this.#sinks) sink.flush();
  }

  get stats(): SinkStats[] {
    return this.#sinks.map(({ stats }) => stats);
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#sinks.map((sink) => sink.close()));
  }
}
