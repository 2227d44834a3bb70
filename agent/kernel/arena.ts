/** A stretch of the arena, bytes. */
interface Extent {
  readonly offset: number;
  readonly size: number;
}

const PAGE = 4096;

/** Thrown when no free stretch is long enough. */
export class ArenaFull extends Error {
  readonly needed: number;
  readonly largest: number;
  constructor(needed: number, largest: number) {
    super(
      `the tables need ${needed} bytes and the longest free stretch of the arena has ${largest}; ` +
        'use fewer or simpler rules',
    );
    this.needed = needed;
    this.largest = largest;
  }
}

/**
 * Which parts of the arena hold tables: first fit, whole pages. Offset 0 is never given out, so that it can mean
 * "no tables".
 */
export class Arena {
  readonly #size: number;
  /** Sorted by offset. */
  #used: Extent[] = [{ offset: 0, size: PAGE }];

  constructor(size: number) {
    this.#size = size;
  }

  /** @throws ArenaFull */
  take(bytes: number): number {
    const size = Math.ceil(bytes / PAGE) * PAGE;
    let largest = 0;
    let start = 0;
    for (let i = 0; i < this.#used.length; i++) {
      // what was adopted may lie one in another
      start = Math.max(start, this.#used[i].offset + this.#used[i].size);
      const end = this.#used[i + 1]?.offset ?? this.#size;
      if (end - start >= size) {
        this.#used.splice(i + 1, 0, { offset: start, size });
        return start;
      }
      largest = Math.max(largest, end - start);
    }
    throw new ArenaFull(size, largest);
  }

  /** Whether tables of this length can have been given this place. */
  has(offset: number, bytes: number): boolean {
    return offset >= PAGE && offset % PAGE === 0 && offset + bytes <= this.#size;
  }

  /** Marks what an agent before this one has left in use. */
  adopt(offset: number, bytes: number): void {
    const size = Math.ceil(bytes / PAGE) * PAGE;
    if (this.#used.some((u) => u.offset === offset)) return;
    this.#used.push({ offset, size });
    this.#used.sort((a, b) => a.offset - b.offset);
  }

  give(offset: number): void {
    this.#used = this.#used.filter((u) => u.offset !== offset);
  }

  get bytesUsed(): number {
    return this.#used.reduce((sum, u) => sum + u.size, -PAGE);
  }
}
