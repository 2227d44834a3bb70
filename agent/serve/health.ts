/** The agent looks at all it looks after once a second; who has not for so long hangs. In milliseconds. */
const HANGS_MS = 30_000;

export interface HealthOptions {
  /** Takes what is in the rings; throws if they cannot be read. */
  readonly drain: () => void;
}

/** Whether the agent does its work, as far as that can be seen by looking. */
export class Health {
  readonly #options: HealthOptions;
  #looked = performance.now();
  #enforces = false;

  constructor(options: HealthOptions) {
    this.#options = options;
  }

  /** It has looked after everything. To be called about once a second. */
  looked(): void {
    this.#looked = performance.now();
  }

  /** Everything that was asked for has been put in force. */
  enforces(): void {
    this.#enforces = true;
  }

  /** @returns what is wrong; undefined = nothing */
  trouble(): string | undefined {
    const ago = performance.now() - this.#looked;
    if (ago > HANGS_MS) return `the agent has not looked after its workloads for ${Math.round(ago / 1000)} s`;
    try {
      this.#options.drain();
    } catch (error) {
      return `events cannot be read: ${error instanceof Error ? error.message : String(error)}`;
    }
    return undefined;
  }

  /** @returns why not everything is in force; undefined = it is */
  waiting(): string | undefined {
    return this.#enforces ? this.trouble() : 'not everything has been put in force yet';
  }
}
