import { setImmediate } from 'node:timers/promises';
import { type EventLog, missed } from '../event/log.js';
import type { BelayRecord } from '../event/record.js';
import { type Access, Refusal } from './access.js';
import { checkFilter, type Filter, isEverything, namespaceOf, wants } from './filter.js';

/** How long a reader goes on before everything else has its turn, in milliseconds. */
const TURN_MS = 5;
/** How often one who gets nothing is shown that the connection lives. */
const BEAT_MS = 15_000;
const STANDS_MS = 60_000;

export interface WatchRequest {
  readonly filter: Filter;
  /** The last sequence number that the caller has; 0 = whatever there is; undefined = from now on. */
  readonly after?: bigint;
  /** End when there is nothing more at the moment. */
  readonly untilNow: boolean;
}

/** Where a caller's records go. */
export interface Outlet {
  /** The caller gets its records from here on. */
  begin(): void;
  /** @returns false when no more should be written for now */
  write(record: BelayRecord): boolean;
  /** Resolves when more may be written, or the caller is gone. */
  drained(): Promise<void>;
  /** Nothing has happened for a while. */
  beat?(): void;
  readonly gone: boolean;
  onGone(listener: () => void): void;
}

export interface WatchOptions {
  readonly log: EventLog;
  readonly node: string;
  /** How many may watch at once, and how many of them may be one caller's. */
  readonly watchers: number;
  readonly each: number;
}

/** Lets callers read the log, each as fast as it can, and none more than it may see. */
export class Watch {
  readonly #options: WatchOptions;
  /** Who watches. */
  readonly #watching = new Map<Outlet, string>();

  constructor(options: WatchOptions) {
    this.#options = options;
  }

  /**
   * Writes records until there is nothing more, or the caller goes.
   * @throws Refusal
   */
  async serve(
    access: Access,
    { filter: given, after, untilNow }: WatchRequest,
    outlet: Outlet,
  ): Promise<void> {
    const { log, node } = this.#options;
    const filter = checkFilter(given);
    for (const namespace of filter.namespaces)
      if (!(await access.sees(namespace)))
        throw new Refusal('forbidden', `${access.who} may not see events of namespace "${namespace}"`);
    const all = after !== undefined && isEverything(filter) && (await access.sees(''));
    this.#admit(access.who, outlet);
    // what is still to be found out is counted as if it could be seen, and then held back
    const wanted = (record: BelayRecord) => wants(filter, record) && !access.hides(namespaceOf(record));
    const reader = log.read(wanted, after, all);
    try {
      outlet.onGone(() => reader.close());
      outlet.begin();
      let [turn, stood] = [performance.now(), performance.now()];
      while (!outlet.gone) {
        if (performance.now() - stood > STANDS_MS) {
          if (!(await access.stands()))
            throw new Refusal('unauthenticated', `${access.who} is not known any more`);
          stood = performance.now();
        }
        const read = reader.next();
        if (read === undefined) {
          if (untilNow) return;
          const since = performance.now();
          await reader.more(BEAT_MS);
          turn = performance.now();
          if (turn - since >= BEAT_MS - 1) outlet.beat?.();
          continue;
        }
        const record = 'record' in read ? read.record : missed(read.lost, node);
        // what was missed is the reader's own
        if ('record' in read && !(await access.sees(namespaceOf(record)))) continue;
        if (!outlet.write(record)) await outlet.drained();
        if (performance.now() - turn > TURN_MS) {
          await setImmediate();
          turn = performance.now();
        }
      }
    } finally {
      reader.close();
      this.#watching.delete(outlet);
    }
  }

  /** @throws Refusal */
  #admit(who: string, outlet: Outlet): void {
    const { watchers, each } = this.#options;
    const busy = (many: string) => new Refusal('busy', `${many} are watching, which is as many as may`);
    if (this.#watching.size >= watchers) throw busy(`${watchers} clients`);
    const own = [...this.#watching.values()].filter((other) => other === who).length;
    if (own >= each) throw busy(`${each} clients of ${who}`);
    this.#watching.set(outlet, who);
  }
}
