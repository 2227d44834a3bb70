import { maps } from '../kernel/abi.js';
import type { EventReader } from './decode.js';

/** As many as there can be folds under way, twice over. */
const ENTRIES = 2 * maps.folds.entries;
const BYTES = 16 << 20;

/** First reports of what may be repeating, by fold key; oldest first. */
export class Firsts {
  readonly #kept = new Map<bigint, EventReader>();
  #bytes = 0;

  get(key: bigint): EventReader | undefined {
    return this.#kept.get(key);
  }

  keep(raw: EventReader): void {
    const { foldKey } = raw;
    this.#drop(foldKey, this.#kept.get(foldKey));
    const kept = raw.kept();
    this.#kept.set(foldKey, kept);
    this.#bytes += kept.bytes;
  }

  /**
   * Drops the oldest, until what is left finds room.
   * @param before CLOCK_BOOTTIME, ns: and those that are older
   */
  trim(before = 0n): void {
    for (const [key, first] of this.#kept) {
      if (this.#kept.size <= ENTRIES && this.#bytes <= BYTES && first.time >= before) break;
      this.#drop(key, first);
    }
  }

  #drop(key: bigint, first: EventReader | undefined): void {
    if (first === undefined) return;
    this.#kept.delete(key);
    this.#bytes -= first.bytes;
  }
}
