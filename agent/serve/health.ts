/** The agent looks at all it looks after once a second; who has not for so long hangs. In milliseconds. */
const HANGS_MS = 30_000;
/** A ring in which records wait is read at once; one that has not been for so long is not read at all. In milliseconds. */
const UNREAD_MS = 10_000;

export interface HealthOptions {
  /** What the kernel says of programs that are to be attached and are not. */
  readonly detached: () => readonly string[];
  /** How far the kernel's rings have been read and written; none = nobody reads them. */
  readonly rings: () => readonly (readonly [read: number, written: number])[];
  /** Workloads for which the programs do not use the tables that were put in force. */
  readonly astray: () => readonly string[];
}

/** Whether the agent does its work, as far as that can be seen by looking. */
export class Health {
  readonly #options: HealthOptions;
  #looked = performance.now();
  /** When each ring was last seen to be read further, or with nothing in it; and how far it had been read. */
  #rings: readonly { readonly read: number; readonly since: number }[] = [];
  #enforces = false;

  constructor(options: HealthOptions) {
    this.#options = options;
  }

  /** It has looked after everything. To be called about once a second. */
  looked(): void {
    this.#looked = performance.now();
    this.#rings = this.#options.rings().map(([read, written], at) => {
      const before = this.#rings[at];
      return before?.read === read && read < written ? before : { read, since: this.#looked };
    });
  }

  /** Everything that was asked for has been put in force. */
  enforces(): void {
    this.#enforces = true;
  }

  /** @returns what is wrong; undefined = nothing */
  trouble(): string | undefined {
    const now = performance.now();
    const ago = now - this.#looked;
    if (ago > HANGS_MS) return `the agent has not looked after its workloads for ${seconds(ago)} s`;
    const detached = this.#options.detached();
    if (detached.length > 0) return `programs are not attached: ${detached.join(', ')}`;
    const astray = this.#options.astray().length;
    // not which: also those are told who may not see them
    if (astray > 0)
      return `the kernel does not use the policies that were put in force for ${astray} workload${astray === 1 ? '' : 's'}`;
    const rings = this.#options.rings();
    if (this.#enforces && rings.length === 0) return 'events are not read';
    const unread = rings.flatMap(([read, written], at) => {
      const seen = this.#rings[at];
      return seen?.read === read && read < written && now - seen.since > UNREAD_MS ? [now - seen.since] : [];
    });
    if (unread.length > 0)
      return `events have waited for ${seconds(Math.max(...unread))} s without being read`;
    return undefined;
  }

  /** @returns why not everything is in force; undefined = it is */
  waiting(): string | undefined {
    return this.#enforces ? this.trouble() : 'not everything has been put in force yet';
  }
}

const seconds = (milliseconds: number) => Math.round(milliseconds / 1000);
