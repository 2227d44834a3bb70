import type { Policy, Postures } from '../policy/model.js';
import type { Visibility } from './visibility.js';

/** Who policies are about: one container, or a bare cgroup that is treated as one. */
export interface Workload {
  readonly namespace: string;
  /** The pod's name; the node's for the host. */
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
  /** The container's name in its pod; empty where it is not known, and for the host. */
  readonly container: string;
  /** Runtime's id of the container; empty for a bare cgroup. */
  readonly containerId: string;
  /** Empty when not known. */
  readonly image: string;
  /** Absolute path of the cgroup v2 directory; it may not exist yet, or not any more. Empty where the place says it. */
  readonly cgroup: string;
  /** Where it is, for those that no path says. */
  readonly place?: Place;
  /** For a pod whose containers are not told apart yet: the names that they may have. */
  readonly containers?: readonly string[];
  /** What the pod belongs to. */
  readonly owner?: { readonly kind: string; readonly name: string };
  /** Where they differ from the agent's. */
  readonly postures?: Postures;
  /** Where it differs from the agent's. */
  readonly visibility?: Visibility;
  /** `audited`: every policy is a dry run. */
  readonly enforcement?: 'audited' | 'disabled';
  /** In place of those that select it. */
  readonly policies?: readonly Policy[];
}

/**
 * Where the kernel programs find a workload by themselves, in the names of cgroups.
 * - `pod`: all of a pod's containers that are not claimed by their ids.
 * - `container`: one of a pod's.
 * - `nobody`: a container whose tasks are not judged, such as a pod's sandbox.
 * - `unknown`: all pods that no workload claims.
 * - `host`: all tasks of the node that are in no pod.
 */
export type Place =
  | { readonly kind: 'pod'; readonly uid: string }
  | { readonly kind: 'container' | 'nobody'; readonly uid: string; readonly id: string }
  | { readonly kind: 'unknown' | 'host' };

/** Identity: a workload that agrees in these is the same one, whatever else changed about it. */
export function workloadKey(w: Workload): string {
  const place = w.place === undefined ? w.cgroup : placeKey(w.place);
  return `${w.namespace}\0${w.name}\0${w.container}\0${place}`;
}

export function placeKey(place: Place): string {
  if (place.kind === 'pod') return `pod:${place.uid}`;
  return 'id' in place ? `container:${place.id}` : place.kind;
}

/** Whether they agree in everything, not in identity only. */
export function sameWorkload(a: Workload, b: Workload): boolean {
  const { labels, ...rest } = a;
  const fields = Object.keys(rest) as (keyof typeof rest)[];
  if (labels.size !== b.labels.size || fields.some((field) => a[field] !== b[field])) return false;
  return [...labels].every(([name, value]) => b.labels.get(name) === value);
}
