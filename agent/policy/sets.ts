/**
 * Numbers for sequences of integers (sets, if they ascend): equal ones get equal numbers, counted from 0 in order of
 * first appearance. Members lie in one array, so that hundreds of thousands of them cost no objects.
 */
export class SetPool {
  #members = new Int32Array(1 << 12);
  #starts = new Int32Array(1 << 8);
  #hashes = new Int32Array(1 << 8);
  #slots = new Int32Array(1 << 9).fill(-1);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** Members of all sets together. */
  get total(): number {
    return this.#starts[this.#count];
  }

  start(set: number): number {
    return this.#starts[set];
  }

  end(set: number): number {
    return this.#starts[set + 1];
  }

  /** Where its members are, for `member`. */
  range(set: number): { readonly start: number; readonly end: number } {
    return { start: this.#starts[set], end: this.#starts[set + 1] };
  }

  member(at: number): number {
    return this.#members[at];
  }

  members(set: number): Int32Array {
    return this.#members.subarray(this.#starts[set], this.#starts[set + 1]);
  }

  /** The number of the first `length` elements of `buffer`. */
  intern(buffer: Int32Array, length: number): number {
    let hash = length;
    for (let i = 0; i < length; i++) {
      hash = Math.imul(hash ^ buffer[i], 0x9e3779b1);
      hash ^= hash >>> 15;
    }
    const mask = this.#slots.length - 1;
    let slot = hash & mask;
    for (; this.#slots[slot] >= 0; slot = (slot + 1) & mask) {
      const set = this.#slots[slot];
      if (this.#hashes[set] === hash && this.#equal(set, buffer, length)) return set;
    }
    return this.#add(buffer, length, hash, slot);
  }

  #equal(set: number, buffer: Int32Array, length: number): boolean {
    const start = this.#starts[set];
    if (this.#starts[set + 1] - start !== length) return false;
    for (let i = 0; i < length; i++) if (this.#members[start + i] !== buffer[i]) return false;
    return true;
  }

  #add(buffer: Int32Array, length: number, hash: number, slot: number): number {
    const set = this.#count++;
    const start = this.#starts[set];
    if (start + length > this.#members.length) this.#members = grown(this.#members, start + length);
    for (let i = 0; i < length; i++) this.#members[start + i] = buffer[i];
    if (set + 2 > this.#starts.length) {
      this.#starts = grown(this.#starts, set + 2);
      this.#hashes = grown(this.#hashes, set + 2);
    }
    this.#starts[set + 1] = start + length;
    this.#hashes[set] = hash;
    this.#slots[slot] = set;
    if (this.#count * 2 > this.#slots.length) this.#rehash();
    return set;
  }

  #rehash(): void {
    const slots = new Int32Array(this.#slots.length * 2).fill(-1);
    const mask = slots.length - 1;
    for (let set = 0; set < this.#count; set++) {
      let slot = this.#hashes[set] & mask;
      while (slots[slot] >= 0) slot = (slot + 1) & mask;
      slots[slot] = set;
    }
    this.#slots = slots;
  }
}

/** A copy of at least `needed` elements, at least doubled, so that growing step by step stays linear. */
export function grown<T extends Int32Array | Uint8Array | Uint32Array>(array: T, needed: number): T {
  const bigger = new (array.constructor as new (length: number) => T)(Math.max(needed, array.length * 2));
  bigger.set(array);
  return bigger;
}

/** Sorts the first `length` elements in place, ascending, and drops repeats; returns how many remain. */
export function sortUnique(buffer: Int32Array, length: number): number {
  if (length > 24) buffer.subarray(0, length).sort();
  else {
    for (let i = 1; i < length; i++) {
      const value = buffer[i];
      let j = i - 1;
      for (; j >= 0 && buffer[j] > value; j--) buffer[j + 1] = buffer[j];
      buffer[j + 1] = value;
    }
  }
  let kept = 0;
  for (let i = 0; i < length; i++)
    if (kept === 0 || buffer[i] !== buffer[kept - 1]) buffer[kept++] = buffer[i];
  return kept;
}
