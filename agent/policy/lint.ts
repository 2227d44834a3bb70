import { short } from './fields.js';
import type { Action, Diagnostic, Matcher, Policy, Position, Rule } from './model.js';
import { linkedName } from './symlinks.js';

/**
 * Doubts about policies that are valid, seen across all that are given: rules that contradict or repeat each
 * other, policies of one name, rules that match nothing. At most one warning of a sort per policy.
 */
export function lintPolicies(policies: readonly Policy[]): Diagnostic[] {
  return [...sameNames(policies), ...sameRules(policies), ...policies.flatMap(deadRules)];
}

function warning(at: Position, message: string): Diagnostic {
  return { at, severity: 'warning', message };
}

function place(at: Position, from: Position): string {
  return at.file === from.file ? `line ${at.line}` : `${at.file}:${at.line}`;
}

function sameNames(policies: readonly Policy[]): Diagnostic[] {
  const first = new Map<string, Policy>();
  const found: Diagnostic[] = [];
  for (const policy of policies) {
    const key = `${policy.kind}/${policy.namespace}/${policy.name}`;
    const other = first.get(key);
    if (other === undefined) first.set(key, policy);
    else {
      const where = place(other.at, policy.at);
      found.push(
        warning(policy.at, `${policy.kind} "${policy.name}" is already defined at ${where}; rename one`),
      );
    }
  }
  return found;
}

interface Placed {
  readonly policy: Policy;
  readonly rule: Rule;
}

/** Rules on the same objects and sources, for the same workloads: contradictions, and repetitions. */
function sameRules(policies: readonly Policy[]): Diagnostic[] {
  const groups = new Map<string, Placed[]>();
  for (const policy of policies) {
    const reach = reachKey(policy);
    for (const rule of policy.rules) {
      const key = `${reach} ${objectKey(rule)}`;
      const group = groups.get(key);
      if (group === undefined) groups.set(key, [{ policy, rule }]);
      else group.push({ policy, rule });
    }
  }
  const contradictions = new Map<Policy, Diagnostic[]>();
  const repetitions = new Map<Policy, Diagnostic[]>();
  for (const group of groups.values()) {
    const seen = new Map<string, Rule>();
    /** The first of each action that may contradict others. */
    const first = new Map<Action, Rule>();
    for (const { policy, rule } of group) {
      const key = `${rule.action} ${conditions(rule)}`;
      const same = seen.get(key);
      if (same !== undefined) {
        const where = place(same.at, rule.at);
        add(repetitions, policy, warning(rule.at, `${rule.id} repeats the rule at ${where}; leave one out`));
        continue;
      }
      seen.set(key, rule);
      // A denial under conditions refines what others say.
      if (isDenial(rule.action) && conditions(rule) !== '') continue;
      for (const against of first.values()) {
        const counts = whichCounts(rule.action, against.action);
        if (counts === undefined) continue;
        const where = place(against.at, rule.at);
        const text = `${rule.id} says ${rule.action} where the rule at ${where} says ${against.action}; ${counts}, so leave one out`;
        add(contradictions, policy, warning(rule.at, text));
        break;
      }
      if (!first.has(rule.action)) first.set(rule.action, rule);
    }
  }
  return [...[...contradictions.values()].flat(), ...[...repetitions.values()].flatMap(firstOf)];
}

function add(to: Map<Policy, Diagnostic[]>, policy: Policy, diagnostic: Diagnostic): void {
  const list = to.get(policy);
  if (list === undefined) to.set(policy, [diagnostic]);
  else list.push(diagnostic);
}

function firstOf(found: readonly Diagnostic[]): Diagnostic[] {
  const [first, ...more] = found;
  if (first === undefined) return [];
  const rest = more.length === 0 ? '' : ` (so do ${more.length} more rules of this policy)`;
  return [{ ...first, message: first.message + rest }];
}

const DENIALS: readonly Action[] = ['Block', 'Kill', 'KillContainer'];

/** What becomes of two actions for the same; undefined where both do what they say. An audit reports what passes. */
function whichCounts(a: Action, b: Action): string | undefined {
  const [lesser, stricter] = [DENIALS.indexOf(a), DENIALS.indexOf(b)].sort((x, y) => x - y);
  if (a === b || stricter < 0) return undefined;
  if (lesser >= 0) return `${DENIALS[stricter]} counts, being the strictest`;
  if (a === 'Allow' || b === 'Allow') return 'the denial wins';
  return `${DENIALS[stricter]} counts, and the audit never reports`;
}

function isDenial(action: Action): boolean {
  return DENIALS.includes(action);
}

function conditions(rule: Rule): string {
  if (rule.class !== 'process' && rule.class !== 'file') return '';
  const args = rule.allowedArgs === undefined ? '' : `args ${JSON.stringify([...rule.allowedArgs].sort())}`;
  return [rule.ownerOnly ? 'owner' : '', rule.readOnly ? 'read' : '', rule.noTty ? 'tty' : '', args].join('');
}

/** Policies of equal keys reach the same workloads. */
function reachKey(policy: Policy): string {
  const { labels, expressions, namespaces, containers } = policy.selector;
  return JSON.stringify([
    policy.scope,
    policy.namespace,
    policy.mode,
    [...labels].sort(),
    expressions.map((requirement) => JSON.stringify(requirement)).sort(),
    namespaces.map((requirement) => JSON.stringify(requirement)).sort(),
    [...containers].sort(),
  ]);
}

function objectKey(rule: Rule): string {
  const sources = rule.class === 'preset' ? [] : rule.sources.map(matcherKey).sort();
  switch (rule.class) {
    case 'process':
    case 'file':
      return JSON.stringify([rule.class, matcherKey(rule.match), sources]);
    case 'capabilities':
      return JSON.stringify([rule.class, rule.capability, sources]);
    case 'escape':
      return JSON.stringify([rule.class, rule.operation, sources]);
    case 'syscalls':
      return JSON.stringify([rule.class, rule.syscalls, rule.match && matcherKey(rule.match), sources]);
    case 'preset':
      return JSON.stringify([rule.class, rule.preset]);
    case 'network':
      return JSON.stringify(
        rule.kind === 'protocol'
          ? [rule.class, rule.protocol, sources]
          : rule.kind === 'dns'
            ? [rule.class, rule.domain, rule.below, sources]
            : [rule.class, rule.direction, rule.peers, rule.ports, sources],
      );
  }
}

function matcherKey(matcher: Matcher): string {
  switch (matcher.kind) {
    case 'path':
      return `path ${matcher.path}`;
    case 'execname':
      return `execname ${matcher.name}`;
    case 'pattern':
      return `pattern ${matcher.pattern}`;
    case 'directory':
      return `${matcher.recursive ? 'tree' : 'directory'} ${matcher.dir}`;
  }
}

/** Rules that match nothing, or not what they seem to. */
function deadRules(policy: Policy): Diagnostic[] {
  const found: Diagnostic[] = [];
  const first = (why: (rule: Rule) => string | undefined): void => {
    const hits = policy.rules.flatMap((rule) => {
      const message = why(rule);
      return message === undefined ? [] : [warning(rule.at, message)];
    });
    found.push(...firstOf(hits));
  };
  const names = new Set(policy.rules.flatMap(fileNames));
  first((rule) => symbolicLink(rule, names));
  first(wildcardInPath);
  first(commandLine);
  first(trailingSlash);
  return found;
}

/** The names that a rule and its sources begin with: whole paths, directories, literal beginnings of patterns. */
function fileNames(rule: Rule): string[] {
  const matchers = rule.class === 'preset' ? [] : [...rule.sources];
  if (rule.class === 'process' || rule.class === 'file') matchers.push(rule.match);
  return matchers.map((matcher) => {
    if (matcher.kind === 'path') return matcher.path;
    if (matcher.kind === 'directory') return matcher.dir;
    return matcher.kind === 'pattern' ? matcher.pattern : `*/${matcher.name}`;
  });
}

/** Says nothing where the policy names the target too. */
function symbolicLink(rule: Rule, names: ReadonlySet<string>): string | undefined {
  for (const name of fileNames(rule)) {
    const link = linkedName(name);
    if (link === undefined || link.targets.some((target) => names.has(target))) continue;
    const target = link.targets.slice(0, 3).join(' or ');
    return `"${short(name)}": ${link.why}, and a rule on a link's name never matches its target; name ${short(target)} too`;
  }
  return undefined;
}

function wildcardInPath(rule: Rule): string | undefined {
  for (const name of exactNames(rule)) {
    if (!/[*?]/.test(name)) continue;
    return `${rule.id} takes "${short(name)}" literally, with its "*" or "?"; use matchPatterns if a wildcard is meant`;
  }
  return undefined;
}

function exactNames(rule: Rule): string[] {
  if (rule.class !== 'process' && rule.class !== 'file') return [];
  const { match } = rule;
  if (match.kind === 'path') return [match.path];
  return match.kind === 'directory' ? [match.dir] : [];
}

function commandLine(rule: Rule): string | undefined {
  if (rule.class !== 'process' || rule.match.kind !== 'pattern') return undefined;
  const { pattern } = rule.match;
  if (!/\s/.test(pattern)) return undefined;
  return `${rule.id} matches programs' paths, not command lines, so "${short(pattern)}" never matches; use path with allowedArgs`;
}

function trailingSlash(rule: Rule): string | undefined {
  if ((rule.class !== 'process' && rule.class !== 'file') || rule.match.kind !== 'pattern') return undefined;
  const { pattern } = rule.match;
  if (!pattern.endsWith('/')) return undefined;
  return `${rule.id} ends in a slash, as no name does, so "${short(pattern)}" never matches; write "${short(pattern)}**"`;
}
