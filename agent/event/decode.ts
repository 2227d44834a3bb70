import { enums, structs } from '../kernel/abi.js';

const E = structs.event.fields;

/** One record as the kernel wrote it (bpf/event.h), strings still bytes. */
export interface RawEvent {
  /** By enum ring. */
  readonly ring: number;
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
  /** NUL after each. */
  readonly arguments: Buffer;
  readonly object: Buffer;
}

/** The records of one batch (Addon.Rings). Buffers in them are views of the batch. */
export function* decodeBatch(batch: Buffer): Generator<RawEvent> {
  for (let at = 0; at + 8 <= batch.length; ) {
    const ring = batch.readUInt32LE(at);
    const length = batch.readUInt32LE(at + 4);
    yield decode(ring, batch.subarray(at + 8, at + 8 + length));
    at += 8 + ((length + 7) & ~7);
  }
}

function decode(ring: number, b: Buffer): RawEvent {
  let at: number = structs.event.size;
  const take = (length: number) => {
    at += length;
    return b.subarray(at - length, at);
  };
  return {
    ring,
    time: b.readBigUInt64LE(E.time.offset),
    execId: b.readBigUInt64LE(E.exec_id.offset),
    foldKey: b.readBigUInt64LE(E.fold_key.offset),
    count: b.readBigUInt64LE(E.count.offset),
    workload: b.readUInt32LE(E.workload.offset),
    generation: b.readUInt32LE(E.generation.offset),
    rule: b.readUInt32LE(E.rule.offset),
    pid: b.readUInt32LE(E.pid.offset),
    tid: b.readUInt32LE(E.tid.offset),
    ppid: b.readUInt32LE(E.ppid.offset),
    pidInside: b.readUInt32LE(E.pid_inside.offset),
    uid: b.readUInt32LE(E.uid.offset),
    gid: b.readUInt32LE(E.gid.offset),
    operation: b[E.operation.offset],
    verdict: b[E.verdict.offset],
    action: b[E.action.offset],
    flags: b[E.flags.offset],
    socketKind: b[E.socket_kind.offset],
    family: b[E.family.offset],
    port: b.readUInt16LE(E.port.offset),
    protocol: b.readUInt16LE(E.protocol.offset),
    capability: b.readUInt32LE(E.capability.offset),
    address: b.subarray(E.address.offset, E.address.offset + E.address.size),
    comm: untilNul(b.subarray(E.comm.offset, E.comm.offset + E.comm.size)),
    program: take(b.readUInt16LE(E.program_length.offset)),
    parent: untilNul(take(b.readUInt16LE(E.parent_length.offset))),
    arguments: take(b.readUInt16LE(E.arguments_length.offset)),
    object: take(b.readUInt32LE(E.object_length.offset)),
  };
}

function untilNul(b: Buffer): Buffer {
  const end = b.indexOf(0);
  return end < 0 ? b : b.subarray(0, end);
}

export const isDenial = (verdict: number) => verdict !== enums.verdict.VERDICT_PASS;
