/**
 * Runs compiled tables as bpf/tables.h describes them, byte by byte; what the kernel does, without a kernel.
 */
import type { PolicySet } from '../../agent/policy/compile.js';
import { enums, structs } from '../../agent/policy/layout.js';
import { ESCAPES } from '../../agent/policy/schema/words.js';
import { operationsOf, SYSCALLS } from '../../agent/policy/syscalls.js';
import type { Facts, Judge, Name, Request, RuleName } from './request.js';

const { COLUMN_END, COLUMN_SUBJECT, COLUMN_BYTE } = enums.column;
const D = enums.domain;
const Q = enums.decide;
const C = enums.condition;
const { ACTION_ALLOW } = enums.action;

const DECIDES = {
  exec: Q.DECIDE_EXEC,
  map: Q.DECIDE_MAP,
  read: Q.DECIDE_READ,
  write: Q.DECIDE_WRITE,
  load: Q.DECIDE_LOAD,
  move: Q.DECIDE_MOVE,
} as const;

const PRESETS = {
  exec: enums.preset.PRESET_EXEC,
  anonymousMapExec: enums.preset.PRESET_ANONYMOUS_MAP,
  drift: enums.preset.PRESET_DRIFT,
} as const;

interface RuleCell {
  readonly id: number;
  readonly rank: number;
  readonly action: number;
}

type ChainFacts = Omit<Facts, 'args'> & Partial<Pick<Facts, 'args'>>;

/** A region, with the two ways of reading it: step and exception. */
export class Tables {
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  u32(at: number): number {
    return this.#view.getUint32(at, true);
  }

  u8(at: number): number {
    return this.#view.getUint8(at);
  }

  header(field: number, index = 0): number {
    return this.u32(field + index * 4);
  }

  exception(row: number, column: number): number | undefined {
    const at = this.header(structs.set_header.cells) + (row + column) * 8;
    return this.u32(at + 4) === row ? this.u32(at) : undefined;
  }

  step(row: number, column: number): number {
    return this.exception(row, column) ?? this.u32(this.header(structs.set_header.cells) + row * 8);
  }

  run(start: number, input: Iterable<number>): number {
    let state = start;
    for (const byte of input) state = this.step(state, COLUMN_BYTE + byte);
    return state;
  }

  /** The object class of an input. */
  objectClass(domain: number, input: Iterable<number>): number {
    const state = this.run(this.header(structs.set_header.start, domain), input);
    return this.exception(state, COLUMN_END) ?? this.header(structs.set_header.none, domain);
  }

  subjectClass(program: Name): number {
    const state = this.run(this.header(structs.set_header.start, D.DOMAIN_PROGRAM), bytesOf(program));
    return this.exception(state, COLUMN_SUBJECT) ?? 0;
  }

  /** Verdict and audit chain. */
  entry(object: number, subject: number, decide: number): [verdict: number, audit: number] {
    const decision = this.step(object, subject);
    const at = this.header(structs.set_header.decisions) + decision * structs.decision.size + decide * 8;
    return [this.u32(at), this.u32(at + 4)];
  }

  rank(rule: number): number {
    return rule === 0 ? 0 : this.u32(rule + structs.rule.rank);
  }

  rule(at: number): RuleCell {
    const action = this.u8(at + structs.rule.action_u8);
    return { id: this.u32(at + structs.rule.id), rank: this.rank(at), action };
  }

  /** The first rule of a chain that fires; without `facts.args` all arguments count as listed. */
  fires(chain: number, facts: ChainFacts): RuleCell | undefined {
    for (let rule = chain; rule !== 0; rule = this.u32(rule + structs.rule.next)) {
      const conditions = this.u8(rule + structs.rule.conditions_u8);
      const allows = this.u8(rule + structs.rule.action_u8) === ACTION_ALLOW;
      if (conditions === 0 ? !allows : !this.#hold(rule, conditions, facts)) {
        return this.rule(rule);
      }
    }
    return undefined;
  }

  #hold(rule: number, conditions: number, facts: ChainFacts): boolean {
    if ((conditions & C.CONDITION_NEVER) !== 0) return false;
    if ((conditions & C.CONDITION_OWNER) !== 0 && !facts.isOwner) return false;
    if ((conditions & C.CONDITION_NO_TTY) !== 0 && facts.hasTty) return false;
    if ((conditions & C.CONDITION_SELF) !== 0 && !facts.isSelf) return false;
    if ((conditions & C.CONDITION_ARGS) === 0 || facts.args === undefined) return true;
    const input = facts.args.flatMap((arg) => [...bytesOf(arg), 0]);
    const state = this.run(this.u32(rule + structs.rule.args_start), input);
    return this.exception(state, COLUMN_END) !== undefined;
  }
}

export function judgeByTables(set: PolicySet): Judge {
  const tables = new Tables(set.bytes);
  const name = (id: number): RuleName => ({ policy: set.rules[id].policy, rule: set.rules[id].rule });
  return (request) => {
    const entries = entriesOf(tables, request);
    const top = Math.max(...entries.map(([verdict]) => tables.rank(verdict)));
    const first = (chains: readonly number[], facts: ChainFacts): RuleCell | undefined =>
      chains
        .map((chain) => tables.fires(chain, facts))
        .filter((fired) => fired !== undefined)
        // A rule matched for some subject class: the posture does not apply.
        .filter(({ rank }) => rank > 0 || top === 0)
        .sort((a, b) => b.rank - a.rank || b.action - a.action || a.id - b.id)[0];
    const verdicts = entries.map(([verdict]) => verdict).filter((verdict) => tables.rank(verdict) === top);
    const { args: _, ...before } = request.facts;
    const denial = first(verdicts, before) ?? first(verdicts, request.facts);
    if (denial !== undefined) {
      const { id } = denial;
      return { denied: { ...name(id), action: set.rules[id].action }, reported: undefined };
    }
    const audits = entries.map(([, audit]) => audit);
    const report = first(audits, request.facts);
    return { denied: undefined, reported: report === undefined ? undefined : name(report.id) };
  };
}

function entriesOf(tables: Tables, request: Request): [number, number][] {
  const header = structs.set_header;
  if (request.kind === 'preset') {
    const at = header.presets + PRESETS[request.preset] * structs.entry.size;
    return [[tables.u32(at), tables.u32(at + 4)]];
  }
  const domain = domainOf(request);
  const decide = decideOf(request);
  const bit = request.kind === 'escape' ? inputOf(request)[0] : decide;
  const isActive = (tables.header(header.active, domain) & (1 << bit)) !== 0;
  const unnamed = request.kind === 'file' && request.name === undefined;
  const object = unnamed ? tables.header(header.unnamed) : tables.objectClass(domain, inputOf(request));
  const entries = subjectNames(request).map((program) =>
    tables.entry(object, tables.subjectClass(program), decide),
  );
  if (!isActive && entries.some(([verdict, audit]) => verdict !== 0 || audit !== 0)) {
    throw new Error(`domain ${domain} answers question ${decide} and does not say so`);
  }
  return entries;
}

type Question = Exclude<Request, { kind: 'preset' }>;

/** The programs whose subject classes have a say. */
export function subjectNames(request: Question): Name[] {
  const { programs, parents } = request.subject;
  return request.kind === 'file' && request.operation === 'exec' ? [...programs, ...parents] : [...programs];
}

export function decideOf(request: Question): number {
  return request.kind === 'file' ? DECIDES[request.operation] : Q.DECIDE_OTHER;
}

export function domainOf(request: Question): number {
  if (request.kind === 'file') {
    return request.operation === 'exec' || request.operation === 'map' ? D.DOMAIN_PROGRAM : D.DOMAIN_FILE;
  }
  if (request.kind === 'socket') return D.DOMAIN_SOCKET;
  if (request.kind === 'capability') return D.DOMAIN_CAPABILITY;
  if (request.kind === 'escape') return D.DOMAIN_ESCAPE;
  if (request.kind === 'query') return D.DOMAIN_DNS;
  if (request.kind === 'call') return D.DOMAIN_CALL;
  if (request.address.length === 0) return D.DOMAIN_BIND;
  const six = request.address.length === 16;
  if (request.direction === 'egress') return six ? D.DOMAIN_EGRESS6 : D.DOMAIN_EGRESS4;
  return six ? D.DOMAIN_INGRESS6 : D.DOMAIN_INGRESS4;
}

/** What the domain's automaton reads. */
export function inputOf(request: Question): number[] {
  if (request.kind === 'file') return [...bytesOf(request.name ?? '')];
  if (request.kind === 'socket') return [request.socket];
  if (request.kind === 'capability') return [request.capability];
  if (request.kind === 'escape') return [ESCAPES.indexOf(request.operation)];
  if (request.kind === 'call') {
    const { syscall, path } = request;
    if (path !== undefined) return [enums.call.CALL_PATH, operationsOf(syscall)[0] ?? 0, ...bytesOf(path)];
    const number = SYSCALLS[0].get(syscall) ?? 0xffff;
    return [enums.call.CALL_X86_64, number >> 8, number & 255];
  }
  if (request.kind === 'query') return [...bytesOf(request.domain)].reverse();
  return [...request.address, request.protocol, request.port >> 8, request.port & 255];
}

function bytesOf(name: Name): Uint8Array {
  return Uint8Array.from(name, (character) => character.charCodeAt(0));
}
