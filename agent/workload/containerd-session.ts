import { ContainerdApi } from './containerd-api.js';
import { type Inventory, keyOf, type Sighting } from './containerd-inventory.js';

/** One connection to containerd, keeping the inventory true while it lasts. */
export class ContainerdSession {
  readonly #api: ContainerdApi;
  readonly #inventory: Inventory;
  readonly #onEnd: (why: Error) => void;
  /** Containers that are being looked at; true = and must be again. */
  readonly #looking = new Map<string, boolean>();
  /** While the list is read: of which containers an event told, since the list may be older than that. */
  #touched: Set<string> | undefined;
  #ended = false;

  /** @param onEnd is called once, unless `close` comes first */
  constructor(socket: string, inventory: Inventory, onEnd: (why: Error) => void) {
    this.#inventory = inventory;
    this.#onEnd = onEnd;
    this.#api = new ContainerdApi(socket);
    this.#api.subscribe(
      (namespace, id) => void this.#look(namespace, id),
      (why) => this.#end(why),
    );
  }

  close(): void {
    this.#ended = true;
    this.#touched = undefined;
    this.#api.close();
  }

  /** Reads all containers. @returns false if the session ended instead */
  async list(): Promise<boolean> {
    const touched = new Set<string>();
    this.#touched = touched;
    try {
      const sightings: Sighting[] = [];
      for (const namespace of await this.#api.namespaces()) {
        const [containers, pids] = await Promise.all([
          this.#api.containers(namespace),
          this.#api.pids(namespace),
        ]);
        for (const container of containers) {
          const { id } = container;
          sightings.push({ namespace, id, container, pid: pids.get(id) });
        }
      }
      if (!this.#ended) this.#inventory.seeAll(sightings, touched);
    } catch (error) {
      this.#end(error);
    }
    this.#touched = undefined;
    return !this.#ended;
  }

  /** Sees how one container is now, whatever it was that the event told. */
  async #look(namespace: string, id: string): Promise<void> {
    const key = keyOf({ namespace, id });
    this.#touched?.add(key);
    if (this.#looking.has(key)) {
      this.#looking.set(key, true);
      return;
    }
    try {
      do {
        this.#looking.set(key, false);
        const [container, pid] = await Promise.all([
          this.#api.container(namespace, id),
          this.#api.pid(namespace, id),
        ]);
        if (this.#ended) return;
        this.#touched?.add(key); // the list may have been begun since
        this.#inventory.see({ namespace, id, container, pid });
      } while (this.#looking.get(key));
    } catch (error) {
      this.#end(error); // the next session lists everything
    } finally {
      this.#looking.delete(key);
    }
  }

  #end(error: unknown): void {
    if (this.#ended) return;
    this.close();
    this.#onEnd(error instanceof Error ? error : new Error(String(error)));
  }
}
