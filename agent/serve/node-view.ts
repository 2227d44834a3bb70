import type { RunningProcess } from '../workload/processes.js';

/** What is served besides records, in the names of belay.proto; 64-bit numbers are decimal strings. */

export interface PolicyView {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly mode: string;
  readonly rules: number;
  readonly workloads: number;
  readonly state: 'in_force' | 'rejected' | 'unfit';
  readonly problems: readonly string[];
}

export interface WorkloadView {
  readonly namespace: string;
  readonly name: string;
  readonly container: string;
  readonly containerId: string;
  readonly image: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly owner?: { readonly kind: string; readonly name: string };
  readonly denied: string;
  readonly reported: string;
  readonly lost: string;
  /** Names of the policies that reach it. */
  readonly policies: readonly string[];
}

export interface HealthView {
  readonly trouble: string;
  readonly waiting: string;
  readonly version: string;
  readonly kernel: string;
  readonly node: string;
  readonly cluster: string;
}

export interface CostsView {
  readonly programs: readonly {
    readonly name: string;
    readonly runs: string;
    readonly nanoseconds: string;
  }[];
  readonly maps: readonly MapView[];
  readonly failures: Readonly<Record<string, string>>;
  /** Why runs are not counted; empty = they are. */
  readonly unmeasured: string;
}

export interface MapView {
  readonly name: string;
  readonly used: string;
  readonly capacity: string;
  readonly unit: 'entries' | 'bytes';
}

/** One node, to look at. */
export interface NodeView {
  policies(): readonly PolicyView[];
  workloads(): readonly WorkloadView[];
  /** @param container empty = all of the pod's */
  processes(namespace: string, pod: string, container: string): readonly RunningProcess[];
  health(): HealthView;
  /** @param measure count runs and time of programs from now on, for a minute at least */
  costs(measure: boolean): CostsView;
}
