import { compile, type PolicySet } from '../policy/compile.js';
import type { Diagnostic, Policy, Postures } from '../policy/model.js';
import type { RuleInfo } from '../policy/rules.js';
import { ArenaFull } from './arena.js';
import type { Generation, Kernel, Published } from './kernel.js';
import { CannotAttach } from './on-demand.js';

/** Generations whose rules are remembered after they went out of force, for events still under way. */
const REMEMBERED = 256;

/** Making this many bytes of tables leaves enough behind to be worth a collection. */
const TRIM_BYTES = 256 << 10;

/** Tables in the arena, with what their events' rule ids mean. */
export interface InForce extends Published {
  readonly key: string;
  readonly policies: readonly Policy[];
  readonly rules: readonly RuleInfo[];
}

/** Policies that reach a workload, and what holds where they say nothing. */
export interface Reaching {
  /** As they were given; for each, `policies` has the form in which it reaches the workload. */
  readonly selected: readonly Policy[];
  readonly policies: readonly Policy[];
  readonly postures: Postures;
}

/** As many of some policies as fit together, and why each of the others does not. */
export interface Most {
  readonly set: InForce | undefined;
  readonly leftOut: readonly Diagnostic[];
  /** Some of the others only lack room, which there may be later. */
  readonly lacksRoom: boolean;
}

/** Policies that do not fit together. */
export interface Refused {
  readonly why: readonly Diagnostic[];
  /** Not by what they say. */
  readonly lacksRoom: boolean;
  /** Once that has been asked for. */
  most?: Most;
}

/** Sets of policies in the kernel: the same policies in the same postures are one, whoever they reach. */
export class PolicySets {
  readonly #kernel: Kernel;
  readonly #sets = new Map<string, InForce>();
  /** By the sets' keys: what has been refused is not tried again in the same round. */
  readonly #refused = new Map<string, Refused>();
  readonly #rules = new Map<Generation, readonly RuleInfo[]>();
  readonly #names = new WeakMap<Policy, number>();
  #named = 0;
  /** Bytes of tables made since the last `keep`. */
  #compiled = 0;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  get size(): number {
    return this.#sets.size;
  }

  /** What the id of an event's rule means. */
  rule(generation: Generation, rule: number): RuleInfo | undefined {
    return this.#rules.get(generation)?.[rule];
  }

  keyOf({ policies, postures: { file, network, capabilities } }: Reaching): string {
    const names = policies.map((p) => this.#nameOf(p)).sort((a, b) => a - b);
    return `${names.join()} ${file} ${network} ${capabilities}`;
  }

  /** The set of all of the policies, published if it was not. */
  of(reaching: Reaching): InForce | Refused {
    const { policies, postures } = reaching;
    const key = this.keyOf(reaching);
    const known = this.#sets.get(key) ?? this.#refused.get(key);
    if (known) return known;
    const refuse = (why: readonly Diagnostic[], lacksRoom = false): Refused => {
      const refused = { why, lacksRoom };
      this.#refused.set(key, refused);
      return refused;
    };
    const compiled = compile(policies, postures);
    if (!compiled.ok) return refuse(compiled.diagnostics);
    try {
      return this.#publish(key, reaching.selected, compiled.set);
    } catch (error) {
      if (!(error instanceof ArenaFull) && !(error instanceof CannotAttach)) throw error;
      return refuse([{ at: policies[0].at, severity: 'error', message: error.message }], true);
    }
  }

  /**
   * As many of refused policies as fit together, found by halves.
   * @param used whether a set is in force for anyone
   */
  mostOf(refused: Refused, reaching: Reaching, used: (set: InForce) => boolean): Most {
    refused.most ??= this.#halve(refused, reaching, used);
    return refused.most;
  }

  #halve(
    refused: Refused,
    { selected, policies, postures }: Reaching,
    used: (set: InForce) => boolean,
  ): Most {
    let set: InForce | undefined;
    let kept: readonly number[] = [];
    const leftOut: Diagnostic[] = [];
    let lacksRoom = false;
    const halve = (more: readonly number[], refused: Refused): void => {
      if (more.length === 1) {
        leftOut.push({ ...refused.why[0], at: policies[more[0]].at });
        lacksRoom ||= refused.lacksRoom;
        return;
      }
      const half = more.length >> 1;
      for (const part of [more.slice(0, half), more.slice(half)]) {
        const all = [...kept, ...part];
        const some = all.map((i) => policies[i]);
        const found = this.of({ policies: some, selected: all.map((i) => selected[i]), postures });
        if ('why' in found) {
          halve(part, found);
          continue;
        }
        // it takes room that more may need
        if (set && !used(set)) this.#retire([set]);
        set = found;
        kept = all;
      }
    };
    halve([...policies.keys()], refused);
    return { set, leftOut, lacksRoom };
  }

  /**
   * Ends a round of changes: only these sets stay.
   * @returns whether that has made room
   */
  keep(used: ReadonlySet<InForce | undefined>): boolean {
    const others = [...this.#sets.values()].filter((set) => !used.has(set));
    const madeRoom = this.#retire(others);
    this.#refused.clear();
    if (this.#compiled > TRIM_BYTES) this.#kernel.trimSoon();
    this.#compiled = 0;
    return madeRoom;
  }

  #retire(sets: readonly InForce[]): boolean {
    for (const { key } of sets) this.#sets.delete(key);
    return this.#kernel.retire(sets);
  }

  #publish(key: string, policies: readonly Policy[], compiled: PolicySet): InForce {
    const published = this.#kernel.publish(compiled.bytes);
    this.#compiled += compiled.bytes.length;
    const set: InForce = { ...published, key, policies, rules: compiled.rules };
    this.#sets.set(key, set);
    this.#rules.set(set.generation, set.rules);
    const live = new Set([...this.#sets.values()].map((s) => s.generation));
    for (const generation of this.#rules.keys()) {
      if (this.#rules.size <= live.size + REMEMBERED) break;
      if (!live.has(generation)) this.#rules.delete(generation);
    }
    return set;
  }

  #nameOf(policy: Policy): number {
    let name = this.#names.get(policy);
    if (name === undefined) {
      name = ++this.#named;
      this.#names.set(policy, name);
    }
    return name;
  }
}
