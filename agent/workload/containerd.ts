import type { Logger } from 'pino';
import { Inventory } from './containerd-inventory.js';
import type { ContainerdSession } from './containerd-session.js';
import type { Workload } from './model.js';
import { watchPath } from './watch-path.js';

export interface ContainerdOptions {
  /** Absolute path of containerd's socket; nothing may listen there yet. */
  readonly socket: string;
  readonly log: Logger;
  /** All of containerd's workloads, whenever one came, went or changed. */
  readonly onChange: (workloads: readonly Workload[]) => void;
}

const BACKOFF_MS = { least: 100, most: 5000 };

/** A session that held this long is no part of a row of failures. */
const STABLE_MS = 10_000;

/** How long the first list is waited for, from when it can be asked for: what loads slowly is no containerd that hangs. */
const FIRST_LIST_MS = 15_000;

/**
 * The list is read anew so long after connecting, because containerd does not say when a subscription has begun;
 * and from then on this often, should an event have been lost.
 */
const RELIST_MS = { first: 1000, later: 60_000 };

/**
 * Follows containerd's containers, in all of its namespaces: a container is a workload from its creation, before it
 * has a process or a cgroup, until its deletion; a pod's sandbox is none. While containerd is away, what was known
 * last stays, and connecting is tried again: soon, then less often, and at once when something happens to the socket.
 */
export class ContainerdWorkloads {
  readonly #socket: string;
  readonly #log: Logger;
  readonly #inventory: Inventory;
  readonly #watcher: { close(): void };
  readonly #running: Promise<void>;
  #session: ContainerdSession | undefined;
  #state: 'new' | 'unreached' | 'followed' | 'away' = 'new';
  #closed = false;
  /** Ends what is being waited for. */
  #wake: () => void = () => {};
  #settle: () => void = () => {};

  /** Resolves when containerd has been listed, the first attempt failed, or it took too long. */
  readonly attempted: Promise<void>;

  constructor({ socket, log, onChange }: ContainerdOptions) {
    this.#socket = socket;
    this.#log = log.child({ containerd: socket });
    this.#inventory = new Inventory(this.#log, (workloads) => this.#closed || onChange(workloads));
    this.attempted = new Promise((resolve) => {
      this.#settle = resolve;
    });
    this.#watcher = watchPath(socket, () => {
      if (this.#session === undefined) this.#wake();
    });
    this.#running = this.#run();
  }

  get workloads(): readonly Workload[] {
    return this.#inventory.workloads;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#watcher.close();
    this.#session?.close();
    this.#wake();
    await this.#running;
  }

  async #run(): Promise<void> {
    let failures = 0;
    while (!this.#closed) {
      const start = performance.now();
      const why = await this.#follow();
      if (!this.#closed) this.#tellAway(why);
      this.#settle();
      failures = performance.now() - start > STABLE_MS ? 0 : failures + 1;
      const backoff = Math.min(BACKOFF_MS.most, BACKOFF_MS.least * 2 ** failures);
      await this.#sleep(backoff * (0.5 + Math.random() / 2));
    }
  }

  /** One session, from its beginning to its end. */
  async #follow(): Promise<Error | undefined> {
    let why: Error | undefined;
    // loaded where there is a containerd only: it takes gRPC
    const { ContainerdSession } = await import('./containerd-session.js');
    if (this.#closed) return undefined;
    const patience = setTimeout(() => this.#settle(), FIRST_LIST_MS);
    const session = new ContainerdSession(this.#socket, this.#inventory, (error) => {
      why = error;
      this.#wake();
    });
    this.#session = session;
    let wait = RELIST_MS.first;
    while (await session.list()) {
      this.#tellFollowed();
      this.#settle();
      if (why === undefined) await this.#sleep(wait);
      if (this.#closed || why !== undefined) break;
      wait = RELIST_MS.later;
    }
    clearTimeout(patience);
    this.#session = undefined;
    session.close();
    return why;
  }

  #tellFollowed(): void {
    const containers = this.#inventory.size;
    if (this.#state === 'away') this.#log.info({ containers }, 'containerd is back');
    else if (this.#state !== 'followed') this.#log.info({ containers }, "following containerd's containers");
    this.#state = 'followed';
  }

  /** Once, not at every attempt. */
  #tellAway(why: Error | undefined): void {
    const reason = why?.message;
    if (this.#state === 'new') {
      this.#log.warn({ reason }, 'containerd does not answer; its containers are unprotected until it does');
      this.#state = 'unreached';
    } else if (this.#state === 'followed') {
      const containers = this.#inventory.size;
      this.#log.warn({ reason, containers }, 'containerd is away; its last known containers stay in force');
      this.#state = 'away';
    } else this.#log.debug({ reason }, 'containerd does not answer yet');
  }

  #sleep(ms: number): Promise<void> {
    if (this.#closed) return Promise.resolve();
    return new Promise((resolve) => {
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = () => {};
        resolve();
      };
      const timer = setTimeout(() => this.#wake(), ms);
    });
  }
}
