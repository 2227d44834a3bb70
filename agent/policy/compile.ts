import { AddressMatchers } from './addresses.js';
import { allowedArgs } from './arguments.js';
import { type Ballots, cast, castTerm, condense, isNameRule, noBallots } from './ballots.js';
import { CallMatchers } from './calls.js';
import { CellTable } from './cells.js';
import { type ClassPosture, Decider, NO_BALLOT, type Question, type Votes } from './decide.js';
import { ChainTooLong, DecisionTable } from './decisions.js';
import type { Bounds, Dfa } from './dfa.js';
import { DomainMatchers } from './domains.js';
import { GlobError } from './glob.js';
import { isPostured, KindMatchers, SOCKETS_OF } from './kinds.js';
import { DENIES, enums } from './layout.js';
import type { Diagnostic, Policy, Postures, Rule } from './model.js';
import { NameMatchers } from './names.js';
import {
  capabilityRank,
  domainRank,
  escapeRank,
  FILELESS_RANK,
  HARDENED_RANK,
  protocolRank,
  syscallRank,
  UNNAMED_RANK,
} from './ranks.js';
import { writeRegion } from './region.js';
import { emitAutomaton, emitObjectClasses } from './rows.js';
import { BUILT_IN, type NumberedRule, numberRules, type RuleInfo } from './rules.js';
import { ESCAPES } from './schema/words.js';
import { subjectsOf } from './subjects.js';
import { bounded, checkPatterns, fault, fitting, tooManyLists, tooManySubjects, Unfit } from './unfit.js';

const D = enums.domain;
const Q = enums.decide;

export interface PolicySet {
  /** One region, exactly as bpf/tables.h lays it out. */
  readonly bytes: Uint8Array;
  /** `rules[id]` is the rule that an event with that id speaks of; ids count from 1. */
  readonly rules: readonly RuleInfo[];
  readonly stats: CompileStats;
}

export interface CompileStats {
  /** Of all automata, after minimisation. */
  readonly states: number;
  readonly objectClasses: number;
  /** Class 0, "no source matches", is one. */
  readonly subjectClasses: number;
  readonly rows: number;
  /** That hold something, padding and holes aside. */
  readonly cells: number;
  readonly decisions: number;
  readonly bytes: number;
}

export type CompileResult =
  | { readonly ok: true; readonly set: PolicySet }
  | { readonly ok: false; readonly diagnostics: readonly Diagnostic[] };

export interface CompileOptions {
  /** Of all names' automaton, before minimisation. */
  readonly bounds?: Bounds;
  /** Of a single pattern's. */
  readonly patternBounds?: Bounds;
  readonly cells?: number;
}

const BOUNDS: Bounds = { states: 1 << 19, members: 1 << 23 };
const PATTERN_BOUNDS: Bounds = { states: 1 << 12, members: 1 << 17 };
const CELLS = 1 << 22;

/**
 * The tables of a workload that exactly these policies reach. Pure: the same policies in whatever order, with the
 * same postures, give the same bytes.
 */
export function compile(
  policies: readonly Policy[],
  postures: Postures,
  options: CompileOptions = {},
): CompileResult {
  const { rules, infos } = numberRules(policies);
  try {
    return { ok: true, set: new SetCompiler(rules, infos, postures, options).run() };
  } catch (error) {
    if (error instanceof Unfit) return { ok: false, diagnostics: error.diagnostics };
    if (error instanceof ChainTooLong) return { ok: false, diagnostics: [tooManyLists(rules, error.rule)] };
    throw error;
  }
}

type PosturedClass = 'process' | 'file' | 'protocol' | 'egress' | 'ingress' | 'dns' | 'capabilities';

class SetCompiler {
  readonly #rules: readonly NumberedRule[];
  readonly #infos: readonly RuleInfo[];
  readonly #postures: Postures;
  readonly #options: CompileOptions;
  /** Programs: process rules' objects, and all sources. */
  readonly #programs = new NameMatchers();
  readonly #files = new NameMatchers();
  readonly #addresses = {
    [D.DOMAIN_EGRESS4]: new AddressMatchers(4),
    [D.DOMAIN_EGRESS6]: new AddressMatchers(16),
    [D.DOMAIN_INGRESS4]: new AddressMatchers(4),
    [D.DOMAIN_INGRESS6]: new AddressMatchers(16),
    [D.DOMAIN_BIND]: new AddressMatchers(0),
  };
  readonly #sockets = new KindMatchers();
  readonly #capabilities = new KindMatchers();
  readonly #escapes = new KindMatchers();
  readonly #domains = new DomainMatchers();
  readonly #calls = new CallMatchers();
  readonly #presets: Ballots[] = [noBallots(), noBallots(), noBallots()];
  readonly #fileless = noBallots();
  readonly #argumentLists = new Map<string, number>();

  constructor(
    rules: readonly NumberedRule[],
    infos: readonly RuleInfo[],
    postures: Postures,
    options: CompileOptions,
  ) {
    this.#rules = rules;
    this.#infos = infos;
    this.#postures = postures;
    this.#options = options;
  }

  run(): PolicySet {
    this.#collect();
    const patternBounds = this.#options.patternBounds ?? PATTERN_BOUNDS;
    checkPatterns([this.#programs, this.#files], patternBounds);
    const bounds = this.#options.bounds ?? BOUNDS;
    const build = (matchers: NameMatchers | AddressMatchers | DomainMatchers | CallMatchers) =>
      bounded(() => matchers.automaton(bounds), matchers.all);
    const programs = build(this.#programs);
    const subjects = subjectsOf(programs.accepts, this.#programs);
    if (subjects.classes.count >= enums.column.COLUMN_LIMIT)
      throw tooManySubjects(this.#rules, subjects.classes.count);
    const table = new DecisionTable();
    const decider = new Decider(table, subjects);
    const automata: { dfa: Dfa; classes: Int32Array; none: number }[] = [];
    const classify = (
      dfa: Dfa,
      all: readonly Votes[],
      questionsOf: (votes: readonly Votes[]) => readonly Question[],
    ) => {
      const classes = new Int32Array(dfa.accepts.count);
      for (let set = 0; set < classes.length; set++) {
        const votes = Array.from(dfa.accepts.members(set), (id) => all[id]);
        classes[set] = decider.objectClass(votes, questionsOf(votes));
      }
      automata.push({ dfa, classes, none: classes[0] });
    };
    const process = [question(Q.DECIDE_EXEC, this.#posture('process')), question(Q.DECIDE_MAP)];
    classify(programs, this.#programs.all, () => process);
    const posture = this.#posture('file');
    const file = [
      question(Q.DECIDE_READ, posture),
      question(Q.DECIDE_WRITE, posture),
      question(Q.DECIDE_LOAD),
      question(Q.DECIDE_MOVE),
    ];
    classify(build(this.#files), this.#files.all, () => file);
    for (const domain of ADDRESS_DOMAINS) {
      const matchers = this.#addresses[domain];
      const direction = domain < D.DOMAIN_INGRESS4 ? 'egress' : 'ingress';
      const posture = [question(Q.DECIDE_OTHER, this.#posture(direction))];
      classify(build(matchers), matchers.all, () => posture);
    }
    const protocol = [question(Q.DECIDE_OTHER, this.#posture('protocol'))];
    const local = this.#sockets.all.filter(({ kind }) => !isPostured(kind));
    classify(this.#sockets.automaton(bounds), this.#sockets.all, (votes) =>
      votes.some((vote) => local.some((each) => each === vote)) ? [question(Q.DECIDE_OTHER)] : protocol,
    );
    const capabilities = [question(Q.DECIDE_OTHER, this.#posture('capabilities'))];
    classify(this.#capabilities.automaton(bounds), this.#capabilities.all, () => capabilities);
    classify(this.#escapes.automaton(bounds), this.#escapes.all, () => [question(Q.DECIDE_OTHER)]);
    const dns = [question(Q.DECIDE_OTHER, this.#posture('dns'))];
    classify(build(this.#domains), this.#domains.all, () => dns);
    const call = [question(Q.DECIDE_OTHER)];
    classify(build(this.#calls), this.#calls.all, () => call);

    const unnamed = this.#unnamed(decider, table);
    const presets = this.#presets.map((ballots) => {
      const { enforced, tried, audits } = ballots[0] ?? NO_BALLOT;
      return decider.entry(enforced, tried, audits, undefined);
    });

    const cells = new CellTable(this.#options.cells ?? CELLS, subjects.classes.count);
    const objectRef = emitObjectClasses(cells, decider);
    const starts = automata.map(({ dfa, classes }, domain) => {
      const subjectOf = domain === D.DOMAIN_PROGRAM ? subjects.ofAccept : undefined;
      return fitting(this.#rules, () => emitAutomaton(cells, dfa, classes, subjectOf, objectRef));
    });
    const argStarts = fitting(this.#rules, () => allowedArgs(cells, [...this.#argumentLists.keys()], bounds));
    const active = automata.map(({ classes }) => {
      let mask = 0;
      for (const each of new Set(classes)) mask |= answersOf(table, decider, each);
      return mask;
    });
    const ofUnnamed = answersOf(table, decider, unnamed);
    active[D.DOMAIN_PROGRAM] |= ofUnnamed & PROGRAM_QUESTIONS;
    active[D.DOMAIN_FILE] |= ofUnnamed & ~PROGRAM_QUESTIONS;
    active[D.DOMAIN_ESCAPE] = this.#escapes.all.reduce((mask, { kind }) => mask | (1 << kind), 0);
    // system calls about a path are looked at where changes to files are
    if (this.#calls.aboutPaths) active[D.DOMAIN_FILE] |= 1 << Q.DECIDE_WRITE;

    const packed = cells.pack();
    const bytes = writeRegion(packed, table, {
      active,
      start: starts.map(({ start }) => start),
      none: automata.map(({ none }) => objectRef[none]),
      unnamed: objectRef[unnamed],
      presets,
      argStarts,
    });
    return {
      bytes,
      rules: this.#infos,
      stats: {
        states: starts.reduce((sum, { states }) => sum + states, 0),
        objectClasses: decider.count,
        subjectClasses: subjects.classes.count,
        rows: cells.rows,
        cells: packed.used,
        decisions: table.decisionCount,
        bytes: bytes.length,
      },
    };
  }

  #collect(): void {
    for (let kind = 0; kind < enums.socket_kind.SOCKET_KIND_COUNT; kind++) this.#sockets.of(kind);
    const faults: Diagnostic[] = [];
    for (const numbered of this.#rules) {
      try {
        this.#add(numbered);
      } catch (error) {
        if (!(error instanceof GlobError)) throw error;
        faults.push(fault(numbered.rule, `${error.message} (character ${error.offset + 1} of the pattern)`));
      }
    }
    if (faults.length > 0) throw new Unfit(faults);
    for (const matchers of [
      this.#programs,
      this.#files,
      this.#sockets,
      this.#capabilities,
      this.#escapes,
      this.#domains,
      this.#calls,
    ])
      matchers.finish();
    for (const domain of ADDRESS_DOMAINS) this.#addresses[domain].finish();
    for (const ballots of [...this.#presets, this.#fileless]) condense(ballots);
  }

  #add(numbered: NumberedRule): void {
    const { rule } = numbered;
    if (rule.class === 'preset') {
      this.#files.addPreset(numbered, rule);
      if (rule.preset === 'filelessExec') cast(this.#fileless, numbered, Q.DECIDE_EXEC, FILELESS_RANK, 0);
      else if (rule.preset === 'exec') cast(this.#presets[enums.preset.PRESET_EXEC], numbered, 0, 1, 0);
      else if (rule.preset === 'anonymousMapExec') {
        cast(this.#presets[enums.preset.PRESET_ANONYMOUS_MAP], numbered, 0, 1, 0);
      } else if (rule.preset === 'drift') {
        cast(this.#presets[enums.preset.PRESET_DRIFT], numbered, 0, 1, 0);
      } else if (rule.preset === 'hardened') {
        this.#escapes.addRule(numbered, [...ESCAPES.keys()], HARDENED_RANK, -1);
      }
      return;
    }
    const list = this.#programs.sources(rule);
    if (isNameRule(rule)) {
      const objects = rule.class === 'process' ? this.#programs : this.#files;
      objects.addRule(numbered, rule, list, this.#argumentList(rule.allowedArgs));
      this.#files.addMoves(numbered, rule, list);
      return;
    }
    if (rule.class === 'syscalls') {
      this.#calls.addRule(numbered, rule, syscallRank(rule), list);
    } else if (rule.class === 'capabilities') {
      this.#capabilities.addRule(numbered, [rule.capability], capabilityRank(rule), list);
    } else if (rule.class === 'escape') {
      this.#escapes.addRule(numbered, [ESCAPES.indexOf(rule.operation)], escapeRank(rule), list);
    } else if (rule.kind === 'dns') {
      this.#domains.addRule(numbered, rule, domainRank(rule), list);
    } else if (rule.kind === 'protocol') {
      this.#sockets.addRule(numbered, SOCKETS_OF[rule.protocol], protocolRank(rule), list);
    } else {
      for (const domain of rule.direction === 'egress' ? EGRESS_DOMAINS : INGRESS_DOMAINS) {
        this.#addresses[domain].addRule(numbered, rule, list);
      }
    }
  }

  #argumentList(allowed: readonly string[] | undefined): number {
    if (allowed === undefined) return 0;
    const key = JSON.stringify([...new Set(allowed)].sort());
    let list = this.#argumentLists.get(key);
    if (list === undefined) {
      list = this.#argumentLists.size + 1;
      this.#argumentLists.set(key, list);
    }
    return list;
  }

  #posture(of: PosturedClass): ClassPosture {
    const allows = this.#rules.filter(({ rule }) => rule.action === 'Allow' && classOf(rule) === of);
    const tried = allows.length > 0;
    const enforced = allows.some(({ dryRun }) => !dryRun);
    const { file, network, capabilities } = this.#postures;
    if (of === 'process') return { posture: file, id: BUILT_IN.processPosture, enforced, tried };
    if (of === 'file') return { posture: file, id: BUILT_IN.filePosture, enforced, tried };
    if (of === 'capabilities') {
      return { posture: capabilities, id: BUILT_IN.capabilitiesPosture, enforced, tried };
    }
    return { posture: network, id: BUILT_IN.networkPosture, enforced, tried };
  }

  /** The object class of files without a name. */
  #unnamed(decider: Decider, table: DecisionTable): number {
    const ballots = this.#fileless;
    const judging = this.#rules.filter(({ rule }) => rule.class === 'process' && rule.action !== 'Audit');
    if (judging.length > 0) {
      castTerm(ballots, Q.DECIDE_EXEC, {
        id: BUILT_IN.unnamed,
        rank: UNNAMED_RANK,
        action: enums.action.ACTION_BLOCK,
        conditions: 0,
        args: 0,
        strictness: 2,
        dryRun: judging.every(({ dryRun }) => dryRun),
      });
    }
    const file = this.#posture('file');
    const entries = new Int32Array(Q.DECIDE_COUNT * 2);
    for (let decide = 0; decide < Q.DECIDE_COUNT; decide++) {
      const { enforced, tried, audits } = ballots[decide] ?? NO_BALLOT;
      const postured = decide === Q.DECIDE_READ || decide === Q.DECIDE_WRITE ? file : undefined;
      entries.set(decider.entry(enforced, tried, audits, postured), decide * 2);
    }
    return decider.row([table.decision(entries)]);
  }
}

const question = (decide: number, posture?: ClassPosture): Question => ({ decide, posture });

const PROGRAM_QUESTIONS = (DENIES | 1) * ((1 << Q.DECIDE_EXEC) | (1 << Q.DECIDE_MAP));

const EGRESS_DOMAINS = [D.DOMAIN_EGRESS4, D.DOMAIN_EGRESS6] as const;
const INGRESS_DOMAINS = [D.DOMAIN_INGRESS4, D.DOMAIN_INGRESS6, D.DOMAIN_BIND] as const;
const ADDRESS_DOMAINS = [...EGRESS_DOMAINS, ...INGRESS_DOMAINS] as const;

function answersOf(table: DecisionTable, decider: Decider, objectClass: number): number {
  const { base, exceptions } = decider.rowOf(objectClass);
  let mask = table.answers(base);
  for (let i = 1; i < exceptions.length; i += 2) mask |= table.answers(exceptions[i]);
  return mask;
}

function classOf(rule: Rule): PosturedClass | undefined {
  if (rule.class === 'preset' || rule.class === 'escape' || rule.class === 'syscalls') return undefined;
  if (rule.class !== 'network') return rule.class;
  return rule.kind === 'address' ? rule.direction : rule.kind;
}
