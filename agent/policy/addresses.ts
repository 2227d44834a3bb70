import { type Ballots, cast, condense, noBallots } from './ballots.js';
import type { Votes } from './decide.js';
import { type Bounds, type Dfa, determinise } from './dfa.js';
import { IP_PROTOCOLS } from './layout.js';
import type { AddressRule, Cidr, PortRange } from './model.js';
import { Nfa, WIDE_ALL } from './nfa.js';
import { addressRank } from './ranks.js';
import type { NumberedRule } from './rules.js';

interface AddressMatcher extends Votes {
  /** Disjoint blocks; empty = every address. */
  readonly blocks: readonly Cidr[];
  readonly ports: readonly PortRange[];
  readonly rule: AddressRule;
}

/** The rules of one direction and address family, or those on binding (`width` 0: the input has no address). */
export class AddressMatchers {
  readonly #width: number;
  readonly #byKey = new Map<string, number>();
  readonly all: AddressMatcher[] = [];

  /** @param width bytes of an address: 4, 16 or 0 */
  constructor(width: number) {
    this.#width = width;
  }

  /** @param list number of its list of sources, -1 = none */
  addRule(numbered: NumberedRule, rule: AddressRule, list: number): void {
    if (this.#width === 0) {
      const prefix = bindPrefix(rule);
      if (prefix >= 0) this.#add(numbered, rule, [], prefix, list);
      return;
    }
    if (rule.peers.length === 0) this.#add(numbered, rule, [], 0, list);
    for (const { cidr, except } of rule.peers) {
      if (cidr.bytes.length !== this.#width) continue;
      const blocks = without(cidr, except);
      if (blocks.length > 0) this.#add(numbered, rule, blocks, cidr.prefix, list);
    }
  }

  #add(
    numbered: NumberedRule,
    rule: AddressRule,
    blocks: readonly Cidr[],
    prefix: number,
    list: number,
  ): void {
    const where = blocks.map(({ bytes, prefix: bits }) => `${bytes.join('.')}/${bits}`).join();
    const key = `${where};${rule.ports.map(({ protocol, from, to }) => `${protocol ?? ''}${from}-${to}`).join()}`;
    let at = this.#byKey.get(key);
    if (at === undefined) {
      at = this.all.length;
      this.#byKey.set(key, at);
      this.all.push({ blocks, ports: rule.ports, rule, free: noBallots(), bySources: new Map() });
    }
    const { free, bySources } = this.all[at];
    let ballots: Ballots | undefined = free;
    if (list >= 0) {
      ballots = bySources.get(list) ?? noBallots();
      bySources.set(list, ballots);
    }
    cast(ballots, numbered, 0, addressRank(rule, prefix), 0);
  }

  finish(): void {
    for (const { free, bySources } of this.all) {
      condense(free);
      for (const ballots of bySources.values()) condense(ballots);
    }
  }

  /**
   * Accept numbers are indices into `all`.
   *
   * @throws AutomatonTooLarge
   */
  automaton(bounds: Bounds): Dfa {
    const nfa = new Nfa();
    this.all.forEach(({ blocks, ports }, id) => {
      nfa.own(id, () => {
        const accept = nfa.state();
        nfa.accept(accept, id);
        nfa.wideEdge(accept, WIDE_ALL, accept);
        const tails: number[] = [];
        for (const cidr of blocks.length === 0 ? [{ bytes: [], prefix: 0 }] : blocks) {
          this.#block(nfa, cidr, ports, accept, tails);
        }
      });
    });
    return determinise(nfa, bounds);
  }

  /** @param tails per number of address bytes still to come the state that expects them */
  #block(
    nfa: Nfa,
    { bytes, prefix }: Cidr,
    ports: readonly PortRange[],
    accept: number,
    tails: number[],
  ): void {
    const whole = prefix >> 3;
    const state = nfa.trie(0, bytes.slice(0, whole));
    const rest = prefix & 7;
    if (rest === 0) {
      nfa.epsilon(state, this.#tail(nfa, this.#width - whole, ports, accept, tails));
      return;
    }
    const own = nfa.state();
    nfa.epsilon(state, own);
    const lo = bytes[whole];
    nfa.edge(own, lo, lo | (0xff >> rest), this.#tail(nfa, this.#width - whole - 1, ports, accept, tails));
  }

  #tail(nfa: Nfa, left: number, ports: readonly PortRange[], accept: number, tails: number[]): number {
    if (ports.length === 0) return accept;
    if (tails[left] === undefined) {
      const state = nfa.state();
      tails[left] = state;
      if (left === 0) for (const range of ports) this.#ports(nfa, state, range, accept);
      else nfa.wideEdge(state, WIDE_ALL, this.#tail(nfa, left - 1, ports, accept, tails));
    }
    return tails[left];
  }

  #ports(nfa: Nfa, from: number, range: PortRange, accept: number): void {
    const protocol = range.protocol === undefined ? undefined : IP_PROTOCOLS[range.protocol];
    const port = nfa.state();
    bytes(nfa, from, protocol ?? 0, protocol ?? 255, port);
    const low = [range.from >> 8, range.from & 255];
    const high = [range.to >> 8, range.to & 255];
    const span = (hiFrom: number, hiTo: number, loFrom: number, loTo: number) => {
      if (hiFrom > hiTo) return;
      const last = nfa.state();
      bytes(nfa, port, hiFrom, hiTo, last);
      bytes(nfa, last, loFrom, loTo, accept);
    };
    if (low[0] === high[0]) span(low[0], low[0], low[1], high[1]);
    else {
      span(low[0], low[0], low[1], 255);
      span(low[0] + 1, high[0] - 1, 0, 255);
      span(high[0], high[0], 0, high[1]);
    }
  }
}

function bytes(nfa: Nfa, from: number, lo: number, hi: number, to: number): void {
  if (lo > 0 || hi < 255) {
    nfa.edge(from, lo, hi, to);
    return;
  }
  const any = nfa.state();
  nfa.epsilon(from, any);
  nfa.wideEdge(any, WIDE_ALL, to);
}

/**
 * Whoever the peer will be: an Allow rule lets bind if any peer may come, others deny if they hold for all. Returns the
 * prefix length that ranks the rule, -1 = it does not speak of binding.
 */
function bindPrefix(rule: AddressRule): number {
  if (rule.peers.length === 0) return 0;
  if (rule.action === 'Allow') return Math.max(...rule.peers.map(({ cidr }) => cidr.prefix));
  return rule.peers.some(({ cidr, except }) => cidr.prefix === 0 && except.length === 0) ? 0 : -1;
}

/** The blocks that make up `cidr` without `except`, disjoint, ascending. */
function without(cidr: Cidr, except: readonly Cidr[]): Cidr[] {
  const inside = except.filter((each) => each.bytes.length === cidr.bytes.length && overlaps(each, cidr));
  if (inside.length === 0) return [cidr];
  if (inside.some((each) => each.prefix <= cidr.prefix)) return [];
  const bytes = [...cidr.bytes];
  bytes[cidr.prefix >> 3] |= 0x80 >> (cidr.prefix & 7);
  const prefix = cidr.prefix + 1;
  return [...without({ bytes: cidr.bytes, prefix }, inside), ...without({ bytes, prefix }, inside)];
}

function overlaps(a: Cidr, b: Cidr): boolean {
  const bits = Math.min(a.prefix, b.prefix);
  const whole = bits >> 3;
  for (let i = 0; i < whole; i++) if (a.bytes[i] !== b.bytes[i]) return false;
  const rest = bits & 7;
  return rest === 0 || (a.bytes[whole] ^ b.bytes[whole]) >> (8 - rest) === 0;
}
