import { setImmediate as others, setTimeout as sleep } from 'node:timers/promises';
import { ApiError, ConnectionError, type KubeApi, type KubeObject } from './api.js';

/** `before` and `value` are what `select` made of the object. */
export type Change<T> =
  | { readonly type: 'added'; readonly uid: string; readonly value: T }
  | { readonly type: 'changed'; readonly uid: string; readonly value: T; readonly before: T }
  | { readonly type: 'deleted'; readonly uid: string; readonly before: T };

/** In milliseconds. */
export interface Timing {
  /** A watch that brings nothing for so long is made anew; the server sends a bookmark about every minute. */
  readonly silence: number;
  /** The wait after a failure is anything up to this, twice that after the next, … */
  readonly firstWait: number;
  /** … and never more than this. */
  readonly longestWait: number;
}

const TIMING: Timing = { silence: 180_000, firstWait: 1000, longestWait: 30_000 };

/** A watch that has lasted so long counts as a success even if it brought nothing. In milliseconds. */
const SUCCESS_MS = 10_000;

/** Objects in one answer to a list. */
const PAGE = 500;

export interface ListWatchOptions<T> {
  readonly api: KubeApi;
  /** Of the collection, such as `/api/v1/pods`. */
  readonly path: string;
  readonly fieldSelector?: string;
  readonly labelSelector?: string;
  /** The objects have nothing but `metadata`. */
  readonly metadataOnly?: boolean;
  /**
   * Lists what the API server has in memory, whole, and perhaps a moment old. For what the database cannot select
   * without reading everything, as one node's pods.
   */
  readonly fromMemory?: boolean;
  /**
   * What is kept of an object; the object itself is not. `before` is what was kept of its last version: giving that
   * back says that nothing of interest has changed.
   */
  readonly select: (object: KubeObject, before: T | undefined) => T;
  /** Real differences only, each once; deletions come first. Never empty. */
  readonly onChange: (changes: readonly Change<T>[]) => void;
  /** A list is complete, and told. */
  readonly onListed?: () => void;
  /** The server knows no such collection (404). What is known stays, and it will be asked for again. */
  readonly onMissing?: () => void;
  readonly timing?: Partial<Timing>;
}

/*
 * `others`: whatever else waits comes first. To make something of a thousand objects takes seconds, and the kernel's
 * events are not to wait for so long.
 */

interface Kept<T> {
  readonly version: string;
  readonly value: T;
}

/**
 * Keeps true what is known of one collection of the Kubernetes API: lists it, then watches it from the version of the
 * list on. A watch that ends is resumed where it ended; only when the server has forgotten that version (410 Gone) is
 * everything listed again, and then what is told is the difference to what was known. While the server is away, what
 * is known stays.
 */
export class ListWatch<T> {
  /** Resolves when everything has been listed once and told; never, if it is closed before. */
  readonly synced: Promise<void>;
  readonly #options: ListWatchOptions<T>;
  readonly #timing: Timing;
  readonly #kept = new Map<string, Kept<T>>();
  readonly #abort = new AbortController();
  #sync: () => void = () => {};
  /** Up to which everything is known; undefined = it must be listed. */
  #version: string | undefined;
  /** How new a list from the server's memory must be; 0 = whatever it has, undefined = as new as can be. */
  #atLeast: string | undefined = '0';
  #failures = 0;
  #hurry: () => void = () => {};

  constructor(options: ListWatchOptions<T>) {
    this.#options = options;
    this.#timing = { ...TIMING, ...options.timing };
    this.synced = new Promise((resolve) => {
      this.#sync = resolve;
    });
    void this.#run();
  }

  /** Nothing is told afterwards. */
  close(): void {
    this.#abort.abort();
    this.#options.api.forget(this);
  }

  /** Tries at once, if it is waiting after a failure. */
  retry(): void {
    this.#hurry();
  }

  get #closed(): boolean {
    return this.#abort.signal.aborted;
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      const error = await this.#once();
      if (this.#closed) return;
      if (error === undefined) {
        this.#failures = 0;
        continue;
      }
      this.#judge(error);
      const { firstWait, longestWait } = this.#timing;
      // as many wait as there are nodes: each draws its own time
      const wait = Math.random() * Math.min(longestWait, firstWait * 2 ** this.#failures);
      this.#failures = Math.min(this.#failures + 1, 30);
      const asked = error instanceof ApiError ? error.retryAfter : 0;
      const hurry = new AbortController();
      this.#hurry = () => hurry.abort();
      const signal = AbortSignal.any([this.#abort.signal, hurry.signal]);
      await sleep(Math.max(wait, asked), undefined, { signal }).catch(() => {});
    }
  }

  /** Lists if need be and watches until that ends. @returns why, or nothing if it ended as it should */
  async #once(): Promise<ApiError | ConnectionError | undefined> {
    try {
      if (this.#version === undefined) await this.#list();
      return await this.#watch();
    } catch (error) {
      // others are ours
      if (error instanceof ApiError || error instanceof ConnectionError) return error;
      throw error;
    }
  }

  #judge(error: ApiError | ConnectionError): void {
    const { api, path, onMissing } = this.#options;
    const status = error instanceof ApiError ? error.status : undefined;
    if (status === 410) {
      // also the answer to asking for the next page of a list that has become too old
      this.#version = undefined;
    } else if (status === 404 && onMissing !== undefined) {
      this.#version = undefined;
      api.found(this, path);
      onMissing();
    } else if (!(error instanceof Interrupted)) {
      // a server that was set back to an earlier state never becomes as new as this
      if (status !== undefined && status !== 503) this.#atLeast = undefined;
      api.lost(this, path, error);
    }
  }

  async #list(): Promise<void> {
    const { api, path, fieldSelector, labelSelector, metadataOnly, fromMemory, select } = this.#options;
    const accept = metadataOnly ? metadata('PartialObjectMetadataList') : undefined;
    const listed = new Map<string, Kept<T>>();
    let next: string | undefined;
    let version: string | undefined;
    do {
      const first = next === undefined;
      const page = await api.request<List>(path, {
        query: {
          fieldSelector,
          labelSelector,
          continue: next,
          // in memory there are no pages, and a limit leads past it
          resourceVersion: fromMemory && first ? this.#atLeast : undefined,
          limit: fromMemory ? undefined : PAGE,
        },
        accept,
        signal: this.#abort.signal,
      });
      const { apiVersion, kind } = page;
      for (const item of page.items ?? []) {
        const { uid, resourceVersion } = item.metadata;
        const kept = this.#kept.get(uid);
        if (kept?.version === resourceVersion) listed.set(uid, kept);
        else {
          // the items of a list leave out what the list says for all of them
          const object = { apiVersion, kind: kind?.replace(/List$/, ''), ...item };
          listed.set(uid, { version: resourceVersion, value: select(object, kept?.value) });
          await others();
        }
      }
      next = page.metadata?.continue || undefined;
      version = page.metadata?.resourceVersion;
    } while (next !== undefined);
    if (this.#closed) return;
    if (version === undefined) throw new Error(`the list of ${path} has no version`);
    this.#version = version;
    this.#atLeast = version;
    api.found(this, path);
    this.#replace(listed);
    this.#options.onListed?.();
    this.#sync();
  }

  #replace(listed: ReadonlyMap<string, Kept<T>>): void {
    const changes: Change<T>[] = [];
    for (const [uid, { value }] of this.#kept) {
      if (listed.has(uid)) continue;
      this.#kept.delete(uid);
      changes.push({ type: 'deleted', uid, before: value });
    }
    for (const [uid, kept] of listed) this.#keep(uid, kept, changes);
    if (changes.length > 0) this.#options.onChange(changes);
  }

  #keep(uid: string, kept: Kept<T>, changes: Change<T>[]): void {
    const before = this.#kept.get(uid);
    const { value } = kept;
    this.#kept.set(uid, kept);
    if (before === undefined) changes.push({ type: 'added', uid, value });
    else if (before.value !== value) changes.push({ type: 'changed', uid, value, before: before.value });
  }

  /** @returns undefined when the server ended it in time, else why it ended */
  async #watch(): Promise<ConnectionError | undefined> {
    const { api, path, fieldSelector, labelSelector, metadataOnly } = this.#options;
    const began = performance.now();
    const events = await api.stream<WatchEvent>(path, {
      // how long it lasts is left to the server, which spreads it
      query: {
        fieldSelector,
        labelSelector,
        watch: 'true',
        allowWatchBookmarks: 'true',
        resourceVersion: this.#version,
      },
      accept: metadataOnly ? metadata('PartialObjectMetadata') : undefined,
      signal: this.#abort.signal,
      patience: this.#timing.silence,
    });
    api.found(this, path);
    let good = false;
    const lasting = () => good || performance.now() - began > SUCCESS_MS;
    try {
      for await (const event of events) {
        if (this.#closed) return undefined;
        this.#take(event);
        good = true;
        await others();
      }
    } catch (error) {
      if (lasting()) this.#failures = 0;
      throw error instanceof ConnectionError ? new Interrupted(error) : error;
    }
    return lasting() ? undefined : new Interrupted('the watch ended at once');
  }

  #take({ type, object }: WatchEvent): void {
    if (type === 'ERROR') throw ApiError.of(object, (object as { code?: number }).code ?? 500);
    const { uid, resourceVersion: version } = object.metadata;
    this.#version = version;
    this.#atLeast = version;
    if (type === 'BOOKMARK') return;
    const before = this.#kept.get(uid);
    const changes: Change<T>[] = [];
    if (type === 'DELETED') {
      if (this.#kept.delete(uid) && before !== undefined)
        changes.push({ type: 'deleted', uid, before: before.value });
    } else if (before?.version !== version) {
      this.#keep(uid, { version, value: this.#options.select(object, before?.value) }, changes);
    }
    if (changes.length > 0) this.#options.onChange(changes);
  }
}

/** A watch that had begun did not end well. That happens to all of them; it says nothing of the server. */
class Interrupted extends ConnectionError {}

const metadata = (kind: string) => `application/json;as=${kind};g=meta.k8s.io;v=v1`;

interface List {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string };
  readonly items?: readonly KubeObject[];
}

interface WatchEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR';
  readonly object: KubeObject;
}
