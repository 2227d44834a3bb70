import { createWriteStream, type WriteStream } from 'node:fs';
import type { Writable } from 'node:stream';
import type { BelayRecord } from '../event/record.js';

/** Lines that may wait for a slow reader before more are counted instead of kept. */
const MAX_WAITING_BYTES = 64 << 20;

/** One JSON object per line, to a file (appended) or standard output. */
export class JsonLines {
  readonly #out: Writable;
  readonly #file: WriteStream | undefined;
  #dropped = 0;
  #error: Error | undefined;

  /** @param target a path, or `-` for standard output */
  constructor(target: string) {
    this.#file = target === '-' ? undefined : createWriteStream(target, { flags: 'a', mode: 0o640 });
    this.#out = this.#file ?? process.stdout;
    this.#out.on('error', (error) => {
      this.#error = error;
    });
  }

  write(record: BelayRecord): void {
    if (this.#error || this.#out.writableLength > MAX_WAITING_BYTES) {
      this.#dropped++;
      return;
    }
    this.#out.write(`${JSON.stringify(record)}\n`);
  }

  /** Records that were not written since last asked, and why if that is known. */
  takeDropped(): { dropped: number; error: Error | undefined } {
    const dropped = this.#dropped;
    this.#dropped = 0;
    return { dropped, error: this.#error };
  }

  async close(): Promise<void> {
    if (this.#file && !this.#error) await new Promise<void>((resolve) => this.#file?.end(resolve));
  }
}
