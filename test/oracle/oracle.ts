/**
 * The reference interpreter: what a set of policies says of one request, straight from the rules, one by one. No
 * automaton, no tables, no speed; whoever doubts the compiler reads this.
 */
import type {
  AddressRule,
  Cidr,
  Matcher,
  NameRule,
  Policy,
  Posture,
  Rule,
  SyscallRule,
} from '../../agent/policy/model.js';
import { globMatches, latin1, literalText } from './glob.js';
import type { Facts, MakeJudge, Name, Request, RuleName, Subject, Verdict } from './request.js';
import { socketsOf } from './sockets.js';

/** A rule with its policy; rules come in the order of their ids. */
interface Known {
  readonly policy: Policy;
  readonly rule: Rule;
  readonly order: number;
}

/** Compared from the left, larger is more specific. */
type Rank = readonly number[];

/** How a rule that matches a request answers it. */
interface Match {
  readonly known: Known;
  readonly rank: Rank;
  /** Undefined = the rule has no conditions; otherwise whether all of them hold. */
  readonly holds: boolean | undefined;
  /** Its other conditions hold; only the arguments do not. */
  readonly byArguments: boolean;
}

const UNCONDITIONAL = { holds: undefined, byArguments: false } as const;

const STRICTNESS = { Allow: 0, Audit: 0, Block: 1, Kill: 2, KillContainer: 3 } as const;

export const judgeByRules: MakeJudge = (policies, postures) => {
  const rules = known(policies);
  return (request) => {
    const matches = rules.flatMap((each) => matchOf(each, request));
    const posture = postureFor(request, rules, postures);
    const enforced = verdictOf(matches.filter(isEnforced), posture(isEnforced));
    if (enforced !== undefined) return { denied: enforced, reported: undefined };
    const trial = trialOf(rules, request, posture);
    if (trial !== undefined) return { denied: undefined, reported: trial };
    const audits = matches
      .filter(({ known: { rule }, holds }) => rule.action === 'Audit' && holds !== true)
      .sort((a, b) => compare(b.rank, a.rank) || a.known.order - b.known.order);
    if (audits.length > 0) return { denied: undefined, reported: nameOf(audits[0].known) };
    const applies = posture(isEnforced) === 'audit' && judging(matches.filter(isEnforced)).length === 0;
    return { denied: undefined, reported: applies ? { policy: '', rule: 'DefaultPosture' } : undefined };
  };
};

/** By scope, namespace, name, kind; within a policy as written. */
function known(policies: readonly Policy[]): Known[] {
  const key = (policy: Policy) => [policy.scope, policy.namespace, policy.name, policy.kind].join('\0');
  const sorted = [...policies].sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0));
  const all: Known[] = [];
  for (const policy of sorted) for (const rule of policy.rules) all.push({ policy, rule, order: all.length });
  return all;
}

const isEnforced = ({ known: { policy } }: { readonly known: Known }) => policy.mode === 'Enforce';
const judging = (matches: readonly Match[]) =>
  matches.filter(({ known: { rule } }) => rule.action !== 'Audit');
const nameOf = ({ policy, rule }: Known): RuleName => ({ policy: policy.name, rule: rule.id });

/** Sections 2 and 3, then 1. */
function verdictOf(matches: readonly Match[], posture: Posture | undefined): Verdict['denied'] {
  const voters = judging(matches);
  if (voters.length === 0) {
    return posture === 'block' ? { policy: '', rule: 'DefaultPosture', action: 'Block' } : undefined;
  }
  const denials = mostSpecific(voters).filter(denies);
  const denial = strictest(denials.filter(({ byArguments }) => !byArguments)) ?? strictest(denials);
  if (denial === undefined) return undefined;
  return { ...nameOf(denial.known), action: denial.known.rule.action };
}

function mostSpecific(matches: readonly Match[]): Match[] {
  return matches.filter(({ rank }) => matches.every((other) => compare(rank, other.rank) >= 0));
}

function denies({ known, holds }: Match): boolean {
  return holds === undefined ? known.rule.action !== 'Allow' : !holds;
}

function strictest(matches: readonly Match[]): Match | undefined {
  return [...matches].sort(byStrictness)[0];
}

function byStrictness(a: Match, b: Match): number {
  const severity = ({ known }: Match) => STRICTNESS[known.rule.action];
  return severity(b) - severity(a) || a.known.order - b.known.order;
}

function compare(a: Rank, b: Rank): number {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i] - b[i];
  return 0;
}

/** Section 6: each subject class is tried by itself, and the most specific denial of those is reported. */
function trialOf(
  rules: readonly Known[],
  request: Request,
  posture: (which: Which) => Posture | undefined,
): RuleName | undefined {
  const trials: Match[] = [];
  let byPosture = false;
  for (const program of programsOf(request)) {
    const alone = { ...request, subject: { programs: [program], parents: [] } };
    const voters = judging(rules.flatMap((each) => matchOf(each, alone)));
    const denial = strictest(mostSpecific(voters).filter((match) => denies(match) && !isEnforced(match)));
    if (denial !== undefined) trials.push(denial);
    if (voters.length === 0 && posture(isEnforced) === undefined && posture(() => true) === 'block')
      byPosture = true;
  }
  const [best] = trials.sort((a, b) => compare(b.rank, a.rank) || byStrictness(a, b));
  if (best !== undefined) return nameOf(best.known);
  return byPosture ? { policy: '', rule: 'DefaultPosture' } : undefined;
}

type Which = (each: { readonly known: Known }) => boolean;

/** Section 1: the posture of the request's class, where the rules in question make it an allowlist. */
function postureFor(
  request: Request,
  rules: readonly Known[],
  postures: Parameters<MakeJudge>[1],
): (which: Which) => Posture | undefined {
  const belongs = classOf(request);
  if (belongs === undefined) return () => undefined;
  const { posture, has } = belongs(postures);
  return (which) =>
    rules.some((known) => which({ known }) && known.rule.action === 'Allow' && has(known.rule))
      ? posture
      : undefined;
}

type Belonging = (postures: Parameters<MakeJudge>[1]) => { posture: Posture; has: (rule: Rule) => boolean };

function classOf(request: Request): Belonging | undefined {
  switch (request.kind) {
    case 'preset':
    case 'escape':
    case 'call':
      return undefined;
    case 'capability':
      return ({ capabilities }) => ({ posture: capabilities, has: (rule) => rule.class === 'capabilities' });
    case 'socket':
      if (socketsOf('local').includes(request.socket)) return undefined;
      return ({ network }) => ({
        posture: network,
        has: (rule) => rule.class === 'network' && rule.kind === 'protocol',
      });
    case 'query':
      return ({ network }) => ({
        posture: network,
        has: (rule) => rule.class === 'network' && rule.kind === 'dns',
      });
    case 'address':
      return ({ network }) => ({
        posture: network,
        has: (rule) =>
          rule.class === 'network' && rule.kind === 'address' && rule.direction === request.direction,
      });
    case 'file':
      if (request.operation === 'exec') {
        if (request.name === undefined) return undefined;
        return ({ file }) => ({ posture: file, has: (rule) => rule.class === 'process' });
      }
      if (request.operation !== 'read' && request.operation !== 'write') return undefined;
      return ({ file }) => ({ posture: file, has: (rule) => rule.class === 'file' });
  }
}

/** Section 4: who of the request's subject the sources may name. */
function programsOf({ subject, ...request }: Request): Name[] {
  const byParent = request.kind === 'file' && request.operation === 'exec';
  return byParent ? [...subject.programs, ...subject.parents] : [...subject.programs];
}

function matchOf(known: Known, request: Request): Match[] {
  const { rule } = known;
  if (rule.class === 'preset') return presetMatch(known, request);
  if (request.kind === 'file' && request.name === undefined) return unnamedMatch(known, request.operation);
  const sourced = rule.sources.length > 0;
  if (sourced && !programsOf(request).some((program) => rule.sources.some((each) => names(each, program))))
    return [];
  const source = sourced ? 1 : 0;
  const plain = (...rank: number[]): Match[] => [{ known, rank: [source, ...rank], ...UNCONDITIONAL }];
  switch (rule.class) {
    case 'syscalls':
      return callMatch(rule, request).flatMap((rank) => plain(...rank));
    case 'capabilities':
      return request.kind === 'capability' && request.capability === rule.capability ? plain() : [];
    case 'escape':
      return request.kind === 'escape' && request.operation === rule.operation ? plain(1) : [];
    case 'network':
      if (rule.kind === 'protocol') {
        const matches = request.kind === 'socket' && socketsOf(rule.protocol).includes(request.socket);
        return matches ? plain(rule.protocol === 'all' ? 0 : 1) : [];
      }
      if (rule.kind === 'dns') {
        if (request.kind !== 'query') return [];
        const below = request.domain.endsWith(`.${rule.domain}`);
        const matches = below || (!rule.below && request.domain === rule.domain);
        return matches ? plain(rule.domain.split('.').length) : [];
      }
      return request.kind === 'address' ? addressRanks(rule, request).flatMap((rank) => plain(...rank)) : [];
    default:
      return request.kind === 'file' ? nameMatch(known, rule, source, request) : [];
  }
}

/** Section 8: whichever of the process rules it is, and whatever it names, "unnamed" answers. */
function unnamedMatch({ policy, rule, order }: Known, operation: string): Match[] {
  if (rule.class !== 'process' || rule.action === 'Audit' || operation !== 'exec') return [];
  const unnamed: Rule = { ...rule, id: 'unnamed', action: 'Block' };
  return [
    { known: { policy: { ...policy, name: '' }, rule: unnamed, order }, rank: [0, 0], ...UNCONDITIONAL },
  ];
}

/** A call by its name, or what calls with a path do to what it names. */
function callMatch(rule: SyscallRule, request: Request): Rank[] {
  if (request.kind !== 'call') return [];
  const { match, syscalls } = rule;
  if (!syscalls.includes(request.syscall)) return [];
  if (match === undefined) return request.path === undefined ? [[0, 0]] : [];
  return request.path !== undefined && names(match, request.path) ? [rankOf(match)] : [];
}

type FileRequest = Request & { readonly kind: 'file' };

/** Section 7. */
function nameMatch(known: Known, rule: NameRule, source: number, request: FileRequest): Match[] {
  const { operation, name, facts } = request;
  if (name === undefined) return [];
  const rank = [source, ...rankOf(rule.match)];
  if (operation === 'move') {
    if (rule.action === 'Allow' || rule.action === 'Audit') return [];
    return name !== '/' && literalOf(rule.match).startsWith(`${name}/`)
      ? [{ known, rank, ...UNCONDITIONAL }]
      : [];
  }
  const asked = operation === 'exec' || operation === 'map' ? 'process' : 'file';
  if (rule.class !== asked || !names(rule.match, name)) return [];
  const holds = conditionsOf(rule, operation, facts);
  const { allowedArgs: _, ...rest } = rule;
  const byArguments = holds === false && conditionsOf(rest, operation, facts) !== false;
  return [{ known, rank, holds, byArguments }];
}

function conditionsOf(rule: NameRule, operation: string, facts: Facts): boolean | undefined {
  const { ownerOnly, readOnly, noTty, allowedArgs } = rule;
  if (!ownerOnly && !readOnly && !noTty && allowedArgs === undefined) return undefined;
  if (ownerOnly && !facts.isOwner) return false;
  if (readOnly && operation === 'write') return false;
  if (noTty && facts.hasTty) return false;
  if (allowedArgs === undefined || operation !== 'exec') return true;
  return facts.args.every((argument) => allowedArgs.some((allowed) => latin1(allowed) === argument));
}

/** Kind, then length. */
function rankOf(matcher: Matcher): Rank {
  switch (matcher.kind) {
    case 'path':
      return [4, 0];
    case 'execname':
      return [3, 0];
    case 'pattern':
      return [2, latin1(literalText(matcher.pattern)).length];
    case 'directory':
      return [1, matcher.dir.split('/').length - 2];
  }
}

function literalOf(matcher: Matcher): Name {
  switch (matcher.kind) {
    case 'path':
      return latin1(matcher.path);
    case 'execname':
      return '';
    case 'pattern':
      return latin1(literalText(matcher.pattern));
    case 'directory':
      return latin1(matcher.dir);
  }
}

function names(matcher: Matcher, name: Name): boolean {
  switch (matcher.kind) {
    case 'path':
      return name === latin1(matcher.path);
    case 'execname':
      return name.slice(name.lastIndexOf('/') + 1) === latin1(matcher.name);
    case 'pattern':
      return globMatches(matcher.pattern, name);
    case 'directory': {
      const dir = latin1(matcher.dir);
      if (!name.startsWith(dir) || name === dir) return false;
      return matcher.recursive || !name.slice(dir.length).includes('/');
    }
  }
}

/** Section 9. */
function presetMatch(known: Known, request: Request): Match[] {
  const { rule } = known;
  if (rule.class !== 'preset') return [];
  if (request.kind === 'preset')
    return rule.preset === request.preset ? [{ known, rank: [0], ...UNCONDITIONAL }] : [];
  if (request.kind === 'escape')
    return rule.preset === 'hardened' ? [{ known, rank: [0, 0], ...UNCONDITIONAL }] : [];
  if (request.kind !== 'file') return [];
  const { name, operation } = request;
  if (name === undefined) {
    const matches = rule.preset === 'filelessExec' && operation === 'exec';
    return matches ? [{ known, rank: [0, 1], ...UNCONDITIONAL }] : [];
  }
  if (operation !== 'read' && operation !== 'write' && operation !== 'load') return [];
  const found =
    (rule.preset === 'protectEnv' && /^\/proc\/[^/]+(\/task\/[^/]+)?\/environ$/s.test(name)) ||
    (rule.preset === 'protectProc' && /^\/proc\/[0-9][^/]*\/./s.test(name));
  const rank = [0, 2, '/proc/'.length];
  return found ? [{ known, rank, holds: request.facts.isSelf, byArguments: false }] : [];
}

type AddressRequest = Request & { readonly kind: 'address' };

/** Prefix length, then whether ports are named; one for every block that holds the address. */
function addressRanks(rule: AddressRule, request: AddressRequest): Rank[] {
  if (rule.direction !== request.direction) return [];
  const inPorts = rule.ports.some(
    ({ protocol, from, to }) =>
      (protocol === undefined || { TCP: 6, UDP: 17, SCTP: 132 }[protocol] === request.protocol) &&
      from <= request.port &&
      request.port <= to,
  );
  if (rule.ports.length > 0 && !inPorts) return [];
  const ports = rule.ports.length > 0 ? 1 : 0;
  if (rule.peers.length === 0) return [[0, ports]];
  const { peers, action } = rule;
  if (request.address.length === 0) {
    if (action === 'Allow') return peers.map(({ cidr }) => [cidr.prefix, ports]);
    return peers.some(({ cidr, except }) => cidr.prefix === 0 && except.length === 0) ? [[0, ports]] : [];
  }
  return peers
    .filter(
      ({ cidr, except }) =>
        holds(cidr, request.address) && !except.some((each) => holds(each, request.address)),
    )
    .map(({ cidr }) => [cidr.prefix, ports]);
}

function holds(cidr: Cidr, address: readonly number[]): boolean {
  const bits = (bytes: readonly number[]) => bytes.map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return (
    cidr.bytes.length === address.length && bits(address).startsWith(bits(cidr.bytes).slice(0, cidr.prefix))
  );
}

export type { Subject };
