import { closeSync, createWriteStream, openSync, readSync, statSync, writeSync } from 'node:fs';
import type { Writable } from 'node:stream';
import type { BelayRecord } from '../event/record.js';

/** Lines that may wait for a slow reader before more are counted instead of kept. */
const MAX_WAITING_BYTES = 64 << 20;
/** After which a file that could not be written to is opened again. */
const RETRY_MS = 1000;

/**
 * One JSON object per line, to a file (appended), a pipe or standard output. A file has them when `flush` returns, so an
 * agent that is killed then has lost none; nobody waits for who reads a pipe. What cannot be written is counted.
 */
export class JsonLines {
  readonly #target: string;
  #file: number | undefined;
  #stream: Writable | undefined;
  #gathered = '';
  #lines = 0;
  #dropped = 0;
  /** Why it cannot be written to now, and when to try again. */
  #error: Error | undefined;
  #retryAt = 0;
  #lastError: Error | undefined;

  /** @param target a path, or `-` for standard output */
  constructor(target: string) {
    this.#target = target;
    this.#open();
  }

  get #isPath(): boolean {
    return this.#target !== '-';
  }

  #open(): void {
    this.#error = this.#stream = undefined;
    try {
      if (this.#isPath && !isPipe(this.#target)) {
        this.#file = openSync(this.#target, 'a', 0o640);
        if (endsInLine(this.#target)) writeSync(this.#file, Buffer.from('\n'));
        return;
      }
    } catch (error) {
      this.#fail(error as Error);
      return;
    }
    this.#stream = this.#isPath ? createWriteStream(this.#target, { flags: 'a' }) : process.stdout;
    this.#stream.on('error', (error) => this.#fail(error));
  }

  #fail(error: Error): void {
    this.#error = this.#lastError = error;
    this.#retryAt = performance.now() + RETRY_MS;
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  /** Final with the next `flush`. */
  write(record: BelayRecord): void {
    if (this.#error && this.#isPath && performance.now() >= this.#retryAt) this.#open();
    if (this.#error || (this.#stream?.writableLength ?? 0) > MAX_WAITING_BYTES) {
      this.#dropped++;
      return;
    }
    if (this.#lines === 0) setImmediate(() => this.flush());
    this.#gathered += `${JSON.stringify(record)}\n`;
    this.#lines++;
  }

  flush(): void {
    const lines = this.#lines;
    if (lines === 0) return;
    const bytes = Buffer.from(this.#gathered);
    this.#gathered = '';
    this.#lines = 0;
    if (this.#file === undefined) {
      this.#stream?.write(bytes, (error) => {
        if (error) this.#dropped += lines;
      });
      return;
    }
    let written = 0;
    try {
      while (written < bytes.length) written += writeSync(this.#file, bytes, written);
    } catch (error) {
      this.#fail(error as Error);
      this.#dropped += bytes.toString('latin1', written).split('\n').length - 1;
    }
  }

  /** Records that were not written since last asked, and why if that is known. */
  takeDropped(): { dropped: number; error: Error | undefined } {
    const taken = { dropped: this.#dropped, error: this.#lastError };
    this.#dropped = 0;
    this.#lastError = this.#error;
    return taken;
  }

  async close(): Promise<void> {
    this.flush();
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
    const stream = this.#stream;
    if (!this.#isPath || stream === undefined || this.#error) return;
    await new Promise<void>((resolve) => {
      stream.end(resolve);
      // instead of the end
      stream.once('error', () => resolve());
    });
  }
}

/** Whether it is something to whose reader one would wait to be let through. */
function isPipe(path: string): boolean {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat !== undefined && (stat.isFIFO() || stat.isSocket());
}

/** Whether what was written last to a file was cut off. Nothing else is opened: a pipe would take this for its reader. */
function endsInLine(path: string): boolean {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat?.isFile() || stat.size === 0) return false;
  const fd = openSync(path, 'r');
  try {
    const last = Buffer.alloc(1);
    return readSync(fd, last, 0, 1, stat.size - 1) === 1 && last[0] !== 0x0a;
  } finally {
    closeSync(fd);
  }
}
