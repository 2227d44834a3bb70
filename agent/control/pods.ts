import { isDeepStrictEqual } from 'node:util';
import type { KubeApi, KubeObject } from './api.js';
import { ListWatch, type Timing } from './list-watch.js';

/** What is known of a pod, however large its object is. */
export interface PodFacts {
  /** As its cgroups are named: `metadata.uid`, for static pods the hash that the kubelet gave them. */
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly annotations: ReadonlyMap<string, string>;
  readonly containers: readonly PodContainer[];
  /** The one who made it, such as a ReplicaSet. */
  readonly owner?: { readonly kind: string; readonly name: string };
  /** It has succeeded or failed: nothing of it runs any more. */
  readonly finished: boolean;
}

export interface PodContainer {
  readonly name: string;
  readonly image: string;
  readonly kind: 'container' | 'init' | 'ephemeral';
  /** The runtime's, once there is one: of the latest start. */
  readonly id?: string;
}

export interface NodePodsOptions {
  readonly api: KubeApi;
  /** The name of the node; only its pods are asked for. */
  readonly node: string;
  /** Something of interest has changed. Pods that have not are the same objects as before. */
  readonly onChange: (pods: ReadonlyMap<string, PodFacts>) => void;
  readonly timing?: Partial<Timing>;
}

/** The pods that are bound to one node, by the UID that their cgroups carry. */
export class NodePods {
  readonly #watch: ListWatch<Seen>;
  readonly #seen = new Map<string, Seen>();
  #pods: ReadonlyMap<string, PodFacts> = new Map();

  constructor({ api, node, onChange, timing }: NodePodsOptions) {
    this.#watch = new ListWatch<Seen>({
      api,
      path: '/api/v1/pods',
      fieldSelector: `spec.nodeName=${node}`,
      fromMemory: true,
      timing,
      select: (object, before) => {
        const seen = look(object as unknown as PodObject);
        return isDeepStrictEqual(seen, before) ? (before ?? seen) : seen;
      },
      onChange: (changes) => {
        for (const change of changes) {
          if (change.type === 'deleted') this.#seen.delete(change.uid);
          else this.#seen.set(change.uid, change.value);
        }
        this.#pods = byCgroup([...this.#seen.values()]);
        onChange(this.#pods);
      },
    });
  }

  /** Resolves when they have been listed once and told. */
  get synced(): Promise<void> {
    return this.#watch.synced;
  }

  get pods(): ReadonlyMap<string, PodFacts> {
    return this.#pods;
  }

  close(): void {
    this.#watch.close();
  }
}

interface Seen {
  readonly facts: PodFacts;
  /** It only shows a static pod, which the kubelet runs from a file of its own. */
  readonly mirror: boolean;
  readonly created: string;
}

interface PodObject extends KubeObject {
  readonly spec?: Readonly<
    Record<'containers' | 'initContainers' | 'ephemeralContainers', Container[] | undefined>
  >;
  readonly status?: Readonly<
    Record<'containerStatuses' | 'initContainerStatuses' | 'ephemeralContainerStatuses', Status[] | undefined>
  > & { readonly phase?: string };
}

interface Container {
  readonly name: string;
  readonly image?: string;
}

interface Status {
  readonly name: string;
  readonly containerID?: string;
}

/** Marks a mirror pod; the kubelet runs no pod that has it. */
const MIRROR = 'kubernetes.io/config.mirror';
/** Of a mirror pod: under which UID the kubelet runs it. */
const HASH = 'kubernetes.io/config.hash';

function look({ metadata, spec, status }: PodObject): Seen {
  const annotations = new Map(Object.entries(metadata.annotations ?? {}));
  const hash = annotations.has(MIRROR) ? annotations.get(HASH) : undefined;
  const owner = metadata.ownerReferences?.find(({ controller }) => controller);
  const facts: PodFacts = {
    uid: hash || metadata.uid,
    namespace: metadata.namespace ?? '',
    name: metadata.name,
    labels: new Map(Object.entries(metadata.labels ?? {})),
    annotations,
    containers: [
      ...containers('init', spec?.initContainers, status?.initContainerStatuses),
      ...containers('container', spec?.containers, status?.containerStatuses),
      ...containers('ephemeral', spec?.ephemeralContainers, status?.ephemeralContainerStatuses),
    ],
    ...(owner && { owner: { kind: owner.kind, name: owner.name } }),
    finished: status?.phase === 'Succeeded' || status?.phase === 'Failed',
  };
  return { facts, mirror: hash !== undefined, created: metadata.creationTimestamp ?? '' };
}

function containers(
  kind: PodContainer['kind'],
  specs: readonly Container[] = [],
  statuses: readonly Status[] = [],
): PodContainer[] {
  // the API has null where there is none
  const ids = new Map((statuses ?? []).map(({ name, containerID }) => [name, containerID]));
  return (specs ?? []).map(({ name, image = '' }) => {
    // containerd://0123…, cri-o://0123…
    const id = ids.get(name)?.replace(/^[^/]*:\/\//, '');
    return { name, image, kind, ...(id && { id }) };
  });
}

/**
 * Anyone who may create pods can call one a mirror of whatever they like. So it never displaces a pod that has the
 * UID by itself, nor a mirror that was there before.
 */
function byCgroup(seen: Seen[]): ReadonlyMap<string, PodFacts> {
  const order = ({ mirror, created }: Seen) => `${mirror ? 1 : 0}${created}`;
  const pods = new Map<string, PodFacts>();
  for (const { facts } of seen.sort((a, b) => order(a).localeCompare(order(b)))) {
    if (!pods.has(facts.uid)) pods.set(facts.uid, facts);
  }
  return pods;
}
