import { setTimeout as sleep } from 'node:timers/promises';
import { enums, maps, structs } from './abi.js';
import { type Addon, BATCH_HEAD, type NativeKernel, type NativePinned, type StructLayout } from './addon.js';
import { CannotTakeOver, markEnded, removeDirectory, unpinPrograms } from './pins.js';
import { CLAIMED, type Repeats } from './untold.js';

type Struct = keyof typeof structs;

/** What the entries of a map are: a structure, by name, or a plain number. */
interface Carried {
  readonly map: string;
  readonly key: Struct | 'number';
  readonly value: Struct | 'number';
}

/** What the agent and the runtime announced: needed before the first new cgroup is judged. */
const ANNOUNCED: readonly Carried[] = [
  { map: 'pods', key: 'pod_uid', value: 'number' },
  { map: 'containers', key: 'container_id', value: 'number' },
  { map: 'cgroup_paths', key: 'cgroup_path', value: 'number' },
];

/** What the programs found out. */
const FOUND: readonly Carried[] = [
  { map: 'cgroups', key: 'number', value: 'binding' },
  { map: 'cgroup_homes', key: 'number', value: 'number' },
  { map: 'homes', key: 'number', value: 'number' },
  { map: 'originals', key: 'number', value: 'original' },
  { map: 'roots', key: 'root_key', value: 'number' },
];

/** A fork bomb may keep children coming that the last look has not met; after so many looks the upgrade is given up. */
const LOOKS = 64;

/** What is still running of a program when its link is gone. */
const ENDING_MS = 200;

const C = enums.carried;
const SUBJECT: Readonly<Record<number, string>> = {
  [C.CARRIED_EXEC_ID]: 'exec_id',
  [C.CARRIED_HOME]: 'home',
  [C.CARRIED_CGROUP]: 'cgroup',
  [C.CARRIED_WORKLOAD]: 'workload',
  [C.CARRIED_FLAGS]: 'flags',
  [C.CARRIED_PROGRAM_LENGTH]: 'program_length',
  [C.CARRIED_SCRIPT_LENGTH]: 'script_length',
  [C.CARRIED_PENDING_LENGTH]: 'pending_length',
  [C.CARRIED_PENDING_FILES]: 'pending_files',
  [C.CARRIED_PROGRAM]: 'program',
  [C.CARRIED_SCRIPT]: 'script',
  [C.CARRIED_PENDING]: 'pending',
};
const RECEIVER: Readonly<Record<number, string>> = {
  [C.CARRIED_RECEIVER_CGROUP]: 'cgroup',
  [C.CARRIED_RECEIVER_WORKLOAD]: 'workload',
};

const RINGS = ['denials', 'matches', 'telemetry_ring'] as const;

/** Records, see Addon.Rings, and by ring its map's number. What has not been kept when it returns is lost. */
export type TakeBatch = (batch: Buffer, rings: readonly number[]) => void;

/** Repeats of an event that were not told yet. */
export type TakeFold = (repeats: Repeats) => void;

/**
 * The programs of an earlier schema, pinned and in force: what they know is carried over to this version's, which run
 * beside them; they go once this version's enforce.
 */
export class Previous {
  readonly #pinned: NativePinned;
  readonly #addon: Addon;
  readonly #layouts = new Map<Struct, StructLayout>();
  readonly #failures: ReadonlyMap<number, bigint>;
  readonly directory: string;

  constructor(addon: Addon, directory: string) {
    this.directory = directory;
    this.#addon = addon;
    this.#pinned = new addon.Pinned(directory);
    this.#failures = this.#sumFailures();
    // now, while they are where they are
    for (const map of [...RINGS, 'folds', 'workloads']) this.#pinned.fd(map);
  }

  #layout(name: Struct): StructLayout {
    let layout = this.#layouts.get(name);
    if (layout === undefined) {
      layout = this.#pinned.layout(name);
      if (layout === undefined) throw new CannotTakeOver(`${this.directory} has no ${name} to take over`);
      this.#layouts.set(name, layout);
    }
    return layout;
  }

  /** Descriptors of the maps that the programs themselves read. */
  get maps(): Readonly<Record<string, number>> {
    const receivers = this.#pinned.fd('receivers');
    return {
      previous_tasks: this.#pinned.fd('tasks'),
      ...(receivers >= 0 ? { previous_receivers: receivers } : {}),
    };
  }

  /** What the programs need to know to read them (bpf/carry.h). */
  get globals(): Readonly<Record<string, Uint8Array>> {
    const at = new Uint16Array(C.CARRIED_COUNT);
    const size = new Uint16Array(C.CARRIED_COUNT);
    const place = (layout: StructLayout, members: Readonly<Record<number, string>>) => {
      for (const [member, name] of Object.entries(members)) {
        at[Number(member)] = layout.fields[name]?.offset ?? 0;
        size[Number(member)] = layout.fields[name]?.size ?? 0;
      }
    };
    place(this.#layout('subject'), SUBJECT);
    place(this.#layout('receiver'), RECEIVER);
    return { carried_at: new Uint8Array(at.buffer), carried_size: new Uint8Array(size.buffer) };
  }

  /** Before this version's programs are attached. */
  announce(kernel: NativeKernel, settings: Uint8Array): void {
    const S = structs.settings.fields;
    const ours = new DataView(settings.buffer, settings.byteOffset);
    const before = this.#pinned.lookup('settings', Buffer.alloc(4));
    // unless they are this version's already, from an upgrade that did not come to its end
    if (before !== undefined && ours.getUint32(S.round.offset, true) === 0) {
      settings.set(this.#convert('settings', before));
      // failures are counted anew
      for (const { offset, size } of [S.failures_told, S.failures_telling])
        settings.fill(0, offset, offset + size);
      ours.setUint32(S.round.offset, ours.getUint32(S.round.offset, true) + 1, true);
    }
    ours.setUint32(S.uncarried.offset, 0, true);
    this.#setCarrying(settings, 1);
    this.#carryMaps(kernel, ANNOUNCED);
  }

  /**
   * Once this version's programs are attached.
   * @throws CannotTakeOver; the programs before stay in force then
   */
  carry(kernel: NativeKernel, settings: Uint8Array): void {
    this.#checkNumbers();
    // twice, for what a cgroup that was not carried over yet passed on to a new one below it
    for (let i = 0; i < 2; i++) this.#carryMaps(kernel, [...ANNOUNCED, ...FOUND]);
    this.#carryTasks(kernel, settings);
    this.#setCarrying(settings, 0);
    this.#addon.gracePeriod();
    this.#carryTasks(kernel, settings);
    const receivers = this.#pinned.fd('receivers');
    if (receivers >= 0) kernel.iterate('carry_receivers', receivers);
    else if (this.#pinned.fd('socket_receivers') >= 0)
      this.#carryMaps(kernel, [{ map: 'socket_receivers', key: 'number', value: 'receiver' }]);
    const { uncarried } = structs.settings.fields;
    if (new DataView(settings.buffer, settings.byteOffset).getUint32(uncarried.offset, true) > 0)
      throw new CannotTakeOver('there was no memory for the state of all tasks and sockets');
    // whose they are is marked as in use
    kernel.iterate('adopt');
  }

  #checkNumbers(): void {
    for (const key of this.#pinned.keys('workloads')) {
      if (key.readUInt32LE(0) < maps.workloads.entries) continue;
      const found = this.#pinned.lookup('workloads', key);
      if (found !== undefined && this.#convert('workload', found).some((byte) => byte !== 0))
        throw new CannotTakeOver(`this version has room for ${maps.workloads.entries} workloads only`);
    }
  }

  /** Until a look at all tasks finds none that is new. */
  #carryTasks(kernel: NativeKernel, settings: Uint8Array): void {
    const view = new DataView(settings.buffer, settings.byteOffset);
    const { carried } = structs.settings.fields;
    for (let i = 0; i < LOOKS; i++) {
      const before = view.getUint32(carried.offset, true);
      kernel.iterate('carry');
      if (view.getUint32(carried.offset, true) === before) return;
    }
    throw new CannotTakeOver('processes were made faster than they could be taken over');
  }

  #setCarrying(settings: Uint8Array, carrying: number): void {
    const { carrying: field } = structs.settings.fields;
    new DataView(settings.buffer, settings.byteOffset).setUint32(field.offset, carrying, true);
  }

  #carryMaps(kernel: NativeKernel, maps: readonly Carried[]): void {
    for (const { map, key, value } of maps) {
      for (const each of this.#pinned.keys(map)) {
        const found = this.#pinned.lookup(map, each);
        if (found === undefined) continue;
        const [k, v] = [this.#convert(key, each), this.#convert(value, found)];
        try {
          kernel.insert(map, k, v);
        } catch (error) {
          throw new CannotTakeOver(
            `there is no room for all of ${map}: ${error instanceof Error ? error.message : error}`,
          );
        }
      }
    }
  }

  /** From their layout to ours, member by member. */
  #convert(type: Struct | 'number', from: Buffer): Buffer {
    if (type === 'number') return from;
    const layout = this.#layout(type);
    const ours: StructLayout = structs[type];
    const to = Buffer.alloc(ours.size);
    for (const [name, { offset, size }] of Object.entries(ours.fields)) {
      const theirs = layout.fields[name];
      if (theirs === undefined) continue;
      from.copy(to, offset, theirs.offset, theirs.offset + Math.min(size, theirs.size));
    }
    return to;
  }

  #sumFailures(): Map<number, bigint> {
    const sums = new Map<number, bigint>();
    for (const key of this.#pinned.keys('failures')) {
      const cpus = this.#pinned.lookup('failures', key) ?? Buffer.alloc(0);
      let sum = 0n;
      for (let i = 0; i < cpus.length; i += 8) sum += cpus.readBigUInt64LE(i);
      sums.set(key.readUInt32LE(0), sum);
    }
    return sums;
  }

  /**
   * Ends the programs before, one at a time, and gives what they still had to tell.
   * @param workloads the memory of this version's map, whose counters go on from theirs
   * @returns what failed in them since this version looked first, by enum failure
   */
  async retire(
    kernel: NativeKernel,
    settings: Uint8Array,
    workloads: Uint8Array,
    onBatch: TakeBatch,
    onFold: TakeFold,
  ): Promise<ReadonlyMap<number, bigint>> {
    this.#carryTasks(kernel, settings);
    kernel.forget('carry', 'previous_tasks');
    kernel.forget('carry_receivers', 'previous_receivers');
    const directory = markEnded(this.directory);
    await unpinPrograms(directory);
    this.#addon.gracePeriod();
    await sleep(ENDING_MS);
    const rings = new this.#addon.Rings(
      RINGS.map((ring) => this.#pinned.fd(ring)),
      (batch) => onBatch(this.#convertBatch(batch), ids),
    );
    const ids = rings.ids();
    rings.drain();
    rings.close();
    this.#takeFolds(onFold);
    this.#addCounters(workloads);
    const failures = new Map<number, bigint>();
    for (const [key, sum] of this.#sumFailures()) failures.set(key, sum - (this.#failures.get(key) ?? 0n));
    removeDirectory(directory);
    this.#pinned.close();
    return failures;
  }

  #convertBatch(batch: Buffer): Buffer {
    const theirs = this.#layout('event').size;
    const parts: Buffer[] = [];
    for (let at = 0; at + BATCH_HEAD <= batch.length; ) {
      const length = batch.readUInt32LE(at + 4);
      const record = batch.subarray(at + BATCH_HEAD, at + BATCH_HEAD + length);
      const converted = Buffer.concat([this.#convert('event', record), record.subarray(theirs)]);
      const header = Buffer.from(batch.subarray(at, at + BATCH_HEAD));
      header.writeUInt32LE(converted.length, 4);
      parts.push(header, converted, Buffer.alloc(-converted.length & 7));
      at += BATCH_HEAD + ((length + 7) & ~7);
    }
    return Buffer.concat(parts);
  }

  #takeFolds(each: TakeFold): void {
    const F = structs.fold.fields;
    for (const key of this.#pinned.keys('folds')) {
      const found = this.#pinned.lookup('folds', key);
      if (found === undefined) continue;
      const fold = this.#convert('fold', found);
      const count = fold.readBigUInt64LE(F.count.offset) & ~CLAIMED;
      if (count === 0n) continue;
      each({
        key: fold.readBigUInt64LE(F.key.offset),
        workload: fold.readUInt32LE(F.workload.offset),
        rule: fold.readUInt32LE(F.rule.offset),
        count,
      });
    }
  }

  /** Added, since the new ones have counted already. */
  #addCounters(workloads: Uint8Array): void {
    const W = structs.workload;
    for (const key of this.#pinned.keys('workloads')) {
      const base = key.readUInt32LE(0) * W.size;
      const found = this.#pinned.lookup('workloads', key);
      if (found === undefined || base + W.size > workloads.length) continue;
      const before = this.#convert('workload', found);
      for (const field of [W.fields.denied, W.fields.matched, W.fields.lost, W.fields.told]) {
        for (let at = field.offset; at < field.offset + field.size; at += 8) {
          const more = before.readBigUInt64LE(at);
          if (more > 0n) this.#addon.add64(workloads, base + at, more);
        }
      }
    }
  }
}
