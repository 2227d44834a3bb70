import type {
  AlertRecord,
  BelayRecord,
  ExecRecord,
  LogRecord,
  ObjectRecord,
  ProcessRecord,
  ThrottleRecord,
} from './record.js';

/**
 * A record as KubeArmor's clients know it: the fields and the values of its `feeder.Alert` and `feeder.Log`, the same in
 * its protobuf and its JSON. What Belay does not know (hashes, the user's name) is left out.
 */
interface Common {
  /** Unix time, seconds. */
  readonly Timestamp: number;
  /** RFC 3339 with microseconds. */
  readonly UpdatedTime: string;
  readonly ClusterName: string;
  readonly HostName: string;
  readonly NamespaceName: string;
  readonly Owner?: { readonly Ref: string; readonly Name: string; readonly Namespace: string };
  readonly PodName: string;
  /** `k=v,k=v`, by key. */
  readonly Labels: string;
  readonly ContainerID: string;
  readonly ContainerName: string;
  readonly ContainerImage: string;
  readonly HostPPID: number;
  readonly HostPID: number;
  readonly PPID: number;
  readonly PID: number;
  readonly UID: number;
  readonly ParentProcessName: string;
  readonly ProcessName: string;
  readonly Source: string;
  readonly Operation: string;
  readonly Data: string;
  readonly Result: 'Passed' | 'Permission denied';
  readonly Cwd: string;
  readonly TTY: string;
  readonly ExecEvent?: { readonly ExecID: string; readonly ExecutableName: string };
  readonly NodeID: string;
}

export interface KubeArmorAlert extends Common {
  readonly Resource: string;
  readonly PolicyName: string;
  readonly Severity: string;
  /** Joined by commas; `ATags` has them one by one. */
  readonly Tags: string;
  readonly ATags: readonly string[];
  readonly Message: string;
  readonly Type: 'MatchedPolicy' | 'MatchedHostPolicy';
  readonly Enforcer: 'BPFLSM';
  readonly Action: string;
}

export interface KubeArmorLog extends Common {
  readonly Resource?: string;
  readonly Type: 'ContainerLog' | 'HostLog';
}

/** That a container's alerts are dropped from now on. */
export interface KubeArmorThreshold extends Omit<Common, keyof ReturnType<typeof idsOf> | Names | 'Data'> {
  readonly Type: 'SystemEvent';
  readonly Operation: 'AlertThreshold';
  readonly Enforcer: 'BPFLSM';
  readonly Result: 'Passed';
  readonly MaxAlertsPerSec: number;
  /** Seconds. */
  readonly DroppingAlertsInterval: number;
}
type Names = 'ParentProcessName' | 'ProcessName' | 'Source';

/** Settings that say what its clients are given. */
export interface KubeArmorSettings {
  /** Logs of processes without their Resource, which has the command's arguments. */
  readonly dropResourceFromProcessLogs: boolean;
}

const WHOLE: KubeArmorSettings = { dropResourceFromProcessLogs: false };

/** The LSM hook that KubeArmor names for an operation. */
const HOOKS: Readonly<Record<string, string>> = {
  exec: 'SECURITY_BPRM_CHECK',
  map: 'SECURITY_BPRM_CHECK',
  open: 'FILE_OPEN',
  receive: 'FILE_OPEN',
  create: 'FILE_MKNOD',
  unlink: 'FILE_UNLINK',
  rename: 'FILE_RENAME',
  link: 'FILE_LINK',
  symlink: 'FILE_SYMLINK',
  mkdir: 'FILE_MKDIR',
  rmdir: 'FILE_RMDIR',
  chmod: 'FILE_CHMOD',
  truncate: 'FILE_TRUNCATE',
  socket: 'SOCKET_CREATE',
  accept: 'SOCKET_ACCEPT',
  capable: 'CAPABLE',
  'dns-query': 'DNS_QUERY',
};

const hookOf = (operation: string, of: string) =>
  HOOKS[operation] ?? `${of === 'Network' ? 'SOCKET' : 'FILE'}_${operation.toUpperCase()}`;

/** Killed or denied, KubeArmor's clients know one word for it. */
const ACTIONS: Readonly<Record<string, string>> = { Kill: 'Block', KillContainer: 'Block' };

/** An alert of KubeArmor's, for what is one; pure. */
export function kubeArmorAlert(record: AlertRecord): KubeArmorAlert {
  const { process, class: of } = record;
  const resource = resourceOf(record.object, of);
  const program = process?.program ?? '';
  // of an exec, the program is the one that is asked for, and its parent is who asks
  const [name, parent] = of === 'Process' ? [resource, program] : [program, process?.parent.program ?? ''];
  return {
    ...commonOf(record, record.owner),
    ...idsOf(process),
    ParentProcessName: parent,
    ProcessName: name,
    PolicyName: record.policy || (record.rule === '' ? '' : 'DefaultPosture'),
    Severity: String(record.severity),
    Tags: record.tags.join(','),
    ATags: record.tags,
    Message: record.message,
    Type: isHost(record) ? 'MatchedHostPolicy' : 'MatchedPolicy',
    Source: program,
    Operation: of,
    Resource: resource,
    Data: dataOf(record, resource),
    Enforcer: 'BPFLSM',
    Action: actionOf(record),
    Result: record.verdict === 'Passed' ? 'Passed' : 'Permission denied',
  };
}

function dataOf(
  { class: of, operation, object: { syscall, domain } }: AlertRecord | LogRecord,
  resource: string,
) {
  const data =
    syscall === undefined
      ? `lsm=${hookOf(operation, of)}${domain === undefined ? '' : ` domain=${domain}`}`
      : `syscall=SYS_${syscall.toUpperCase()}`;
  return of === 'Network' || of === 'Capabilities' ? `${data} ${resource}` : data;
}

/** The system call by which a process does what no hook is named for. */
const CALLS: Readonly<Record<string, string>> = {
  fork: 'SYS_CLONE',
  exit: 'SYS_EXIT_GROUP',
  setuid: 'SYS_SETUID',
  setgid: 'SYS_SETGID',
  capset: 'SYS_CAPSET',
  'exec-credentials': 'SYS_EXECVE',
};

/** A log of KubeArmor's, for what is visible; pure. */
export function kubeArmorLog(record: ExecRecord | LogRecord, settings = WHOLE): KubeArmorLog {
  const log = wholeLog(record);
  if (log.Operation !== 'Process' || !settings.dropResourceFromProcessLogs) return log;
  const { Resource: _, ...rest } = log;
  return rest;
}

function wholeLog(record: ExecRecord | LogRecord): KubeArmorLog {
  const { process } = record;
  if (record.type === 'log') {
    const call = CALLS[record.operation];
    const resource = call === undefined ? resourceOf(record.object, record.class) : (process?.program ?? '');
    return {
      ...commonOf(record, record.owner),
      ...idsOf(process),
      ParentProcessName: process?.parent.program ?? '',
      ProcessName: process?.program ?? '',
      Type: isHost(record) ? 'HostLog' : 'ContainerLog',
      Source: process?.program ?? '',
      Operation: record.class,
      Resource: resource,
      Data: call === undefined ? dataOf(record, resource) : `syscall=${call}`,
      Result: 'Passed',
    };
  }
  const [, ...words] = process?.arguments ?? [];
  return {
    ...commonOf(record, record.owner),
    ...idsOf(process),
    ParentProcessName: process?.parent.program ?? '',
    ProcessName: process?.program ?? '',
    Type: isHost(record) ? 'HostLog' : 'ContainerLog',
    Source: process?.parent.program ?? '',
    Operation: 'Process',
    Resource: [process?.program ?? '', ...words].join(' '),
    Data: 'syscall=SYS_EXECVE',
    Result: 'Passed',
  };
}

export function kubeArmorThreshold(record: ThrottleRecord): KubeArmorThreshold {
  return {
    ...commonOf(record, record.owner),
    Type: 'SystemEvent',
    Operation: 'AlertThreshold',
    Enforcer: 'BPFLSM',
    Result: 'Passed',
    MaxAlertsPerSec: record.maxAlertsPerSecond,
    DroppingAlertsInterval: record.throttleSeconds,
  };
}

/** Undefined for what KubeArmor has no form for, as gaps. */
export function kubeArmorOf(
  record: BelayRecord,
  settings = WHOLE,
): KubeArmorAlert | KubeArmorThreshold | KubeArmorLog | undefined {
  if (record.type === 'alert') return kubeArmorAlert(record);
  if (record.type === 'throttle') return kubeArmorThreshold(record);
  return record.type === 'exec' || record.type === 'log' ? kubeArmorLog(record, settings) : undefined;
}

const isHost = ({ namespace, pod }: { namespace: string; pod: string }) => namespace === '' && pod !== '';

function commonOf(
  record: AlertRecord | ExecRecord | LogRecord | ThrottleRecord,
  owner: AlertRecord['owner'],
) {
  const host = isHost(record);
  const time = BigInt(record.time);
  const labels = Object.entries(record.labels).map(([name, value]) => `${name}=${value}`);
  return {
    Timestamp: Number(time / 1_000_000_000n),
    UpdatedTime: microseconds(time),
    ClusterName: record.cluster,
    HostName: record.node,
    NamespaceName: record.namespace,
    ...(owner && { Owner: { Ref: owner.kind, Name: owner.name, Namespace: record.namespace } }),
    PodName: host ? '' : record.pod,
    Labels: labels.sort().join(','),
    ContainerID: record.containerId,
    ContainerName: record.container,
    ContainerImage: record.image,
    NodeID: record.node,
  };
}

function microseconds(time: bigint): string {
  const milliseconds = new Date(Number(time / 1_000_000n)).toISOString().slice(0, -1);
  return `${milliseconds}${String((time / 1000n) % 1000n).padStart(3, '0')}Z`;
}

function idsOf(process: ProcessRecord | undefined) {
  return {
    HostPPID: process?.parent.pid ?? 0,
    HostPID: process?.pid ?? 0,
    // of the parent, only the node's number is known
    PPID: process?.parent.pid ?? 0,
    PID: process?.pidInside ?? 0,
    UID: process?.uid ?? 0,
    Cwd: process?.cwd ?? '',
    TTY: process?.tty ?? '',
    ...(process && { ExecEvent: { ExecID: process.execId, ExecutableName: process.comm } }),
  };
}

function resourceOf(object: ObjectRecord, of: string): string {
  if (of === 'Capabilities') return `CAP_${(object.capability ?? '').toUpperCase()}`;
  if (of !== 'Network') return object.path ?? '';
  if (object.domain !== undefined) return object.domain;
  const protocol = (object.protocol ?? object.socket ?? '').toUpperCase();
  if (object.address !== undefined)
    return `remoteip=${object.address} port=${object.port ?? 0} protocol=${protocol}`;
  return object.port === undefined ? `protocol=${protocol}` : `port=${object.port} protocol=${protocol}`;
}

function actionOf({ action, verdict, dryRun, rule }: AlertRecord): string {
  const known = ACTIONS[action] ?? action;
  if (dryRun) return `Audit (${known})`;
  // a posture that lets pass is told of like an Audit rule
  return rule === 'DefaultPosture' && verdict === 'Passed' ? 'Audit' : known;
}
