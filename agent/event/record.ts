/**
 * The `belay.v1` record, as JSON gives it; 64-bit numbers are decimal strings, as protobuf's JSON mapping has them.
 * Names are text; one that is not UTF-8 is given with U+FFFD for what is not, and whole in `…Bytes` (base64).
 * What all of them have:
 */
interface BaseRecord {
  readonly schema: 'belay.v1';
  /** Unix time, ns. */
  readonly time: string;
  /** Of this event and no other of the node's; who gets an event twice sees it by this. */
  readonly id: string;
  readonly sequence: string;
  readonly node: string;
}

/** What those have that tell of a workload. */
interface WorkloadRecord extends BaseRecord {
  readonly cluster: string;
  /** Empty for the node's own processes, whose `pod` is the node, and for pods that are not known. */
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  readonly containerId: string;
  readonly image: string;
  readonly labels: Readonly<Record<string, string>>;
  /** What the pod belongs to. */
  readonly owner?: OwnerRecord;
}

/** What a rule, or the posture, reports. */
export interface AlertRecord extends WorkloadRecord {
  readonly type: 'alert';
  /** Absent when a packet arrived and nobody acted. */
  readonly process?: ProcessRecord;
  /** Process, File, Network, Capabilities, Syscall or Escape. */
  readonly class: string;
  readonly operation: string;
  readonly object: ObjectRecord;
  /** Empty for built-in rules. */
  readonly policy: string;
  readonly policyNamespace: string;
  readonly rule: string;
  readonly ruleId: number;
  readonly generation: number;
  /** What the rule says. */
  readonly action: string;
  /** What became of the operation. */
  readonly verdict: 'Passed' | 'Denied' | 'Killed' | 'ContainerKilled';
  readonly dryRun: boolean;
  readonly severity: number;
  readonly tags: readonly string[];
  readonly message: string;
  /** How many this stands for: repeats of the same within a second are one record. */
  readonly count: string;
  readonly enforcer: 'BPF-LSM';
}

export interface OwnerRecord {
  readonly kind: string;
  readonly name: string;
}

export interface ProcessRecord {
  readonly execId: string;
  readonly pid: number;
  readonly pidInside: number;
  readonly tid: number;
  readonly uid: number;
  readonly gid: number;
  readonly program: string;
  readonly programBytes?: string;
  readonly comm: string;
  readonly arguments: readonly string[];
  readonly argumentsCut?: true;
  /** By its mounts as they are now, which rules do not go by; empty = it is about to end. `cwdCut`: the beginning is missing. */
  readonly cwd: string;
  readonly cwdBytes?: string;
  readonly cwdCut?: true;
  /** The controlling terminal, as the kernel calls it: `pts0`. */
  readonly tty?: string;
  /** Of the login that it comes from (/proc/PID/loginuid), if it does. */
  readonly loginUid?: number;
  /** Effective, as /proc/PID/status has them: 16 hexadecimal digits. */
  readonly capabilities: string;
  /** Inode numbers, as /proc/PID/ns has them. */
  readonly namespaces: {
    readonly mnt: number;
    readonly pid: number;
    readonly net: number;
    readonly user: number;
  };
  readonly parent: { readonly pid: number; readonly program: string };
  /** Above the parent, nearest first, up to the first process of its pid namespace, at most eight; absent = nobody is. */
  readonly ancestors?: readonly AncestorRecord[];
}

export interface AncestorRecord {
  readonly pid: number;
  readonly comm: string;
}

export interface ObjectRecord {
  readonly path?: string;
  readonly pathBytes?: string;
  /** It has no name: memfd, deleted and the like. */
  readonly unnamed?: true;
  readonly access?: 'read' | 'write';
  readonly socket?: string;
  readonly protocol?: string;
  readonly address?: string;
  readonly port?: number;
  readonly capability?: string;
  /** Of bpf(2), by its number in linux/bpf.h. */
  readonly command?: number;
  /** What has no path: a file system's type, a kernel module, another process's program. */
  readonly name?: string;
  /** A name that was looked up; address and port are the resolver's. */
  readonly domain?: string;
  /** Its name; by path, that of the call that does this. */
  readonly syscall?: string;
  /** Of fork: the new process. */
  readonly pid?: number;
  readonly pidInside?: number;
  /** How a process ended: by itself, or by a signal. */
  readonly exitCode?: number;
  readonly exitSignal?: number;
  /** Credentials that change. */
  readonly before?: CredentialsRecord;
  readonly after?: CredentialsRecord;
}

export interface CredentialsRecord {
  readonly uid: number;
  readonly gid: number;
  readonly effectiveUid: number;
  readonly effectiveGid: number;
  readonly savedUid: number;
  readonly savedGid: number;
  /** Capabilities as /proc/…/status has them: 16 hexadecimal digits. */
  readonly permitted: string;
  readonly effective: string;
}

/** A program started in a workload (telemetry). */
export interface ExecRecord extends WorkloadRecord {
  readonly type: 'exec';
  readonly process?: ProcessRecord;
  readonly count: string;
}

/** Something that passed in a workload where that is visible, and that no rule reports (telemetry). */
export interface LogRecord extends WorkloadRecord {
  readonly type: 'log';
  readonly process?: ProcessRecord;
  /** Process, File, Network or Capabilities. */
  readonly class: string;
  /** As of alerts; and of processes fork, exit, setuid, setgid, capset, exec-credentials. */
  readonly operation: string;
  readonly object: ObjectRecord;
  readonly count: string;
}

/** Events that were not delivered, by number: what there is instead of them. */
export interface GapRecord extends BaseRecord {
  readonly type: 'gap';
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  /**
   * Where they were lost: a ring's name, `budget` for telemetry that was left out so that there is room for other workloads',
   * `folded`, or `watch` for a client that was too slow. `throttled`: alerts that were only counted since the throttle record.
   */
  readonly ring: string;
  /** 0 = not known, as where a client comes back that does not get every record. */
  readonly lost: string;
}

/** A container has had more alerts in a second than are told of. From now on they are counted, and a gap record says how many. */
export interface ThrottleRecord extends WorkloadRecord {
  readonly type: 'throttle';
  readonly maxAlertsPerSecond: number;
  readonly throttleSeconds: number;
}

/**
 * Something failed inside the programs; bpf/event.h says which way each one fails. FAILURE_UNREADABLE: a record of theirs is none,
 * and was passed over.
 */
export interface FailureRecord extends BaseRecord {
  readonly type: 'failure';
  readonly failure: string;
  readonly count: string;
}

/** A pod that the agent does not know of has come to this node: it gets the posture for unknown pods. */
export interface UnknownPodRecord extends BaseRecord {
  readonly type: 'unknown-pod';
  readonly podUid: string;
  /** Below the hierarchy's root. */
  readonly cgroup: string;
}

export type BelayRecord =
  | AlertRecord
  | ExecRecord
  | LogRecord
  | GapRecord
  | ThrottleRecord
  | FailureRecord
  | UnknownPodRecord;
