import { existsSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import { ContainerdApi } from './containerd-api.js';
import { CriApi } from './cri-api.js';
import type { ContainerFacts } from './kubernetes.js';

export interface CriOptions {
  /** Absolute path of the runtime's socket; undefined: the first of the usual ones that is there. */
  readonly socket: string | undefined;
  readonly log: Logger;
  /** The containers, or the runtime, are others than before. */
  readonly onChange: () => void;
}

/** Where runtimes listen: containerd, k3s's containerd, CRI-O. */
export const CRI_SOCKETS: readonly string[] = [
  '/run/containerd/containerd.sock',
  '/run/k3s/containerd/containerd.sock',
  '/run/crio/crio.sock',
  '/var/run/containerd/containerd.sock',
  '/var/run/crio/crio.sock',
];

/**
 * In milliseconds: how often everything is listed. Soon after connecting once more, because runtimes do not say from
 * when on they tell events.
 */
const RELIST_MS = { first: 1000, later: 10_000 };
const BACKOFF_MS = { least: 250, most: 10_000 };
/** A container whose cgroup is there may not be in the runtime's list yet: the waits from one list to the next. */
const LOOKUP_MS = [50, 100, 200, 400, 800];
/** One that an event told of may be in the list only later. */
const UNLISTED_MS = 5000;

/** The namespace of containerd that its CRI plugin works in. */
const NAMESPACE = 'k8s.io';

const POD_UID = 'io.kubernetes.pod.uid';
const CONTAINER_NAME = 'io.kubernetes.container.name';
const KIND = 'io.cri-containerd.kind';

/**
 * The containers of a node's runtime that have not exited, with the pods that they belong to. They are listed now and then,
 * and at once when somebody asks for one; containerd also tells of each as soon as it is made, before it is started, and
 * other runtimes tell when it is time to list. What a container is never changes: it stays the same object. While the
 * runtime is away, what was known last stays.
 */
export class Cri {
  readonly #configured: string | undefined;
  readonly #log: Logger;
  readonly #onChange: () => void;
  #containers: ReadonlyMap<string, ContainerFacts> = new Map();
  #runtime: { readonly name: string; readonly version: string } | undefined;
  #state: 'new' | 'unreached' | 'followed' | 'away' = 'new';
  #closed = false;
  #wake: () => void = () => {};
  /** Somebody woke it while it was busy. */
  #woken = false;
  /** Lists since somebody asked for a container, by its id. */
  readonly #asked = new Map<string, number>();
  /** When an event told of a container that was in no list yet. */
  readonly #told = new Map<string, number>();
  readonly #running: Promise<void>;
  #settle: () => void = () => {};

  /** Resolves when the containers have been listed, or the first attempt failed. */
  readonly attempted: Promise<void>;

  constructor({ socket, log, onChange }: CriOptions) {
    this.#configured = socket;
    this.#log = log;
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

  /** Asks for a container now, and a few times more while it is not known. */
  lookup(id: string): void {
    // the lists after connecting have all that there are then; until that, it could be any number
    if (this.#state !== 'followed' || this.#containers.has(id)) return;
    this.#asked.set(id, 0);
    this.#hurry();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#wake();
    await this.#running;
  }

  async #run(): Promise<void> {
    let failures = 0;
    while (!this.#closed) {
      const socket = this.#configured ?? CRI_SOCKETS.find((path) => existsSync(path)) ?? CRI_SOCKETS[0];
      const why = await this.#follow(socket);
      if (this.#closed) break;
      failures = this.#state === 'followed' ? 0 : failures + 1;
      this.#tellAway(socket, why);
      this.#settle();
      const backoff = Math.min(BACKOFF_MS.most, BACKOFF_MS.least * 2 ** failures);
      await this.#sleep(backoff * (0.5 + Math.random() / 2));
    }
    this.#settle();
  }

  /** One connection. @returns why it ended */
  async #follow(socket: string): Promise<unknown> {
    const api = new CriApi(socket);
    let events: { close(): void } | undefined;
    let why: unknown;
    const onEnd = (error: Error) => {
      why ??= error;
      this.#wake();
    };
    try {
      const { runtime_name: name, runtime_version: version } = await api.version();
      let changed = !isDeepStrictEqual(this.#runtime, { name, version });
      this.#runtime = { name, version };
      // containerd's own events come earlier than anything of its CRI
      if (name === 'containerd') events = this.#subscribe(socket, onEnd);
      else api.events(() => this.#hurry(), onEnd);
      let wait = RELIST_MS.first;
      for (;;) {
        if ((await this.#list(api)) || changed) this.#onChange();
        changed = false;
        this.#tellFollowed(socket);
        this.#settle();
        if (this.#closed || why !== undefined) break;
        const patience = this.#patience(wait);
        if ((await this.#sleep(patience)) && patience === wait) wait = RELIST_MS.later;
        if (this.#closed || why !== undefined) break;
      }
    } catch (error) {
      why ??= error;
    } finally {
      events?.close();
      api.close();
    }
    return why;
  }

  #subscribe(socket: string, onEnd: (why: Error) => void): { close(): void } {
    const containerd = new ContainerdApi(socket);
    const look = async (id: string) => {
      const container = await containerd.container(NAMESPACE, id);
      const podUid = container?.labels[POD_UID];
      if (container === undefined || podUid === undefined || this.#closed) return;
      const sandbox = container.labels[KIND] === 'sandbox';
      const name = sandbox ? '' : (container.labels[CONTAINER_NAME] ?? '');
      this.#told.set(id, performance.now());
      this.#see({ id, podUid, name, image: sandbox ? '' : container.image, sandbox });
    };
    containerd.subscribe((namespace, id) => {
      if (namespace === NAMESPACE && !this.#containers.has(id)) look(id).catch(onEnd);
    }, onEnd);
    return containerd;
  }

  #see(container: ContainerFacts): void {
    if (this.#containers.has(container.id)) return;
    this.#asked.delete(container.id);
    this.#containers = new Map(this.#containers).set(container.id, container);
    this.#onChange();
  }

  /** @returns whether there are others than before */
  async #list(api: CriApi): Promise<boolean> {
    const asked = [...this.#asked.keys()];
    const [sandboxes, containers] = await Promise.all([api.sandboxes(), api.containers()]);
    const before = this.#containers;
    const now = new Map<string, ContainerFacts>();
    const add = (facts: ContainerFacts) => now.set(facts.id, before.get(facts.id) ?? facts);
    for (const { id, metadata } of sandboxes)
      add({ id, podUid: metadata?.uid ?? '', name: '', image: '', sandbox: true });
    const exited = new Set<string>();
    for (const { id, metadata, image, image_ref, labels, state } of containers) {
      // the runtime keeps them until kubelet has them removed
      if (state === 'CONTAINER_EXITED') {
        exited.add(id);
        continue;
      }
      const name = labels[CONTAINER_NAME] ?? metadata?.name ?? '';
      const called = image?.user_specified_image || image?.image || image_ref;
      add({ id, podUid: labels[POD_UID] ?? '', name, image: called, sandbox: false });
    }
    for (const [id, since] of this.#told) {
      const told = before.get(id);
      const old = performance.now() - since > UNLISTED_MS;
      if (now.has(id) || exited.has(id) || told === undefined || old) this.#told.delete(id);
      else now.set(id, told);
    }
    this.#containers = now;
    for (const id of asked) {
      const lists = (this.#asked.get(id) ?? 0) + 1;
      if (now.has(id) || exited.has(id) || lists > LOOKUP_MS.length) this.#asked.delete(id);
      else this.#asked.set(id, lists);
    }
    return now.size !== before.size || [...now.keys()].some((id) => !before.has(id));
  }

  /** Until the next list. */
  #patience(usual: number): number {
    return Math.min(usual, ...[...this.#asked.values()].map((lists) => LOOKUP_MS[lists - 1] ?? 0));
  }

  #tellFollowed(socket: string): void {
    const facts = { cri: socket, containers: this.#containers.size, ...this.#runtime };
    if (this.#state === 'away') this.#log.info(facts, 'the container runtime is back');
    else if (this.#state !== 'followed')
      this.#log.info(facts, "following the container runtime's containers");
    this.#state = 'followed';
  }

  /** Once, not at every attempt. */
  #tellAway(socket: string, error: unknown): void {
    const facts = { cri: socket, reason: error instanceof Error ? error.message : String(error) };
    if (this.#state === 'new') {
      this.#log.warn(facts, 'the container runtime does not answer; containers are told apart once it does');
      this.#state = 'unreached';
    } else if (this.#state === 'followed') {
      this.#log.warn(facts, 'the container runtime is away; what is known of its containers stays');
      this.#state = 'away';
    }
  }

  /** The next list at once. */
  #hurry(): void {
    if (this.#state !== 'followed') return;
    this.#woken = true;
    this.#wake();
  }

  /** @returns whether all of the time has passed: false if it was woken */
  #sleep(ms: number): Promise<boolean> {
    if (this.#closed || this.#woken) {
      this.#woken = false;
      return Promise.resolve(false);
    }
    return new Promise((resolve) => {
      const end = (slept: boolean) => {
        clearTimeout(timer);
        this.#wake = () => {};
        this.#woken = false;
        resolve(slept);
      };
      const timer = setTimeout(() => end(true), ms);
      this.#wake = () => end(false);
    });
  }
}
