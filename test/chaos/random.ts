/** Numbers that look random and are the same for the same seed (xorshift32, Marsaglia 2003). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0 || 1;
    // seeds that are close to each other begin alike
    for (let i = 0; i < 16; i++) this.#next();
  }

  #next(): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return this.#state >>> 0;
  }

  /** At least `from`, less than `to`. */
  between(from: number, to: number): number {
    return from + ((to - from) * this.#next()) / 2 ** 32;
  }

  below(limit: number): number {
    return Math.floor(this.between(0, limit));
  }

  /** True once in so many times. */
  once(inTimes: number): boolean {
    return this.below(inTimes) === 0;
  }

  of<T>(all: readonly T[]): T {
    return all[this.below(all.length)];
  }

  /** Another row of numbers, so that who draws from it does not change what others draw. */
  apart(): Random {
    return new Random(this.#next());
  }
}
