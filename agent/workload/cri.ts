import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import { ContainerdApi } from './containerd-api.js';
import { CriApi } from './cri-api.js';
import type { ContainerFacts } from './kubernetes.js';

export interface CriOptions {
  /** Absolute path of the runtime's socket. */
  readonly socket: string;
  readonly log: Logger;
  readonly onChange: () => void;
}

/** In milliseconds. */
const RELIST_MS = 10_000;
const BACKOFF_MS = { least: 250, most: 10_000 };
/** A container whose cgroup is there may not be in the runtime's list yet. */
const LOOKUP_MS = [0, 50, 100, 200, 400, 800, 1600];

/** The namespace of containerd that its CRI plugin works in. */
const NAMESPACE = 'k8s.io';

const POD_UID = 'io.kubernetes.pod.uid';
const CONTAINER_NAME = 'io.kubernetes.container.name';
const KIND = 'io.cri-containerd.kind';

/**
 * The containers of a node's runtime, with the pods that they belong to. They are listed now and then, and at once when
 * somebody asks for one; containerd also tells of each as soon as it is made, before it is started. While the runtime
 * is away, what was known last stays.
 */
export class Cri {
  readonly #socket: string;
  readonly #log: Logger;
  readonly #onChange: () => void;
  #containers = new Map<string, ContainerFacts>();
  #runtime: { readonly name: string; readonly version: string } | undefined;
  #state: 'new' | 'unreached' | 'followed' | 'away' = 'new';
  #closed = false;
  #wake: () => void = () => {};
  /** Asked for while a list was under way, or since. */
  readonly #asked = new Map<string, number>();
  /** Of which an event told while a list was under way: the list may be older than that. */
  #told = new Set<string>();
  readonly #running: Promise<void>;
  #settle: () => void = () => {};

  /** Resolves when the containers have been listed, or the first attempt failed. */
  readonly attempted: Promise<void>;

  constructor({ socket, log, onChange }: CriOptions) {
    this.#socket = socket;
    this.#log = log.child({ cri: socket });
    this.#onChange = onChange;
    this.attempted = new Promise((resolve) => {
      this.#settle = resolve;
    });
    this.#running = this.#run();
  }

  get containers(): ReadonlyMap<string, ContainerFacts> {
    return this.#containers;
  }

  /** As it calls itself, such as `containerd`; undefined until it has answered once. */
  get runtime(): { readonly name: string; readonly version: string } | undefined {
    return this.#runtime;
  }

  /** Asks for a container now, and a few times more if it is not known yet. */
  lookup(id: string): void {
    if (this.#containers.has(id) || this.#asked.has(id)) return;
    this.#asked.set(id, 0);
    this.#wake();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#wake();
    await this.#running;
  }

  async #run(): Promise<void> {
    let failures = 0;
    while (!this.#closed) {
      const why = await this.#follow();
      if (this.#closed) return;
      failures = this.#state === 'followed' ? 0 : failures + 1;
      this.#tellAway(why);
      this.#settle();
      const backoff = Math.min(BACKOFF_MS.most, BACKOFF_MS.least * 2 ** failures);
      await this.#sleep(backoff * (0.5 + Math.random() / 2));
    }
  }

  /** One connection, to its end. */
  async #follow(): Promise<unknown> {
    const api = new CriApi(this.#socket);
    let containerd: ContainerdApi | undefined;
    try {
      const { runtime_name: name, runtime_version: version } = await api.version();
      this.#runtime = { name, version };
      if (name === 'containerd') containerd = this.#subscribe();
      while (!this.#closed) {
        await this.#list(api);
        this.#tellFollowed();
        this.#settle();
        await this.#sleep(this.#patience());
      }
    } catch (error) {
      return error;
    } finally {
      containerd?.close();
      api.close();
    }
    return undefined;
  }

  /** containerd's own events come earlier than anything of its CRI. Without them the lists still say it all. */
  #subscribe(): ContainerdApi {
    const containerd = new ContainerdApi(this.#socket);
    const look = async (id: string) => {
      const container = await containerd.container(NAMESPACE, id);
      const podUid = container?.labels[POD_UID];
      if (container === undefined || podUid === undefined) return;
      const sandbox = container.labels[KIND] === 'sandbox';
      this.#told.add(id);
      this.#see({
        id,
        podUid,
        name: container.labels[CONTAINER_NAME] ?? '',
        image: container.image,
        sandbox,
      });
    };
    containerd.subscribe(
      (namespace, id) => {
        if (namespace !== NAMESPACE || this.#closed || this.#containers.has(id)) return;
        look(id).catch((error: unknown) => this.#log.debug({ error, id }, 'a container cannot be looked at'));
      },
      (error) => this.#log.debug({ error }, "containerd's events ended"),
    );
    return containerd;
  }

  #see(container: ContainerFacts): void {
    if (isDeepStrictEqual(this.#containers.get(container.id), container)) return;
    this.#containers.set(container.id, container);
    this.#onChange();
  }

  async #list(api: CriApi): Promise<void> {
    this.#told = new Set();
    const [sandboxes, containers] = await Promise.all([api.sandboxes(), api.containers()]);
    const now = new Map<string, ContainerFacts>();
    for (const { id, metadata } of sandboxes)
      now.set(id, { id, podUid: metadata?.uid ?? '', name: '', image: '', sandbox: true });
    for (const { id, metadata, image, labels } of containers) {
      const name = labels[CONTAINER_NAME] ?? metadata?.name ?? '';
      now.set(id, { id, podUid: labels[POD_UID] ?? '', name, image: image?.image ?? '', sandbox: false });
    }
    for (const id of this.#told) {
      const told = this.#containers.get(id);
      if (told !== undefined && !now.has(id)) now.set(id, told);
    }
    let changed = now.size !== this.#containers.size;
    for (const [id, facts] of now) {
      const before = this.#containers.get(id);
      // the same object, so that whoever compares sees that nothing has changed
      if (before !== undefined && isDeepStrictEqual(before, facts)) now.set(id, before);
      else changed = true;
    }
    this.#containers = now;
    for (const [id, tries] of this.#asked) {
      if (now.has(id) || tries + 1 >= LOOKUP_MS.length) this.#asked.delete(id);
      else this.#asked.set(id, tries + 1);
    }
    if (changed) this.#onChange();
  }

  #patience(): number {
    return Math.min(RELIST_MS, ...[...this.#asked.values()].map((tries) => LOOKUP_MS[tries]));
  }

  #tellFollowed(): void {
    const facts = { containers: this.#containers.size, ...this.#runtime };
    if (this.#state === 'away') this.#log.info(facts, 'the container runtime is back');
    else if (this.#state !== 'followed')
      this.#log.info(facts, "following the container runtime's containers");
    this.#state = 'followed';
  }

  /** Once, not at every attempt. */
  #tellAway(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    if (this.#state === 'new') {
      this.#log.warn(
        { reason },
        'the container runtime does not answer; containers are told apart once it does',
      );
      this.#state = 'unreached';
    } else if (this.#state === 'followed') {
      this.#log.warn({ reason }, 'the container runtime is away; what is known of its containers stays');
      this.#state = 'away';
    }
  }

  #sleep(ms: number): Promise<void> {
    if (this.#closed) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#wake(), ms);
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = () => {};
        resolve();
      };
    });
  }
}
