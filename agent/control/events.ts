import { createHash, randomBytes } from 'node:crypto';
import type { AlertRecord } from '../event/record.js';
import { objectText } from '../sink/formats/words.js';
import { ApiError, ConnectionError, type KubeApi } from './api.js';
import { cut } from './node-enforcement.js';
import type { PolicyState } from './policies.js';
import { said } from './tally.js';
import { TokenBucket } from './token-bucket.js';

/** In milliseconds, but for the buckets. */
export interface EventTiming {
  /** What happens within this is one write. */
  readonly quiet: number;
  /** Of one pod: at once, and a second in the long run. */
  readonly podBurst: number;
  readonly podPerSecond: number;
  /** Of the whole agent. */
  readonly burst: number;
  readonly perSecond: number;
  /** What has not happened again for so long is a new Event when it does. */
  readonly memory: number;
}

const TIMING: EventTiming = {
  quiet: 500,
  podBurst: 5,
  podPerSecond: 0.1,
  burst: 20,
  perSecond: 0.2,
  memory: 600_000,
};

/** Different Events that are remembered; of more, the oldest are forgotten, and begin anew. */
const REMEMBERED = 1024;

export interface EventsOptions {
  readonly api: KubeApi;
  readonly node: string;
  readonly timing?: Partial<EventTiming>;
}

/** What an Event is about. */
interface Subject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespace?: string;
  readonly name: string;
  readonly uid: string;
}

interface Told {
  readonly subject: Subject;
  readonly reason: string;
  /** The subject's own, if it has one. */
  readonly bucket: TokenBucket | undefined;
  /** The Event's name. */
  readonly event: string;
  exists: boolean;
  readonly first: Date;
  message: string;
  count: number;
  last: Date;
  dirty: boolean;
}

/**
 * Kubernetes Events, for those who ask `kubectl describe`. Repeats are counted in one Event, and what there is no time
 * to tell is counted too and told later: an attack must not become one on the API server.
 */
export class Events {
  readonly #options: EventsOptions;
  readonly #timing: EventTiming;
  /** The one that happened last is the last. */
  readonly #told = new Map<string, Told>();
  readonly #bucket: TokenBucket;
  readonly #abort = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #busy = false;
  #failures = 0;

  constructor(options: EventsOptions) {
    this.#options = options;
    this.#timing = { ...TIMING, ...options.timing };
    this.#bucket = new TokenBucket(this.#timing.burst, this.#timing.perSecond);
  }

  /** Something was denied in a pod. What passed, if only in a dry run, is none. */
  blocked(alert: AlertRecord, podUid: string): void {
    if (alert.verdict === 'Passed' || alert.dryRun) return;
    const { namespace, pod: name, policyNamespace, policy, rule, operation } = alert;
    this.#tell([podUid, policyNamespace, policy, rule, operation].join('\0'), Number(alert.count), () => ({
      subject: { apiVersion: 'v1', kind: 'Pod', namespace, name, uid: podUid },
      reason: alert.verdict === 'Denied' ? 'Blocked' : 'Killed',
      bucket: this.#bucketOf(podUid),
      event: `${name}.${randomBytes(8).toString('hex')}`,
    })).message = cut(blockMessage(alert), 1000);
  }

  /** A policy is rejected; to be told by one agent only. */
  rejected({ ref, diagnostics, generationInForce }: PolicyState): void {
    const { apiVersion, kind, namespace, name, uid, generation } = ref;
    const faults = said(diagnostics.filter(({ severity }) => severity === 'error'));
    const instead = generationInForce === undefined ? 'nothing' : `generation ${generationInForce}`;
    const key = `${uid} ${generation}`;
    this.#tell(key, 1, () => ({
      subject: { apiVersion, kind, ...(namespace && { namespace }), name, uid },
      reason: 'Rejected',
      bucket: undefined,
      // whoever tells of it gives the Event the same name, so it is one
      event: `${name}.${createHash('sha256').update(key).digest('hex').slice(0, 16)}`,
    })).message = cut(`${faults}; in force instead: ${instead}`, 1000);
  }

  close(): void {
    this.#abort.abort();
    clearTimeout(this.#timer);
    this.#options.api.forget(this);
  }

  #tell(
    key: string,
    count: number,
    begin: () => Pick<Told, 'subject' | 'reason' | 'bucket' | 'event'>,
  ): Told {
    const now = new Date();
    let told = this.#told.get(key);
    if (told === undefined || now.getTime() - told.last.getTime() > this.#timing.memory)
      told = { ...begin(), exists: false, first: now, message: '', count: 0, last: now, dirty: true };
    told.count += count;
    told.last = now;
    told.dirty = true;
    this.#told.delete(key);
    this.#told.set(key, told);
    for (const [old, { last }] of this.#told) {
      if (this.#told.size <= REMEMBERED && now.getTime() - last.getTime() <= this.#timing.memory) break;
      this.#told.delete(old);
    }
    this.#soon(this.#timing.quiet);
    return told;
  }

  #bucketOf(podUid: string): TokenBucket {
    for (const { subject, bucket } of this.#told.values())
      if (subject.uid === podUid && bucket !== undefined) return bucket;
    return new TokenBucket(this.#timing.podBurst, this.#timing.podPerSecond);
  }

  #soon(wait: number): void {
    if (this.#abort.signal.aborted || this.#busy || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => void this.#pump(), wait);
    this.#timer.unref();
  }

  async #pump(): Promise<void> {
    const { api, node } = this.#options;
    this.#busy = true;
    let wait = 0;
    try {
      wait = await this.#writeDue();
      this.#failures = 0;
      api.found(this, EVENTS);
    } catch (error) {
      if (this.#abort.signal.aborted) return;
      if (!(error instanceof ApiError || error instanceof ConnectionError)) throw error;
      api.lost(this, `${EVENTS} (of ${node})`, error);
      wait = Math.min(60_000, 1000 * 2 ** this.#failures++);
    }
    this.#busy = false;
    this.#timer = undefined;
    if (wait > 0) this.#soon(wait);
    // what happened again while it was being written
    else if ([...this.#told.values()].some(({ dirty }) => dirty)) this.#soon(this.#timing.quiet);
  }

  /** @returns in how many milliseconds there will be more to do; 0 = there is nothing left */
  async #writeDue(): Promise<number> {
    let next = Number.POSITIVE_INFINITY;
    for (const told of [...this.#told.values()]) {
      if (!told.dirty) continue;
      const wait = Math.max(this.#bucket.wait(), told.bucket?.wait() ?? 0);
      if (wait > 0) {
        next = Math.min(next, wait);
        continue;
      }
      this.#bucket.take();
      told.bucket?.take();
      await this.#write(told);
      if (this.#abort.signal.aborted) return 0;
    }
    return Number.isFinite(next) ? next : 0;
  }

  async #write(told: Told): Promise<void> {
    told.dirty = false;
    try {
      if (!(told.exists && (await this.#count(told)))) await this.#create(told);
      told.exists = true;
    } catch (error) {
      // what the server does not want, such as in a namespace that is going, it is not asked again to take
      if (error instanceof ApiError && error.status < 500 && error.status !== 429) return;
      told.dirty = true;
      throw error;
    }
  }

  /** @returns false when the Event is there no more: they live for an hour */
  async #count({ subject, event, count, message, last }: Told): Promise<boolean> {
    try {
      await this.#options.api.request(`${collectionFor(subject)}/${event}`, {
        method: 'PATCH',
        contentType: 'application/merge-patch+json',
        body: { count, message, lastTimestamp: seconds(last) },
        signal: this.#abort.signal,
      });
      return true;
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return false;
      throw error;
    }
  }

  async #create(told: Told): Promise<void> {
    const { subject, reason, event: name, count, message, first, last } = told;
    const { api, node } = this.#options;
    try {
      await api.request(collectionFor(subject), {
        method: 'POST',
        body: {
          apiVersion: 'v1',
          kind: 'Event',
          metadata: { name, namespace: namespaceFor(subject) },
          involvedObject: subject,
          type: 'Warning',
          ...{ reason, message, count },
          firstTimestamp: seconds(first),
          lastTimestamp: seconds(last),
          source: { component: 'belay', host: node },
        },
        signal: this.#abort.signal,
      });
    } catch (error) {
      if (!(error instanceof ApiError && error.reason === 'AlreadyExists')) throw error;
      // it is another agent's, or an older one of this one's, or the answer was lost; a write lets it live for another hour
      await this.#count(told);
    }
  }
}

const EVENTS = '/api/v1/events';

/** Events of what has no namespace are in this one. */
const namespaceFor = ({ namespace }: Subject) => namespace ?? 'default';

const collectionFor = (subject: Subject) => `/api/v1/namespaces/${namespaceFor(subject)}/events`;

const seconds = (time: Date) => `${time.toISOString().slice(0, 19)}Z`;

/** Such as `Blocked exec of /bin/sh by policy web (process.matchPaths[0])`. */
export function blockMessage(alert: AlertRecord): string {
  const { verdict, operation, object, policy, rule, message, process } = alert;
  const done = verdict === 'Denied' ? 'Blocked' : verdict === 'Killed' ? 'Killed at' : 'Container killed at';
  const what = object.unnamed && !object.path ? 'a file without a name' : objectText(object);
  const by = policy === '' ? `(${rule})` : `by policy ${policy} (${rule})`;
  const program = operation === 'exec' || !process?.program ? '' : ` from ${process.program}`;
  return `${done} ${operation}${what && ` of ${what}`}${program} ${by}${message && `: ${message}`}`;
}
