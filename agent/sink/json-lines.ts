import { closeSync, createWriteStream, openSync, readSync, statSync } from 'node:fs';
import type { Writable } from 'node:stream';
import type { BelayRecord } from '../event/record.js';

/** Lines that may wait for a slow reader before more are counted instead of kept. */
const MAX_WAITING_BYTES = 64 << 20;
/** Lines are written together, as many as come in a turn of the event loop, but not more than this at once. */
const GATHERED_CHARS = 64 << 10;
/** After which a file that could not be written to is opened again. */
const RETRY_MS = 1000;

/** One JSON object per line, to a file (appended) or standard output. What cannot be written is counted. */
export class JsonLines {
  readonly #target: string;
  #out: Writable;
  #dropped = 0;
  /** Why it cannot be written to now, and when to try again. */
  #error: Error | undefined;
  #retryAt = 0;
  #lastError: Error | undefined;
  #gathered = '';
  #lines = 0;

  /** @param target a path, or `-` for standard output */
  constructor(target: string) {
    this.#target = target;
    this.#out = this.#open();
  }

  get #isFile(): boolean {
    return this.#target !== '-';
  }

  #open(): Writable {
    const out = this.#isFile ? createWriteStream(this.#target, { flags: 'a', mode: 0o640 }) : process.stdout;
    out.on('error', (error) => {
      this.#error = this.#lastError = error;
      this.#retryAt = performance.now() + RETRY_MS;
    });
    if (this.#isFile && endsInLine(this.#target)) out.write('\n');
    return out;
  }

  write(record: BelayRecord): void {
    if (this.#error && this.#isFile && performance.now() >= this.#retryAt) {
      this.#error = undefined;
      this.#out = this.#open();
    }
    if (this.#error || this.#out.writableLength > MAX_WAITING_BYTES) {
      this.#dropped++;
      return;
    }
    if (this.#lines === 0) setImmediate(() => this.#flush());
    this.#gathered += `${JSON.stringify(record)}\n`;
    this.#lines++;
    if (this.#gathered.length >= GATHERED_CHARS) this.#flush();
  }

  #flush(): void {
    const lines = this.#lines;
    if (lines === 0) return;
    this.#out.write(this.#gathered, (error) => {
      if (error) this.#dropped += lines;
    });
    this.#gathered = '';
    this.#lines = 0;
  }

  /** Records that were not written since last asked, and why if that is known. */
  takeDropped(): { dropped: number; error: Error | undefined } {
    const taken = { dropped: this.#dropped, error: this.#lastError };
    this.#dropped = 0;
    this.#lastError = this.#error;
    return taken;
  }

  async close(): Promise<void> {
    this.#flush();
    if (this.#isFile && !this.#error)
      await new Promise<void>((resolve) => {
        this.#out.end(resolve);
        // instead of the end
        this.#out.once('error', () => resolve());
      });
  }
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
