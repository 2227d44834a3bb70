import type { GlobNode } from './glob.js';
import { SLASH } from './layout.js';
import { grown } from './sets.js';
import { STRAY_BYTES, utf8Sequences } from './utf8.js';

/** What a state does with every byte beside its range edges: nothing, go on, or go on except at a slash. */
export const WIDE_ALL = 1;
export const WIDE_COMPONENT = 2;

/** The automaton would outgrow its bound; `culprits`: accept numbers of what makes it grow, the worst first. */
export class AutomatonTooLarge extends Error {
  readonly culprits: readonly number[];

  constructor(culprits: readonly number[]) {
    super('the automaton outgrows its bound');
    this.name = 'AutomatonTooLarge';
    this.culprits = culprits;
  }
}

/** Edges of all states together; some 16 bytes each. */
const MAX_EDGES = 1 << 22;

/**
 * A nondeterministic automaton over bytes that recognises many patterns at once. Literal beginnings are shared in a
 * trie that hangs from state 0; the rest is built after K. Thompson, "Regular Expression Search Algorithm" (1968).
 *
 * Edges are ranges of bytes in linked lists; a state has at most one wide edge besides (`wide`, `wideTo`).
 */
export class Nfa {
  count = 0;
  #edges = 0;
  #epsilons = 0;
  #accepts = 0;
  head = new Int32Array(256).fill(-1);
  wide = new Uint8Array(256);
  wideTo = new Int32Array(256);
  /** The accept number a state was made for, -1 = shared. */
  owner = new Int32Array(256);
  epsilonHead = new Int32Array(256).fill(-1);
  acceptHead = new Int32Array(256).fill(-1);
  edgeLo = new Uint8Array(256);
  edgeHi = new Uint8Array(256);
  edgeTo = new Int32Array(256);
  edgeNext = new Int32Array(256);
  epsilonTo = new Int32Array(256);
  epsilonNext = new Int32Array(256);
  acceptId = new Int32Array(256);
  acceptNext = new Int32Array(256);
  #owner = -1;

  constructor() {
    this.state();
  }

  state(): number {
    const s = this.count++;
    if (s >= this.head.length) {
      const size = s * 2;
      for (const key of ['head', 'epsilonHead', 'acceptHead'] as const) {
        this[key] = grown(this[key], size);
        this[key].fill(-1, s);
      }
      this.wide = grown(this.wide, size);
      this.wideTo = grown(this.wideTo, size);
      this.owner = grown(this.owner, size);
    }
    this.owner[s] = this.#owner;
    return s;
  }

  edge(from: number, lo: number, hi: number, to: number): void {
    const e = this.#edges++;
    if (e >= MAX_EDGES) throw new AutomatonTooLarge(this.#owner < 0 ? [] : [this.#owner]);
    if (e >= this.edgeTo.length) {
      for (const key of ['edgeTo', 'edgeNext'] as const) this[key] = grown(this[key], e + 1);
      for (const key of ['edgeLo', 'edgeHi'] as const) this[key] = grown(this[key], e + 1);
    }
    this.edgeLo[e] = lo;
    this.edgeHi[e] = hi;
    this.edgeTo[e] = to;
    this.edgeNext[e] = this.head[from];
    this.head[from] = e;
  }

  /** `from` has no wide edge yet. */
  wideEdge(from: number, wide: number, to: number): void {
    this.wide[from] = wide;
    this.wideTo[from] = to;
  }

  epsilon(from: number, to: number): void {
    const e = this.#epsilons++;
    if (e >= this.epsilonTo.length) {
      for (const key of ['epsilonTo', 'epsilonNext'] as const) this[key] = grown(this[key], e + 1);
    }
    this.epsilonTo[e] = to;
    this.epsilonNext[e] = this.epsilonHead[from];
    this.epsilonHead[from] = e;
  }

  accept(state: number, id: number): void {
    const a = this.#accepts++;
    if (a >= this.acceptId.length) {
      for (const key of ['acceptId', 'acceptNext'] as const) this[key] = grown(this[key], a + 1);
    }
    this.acceptId[a] = id;
    this.acceptNext[a] = this.acceptHead[state];
    this.acceptHead[state] = a;
  }

  /** Where `bytes` lead from a trie state, made where there is no way yet. Single-byte edges of trie states only lead to trie states. */
  trie(from: number, bytes: ArrayLike<number>): number {
    const owner = this.#owner;
    this.#owner = -1;
    let state = from;
    for (let i = 0; i < bytes.length; i++) {
      const byte = bytes[i];
      let e = this.head[state];
      while (e >= 0 && !(this.edgeLo[e] === byte && this.edgeHi[e] === byte)) e = this.edgeNext[e];
      if (e >= 0) state = this.edgeTo[e];
      else {
        const next = this.state();
        this.edge(state, byte, byte, next);
        state = next;
      }
    }
    this.#owner = owner;
    return state;
  }

  /** Makes `build`'s states count as `id`'s. */
  own(id: number, build: () => void): void {
    this.#owner = id;
    build();
    this.#owner = -1;
  }

  /** A state reached from `from` by the nodes. */
  nodes(from: number, nodes: readonly GlobNode[]): number {
    let state = from;
    for (const node of nodes) state = this.#node(state, node);
    return state;
  }

  #node(from: number, node: GlobNode): number {
    switch (node.kind) {
      case 'literal': {
        let state = from;
        for (const byte of node.bytes) {
          const next = this.state();
          this.edge(state, byte, byte, next);
          state = next;
        }
        return state;
      }
      case 'set': {
        const to = this.state();
        for (const range of node.ranges) {
          for (const sequence of utf8Sequences(range)) this.#sequence(from, sequence, to);
        }
        if (node.stray) for (const [lo, hi] of STRAY_BYTES) this.edge(from, lo, hi, to);
        return to;
      }
      case 'run': {
        const wide = node.deep ? WIDE_ALL : WIDE_COMPONENT;
        const loop = this.state();
        this.wideEdge(loop, wide, loop);
        if (node.min === 0) this.epsilon(from, loop);
        else {
          const first = this.state();
          this.epsilon(from, first);
          this.wideEdge(first, wide, loop);
        }
        return loop;
      }
      case 'components': {
        const loop = this.state();
        const after = this.state();
        this.wideEdge(loop, WIDE_ALL, loop);
        this.edge(loop, SLASH, SLASH, after);
        this.epsilon(from, loop);
        this.epsilon(from, after);
        return after;
      }
      case 'either': {
        const after = this.state();
        for (const option of node.options) {
          const begin = this.state();
          this.epsilon(from, begin);
          this.epsilon(this.nodes(begin, option), after);
        }
        return after;
      }
    }
  }

  #sequence(from: number, sequence: readonly number[], to: number): void {
    let state = from;
    for (let i = 0; i < sequence.length; i += 2) {
      const next = i + 2 === sequence.length ? to : this.state();
      this.edge(state, sequence[i], sequence[i + 1], next);
      state = next;
    }
  }
}
