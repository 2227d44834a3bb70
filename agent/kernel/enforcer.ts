import { existsSync } from 'node:fs';
import { compile, type PolicySet } from '../policy/compile.js';
import type { Diagnostic, Policy, Postures } from '../policy/model.js';
import type { RuleInfo } from '../policy/rules.js';
import { selects } from '../policy/selector.js';
import { type Workload, workloadKey } from '../workload/model.js';
import { maps } from './abi.js';
import { ArenaFull } from './arena.js';
import { CgroupBinder } from './cgroups.js';
import type { Generation, Kernel, Published } from './kernel.js';

/** Tables in the arena, with what their events' rule ids mean. */
interface InForce extends Published {
  readonly key: string;
  readonly rules: readonly RuleInfo[];
}

interface Bound {
  readonly id: number;
  workload: Workload;
  set: InForce | undefined;
}

/** What an event needs to be told in people's terms. */
export interface Attribution {
  readonly workload: Workload | undefined;
  readonly rule: RuleInfo | undefined;
}

/** Generations whose rules are remembered after they went out of force, for events still under way. */
const REMEMBERED = 256;

/** Making this many bytes of tables leaves enough behind to be worth a collection. */
const TRIM_BYTES = 256 << 10;

/**
 * Keeps the kernel in step with what is wanted: which policies exist, and which workloads. Workloads that the same
 * policies reach share one set of tables. What cannot be compiled or published changes nothing.
 */
export class Enforcer {
  readonly #kernel: Kernel;
  readonly #postures: Postures;
  readonly #cgroups: CgroupBinder;
  readonly #bound = new Map<string, Bound>();
  readonly #byId = new Map<number, Workload>();
  /** Numbers of workloads that were taken away, and their cgroups, while tasks there may still carry them. */
  readonly #retired = new Map<number, string>();
  readonly #sets = new Map<string, InForce>();
  readonly #rules = new Map<Generation, readonly RuleInfo[]>();
  readonly #names = new WeakMap<Policy, number>();
  #named = 0;
  /** Bytes of tables made in this round. */
  #compiled = 0;
  #nextId = 1;
  #policies: readonly Policy[] = [];

  constructor(kernel: Kernel, postures: Postures) {
    this.#kernel = kernel;
    this.#postures = postures;
    this.#cgroups = new CgroupBinder(kernel);
  }

  /**
   * Policies are compared by identity: whoever gives an unchanged policy again gives the same object.
   * @returns why some workloads keep what they had
   */
  setPolicies(policies: readonly Policy[]): Diagnostic[] {
    this.#policies = policies;
    return this.#reconcile();
  }

  setWorkloads(workloads: readonly Workload[]): Diagnostic[] {
    const wanted = new Map(workloads.map((w) => [workloadKey(w), w]));
    const diagnostics: Diagnostic[] = [];
    for (const [key, bound] of this.#bound) {
      if (wanted.has(key)) continue;
      this.#cgroups.release(bound.workload.cgroup, bound.id);
      this.#retired.set(bound.id, bound.workload.cgroup);
      this.#kernel.enforce(bound.id, undefined);
      this.#kernel.forgetHome(bound.id);
      this.#bound.delete(key);
    }
    const fresh: Bound[] = [];
    for (const [key, workload] of wanted) {
      const bound = this.#bound.get(key);
      if (bound) {
        bound.workload = workload;
        this.#byId.set(bound.id, workload);
        continue;
      }
      const id =
        this.#cgroups.previousOwner(workload.cgroup) ?? this.#retiredId(workload.cgroup) ?? this.#takeId();
      if (id === undefined) {
        diagnostics.push({
          at: { file: workload.cgroup, line: 1, column: 1 },
          severity: 'error',
          message: `this would be workload ${maps.workloads.entries}, one more than a node can have; it is not protected`,
        });
        continue;
      }
      const added: Bound = { id, workload, set: undefined };
      this.#bound.set(key, added);
      this.#byId.set(id, workload);
      fresh.push(added);
    }
    // Tables first, then the cgroup: nobody is ever in a bound cgroup without its policies.
    diagnostics.push(...this.#reconcile());
    for (const { id, workload } of fresh) this.#cgroups.claim(workload.cgroup, id);
    if (fresh.length > 0) this.#kernel.adopt();
    return diagnostics;
  }

  /** Looks again at which cgroups exist; to be called now and then. */
  refresh(): void {
    if (this.#cgroups.refresh()) this.#kernel.adopt();
  }

  attribute(workload: number, generation: Generation, rule: number): Attribution {
    return { workload: this.#byId.get(workload), rule: this.#rules.get(generation)?.[rule] };
  }

  /** Numbers of the workloads that are enforced, with what they are. */
  get workloads(): ReadonlyMap<number, Workload> {
    return this.#byId;
  }

  get sets(): number {
    return this.#sets.size;
  }

  /** The number that the tasks of a cgroup carry which was a workload's before, and is one again. */
  #retiredId(cgroup: string): number | undefined {
    for (const [id, path] of this.#retired) {
      if (path !== cgroup) continue;
      this.#retired.delete(id);
      return id;
    }
    return undefined;
  }

  #takeId(): number | undefined {
    for (const [id, path] of this.#retired) if (!existsSync(path)) this.#retired.delete(id);
    const used = new Set([...this.#retired.keys(), ...[...this.#bound.values()].map((b) => b.id)]);
    // Numbers go round, so that one is not soon another's while old tasks may still carry it.
    for (let n = 1; n < maps.workloads.entries; n++) {
      const id = this.#nextId;
      this.#nextId = id + 1 === maps.workloads.entries ? 1 : id + 1;
      if (used.has(id)) continue;
      this.#kernel.resetWorkload(id);
      return id;
    }
    return undefined;
  }

  #reconcile(): Diagnostic[] {
    const diagnostics: Diagnostic[] = [];
    const retired: InForce[] = [];
    for (const bound of this.#bound.values()) {
      const { workload } = bound;
      const selected = this.#policies.filter((p) => selects(p, workload));
      const key = selected
        .map((p) => this.#nameOf(p))
        .sort((a, b) => a - b)
        .join();
      if (bound.set?.key === key) continue;
      const set = selected.length === 0 ? undefined : this.#setOf(key, selected, diagnostics);
      if (set === 'unfit') continue;
      this.#kernel.enforce(bound.id, set);
      bound.set = set;
    }
    const inForce = new Set([...this.#bound.values()].map((b) => b.set));
    for (const [key, set] of this.#sets) {
      if (inForce.has(set)) continue;
      this.#sets.delete(key);
      retired.push(set);
    }
    this.#kernel.retire(retired);
    if (this.#compiled > TRIM_BYTES) this.#kernel.trimSoon();
    this.#compiled = 0;
    return diagnostics;
  }

  #setOf(key: string, policies: readonly Policy[], diagnostics: Diagnostic[]): InForce | 'unfit' {
    const known = this.#sets.get(key);
    if (known) return known;
    const compiled = compile(policies, this.#postures);
    if (!compiled.ok) {
      diagnostics.push(...compiled.diagnostics);
      return 'unfit';
    }
    try {
      return this.#publish(key, compiled.set);
    } catch (error) {
      if (!(error instanceof ArenaFull)) throw error;
      diagnostics.push({ at: policies[0].at, severity: 'error', message: error.message });
      return 'unfit';
    }
  }

  #publish(key: string, compiled: PolicySet): InForce {
    const published = this.#kernel.publish(compiled.bytes);
    this.#compiled += compiled.bytes.length;
    const set: InForce = { ...published, key, rules: compiled.rules };
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
