import { closeSync, createWriteStream, openSync, readSync, type Stats, statSync, writeSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BelayRecord } from '../event/record.js';
import { safeJson } from '../event/safe-json.js';
import { Pipe } from './pipe.js';

/** Lines that may wait for a slow reader before more are counted instead of kept. */
const MAX_WAITING_BYTES = 64 << 20;
/** After which a file that could not be written to is opened again. */
const RETRY_MS = 1000;
/** How long the end waits for a slow reader. */
const CLOSE_MS = 2000;
const LOOK_MS = 10;

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
  /** Lines that the stream has and that nobody has taken yet. */
  #waiting = 0;
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
    let stat: Stats | undefined;
    try {
      stat = this.#isPath ? statSync(this.#target, { throwIfNoEntry: false }) : undefined;
      // all else may keep who writes to it waiting
      if (this.#isPath && (stat === undefined || stat.isFile())) {
        this.#file = openSync(this.#target, 'a', 0o640);
        if (stat !== undefined && endsInLine(this.#target, stat.size))
          writeSync(this.#file, Buffer.from('\n'));
        return;
      }
    } catch (error) {
      this.#fail(error as Error);
      return;
    }
    if (!this.#isPath) this.#stream = process.stdout;
    else if (stat?.isFIFO()) this.#stream = new Pipe(this.#target);
    else this.#stream = createWriteStream(this.#target, { flags: 'a' });
    this.#stream.on('error', (error) => this.#fail(error));
  }

  #fail(error: Error): void {
    this.#error = this.#lastError = error;
    this.#retryAt = performance.now() + RETRY_MS;
    this.#closeFile();
  }

  #closeFile(): void {
    const file = this.#file;
    this.#file = undefined;
    try {
      if (file !== undefined) closeSync(file);
    } catch {
      // it is closed all the same
    }
  }

  /** Final with the next `flush`. */
  write(record: BelayRecord): void {
    if (this.#error && this.#isPath && performance.now() >= this.#retryAt) this.#open();
    if (this.#error || (this.#stream?.writableLength ?? 0) > MAX_WAITING_BYTES) {
      this.#dropped++;
      return;
    }
    if (this.#lines === 0) setImmediate(() => this.flush());
    this.#gathered += `${safeJson(record)}\n`;
    this.#lines++;
  }

  flush(): void {
    const lines = this.#lines;
    if (lines === 0) return;
    const bytes = Buffer.from(this.#gathered);
    this.#gathered = '';
    this.#lines = 0;
    if (this.#file === undefined) {
      if (this.#stream === undefined) this.#dropped += lines;
      else this.#waiting += lines;
      this.#stream?.write(bytes, (error) => {
        // `close` may have counted them
        const own = Math.min(lines, this.#waiting);
        this.#waiting -= own;
        if (error) this.#dropped += own;
      });
      return;
    }
    let written = 0;
    try {
      while (written < bytes.length) written += writeSync(this.#file, bytes, written);
    } catch (error) {
      this.#dropped += bytes.toString('latin1', written).split('\n').length - 1;
      this.#fail(error as Error);
    }
  }

  /** Records that were not written since last asked, and why if that is known. */
  takeDropped(): { dropped: number; error: Error | undefined } {
    const taken = { dropped: this.#dropped, error: this.#lastError };
    this.#dropped = 0;
    this.#lastError = this.#error;
    return taken;
  }

  /** Waits for a slow reader, though not for long; what is left is dropped. */
  async close(): Promise<void> {
    this.flush();
    this.#closeFile();
    const until = performance.now() + CLOSE_MS;
    while (this.#waiting > 0 && performance.now() < until) await sleep(LOOK_MS);
    this.#dropped += this.#waiting;
    this.#waiting = 0;
    if (this.#isPath) this.#stream?.destroy();
  }
}

/** Whether what was written last to a file was cut off. */
function endsInLine(path: string, size: number): boolean {
  if (size === 0) return false;
  const fd = openSync(path, 'r');
  try {
    const last = Buffer.alloc(1);
    return readSync(fd, last, 0, 1, size - 1) === 1 && last[0] !== 0x0a;
  } finally {
    closeSync(fd);
  }
}
