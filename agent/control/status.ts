import { isDeepStrictEqual } from 'node:util';
import type { PolicyKind } from '../policy/model.js';
import type { NodeEnforcementStatus } from '../policy/schema/node-enforcement.js';
import type { PolicyStatus } from '../policy/schema/policies.js';
import { ApiError, ConnectionError, type KubeApi } from './api.js';
import { ListWatch, type Timing } from './list-watch.js';
import { APPLY, type KnownPolicies, NODE_ENFORCEMENTS } from './node-enforcement.js';
import { collectionOf, type PolicyState } from './policies.js';
import { type NodeShare, Tallies } from './tally.js';
import { TokenBucket } from './token-bucket.js';

/** KubeArmor's kinds are KubeArmor's: their status is left alone. */
const KINDS_WITH_STATUS: readonly PolicyKind[] = ['WorkloadPolicy', 'ClusterWorkloadPolicy', 'HostPolicy'];

/** In milliseconds, but for the bucket. */
export interface StatusTiming extends Timing {
  /** What changes within this is written at once. */
  readonly quiet: number;
  /** Between two writes of one policy's status; numbers alone are not worth more than one in `numbers`. */
  readonly interval: number;
  readonly numbers: number;
  /**
   * Writes at once, and a second in the long run. Each is an event for every agent, for all watch all policies: this is
   * what bounds the traffic, not the number of nodes or of their changes.
   */
  readonly burst: number;
  readonly perSecond: number;
}

const TIMING = { quiet: 500, interval: 2000, numbers: 30_000, burst: 20, perSecond: 2 };

export interface PolicyStatusesOptions {
  readonly api: KubeApi;
  readonly known: KnownPolicies;
  /** Still the leader. */
  readonly leading: () => boolean;
  readonly timing?: Partial<StatusTiming>;
}

/** What the server has. */
interface Written {
  readonly status: PolicyStatus | undefined;
}

/**
 * The leader's: folds what all nodes tell into the status of each policy. What the server has is watched, so only
 * differences are written, whoever made them. Nodes that are gone have no NodeEnforcement, and do not count.
 */
export class PolicyStatuses {
  readonly #options: PolicyStatusesOptions;
  readonly #timing: typeof TIMING;
  readonly #tallies = new Tallies();
  readonly #written = new Map<string, Written>();
  readonly #watches: readonly { close(): void }[];
  readonly #bucket: TokenBucket;
  readonly #abort = new AbortController();
  /** UIDs of policies whose status may be another than written; oldest first. */
  readonly #dirty = new Set<string>();
  /** When each was written last. */
  readonly #at = new Map<string, number>();
  #seen: ReadonlyMap<string, PolicyState> = new Map();
  #ready = false;
  #timer: NodeJS.Timeout | undefined;
  #due = Number.POSITIVE_INFINITY;
  /** After a failure, whatever changes meanwhile. */
  #notBefore = 0;
  #busy = false;
  #failures = 0;

  constructor(options: PolicyStatusesOptions) {
    this.#options = options;
    this.#timing = { ...TIMING, ...options.timing };
    this.#bucket = new TokenBucket(this.#timing.burst, this.#timing.perSecond);
    const known: Promise<void>[] = [];
    const watches: { close(): void }[] = [];
    for (const kind of KINDS_WITH_STATUS) {
      let missing = () => {};
      known.push(
        new Promise<void>((resolve) => {
          missing = resolve;
        }),
      );
      const watch = this.#watchStatuses(kind, missing);
      void watch.synced.then(missing);
      watches.push(watch);
    }
    const nodes = this.#watchNodes();
    watches.push(nodes);
    this.#watches = watches;
    void Promise.all([...known, nodes.synced]).then(() => {
      this.#ready = true;
      this.changed();
    });
  }

  /** How many nodes tell. */
  get nodes(): number {
    return this.#tallies.nodes;
  }

  /** What is known of the policies may have changed. */
  changed(): void {
    const states = this.#options.known.states;
    for (const [uid, state] of states) if (this.#seen.get(uid) !== state) this.#dirty.add(uid);
    this.#seen = new Map(states);
    this.#soon(this.#timing.quiet);
  }

  close(): void {
    this.#abort.abort();
    clearTimeout(this.#timer);
    for (const watch of this.#watches) watch.close();
    this.#options.api.forget(this);
  }

  #watchNodes(): ListWatch<NodeShare> {
    const { api, timing } = this.#options;
    return new ListWatch<NodeShare>({
      api,
      path: NODE_ENFORCEMENTS,
      timing,
      onMissing: () => {},
      select: ({ status }) => this.#tallies.share((status ?? {}) as NodeEnforcementStatus),
      onChange: (changes) => {
        for (const change of changes) {
          const before = change.type === 'added' ? undefined : change.before;
          const after = change.type === 'deleted' ? undefined : change.value;
          for (const uid of this.#tallies.change(before, after)) this.#dirty.add(uid);
        }
        this.#soon(this.#timing.quiet);
      },
    });
  }

  #watchStatuses(kind: PolicyKind, onMissing: () => void): ListWatch<Written> {
    const { api, timing } = this.#options;
    return new ListWatch<Written>({
      api,
      path: collectionOf(kind),
      timing,
      onMissing,
      select: ({ status }, before) =>
        before !== undefined && isDeepStrictEqual(status, before.status)
          ? before
          : { status: status as Written['status'] },
      onChange: (changes) => {
        for (const change of changes) {
          if (change.type === 'deleted') {
            this.#written.delete(change.uid);
            this.#at.delete(change.uid);
          } else {
            this.#written.set(change.uid, change.value);
            this.#dirty.add(change.uid);
          }
        }
        this.#soon(this.#timing.quiet);
      },
    });
  }

  #soon(wait: number): void {
    const now = performance.now();
    const due = Math.max(now + wait, this.#notBefore);
    if (this.#abort.signal.aborted || this.#busy || due >= this.#due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => void this.#pump(), due - now);
  }

  async #pump(): Promise<void> {
    this.#due = Number.POSITIVE_INFINITY;
    if (!this.#ready) return;
    this.#busy = true;
    let wait: number;
    try {
      wait = await this.#writeDue();
      // what came meanwhile has told nobody
      if (this.#dirty.size > 0) wait = Math.min(wait, this.#timing.interval);
      this.#failures = 0;
      this.#options.api.found(this, NODE_ENFORCEMENTS);
    } catch (error) {
      if (this.#abort.signal.aborted) return;
      if (!(error instanceof ApiError || error instanceof ConnectionError)) throw error;
      this.#options.api.lost(this, NODE_ENFORCEMENTS, error);
      const asked = error instanceof ApiError ? error.retryAfter : 0;
      wait = Math.max(asked, (0.5 + Math.random()) * Math.min(30_000, 1000 * 2 ** this.#failures++));
      this.#notBefore = performance.now() + wait;
    }
    this.#busy = false;
    if (wait !== Number.POSITIVE_INFINITY) this.#soon(wait);
  }

  /** @returns when something will be due */
  async #writeDue(): Promise<number> {
    let next = Number.POSITIVE_INFINITY;
    for (const uid of [...this.#dirty]) {
      const state = this.#options.known.states.get(uid);
      const written = this.#written.get(uid);
      // gone, of another's kind, or not listed yet
      if (state === undefined || written === undefined) {
        this.#dirty.delete(uid);
        continue;
      }
      const status = this.#tallies.statusOf(state, written.status, new Date());
      const difference = compare(written.status, status);
      if (difference === 'none') {
        this.#dirty.delete(uid);
        continue;
      }
      const since = performance.now() - (this.#at.get(uid) ?? Number.NEGATIVE_INFINITY);
      const left = (difference === 'numbers' ? this.#timing.numbers : this.#timing.interval) - since;
      if (left > 0) {
        next = Math.min(next, left);
        continue;
      }
      // it may be so again, and the rest is to be written then
      if (!this.#options.leading()) return next;
      if (!this.#bucket.take()) return this.#bucket.wait();
      this.#dirty.delete(uid);
      await this.#write(state, status);
      if (this.#abort.signal.aborted) return Number.POSITIVE_INFINITY;
    }
    return next;
  }

  async #write({ ref }: PolicyState, status: PolicyStatus): Promise<void> {
    const { api } = this.#options;
    const { apiVersion, kind, namespace, name, uid } = ref;
    const [group, plural] = collectionOf(kind).split(/\/(?=[^/]*$)/);
    const path = `${group}/${namespace ? `namespaces/${namespace}/` : ''}${plural}/${name}/status`;
    this.#at.set(uid, performance.now());
    try {
      await api.request(path, {
        method: 'PATCH',
        contentType: APPLY,
        query: { fieldManager: 'belay-status', force: 'true' },
        // the UID: an object that has been made anew since is another one
        body: { apiVersion, kind, metadata: { name, namespace, uid }, status },
        signal: this.#abort.signal,
      });
      this.#written.set(uid, { status });
    } catch (error) {
      if (error instanceof ApiError && (error.status === 404 || error.status === 409)) return;
      this.#dirty.add(uid);
      throw error;
    }
  }
}

/** Whether only numbers of nodes and workloads differ. */
function compare(a: PolicyStatus | undefined, b: PolicyStatus): 'none' | 'numbers' | 'much' {
  if (isDeepStrictEqual(a, b)) return 'none';
  return isDeepStrictEqual(heads(a), heads(b)) ? 'numbers' : 'much';
}

function heads(status: PolicyStatus | undefined) {
  return {
    generation: status?.observedGeneration,
    rules: status?.rules,
    conditions: status?.conditions?.map(({ type, status, reason }) => ({ type, status, reason })),
  };
}
