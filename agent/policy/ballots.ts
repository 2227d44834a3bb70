import { enums } from './layout.js';
import type { NameRule, Rule } from './model.js';
import { TRIAL_RANK } from './ranks.js';
import type { NumberedRule } from './rules.js';

const { ACTION_ALLOW, ACTION_AUDIT, ACTION_BLOCK, ACTION_KILL, ACTION_KILL_CONTAINER } = enums.action;
const { CONDITION_OWNER, CONDITION_NO_TTY, CONDITION_ARGS, CONDITION_SELF, CONDITION_NEVER } =
  enums.condition;
const { DECIDE_MAP, DECIDE_WRITE, DECIDE_COUNT } = enums.decide;

/** One rule's say in one question, as struct rule has it. */
export interface Term {
  readonly id: number;
  readonly rank: number;
  /** enum action. */
  readonly action: number;
  /** enum condition. 0 = fires always. */
  readonly conditions: number;
  /** Number of its list of allowed arguments, 0 = none. */
  readonly args: number;
  /** How strict a denial it makes; 0 = it can only let pass. */
  readonly strictness: number;
  readonly dryRun: boolean;
}

/** Of all rules with one matcher and one list of sources: what they say to one question. */
export interface Ballot {
  /** In force, those of the highest rank. */
  readonly enforced: Term[];
  /** Of those in force and of dry runs together, those of the highest rank. */
  readonly tried: Term[];
  readonly audits: Term[];
}

/** One ballot per enum decide. */
export type Ballots = (Ballot | undefined)[];

export function noBallots(): Ballots {
  // As a literal it has all its slots at once, which is what makes the many reads quick.
  return [undefined, undefined, undefined, undefined, undefined, undefined];
}

const ACTIONS = {
  Allow: ACTION_ALLOW,
  Audit: ACTION_AUDIT,
  Block: ACTION_BLOCK,
  Kill: ACTION_KILL,
  KillContainer: ACTION_KILL_CONTAINER,
} as const;

const STRICTNESS = { Allow: 1, Audit: 0, Block: 2, Kill: 3, KillContainer: 4 } as const;

/** What a rule's conditions come to once the question is known: some that only run time settles, or settled. */
type Settled = 'unconditional' | 'hold' | { readonly conditions: number };

function settle(rule: Rule, decide: number): Settled {
  if (rule.class === 'preset') {
    const self = rule.preset === 'protectEnv' || rule.preset === 'protectProc';
    return self ? { conditions: CONDITION_SELF } : 'unconditional';
  }
  if (!isNameRule(rule) || !isConditional(rule)) return 'unconditional';
  if (rule.readOnly && decide === DECIDE_WRITE) return { conditions: CONDITION_NEVER };
  let conditions = 0;
  if (rule.ownerOnly) conditions |= CONDITION_OWNER;
  if (rule.noTty) conditions |= CONDITION_NO_TTY;
  // A mapping has no arguments.
  if (rule.allowedArgs !== undefined && decide !== DECIDE_MAP) conditions |= CONDITION_ARGS;
  return conditions === 0 ? 'hold' : { conditions };
}

export function isNameRule(rule: Rule): rule is NameRule {
  return rule.class === 'process' || rule.class === 'file';
}

export function isConditional(rule: NameRule): boolean {
  return rule.ownerOnly || rule.readOnly || rule.noTty || rule.allowedArgs !== undefined;
}

/** @param args number of the rule's list of allowed arguments, 0 = none */
export function verdictTerm(
  { id, rule, dryRun }: NumberedRule,
  decide: number,
  rank: number,
  args: number,
): Term {
  const settled = settle(rule, decide);
  const passes = settled === 'hold' || (settled === 'unconditional' && rule.action === 'Allow');
  if (passes) return { id, rank, action: ACTION_ALLOW, conditions: 0, args: 0, strictness: 0, dryRun };
  const strictness = STRICTNESS[rule.action];
  if (typeof settled === 'object') {
    const { conditions } = settled;
    const list = (conditions & CONDITION_ARGS) === 0 ? 0 : args;
    return { id, rank, action: ACTIONS[rule.action], conditions, args: list, strictness, dryRun };
  }
  return { id, rank, action: ACTIONS[rule.action], conditions: 0, args: 0, strictness, dryRun };
}

/** Undefined = it never reports here. */
function auditTerm(
  { id, rule, dryRun }: NumberedRule,
  decide: number,
  rank: number,
  args: number,
): Term | undefined {
  const settled = settle(rule, decide);
  if (settled === 'hold') return undefined;
  const conditions = typeof settled === 'object' ? settled.conditions : 0;
  const list = (conditions & CONDITION_ARGS) === 0 ? 0 : args;
  return { id, rank, action: ACTION_AUDIT, conditions, args: list, strictness: 0, dryRun };
}

/** Casts a rule's vote on one question. */
export function cast(
  ballots: Ballots,
  numbered: NumberedRule,
  decide: number,
  rank: number,
  args: number,
): void {
  if (numbered.rule.action === 'Audit') {
    const term = auditTerm(numbered, decide, rank, args);
    if (term !== undefined) ballotOf(ballots, decide).audits.push(term);
    return;
  }
  castTerm(ballots, decide, verdictTerm(numbered, decide, rank, args));
}

export function castTerm(ballots: Ballots, decide: number, term: Term): void {
  const ballot = ballotOf(ballots, decide);
  addHighest(ballot.tried, term);
  if (!term.dryRun) addHighest(ballot.enforced, term);
}

function ballotOf(ballots: Ballots, decide: number): Ballot {
  let ballot = ballots[decide];
  if (ballot === undefined) {
    ballot = { enforced: [], tried: [], audits: [] };
    ballots[decide] = ballot;
  }
  return ballot;
}

function addHighest(terms: Term[], term: Term): void {
  const rank = terms.length === 0 ? term.rank : terms[0].rank;
  if (term.rank < rank) return;
  if (term.rank > rank) terms.length = 0;
  terms.push(term);
}

/**
 * Brings a ballot to what can matter after it has been joined with any others: an unconditional denial settles
 * everything less strict, and one rule that lets pass speaks for all.
 */
export function condense(ballots: Ballots): void {
  for (let decide = 0; decide < DECIDE_COUNT; decide++) {
    const ballot = ballots[decide];
    if (ballot !== undefined) ballots[decide] = condensed(ballot);
  }
}

export function condensed({ enforced, tried, audits }: Ballot): Ballot {
  return { enforced: chain(enforced), tried: triedChain(tried), audits: auditChain(audits) };
}

/** Equally specific terms in the order in which the first that fires is the one to report. */
export function chain(terms: Term[]): Term[] {
  if (terms.length < 2) return terms;
  const kept = firing([...terms].sort(byStrictness));
  if (kept.length > 1 && kept[kept.length - 1].strictness === 0) kept.pop();
  return kept;
}

/**
 * Those of a chain that can be the first to fire: none after one that always does, and none whose every condition has been
 * asked before it.
 */
export function firing(terms: readonly Term[]): Term[] {
  const kept: Term[] = [];
  let lists: Set<number> | undefined;
  let asked = 0;
  for (const term of terms) {
    if (term.conditions !== 0) {
      const fresh = term.args !== 0 && lists?.has(term.args) !== true;
      if (!fresh && (term.conditions & ~CONDITION_ARGS & ~asked) === 0) continue;
      asked |= term.conditions;
      if (term.args !== 0) lists = (lists ?? new Set<number>()).add(term.args);
    }
    kept.push(term);
    if (term.conditions === 0 || (term.conditions & CONDITION_NEVER) !== 0) break;
  }
  return kept;
}

/** As `chain`, but what is in force stands beside what is tried, for it cannot stop the reporting of a dry run. */
function triedChain(terms: Term[]): Term[] {
  if (terms.length < 2 || !terms.some((term) => term.dryRun)) return chain(terms);
  return [...chain(terms.filter((term) => term.dryRun)), ...chain(terms.filter((term) => !term.dryRun))];
}

function byStrictness(a: Term, b: Term): number {
  return b.strictness - a.strictness || a.id - b.id;
}

/** Of the rules tried: what a dry run would deny, ranked above every Audit rule. */
export function trialChain(tried: readonly Term[]): Term[] {
  if (!tried.some((term) => term.dryRun)) return [];
  return chain(tried.filter((term) => term.dryRun && term.strictness > 0)).map((term) => ({
    ...term,
    rank: (term.rank | TRIAL_RANK) >>> 0,
  }));
}

/** The most specific first. */
export function auditChain(terms: Term[]): Term[] {
  if (terms.length < 2) return terms;
  return firing([...terms].sort((a, b) => b.rank - a.rank || a.id - b.id));
}
