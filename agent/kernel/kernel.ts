import { createHash } from 'node:crypto';
import { mkdirSync, statSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { enums, maps, structs } from './abi.js';
import {
  type Addon,
  type Attachment,
  loadAddon,
  type NativeKernel,
  type NativeRings,
  readObject,
} from './addon.js';
import { Adopted } from './adopted.js';
import { Arena } from './arena.js';
import { ON_DEMAND, OnDemand } from './on-demand.js';
import { removeDirectory, removeOtherPrograms, schemaDirectory, survey, unpinPrograms } from './pins.js';
import { Previous, type TakeBatch, type TakeFold } from './previous.js';
import { attachment, symbolAddresses } from './trouble.js';
import { Counted } from './untold.js';

const TRIM_DELAY_MS = 1000;
/** Of a hash, in the names of pins: enough that no two builds have the same. */
const IDENTITY_DIGITS = 32;

const W = structs.workload;
const S = structs.settings.fields;
const B = structs.binding;
/** Maps with a key for each of something on the node. */
const HASHES = ['cgroups', 'cgroup_paths', 'pods', 'containers', 'originals', 'roots', 'homes'] as const;
/** Mount namespaces that are kept in mind before it is asked which are gone. */
const FORGOTTEN_LATER = 16;
const RINGS = ['denials', 'matches', 'telemetry_ring'] as const;
/** What a workload has in the denials' ring is read in so long, so that others' wait no longer behind it. */
const DENIALS_WAIT_S = 0.08;
/** Bytes: of two batches (native/ring.cc), however slowly they are read, for the pace is known by full ones. */
const DENIALS_SHARE_LEAST = 16 << 10;
/** Where events are lost: the rings, and LOST_TO_OTHERS. */
const LOSSES = [...RINGS.keys(), enums.ring.LOST_TO_OTHERS];

export type Generation = number;

/** Tables in the arena. */
export interface Published {
  readonly offset: number;
  readonly generation: Generation;
}

/** Whose a cgroup is. */
export interface Binding {
  /** 0 = nobody's. */
  readonly workload: number;
  /** It is a pod's; those of its containers lie directly below. */
  readonly pod: boolean;
}

/**
 * The typed face of the loaded programs: tables and who they are for go in, batches of records and counters come
 * out. One per process; `close` ends enforcement unless it is pinned.
 */
export class Kernel {
  readonly #native: NativeKernel;
  readonly #addon: Addon;
  readonly #arena = new Arena(maps.arena.valueSize);
  readonly #onDemand: OnDemand;
  readonly #workloads: Uint8Array;
  /** What was counted and is to be told. */
  readonly counted: Counted;
  readonly #settings: DataView;
  #rings: NativeRings | undefined;
  #generation = 0;
  /** Mount namespaces that had tasks or cgroups when that was asked last. */
  #homes = 0;
  /** Of all workloads together; undefined = what is attached was not looked at yet. */
  #visible: number | undefined;
  #missed = 0;
  /** Programs of an earlier schema, in force beside these until `retirePrevious`. */
  #previous: Previous | undefined;
  /** Directories of pins that are of no use any more. */
  readonly #remains: readonly string[];
  readonly #failuresBefore = new Map<number, bigint>();
  #trimming: NodeJS.Timeout | undefined;
  readonly attachment: Attachment;
  /** Programs that this kernel has no hook for. */
  readonly absent: readonly string[];
  readonly #adopted: Adopted;

  /**
   * Loads, unless the same programs are pinned, and attaches; nothing is enforced before tables are published.
   * @param options.pin a directory on a bpffs below which links, maps and programs stay when the agent ends
   * @throws NoAttachment
   * @throws NoSymbols
   * @throws Error with the verifier's last words, the program's name and the kernel's
   */
  constructor(options: { pin?: string; foldWindowNs?: bigint } = {}) {
    const addon = loadAddon();
    this.attachment = attachment(addon);
    this.#addon = addon;
    const pin = options.pin === undefined ? undefined : schemaDirectory(options.pin);
    const pins = options.pin === undefined ? undefined : survey(options.pin);
    this.#remains = pins?.remains ?? [];
    if (pins?.before !== undefined) this.#previous = new Previous(addon, pins.before);
    if (pin !== undefined) mkdirSync(pin, { recursive: true, mode: 0o700 });
    const object = readObject(addon);
    const foldWindow = options.foldWindowNs ?? 1_000_000_000n;
    // what else they depend on is the kernel's
    const made = createHash('sha256').update(`${this.attachment} ${foldWindow} `).update(object);
    const identity = made.digest('hex').slice(0, IDENTITY_DIGITS);
    this.#native = new addon.Kernel(object);
    this.#onDemand = new OnDemand(this.#native);
    try {
      const { absent, adopted } = this.#native.prepare({
        ...{ pin, identity, attachment: this.attachment },
        previous: this.#previous?.maps,
      });
      this.absent = absent;
      if (!adopted) {
        this.#native.setGlobals({
          setattr_has_idmap: addon.hookParameters('inode_setattr', this.attachment) === 3,
          through_security: this.attachment === 'fmod_ret',
          fold_window: foldWindow,
          ...symbolAddresses(),
          ...this.#previous?.globals,
        });
        this.#native.load();
      }
      this.#missed = this.#sumMissed();
      this.#workloads = new Uint8Array(this.#native.memory('workloads'));
      this.#settings = new DataView(this.#native.memory('settings'));
      this.counted = new Counted(addon, {
        folds: this.#native.memory('folds'),
        workloads: this.#native.memory('workloads'),
        settings: this.#native.memory('settings'),
        failures: () => this.#sumFailures(),
      });
      const settings = new Uint8Array(this.#settings.buffer);
      this.#previous?.announce(this.#native, settings);
      this.#generation = this.#settings.getUint32(S.generation.offset, true);
      this.#adopted = new Adopted({
        ...{ native: this.#native, workloads: this.#workloads },
        ...{ arena: this.#arena, onDemand: this.#onDemand },
      });
      if (options.pin !== undefined) this.#protectPins(options.pin);
      this.#native.iterate('adopt');
      this.#native.attach({ except: ON_DEMAND });
      if (pin !== undefined) removeOtherPrograms(pin, identity);
      this.#previous?.carry(this.#native, settings);
      this.#onDemand.settle();
      this.#watch();
    } catch (error) {
      this.#native.close();
      // as if nothing had been: the programs before go on alone
      if (this.#previous !== undefined && pin !== undefined) removeDirectory(pin);
      throw error;
    }
  }

  /** Workloads leave the pins alone. */
  #protectPins(directory: string): void {
    const { ino, dev } = statSync(directory, { bigint: true });
    // from glibc's form (gnu_dev_makedev) to the kernel's
    const major = (dev >> 8n) & 0xfffn;
    const minor = (dev & 0xffn) | ((dev >> 12n) & 0xfff00n);
    this.#settings.setUint32(S.pins_device.offset, Number((major << 20n) | minor), true);
    this.#settings.setBigUint64(S.pins_inode.offset, ino, true);
  }

  /**
   * Writes tables beside those in force, and attaches what they need; equal ones that an agent before this one left are taken over.
   * Nobody else uses them until `enforce`.
   * @throws ArenaFull
   * @throws CannotAttach
   */
  publish(bytes: Uint8Array): Published {
    const offset = this.#adopted.take(bytes) ?? this.#write(bytes);
    this.#generation = this.#generation === 0xffffffff ? 1 : this.#generation + 1;
    this.#settings.setUint32(S.generation.offset, this.#generation, true);
    return { offset, generation: this.#generation };
  }

  #write(bytes: Uint8Array): number {
    const offset = this.#arena.take(bytes.length);
    try {
      this.#onDemand.hold(offset, bytes);
    } catch (error) {
      this.#arena.give(offset);
      throw error;
    }
    this.#native.write('arena', offset, bytes);
    return offset;
  }

  /** Puts tables in force for a workload with one store; undefined = nothing is enforced any more. */
  enforce(workload: number, tables: Published | undefined): void {
    this.#addon.store64(this.#workloads, workload * W.size + W.fields.set.offset, wordOf(tables));
  }

  /** Whether these are the tables that the programs use for a workload. */
  enforces(workload: number, tables: Published | undefined): boolean {
    const view = new DataView(this.#workloads.buffer, workload * W.size);
    return view.getBigUint64(W.fields.set.offset, true) === wordOf(tables);
  }

  /**
   * What telemetry tells of a workload, as enum visible.
   * @throws CannotAttach
   */
  show(workload: number, visible: number): void {
    const view = new DataView(this.#workloads.buffer);
    view.setUint32(workload * W.size + W.fields.visible.offset, visible, true);
    this.#watch();
  }

  #watch(): void {
    const view = new DataView(this.#workloads.buffer);
    let visible = 0;
    for (let at = W.fields.visible.offset; at < view.byteLength; at += W.size)
      visible |= view.getUint32(at, true);
    if (visible === this.#visible) return;
    this.#onDemand.watch(visible, this.absent);
    this.#visible = visible;
  }

  /**
   * Frees tables, also those that an agent before this one left, unless a workload is still given them; once no program can still
   * be reading them.
   * @returns whether any were freed
   */
  retire(tables: readonly Published[]): boolean {
    for (const { offset } of tables) this.#adopted.give(offset);
    const offsets = this.#adopted.takeUnused();
    if (offsets.length === 0) return false;
    this.#addon.gracePeriod();
    for (const offset of offsets) {
      this.#onDemand.release(offset);
      this.#arena.give(offset);
    }
    return true;
  }

  /** What an agent before this one left in force, and is not, since it can be no tables. */
  get unadopted(): readonly string[] {
    return this.#adopted.faults;
  }

  /** Whose a cgroup is, from its tasks' next exec on; `adopt` takes those already there. */
  bindCgroup(id: bigint, { workload, pod }: Binding): void {
    const value = Buffer.alloc(B.size);
    value.writeUInt32LE(workload, B.fields.workload.offset);
    value.writeUInt32LE(pod ? enums.binding_flag.BINDING_POD : 0, B.fields.flags.offset);
    this.#native.update('cgroups', u64(id), value);
  }

  unbindCgroup(id: bigint): void {
    this.#native.delete('cgroups', u64(id));
  }

  /** Also if it was bound by the kernel itself, or by an agent before this one. */
  bindingOf(id: bigint): Binding | undefined {
    const value = this.#native.lookup('cgroups', u64(id));
    if (value === undefined) return undefined;
    const flags = value.readUInt32LE(B.fields.flags.offset);
    return {
      workload: value.readUInt32LE(B.fields.workload.offset),
      pod: (flags & enums.binding_flag.BINDING_POD) !== 0,
    };
  }

  boundCgroups(): bigint[] {
    const keys = this.#native.keys('cgroups');
    return Array.from({ length: keys.length / 8 }, (_, i) => keys.readBigUInt64LE(i * 8));
  }

  /** A cgroup of this path below the hierarchy's root will be the workload's the moment it is made. */
  announceCgroup(path: string, workload: number): void {
    this.#native.update('cgroup_paths', cgroupPath(path), u32(workload));
  }

  withdrawCgroup(path: string): void {
    this.#native.delete('cgroup_paths', cgroupPath(path));
  }

  announcedCgroups(): Map<string, number> {
    return this.#announced('cgroup_paths', maps.cgroup_paths.keySize);
  }

  /** Whose a cgroup of this path will be, or is. */
  announcedOwner(path: string): number | undefined {
    return this.#native.lookup('cgroup_paths', cgroupPath(path))?.readUInt32LE(0);
  }

  /** Cgroups that are named after this pod will be the workload's the moment they are made. */
  announcePod(uid: string, workload: number): void {
    this.#native.update('pods', text(uid, maps.pods.keySize), u32(workload));
  }

  withdrawPod(uid: string): void {
    this.#native.delete('pods', text(uid, maps.pods.keySize));
  }

  announcedPods(): Map<string, number> {
    return this.#announced('pods', maps.pods.keySize);
  }

  /** A cgroup that is named after this container, directly below a pod's, will be the workload's; 0 = nobody's. */
  announceContainer(id: string, workload: number): void {
    this.#native.update('containers', text(id, maps.containers.keySize), u32(workload));
  }

  withdrawContainer(id: string): void {
    this.#native.delete('containers', text(id, maps.containers.keySize));
  }

  announcedContainers(): Map<string, number> {
    return this.#announced('containers', maps.containers.keySize);
  }

  #announced(map: string, size: number): Map<string, number> {
    const keys = this.#native.keys(map);
    const all = new Map<string, number>();
    for (let at = 0; at < keys.length; at += size) {
      const key = keys.subarray(at, at + size);
      const value = this.#native.lookup(map, key)?.readUInt32LE(0);
      const end = key.indexOf(0);
      if (value !== undefined) all.set(key.toString('utf8', 0, end < 0 ? size : end), value);
    }
    return all;
  }

  /** The workload of pods that nobody announced; 0 = cgroups are not looked at by name. */
  set unknownPods(workload: number) {
    this.#settings.setUint32(S.unknown.offset, workload, true);
  }

  /** The workload of the node's own processes; 0 = they are not judged. */
  set host(workload: number) {
    this.#settings.setUint32(S.host.offset, workload, true);
  }

  /** Whether the first cgroup below a pod's is its sandbox's. */
  set sandboxFirst(first: boolean) {
    this.#settings.setUint32(S.sandbox_first.offset, Number(first), true);
  }

  /**
   * Makes the tasks that are in bound cgroups already part of their workloads, and those whose cgroup has another owner
   * by now part of that.
   */
  adopt(): void {
    this.#settings.setUint32(S.round.offset, this.#round + 1, true);
    // twice, for the children that tasks made before they were met themselves
    this.#native.iterate('adopt');
    this.#native.iterate('adopt');
  }

  get #round(): number {
    return this.#settings.getUint32(S.round.offset, true);
  }

  #word(workload: number, field: number): number {
    return new DataView(this.#workloads.buffer).getUint32(workload * W.size + field, true);
  }

  /** Whether the last `adopt` met a task that carries this number. */
  hasTasks(workload: number): boolean {
    const round = this.#word(workload, W.fields.round.offset);
    return round !== 0 && round === this.#round;
  }

  /** Numbers of workloads whose cgroups are known before they are made. */
  announced(): Set<number> {
    const announced = [this.announcedCgroups(), this.announcedPods(), this.announcedContainers()];
    return new Set(announced.flatMap((owners) => [...owners.values()]));
  }

  /** Numbers that an agent before this one gave to workloads. */
  usedBefore(): ReadonlySet<number> {
    const used = this.announced();
    for (const cgroup of this.boundCgroups()) used.add(this.bindingOf(cgroup)?.workload ?? 0);
    for (let id = 1; id < maps.workloads.entries; id++) {
      if (this.#word(id, W.fields.set.offset) || this.#word(id, W.fields.round.offset)) used.add(id);
    }
    used.delete(0);
    return used;
  }

  /** Clears a workload's counters, before its number is given to another. */
  resetWorkload(workload: number): void {
    this.#workloads.fill(0, workload * W.size, (workload + 1) * W.size);
  }

  /** Whether so many namespaces have come since that some may be gone: containers that start again and again bring one each. */
  get hasManyHomes(): boolean {
    return this.#native.keys('homes').length / 8 > this.#homes + FORGOTTEN_LATER;
  }

  /** Forgets the original mounts of namespaces that no task is named by any more. To be called after `adopt`. */
  forgetHomes(): void {
    const homes = this.#native.keys('homes');
    const kept = new Set<bigint>();
    const cgroups = this.#native.keys('cgroup_homes');
    for (let at = 0; at < cgroups.length; at += 8) {
      const home = this.#native.lookup('cgroup_homes', cgroups.subarray(at, at + 8));
      if (home !== undefined) kept.add(home.readBigUInt64LE(0));
    }
    const gone = new Set<bigint>();
    for (let at = 0; at < homes.length; at += 8) {
      const round = this.#native.lookup('homes', homes.subarray(at, at + 8))?.readUInt32LE(0);
      const home = homes.readBigUInt64LE(at);
      if (round !== undefined && round < this.#round && !kept.has(home)) gone.add(home);
    }
    this.#homes = homes.length / 8 - gone.size;
    if (gone.size === 0) return;
    const O = structs.original.fields;
    const mounts = this.#native.keys('originals');
    for (let i = 0; i < mounts.length; i += 8) {
      const key = mounts.subarray(i, i + 8);
      const home = this.#native.lookup('originals', key)?.readBigUInt64LE(O.home.offset);
      if (home !== undefined && gone.has(home)) this.#native.delete('originals', key);
    }
    const R = structs.root_key;
    const roots = this.#native.keys('roots');
    for (let i = 0; i < roots.length; i += R.size) {
      const key = roots.subarray(i, i + R.size);
      if (gone.has(key.readBigUInt64LE(R.fields.home.offset))) this.#native.delete('roots', key);
    }
    for (const home of gone) this.#native.delete('homes', u64(home));
  }

  /**
   * Once these programs enforce: those of an earlier schema end, and what they still had to tell is told, in these
   * programs' layout.
   * @returns what failed in them meanwhile, by enum failure; undefined = there were none
   */
  async retirePrevious(
    onBatch: TakeBatch,
    onFold: TakeFold,
  ): Promise<ReadonlyMap<number, bigint> | undefined> {
    for (const directory of this.#remains) {
      await unpinPrograms(directory);
      removeDirectory(directory);
    }
    const previous = this.#previous;
    if (previous === undefined) return undefined;
    this.#previous = undefined;
    const settings = new Uint8Array(this.#settings.buffer);
    const failures = await previous.retire(this.#native, settings, this.#workloads, onBatch, onFold);
    for (const [failure, count] of failures) this.#failuresBefore.set(failure, count);
    return failures;
  }

  /** Starts delivering records: `onBatch` gets many at once. What it has not kept when it returns is lost. */
  read(onBatch: TakeBatch): void {
    const rings = new this.#addon.Rings(
      RINGS.map((ring) => this.#native.fd(ring)),
      (batch) => {
        this.#shareDenials(rings.pace(enums.ring.RING_DENIALS));
        onBatch(batch, ids);
      },
    );
    const ids = rings.ids();
    this.#rings = rings;
  }

  /** @param pace at which the denials' ring is read, bytes per second; 0 = not known */
  #shareDenials(pace: number): void {
    if (pace === 0) return;
    const share = Math.min(Math.max(pace * DENIALS_WAIT_S, DENIALS_SHARE_LEAST), 2 ** 31);
    this.#settings.setUint32(S.denials_share.offset, share, true);
  }

  /** Takes what is there, and ends what `read` began. */
  stopReading(): void {
    this.#rings?.close();
    this.#rings = undefined;
  }

  /** How far each ring has been read and written, bytes; none = nobody reads. */
  ringPositions(): readonly (readonly [read: number, written: number])[] {
    return this.#rings?.positions() ?? [];
  }

  /** What the kernel says of programs that were attached, and are not any more. */
  detached(): readonly string[] {
    return this.#native.detached();
  }

  /** A map's number, which no other has until the node starts anew. */
  mapId(map: string): number {
    return this.#native.mapId(map);
  }

  /** Exact numbers of what was denied and reported, and of events that were lost, by where. */
  counters(workload: number): { denied: bigint; matched: bigint; lost: readonly bigint[] } {
    const view = new DataView(this.#workloads.buffer, workload * W.size, W.size);
    const lost = LOSSES.map((i) => view.getBigUint64(W.fields.lost.offset + i * 8, true));
    return {
      denied: view.getBigUint64(W.fields.denied.offset, true),
      matched: view.getBigUint64(W.fields.matched.offset, true),
      lost,
    };
  }

  /**
   * What failed inside the programs, by the names of enum failure. FAILURE_MISSED: a program was not run, so its hook
   * passed, or what was visible was not told, because it was running on that processor already. It happens on kernels that
   * preempt, and not to BPF LSM programs.
   */
  failures(): Map<string, number> {
    const all = new Map<string, number>();
    const sums = this.#sumFailures();
    for (const [name, key] of Object.entries(enums.failure)) {
      if (name === 'FAILURE_COUNT') continue;
      all.set(name, Number((sums.get(key) ?? 0n) + (this.#failuresBefore.get(key) ?? 0n)));
    }
    all.set('FAILURE_MISSED', this.#sumMissed());
    return all;
  }

  /** By enum failure. */
  #sumFailures(): Map<number, bigint> {
    const sums = new Map<number, bigint>();
    for (let key = 0; key < enums.failure.FAILURE_COUNT; key++) {
      const cpus = this.#native.lookup('failures', u32(key));
      let sum = 0n;
      for (let i = 0; cpus !== undefined && i < cpus.length; i += 8) sum += cpus.readBigUInt64LE(i);
      sums.set(key, sum);
    }
    return sums;
  }

  #sumMissed(): number {
    return this.#native.stats().reduce((sum, { missed }) => sum + missed, 0);
  }

  /** Runs of this agent's programs that were missed since last asked. */
  takeMissed(): number {
    const before = this.#missed;
    this.#missed = this.#sumMissed();
    return this.#missed - before;
  }

  get tableBytes(): number {
    return this.#arena.bytesUsed;
  }

  /** Nanoseconds of CLOCK_REALTIME that CLOCK_BOOTTIME began at. */
  get bootTime(): bigint {
    return this.#addon.clockOffset();
  }

  /**
   * After a large compilation: what it used becomes the node's again instead of being kept for the next one. A while
   * later, and in two steps, since V8 frees what it has collected in the background.
   */
  trimSoon(): void {
    clearTimeout(this.#trimming);
    this.#trimming = setTimeout(() => {
      collectGarbage();
      this.#trimming = setTimeout(() => this.#addon.trim(), TRIM_DELAY_MS);
      this.#trimming.unref();
    }, TRIM_DELAY_MS);
    this.#trimming.unref();
  }

  stats() {
    return this.#native.stats();
  }

  /**
   * Counts runs and time of programs from now on.
   * @returns a descriptor; that ends when it is closed
   * @throws Error without CAP_SYS_ADMIN
   */
  countRuns(): number {
    return this.#addon.enableStats();
  }

  /** How full what can fill up is. */
  fill(): { map: string; used: number; capacity: number; unit: 'entries' | 'bytes' }[] {
    const tables = {
      map: 'arena',
      used: this.tableBytes,
      capacity: maps.arena.valueSize,
      unit: 'bytes' as const,
    };
    const hashes = HASHES.map((map) => {
      const [used, capacity] = this.#native.fill(map);
      return { map, used, capacity, unit: 'entries' as const };
    });
    return [tables, ...hashes];
  }

  close(): void {
    clearTimeout(this.#trimming);
    this.stopReading();
    this.#native.close();
  }
}

/** A full collection; V8 has no other way to be asked for one. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
}

function wordOf(tables: Published | undefined): bigint {
  return tables === undefined ? 0n : BigInt(tables.offset) | (BigInt(tables.generation) << 32n);
}

function u32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(value);
  return buffer;
}

function u64(value: bigint): Buffer {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64LE(value);
  return buffer;
}

function text(value: string, size: number): Buffer {
  const buffer = Buffer.alloc(size);
  buffer.write(value, 'latin1');
  return buffer;
}

function cgroupPath(path: string): Buffer {
  const buffer = Buffer.alloc(256);
  if (buffer.write(path) > 255) throw new RangeError(`a cgroup's path may have 255 bytes: ${path}`);
  return buffer;
}
