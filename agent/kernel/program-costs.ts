import { closeSync } from 'node:fs';
import type { Kernel } from './kernel.js';

/** Runs are counted for this long, this often: an average of it is as good, and costs next to nothing. In milliseconds. */
const SAMPLE_MS = 1000;
const EVERY_MS = 30_000;

export interface ProgramCost {
  readonly program: string;
  readonly runs: number;
  readonly nanoseconds: number;
}

/** Counts runs and run time of the kernel programs: in samples, and for as long as somebody wants to know. */
export class ProgramCosts {
  readonly #kernel: Pick<Kernel, 'countRuns' | 'stats'>;
  #counting: number | undefined;
  #until = 0;
  #next = 0;
  #why = '';

  constructor(kernel: Pick<Kernel, 'countRuns' | 'stats'>) {
    this.#kernel = kernel;
  }

  /** Since the programs were loaded, as far as it was counted; nothing once the programs are gone. */
  get programs(): readonly ProgramCost[] {
    return this.#kernel.stats();
  }

  /** Why nothing is counted here; empty = it is. */
  get unmeasured(): string {
    return this.#why;
  }

  /** To be called about once a second. */
  look(): void {
    const now = performance.now();
    if (now >= this.#next) {
      this.#next = now + EVERY_MS;
      this.measure(SAMPLE_MS);
    } else if (now >= this.#until) this.close();
  }

  /** Counts for as long at least. */
  measure(milliseconds: number): void {
    this.#until = Math.max(this.#until, performance.now() + milliseconds);
    if (this.#counting !== undefined || this.#why !== '') return;
    try {
      this.#counting = this.#kernel.countRuns();
    } catch (error) {
      // it takes CAP_SYS_ADMIN, which an agent in a pod does not have; kernel.bpf_stats_enabled=1 counts without
      this.#why = error instanceof Error ? error.message : String(error);
    }
  }

  close(): void {
    if (this.#counting !== undefined) closeSync(this.#counting);
    this.#counting = undefined;
  }
}
