import { createHash } from 'node:crypto';

interface Kept<T> {
  readonly value: Promise<T>;
  /** performance.now() */
  readonly until: number;
}

/** Answers that stay good for a while, so that one who asks often costs one question; the oldest go first. */
export class Answers<T> {
  readonly #kept = new Map<string, Kept<T>>();
  readonly #size: number;

  constructor(size: number) {
    this.#size = size;
  }

  /** An answer that failed is not kept. */
  get(key: string, milliseconds: number, ask: () => Promise<T>): Promise<T> {
    const kept = this.#kept.get(key);
    if (kept !== undefined && performance.now() < kept.until) return kept.value;
    const value = ask();
    this.#kept.delete(key);
    this.#kept.set(key, { value, until: performance.now() + milliseconds });
    value.catch(() => this.#kept.delete(key));
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= this.#size) break;
      this.#kept.delete(oldest);
    }
    return value;
  }
}

/** Tokens are secrets: what is kept of one is this. */
export const digest = (token: string) => createHash('sha256').update(token).digest('base64');
