import { setTimeout as sleep } from 'node:timers/promises';
import type { Spool, Taken } from './spool/spool.js';
import { Later, type Outcome, Refused, type Transport } from './transport.js';

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
    clearTimeout(timer);
    this.#ending.abort();
    await this.#options.transport.close();
  }
  #closing = false;

  async #run(): Promise<void> {
    const { spool, transport } = this.#options;
    while (!this.#ending.signal.aborted) {
      const most = this.#circuit === 'closed' ? transport.maxEntries : TRIAL_ENTRIES;
      const taken = spool.take(most, transport.maxBytes);
      if (taken === undefined) {
        if (this.#closing) return;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = undefined;
        if (transport.gatherMs > 0 && !this.#closing) await this.#pause(transport.gatherMs);
        continue;
      }
      const pause = await this.#attempt(taken);
      if (pause === undefined) continue;
      // what cannot be delivered now is there for the next start
      if (this.#closing) return;
      await this.#pause(pause * (this.#options.pace ?? 1));
    }
  }

  /** @returns how long to wait before the next one, ms; undefined = it worked */
  async #attempt(taken: Taken): Promise<number | undefined> {
    if (this.#circuit === 'open') this.#circuit = 'half-open';
    try {
      const { refused, unattributed = 0 } = await this.#send(taken.entries, 0);
      this.#options.spool.done(taken, refused, unattributed);
      this.#delivered += taken.entries.length - refused.size - unattributed;
      this.#inRow = 0;
      this.#circuit = 'closed';
      this.#say(undefined);
      return undefined;
    } catch (error) {
      this.#failures++;
      this.#inRow++;
      if (this.#inRow >= BREAKS_AFTER) this.#circuit = 'open';
      this.#say(error instanceof Error ? error.message : String(error));
      const most = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(20, this.#inRow - 1));
      return Math.max(Math.random() * most, (error instanceof Later && error.milliseconds) || 0);
    }
  }

  /** Sends, and where the peer refuses several at once, finds by halving which ones it means. */
  async #send(entries: Taken['entries'], first: number): Promise<Outcome> {
    this.#attempts++;
    const signal = AbortSignal.any([this.#ending.signal, AbortSignal.timeout(ATTEMPT_MS)]);
    try {
      const { refused, unattributed } = await this.#options.transport.send(entries, signal);
      return { refused: new Set([...refused].map((at) => at + first)), unattributed };
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (entries.length === 1) return { refused: new Set([first]) };
      const half = entries.length >> 1;
      const left = await this.#send(entries.slice(0, half), first);
      const right = await this.#send(entries.slice(half), first + half);
      return {
        refused: new Set([...left.refused, ...right.refused]),
        unattributed: (left.unattributed ?? 0) + (right.unattributed ?? 0),
      };
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
