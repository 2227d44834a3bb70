/** What may happen now and then: `capacity` times at once, and in the long run `perSecond` times a second. */
export class TokenBucket {
  readonly #capacity: number;
  readonly #perSecond: number;
  #tokens: number;
  #at = performance.now();

  constructor(capacity: number, perSecond: number) {
    this.#capacity = capacity;
    this.#perSecond = perSecond;
    this.#tokens = capacity;
  }

  /** Takes a token if there is one. */
  take(): boolean {
    if (this.wait() > 0) return false;
    this.#tokens--;
    return true;
  }

  /** In how many milliseconds there is a token; 0 = now. */
  wait(): number {
    const now = performance.now();
    this.#tokens = Math.min(this.#capacity, this.#tokens + ((now - this.#at) / 1000) * this.#perSecond);
    this.#at = now;
    return this.#tokens >= 1 ? 0 : Math.ceil(((1 - this.#tokens) / this.#perSecond) * 1000);
  }
}
