import { existsSync } from 'node:fs';
import type { Logger } from 'pino';
import { type Workload, workloadKey } from './model.js';

/** Says of whose cgroups there are none, and when they come and go: a mistyped path protects nobody. */
export class Presence {
  readonly #log: Logger;
  readonly #exists: (path: string) => boolean;
  /** Whether there was a cgroup, by the workload's key. */
  #there: ReadonlyMap<string, boolean> = new Map();

  constructor(log: Logger, exists: (path: string) => boolean = existsSync) {
    this.#log = log;
    this.#exists = exists;
  }

  /** To be called with all workloads when they change, and now and then. */
  look(workloads: readonly Workload[]): void {
    const now = new Map<string, boolean>();
    for (const workload of workloads) {
      const { namespace, name, cgroup } = workload;
      const key = workloadKey(workload);
      const before = this.#there.get(key);
      const there = this.#exists(cgroup);
      now.set(key, there);
      if (there === (before ?? true)) continue;
      const what = `workload ${namespace}/${name}:`;
      if (there) this.#log.info(`${what} there is a cgroup ${cgroup} now`);
      else if (before)
        this.#log.warn(`${what} its cgroup ${cgroup} is gone; it is protected once there is one`);
      else this.#log.warn(`${what} there is no cgroup ${cgroup} yet; it is protected from when there is`);
    }
    this.#there = now;
  }
}
