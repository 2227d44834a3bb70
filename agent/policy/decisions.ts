import type { Term } from './ballots.js';
import { CHAIN_LIMIT, DENIES, enums, structs, WAITING_LIMIT } from './layout.js';
import { SetPool } from './sets.js';

const { DECIDE_COUNT } = enums.decide;

/** A chain of rules by the number of its first, counted from 1; 0 = none. */
export type ChainRef = number;

/** More rules with different lists of arguments bear on one object than the kernel looks at; `rule`: the id of one. */
export class ChainTooLong extends Error {
  readonly rule: number;

  constructor(rule: number) {
    super('a chain has too many rules');
    this.rule = rule;
  }
}

/** Collects the chains and decisions of a set; equal ones are kept once, and equal ends of chains are shared. */
export class DecisionTable {
  /** Per chain, less one: id, rank, action, conditions, list of arguments, next. */
  readonly #chains = new SetPool();
  readonly #link = new Int32Array(6);
  /** Per decision verdict and audit of each question. */
  readonly #decisions = new SetPool();

  constructor() {
    this.decision(new Int32Array(DECIDE_COUNT * 2));
  }

  get ruleCount(): number {
    return this.#chains.count;
  }

  get decisionCount(): number {
    return this.#decisions.count;
  }

  /** @throws ChainTooLong */
  chain(terms: readonly Term[]): ChainRef {
    if (terms.length > CHAIN_LIMIT) throw new ChainTooLong(terms[CHAIN_LIMIT].id);
    let waits = 0;
    const link = this.#link;
    let ref = 0;
    for (let i = terms.length - 1; i >= 0; i--) {
      const { id, rank, action, conditions, args } = terms[i];
      if (args !== 0 && ++waits > WAITING_LIMIT) throw new ChainTooLong(id);
      link[0] = id;
      link[1] = rank;
      link[2] = action;
      link[3] = conditions;
      link[4] = args;
      link[5] = ref;
      ref = this.#chains.intern(link, link.length) + 1;
    }
    return ref;
  }

  /** The number of the decision with these entries: verdict, audit per question. */
  decision(entries: Int32Array): number {
    return this.#decisions.intern(entries, entries.length);
  }

  entries(decision: number): Int32Array {
    return this.#decisions.members(decision);
  }

  /** Bit 1 << question for each one that the decision answers, and DENIES << question where it has a verdict. */
  answers(decision: number): number {
    let mask = 0;
    this.entries(decision).forEach((ref, i) => {
      if (ref !== 0) mask |= (i % 2 === 0 ? DENIES | 1 : 1) << (i >> 1);
    });
    return mask;
  }

  /** Bit 1 << question for each one that is answered by letting pass, without a report or a condition. */
  #passes(entries: Int32Array): number {
    let mask = 0;
    for (let question = 0; question < DECIDE_COUNT; question++) {
      const [verdict, audit] = entries.subarray(question * 2);
      if (audit !== 0) continue;
      if (verdict === 0 || this.#allows(verdict)) mask |= 1 << question;
    }
    return mask;
  }

  #allows(chain: ChainRef): boolean {
    const [, , action, conditions, , next] = this.#chains.members(chain - 1);
    return action === enums.action.ACTION_ALLOW && conditions === 0 && next === 0;
  }

  /** @param rules byte offset of the rules in the region @param argsStart per list of arguments its first state */
  write(view: DataView, decisions: number, rules: number, argsStart: readonly number[]): void {
    const offset = (ref: ChainRef) => ruleOffset(rules, ref);
    for (let decision = 0; decision < this.decisionCount; decision++) {
      const at = decisions + decision * structs.decision.size;
      const entries = this.entries(decision);
      entries.forEach((ref, i) => {
        view.setUint32(at + i * 4, offset(ref), true);
      });
      view.setUint32(at + structs.decision.passes, this.#passes(entries), true);
    }
    for (let chain = 0; chain < this.ruleCount; chain++) {
      const at = rules + chain * structs.rule.size;
      const [id, rank, action, conditions, args, next] = this.#chains.members(chain);
      view.setUint32(at + structs.rule.next, offset(next), true);
      view.setUint32(at + structs.rule.id, id, true);
      view.setUint32(at + structs.rule.rank, rank >>> 0, true);
      view.setUint8(at + structs.rule.action_u8, action);
      view.setUint8(at + structs.rule.conditions_u8, conditions);
      view.setUint32(at + structs.rule.args_start, argsStart[args], true);
    }
  }
}

/** Where in the region the rule stands that a chain begins with; 0 = no chain. */
export function ruleOffset(rules: number, ref: ChainRef): number {
  return ref === 0 ? 0 : rules + (ref - 1) * structs.rule.size;
}
