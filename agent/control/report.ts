import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import type { BelayRecord } from '../event/record.js';
import type { KubeApi } from './api.js';
import { Events, type EventTiming } from './events.js';
import { Leader, type LeaderTiming } from './leader.js';
import {
  type Coverage,
  type KnownPolicies,
  NodeEnforcement,
  type NodeIdentity,
  nodeReport,
  type WriterTiming,
} from './node-enforcement.js';
import { PolicyStatuses, type StatusTiming } from './status.js';

/** Events live for an hour; a policy that is still rejected is told of again. In milliseconds. */
const TELL_AGAIN_MS = 30 * 60_000;

export interface ClusterReportOptions {
  readonly api: KubeApi;
  readonly log: Logger;
  readonly identity: NodeIdentity;
  /** The agent's own, where the Lease is. */
  readonly namespace: string;
  readonly policies: KnownPolicies;
  readonly enforcer: { coverage(): Coverage };
  /** Of a pod of this node, as `kubectl describe` asks for its Events. */
  readonly podUid: (namespace: string, name: string) => string | undefined;
  readonly timing?: {
    readonly node?: Partial<WriterTiming>;
    readonly leader?: Partial<LeaderTiming>;
    readonly status?: Partial<StatusTiming>;
    readonly events?: Partial<EventTiming>;
  };
}

/**
 * What an agent tells the API server: what its node enforces, what is blocked there, and, if it is the elected one, what
 * has become of each policy in the whole cluster. Nothing here holds up enforcement or waits for it.
 */
export class ClusterReport {
  readonly #options: ClusterReportOptions;
  readonly #node: NodeEnforcement;
  readonly #events: Events;
  readonly #leader: Leader;
  #statuses: PolicyStatuses | undefined;
  #again: NodeJS.Timeout | undefined;
  /** Rejected ones that were told of. */
  #rejected = new Map<string, number>();

  constructor(options: ClusterReportOptions) {
    this.#options = options;
    const { api, log, identity, namespace, policies, enforcer, timing } = options;
    const { node } = identity;
    this.#node = new NodeEnforcement({
      api,
      node,
      report: () => nodeReport(identity, policies, enforcer.coverage()),
      timing: timing?.node,
    });
    this.#events = new Events({ api, node, timing: timing?.events });
    this.#leader = new Leader({
      ...{ api, log, namespace, timing: timing?.leader },
      identity: `${node}_${randomUUID()}`,
      nodes: () => this.#statuses?.nodes ?? 0,
      onGain: () => this.#lead(),
      onLose: () => this.#follow(),
    });
  }

  get leading(): boolean {
    return this.#leader.leading;
  }

  /** An event from the kernel. */
  record(record: BelayRecord): void {
    if (record.type !== 'alert' || record.pod === '') return;
    const uid = this.#options.podUid(record.namespace, record.pod);
    if (uid !== undefined) this.#events.blocked(record, uid);
  }

  /**
   * What is in force, or what is known of the policies, may have changed. To be called only once everything has been put
   * in force: until then, what an agent before this one told is still true.
   */
  changed(): void {
    this.#node.changed();
    this.#statuses?.changed();
    this.#tellRejected();
  }

  async close(): Promise<void> {
    this.#node.close();
    await this.#leader.close();
    this.#follow();
    this.#events.close();
  }

  #lead(): void {
    const { api, policies, timing } = this.#options;
    const leading = () => this.#leader.leading;
    this.#statuses = new PolicyStatuses({ api, known: policies, leading, timing: timing?.status });
    this.#again = setInterval(() => {
      this.#rejected.clear();
      this.#tellRejected();
    }, TELL_AGAIN_MS);
    this.#again.unref();
    this.#tellRejected();
  }

  #follow(): void {
    this.#statuses?.close();
    this.#statuses = undefined;
    clearInterval(this.#again);
    this.#rejected.clear();
  }

  #tellRejected(): void {
    if (this.#statuses === undefined) return;
    const rejected = new Map<string, number>();
    for (const [uid, state] of this.#options.policies.states) {
      if (state.accepted) continue;
      rejected.set(uid, state.ref.generation);
      if (this.#rejected.get(uid) !== state.ref.generation) this.#events.rejected(state);
    }
    this.#rejected = rejected;
  }
}
