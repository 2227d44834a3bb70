import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Diagnostic, Policy } from '../policy/model.js';
import {
  MAX_ENFORCED,
  MAX_TROUBLED,
  type NodeEnforcementStatus,
  type TroubledPolicy,
  writeEnforced,
} from '../policy/schema/node-enforcement.js';
import { ApiError, ConnectionError, type KubeApi, type KubeObject } from './api.js';
import { ListWatch, type Timing } from './list-watch.js';
import { nameOf, type PolicyState } from './policies.js';

export const NODE_ENFORCEMENTS = '/apis/security.belay.dev/v1/nodeenforcements';
export const APPLY = 'application/apply-patch+yaml';

/** What a node tells in the status of its NodeEnforcement, but for the time. */
export type NodeReport = Required<
  Pick<
    NodeEnforcementStatus,
    'node' | 'agentVersion' | 'kernel' | 'absentHooks' | 'policies' | 'enforced' | 'troubled' | 'untold'
  >
>;

/** Cuts what has no room; `characters` as the API server counts them. */
export function cut(text: string, characters: number): string {
  if (text.length <= characters) return text;
  const all = [...text];
  return all.length <= characters ? text : `${all.slice(0, characters - 1).join('')}…`;
}

/** What is known of the policies of the cluster; `ClusterPolicies` is one. */
export interface KnownPolicies {
  readonly policies: readonly Policy[];
  readonly states: ReadonlyMap<string, PolicyState>;
}

/** What is in force; `Enforcer.coverage()` gives it. */
export interface Coverage {
  readonly workloads: ReadonlyMap<Policy, number>;
  readonly unfit: readonly Diagnostic[];
}

export type NodeIdentity = Pick<NodeReport, 'node' | 'agentVersion' | 'kernel' | 'absentHooks'>;

/** Policies that are not objects of the API, such as those of a directory, are not told of. */
export function nodeReport(identity: NodeIdentity, known: KnownPolicies, coverage: Coverage): NodeReport {
  const states = new Map([...known.states.values()].map((state) => [nameOf(state.ref), state]));
  const unfit = new Map<string, string>();
  for (const { at, message } of coverage.unfit) if (!unfit.has(at.file)) unfit.set(at.file, message);
  const current = new Set(known.policies);
  const reached = new Map<string, number>();
  for (const [policy, workloads] of coverage.workloads) {
    const name = policy.at.file;
    // of an object that has another text by now something stays in force only where the new one does not fit
    if (states.has(name) && (current.has(policy) || unfit.has(name)))
      reached.set(name, (reached.get(name) ?? 0) + workloads);
  }
  // what fits nowhere is in force nowhere
  for (const name of unfit.keys()) if (states.has(name) && !reached.has(name)) reached.set(name, 0);

  const enforced: Record<string, string> = {};
  const troubled: TroubledPolicy[] = [];
  let whole = 0;
  let untold = 0;
  for (const [name, workloads] of [...reached].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const state = states.get(name) as PolicyState;
    const trouble = troubleOf(state, unfit.get(name));
    if (trouble === undefined) {
      if (whole++ < MAX_ENFORCED)
        enforced[state.ref.uid] = writeEnforced({ generation: state.ref.generation, workloads });
      else untold++;
    } else if (troubled.length < MAX_TROUBLED) {
      const { uid, kind, namespace, name, generation: observedGeneration } = state.ref;
      troubled.push({
        ...{ uid, kind, ...(namespace && { namespace }), name, observedGeneration, ...trouble, workloads },
      });
    } else untold++;
  }
  return { ...identity, policies: known.states.size, enforced, troubled, untold };
}

function troubleOf(
  { accepted, diagnostics }: PolicyState,
  unfit: string | undefined,
): Pick<TroubledPolicy, 'state' | 'rule' | 'reason'> | undefined {
  if (!accepted) {
    const fault = diagnostics.find(({ severity }) => severity === 'error');
    const reason = cut(fault?.message ?? 'it is not valid', 1024);
    return { state: 'Rejected', ...(fault?.field && { rule: cut(fault.field, 256) }), reason };
  }
  return unfit === undefined ? undefined : { state: 'Degraded', reason: cut(unfit, 1024) };
}

/** In milliseconds. */
export interface WriterTiming extends Timing {
  /** Between two writes. */
  readonly interval: number;
  /**
   * A change is written after anything up to this, for a change of a policy is one on all nodes at once. 10 s is how
   * often every kubelet renews its lease: a change costs for so long what the nodes cost anyway.
   */
  readonly spread: number;
}

/** No version is called so. */
const GONE = '';

const WRITER_TIMING = { interval: 5000, spread: 10_000, firstWait: 1000, longestWait: 60_000 };

export interface NodeEnforcementOptions {
  readonly api: KubeApi;
  readonly node: string;
  /** What is true now. */
  readonly report: () => NodeReport;
  readonly timing?: Partial<WriterTiming>;
}

/**
 * Keeps the node's NodeEnforcement true: written on change only, not too often, and anew when someone deletes it or
 * changes it.
 */
export class NodeEnforcement {
  readonly #options: NodeEnforcementOptions;
  readonly #timing: typeof WRITER_TIMING;
  readonly #abort = new AbortController();
  readonly #path: string;
  #own: ListWatch<string> | undefined;
  /** What the object says; undefined = not known, or it is not there. */
  #told: NodeReport | undefined;
  /** The object's versions that this agent wrote or read last. */
  #versions: readonly string[] = [];
  /** Those that the watch told of while a request was under way, which may or may not be its own. */
  #meanwhile: string[] | undefined;
  #changes = 0;
  #running = false;

  constructor(options: NodeEnforcementOptions) {
    this.#options = options;
    this.#timing = { ...WRITER_TIMING, ...options.timing };
    this.#path = `${NODE_ENFORCEMENTS}/${options.node}`;
  }

  /** What is enforced may have changed. */
  changed(): void {
    this.#changes++;
    if (!this.#running && !this.#abort.signal.aborted) void this.#run();
  }

  close(): void {
    this.#abort.abort();
    this.#own?.close();
    this.#options.api.forget(this);
  }

  async #run(): Promise<void> {
    this.#running = true;
    const { interval, spread, firstWait, longestWait } = this.#timing;
    let done = 0;
    let failures = 0;
    let wait = Math.random() * spread;
    while (done !== this.#changes) {
      await sleep(wait, undefined, { signal: this.#abort.signal }).catch(() => {});
      if (this.#abort.signal.aborted) return;
      const seen = this.#changes;
      try {
        this.#meanwhile = [];
        const written = await this.#write();
        done = seen;
        this.#settle(this.#meanwhile, written);
        failures = 0;
        this.#options.api.found(this, this.#path);
        if (written) wait = interval + Math.random() * spread;
      } catch (error) {
        if (this.#abort.signal.aborted) return;
        if (!(error instanceof ApiError || error instanceof ConnectionError)) throw error;
        this.#options.api.lost(this, this.#path, error);
        const asked = error instanceof ApiError ? error.retryAfter : 0;
        wait = Math.max(asked, (0.5 + Math.random()) * Math.min(longestWait, firstWait * 2 ** failures++));
      } finally {
        this.#meanwhile = undefined;
      }
    }
    this.#running = false;
  }

  /** @returns whether anything had to be written */
  async #write(): Promise<boolean> {
    const report = this.#options.report();
    if (this.#told === undefined) this.#told = await this.#read();
    if (this.#told === undefined) await this.#create();
    this.#watch();
    if (isDeepStrictEqual(report, this.#told)) return false;
    const status: NodeEnforcementStatus = { ...report, time: new Date().toISOString() };
    try {
      await this.#apply(`${this.#path}/status`, { status });
    } catch (error) {
      // perhaps it is gone
      this.#told = undefined;
      throw error;
    }
    this.#told = report;
    return true;
  }

  /** What an agent before this one told, or nobody has told anything. */
  async #read(): Promise<NodeReport | undefined> {
    try {
      const { signal } = this.#abort;
      const { metadata, status } = await this.#options.api.request(this.#path, { signal });
      this.#know(metadata.resourceVersion);
      const { time: _, ...report } = (status ?? {}) as Partial<NodeEnforcementStatus>;
      return report as NodeReport;
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return undefined;
      throw error;
    }
  }

  /** It goes when the node goes: the garbage collector sees to that. */
  async #create(): Promise<void> {
    const { api, node } = this.#options;
    const { items } = await api.request<{ items: readonly KubeObject[] }>('/api/v1/nodes', {
      query: { fieldSelector: `metadata.name=${node}`, resourceVersion: '0' },
      accept: 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1',
      signal: this.#abort.signal,
    });
    if (items.length === 0) throw new ApiError(404, 'NotFound', `there is no node ${node}`);
    const owner = { apiVersion: 'v1', kind: 'Node', name: node, uid: items[0].metadata.uid };
    await this.#apply(this.#path, {}, { ownerReferences: [owner] });
  }

  async #apply(path: string, body: object, metadata: object = {}): Promise<void> {
    const { api, node } = this.#options;
    const { metadata: made } = await api.request<KubeObject>(path, {
      method: 'PATCH',
      contentType: APPLY,
      query: { fieldManager: 'belay', force: 'true' },
      body: {
        apiVersion: 'security.belay.dev/v1',
        kind: 'NodeEnforcement',
        metadata: { name: node, ...metadata },
        ...body,
      },
      signal: this.#abort.signal,
    });
    this.#know(made.resourceVersion);
  }

  /** A few, for the watch may be late. */
  #know(version: string): void {
    this.#versions = [...this.#versions, version].slice(-8);
  }

  #settle(meanwhile: readonly string[], written: boolean): void {
    const own = meanwhile.findLastIndex((version) => this.#versions.includes(version));
    // what was written came after all that was told, unless it was told itself
    if (own === -1 ? !written && meanwhile.length > 0 : own < meanwhile.length - 1) this.#doubt();
  }

  #doubt(): void {
    this.#told = undefined;
    this.changed();
  }

  /** Whoever deletes it, it is there again; whoever changes it, it is read, and written if it is not true. */
  #watch(): void {
    const { api, node, timing } = this.#options;
    this.#own ??= new ListWatch<string>({
      api,
      path: NODE_ENFORCEMENTS,
      fieldSelector: `metadata.name=${node}`,
      metadataOnly: true,
      select: ({ metadata }) => metadata.resourceVersion,
      timing,
      onMissing: () => {},
      onChange: (changes) => {
        const last = changes.at(-1);
        const version = last === undefined || last.type === 'deleted' ? GONE : last.value;
        if (this.#meanwhile !== undefined) this.#meanwhile.push(version);
        else if (!this.#versions.includes(version)) this.#doubt();
      },
    });
  }
}
