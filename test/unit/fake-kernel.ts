import type { NativeKernel } from '../../agent/kernel/addon.js';
import { Arena } from '../../agent/kernel/arena.js';
import type { Binding, Kernel, Published } from '../../agent/kernel/kernel.js';
import { OnDemand } from '../../agent/kernel/on-demand.js';

/** Remembers what it is told, and judges nothing: what the programs make of it is seen in test/kernel. */
export class FakeKernel {
  /** Cgroups are told by number, so by whatever `nameOf` calls them. */
  readonly calls: string[] = [];
  readonly bindings = new Map<bigint, Binding>();
  readonly pods = new Map<string, number>();
  readonly containers = new Map<string, number>();
  readonly #arena: Arena;
  readonly #onDemand: OnDemand;
  readonly #inForce = new Map<number, Published | undefined>();
  readonly #nameOf: (cgroup: bigint) => string;
  #generation = 0;
  /** How many are in the arena. */
  tables = 0;

  /** @param options.arena bytes for tables */
  constructor(options: { arena?: number; cannotAttach?: boolean; nameOf?: (cgroup: bigint) => string } = {}) {
    this.#arena = new Arena(options.arena ?? 1 << 20);
    this.#nameOf = options.nameOf ?? String;
    const attachOne = () => {
      if (options.cannotAttach) throw new Error('attach: operation not permitted');
    };
    this.#onDemand = new OnDemand({ attachOne, detachOne() {} } as unknown as NativeKernel);
  }

  get kernel(): Kernel {
    return this as unknown as Kernel;
  }

  /** As the real one does it. */
  publish(bytes: Uint8Array): Published {
    const offset = this.#arena.take(bytes.length);
    try {
      this.#onDemand.hold(offset, bytes);
    } catch (error) {
      this.#arena.give(offset);
      throw error;
    }
    this.tables++;
    return { offset, generation: ++this.#generation };
  }
  retire(tables: readonly Published[]): boolean {
    this.tables -= tables.length;
    for (const { offset } of tables) this.#arena.give(offset);
    return tables.length > 0;
  }
  enforce(workload: number, tables: Published | undefined): void {
    this.calls.push(`enforce ${workload} ${tables === undefined ? 'nothing' : 'tables'}`);
    this.#inForce.set(workload, tables);
  }
  enforces(workload: number, tables: Published | undefined): boolean {
    return this.#inForce.get(workload) === tables;
  }

  bindCgroup(id: bigint, binding: Binding): void {
    this.calls.push(`bind ${this.#nameOf(id)} ${binding.workload}`);
    this.bindings.set(id, binding);
  }
  unbindCgroup(id: bigint): void {
    this.bindings.delete(id);
  }
  bindingOf(id: bigint): Binding | undefined {
    return this.bindings.get(id);
  }
  boundCgroups(): bigint[] {
    return [...this.bindings.keys()];
  }

  announceCgroup(path: string, workload: number): void {
    this.calls.push(`announce ${path} ${workload}`);
  }
  announcePod(uid: string, workload: number): void {
    this.pods.set(uid, workload);
    this.calls.push(`announce ${uid} ${workload}`);
  }
  announceContainer(id: string, workload: number): void {
    this.containers.set(id, workload);
    this.calls.push(`announce ${id} ${workload}`);
  }
  set unknownPods(workload: number) {
    this.calls.push(`announce unknown ${workload}`);
  }
  set host(workload: number) {
    this.calls.push(`announce host ${workload}`);
  }
  withdrawCgroup() {}
  withdrawPod(uid: string): void {
    this.pods.delete(uid);
  }
  withdrawContainer(id: string): void {
    this.containers.delete(id);
  }
  announcedOwner() {}
  announcedCgroups = () => new Map<string, number>();
  announcedPods = () => this.pods;
  announcedContainers = () => this.containers;
  announced = () => new Set([...this.pods.values(), ...this.containers.values()]);

  adopt(): void {
    this.calls.push('adopt');
  }
  usedBefore = () => new Set<number>();
  resetWorkload() {}
  show() {}
  trimSoon() {}
}
