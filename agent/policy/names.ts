import { type Ballots, cast, castTerm, condense, isConditional, noBallots, verdictTerm } from './ballots.js';
import type { Votes } from './decide.js';
import type { Bounds } from './dfa.js';
import { type Dfa, determinise } from './dfa.js';
import { type Glob, type GlobNode, parseGlob } from './glob.js';
import { enums, SLASH } from './layout.js';
import type { Matcher, NameRule, PresetRule } from './model.js';
import { Nfa } from './nfa.js';
import { nameRank } from './ranks.js';
import type { NumberedRule } from './rules.js';

const { DECIDE_EXEC, DECIDE_MAP, DECIDE_READ, DECIDE_WRITE, DECIDE_LOAD, DECIDE_MOVE } = enums.decide;

/** The object of the presets that are rules about names. */
export const PRESET_PATTERNS = {
  protectEnv: '/proc/{*,*/task/*}/environ',
  protectProc: '/proc/[0-9]*/**',
} as const;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** One way of naming files, with all that hangs on it. */
interface NameMatcher extends Votes {
  readonly matcher: Matcher;
  readonly glob: Glob | undefined;
  /** Where it is written, for the person who has to change it: the first rule that uses it. */
  readonly rule: NumberedRule['rule'];
  /** Lists of sources that it is part of. */
  readonly sourceOf: number[];
}

/** What names the inputs of one automaton, rules' objects and their sources alike, by what it matches. */
export class NameMatchers {
  readonly #byKey = new Map<string, number>();
  readonly #globs = new Map<string, Glob>();
  readonly all: NameMatcher[] = [];
  readonly #sourceLists = new Map<string, number>();
  #lists = 0;

  get sourceLists(): number {
    return this.#lists;
  }

  /** @throws GlobError */
  #of(matcher: Matcher, rule: NumberedRule['rule']): NameMatcher {
    const key = keyOf(matcher);
    let at = this.#byKey.get(key);
    if (at === undefined) {
      const glob = this.#glob(matcher);
      at = this.all.length;
      this.#byKey.set(key, at);
      this.all.push({ matcher, glob, rule, sourceOf: [], free: noBallots(), bySources: new Map() });
    }
    return this.all[at];
  }

  /** @throws GlobError */
  #glob(matcher: Matcher): Glob | undefined {
    if (matcher.kind !== 'pattern') return undefined;
    let glob = this.#globs.get(matcher.pattern);
    if (glob === undefined) {
      glob = parseGlob(matcher.pattern);
      this.#globs.set(matcher.pattern, glob);
    }
    return glob;
  }

  /** The number of a rule's list of sources, -1 if it has none. Lists of the same sources have one number. */
  sources(rule: NumberedRule['rule']): number {
    if (rule.class === 'preset' || rule.sources.length === 0) return -1;
    const key = [...new Set(rule.sources.map(keyOf))].sort().join('\0\0');
    let list = this.#sourceLists.get(key);
    if (list === undefined) {
      list = this.#lists++;
      this.#sourceLists.set(key, list);
      for (const source of rule.sources) {
        const { sourceOf } = this.#of(source, rule);
        if (sourceOf.at(-1) !== list) sourceOf.push(list);
      }
    }
    return list;
  }

  /**
   * @param list number of its list of sources, -1 = none
   * @param args number of its list of allowed arguments, 0 = none
   * @throws GlobError
   */
  addRule(numbered: NumberedRule, rule: NameRule, list: number, args: number): void {
    const object = this.#of(rule.match, rule);
    const rank = nameRank(rule.match, object.glob?.prefix.length ?? 0, list >= 0);
    const ballots = ballotsOf(object, list);
    const decides = rule.class === 'process' ? PROCESS_DECIDES : FILE_DECIDES;
    for (const decide of decides) cast(ballots, numbered, decide, rank, args);
  }

  /** What must not be renamed because of a rule of whatever class. */
  addMoves(numbered: NumberedRule, rule: NameRule, list: number): void {
    if (rule.action === 'Allow' || rule.action === 'Audit') return;
    const glob = this.#glob(rule.match);
    const rank = nameRank(rule.match, glob?.prefix.length ?? 0, list >= 0);
    const bare: NameRule = isConditional(rule) ? { ...rule, ...UNCONDITIONAL } : rule;
    const term = verdictTerm({ ...numbered, rule: bare }, DECIDE_MOVE, rank, 0);
    for (const path of ancestors(rule.match, glob)) {
      castTerm(ballotsOf(this.#of({ kind: 'path', path }, rule), list), DECIDE_MOVE, term);
    }
  }

  addPreset(numbered: NumberedRule, rule: PresetRule): void {
    if (rule.preset !== 'protectEnv' && rule.preset !== 'protectProc') return;
    const matcher: Matcher = { kind: 'pattern', pattern: PRESET_PATTERNS[rule.preset] };
    const object = this.#of(matcher, rule);
    const rank = nameRank(matcher, object.glob?.prefix.length ?? 0, false);
    for (const decide of FILE_DECIDES) cast(object.free, numbered, decide, rank, 0);
  }

  /** No more rules come. */
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
    const builder = new NameBuilder(nfa);
    this.all.forEach((each, id) => {
      nfa.own(id, () => nfa.accept(builder.state(each.matcher, each.glob), id));
    });
    return determinise(nfa, bounds);
  }

  /** The states that a matcher needs by itself. @throws AutomatonTooLarge */
  alone(id: number, bounds: Bounds): Dfa {
    const nfa = new Nfa();
    const { matcher, glob } = this.all[id];
    nfa.own(0, () => nfa.accept(new NameBuilder(nfa).state(matcher, glob), 0));
    return determinise(nfa, bounds);
  }
}

const PROCESS_DECIDES = [DECIDE_EXEC, DECIDE_MAP];
const FILE_DECIDES = [DECIDE_READ, DECIDE_WRITE, DECIDE_LOAD];
const UNCONDITIONAL = { ownerOnly: false, readOnly: false, noTty: false, allowedArgs: undefined } as const;

function ballotsOf(votes: Votes, list: number): Ballots {
  if (list < 0) return votes.free;
  let ballots = votes.bySources.get(list);
  if (ballots === undefined) {
    ballots = noBallots();
    votes.bySources.set(list, ballots);
  }
  return ballots;
}

function keyOf(matcher: Matcher): string {
  switch (matcher.kind) {
    case 'path':
      return `p${matcher.path}`;
    case 'execname':
      return `e${matcher.name}`;
    case 'pattern':
      return `g${matcher.pattern}`;
    case 'directory':
      return `${matcher.recursive ? 'D' : 'd'}${matcher.dir}`;
  }
}

/** The directories, "/" aside, whose renaming would carry away what the matcher names. */
function ancestors(matcher: Matcher, glob: Glob | undefined): string[] {
  let text = '';
  if (matcher.kind === 'path') text = matcher.path;
  else if (matcher.kind === 'directory') text = matcher.dir;
  else if (glob !== undefined)
    text = decoder.decode(glob.prefix.subarray(0, glob.prefix.lastIndexOf(SLASH) + 1));
  const paths: string[] = [];
  for (let at = text.indexOf('/', 1); at > 0; at = text.indexOf('/', at + 1)) paths.push(text.slice(0, at));
  return paths;
}

/** Adds matchers to an automaton; what they begin with literally is shared. */
class NameBuilder {
  readonly #nfa: Nfa;
  /** Per trie state the trie that begins after any number of components. */
  readonly #components = new Map<number, number>();
  /** Per trie state what lies below it. */
  readonly #below = new Map<string, number>();

  constructor(nfa: Nfa) {
    this.#nfa = nfa;
  }

  /** The state in which the whole name has been read. */
  state(matcher: Matcher, glob: Glob | undefined): number {
    switch (matcher.kind) {
      case 'path':
        return this.#nfa.trie(0, encoder.encode(matcher.path));
      case 'execname': {
        const root = this.#anyComponents(this.#nfa.trie(0, [SLASH]));
        return this.#nfa.trie(root, encoder.encode(matcher.name));
      }
      case 'directory': {
        const deep = matcher.recursive;
        return this.#run(this.#nfa.trie(0, encoder.encode(matcher.dir)), { kind: 'run', deep, min: 1 });
      }
      case 'pattern':
        return glob === undefined ? 0 : this.#pattern(glob.nodes);
    }
  }

  #pattern(nodes: readonly GlobNode[]): number {
    let state = 0;
    for (let i = 0; i < nodes.length; i++) {
      const node = nodes[i];
      if (node.kind === 'literal') state = this.#nfa.trie(state, node.bytes);
      else if (node.kind === 'components') state = this.#anyComponents(state);
      else if (node.kind === 'run' && i === nodes.length - 1) return this.#run(state, node);
      else {
        const own = this.#nfa.state();
        this.#nfa.epsilon(state, own);
        return this.#nfa.nodes(own, nodes.slice(i));
      }
    }
    return state;
  }

  #anyComponents(state: number): number {
    let after = this.#components.get(state);
    if (after === undefined) {
      after = this.#nfa.nodes(state, [{ kind: 'components' }]);
      this.#components.set(state, after);
    }
    return after;
  }

  #run(state: number, node: GlobNode & { readonly kind: 'run' }): number {
    const key = `${state} ${node.deep} ${node.min}`;
    let below = this.#below.get(key);
    if (below === undefined) {
      below = this.#nfa.nodes(state, [node]);
      this.#below.set(key, below);
    }
    return below;
  }
}
