import { crc32 } from 'node:zlib';

/**
 * What is written to a spool at once: entries, and the state that holds once they are there. It counts whole or not at
 * all, which its checksum tells. Integers are little-endian:
 *
 *     u32 magic, u32 length of it all, u32 CRC-32 of what follows,
 *     u32 number of entries, u64 number of the first entry in its lane, u64 serial, u32 length of the state,
 *     entries: u32 length of it all, u16 workload's length, u16 id's length, u32 count, u32 flags, workload, id, payload
 *     state: JSON
 */
const MAGIC = 0x31594c42;
const HEAD = 36;
const ENTRY_HEAD = 16;
const FLAG_URGENT = 1;

/** A record as it will be sent. */
export interface Entry {
  readonly workload: string;
  readonly id: string;
  /** How many events it stands for. */
  readonly count: number;
  /** A denial, or another record that matters as much. */
  readonly urgent: boolean;
  readonly payload: Buffer;
}

/** An entry that is to be written; its text is encoded where it is put. */
export type NewEntry = Omit<Entry, 'payload'> & { readonly payload: string | Buffer };

/** As it will be read back. */
export const entryOf = ({ payload, ...entry }: NewEntry): Entry => ({
  ...entry,
  payload: typeof payload === 'string' ? Buffer.from(payload) : payload,
});

/** What an entry will take at most, bytes. */
export const sizeOf = ({ workload, id, payload }: NewEntry): number =>
  ENTRY_HEAD + (workload.length + id.length) * 3 + payload.length * (typeof payload === 'string' ? 3 : 1);

export class FrameBuilder {
  #buffer = Buffer.allocUnsafe(64 << 10);
  #length = HEAD;
  #entries = 0;

  get entries(): number {
    return this.#entries;
  }

  /** Bytes so far. */
  get length(): number {
    return this.#length;
  }

  /** @returns the bytes that it took */
  add(entry: NewEntry): number {
    const { workload, id, payload } = entry;
    this.#reserve(sizeOf(entry));
    const b = this.#buffer;
    const start = this.#length;
    let at = start + ENTRY_HEAD;
    const workloadLength = b.write(workload, at);
    at += workloadLength;
    const idLength = b.write(id, at);
    at += idLength;
    at += typeof payload === 'string' ? b.write(payload, at) : payload.copy(b, at);
    b.writeUInt32LE(at - start, start);
    b.writeUInt16LE(workloadLength, start + 4);
    b.writeUInt16LE(idLength, start + 6);
    b.writeUInt32LE(Math.min(entry.count, 0xffffffff), start + 8);
    b.writeUInt32LE(entry.urgent ? FLAG_URGENT : 0, start + 12);
    this.#length = at;
    this.#entries++;
    return at - start;
  }

  /** The frame; valid until the next `add`. Afterwards the builder is empty. */
  finish(serial: number, first: number, state: string): Buffer {
    this.#reserve(state.length * 3);
    const b = this.#buffer;
    const stateLength = b.write(state, this.#length);
    const length = this.#length + stateLength;
    b.writeUInt32LE(MAGIC, 0);
    b.writeUInt32LE(length, 4);
    b.writeUInt32LE(this.#entries, 12);
    b.writeBigUInt64LE(BigInt(first), 16);
    b.writeBigUInt64LE(BigInt(serial), 24);
    b.writeUInt32LE(stateLength, 32);
    b.writeUInt32LE(crc32(b.subarray(12, length)), 8);
    this.clear();
    return b.subarray(0, length);
  }

  clear(): void {
    this.#length = HEAD;
    this.#entries = 0;
  }

  #reserve(more: number): void {
    if (this.#length + more <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#length + more));
    this.#buffer.copy(larger, 0, 0, this.#length);
    this.#buffer = larger;
  }
}

/** A frame that was read back. */
export interface Frame {
  readonly bytes: Buffer;
  readonly entries: number;
  /** Its first entry's number in the lane. */
  readonly first: number;
  readonly serial: number;
  readonly state: string;
}

/** Bytes of the frame that begins at `at`, as far as its head says; undefined when that is not there or none. */
export function frameLength(bytes: Buffer, at: number): number | undefined {
  if (at + HEAD > bytes.length || bytes.readUInt32LE(at) !== MAGIC) return undefined;
  const length = bytes.readUInt32LE(at + 4);
  return length >= HEAD ? length : undefined;
}

/** The frame that begins at `at`; undefined when it is not whole. */
export function readFrame(bytes: Buffer, at: number): Frame | undefined {
  const length = frameLength(bytes, at);
  if (length === undefined || at + length > bytes.length) return undefined;
  const b = bytes.subarray(at, at + length);
  if (b.readUInt32LE(8) !== crc32(b.subarray(12))) return undefined;
  const stateLength = b.readUInt32LE(32);
  return {
    bytes: b,
    entries: b.readUInt32LE(12),
    first: Number(b.readBigUInt64LE(16)),
    serial: Number(b.readBigUInt64LE(24)),
    state: b.toString('utf8', length - stateLength),
  };
}

/** Its entries without the first `skip`; payloads are views. */
export function* entriesOf(
  { bytes, entries }: Frame,
  skip = 0,
): Generator<Entry & { readonly size: number }> {
  let at = HEAD;
  for (let i = 0; i < entries; i++) {
    const size = bytes.readUInt32LE(at);
    if (i >= skip) {
      const workloadEnd = at + ENTRY_HEAD + bytes.readUInt16LE(at + 4);
      const idEnd = workloadEnd + bytes.readUInt16LE(at + 6);
      yield {
        workload: bytes.toString('utf8', at + ENTRY_HEAD, workloadEnd),
        id: bytes.toString('latin1', workloadEnd, idEnd),
        count: bytes.readUInt32LE(at + 8),
        urgent: (bytes.readUInt32LE(at + 12) & FLAG_URGENT) !== 0,
        payload: bytes.subarray(idEnd, at + size),
        size,
      };
    }
    at += size;
  }
}
