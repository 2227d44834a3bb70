import { audited, strictly } from '../policy/derive.js';
import type { Diagnostic, Policy, Postures } from '../policy/model.js';
import type { RuleInfo } from '../policy/rules.js';
import { selects } from '../policy/selector.js';
import { type Workload, workloadKey } from '../workload/model.js';
import { NOTHING_VISIBLE, type Visibility } from '../workload/visibility.js';
import { maps } from './abi.js';
import { CgroupBinder } from './cgroups.js';
import type { Generation, Kernel } from './kernel.js';
import { CannotAttach } from './on-demand.js';
import { type InForce, PolicySets, type Reaching } from './policy-sets.js';

interface Bound {
  readonly id: number;
  workload: Workload;
  set: InForce | undefined;
  /** Why policies that reach it are not in `set`, one each. */
  unfit: readonly Diagnostic[];
  /** What its policies were settled for: the same again changes nothing. */
  settled: { readonly workload: Workload; readonly round: number } | undefined;
  /** The kernel has been told where it is. */
  claimed: boolean;
  /** As the kernel has been told; an agent before this one may have told it otherwise. */
  visible: Visibility | undefined;
}

/** The number of what is not judged. */
const NOBODY = 0;

/** What an event needs to be told in people's terms. */
export interface Attribution {
  readonly workload: Workload | undefined;
  readonly rule: RuleInfo | undefined;
}

/**
 * Keeps the kernel in step with what is wanted: which policies exist, and which workloads. Workloads that the same
 * policies reach share one set of tables. What cannot be compiled or published changes nothing.
 */
export class Enforcer {
  readonly #kernel: Kernel;
  #postures: Postures;
  #visibility: Visibility;
  readonly #cgroups: CgroupBinder;
  readonly #bound = new Map<string, Bound>();
  readonly #byId = new Map<number, Workload>();
  /** Whose numbers were last, that are nobody's now: what they did is still told. */
  readonly #former = new Map<number, Workload>();
  /** Numbers that were a workload's, while tasks may still carry them. */
  readonly #retired = new Set<number>();
  /** Workloads that are said to be gone while their cgroup is still there: they stay in force. */
  readonly #lingering = new Set<string>();
  readonly #sets: PolicySets;
  #nextId = 1;
  /** Goes on with every change to the policies or the postures. */
  #round = 0;
  /** Workloads are gone whose numbers and mounts can be given up once no task needs them. */
  #stale = false;
  /** All workloads have been told once: what an agent before this one announced has been taken over or back. */
  #settled = false;
  #policies: readonly Policy[] = [];
  /** Those that can reach workloads of a namespace, by its name; made when asked for. */
  readonly #ofNamespace = new Map<string, readonly Policy[]>();

  constructor(kernel: Kernel, postures: Postures, visibility: Visibility = NOTHING_VISIBLE) {
    this.#kernel = kernel;
    this.#postures = postures;
    this.#visibility = visibility;
    this.#cgroups = new CgroupBinder(kernel);
    this.#sets = new PolicySets(kernel);
    for (const id of kernel.usedBefore()) this.#retired.add(id);
  }

  /**
   * Policies are compared by identity: whoever gives an unchanged policy again gives the same object.
   * @returns why some workloads keep what they had
   */
  setPolicies(policies: readonly Policy[]): Diagnostic[] {
    this.#policies = policies;
    this.#ofNamespace.clear();
    this.#round++;
    return this.#reconcile();
  }

  /** What holds where a workload brings no postures of its own. */
  setPostures(postures: Postures): Diagnostic[] {
    this.#postures = postures;
    this.#round++;
    return this.#reconcile();
  }

  /** What telemetry tells of where a workload does not say it itself. */
  setVisibility(visibility: Visibility): Diagnostic[] {
    this.#visibility = visibility;
    return this.#show();
  }

  setWorkloads(workloads: readonly Workload[]): Diagnostic[] {
    const wanted = new Map(workloads.map((w) => [workloadKey(w), w]));
    const diagnostics: Diagnostic[] = [];
    if ([...this.#bound.keys()].some((key) => !wanted.has(key))) this.#cgroups.look();
    for (const [key, bound] of this.#bound) {
      this.#lingering.delete(key);
      if (wanted.has(key)) continue;
      if (this.#cgroups.lingers(bound.workload)) this.#lingering.add(key);
      else this.#drop(key, bound);
    }
    for (const [key, workload] of wanted) {
      const bound = this.#bound.get(key);
      if (bound) {
        bound.workload = workload;
        if (bound.id !== NOBODY) this.#byId.set(bound.id, workload);
        continue;
      }
      const id = workload.place?.kind === 'nobody' ? NOBODY : this.#idFor(workload);
      if (id === undefined) {
        diagnostics.push({
          at: { file: workload.cgroup || `${workload.namespace}/${workload.name}`, line: 1, column: 1 },
          severity: 'error',
          message: `this would be workload ${maps.workloads.entries}, one more than a node can have; it is not protected`,
        });
        continue;
      }
      this.#bound.set(key, {
        id,
        workload,
        set: undefined,
        unfit: [],
        settled: undefined,
        claimed: false,
        visible: undefined,
      });
      if (id !== NOBODY) this.#byId.set(id, workload);
    }
    diagnostics.push(...this.#show(), ...this.#reconcile());
    if (!this.#settled) {
      this.#cgroups.forgetOthers();
      this.#settled = true;
    }
    return diagnostics;
  }

  /** Telemetry that cannot be had takes nothing from enforcement. */
  #show(): Diagnostic[] {
    const diagnostics: Diagnostic[] = [];
    for (const bound of this.#bound.values()) {
      const visible = bound.workload.visibility ?? this.#visibility;
      if (bound.id === NOBODY || bound.visible === visible) continue;
      try {
        this.#kernel.show(bound.id, visible);
        bound.visible = visible;
      } catch (error) {
        if (!(error instanceof CannotAttach)) throw error;
        const at = { file: `${bound.workload.namespace}/${bound.workload.name}`, line: 1, column: 1 };
        diagnostics.push({
          at,
          severity: 'error',
          message: `not all that is visible can be told: ${error.message}`,
        });
        break;
      }
    }
    return diagnostics;
  }

  /**
   * All that are new at once, so that none is taken for another's meanwhile. The node's own processes are looked at only where
   * policies want that.
   */
  #claim(): void {
    const claims = [...this.#bound.values()].filter(
      ({ claimed, workload, set }) => !claimed && (workload.place?.kind !== 'host' || set !== undefined),
    );
    if (claims.length === 0) return;
    this.#cgroups.claim(claims.map(({ workload, id }) => [workload, id]));
    for (const bound of claims) bound.claimed = true;
    this.#kernel.adopt();
  }

  #drop(key: string, bound: Bound): void {
    if (bound.claimed) this.#cgroups.release(bound.workload, bound.id);
    this.#bound.delete(key);
    if (bound.id === NOBODY) return;
    this.#kernel.enforce(bound.id, undefined);
    if (bound.visible !== NOTHING_VISIBLE) this.#kernel.show(bound.id, NOTHING_VISIBLE);
    this.#byId.delete(bound.id);
    this.#former.set(bound.id, bound.workload);
    this.#retired.add(bound.id);
    this.#stale = true;
  }

  /** The directory of a container's cgroup; undefined = it is not there, or not known. */
  cgroupOf(workload: Workload): string | undefined {
    return this.#cgroups.pathOf(workload);
  }

  /** The kernel has made a cgroup for a pod or a container; `path` is below the hierarchy's root. */
  cgroupMade(path: string): void {
    if (this.#cgroups.made(path)) this.#kernel.adopt();
  }

  /** Looks again at which cgroups exist, and gives up what nobody uses any more; to be called now and then. */
  refresh(): void {
    for (const key of this.#lingering) {
      const bound = this.#bound.get(key);
      if (bound !== undefined && this.#cgroups.lingers(bound.workload)) continue;
      this.#lingering.delete(key);
      if (bound !== undefined) this.#drop(key, bound);
    }
    const found = this.#cgroups.refresh();
    this.#stale ||= this.#kernel.hasManyHomes;
    if (!found && !this.#stale) return;
    this.#kernel.adopt();
    if (!this.#stale) return;
    this.#stale = false;
    this.#kernel.forgetHomes();
    const announced = this.#kernel.announced();
    for (const id of this.#retired)
      if (!this.#kernel.hasTasks(id) && !announced.has(id)) this.#retired.delete(id);
  }

  attribute(workload: number, generation: Generation, rule: number): Attribution {
    const whose = this.#byId.get(workload) ?? this.#former.get(workload);
    return { workload: whose, rule: this.#sets.rule(generation, rule) };
  }

  /** Numbers of the workloads that are enforced, with what they are. */
  get workloads(): ReadonlyMap<number, Workload> {
    return this.#byId;
  }

  get sets(): number {
    return this.#sets.size;
  }

  /** How many workloads each policy is in force for, and why some are not. */
  coverage(): { readonly workloads: ReadonlyMap<Policy, number>; readonly unfit: readonly Diagnostic[] } {
    const workloads = new Map<Policy, number>();
    for (const { workload, set } of this.#bound.values()) {
      if (workload.containers !== undefined) continue;
      for (const policy of set?.policies ?? []) workloads.set(policy, (workloads.get(policy) ?? 0) + 1);
    }
    return { workloads, unfit: [...this.#bound.values()].flatMap(({ unfit }) => unfit) };
  }

  /** The policies in force for each workload, by its number. */
  inForce(): ReadonlyMap<number, readonly Policy[]> {
    return new Map([...this.#bound.values()].map(({ id, set }) => [id, set?.policies ?? []]));
  }

  /** Workloads for which the programs do not use the tables that were put in force. */
  astray(): readonly string[] {
    return [...this.#bound.values()].flatMap(({ id, set, workload: { namespace, name, container } }) =>
      set === undefined || this.#kernel.enforces(id, set) ? [] : [`${namespace}/${name}/${container}`],
    );
  }

  #idFor(workload: Workload): number | undefined {
    const before = this.#cgroups.previousOwner(workload);
    if (before !== undefined && this.#retired.delete(before)) return before;
    // Numbers go round, so that one is not soon another's while old tasks may still carry it.
    for (let n = 1; n < maps.workloads.entries; n++) {
      const id = this.#nextId;
      this.#nextId = id + 1 === maps.workloads.entries ? 1 : id + 1;
      if (this.#byId.has(id) || this.#retired.has(id)) continue;
      this.#former.delete(id);
      this.#kernel.resetWorkload(id);
      return id;
    }
    return undefined;
  }

  #reconcile(): Diagnostic[] {
    const changed = new Set<Bound>();
    for (let again = true; again; ) {
      const settled = this.#settleAll(changed);
      // Tables first, then the cgroup: nobody is ever in a bound cgroup without its policies.
      this.#claim();
      // what is given up may be the room that another lacked
      again = this.#sets.keep(new Set([...this.#bound.values()].map(({ set }) => set))) && !settled;
    }
    const diagnostics = [...changed].flatMap(({ unfit }) => unfit);
    // workloads that the same policies reach say the same
    return [
      ...new Map(
        diagnostics.map((each) => [`${each.at.file}:${each.at.line} ${each.message}`, each]),
      ).values(),
    ];
  }

  /** @returns false = some are to be tried again */
  #settleAll(changed: Set<Bound>): boolean {
    let all = true;
    for (const bound of this.#bound.values()) {
      if (bound.id === NOBODY) continue;
      if (bound.settled?.workload === bound.workload && bound.settled.round === this.#round) continue;
      changed.add(bound);
      if (this.#settle(bound)) bound.settled = { workload: bound.workload, round: this.#round };
      else all = false;
    }
    return all;
  }

  /** @returns false = it is to be tried again */
  #settle(bound: Bound): boolean {
    const reaching = this.#reaching(bound.workload);
    bound.unfit = [];
    if (bound.set?.key === this.#sets.keyOf(reaching)) return true;
    if (reaching.policies.length === 0) {
      // an agent before this one may have left tables in force
      if (!this.#kernel.enforces(bound.id, undefined)) this.#kernel.enforce(bound.id, undefined);
      bound.set = undefined;
      return true;
    }
    const found = this.#sets.of(reaching);
    if (!('why' in found)) return this.#enforce(bound, found);
    const before = bound.set;
    if (before !== undefined) {
      // what it had stays; that may be the same policies in another form
      const out = reaching.selected.filter((policy) => !before.policies.includes(policy));
      bound.unfit = out.length === 0 ? found.why : out.map(({ at }) => ({ ...found.why[0], at }));
      return false;
    }
    if (found.lacksRoom && !this.#kernel.enforces(bound.id, undefined)) {
      // so does what an agent before this one left it
      bound.unfit = reaching.selected.map(({ at }) => ({ ...found.why[0], at }));
      return false;
    }
    const used = (set: InForce) => [...this.#bound.values()].some((each) => each.set === set);
    const { set, leftOut, lacksRoom } = this.#sets.mostOf(found, reaching, used);
    bound.unfit = leftOut;
    return set !== undefined && this.#enforce(bound, set) && !lacksRoom;
  }

  #enforce(bound: Bound, set: InForce): true {
    this.#kernel.enforce(bound.id, set);
    bound.set = set;
    return true;
  }

  /** The policies that reach a workload, and the form in which they do. */
  #reaching(workload: Workload): Reaching {
    const postures = workload.postures ?? this.#postures;
    if (workload.policies !== undefined)
      return { selected: workload.policies, policies: workload.policies, postures };
    if (workload.enforcement === 'disabled') return { selected: [], policies: [], postures };
    const of = { ...workload, host: workload.place?.kind === 'host' };
    const selected: Policy[] = [];
    const policies: Policy[] = [];
    for (const policy of this.#candidates(of.host ? '' : workload.namespace)) {
      const names = workload.containers ?? [workload.container];
      const reached = names.filter((container) => selects(policy, { ...of, container })).length;
      if (reached === 0) continue;
      selected.push(policy);
      const form = reached < names.length ? strictly(policy) : policy;
      policies.push(workload.enforcement === 'audited' ? audited(form) : form);
    }
    return { selected, policies, postures };
  }

  #candidates(namespace: string): readonly Policy[] {
    let candidates = this.#ofNamespace.get(namespace);
    if (candidates === undefined) {
      candidates = this.#policies.filter((p) => p.scope !== 'namespace' || p.namespace === namespace);
      this.#ofNamespace.set(namespace, candidates);
    }
    return candidates;
  }
}
