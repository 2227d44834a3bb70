import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { AlertRecord } from '../event/record.js';
import type { Enforcer } from '../kernel/enforcer.js';

/**
 * The second half of the action KillContainer: the kernel has denied the operation and killed its process; here the
 * rest of the container's processes follow, through cgroup.kill (Linux 5.14).
 */
export class ContainerKiller {
  readonly #log: Logger;

  constructor(log: Logger) {
    this.#log = log;
  }

  consider(record: AlertRecord, enforcer: Enforcer): void {
    if (record.verdict !== 'ContainerKilled') return;
    for (const workload of enforcer.workloads.values()) {
      if (
        workload.namespace !== record.namespace ||
        workload.name !== record.pod ||
        workload.container !== record.container
      ) {
        continue;
      }
      const cgroup = enforcer.cgroupOf(workload);
      if (cgroup === undefined) continue;
      try {
        writeFileSync(join(cgroup, 'cgroup.kill'), '1');
        this.#log.warn({ cgroup, rule: record.rule, policy: record.policy }, 'container killed');
      } catch (error) {
        this.#log.error({ cgroup, error }, 'cannot kill the container');
      }
    }
  }
}
