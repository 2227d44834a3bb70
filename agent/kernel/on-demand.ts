import { CGROUP_ROOT } from '../workload/cgroup.js';
import { enums, structs } from './abi.js';
import type { NativeKernel } from './addon.js';

/** Programs that run only while tables in force need them, since they cost everybody something. */
const NEEDS = [
  { domain: enums.domain.DOMAIN_DNS, programs: ['query_leaves'] },
  { domain: enums.domain.DOMAIN_CALL, programs: ['syscall_entered'] },
] as const;

export const ON_DEMAND: readonly string[] = NEEDS.flatMap(({ programs }) => programs);

/** A policy needs a program that cannot be attached here. */
export class CannotAttach extends Error {}

/** Keeps the programs attached that the tables in the arena need. */
export class OnDemand {
  readonly #native: NativeKernel;
  readonly #pin: string | undefined;
  /** Per offset of tables in the arena the domains that they answer in. */
  readonly #tables = new Map<number, ReadonlySet<number>>();

  constructor(native: NativeKernel, pin: string | undefined) {
    this.#native = native;
    this.#pin = pin;
  }

  /**
   * Before tables are in force.
   * @param header at least the tables' header
   * @throws CannotAttach
   */
  hold(offset: number, header: Uint8Array): void {
    const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
    const { active } = structs.set_header.fields;
    const domains = new Set<number>();
    for (const { domain, programs } of NEEDS) {
      if (view.getUint32(active.offset + domain * 4, true) === 0) continue;
      domains.add(domain);
      for (const program of programs) this.#attach(program);
    }
    if (domains.size > 0) this.#tables.set(offset, domains);
  }

  #attach(program: string): void {
    try {
      this.#native.attachOne(program, { pin: this.#pin, cgroup: CGROUP_ROOT });
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new CannotAttach(
        `${why}; a program for packets needs CAP_NET_ADMIN, and cgroup v2 at ${CGROUP_ROOT}`,
      );
    }
  }

  /** After nobody uses the tables any more. */
  release(offset: number): void {
    if (this.#tables.delete(offset)) this.settle();
  }

  /** Detaches what nobody needs, also of what an agent before this one left pinned. */
  settle(): void {
    const needed = new Set([...this.#tables.values()].flatMap((domains) => [...domains]));
    for (const { domain, programs } of NEEDS) {
      if (needed.has(domain)) continue;
      for (const program of programs) this.#native.detachOne(program, { pin: this.#pin });
    }
  }
}
