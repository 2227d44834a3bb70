import { enums, structs } from '../kernel/abi.js';
import { BATCH_HEAD } from '../kernel/addon.js';

const E = structs.event.fields;

/** One record as the kernel wrote it (bpf/event.h), strings still bytes. */
export interface RawEvent {
  /** By enum ring. */
  readonly ring: number;
  /** In its ring: no other record is ever there. */
  readonly position: number;
  /** CLOCK_BOOTTIME, ns. */
  readonly time: bigint;
  readonly execId: bigint;
  readonly foldKey: bigint;
  readonly count: bigint;
  readonly workload: number;
  readonly generation: number;
  readonly rule: number;
  readonly pid: number;
  readonly tid: number;
  readonly ppid: number;
  readonly pidInside: number;
  readonly uid: number;
  readonly gid: number;
  readonly capabilities: bigint;
  readonly loginUid: number;
  readonly mountNamespace: number;
  readonly pidNamespace: number;
  readonly networkNamespace: number;
  readonly userNamespace: number;
  readonly operation: number;
  readonly verdict: number;
  readonly action: number;
  readonly flags: number;
  readonly socketKind: number;
  readonly family: number;
  readonly port: number;
  readonly protocol: number;
  readonly capability: number;
  readonly address: Buffer;
  readonly comm: Buffer;
  readonly program: Buffer;
  readonly parent: Buffer;
  /** struct ancestor each, that of the parent's parent first. */
  readonly ancestors: Buffer;
  readonly cwd: Buffer;
  readonly tty: Buffer;
  /** NUL after each. */
  readonly arguments: Buffer;
  readonly object: Buffer;
}

const HEAD = BATCH_HEAD;

/**
 * The records of batches (Addon.Rings), one after the other, without an object for any: the reader itself is the record that
 * it stands at, and reads a field when it is asked for. What is to outlive the next step is `kept`.
 *
 *     reader.open(batch);
 *     while (reader.next()) if (wanted(reader.workload)) keep(reader.kept());
 */
export class EventReader implements RawEvent {
  #batch: Buffer = Buffer.alloc(0);
  /** Of the record's bytes. */
  #at = 0;
  #end = 0;
  #next = 0;
  ring = 0;
  /** How many of the batch were passed over, since they are too short or cut off. */
  broken = 0;

  open(batch: Buffer): void {
    this.#batch = batch;
    this.#next = 0;
    this.broken = 0;
  }

  /** Goes on to the next record; false = there is none. */
  next(): boolean {
    for (;;) {
      const at = this.#next;
      if (at + HEAD > this.#batch.length) return false;
      this.ring = this.#u32(at);
      this.#at = at + HEAD;
      const length = this.#u32(at + 4);
      const there = this.#batch.length - this.#at;
      // what comes behind one that is cut off cannot be found
      this.#next = length > there ? this.#batch.length : this.#at + ((length + 7) & ~7);
      this.#end = this.#at + length;
      if (length >= structs.event.size && length <= there) return true;
      this.broken++;
    }
  }

  /** The record with bytes of its own, as they are or with another time and count. */
  kept(as?: { readonly time: bigint; readonly count: bigint }): EventReader {
    const start = this.#at - HEAD;
    const bytes = Buffer.from(this.#batch.subarray(start, Math.min(this.#next, this.#batch.length)));
    if (as !== undefined) {
      bytes.writeBigUInt64LE(as.time, HEAD + E.time.offset);
      bytes.writeBigUInt64LE(as.count, HEAD + E.count.offset);
    }
    const one = new EventReader();
    one.open(bytes);
    one.next();
    return one;
  }

  /** What it holds on to: of one that is kept, its record. */
  get bytes(): number {
    return this.#batch.length;
  }

  /** Faster than Buffer's own, which check their argument. */
  #u32(at: number): number {
    const b = this.#batch;
    return (b[at] | (b[at + 1] << 8) | (b[at + 2] << 16) | (b[at + 3] << 24)) >>> 0;
  }

  #u16(at: number): number {
    return this.#batch[at] | (this.#batch[at + 1] << 8);
  }

  #bytes(at: number, length: number): Buffer {
    return this.#batch.subarray(at, Math.min(at + length, this.#end));
  }

  get position() {
    const at = this.#at - HEAD + 8;
    return this.#u32(at) + this.#u32(at + 4) * 2 ** 32;
  }
  get time() {
    return this.#batch.readBigUInt64LE(this.#at + E.time.offset);
  }
  get execId() {
    return this.#batch.readBigUInt64LE(this.#at + E.exec_id.offset);
  }
  get foldKey() {
    return this.#batch.readBigUInt64LE(this.#at + E.fold_key.offset);
  }
  get count() {
    return this.#batch.readBigUInt64LE(this.#at + E.count.offset);
  }
  get workload() {
    return this.#u32(this.#at + E.workload.offset);
  }
  get generation() {
    return this.#u32(this.#at + E.generation.offset);
  }
  get rule() {
    return this.#u32(this.#at + E.rule.offset);
  }
  get pid() {
    return this.#u32(this.#at + E.pid.offset);
  }
  get tid() {
    return this.#u32(this.#at + E.tid.offset);
  }
  get ppid() {
    return this.#u32(this.#at + E.ppid.offset);
  }
  get pidInside() {
    return this.#u32(this.#at + E.pid_inside.offset);
  }
  get uid() {
    return this.#u32(this.#at + E.uid.offset);
  }
  get gid() {
    return this.#u32(this.#at + E.gid.offset);
  }
  get capabilities() {
    return this.#batch.readBigUInt64LE(this.#at + E.capabilities.offset);
  }
  get loginUid() {
    return this.#u32(this.#at + E.login_uid.offset);
  }
  get mountNamespace() {
    return this.#u32(this.#at + E.mount_namespace.offset);
  }
  get pidNamespace() {
    return this.#u32(this.#at + E.pid_namespace.offset);
  }
  get networkNamespace() {
    return this.#u32(this.#at + E.network_namespace.offset);
  }
  get userNamespace() {
    return this.#u32(this.#at + E.user_namespace.offset);
  }
  get operation() {
    return this.#batch[this.#at + E.operation.offset];
  }
  get verdict() {
    return this.#batch[this.#at + E.verdict.offset];
  }
  get action() {
    return this.#batch[this.#at + E.action.offset];
  }
  get flags() {
    return this.#batch[this.#at + E.flags.offset];
  }
  get socketKind() {
    return this.#batch[this.#at + E.socket_kind.offset];
  }
  get family() {
    return this.#batch[this.#at + E.family.offset];
  }
  get port() {
    return this.#u16(this.#at + E.port.offset);
  }
  get protocol() {
    return this.#u16(this.#at + E.protocol.offset);
  }
  get capability() {
    return this.#u32(this.#at + E.capability.offset);
  }
  get address() {
    return this.#bytes(this.#at + E.address.offset, E.address.size);
  }
  get comm() {
    return untilNul(this.#bytes(this.#at + E.comm.offset, E.comm.size));
  }
  get tty() {
    return untilNul(this.#bytes(this.#at + E.tty.offset, E.tty.size));
  }

  // what is behind the fields, one after the other
  get program() {
    return this.#bytes(this.#at + structs.event.size, this.#programLength);
  }
  get parent() {
    return untilNul(this.#bytes(this.#at + structs.event.size + this.#programLength, this.#parentLength));
  }
  get ancestors() {
    const before = this.#programLength + this.#parentLength;
    return this.#bytes(this.#at + structs.event.size + before, this.#ancestorsLength);
  }
  get cwd() {
    const before = this.#programLength + this.#parentLength + this.#ancestorsLength;
    return this.#bytes(this.#at + structs.event.size + before, this.#cwdLength);
  }
  get arguments() {
    return this.#bytes(this.#at + structs.event.size + this.#beforeArguments, this.#argumentsLength);
  }
  get object() {
    const before = this.#beforeArguments + this.#argumentsLength;
    return this.#bytes(this.#at + structs.event.size + before, this.#u32(this.#at + E.object_length.offset));
  }
  get #beforeArguments() {
    return this.#programLength + this.#parentLength + this.#ancestorsLength + this.#cwdLength;
  }
  get #programLength() {
    return this.#u16(this.#at + E.program_length.offset);
  }
  get #parentLength() {
    return this.#u16(this.#at + E.parent_length.offset);
  }
  get #ancestorsLength() {
    return this.#u16(this.#at + E.ancestors_length.offset);
  }
  get #cwdLength() {
    return this.#u16(this.#at + E.cwd_length.offset);
  }
  get #argumentsLength() {
    return this.#u16(this.#at + E.arguments_length.offset);
  }
}

function untilNul(b: Buffer): Buffer {
  const end = b.indexOf(0);
  return end < 0 ? b : b.subarray(0, end);
}

export const isDenial = (verdict: number) => verdict !== enums.verdict.VERDICT_PASS;
