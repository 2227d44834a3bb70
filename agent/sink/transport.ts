import type { BelayRecord } from '../event/record.js';
import type { Entry } from './spool/frame.js';

/** One kind of peer: how a record is written for it, and how written ones get there. */
export interface Transport {
  /** Pure. Undefined when the record cannot be made to fit, even with its texts cut. */
  encode(record: BelayRecord): string | Buffer | undefined;

  /**
   * Resolves once the peer has all of them but those that it refused for good, as far as its protocol can tell. Never called
   * before the last call has settled; who called does not wait for that longer than the signal says.
   * @throws Refused if it refuses them all for good, and of some others perhaps not; any other error means: try again
   */
  send(entries: readonly Entry[], signal: AbortSignal): Promise<Outcome>;

  close(): Promise<void>;

  /** How many records, and bytes, one `send` is given at most. */
  readonly maxEntries: number;
  readonly maxBytes: number;
  /** How long records may wait for others to be sent with, ms. */
  readonly gatherMs: number;
}

export interface Outcome {
  /** Indices of those that the peer will never take. */
  readonly refused: ReadonlySet<number>;
  /** As many more that it will never take, without saying which. */
  readonly unattributed?: number;
}

export const NOTHING_REFUSED: Outcome = { refused: new Set() };

/** What would be refused again, however often it is sent. */
export class Refused extends Error {}

/** Not now, and not before some time has passed. */
export class Later extends Error {
  readonly milliseconds: number | undefined;

  constructor(message: string, milliseconds?: number) {
    super(message);
    this.milliseconds = milliseconds;
  }
}
