import { CGROUP_ROOT } from '../workload/cgroup.js';
import { enums, structs } from './abi.js';
import type { NativeKernel } from './addon.js';

/** Programs that run only while tables in force need them, since they cost everybody something. */
const NEEDS = [
  { domain: enums.domain.DOMAIN_DNS, programs: ['query_leaves'] },
  { domain: enums.domain.DOMAIN_CALL, programs: ['syscall_entered'] },
] as const;

/** Programs that tell of workloads that are visible (bpf/lifecycle.h, bpf/visible.h), attached while there are any. */
const WATCHES = [
  {
    visible: enums.visible.VISIBLE_PROCESS,
    programs: [
      ...['process_forked', 'process_exited'],
      ...['user_changed', 'group_changed', 'capabilities_changed', 'exec_credentials'],
    ],
  },
  {
    visible: enums.visible.VISIBLE_FILE,
    programs: [
      ...[
        'file_opened',
        'file_created',
        'file_unlinked',
        'dir_made',
        'dir_removed',
        'symlink_made',
        'mode_changed',
      ],
      ...['owner_changed', 'file_truncated', 'file_renamed', 'file_linked'],
    ],
  },
  {
    visible: enums.visible.VISIBLE_NETWORK,
    programs: [
      ...[
        'socket_created',
        'socket_connected',
        'socket_bound',
        'socket_sent',
        'socket_listens',
        'socket_accepted',
      ],
    ],
  },
  { visible: enums.visible.VISIBLE_CAPABILITIES, programs: ['capability_used'] },
] as const;

export const ON_DEMAND: readonly string[] = [...NEEDS, ...WATCHES].flatMap(({ programs }) => programs);

/** A policy needs a program that cannot be attached here. */
export class CannotAttach extends Error {}

/** Keeps the programs attached that the tables in the arena need. */
export class OnDemand {
  readonly #native: NativeKernel;
  /** Per offset of tables in the arena the domains that they answer in. */
  readonly #tables = new Map<number, ReadonlySet<number>>();

  constructor(native: NativeKernel) {
    this.#native = native;
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
      this.#native.attachOne(program, CGROUP_ROOT);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new CannotAttach(
        `${why}; a program for packets needs CAP_NET_ADMIN, and cgroup v2 at ${CGROUP_ROOT}`,
      );
    }
  }

  /**
   * Attaches what tells of what is visible of some workload, and detaches the rest.
   * @param visible enum visible, of all workloads together
   * @param absent programs that this kernel has no place for
   * @throws CannotAttach
   */
  watch(visible: number, absent: readonly string[]): void {
    for (const { visible: kind, programs } of WATCHES) {
      for (const program of programs) {
        if (!(visible & kind)) this.#native.detachOne(program);
        else if (!absent.includes(program)) this.#attach(program);
      }
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
      for (const program of programs) this.#native.detachOne(program);
    }
  }
}
