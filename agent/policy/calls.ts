import { type Ballots, cast, condense, noBallots } from './ballots.js';
import type { Votes } from './decide.js';
import { type Bounds, type Dfa, determinise } from './dfa.js';
import { enums } from './layout.js';
import type { Matcher, SyscallRule } from './model.js';
import { Nfa } from './nfa.js';
import type { NumberedRule } from './rules.js';
import { operationsOf, SYSCALLS } from './syscalls.js';

const { CALL_PATH } = enums.call;

interface CallMatcher extends Votes {
  /** What the input begins with: an ABI and a number, or CALL_PATH and an operation. */
  readonly bytes: readonly number[];
  readonly match: Matcher | undefined;
  readonly rule: SyscallRule;
}

/** System calls, by number or by what they do to which path. */
export class CallMatchers {
  readonly #byKey = new Map<string, CallMatcher>();
  readonly all: CallMatcher[] = [];

  get aboutPaths(): boolean {
    return this.all.some(({ match }) => match !== undefined);
  }

  /** @param list number of its list of sources, -1 = none */
  addRule(numbered: NumberedRule, rule: SyscallRule, rank: number, list: number): void {
    const { match } = rule;
    const inputs = new Map<string, readonly number[]>();
    for (const name of rule.syscalls) {
      for (const bytes of match === undefined
        ? numbersOf(name)
        : operationsOf(name).map((o) => [CALL_PATH, o]))
        inputs.set(bytes.join(), bytes);
    }
    for (const [key, bytes] of inputs) {
      const { free, bySources } = this.#of(`${key} ${JSON.stringify(match)}`, bytes, rule);
      let ballots: Ballots | undefined = free;
      if (list >= 0) {
        ballots = bySources.get(list) ?? noBallots();
        bySources.set(list, ballots);
      }
      cast(ballots, numbered, 0, rank, 0);
    }
  }

  #of(key: string, bytes: readonly number[], rule: SyscallRule): CallMatcher {
    let matcher = this.#byKey.get(key);
    if (matcher === undefined) {
      matcher = { bytes, match: rule.match, rule, free: noBallots(), bySources: new Map() };
      this.#byKey.set(key, matcher);
      this.all.push(matcher);
    }
    return matcher;
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
    this.all.forEach(({ bytes, match }, id) => {
      const begin = nfa.trie(0, bytes);
      nfa.own(id, () => nfa.accept(match === undefined ? begin : below(nfa, begin, match), id));
    });
    return determinise(nfa, bounds);
  }
}

/** Paths and directories only. */
function below(nfa: Nfa, begin: number, match: Matcher): number {
  if (match.kind === 'path') return nfa.trie(begin, Buffer.from(match.path));
  if (match.kind !== 'directory') return begin;
  const dir = nfa.trie(begin, Buffer.from(match.dir));
  return nfa.nodes(dir, [{ kind: 'run', deep: match.recursive, min: 1 }]);
}

function numbersOf(name: string): number[][] {
  return SYSCALLS.flatMap((numbers, abi) => {
    const number = numbers.get(name);
    return number === undefined ? [] : [[abi, number >> 8, number & 255]];
  });
}
