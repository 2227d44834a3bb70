/** Who policies are about: one container, or a bare cgroup that is treated as one. */
export interface Workload {
  readonly namespace: string;
  /** The pod's name. */
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
  /** The container's name in its pod. */
  readonly container: string;
  /** Runtime's id of the container; empty for a bare cgroup. */
  readonly containerId: string;
  /** Empty when not known. */
  readonly image: string;
  /** Absolute path of the cgroup v2 directory; it may not exist yet, or not any more. */
  readonly cgroup: string;
}

/** Identity: a workload that agrees in these is the same one, whatever else changed about it. */
export function workloadKey(w: Workload): string {
  return `${w.namespace}\0${w.name}\0${w.container}\0${w.cgroup}`;
}

/** Whether they agree in everything, not in identity only. */
export function sameWorkload(a: Workload, b: Workload): boolean {
  const { labels, ...rest } = a;
  const fields = Object.keys(rest) as (keyof typeof rest)[];
  if (labels.size !== b.labels.size || fields.some((field) => a[field] !== b[field])) return false;
  return [...labels].every(([name, value]) => b.labels.get(name) === value);
}
