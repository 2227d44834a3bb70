import type { Policy, Posture, Postures } from '../policy/model.js';
import { readPolicies } from '../policy/read.js';
import type { Workload } from './model.js';
import { NOTHING_VISIBLE, type Visibility, visibilityOf } from './visibility.js';

/** A pod of this node. */
export interface PodFacts {
  /** As cgroups name it: metadata.uid, for static pods the annotation kubernetes.io/config.hash. */
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly annotations: ReadonlyMap<string, string>;
  readonly containers: readonly {
    readonly name: string;
    readonly image: string;
    /** The runtime's, without its scheme; absent until kubelet has reported it. */
    readonly id?: string;
  }[];
  readonly owner?: { readonly kind: string; readonly name: string };
  /** It has succeeded or failed: nothing of it runs any more. */
  readonly finished?: boolean;
}

export interface NamespaceFacts {
  readonly annotations: ReadonlyMap<string, string>;
}

/** A container of the runtime's. */
export interface ContainerFacts {
  readonly id: string;
  readonly podUid: string;
  readonly name: string;
  readonly image: string;
  /** It holds the pod's namespaces and runs nothing of the pod's. */
  readonly sandbox: boolean;
}

export interface NodeFacts {
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
}

export interface Cluster {
  readonly node: NodeFacts;
  readonly pods: Iterable<PodFacts>;
  readonly namespaces: ReadonlyMap<string, NamespaceFacts>;
  readonly containers: Iterable<ContainerFacts>;
}

export interface KubernetesOptions {
  readonly postures: Postures;
  /** For pods that the API server has not told of yet. */
  readonly unknown: Posture;
  /** Whether the node's own processes are a workload. */
  readonly host: boolean;
  /** The pod that must never be judged: the agent's own. */
  readonly exempt?: { readonly namespace: string; readonly name: string };
}

/** Workloads, and what they were made from. */
type Made = Map<string, { readonly from: readonly unknown[]; readonly workloads: readonly Workload[] }>;

/**
 * Who there is on a node of a cluster. Each pod is a workload, which all of its containers are until they are told apart;
 * each container that is told apart is one; so are the pods that are not known, and the node itself. What has not
 * changed since the last time is the same object.
 */
export class NodeWorkloads {
  #options: KubernetesOptions;
  #made: Made = new Map();

  constructor(options: KubernetesOptions) {
    this.#options = options;
  }

  set options(options: KubernetesOptions) {
    this.#options = options;
    this.#made.clear();
  }

  of({ node, pods, namespaces, containers }: Cluster): Workload[] {
    const byPod = new Map<string, ContainerFacts[]>();
    for (const container of containers) {
      const found = byPod.get(container.podUid);
      if (found) found.push(container);
      else byPod.set(container.podUid, [container]);
    }
    const options = this.#options;
    const made: Made = new Map();
    const once = (key: string, from: readonly unknown[], make: () => readonly Workload[]) => {
      const before = this.#made.get(key);
      const same = before?.from.length === from.length && from.every((each, i) => each === before.from[i]);
      made.set(key, before !== undefined && same ? before : { from, workloads: make() });
    };
    once('unknown', [], () => [unknownPods(options.unknown)]);
    if (options.host) once('host', [node], () => [host(node, options)]);
    for (const pod of pods) {
      if (pod.finished) continue;
      const namespace = namespaces.get(pod.namespace);
      const running = byPod.get(pod.uid) ?? [];
      once(pod.uid, [pod, namespace, ...running], () => workloadsOf(pod, namespace, running, options));
    }
    this.#made = made;
    return [...made.values()].flatMap(({ workloads }) => workloads);
  }
}

function workloadsOf(
  pod: PodFacts,
  namespace: NamespaceFacts | undefined,
  running: readonly ContainerFacts[],
  options: KubernetesOptions,
): Workload[] {
  const { exempt } = options;
  const exempted = exempt?.namespace === pod.namespace && exempt.name === pod.name;
  const common = {
    namespace: pod.namespace,
    name: pod.name,
    labels: pod.labels,
    cgroup: '',
    owner: pod.owner,
    postures: posturesOf(namespace, options),
    visibility: visibilityOfPod(pod, namespace),
    enforcement: exempted ? ('disabled' as const) : enforcementOf(pod),
  };
  const whole: Workload = {
    ...common,
    container: '',
    containerId: '',
    image: '',
    place: { kind: 'pod', uid: pod.uid },
    containers: pod.containers.map(({ name }) => name),
  };
  // the runtime knows a container first; the API server also tells of those that the runtime does not answer for
  const known = new Map<string, { name: string; image: string; sandbox: boolean }>();
  for (const { id, name, image } of pod.containers) if (id) known.set(id, { name, image, sandbox: false });
  for (const { id, name, image, sandbox } of running) known.set(id, { name, image, sandbox });
  const each = [...known].map(([id, { name, image, sandbox }]): Workload => {
    const kind = sandbox ? 'nobody' : 'container';
    return {
      ...common,
      container: name,
      containerId: id,
      image: pod.containers.find((c) => c.name === name)?.image || image,
      place: { kind, uid: pod.uid, id },
    };
  });
  return [whole, ...each];
}

const POSTURED = ['file', 'network', 'capabilities'] as const;

/**
 * `belay-file-posture: block`, or KubeArmor's `kubearmor-file-posture`; what says neither is as if it were not there. A
 * namespace that the API server has not told of yet may say it, and counts as what pods do that are not known.
 */
function posturesOf(
  namespace: NamespaceFacts | undefined,
  { postures: defaults, unknown }: KubernetesOptions,
): Postures {
  if (namespace === undefined && unknown === 'block')
    return { file: 'block', network: 'block', capabilities: 'block' };
  const read = (of: (typeof POSTURED)[number]): Posture => {
    for (const prefix of ['belay', 'kubearmor']) {
      const value = namespace?.annotations.get(`${prefix}-${of}-posture`);
      if (value === 'audit' || value === 'block') return value;
    }
    return defaults[of];
  };
  return { file: read('file'), network: read('network'), capabilities: read('capabilities') };
}

/** `belay-policy: enabled | audited | disabled`, or KubeArmor's `kubearmor-policy`. */
function enforcementOf({ annotations }: PodFacts): Workload['enforcement'] {
  const value = annotations.get('belay-policy') ?? annotations.get('kubearmor-policy');
  return value === 'audited' || value === 'disabled' ? value : undefined;
}

/** `belay-visibility: process,file,network,capabilities`, or KubeArmor's `kubearmor-visibility`: the pod's, else its namespace's. */
function visibilityOfPod(pod: PodFacts, namespace: NamespaceFacts | undefined): Visibility | undefined {
  for (const annotations of [pod.annotations, namespace?.annotations]) {
    const value = annotations?.get('belay-visibility') ?? annotations?.get('kubearmor-visibility');
    if (value !== undefined) return visibilityOf(value);
  }
  return undefined;
}

const NOTHING_STARTS = `
apiVersion: security.belay.dev/v1
kind: ClusterWorkloadPolicy
metadata: {name: unknown-pod}
spec:
  message: this pod is not known yet
  process: {matchDirectories: [{dir: /, recursive: true}]}
`;
const REFUSAL: readonly Policy[] = readPolicies(NOTHING_STARTS, 'unknown-pod').policies;

function unknownPods(posture: Posture): Workload {
  return {
    namespace: '',
    name: '',
    labels: new Map(),
    container: '',
    containerId: '',
    image: '',
    cgroup: '',
    place: { kind: 'unknown' },
    policies: posture === 'block' ? REFUSAL : [],
  };
}

function host(node: NodeFacts, { postures }: KubernetesOptions): Workload {
  return {
    namespace: '',
    name: node.name,
    labels: node.labels,
    container: '',
    containerId: '',
    image: '',
    cgroup: '',
    place: { kind: 'host' },
    postures,
    // the node's own processes are not the workloads that people want to look into
    visibility: NOTHING_VISIBLE,
  };
}
