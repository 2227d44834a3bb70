import {
  closeSync,
  constants,
  fdatasync,
  fdatasyncSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { type Entry, entriesOf, type Frame, frameLength, readFrame } from './frame.js';
import type { Cursor } from './ledger.js';

const READ_BYTES = 1 << 20;
/** After which a segment that cannot be read is passed over. */
const UNREADABLE_MS = 60_000;

/** Entries that were read, and where delivery stands once they are done. */
export interface Read {
  readonly entries: readonly (Entry & { readonly size: number })[];
  readonly cursor: Cursor;
  /** Entries before these that can no longer be read. */
  readonly damaged: number;
}

/** The newest state in a frame. */
export interface Recovered {
  readonly serial: number;
  readonly state: string | undefined;
}

/**
 * Frames in order, in files of a bounded size (segments) that are deleted once done. Written to the page cache at once, to
 * the disk when a segment is full and when asked for: an agent that is killed loses nothing, a node that loses its power what
 * was written since.
 */
export class Lane {
  readonly #directory: string;
  readonly #name: string;
  readonly #segmentBytes: number;
  /** By number, in order; the last is written to. */
  readonly #sizes = new Map<number, number>();
  #segment = 0;
  #fd = -1;
  #written = 0;
  /** Where the last frame that was found begins, and the number of its first entry. */
  #last = { segment: 0, offset: 0, first: 0 };
  #dirty = false;
  #reading: { readonly segment: number; readonly fd: number } | undefined;
  /** Since when the next segment cannot be read. */
  #failingSince: number | undefined;
  cursor: Cursor = { segment: 0, offset: 0, skip: 0, index: 0 };

  constructor(directory: string, name: string, segmentBytes: number) {
    this.#directory = directory;
    this.#name = name;
    this.#segmentBytes = segmentBytes;
  }

  #path(segment: number): string {
    return join(this.#directory, `${this.#name}-${String(segment).padStart(12, '0')}.seg`);
  }

  /** Bytes of all its files. */
  get bytes(): number {
    let sum = 0;
    for (const size of this.#sizes.values()) sum += size;
    return sum;
  }

  get empty(): boolean {
    const { segment, offset } = this.cursor;
    return segment === this.#segment && offset === (this.#sizes.get(segment) ?? 0);
  }

  /**
   * Takes up what an agent before this one left: a frame that was not written whole ends the last segment, and one that
   * is damaged the segment that it is in.
   */
  recover(): Recovered {
    const pattern = new RegExp(`^${this.#name}-(\\d{12})\\.seg$`);
    const segments = readdirSync(this.#directory)
      .flatMap((name) => pattern.exec(name)?.[1] ?? [])
      .map(Number)
      .sort((a, b) => a - b);
    let newest: Frame | undefined;
    for (const segment of segments) {
      const bytes = readFileSync(this.#path(segment));
      let at = 0;
      for (let frame = readFrame(bytes, 0); frame !== undefined; frame = readFrame(bytes, at)) {
        this.#written = frame.first + frame.entries;
        this.#last = { segment, offset: at, first: frame.first };
        if (newest === undefined || frame.serial > newest.serial) newest = frame;
        at += frame.bytes.length;
      }
      if (at < bytes.length) truncateSync(this.#path(segment), at);
      this.#sizes.set(segment, at);
    }
    this.#segment = segments.at(-1) ?? 0;
    return { serial: newest?.serial ?? -1, state: newest?.state };
  }

  /** Takes away the last frame that was found. */
  cutLast(): void {
    const { segment, offset, first } = this.#last;
    truncateSync(this.#path(segment), offset);
    this.#sizes.set(segment, offset);
    this.#written = first;
  }

  /** Begins at the cursor; what lies before it is deleted. */
  begin(cursor: Cursor | undefined): void {
    const [oldest = 0] = this.#sizes.keys();
    const { segment, offset, skip, index } = cursor ?? this.cursor;
    // segments may be gone that a state speaks of
    this.#written = Math.max(this.#written, index);
    this.#open(Math.max(this.#segment, segment));
    if (segment < oldest) this.cursor = { segment: oldest, offset: 0, skip: 0, index };
    else if (offset > (this.#sizes.get(segment) ?? 0))
      this.cursor = { segment, offset: this.#sizes.get(segment) ?? 0, skip: 0, index };
    else this.cursor = { segment, offset, skip, index };
    this.#forget();
  }

  /** Every entry that is not done; for counting. */
  *rest(): Generator<Entry & { readonly size: number }> {
    for (const [segment, size] of this.#sizes) {
      if (segment < this.cursor.segment) continue;
      const bytes = readFileSync(this.#path(segment)).subarray(0, size);
      let at = segment === this.cursor.segment ? this.cursor.offset : 0;
      let skip = segment === this.cursor.segment ? this.cursor.skip : 0;
      for (let frame = readFrame(bytes, at); frame; frame = readFrame(bytes, at)) {
        yield* entriesOf(frame, skip);
        skip = 0;
        at += frame.bytes.length;
      }
    }
  }

  /** The number that the next entry will have. */
  get written(): number {
    return this.#written;
  }

  /** @throws the file system's error; then nothing of the frame stays */
  append(frame: Buffer, entries: number): void {
    let size = this.#sizes.get(this.#segment) ?? 0;
    if (size > 0 && size + frame.length > this.#segmentBytes) {
      this.#roll();
      size = 0;
    }
    try {
      for (let at = 0; at < frame.length; )
        at += writeSync(this.#fd, frame, at, frame.length - at, size + at);
    } catch (error) {
      ftruncateSync(this.#fd, size);
      throw error;
    }
    this.#sizes.set(this.#segment, size + frame.length);
    this.#written += entries;
    this.#dirty = true;
  }

  #roll(): void {
    fdatasyncSync(this.#fd);
    const full = this.#fd;
    this.#open(this.#segment + 1);
    closeSync(full);
  }

  /** Writes to that segment from now on; if it cannot be opened, to the one before. */
  #open(segment: number): void {
    this.#fd = openSync(this.#path(segment), constants.O_RDWR | constants.O_CREAT, 0o600);
    this.#segment = segment;
    if (!this.#sizes.has(segment)) this.#sizes.set(segment, 0);
  }

  /** Brings what was written to the disk, in the background. */
  sync(): void {
    if (!this.#dirty) return;
    this.#dirty = false;
    fdatasync(this.#fd, () => {});
  }

  /**
   * Entries from the cursor on, or how many can no longer be read; undefined when there are neither.
   * @throws the file system's error, of a segment that is tried again the next time
   */
  read(maxEntries: number, maxBytes: number): Read | undefined {
    let { segment, offset, skip, index } = this.cursor;
    let damaged = 0;
    const entries: (Entry & { readonly size: number })[] = [];
    let bytes = 0;
    while (entries.length < maxEntries && bytes < maxBytes) {
      const size = this.#sizes.get(segment) ?? 0;
      if (offset >= size) {
        if (segment >= this.#segment) {
          damaged += this.#written - index;
          index = this.#written;
          break;
        }
        segment++;
        offset = 0;
        skip = 0;
        continue;
      }
      let chunk: Buffer = Buffer.alloc(0);
      try {
        chunk = this.#chunk(segment, offset, size);
      } catch (error) {
        // what was read before it goes first
        if (entries.length > 0) break;
        this.#failingSince ??= performance.now();
        if (performance.now() - this.#failingSince < UNREADABLE_MS) throw error;
        this.cursor = { segment, offset: size, skip: 0, index };
      }
      this.#failingSince = undefined;
      let at = 0;
      for (let frame = readFrame(chunk, 0); frame !== undefined; frame = readFrame(chunk, at)) {
        damaged += Math.max(0, frame.first + skip - index);
        index = frame.first + skip;
        for (const entry of entriesOf(frame, skip)) {
          if (entries.length >= maxEntries || bytes >= maxBytes) break;
          entries.push(entry);
          bytes += entry.size;
          skip++;
          index++;
        }
        if (skip < frame.entries) break;
        skip = 0;
        at += frame.bytes.length;
        if (entries.length >= maxEntries || bytes >= maxBytes) break;
      }
      offset += at;
      if (skip > 0) break;
      // a frame that was whole when it was written and no longer is: what follows it cannot be found
      if (at === 0) offset = size;
    }
    if (entries.length === 0 && damaged === 0) return undefined;
    return { entries, cursor: { segment, offset, skip, index }, damaged };
  }

  #chunk(segment: number, offset: number, size: number): Buffer {
    // the one that is written to can be read even when its name is gone
    const fd = segment === this.#segment ? this.#fd : this.#opened(segment);
    const read = (length: number) => {
      const chunk = Buffer.allocUnsafe(Math.min(length, size - offset));
      return chunk.subarray(0, readSync(fd, chunk, 0, chunk.length, offset));
    };
    const chunk = read(READ_BYTES);
    const first = frameLength(chunk, 0) ?? 0;
    return first > chunk.length ? read(first) : chunk;
  }

  #opened(segment: number): number {
    if (this.#reading?.segment === segment) return this.#reading.fd;
    this.#closeReading();
    const fd = openSync(this.#path(segment), 'r');
    this.#reading = { segment, fd };
    return fd;
  }

  #closeReading(): void {
    if (this.#reading) closeSync(this.#reading.fd);
    this.#reading = undefined;
  }

  /** All before the cursor is done. The state that says so must have been kept. */
  advance(cursor: Cursor): void {
    this.cursor = cursor;
    this.#forget();
  }

  #forget(): void {
    for (const segment of this.#sizes.keys()) {
      if (segment >= this.cursor.segment) break;
      if (this.#reading?.segment === segment) this.#closeReading();
      rmSync(this.#path(segment), { force: true });
      this.#sizes.delete(segment);
    }
  }

  close(): void {
    this.#closeReading();
    fdatasyncSync(this.#fd);
    closeSync(this.#fd);
  }
}
