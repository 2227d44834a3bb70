import type { Dfa } from './dfa.js';

/** The same languages in as few states as can be: `blockOf[s]` is the block of state s, `member[b]` a state of block b. */
export interface Blocks {
  readonly count: number;
  readonly blockOf: Int32Array;
  readonly member: Int32Array;
}

/**
 * Partition refinement: two states stay together while they begin in the same class and lead to the same blocks.
 *
 * After the first round only predecessors of states whose block was renamed are looked at again, and of the parts
 * of a block the largest keeps its name, so each edge is looked at O(log n) times, as in J. Hopcroft, "An n log n
 * algorithm for minimizing states in a finite automaton" (1971); the rounds by signature are those of S. Blom and
 * S. Orzan, "A distributed algorithm for strong bisimulation reduction of state spaces" (2002).
 *
 * @param classOf per state what tells it apart from the start, any numbers from 0
 */
export function minimise(dfa: Dfa, classOf: Int32Array): Blocks {
  return new Refinement(dfa, classOf).run();
}

class Refinement {
  readonly #dfa: Dfa;
  readonly #blockOf: Int32Array;
  #blocks = 0;
  // Members of a block are contiguous in #order.
  readonly #order: Int32Array;
  readonly #place: Int32Array;
  readonly #first: Int32Array;
  readonly #size: Int32Array;
  readonly #predecessorStart: Int32Array;
  readonly #predecessors: Int32Array;
  readonly #dirty: Int32Array;
  #dirtyCount = 0;
  readonly #isDirty: Uint8Array;
  // Signatures of the dirty members of the block at hand, and a hash table of the distinct ones.
  #signature = new Int32Array(1 << 12);
  #slots = new Int32Array(1 << 10).fill(-1);
  readonly #tally = new Map<number, number>();
  // Scratch, by block, by member or by group of the block at hand.
  readonly #front: Int32Array;
  readonly #states: Int32Array;
  readonly #groupOf: Int32Array;
  readonly #groupSize: Int32Array;
  readonly #groupBegin: Int32Array;
  readonly #used: Int32Array;

  constructor(dfa: Dfa, classOf: Int32Array) {
    const n = dfa.count;
    this.#dfa = dfa;
    this.#blockOf = new Int32Array(n);
    this.#order = new Int32Array(n);
    this.#place = new Int32Array(n);
    this.#first = new Int32Array(n + 1);
    this.#size = new Int32Array(n + 1);
    this.#dirty = new Int32Array(n);
    this.#isDirty = new Uint8Array(n);
    this.#front = new Int32Array(n);
    this.#states = new Int32Array(n);
    this.#groupOf = new Int32Array(n);
    this.#groupSize = new Int32Array(n);
    this.#groupBegin = new Int32Array(n);
    this.#used = new Int32Array(n);
    const names = new Map<number, number>();
    for (let s = 0; s < n; s++) {
      let block = names.get(classOf[s]);
      if (block === undefined) {
        block = this.#blocks++;
        names.set(classOf[s], block);
      }
      this.#blockOf[s] = block;
      this.#size[block]++;
    }
    let at = 0;
    for (let b = 0; b < this.#blocks; b++) {
      this.#first[b] = at;
      at += this.#size[b];
    }
    const next = this.#first.slice(0, this.#blocks);
    for (let s = 0; s < n; s++) {
      const place = next[this.#blockOf[s]]++;
      this.#order[place] = s;
      this.#place[s] = place;
    }
    const start = new Int32Array(n + 1);
    for (let s = 0; s < n; s++) start[dfa.fallback[s] + 1]++;
    for (let e = 0; e < dfa.edgeTo.length; e++) start[dfa.edgeTo[e] + 1]++;
    for (let s = 0; s < n; s++) start[s + 1] += start[s];
    this.#predecessorStart = start;
    this.#predecessors = new Int32Array(start[n]);
    const fill = start.slice();
    for (let s = 0; s < n; s++) {
      this.#predecessors[fill[dfa.fallback[s]]++] = s;
      for (let e = dfa.edgeStart[s]; e < dfa.edgeStart[s + 1]; e++)
        this.#predecessors[fill[dfa.edgeTo[e]]++] = s;
    }
  }

  run(): Blocks {
    for (let s = 0; s < this.#dfa.count; s++) this.#soil(s);
    while (this.#dirtyCount > 0) this.#round();
    const member = new Int32Array(this.#blocks);
    for (let b = 0; b < this.#blocks; b++) {
      let least = this.#order[this.#first[b]];
      for (let i = 1; i < this.#size[b]; i++) least = Math.min(least, this.#order[this.#first[b] + i]);
      member[b] = least;
    }
    return { count: this.#blocks, blockOf: this.#blockOf, member };
  }

  #soil(state: number): void {
    if (this.#isDirty[state]) return;
    this.#isDirty[state] = 1;
    this.#dirty[this.#dirtyCount++] = state;
  }

  #round(): void {
    const dirty = this.#dirty.slice(0, this.#dirtyCount).sort();
    this.#dirtyCount = 0;
    // Gather each block's dirty members at its front, ascending.
    const front = this.#front;
    const touched: number[] = [];
    for (const s of dirty) {
      const block = this.#blockOf[s];
      if (front[block] === 0) touched.push(block);
      this.#swap(s, this.#first[block] + front[block]++);
    }
    // Signatures refer to the names at the beginning of the round, so names change at its end only.
    const renamed: number[] = [];
    for (const block of touched) {
      const count = front[block];
      front[block] = 0;
      if (this.#size[block] > 1) this.#split(block, count, renamed);
    }
    const isDirty = this.#isDirty;
    for (const s of dirty) isDirty[s] = 0;
    const order = this.#order;
    const blockOf = this.#blockOf;
    for (const block of renamed) {
      const end = this.#first[block] + this.#size[block];
      for (let i = this.#first[block]; i < end; i++) blockOf[order[i]] = block;
    }
    const start = this.#predecessorStart;
    const predecessors = this.#predecessors;
    for (const block of renamed) {
      const end = this.#first[block] + this.#size[block];
      for (let i = this.#first[block]; i < end; i++) {
        const stop = start[order[i] + 1];
        for (let p = start[order[i]]; p < stop; p++) {
          if (isDirty[predecessors[p]] === 0) this.#soil(predecessors[p]);
        }
      }
    }
  }

  #swap(state: number, place: number): void {
    const other = this.#order[place];
    const from = this.#place[state];
    this.#order[place] = state;
    this.#place[state] = place;
    this.#order[from] = other;
    this.#place[other] = from;
  }

  /** Splits off what differs among the first `count` members; the rest is alike and differs from all of those. */
  #split(block: number, count: number, renamed: number[]): void {
    const first = this.#first[block];
    const groups = this.#group(first, count);
    const rest = this.#size[block] - count;
    if (groups === 1 && rest === 0) return;
    // The largest part keeps the name: the untouched rest, or a group.
    let keeps = -1;
    let largest = rest;
    for (let g = 0; g < groups; g++) {
      if (this.#groupSize[g] > largest) {
        largest = this.#groupSize[g];
        keeps = g;
      }
    }
    const name = (part: number) => {
      if (part === keeps) return block;
      renamed.push(this.#blocks);
      return this.#blocks++;
    };
    const next = this.#groupBegin;
    let at = first;
    for (let g = 0; g < groups; g++) {
      const part = name(g);
      next[g] = at;
      this.#first[part] = at;
      this.#size[part] = this.#groupSize[g];
      at += this.#groupSize[g];
    }
    for (let i = 0; i < count; i++) this.#states[i] = this.#order[first + i];
    for (let i = 0; i < count; i++) {
      const place = next[this.#groupOf[i]]++;
      this.#order[place] = this.#states[i];
      this.#place[this.#states[i]] = place;
    }
    if (rest === 0) return;
    const part = name(-1);
    this.#first[part] = at;
    this.#size[part] = rest;
  }

  /** Numbers the signatures of `count` states from `first` on, in `#groupOf` and `#groupSize`. Returns how many differ. */
  #group(first: number, count: number): number {
    if (count * 2 > this.#slots.length) {
      let size = this.#slots.length;
      while (size < count * 2) size *= 2;
      this.#slots = new Int32Array(size).fill(-1);
    }
    const mask = this.#slots.length - 1;
    let groups = 0;
    let end = 0;
    for (let i = 0; i < count; i++) {
      const stop = this.#sign(this.#order[first + i], end);
      let slot = this.#hash(end, stop) & mask;
      while (this.#slots[slot] >= 0 && !this.#equal(this.#groupBegin[this.#slots[slot]], end, stop)) {
        slot = (slot + 1) & mask;
      }
      let group = this.#slots[slot];
      if (group < 0) {
        group = groups++;
        this.#slots[slot] = group;
        this.#used[group] = slot;
        this.#groupBegin[group] = end;
        this.#groupSize[group] = 0;
        end = stop;
      }
      this.#groupOf[i] = group;
      this.#groupSize[group]++;
    }
    for (let g = 0; g < groups; g++) this.#slots[this.#used[g]] = -1;
    return groups;
  }

  /** Writes a state's signature at `at`: its length, the commonest block, byte and block of the others. Returns its end. */
  #sign(state: number, at: number): number {
    const { fallback, edgeStart, edgeByte, edgeTo } = this.#dfa;
    const from = edgeStart[state];
    const to = edgeStart[state + 1];
    const needed = at + 514;
    if (needed > this.#signature.length) {
      const bigger = new Int32Array(Math.max(needed, this.#signature.length * 2));
      bigger.set(this.#signature);
      this.#signature = bigger;
    }
    const signature = this.#signature;
    let common = this.#blockOf[fallback[state]];
    if (to - from >= 128) common = this.#commonest(state);
    let end = at + 2;
    signature[at + 1] = common;
    if (common === this.#blockOf[fallback[state]]) {
      for (let e = from; e < to; e++) {
        const block = this.#blockOf[edgeTo[e]];
        if (block === common) continue;
        signature[end++] = edgeByte[e];
        signature[end++] = block;
      }
      signature[at] = end - at;
      return end;
    }
    let e = from;
    for (let byte = 0; byte < 256; byte++) {
      let target = fallback[state];
      if (e < to && edgeByte[e] === byte) target = edgeTo[e++];
      if (this.#blockOf[target] === common) continue;
      signature[end++] = byte;
      signature[end++] = this.#blockOf[target];
    }
    signature[at] = end - at;
    return end;
  }

  /** The block most bytes lead to; of several the lowest. */
  #commonest(state: number): number {
    const { fallback, edgeStart, edgeTo } = this.#dfa;
    const tally = this.#tally;
    tally.clear();
    const exceptions = edgeStart[state + 1] - edgeStart[state];
    tally.set(this.#blockOf[fallback[state]], 256 - exceptions);
    for (let e = edgeStart[state]; e < edgeStart[state + 1]; e++) {
      const block = this.#blockOf[edgeTo[e]];
      tally.set(block, (tally.get(block) ?? 0) + 1);
    }
    let best = -1;
    let most = 0;
    for (const [block, n] of tally) {
      if (n > most || (n === most && block < best)) {
        best = block;
        most = n;
      }
    }
    return best;
  }

  #hash(from: number, to: number): number {
    let hash = to - from;
    for (let i = from; i < to; i++) {
      hash = Math.imul(hash ^ this.#signature[i], 0x9e3779b1);
      hash ^= hash >>> 15;
    }
    return hash;
  }

  #equal(a: number, b: number, bEnd: number): boolean {
    const signature = this.#signature;
    for (let i = b; i < bEnd; i++) if (signature[a + i - b] !== signature[i]) return false;
    return true;
  }
}
