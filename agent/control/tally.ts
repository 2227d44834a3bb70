import {
  type NodeEnforcementStatus,
  readEnforced,
  type TroubledPolicy,
} from '../policy/schema/node-enforcement.js';
import type { Condition, PolicyStatus } from '../policy/schema/policies.js';
import { cut } from './node-enforcement.js';
import type { FieldDiagnostic, PolicyState } from './policies.js';

/** As the CustomResourceDefinition has it. */
const MAX_RULES = 32;

/** What nodes tell of one policy, added up. */
interface Tally {
  /** Nodes and workloads that have a generation whole. */
  readonly whole: Map<number, { nodes: number; workloads: number }>;
  /** What is wrong on how many nodes. */
  readonly troubles: Map<string, Trouble>;
}

interface Trouble {
  readonly generation: number;
  readonly rule: string;
  readonly reason: string;
  nodes: number;
  workloads: number;
}

/** What is kept of a node's NodeEnforcement; of thousands of nodes, so it is packed. */
export interface NodeShare {
  /** For each policy that is enforced whole: its number, generation, workloads. */
  readonly whole: Int32Array;
  readonly troubled: readonly TroubledPolicy[];
}

/** Adds up what all nodes tell, and takes off what they do not any more: a node's change costs what it changes. */
export class Tallies {
  readonly #tallies = new Map<string, Tally>();
  /** Policies have numbers, so that nodes need not keep their UIDs; a number that no share uses is given again. */
  readonly #numbers = new Map<string, number>();
  readonly #uids: string[] = [];
  readonly #uses: number[] = [];
  readonly #free: number[] = [];
  #nodes = 0;

  /** How many nodes tell. */
  get nodes(): number {
    return this.#nodes;
  }

  /** To be given to `change`, as `after` and later as `before`. */
  share({ enforced = {}, troubled = [] }: NodeEnforcementStatus): NodeShare {
    const whole: number[] = [];
    for (const [uid, text] of Object.entries(enforced)) {
      const read = readEnforced(text);
      if (read !== undefined) whole.push(this.#number(uid), read.generation, read.workloads);
    }
    return { whole: Int32Array.from(whole), troubled };
  }

  /** @returns the UIDs of the policies for which that makes a difference */
  change(before: NodeShare | undefined, after: NodeShare | undefined): Set<string> {
    const touched = new Set<string>();
    if (before !== undefined) this.#add(before, -1, touched);
    if (after !== undefined) this.#add(after, 1, touched);
    if (before !== undefined) this.#release(before);
    this.#nodes += Number(after !== undefined) - Number(before !== undefined);
    return touched;
  }

  /** @param before gives the times of conditions that stay as they are */
  statusOf(state: PolicyState, before: PolicyStatus | undefined, now: Date): PolicyStatus {
    const { generation } = state.ref;
    const { whole, troubles } = this.#tallies.get(state.ref.uid) ?? { whole: new Map(), troubles: new Map() };
    let total = 0;
    let workloads = 0;
    for (const each of [...whole.values(), ...troubles.values()]) {
      total += each.nodes;
      workloads += each.workloads;
    }
    const enforced = state.accepted ? (whole.get(generation)?.nodes ?? 0) : 0;
    // what is told of another generation says nothing of this one
    const wrong = [...troubles.values()]
      .filter((trouble) => trouble.generation === generation && state.accepted)
      .sort((a, b) => b.nodes - a.nodes || (`${a.rule}${a.reason}` < `${b.rule}${b.reason}` ? -1 : 1));
    const faults = state.diagnostics.filter(({ severity }) => severity === 'error');
    const doubts = state.diagnostics.filter(({ severity }) => severity === 'warning');

    const condition = (
      type: Condition['type'],
      status: Condition['status'],
      reason: string,
      message: string,
    ) => {
      const old = before?.conditions?.find((each) => each.type === type);
      const lastTransitionTime =
        old?.status === status ? old.lastTransitionTime : `${now.toISOString().slice(0, 19)}Z`;
      return {
        type,
        status,
        observedGeneration: generation,
        lastTransitionTime,
        reason,
        message: cut(message, 4096),
      };
    };
    const instead =
      state.generationInForce === undefined ? 'nothing' : `generation ${state.generationInForce}`;
    const accepted = state.accepted
      ? condition(
          'Accepted',
          'True',
          doubts.length > 0 ? 'AcceptedWithWarnings' : 'Accepted',
          said(doubts) || 'it can be enforced',
        )
      : condition('Accepted', 'False', 'Rejected', `${said(faults)}; in force instead: ${instead}`);
    const nodes = `${enforced} of ${total} nodes`;
    const inForce =
      total === 0
        ? condition('Enforced', 'Unknown', 'ReachesNothing', 'no node tells of a workload that it reaches')
        : enforced === total
          ? condition('Enforced', 'True', 'Enforced', nodes)
          : condition('Enforced', 'False', state.accepted ? 'Waiting' : 'Rejected', nodes);
    const degraded =
      wrong.length === 0
        ? condition('Degraded', 'False', 'Whole', 'no node tells of trouble')
        : condition('Degraded', 'True', 'NotWhole', wrong.map(onNodes).join('; '));
    const rules: readonly { rule: string; reason: string }[] = state.accepted
      ? wrong.map(({ rule, reason }) => ({ rule, reason }))
      : faults.map(({ field, message }) => ({ rule: field, reason: message }));
    const reason = rules[0] && `${rules[0].rule && `${rules[0].rule}: `}${rules[0].reason}`;
    // older API servers take an empty text in what is applied for null
    const named = rules.filter(({ rule }) => rule !== '');
    return {
      observedGeneration: generation,
      conditions: [accepted, inForce, degraded],
      enforced: `${enforced}/${total}`,
      nodes: { total, enforced, degraded: total - enforced },
      workloads,
      ...(reason && { reason: cut(reason, 1024) }),
      ...(named.length > 0 && {
        rules: named
          .slice(0, MAX_RULES)
          .map((each) => ({ rule: cut(each.rule, 256), reason: cut(each.reason, 1024) })),
      }),
    };
  }

  #number(uid: string): number {
    let number = this.#numbers.get(uid);
    if (number === undefined) {
      number = this.#free.pop() ?? this.#uids.length;
      this.#uids[number] = uid;
      this.#uses[number] = 0;
      this.#numbers.set(uid, number);
    }
    this.#uses[number]++;
    return number;
  }

  #release({ whole }: NodeShare): void {
    for (let i = 0; i < whole.length; i += 3) {
      if (--this.#uses[whole[i]] > 0) continue;
      this.#numbers.delete(this.#uids[whole[i]]);
      this.#free.push(whole[i]);
    }
  }

  #add({ whole, troubled }: NodeShare, nodes: 1 | -1, touched: Set<string>): void {
    for (let i = 0; i < whole.length; i += 3) {
      const uid = this.#uids[whole[i]];
      const tally = this.#tally(uid);
      const sum = tally.whole.get(whole[i + 1]) ?? { nodes: 0, workloads: 0 };
      sum.nodes += nodes;
      sum.workloads += nodes * whole[i + 2];
      if (sum.nodes === 0) tally.whole.delete(whole[i + 1]);
      else tally.whole.set(whole[i + 1], sum);
      this.#settle(uid, tally, touched);
    }
    for (const { uid, observedGeneration: generation, rule = '', reason, workloads } of troubled) {
      const tally = this.#tally(uid);
      const key = `${generation}\0${rule}\0${reason}`;
      const sum = tally.troubles.get(key) ?? { generation, rule, reason, nodes: 0, workloads: 0 };
      sum.nodes += nodes;
      sum.workloads += nodes * workloads;
      if (sum.nodes === 0) tally.troubles.delete(key);
      else tally.troubles.set(key, sum);
      this.#settle(uid, tally, touched);
    }
  }

  #tally(uid: string): Tally {
    return this.#tallies.get(uid) ?? { whole: new Map(), troubles: new Map() };
  }

  #settle(uid: string, tally: Tally, touched: Set<string>): void {
    touched.add(uid);
    if (tally.whole.size + tally.troubles.size === 0) this.#tallies.delete(uid);
    else this.#tallies.set(uid, tally);
  }
}

/** What faults say, each with the field that it is about. */
export function said(diagnostics: readonly FieldDiagnostic[]): string {
  const one = ({ field, message }: FieldDiagnostic) => {
    const named = field === '' || message.startsWith(field.replace(/^spec\./, ''));
    return named ? message : `${field}: ${message}`;
  };
  return diagnostics.map(one).join('; ');
}

const onNodes = ({ rule, reason, nodes }: Trouble) =>
  `${rule && `${rule}: `}${reason} (${nodes} node${nodes === 1 ? '' : 's'})`;
