import { type Ballots, cast, condense, noBallots } from './ballots.js';
import type { Votes } from './decide.js';
import { type Bounds, type Dfa, determinise } from './dfa.js';
import type { DomainRule } from './model.js';
import { Nfa, WIDE_ALL } from './nfa.js';
import type { NumberedRule } from './rules.js';

interface DomainMatcher extends Votes {
  readonly domain: string;
  readonly below: boolean;
  readonly rule: DomainRule;
}

const DOT = 0x2e;

/** Domain names that are asked for. They are read from their end, so that a domain is the beginning of all below it. */
export class DomainMatchers {
  readonly #byKey = new Map<string, DomainMatcher>();
  readonly all: DomainMatcher[] = [];

  /** @param list number of its list of sources, -1 = none */
  addRule(numbered: NumberedRule, rule: DomainRule, rank: number, list: number): void {
    const key = rule.below ? `*.${rule.domain}` : rule.domain;
    let matcher = this.#byKey.get(key);
    if (matcher === undefined) {
      const { domain, below } = rule;
      matcher = { domain, below, rule, free: noBallots(), bySources: new Map() };
      this.#byKey.set(key, matcher);
      this.all.push(matcher);
    }
    let ballots: Ballots | undefined = matcher.free;
    if (list >= 0) {
      ballots = matcher.bySources.get(list) ?? noBallots();
      matcher.bySources.set(list, ballots);
    }
    cast(ballots, numbered, 0, rank, 0);
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
    this.all.forEach(({ domain, below }, id) => {
      const itself = nfa.trie(0, Buffer.from(domain).reverse());
      const dot = nfa.trie(itself, [DOT]);
      nfa.own(id, () => {
        const rest = nfa.state();
        nfa.epsilon(dot, rest);
        nfa.wideEdge(rest, WIDE_ALL, rest);
        nfa.accept(rest, id);
        if (!below) nfa.accept(itself, id);
      });
    });
    return determinise(nfa, bounds);
  }
}
