/**
 * Asks the decision code itself, built for the host: the same headers that the kernel programs are made of.
 */
import type { Addon } from '../../agent/kernel/addon.js';
import type { PolicySet } from '../../agent/policy/compile.js';
import { enums } from '../../agent/policy/layout.js';
import type { Facts, Request, RuleName, Verdict } from './request.js';
import { decideOf, domainOf, inputOf, judgeByTables, subjectNames, Tables } from './run-tables.js';

const C = enums.condition;

/** As in bpf/matcher.h; bit 31 says that the rule only reports. */
const WAITING_FIRED = 0x40000000;
const WAITING_RULE = 0x3fffffff;

/** Undefined where more rules wait for the arguments than can be judged. */
export function judgeByNative(addon: Addon, set: PolicySet): (request: Request) => Verdict | undefined {
  const byTables = judgeByTables(set);
  const tables = new Tables(set.bytes);
  const name = (id: number): RuleName => ({ policy: set.rules[id].policy, rule: set.rules[id].rule });
  const verdict = (denied: number, reported: number): Verdict => ({
    denied: denied === 0 ? undefined : { ...name(denied), action: set.rules[denied].action },
    reported: reported === 0 ? undefined : name(reported),
  });
  return (request) => {
    // No automaton has a say in these.
    if (request.kind === 'preset') return byTables(request);
    const unnamed = request.kind === 'file' && request.name === undefined;
    const input = unnamed ? null : Uint8Array.from(inputOf(request));
    const classes = subjectNames(request).map((program) =>
      addon.subjectClass(set.bytes, Buffer.from(program, 'latin1')),
    );
    const [fired, , audit, , , failed, ...waiting] = addon.judge(
      set.bytes,
      domainOf(request),
      input,
      classes,
      decideOf(request),
      heldBy(request.facts),
    );
    if (failed !== 0) return undefined;
    if (fired !== 0) return verdict(fired, 0);
    const args = Buffer.from(request.facts.args.map((argument) => `${argument}\0`).join(''), 'latin1');
    const breached = waiting.filter(
      (word) => (word & WAITING_FIRED) !== 0 || !addon.argumentsListed(set.bytes, word, args),
    );
    const rules = (audits: boolean) =>
      breached
        .filter((word) => word >>> 31 === (audits ? 1 : 0))
        .map((word) => tables.rule(word & WAITING_RULE))
        .sort((a, b) => b.rank - a.rank || b.action - a.action || a.id - b.id);
    const [breach] = rules(false);
    if (breach !== undefined) return verdict(breach.id, 0);
    return verdict(0, rules(true)[0]?.id ?? audit);
  };
}

function heldBy(facts: Facts): number {
  let held = 0;
  if (facts.isOwner) held |= C.CONDITION_OWNER;
  if (!facts.hasTty) held |= C.CONDITION_NO_TTY;
  if (facts.isSelf) held |= C.CONDITION_SELF;
  return held;
}
