import type { Logger } from 'pino';
import type { Container } from './containerd-api.js';
import { describe, type Known } from './containerd-container.js';
import { sameWorkload, type Workload } from './model.js';

/** A container in one of containerd's namespaces. */
export interface Sighting {
  readonly namespace: string;
  readonly id: string;
  /** Undefined = there is none of this id. */
  readonly container: Container | undefined;
  /** Of its first process, undefined when it does not run. */
  readonly pid: number | undefined;
}

/** The containers that are known, over all connections. */
export class Inventory {
  readonly #log: Logger;
  readonly #onChange: (workloads: readonly Workload[]) => void;
  #known = new Map<string, Known>();
  /** What has been warned of, by container. */
  readonly #warned = new Map<string, string>();

  constructor(log: Logger, onChange: (workloads: readonly Workload[]) => void) {
    this.#log = log;
    this.#onChange = onChange;
  }

  get size(): number {
    return this.#known.size;
  }

  /** In a steady order. */
  get workloads(): Workload[] {
    return [...this.#known.entries()]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, { workload }]) => workload);
  }

  /** Takes in how one container is now. */
  see(sighting: Sighting): void {
    const key = keyOf(sighting);
    const before = this.#known.get(key);
    const now = this.#describe(sighting);
    if (now === undefined) this.#known.delete(key);
    else this.#known.set(key, now);
    if (!same(before, now)) this.#onChange(this.workloads);
  }

  /** Takes in a list of all containers, except those that have been seen since the list was begun. */
  seeAll(sightings: readonly Sighting[], since: ReadonlySet<string>): void {
    const before = this.#known;
    const now = new Map<string, Known>();
    const all = new Set(since);
    for (const sighting of sightings) {
      const key = keyOf(sighting);
      all.add(key);
      const known = since.has(key) ? undefined : this.#describe(sighting);
      if (known !== undefined) now.set(key, known);
    }
    for (const key of since) {
      const known = before.get(key);
      if (known !== undefined) now.set(key, known);
    }
    for (const key of this.#warned.keys()) if (!all.has(key)) this.#warned.delete(key);
    this.#known = now;
    const unchanged =
      before.size === now.size && [...now].every(([key, known]) => same(before.get(key), known));
    if (!unchanged) this.#onChange(this.workloads);
  }

  #describe(sighting: Sighting): Known | undefined {
    const { namespace, id, container, pid } = sighting;
    const key = keyOf(sighting);
    const found = container && describe(namespace, container, pid, this.#known.get(key));
    if (found === undefined || !('fault' in found)) {
      this.#warned.delete(key);
      return found;
    }
    if (this.#warned.get(key) !== found.fault)
      this.#log.warn({ namespace, container: id }, `this container cannot be protected: ${found.fault}`);
    this.#warned.set(key, found.fault);
    return undefined;
  }
}

export function keyOf({ namespace, id }: { readonly namespace: string; readonly id: string }): string {
  return `${namespace}\0${id}`;
}

function same(a: Known | undefined, b: Known | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.cgroupsPath === b.cgroupsPath && sameWorkload(a.workload, b.workload);
}
