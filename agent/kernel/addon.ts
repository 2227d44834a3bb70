import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

/** The native addon's face, as native/*.cc defines it: bytes and descriptors, no policy. */
export interface ProgramStats {
  readonly program: string;
  /** Instructions that the verifier looked at. */
  readonly verified: number;
  /** Times that it was not run because it was running on that processor already, and could not answer. */
  readonly missed: number;
  /** Counted while `enableStats` is on. */
  readonly runs: number;
  readonly nanoseconds: number;
}

/** How programs get called: as BPF LSM, or on the functions that call the security modules (native/hooks.h). */
export type Attachment = 'lsm' | 'fmod_ret';

export interface NativeKernel {
  setGlobals(values: Readonly<Record<string, number | bigint | boolean | Uint8Array>>): void;
  /**
   * Before constants are set and `load`, which is not called where the programs were adopted.
   * @param options.pin directory on a bpffs where links, maps and programs stay
   * @param options.identity of what the programs are made from
   * @returns absent: the programs left out because the kernel lacks their hook; adopted: whether all others are as an agent
   * before this one left them pinned
   */
  prepare(options: {
    pin?: string;
    identity: string;
    attachment: Attachment;
    previous?: Readonly<Record<string, number>>;
  }): { absent: string[]; adopted: boolean };
  load(): void;
  attach(options: { except: readonly string[] }): string[];
  /** What the kernel says of programs that were attached, and are not any more. */
  detached(): string[];
  /** @param cgroup where programs for packets go */
  attachOne(program: string, cgroup: string): void;
  /** Also if only an agent before this one attached it. */
  detachOne(program: string): void;
  close(): void;
  lookup(map: string, key: Uint8Array): Buffer | undefined;
  update(map: string, key: Uint8Array, value: Uint8Array): void;
  /** @returns false if the key was there */
  insert(map: string, key: Uint8Array, value: Uint8Array): boolean;
  delete(map: string, key: Uint8Array): boolean;
  keys(map: string): Buffer;
  /** How many keys there are, and how many there can be. */
  fill(map: string): [used: number, capacity: number];
  memory(map: string): ArrayBuffer;
  write(map: string, offset: number, bytes: Uint8Array): void;
  read(map: string, offset: number, length: number): Buffer;
  fd(map: string): number;
  mapId(map: string): number;
  /** @param map descriptor of the map that it goes over, if it goes over one */
  iterate(program: string, map?: number): void;
  /** An iterator will not be run any more, and the map that was taken over for it may go. */
  forget(program: string, map: string): void;
  stats(): ProgramStats[];
}

/** Bytes before each record of a batch. */
export const BATCH_HEAD = 16;

export interface NativeRings {
  /** Of their maps. */
  ids(): number[];
  /** How far each has been read and written, bytes since it was made. */
  positions(): [read: number, written: number][];
  /**
   * How fast one was last read while there was always more in it, with all that the event loop does meanwhile, bytes per
   * second; 0 = that has not been seen.
   */
  pace(ring: number): number;
  drain(): void;
  close(): void;
}

/** Who made a connection to a unix socket, as it was then. */
export interface Peer {
  readonly pid: number;
  readonly uid: number;
  /** All of them. */
  readonly gids: readonly number[];
}

/** Bytes, and what is where in them. */
export interface StructLayout {
  readonly size: number;
  readonly fields: Readonly<Record<string, { readonly offset: number; readonly size: number }>>;
}

/** What programs of another schema have pinned. */
export interface NativePinned {
  /** -1 = it is not there. */
  fd(map: string): number;
  keys(map: string): Buffer[];
  lookup(map: string, key: Uint8Array): Buffer | undefined;
  /** A structure as those programs had it. */
  layout(struct: string): StructLayout | undefined;
  close(): void;
}

export interface Addon {
  readonly Kernel: new (object: Uint8Array) => NativeKernel;
  readonly Pinned: new (directory: string) => NativePinned;
  /**
   * A batch is, for each record: u32 index of the ring, u32 length, u64 position in the ring, the bytes, padding to 8. Once
   * `onBatch` has returned the rings have room for others instead; an agent that is killed before has not read it.
   */
  readonly Rings: new (
    fds: readonly number[],
    onBatch: (batch: Buffer) => void,
  ) => NativeRings;
  /** How many arguments a program on an LSM hook is given; -1 = there is no way to be called for it. */
  hookParameters(hook: string, attachment: Attachment): number;
  hasFunction(name: string): boolean;
  gracePeriod(): void;
  store64(memory: Uint8Array, offset: number, value: bigint): void;
  add64(memory: Uint8Array, offset: number, more: bigint): void;
  /** Of entries of `size` bytes, those whose 64-bit words at two offsets differ, or whose only one is not 0; in their order. */
  differing(memory: Uint8Array, size: number, one: number, other?: number): number[];
  enableStats(): number;
  peer(fd: number): Peer;
  /** Gives memory that was freed back to the kernel. */
  trim(): void;
  /** CLOCK_REALTIME minus CLOCK_BOOTTIME, nanoseconds. */
  clockOffset(): bigint;
  subjectClass(tables: Uint8Array, name: Uint8Array): number;
  /**
   * [denying rule's id, its action, reporting rule's id, its action, decision, failed, then a word for each rule that waits
   * for the arguments]; 0 = none.
   */
  judge(
    tables: Uint8Array,
    domain: number,
    input: Uint8Array | null,
    classes: readonly number[],
    decide: number,
    held: number,
  ): Uint32Array;
  /** `waiting`: one of the words that `judge` gave. */
  argumentsListed(tables: Uint8Array, waiting: number, args: Uint8Array): boolean;
}

const root = new URL('../../', import.meta.url);

/** @throws when it has not been built, or its shared libraries are missing */
export function loadAddon(): Addon {
  const path = process.env.BELAY_ADDON ?? new URL('native/build/Release/belay.node', root).pathname;
  return createRequire(import.meta.url)(path) as Addon;
}

/** The kernel programs, compiled for what this kernel has (HAS_RDONLY_CAST in bpf/state.h). */
export function readObject(addon: Addon): Uint8Array {
  const name = addon.hasFunction('bpf_rdonly_cast') ? 'belay' : 'belay-6.1';
  return readFileSync(new URL(`build/${name}.bpf.o`, root));
}
