import { release } from 'node:os';
import type { Redactor } from '../event/redact.js';
import type { Enforcer } from '../kernel/enforcer.js';
import type { Kernel } from '../kernel/kernel.js';
import type { ProgramCosts } from '../kernel/program-costs.js';
import type { Health } from '../serve/health.js';
import type {
  CostsView,
  HealthView,
  MapView,
  NodeView,
  PolicyView,
  WorkloadView,
} from '../serve/node-view.js';
import { processesIn, type RunningProcess } from '../workload/processes.js';
import type { ClusterFeed } from './cluster.js';
import type { Settings } from './settings.js';
import { VERSION } from './version.js';
import type { Wanted } from './wanted.js';

/** Who asks for costs asks again within this time, in milliseconds. */
const MEASURE_MS = 60_000;

export interface NodeStateOptions {
  readonly settings: Settings;
  readonly kernel: Kernel;
  readonly enforcer: Enforcer;
  readonly wanted: Wanted;
  readonly health: Health;
  readonly costs: ProgramCosts;
  readonly redactor: Redactor;
  readonly cluster: () => ClusterFeed | undefined;
}

/** This agent, as those see it who are served. */
export class NodeState implements NodeView {
  readonly #options: NodeStateOptions;

  constructor(options: NodeStateOptions) {
    this.#options = options;
  }

  policies(): readonly PolicyView[] {
    const { wanted, enforcer, cluster } = this.#options;
    const { workloads, unfit } = enforcer.coverage();
    const views = new Map<string, PolicyView>();
    const keyOf = (kind: string, namespace: string, name: string) => `${kind}\0${namespace}\0${name}`;
    for (const policy of wanted.everyPolicy) {
      const { kind, namespace, name, mode, rules, at } = policy;
      const problems = unfit.filter(({ at: { file } }) => file === at.file).map(({ message }) => message);
      views.set(keyOf(kind, namespace, name), {
        ...{ kind, namespace, name, mode, problems },
        rules: rules.length,
        workloads: workloads.get(policy) ?? 0,
        state: problems.length > 0 ? 'unfit' : 'in_force',
      });
    }
    for (const { ref, accepted, diagnostics } of cluster()?.policyStates.values() ?? []) {
      if (accepted) continue;
      const { kind, namespace = '', name } = ref;
      const key = keyOf(kind, namespace, name);
      const lastGood = views.get(key) ?? { ...{ kind, namespace, name, mode: '' }, rules: 0, workloads: 0 };
      const problems = diagnostics.map(({ field, message }) => (field ? `${field}: ${message}` : message));
      views.set(key, { ...lastGood, state: 'rejected', problems });
    }
    return [...views.values()];
  }

  workloads(): readonly WorkloadView[] {
    const { kernel, enforcer } = this.#options;
    const inForce = enforcer.inForce();
    return [...enforcer.workloads].map(([id, workload]) => {
      const { denied, matched, lost } = kernel.counters(id);
      const { namespace, name, container, containerId, image, owner } = workload;
      return {
        ...{ namespace, name, container, containerId, image, owner },
        labels: Object.fromEntries(workload.labels),
        denied: denied.toString(),
        reported: matched.toString(),
        lost: lost.reduce((sum, each) => sum + each, 0n).toString(),
        policies: (inForce.get(id) ?? []).map((policy) => policy.name),
      };
    });
  }

  processes(namespace: string, pod: string, container: string): readonly RunningProcess[] {
    const { kernel, enforcer, redactor } = this.#options;
    return [...enforcer.workloads.values()].flatMap((workload) => {
      if (workload.namespace !== namespace || workload.name !== pod) return [];
      if (container !== '' && workload.container !== container) return [];
      const cgroup = enforcer.cgroupOf(workload);
      if (cgroup === undefined) return [];
      return processesIn(cgroup, kernel.bootTime).map((process) => {
        return { ...process, arguments: redactor.words(process.arguments) };
      });
    });
  }

  health(): HealthView {
    const { health, settings } = this.#options;
    const trouble = health.trouble() ?? '';
    return {
      trouble,
      waiting: trouble === '' ? (health.waiting() ?? '') : '',
      ...{ version: VERSION, kernel: release(), node: settings.node, cluster: settings.clusterName },
    };
  }

  costs(measure: boolean): CostsView {
    const { kernel, costs } = this.#options;
    if (measure) costs.measure(MEASURE_MS);
    return {
      programs: costs.programs.map(({ program, runs, nanoseconds }) => {
        return { name: program, runs: String(runs), nanoseconds: String(nanoseconds) };
      }),
      maps: this.maps(),
      failures: Object.fromEntries([...kernel.failures()].map(([name, count]) => [name, String(count)])),
      unmeasured: costs.unmeasured,
    };
  }

  maps(): readonly MapView[] {
    return this.#options.kernel.fill().map(({ map, used, capacity, unit }) => {
      return { name: map, used: String(used), capacity: String(capacity), unit };
    });
  }
}
