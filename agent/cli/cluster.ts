import { release } from 'node:os';
import { basename, join } from 'node:path';
import type { Logger } from 'pino';
import { KubeApi } from '../control/api.js';
import { configOfFile, configOfPod } from '../control/kube-config.js';
import { Namespaces } from '../control/namespaces.js';
import { OwnNode } from '../control/node.js';
import { NodePods } from '../control/pods.js';
import { ClusterPolicies } from '../control/policies.js';
import { ClusterReport } from '../control/report.js';
import type { BelayRecord } from '../event/record.js';
import type { Enforcer } from '../kernel/enforcer.js';
import type { Kernel } from '../kernel/kernel.js';
import type { Postures } from '../policy/model.js';
import { containerOfCgroup } from '../workload/cgroup-names.js';
import { Cri } from '../workload/cri.js';
import { NodeWorkloads } from '../workload/kubernetes.js';
import type { Settings } from './settings.js';
import { VERSION } from './version.js';
import type { Wanted } from './wanted.js';

export interface ClusterOptions {
  /** What policies and workloads of the cluster are told as. */
  readonly source: string;
  readonly settings: Settings;
  readonly postures: Postures;
  readonly kernel: Kernel;
  readonly enforcer: Enforcer;
  readonly wanted: Wanted;
  readonly log: Logger;
}

/**
 * What a node of a cluster has, and what the API server wants of it: pods, namespaces, the runtime's containers and
 * policies go in, workloads and policies come out. The API server is told what came of it.
 */
export class ClusterFeed {
  readonly #options: ClusterOptions;
  readonly #api: KubeApi;
  readonly #pods: NodePods;
  readonly #namespaces: Namespaces;
  readonly #node: OwnNode;
  readonly #cri: Cri;
  readonly #policies: ClusterPolicies;
  readonly #workloads: NodeWorkloads;
  readonly #report: ClusterReport;
  #complete = false;

  constructor(options: ClusterOptions) {
    this.#options = options;
    const { settings, wanted, log, postures } = options;
    const kube = settings.kubeconfig === undefined ? configOfPod() : configOfFile(settings.kubeconfig);
    const api = new KubeApi(kube, log);
    this.#api = api;
    this.#workloads = new NodeWorkloads(this.#identity(settings, postures));
    const onChange = () => this.#tell();
    this.#pods = new NodePods({ api, node: settings.node, onChange });
    this.#namespaces = new Namespaces({ api, onChange });
    this.#node = new OwnNode({ api, node: settings.node, onChange });
    this.#cri = new Cri({ socket: settings.criSocket, log, onChange });
    this.#policies = new ClusterPolicies({
      api,
      log,
      postures,
      onChange: () => wanted.setPolicies(options.source, this.#policies.policies),
      // no sink can have this name
      directory: join(settings.spool, '.policies'),
    });
    this.#report = new ClusterReport({
      ...{ api, log, policies: this.#policies, enforcer: options.enforcer },
      identity: {
        ...{ node: settings.node, agentVersion: VERSION, kernel: release() },
        absentHooks: options.kernel.absent,
      },
      // outside of a pod there is no namespace of its own; this one every cluster has
      namespace: process.env.POD_NAMESPACE ?? 'kube-system',
      podUid: (namespace, name) =>
        [...this.#pods.pods.values()].find((pod) => pod.name === name && pod.namespace === namespace)?.uid,
    });
    const all = [this.#pods.synced, this.#namespaces.synced, this.#node.synced, this.#cri.attempted];
    Promise.all(all).then(() => {
      this.#complete = true;
      this.#tell();
    });
  }

  /** The kernel has made a cgroup for a pod or a container; `path` is below the hierarchy's root. */
  cgroupMade(path: string): void {
    const id = containerOfCgroup(basename(path));
    if (id !== undefined && !this.#cri.containers.has(id)) this.#cri.lookup(id);
  }

  /** How many policies are rejected; their last good versions are wanted, if there are any. */
  get rejected(): number {
    return [...this.#policies.states.values()].filter(({ accepted }) => !accepted).length;
  }

  /** What has become of the policies that the API server has. */
  get policyStates(): ClusterPolicies['states'] {
    return this.#policies.states;
  }

  get api(): KubeApi {
    return this.#api;
  }

  /** What was told has been put in force. */
  applied(): void {
    this.#report.changed();
  }

  record(record: BelayRecord): void {
    this.#report.record(record);
  }

  reconfigure(settings: Settings, postures: Postures): void {
    this.#workloads.options = this.#identity(settings, postures);
    this.#tell();
  }

  async close(): Promise<void> {
    await this.#report.close();
    this.#pods.close();
    this.#namespaces.close();
    this.#node.close();
    await this.#policies.close();
    await this.#cri.close();
  }

  #identity({ unknownPosture, hostPolicies }: Settings, postures: Postures) {
    const { POD_NAMESPACE: namespace, POD_NAME: name } = process.env;
    const exempt = namespace && name ? { namespace, name } : undefined;
    return { postures, unknown: unknownPosture, host: hostPolicies, exempt };
  }

  #tell(): void {
    if (!this.#complete) return;
    const { kernel, wanted, source } = this.#options;
    if (this.#cri.runtime !== undefined) kernel.sandboxFirst = this.#cri.runtime.name === 'containerd';
    const workloads = this.#workloads.of({
      node: this.#node.facts,
      pods: this.#pods.pods.values(),
      namespaces: this.#namespaces.namespaces,
      containers: this.#cri.containers.values(),
    });
    wanted.setWorkloads(source, workloads);
  }
}
