import { createReadStream, createWriteStream, existsSync } from 'node:fs';
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import type { BelayRecord } from '../../event/record.js';
import type { Format } from '../formats/format.js';
import type { Entry } from '../spool/frame.js';
import { NOTHING_REFUSED, type Outcome, type Transport } from '../transport.js';

export interface FileOptions {
  readonly path: string;
  readonly format: Format;
  /** A file that has grown so large becomes `path.1`, and is compressed to `path.1.gz`. */
  readonly maxBytes: number;
  /** So many of those are kept. */
  readonly keep: number;
}

/** A line for each record, appended to a file; on the disk once `send` resolves. */
export class RotatingFile implements Transport {
  readonly maxEntries = 5000;
  readonly maxBytes = 4 << 20;
  readonly gatherMs = 100;
  readonly #options: FileOptions;
  #file: FileHandle | undefined;
  #size = 0;
  #compressing: Promise<void> = Promise.resolve();

  constructor(options: FileOptions) {
    this.#options = options;
  }

  encode(record: BelayRecord): string {
    return `${this.#options.format(record)}\n`;
  }

  async send(entries: readonly Entry[]): Promise<Outcome> {
    const bytes = Buffer.concat(entries.map(({ payload }) => payload));
    try {
      if (this.#size > 0 && this.#size + bytes.length > this.#options.maxBytes) await this.#rotate();
      const file = await this.#opened();
      for (let at = 0; at < bytes.length; )
        at += (await file.write(bytes, at, undefined, this.#size + at)).bytesWritten;
      await file.datasync();
      this.#size += bytes.length;
    } catch (error) {
      // what is there beyond #size is cut off when it is opened again
      await this.#file?.close().catch(() => {});
      this.#file = undefined;
      throw error;
    }
    return NOTHING_REFUSED;
  }

  async #opened(): Promise<FileHandle> {
    if (this.#file !== undefined) return this.#file;
    const { path } = this.#options;
    await mkdir(dirname(path), { recursive: true, mode: 0o750 });
    // not for appending: Linux then ignores positions
    const file = await open(path, existsSync(path) ? 'r+' : 'w+', 0o640);
    this.#size = await endOfLastLine(file);
    await file.truncate(this.#size);
    this.#file = file;
    this.#compressing = this.#compressing.then(() => this.#compress()).catch(() => {});
    return file;
  }

  /** What has been rotated; it may also have been by an agent that was killed. */
  async #compress(): Promise<void> {
    const rotated = `${this.#options.path}.1`;
    if (existsSync(rotated)) await compress(rotated);
  }

  /** `path` becomes `path.1`, compressed ones each one number up; the oldest goes. */
  async #rotate(): Promise<void> {
    const { path, keep } = this.#options;
    await this.#compressing;
    // if that failed it is still there, and would be renamed over
    await this.#compress();
    await this.#file?.close();
    this.#file = undefined;
    this.#size = 0;
    if (!existsSync(path)) return;
    await rm(`${path}.${keep}.gz`, { force: true });
    for (let n = keep - 1; n >= 1; n--)
      if (existsSync(`${path}.${n}.gz`)) await rename(`${path}.${n}.gz`, `${path}.${n + 1}.gz`);
    await rename(path, `${path}.1`);
  }

  async close(): Promise<void> {
    await this.#compressing;
    await this.#file?.close();
    this.#file = undefined;
  }
}

/** What was written last may have been cut off; it is written again, so its part goes. */
async function endOfLastLine(file: FileHandle): Promise<number> {
  const { size } = await file.stat();
  const block = Buffer.alloc(64 << 10);
  for (let end = size; end > 0; end -= block.length) {
    const start = Math.max(0, end - block.length);
    const { bytesRead } = await file.read(block, 0, end - start, start);
    const at = block.subarray(0, bytesRead).lastIndexOf(0x0a);
    if (at >= 0) return start + at + 1;
  }
  return 0;
}

async function compress(path: string): Promise<void> {
  const part = `${path}.gz.part`;
  await pipeline(createReadStream(path), createGzip(), createWriteStream(part, { mode: 0o640 }));
  await rename(part, `${path}.gz`);
  await rm(path);
}
