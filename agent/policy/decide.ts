import {
  auditChain,
  type Ballot,
  type Ballots,
  chain,
  condensed,
  firing,
  noBallots,
  type Term,
  trialChain,
} from './ballots.js';
import type { ChainRef, DecisionTable } from './decisions.js';
import { enums } from './layout.js';
import type { Posture } from './model.js';
import { SetPool } from './sets.js';

const { DECIDE_COUNT } = enums.decide;
/** In every table of decisions: no rule. */
const NO_DECISION = 0;
const { ACTION_AUDIT, ACTION_BLOCK } = enums.action;

/** The default of a class, where it has become an allowlist. */
export interface ClassPosture {
  readonly posture: Posture;
  /** Rule id under which it is reported. */
  readonly id: number;
  /** An enforced Allow rule reaches the workload. */
  readonly enforced: boolean;
  /** An Allow rule does, be it a dry run's. */
  readonly tried: boolean;
}

/** A question that an automaton is asked. */
export interface Question {
  readonly decide: number;
  /** Answers where no rule does; undefined = none does. */
  readonly posture: ClassPosture | undefined;
}

/** What the rules with one matcher say: those for every subject, and those for the subjects of a list of sources. */
export interface Votes {
  readonly free: Ballots;
  readonly bySources: Map<number, Ballots>;
}

/** Which lists of sources a subject class stands for, and the other way round. */
export interface Subjects {
  /** Set number = subject class; members = lists of sources. Class 0 is the empty set. */
  readonly classes: SetPool;
  /** Per list of sources the subject classes that have it, ascending. */
  readonly having: readonly (readonly number[])[];
}

/** An object class: the decision for subject class 0, and those of the subject classes that differ. */
export interface ObjectRow {
  readonly base: number;
  /** Subject class and decision by turns, subject classes ascending. */
  readonly exceptions: ArrayLike<number>;
}

/** Settles what the rules say, as ARCHITECTURE.md's "How a verdict is settled" has it. */
export class Decider {
  readonly #table: DecisionTable;
  readonly #subjects: Subjects;
  /** Per object class its row: base, then exceptions. */
  readonly #rows = new SetPool();
  readonly #entries = new Int32Array(DECIDE_COUNT * 2);
  /** What a ballot comes to where it is the only one. */
  readonly #alone = new Map<ClassPosture | undefined, Map<Ballot, readonly [ChainRef, ChainRef]>>();

  constructor(table: DecisionTable, subjects: Subjects) {
    this.#table = table;
    this.#subjects = subjects;
    this.row([0]);
  }

  get count(): number {
    return this.#rows.count;
  }

  rowOf(objectClass: number): ObjectRow {
    const row = this.#rows.members(objectClass);
    return { base: row[0], exceptions: row.subarray(1) };
  }

  /** The object class of names that exactly the matchers with these votes match. */
  objectClass(votes: readonly Votes[], questions: readonly Question[]): number {
    const free = noBallots();
    for (const { decide } of questions) free[decide] = together(votes, decide);
    const base = this.#decide(free, questions);
    const row = [base];
    const sourced = new Set<number>();
    for (const vote of votes) for (const sources of vote.bySources.keys()) sourced.add(sources);
    if (sourced.size > 0) this.#except(row, free, votes, sourced, questions);
    return this.row(row);
  }

  /** Adds to a row what subject classes change. */
  #except(
    row: number[],
    free: Ballots,
    votes: readonly Votes[],
    sourced: ReadonlySet<number>,
    questions: readonly Question[],
  ): void {
    if (sourced.size === 1) {
      const [sources] = sourced;
      const decision = this.#decide(free, questions, ballotsBy(votes, sourced), row[0]);
      if (decision !== row[0])
        for (const subject of this.#subjects.having[sources]) row.push(subject, decision);
      return;
    }
    const affected = new Set<number>();
    for (const sources of sourced)
      for (const subject of this.#subjects.having[sources]) affected.add(subject);
    const known = new Map<number | string, number>();
    for (const subject of [...affected].sort((a, b) => a - b)) {
      const lists: number[] = [];
      const { start, end } = this.#subjects.classes.range(subject);
      for (let i = start; i < end; i++) {
        const list = this.#subjects.classes.member(i);
        if (sourced.has(list)) lists.push(list);
      }
      const key = lists.length === 1 ? lists[0] : lists.join();
      let decision = known.get(key);
      if (decision === undefined) {
        decision = this.#decide(free, questions, ballotsBy(votes, lists), row[0]);
        known.set(key, decision);
      }
      if (decision !== row[0]) row.push(subject, decision);
    }
  }

  /** The object class with this row. */
  row(row: readonly number[]): number {
    return this.#rows.intern(Int32Array.from(row), row.length);
  }

  /** @param more joins the ballots, where without it the decision is `base` */
  #decide(
    free: Ballots,
    questions: readonly Question[],
    more: readonly Ballots[] = [],
    base = NO_DECISION,
  ): number {
    const entries = this.#entries;
    entries.set(this.#table.entries(base));
    for (const { decide, posture } of questions) {
      let only = free[decide];
      let count = only === undefined ? 0 : 1;
      let joins = more.length === 0;
      for (const each of more) {
        const ballot = each[decide];
        if (ballot === undefined) continue;
        joins = true;
        only = ballot;
        count++;
      }
      if (!joins) continue;
      const [verdict, audit] =
        count > 1
          ? this.#joined(free[decide], more, decide, posture)
          : this.#single(only ?? NO_BALLOT, posture);
      entries[decide * 2] = verdict;
      entries[decide * 2 + 1] = audit;
    }
    return this.#table.decision(entries);
  }

  #single(ballot: Ballot, posture: ClassPosture | undefined): readonly [ChainRef, ChainRef] {
    let known = this.#alone.get(posture);
    if (known === undefined) {
      known = new Map();
      this.#alone.set(posture, known);
    }
    let entry = known.get(ballot);
    if (entry === undefined) {
      entry = this.entry(ballot.enforced, ballot.tried, ballot.audits, posture);
      known.set(ballot, entry);
    }
    return entry;
  }

  #joined(
    free: Ballot | undefined,
    more: readonly Ballots[],
    decide: number,
    posture: ClassPosture | undefined,
  ): readonly [ChainRef, ChainRef] {
    const all: Ballot = { enforced: [], tried: [], audits: [] };
    addTo(all, free);
    for (const each of more) addTo(all, each[decide]);
    return this.entry(all.enforced, all.tried, all.audits, posture);
  }

  /** Verdict and audit chain of one question; `enforced` and `tried` hold terms of one rank each. */
  entry(
    enforced: Term[],
    tried: Term[],
    audits: Term[],
    posture: ClassPosture | undefined,
  ): [verdict: ChainRef, audit: ChainRef] {
    let verdict: readonly Term[] = chain(enforced);
    const trial = trialChain(tried);
    let reports: readonly Term[] = auditChain(audits);
    if (posture !== undefined) {
      if (enforced.length === 0 && posture.enforced) {
        if (posture.posture === 'block') verdict = [postureTerm(posture, false)];
        else reports = [...reports, postureTerm(posture, false)];
      } else if (tried.length === 0 && posture.tried && posture.posture === 'block') {
        trial.push(postureTerm(posture, true));
      }
    }
    return [
      this.#table.chain(verdict),
      this.#table.chain(trial.length === 0 ? reports : firing([...trial, ...reports])),
    ];
  }
}

function ballotsBy(votes: readonly Votes[], lists: Iterable<number>): Ballots[] {
  const ballots: Ballots[] = [];
  for (const sources of lists) {
    for (const { bySources } of votes) {
      const each = bySources.get(sources);
      if (each !== undefined) ballots.push(each);
    }
  }
  return ballots;
}

/** What all that holds for every subject says to one question. */
function together(votes: readonly Votes[], decide: number): Ballot | undefined {
  let only: Ballot | undefined;
  let count = 0;
  for (const { free } of votes) {
    if (free[decide] === undefined) continue;
    only = free[decide];
    count++;
  }
  if (count < 2) return only;
  const all: Ballot = { enforced: [], tried: [], audits: [] };
  for (const { free } of votes) addTo(all, free[decide]);
  return condensed(all);
}

function addTo({ enforced, tried, audits }: Ballot, ballot: Ballot | undefined): void {
  if (ballot === undefined) return;
  join(enforced, ballot.enforced);
  join(tried, ballot.tried);
  for (const term of ballot.audits) audits.push(term);
}

function join(into: Term[], terms: readonly Term[]): void {
  if (terms.length === 0) return;
  if (into.length > 0) {
    if (into[0].rank > terms[0].rank) return;
    if (into[0].rank < terms[0].rank) into.length = 0;
  }
  for (const term of terms) into.push(term);
}

export const NO_BALLOT: Ballot = { enforced: [], tried: [], audits: [] };

/** Rank 0, and in a dry run the lowest rank of those. */
function postureTerm(posture: ClassPosture, dryRun: boolean): Term {
  const denies = posture.posture === 'block';
  return {
    id: posture.id,
    rank: dryRun ? 0x80000000 : 0,
    action: denies ? ACTION_BLOCK : ACTION_AUDIT,
    conditions: 0,
    args: 0,
    strictness: denies ? 2 : 0,
    dryRun,
  };
}
