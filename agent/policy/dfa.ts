import { SLASH } from './layout.js';
import { AutomatonTooLarge, type Nfa, WIDE_ALL, WIDE_COMPONENT } from './nfa.js';
import { grown, SetPool, sortUnique } from './sets.js';

/**
 * A deterministic automaton over bytes. State 0 is the dead one. A row is a default and the bytes that lead
 * elsewhere, ascending: `edgeByte`/`edgeTo` from `edgeStart[s]` to `edgeStart[s + 1]`.
 */
export interface Dfa {
  readonly count: number;
  readonly start: number;
  readonly fallback: Int32Array;
  readonly edgeStart: Int32Array;
  readonly edgeByte: Uint8Array;
  readonly edgeTo: Int32Array;
  /** Per state the number in `accepts` of the set of what is accepted there; set 0 is empty. */
  readonly accept: Int32Array;
  readonly accepts: SetPool;
}

export interface Bounds {
  /** States of the automaton before it is minimised. */
  readonly states: number;
  /** Members of all its states' subsets, and of all closures; 4 bytes each. */
  readonly members: number;
}

/**
 * Subset construction (M. Rabin and D. Scott, "Finite Automata and Their Decision Problems", 1959), row by row:
 * only the bytes that some member of the subset singles out are looked at one by one.
 *
 * @throws AutomatonTooLarge
 */
export function determinise(nfa: Nfa, bounds: Bounds): Dfa {
  return new Determiniser(nfa, bounds).run();
}

class Determiniser {
  readonly #nfa: Nfa;
  readonly #bounds: Bounds;
  readonly #subsets = new SetPool();
  readonly #accepts = new SetPool();
  #closureStart: Int32Array;
  #closures = new Int32Array(1024);
  #closureEnd = 0;
  /** State of the subset that a single target's closure is, once known. */
  readonly #alone: Int32Array;
  readonly #mark: Int32Array;
  #stamp = 0;
  #buffer = new Int32Array(256);
  #length = 0;
  #fallback = new Int32Array(256);
  #edgeStart = new Int32Array(256);
  #edgeByte = new Uint8Array(1024);
  #edgeTo = new Int32Array(1024);
  #edges = 0;
  #accept = new Int32Array(256);

  constructor(nfa: Nfa, bounds: Bounds) {
    this.#nfa = nfa;
    this.#bounds = bounds;
    this.#closureStart = new Int32Array(nfa.count + 1);
    this.#alone = new Int32Array(nfa.count).fill(-1);
    this.#mark = new Int32Array(nfa.count).fill(-1);
  }

  run(): Dfa {
    this.#close();
    this.#subsets.intern(this.#buffer, 0);
    this.#accepts.intern(this.#buffer, 0);
    this.#clear();
    this.#add(0);
    const start = this.#subset();
    for (let s = 0; s < this.#subsets.count; s++) this.#expand(s);
    const count = this.#subsets.count;
    if (count + 1 > this.#edgeStart.length) this.#edgeStart = grown(this.#edgeStart, count + 1);
    this.#edgeStart[count] = this.#edges;
    return {
      count,
      start,
      fallback: this.#fallback.subarray(0, count),
      edgeStart: this.#edgeStart.subarray(0, count + 1),
      edgeByte: this.#edgeByte.subarray(0, this.#edges),
      edgeTo: this.#edgeTo.subarray(0, this.#edges),
      accept: this.#accept.subarray(0, count),
      accepts: this.#accepts,
    };
  }

  /** Per state what it reaches without a byte, leaving out states that only pass on. */
  #close(): void {
    const nfa = this.#nfa;
    const stack: number[] = [];
    for (let s = 0; s < nfa.count; s++) {
      this.#closureStart[s] = this.#closureEnd;
      const stamp = ++this.#stamp;
      stack.push(s);
      this.#mark[s] = stamp;
      for (let state = stack.pop(); state !== undefined; state = stack.pop()) {
        if (nfa.head[state] >= 0 || nfa.wide[state] !== 0 || nfa.acceptHead[state] >= 0) {
          if (this.#closureEnd === this.#closures.length) {
            if (this.#closureEnd > this.#bounds.members) throw new AutomatonTooLarge(this.#culprits());
            this.#closures = grown(this.#closures, this.#closureEnd + 1);
          }
          this.#closures[this.#closureEnd++] = state;
        }
        for (let e = nfa.epsilonHead[state]; e >= 0; e = nfa.epsilonNext[e]) {
          const to = nfa.epsilonTo[e];
          if (this.#mark[to] !== stamp) {
            this.#mark[to] = stamp;
            stack.push(to);
          }
        }
      }
    }
    this.#closureStart[nfa.count] = this.#closureEnd;
  }

  #clear(): void {
    this.#stamp++;
    this.#length = 0;
  }

  #add(state: number): void {
    const end = this.#closureStart[state + 1];
    const stamp = this.#stamp;
    for (let i = this.#closureStart[state]; i < end; i++) {
      const member = this.#closures[i];
      if (this.#mark[member] === stamp) continue;
      this.#mark[member] = stamp;
      if (this.#length === this.#buffer.length) this.#buffer = grown(this.#buffer, this.#length + 1);
      this.#buffer[this.#length++] = member;
    }
  }

  /** The state of the members added since `#clear`. */
  #subset(): number {
    const length = sortUnique(this.#buffer, this.#length);
    const state = this.#subsets.intern(this.#buffer, length);
    if (this.#subsets.count > this.#bounds.states || this.#subsets.total > this.#bounds.members) {
      throw new AutomatonTooLarge(this.#culprits());
    }
    return state;
  }

  #single(target: number): number {
    if (this.#alone[target] < 0) {
      this.#clear();
      this.#add(target);
      this.#alone[target] = this.#subset();
    }
    return this.#alone[target];
  }

  // Of the subset at hand: targets of wide edges, and per byte a list of the targets of the edges it has.
  #wideAll = new Int32Array(64);
  #wideAlls = 0;
  #wideComponent = new Int32Array(64);
  #wideComponents = 0;
  readonly #byteHead = new Int32Array(256).fill(-1);
  readonly #bytes = new Int32Array(256);
  #byteCount = 0;
  #listTo = new Int32Array(1024);
  #listNext = new Int32Array(1024);
  #listEnd = 0;

  #expand(state: number): void {
    this.#gather(state);
    const count = sortUnique(this.#bytes, this.#byteCount);
    const fallback = this.#target(-1, true);
    if (state + 2 > this.#fallback.length) {
      this.#fallback = grown(this.#fallback, state + 2);
      this.#edgeStart = grown(this.#edgeStart, state + 2);
      this.#accept = grown(this.#accept, state + 2);
    }
    this.#fallback[state] = fallback;
    this.#edgeStart[state] = this.#edges;
    this.#accept[state] = this.#acceptOf(state);
    if (this.#edges + count > this.#edgeTo.length) {
      this.#edgeTo = grown(this.#edgeTo, this.#edges + count);
      this.#edgeByte = grown(this.#edgeByte, this.#edges + count);
    }
    let lastList = -1;
    let lastTo = 0;
    for (let i = 0; i < count; i++) {
      const byte = this.#bytes[i];
      const list = this.#byteHead[byte];
      const reuse = lastList >= 0 && byte !== SLASH && this.#sameList(list, lastList);
      const to = reuse ? lastTo : this.#target(list, byte !== SLASH);
      lastList = byte === SLASH ? -1 : list;
      lastTo = to;
      this.#byteHead[byte] = -1;
      if (to === fallback) continue;
      this.#edgeByte[this.#edges] = byte;
      this.#edgeTo[this.#edges++] = to;
    }
  }

  #gather(state: number): void {
    const nfa = this.#nfa;
    const subsets = this.#subsets;
    this.#wideAlls = 0;
    this.#wideComponents = 0;
    this.#byteCount = 0;
    this.#listEnd = 0;
    const end = subsets.end(state);
    for (let i = subsets.start(state); i < end; i++) {
      const member = subsets.member(i);
      if (nfa.wide[member] === WIDE_ALL) {
        if (this.#wideAlls === this.#wideAll.length) this.#wideAll = grown(this.#wideAll, this.#wideAlls + 1);
        this.#wideAll[this.#wideAlls++] = nfa.wideTo[member];
      } else if (nfa.wide[member] === WIDE_COMPONENT) {
        if (this.#wideComponents === this.#wideComponent.length) {
          this.#wideComponent = grown(this.#wideComponent, this.#wideComponents + 1);
        }
        this.#wideComponent[this.#wideComponents++] = nfa.wideTo[member];
      }
      for (let e = nfa.head[member]; e >= 0; e = nfa.edgeNext[e]) {
        const to = nfa.edgeTo[e];
        const hi = nfa.edgeHi[e];
        for (let byte = nfa.edgeLo[e]; byte <= hi; byte++) this.#list(byte, to);
      }
    }
    if (this.#wideComponents > 0 && this.#byteHead[SLASH] < 0) this.#bytes[this.#byteCount++] = SLASH;
  }

  #list(byte: number, to: number): void {
    if (this.#byteHead[byte] < 0) this.#bytes[this.#byteCount++] = byte;
    const at = this.#listEnd++;
    if (at === this.#listTo.length) {
      this.#listTo = grown(this.#listTo, at + 1);
      this.#listNext = grown(this.#listNext, at + 1);
    }
    this.#listTo[at] = to;
    this.#listNext[at] = this.#byteHead[byte];
    this.#byteHead[byte] = at;
  }

  #sameList(a: number, b: number): boolean {
    while (a >= 0 && b >= 0) {
      if (this.#listTo[a] !== this.#listTo[b]) return false;
      a = this.#listNext[a];
      b = this.#listNext[b];
    }
    return a === b;
  }

  /** Where a byte leads that has the edges of `list`; `within`: it is not a slash. */
  #target(list: number, within: boolean): number {
    const wide = this.#wideAlls + (within ? this.#wideComponents : 0);
    if (wide === 0) {
      if (list < 0) return 0;
      if (this.#listNext[list] < 0) return this.#single(this.#listTo[list]);
    } else if (wide === 1 && list < 0) {
      return this.#single(this.#wideAlls > 0 ? this.#wideAll[0] : this.#wideComponent[0]);
    }
    this.#clear();
    for (let i = 0; i < this.#wideAlls; i++) this.#add(this.#wideAll[i]);
    if (within) for (let i = 0; i < this.#wideComponents; i++) this.#add(this.#wideComponent[i]);
    for (let at = list; at >= 0; at = this.#listNext[at]) this.#add(this.#listTo[at]);
    return this.#subset();
  }

  #acceptOf(state: number): number {
    const nfa = this.#nfa;
    this.#length = 0;
    const end = this.#subsets.end(state);
    for (let i = this.#subsets.start(state); i < end; i++) {
      for (let a = nfa.acceptHead[this.#subsets.member(i)]; a >= 0; a = nfa.acceptNext[a]) {
        if (this.#length === this.#buffer.length) this.#buffer = grown(this.#buffer, this.#length + 1);
        this.#buffer[this.#length++] = nfa.acceptId[a];
      }
    }
    return this.#accepts.intern(this.#buffer, sortUnique(this.#buffer, this.#length));
  }

  /** Accept numbers by how often states made for them occur in the subsets so far. */
  #culprits(): number[] {
    const tally = new Map<number, number>();
    const tick = (state: number) => {
      const owner = this.#nfa.owner[state];
      if (owner >= 0) tally.set(owner, (tally.get(owner) ?? 0) + 1);
    };
    for (let i = 0; i < this.#closureEnd; i++) tick(this.#closures[i]);
    for (let i = 0; i < this.#subsets.total; i++) tick(this.#subsets.member(i));
    return [...tally].sort((a, b) => b[1] - a[1] || a[0] - b[0]).map(([id]) => id);
  }
}
