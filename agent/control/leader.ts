import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { ApiError, ConnectionError, type KubeApi, type KubeObject } from './api.js';

export const LEASE = 'belay-leader';

/** The leader writes how many nodes there are, so that all others know how seldom each of them need look. */
const NODES = 'security.belay.dev/nodes';

/** In milliseconds. */
export interface LeaderTiming {
  /** Who has not renewed for so long is no leader any more. */
  readonly duration: number;
  readonly renew: number;
  /** Who could not renew for so long stops by itself, well before others may begin. */
  readonly deadline: number;
  /** All others together look about once in this, however many they are … */
  readonly lookTogether: number;
  /** … but none more often than this. */
  readonly look: number;
  /** After a failure. */
  readonly retry: number;
}

const TIMING: LeaderTiming = {
  duration: 30_000,
  renew: 8000,
  deadline: 20_000,
  lookTogether: 400,
  look: 15_000,
  retry: 2000,
};

export interface LeaderOptions {
  readonly api: KubeApi;
  readonly log: Logger;
  /** Where the Lease is. */
  readonly namespace: string;
  /** Different for each process. */
  readonly identity: string;
  /** How many nodes there are, as the leader knows. */
  readonly nodes: () => number;
  readonly onGain: () => void;
  readonly onLose: () => void;
  readonly timing?: Partial<LeaderTiming>;
}

interface Lease extends KubeObject {
  readonly spec?: {
    readonly holderIdentity?: string;
    readonly leaseDurationSeconds?: number;
    readonly acquireTime?: string;
    readonly renewTime?: string;
    readonly leaseTransitions?: number;
  };
}

/**
 * One of all agents, elected by a Lease. As in Kubernetes' own components, no two clocks are compared: a Lease has
 * expired when it has not changed for its whole duration since this process first saw it so, and the API server lets
 * only one of those who saw that take it. Whoever finds that it changed looks again after its duration, so that one
 * who looks seldom notices as well.
 */
export class Leader {
  readonly #options: LeaderOptions;
  readonly #timing: LeaderTiming;
  readonly #abort = new AbortController();
  readonly #path: string;
  readonly #ended: Promise<void>;
  /** As it was read or written last. */
  #lease: Lease | undefined;
  /** When it was first seen to be so. */
  #since = 0;
  #looksAgain = false;
  #held = false;
  /** Before the request that renewed it last. */
  #renewed = 0;

  constructor(options: LeaderOptions) {
    this.#options = options;
    this.#timing = { ...TIMING, ...options.timing };
    this.#path = `/apis/coordination.k8s.io/v1/namespaces/${options.namespace}/leases`;
    this.#ended = this.#run();
  }

  get leading(): boolean {
    return this.#held && performance.now() - this.#renewed < this.#timing.deadline;
  }

  /** Gives the Lease up if it is held. */
  async close(): Promise<void> {
    this.#abort.abort();
    await this.#ended;
    this.#options.api.forget(this);
    if (!this.#held) return;
    this.#lose();
    const spec = { ...this.#lease?.spec, holderIdentity: '', leaseDurationSeconds: 1 };
    await this.#put(spec).catch(() => {});
  }

  async #run(): Promise<void> {
    const { api } = this.#options;
    const { deadline, retry } = this.#timing;
    // those who start together do not ask together
    let wait = Math.random() * retry;
    for (;;) {
      await sleep(wait, undefined, { signal: this.#abort.signal }).catch(() => {});
      if (this.#abort.signal.aborted) return;
      try {
        wait = await this.#turn();
        api.found(this, this.#path);
      } catch (error) {
        if (!(error instanceof ApiError || error instanceof ConnectionError)) throw error;
        const conflict = error instanceof ApiError && error.status === 409;
        // somebody else was quicker; whether that means losing, the next look tells
        if (!conflict) api.lost(this, this.#path, error);
        if (conflict) this.#lease = undefined;
        wait = retry * (0.5 + Math.random());
      }
      if (this.#held && performance.now() - this.#renewed > deadline) this.#lose();
    }
  }

  /** @returns when to do so again */
  async #turn(): Promise<number> {
    const { identity } = this.#options;
    const { renew, duration } = this.#timing;
    if (this.#held && this.#lease !== undefined) {
      await this.#renew(this.#lease);
      return renew;
    }
    const lease = await this.#get();
    if (lease === undefined) {
      this.#lease = undefined;
      await this.#renew(undefined);
      return renew;
    }
    const known = this.#lease?.metadata.resourceVersion === lease.metadata.resourceVersion;
    this.#lease = lease;
    const holder = lease.spec?.holderIdentity;
    if (this.#held && holder !== identity) this.#lose();
    if (!known) this.#since = performance.now();
    const lasts = Math.max((lease.spec?.leaseDurationSeconds ?? 0) * 1000, duration);
    const left = this.#since + lasts - performance.now();
    if (!holder || holder === identity || left <= 0) {
      await this.#renew(lease);
      return renew;
    }
    if (known || !this.#looksAgain) {
      this.#looksAgain = true;
      return left + Math.random() * 1000;
    }
    this.#looksAgain = false;
    return this.#seldom(lease);
  }

  #seldom(lease: Lease): number {
    const nodes = Number(lease.metadata.annotations?.[NODES] ?? 0) || 0;
    const { look, lookTogether } = this.#timing;
    // each cycle is two looks
    return (0.5 + Math.random()) * Math.max(look, nodes * lookTogether);
  }

  async #get(): Promise<Lease | undefined> {
    try {
      // from the server's memory: it may be a moment old, and then the write is refused
      return await this.#request(`${this.#path}/${LEASE}`, { query: { resourceVersion: '0' } });
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return undefined;
      throw error;
    }
  }

  /** Takes it, or keeps it. */
  async #renew(lease: Lease | undefined): Promise<void> {
    const { identity } = this.#options;
    const now = microTime();
    const mine = lease?.spec?.holderIdentity === identity;
    const before = performance.now();
    const { acquireTime, leaseTransitions = 0 } = lease?.spec ?? {};
    this.#lease = await this.#put({
      holderIdentity: identity,
      leaseDurationSeconds: Math.ceil(this.#timing.duration / 1000),
      acquireTime: mine ? acquireTime : now,
      renewTime: now,
      leaseTransitions: mine || lease === undefined ? leaseTransitions : leaseTransitions + 1,
    });
    this.#renewed = before;
    if (this.#held) return;
    this.#held = true;
    this.#options.log.info({ identity }, 'this agent writes the status of policies');
    this.#options.onGain();
  }

  /** Refused (409) when it is not any more what was read. */
  async #put(spec: Lease['spec']): Promise<Lease> {
    const { namespace, nodes } = this.#options;
    const resourceVersion = this.#lease?.metadata.resourceVersion;
    const body = {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { name: LEASE, namespace, resourceVersion, annotations: { [NODES]: String(nodes()) } },
      spec,
    };
    return resourceVersion === undefined
      ? this.#request(this.#path, { method: 'POST', body })
      : this.#request(`${this.#path}/${LEASE}`, { method: 'PUT', body });
  }

  #request(path: string, details: object): Promise<Lease> {
    // not cut short by `close`, so that it is known who holds the Lease
    return this.#options.api.request<Lease>(path, { ...details, patience: this.#timing.renew / 2 });
  }

  #lose(): void {
    this.#held = false;
    this.#looksAgain = false;
    this.#options.log.info(
      { identity: this.#options.identity },
      'another agent writes the status of policies',
    );
    this.#options.onLose();
  }
}

/** As Kubernetes writes it, with microseconds. */
const microTime = () => new Date().toISOString().replace('Z', '000Z');
