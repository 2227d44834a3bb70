import { createHash } from 'node:crypto';
import { maps, structs } from './abi.js';
import type { NativeKernel } from './addon.js';
import type { Arena } from './arena.js';
import type { OnDemand } from './on-demand.js';

const { size: HEADER, fields } = structs.set_header;
const W = structs.workload;

export interface AdoptTo {
  readonly native: Pick<NativeKernel, 'read'>;
  /** The map's memory. */
  readonly workloads: Uint8Array;
  readonly arena: Arena;
  readonly onDemand: Pick<OnDemand, 'hold'>;
}

/**
 * Tables that nobody answers for, and that may still be in force: those that an agent before this one left, and those that were
 * given up since.
 */
export class Adopted {
  readonly #workloads: DataView;
  /** What the tables are, as a hash, by their offset. */
  readonly #tables = new Map<number, string>();
  /** Why tables could not be taken over, each once. */
  readonly faults: readonly string[];

  /**
   * Where a workload's can be none, nothing is in force for it any more, until new ones are.
   * @throws CannotAttach
   */
  constructor({ native, workloads, arena, onDemand }: AdoptTo) {
    this.#workloads = new DataView(workloads.buffer, workloads.byteOffset, workloads.byteLength);
    const faults = new Map<number, string>();
    const adopt = (offset: number): void => {
      const header = arena.has(offset, HEADER) ? native.read('arena', offset, HEADER) : undefined;
      const size = header?.readUInt32LE(fields.size.offset) ?? HEADER;
      if (header === undefined || size < HEADER || !arena.has(offset, size)) {
        faults.set(offset, `${size} bytes at ${offset} of the arena, which has ${maps.arena.valueSize}`);
        return;
      }
      arena.adopt(offset, size);
      onDemand.hold(offset, header);
      this.#tables.set(offset, hashOf(native.read('arena', offset, size)));
    };
    for (const [at, offset] of this.#given()) {
      if (!this.#tables.has(offset) && !faults.has(offset)) adopt(offset);
      if (faults.has(offset)) this.#workloads.setBigUint64(at, 0n, true);
    }
    this.faults = [...faults.values()];
  }

  /** Where each workload's word is that gives it tables, and their offset. */
  *#given(): Generator<[at: number, offset: number]> {
    for (let at = W.fields.set.offset; at < this.#workloads.byteLength; at += W.size) {
      const offset = this.#workloads.getUint32(at, true);
      if (offset !== 0) yield [at, offset];
    }
  }

  /** @returns the offset of equal tables, which are the caller's from now on */
  take(bytes: Uint8Array): number | undefined {
    if (this.#tables.size === 0) return undefined;
    const hash = hashOf(bytes);
    for (const [offset, each] of this.#tables) {
      if (each !== hash) continue;
      this.#tables.delete(offset);
      return offset;
    }
    return undefined;
  }

  /** Gives tables up. */
  give(offset: number): void {
    this.#tables.set(offset, '');
  }

  /** @returns the offsets of those that no workload is given any more, which are the caller's from now on */
  takeUnused(): number[] {
    if (this.#tables.size === 0) return [];
    const given = new Set([...this.#given()].map(([, offset]) => offset));
    const unused = [...this.#tables.keys()].filter((offset) => !given.has(offset));
    for (const offset of unused) this.#tables.delete(offset);
    return unused;
  }
}

const hashOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('base64');
