import { setTimeout as sleep } from 'node:timers/promises';
import type { Entry } from './spool/frame.js';
import type { Spool, Taken } from './spool/spool.js';
import { Later, NOTHING_REFUSED, type Outcome, Refused, type Transport } from './transport.js';

const ATTEMPT_MS = 30_000;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 30_000;
/** Failures in a row after which one small batch at a time is tried. */
const BREAKS_AFTER = 5;
const TRIAL_ENTRIES = 10;

export interface DeliveryStats {
  /** Records that the peer has. */
  readonly delivered: number;
  readonly attempts: number;
  readonly failures: number;
  /** The circuit: closed = well, open = pausing, half-open = a trial is under way. */
  readonly circuit: 'closed' | 'open' | 'half-open';
  /** Of the last failure, as long as it lasts. */
  readonly trouble: string | undefined;
}

export interface DeliveryOptions {
  readonly spool: Spool;
  readonly transport: Transport;
  /** Makes a record that any peer takes which takes records at all. */
  readonly probe: () => Entry;
  /** Something has changed between well and not well. */
  readonly onTrouble?: (trouble: string | undefined) => void;
  /** For tests; the pauses are multiplied by it. */
  readonly pace?: number;
}

/**
 * Brings what is in a spool to its peer, in order within a lane, until it is there: after a failure it pauses for a
 * random part of 0.2, 0.4, … 30 s ("full jitter"), and after five in a row it breaks the circuit: only a small batch is
 * tried until one gets through.
 */
export class Delivery {
  readonly #options: DeliveryOptions;
  readonly #ending = new AbortController();
  readonly #running: Promise<void>;
  #wake: (() => void) | undefined;
  #delivered = 0;
  #attempts = 0;
  #failures = 0;
  #inRow = 0;
  #circuit: DeliveryStats['circuit'] = 'closed';
  #trouble: string | undefined;
  /** The transport's last send, which may have been given up. */
  #sending: Promise<unknown> = Promise.resolve();
  /** Whether the peer has taken anything in this attempt. */
  #takes = false;

  constructor(options: DeliveryOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  get stats(): DeliveryStats {
    return {
      delivered: this.#delivered,
      attempts: this.#attempts,
      failures: this.#failures,
      circuit: this.#circuit,
      trouble: this.#trouble,
    };
  }

  /** There is something to take. */
  wake(): void {
    this.#wake?.();
  }

  /** Ends after the attempt that is under way, at most after `graceMs`; what is left stays in the spool. */
  async close(graceMs: number): Promise<void> {
    const timer = setTimeout(() => this.#ending.abort(), graceMs);
    this.#closing = true;
    this.wake();
    await this.#running;
    await within(this.#ending.signal, this.#options.transport.close()).catch(() => {});
    clearTimeout(timer);
    this.#ending.abort();
  }
  #closing = false;

  async #run(): Promise<void> {
    const { spool, transport, pace = 1 } = this.#options;
    while (!this.#ending.signal.aborted) {
      try {
        const most = this.#circuit === 'closed' ? transport.maxEntries : TRIAL_ENTRIES;
        const taken = spool.take(most, transport.maxBytes);
        if (taken !== undefined) {
          await this.#bring(taken);
          continue;
        }
      } catch (error) {
        const pause = this.#failed(error);
        // what cannot be delivered now is there for the next start
        if (this.#closing) return;
        await this.#pause(pause * pace);
        continue;
      }
      if (this.#closing) return;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
      if (transport.gatherMs > 0 && !this.#closing) await this.#pause(transport.gatherMs);
    }
  }

  async #bring(taken: Taken): Promise<void> {
    const { entries } = taken;
    if (this.#circuit === 'open') this.#circuit = 'half-open';
    this.#takes = false;
    const outcome = entries.length > 0 ? await this.#send(entries, 0) : NOTHING_REFUSED;
    const { refused, unattributed = 0 } = outcome;
    this.#options.spool.done(taken, refused, unattributed);
    this.#delivered += entries.length - refused.size - unattributed;
    this.#inRow = 0;
    this.#circuit = 'closed';
    this.#say(undefined);
  }

  /** @returns how long to wait before the next attempt, ms */
  #failed(error: unknown): number {
    this.#failures++;
    this.#inRow++;
    if (this.#inRow >= BREAKS_AFTER) this.#circuit = 'open';
    this.#say(error instanceof Error ? error.message : String(error));
    const most = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(20, this.#inRow - 1));
    return Math.max(Math.random() * most, (error instanceof Later && error.milliseconds) || 0);
  }

  /**
   * Sends, and where the peer refuses several at once, finds by halving which ones it means.
   * @throws Refused when it means all that it could be sent
   */
  async #send(entries: readonly Entry[], first: number): Promise<Outcome> {
    this.#attempts++;
    try {
      const { refused, unattributed } = await this.#sendOnce(entries);
      this.#takes = true;
      return { refused: new Set([...refused].map((at) => at + first)), unattributed };
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (entries.length === 1) {
        // an index that is wrong or a certificate that has expired is answered like contents that are at fault
        if (!this.#takes) await this.#sendOnce([this.#options.probe()]);
        this.#takes = true;
        return { refused: new Set([first]) };
      }
      const half = entries.length >> 1;
      const left = await this.#send(entries.slice(0, half), first);
      const right = await this.#send(entries.slice(half), first + half);
      return {
        refused: new Set([...left.refused, ...right.refused]),
        unattributed: (left.unattributed ?? 0) + (right.unattributed ?? 0),
      };
    }
  }

  /** One at a time: into one that was given up and still goes on, the next would write. */
  async #sendOnce(entries: readonly Entry[]): Promise<Outcome> {
    // not AbortSignal.timeout(): below any() it can be collected as garbage, and then never comes
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(new Error(`not over in ${ATTEMPT_MS / 1000} s`)), ATTEMPT_MS);
    const signal = AbortSignal.any([this.#ending.signal, limit.signal]);
    try {
      await within(signal, this.#sending);
      const sending = this.#options.transport.send(entries, signal);
      this.#sending = sending.catch(() => {});
      return await within(signal, sending);
    } finally {
      clearTimeout(timer);
    }
  }

  #say(trouble: string | undefined): void {
    const changed = (trouble === undefined) !== (this.#trouble === undefined);
    this.#trouble = trouble;
    if (changed) this.#options.onTrouble?.(trouble);
  }

  async #pause(milliseconds: number): Promise<void> {
    await sleep(milliseconds, undefined, { signal: this.#ending.signal }).catch(() => {});
  }
}

/** Settles as `work` does, or rejects as soon as the signal says so; `work` may go on. */
async function within<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  let abort = () => {};
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason);
  });
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort);
  return Promise.race([work, aborted]).finally(() => signal.removeEventListener('abort', abort));
}
