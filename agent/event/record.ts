import { enums, structs } from '../kernel/abi.js';
import type { Attribution } from '../kernel/enforcer.js';
import { CAPABILITIES, ESCAPES } from '../policy/schema/words.js';
import { syscallName } from '../policy/syscalls.js';
import { podOfCgroup } from '../workload/cgroup-names.js';
import type { RawEvent } from './decode.js';

/**
 * The `belay.v1` record, as JSON gives it; 64-bit numbers are decimal strings, as protobuf's JSON mapping has them.
 * Names are text; one that is not UTF-8 is given with U+FFFD for what is not, and whole in `…Bytes` (base64).
 */
export interface AlertRecord {
  readonly schema: 'belay.v1';
  readonly type: 'alert';
  /** Unix time, ns. */
  readonly time: string;
  /** Of this event and no other of the node's; who gets an event twice sees it by this. */
  readonly id: string;
  readonly sequence: string;
  readonly node: string;
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
  readonly tty: boolean;
  readonly parent: { readonly pid: number; readonly program: string };
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
export interface ExecRecord {
  readonly schema: 'belay.v1';
  readonly type: 'exec';
  readonly time: string;
  readonly id: string;
  readonly sequence: string;
  readonly node: string;
  readonly cluster: string;
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  readonly containerId: string;
  readonly image: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly owner?: OwnerRecord;
  readonly process?: ProcessRecord;
  readonly count: string;
}

/** Something that passed in a workload where that is visible, and that no rule reports (telemetry). */
export interface LogRecord {
  readonly schema: 'belay.v1';
  readonly type: 'log';
  readonly time: string;
  readonly id: string;
  readonly sequence: string;
  readonly node: string;
  readonly cluster: string;
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  readonly containerId: string;
  readonly image: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly owner?: OwnerRecord;
  readonly process?: ProcessRecord;
  /** Process, File, Network or Capabilities. */
  readonly class: string;
  /** As of alerts; and of processes fork, exit, setuid, setgid, capset, exec-credentials. */
  readonly operation: string;
  readonly object: ObjectRecord;
  readonly count: string;
}

/** Events that were not delivered, by number: what there is instead of them. */
export interface GapRecord {
  readonly schema: 'belay.v1';
  readonly type: 'gap';
  readonly time: string;
  readonly id: string;
  readonly sequence: string;
  readonly node: string;
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  /**
   * Where they were lost: a ring's name, `budget` for telemetry that was left out so that there is room for other workloads',
   * `folded`, or `watch` for a client that was too slow. `throttled`: alerts that were only counted since the throttle record.
   */
  readonly ring: string;
  /** 0 = not known. */
  readonly lost: string;
}

/** A container has had more alerts in a second than are told of. From now on they are counted, and a gap record says how many. */
export interface ThrottleRecord {
  readonly schema: 'belay.v1';
  readonly type: 'throttle';
  readonly time: string;
  readonly id: string;
  readonly sequence: string;
  readonly node: string;
  readonly cluster: string;
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  readonly containerId: string;
  readonly image: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly owner?: OwnerRecord;
  readonly maxAlertsPerSecond: number;
  readonly throttleSeconds: number;
}

/**
 * Something failed inside the programs; bpf/event.h says which way each one fails. FAILURE_UNREADABLE: a record of theirs is none,
 * and was passed over.
 */
export interface FailureRecord {
  readonly schema: 'belay.v1';
  readonly type: 'failure';
  readonly time: string;
  readonly id: string;
  readonly sequence: string;
  readonly node: string;
  readonly failure: string;
  readonly count: string;
}

/** A pod that the agent does not know of has come to this node: it gets the posture for unknown pods. */
export interface UnknownPodRecord {
  readonly schema: 'belay.v1';
  readonly type: 'unknown-pod';
  readonly time: string;
  readonly id: string;
  readonly sequence: string;
  readonly node: string;
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

const O = enums.operation;
const FLAG = enums.event_flag;
const BUILT_IN: Readonly<Record<number, string>> = {
  [enums.built_in_rule.RULE_UNNAMEABLE]: 'unnameable',
  [enums.built_in_rule.RULE_SELF_PROTECTION]: 'selfProtection',
};

/** `OPERATION_EXEC` is `exec`. */
function names(of: Readonly<Record<string, number>>, prefix: string): readonly string[] {
  const all: string[] = [];
  for (const [name, value] of Object.entries(of)) {
    all[value] = name.slice(prefix.length).toLowerCase().replaceAll('_', '-');
  }
  return all;
}

const OPERATIONS = names(enums.operation, 'OPERATION_');
const SOCKETS = names(enums.socket_kind, 'SOCKET_');
const ACTIONS = ['', 'Allow', 'Audit', 'Block', 'Kill', 'KillContainer'] as const;
const VERDICTS = ['Passed', 'Denied', 'Killed', 'ContainerKilled'] as const;
const PROTOCOLS: Readonly<Record<number, string>> = {
  1: 'icmp',
  6: 'tcp',
  17: 'udp',
  58: 'icmpv6',
  132: 'sctp',
};

const CREDENTIALS: readonly number[] = [
  ...[O.OPERATION_SETUID, O.OPERATION_SETGID, O.OPERATION_CAPSET, O.OPERATION_EXEC_CREDENTIALS],
];

function isEscape(operation: number): boolean {
  return operation >= O.OPERATION_MOUNT && operation < O.OPERATION_MOUNT + ESCAPES.length;
}

function classOf({ operation, socketKind }: RawEvent): string {
  // connecting to a unix socket's name is writing to a file
  if (operation === O.OPERATION_CONNECT && SOCKETS[socketKind] === 'kind-count') return 'File';
  if (operation === O.OPERATION_CAPABLE) return 'Capabilities';
  if (isEscape(operation)) return 'Escape';
  if (operation >= O.OPERATION_SOCKET && operation <= O.OPERATION_ACCEPT) return 'Network';
  if (operation === O.OPERATION_DNS_QUERY) return 'Network';
  if (operation === O.OPERATION_SYSCALL) return 'Syscall';
  const process: readonly number[] = [
    O.OPERATION_EXEC,
    O.OPERATION_MAP,
    O.OPERATION_SIGNAL,
    O.OPERATION_LIMIT,
    O.OPERATION_SCHEDULE,
    O.OPERATION_FORK,
    O.OPERATION_EXIT,
    ...CREDENTIALS,
  ];
  return process.includes(operation) ? 'Process' : 'File';
}

/** Bytes as text, and whether the text says all. */
function text(bytes: Buffer): { text: string; bytes?: string } {
  const decoded = bytes.toString('utf8');
  return decoded.includes('�') && !Buffer.from(decoded).equals(bytes)
    ? { text: decoded, bytes: bytes.toString('base64') }
    : { text: decoded };
}

/** RFC 5952 is for people; this is the plain form, with the longest run of zeros left to the reader. */
function address(family: number, bytes: Buffer): string | undefined {
  if (family === 2) return bytes.subarray(0, 4).join('.');
  if (family !== 10) return undefined;
  const words = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(i * 2).toString(16));
  return words.join(':').replace(/(^|:)0(:0)+(:|$)/, '::');
}

/** The kernel gives names from their end. What has no readable name has none. */
function domainOf(raw: RawEvent): string | undefined {
  if (raw.flags & FLAG.EVENT_UNNAMED) return undefined;
  return Buffer.from(raw.object).reverse().toString('latin1') || '.';
}

/** As DOMAIN_CALL has it. */
function callOf(call: Buffer): ObjectRecord {
  if (call.length < 3) return {};
  if (call[0] !== enums.call.CALL_PATH) return { syscall: syscallName(call[0], call.readUInt16BE(1)) };
  const path = text(call.subarray(2));
  return { syscall: OPERATIONS[call[1]], path: path.text, pathBytes: path.bytes };
}

/** A structure of bpf/event.h. */
function credentialsOf(bytes: Buffer): CredentialsRecord {
  const C = structs.credentials.fields;
  const word = ({ offset }: { readonly offset: number }) => bytes.readUInt32LE(offset);
  const set = ({ offset }: { readonly offset: number }) =>
    bytes.readBigUInt64LE(offset).toString(16).padStart(16, '0');
  return {
    uid: word(C.uid),
    gid: word(C.gid),
    effectiveUid: word(C.effective_uid),
    effectiveGid: word(C.effective_gid),
    savedUid: word(C.saved_uid),
    savedGid: word(C.saved_gid),
    permitted: set(C.permitted),
    effective: set(C.effective),
  };
}

/** Bytes of the object, of operations whose object is a structure. */
const STRUCTURES: Readonly<Record<number, number>> = {
  [O.OPERATION_FORK]: structs.child.size,
  [O.OPERATION_EXIT]: 4,
  ...Object.fromEntries(CREDENTIALS.map((operation) => [operation, structs.credentials_change.size])),
};

/** What is told of a process that no rule can be about; undefined = it is no such operation. */
function lifeOf({ operation, object }: RawEvent): ObjectRecord | undefined {
  const size = STRUCTURES[operation];
  if (size === undefined) return undefined;
  if (object.length < size) return {};
  if (operation === O.OPERATION_FORK) {
    const { pid, pid_inside } = structs.child.fields;
    return { pid: object.readUInt32LE(pid.offset), pidInside: object.readUInt32LE(pid_inside.offset) };
  }
  if (operation === O.OPERATION_EXIT) {
    // wait(2)
    const status = object.readUInt32LE(0);
    return status & 0x7f ? { exitSignal: status & 0x7f } : { exitCode: (status >> 8) & 0xff };
  }
  const { before, after } = structs.credentials_change.fields;
  return {
    before: credentialsOf(object.subarray(before.offset)),
    after: credentialsOf(object.subarray(after.offset)),
  };
}

function objectOf(raw: RawEvent): ObjectRecord {
  const life = lifeOf(raw);
  if (life !== undefined) return life;
  if (raw.operation === O.OPERATION_CAPABLE) {
    return { capability: CAPABILITIES[raw.capability] ?? String(raw.capability) };
  }
  if (isEscape(raw.operation)) {
    if (raw.operation === O.OPERATION_BPF) return { command: raw.capability };
    const { text: said, bytes } = text(raw.object);
    return said.startsWith('/') ? { path: said, pathBytes: bytes } : said === '' ? {} : { name: said };
  }
  if (raw.operation === O.OPERATION_SYSCALL) return callOf(raw.object);
  if (raw.family !== 0 || SOCKETS[raw.socketKind] !== 'kind-count') {
    return {
      domain: raw.operation === O.OPERATION_DNS_QUERY ? domainOf(raw) : undefined,
      socket: SOCKETS[raw.socketKind],
      protocol: PROTOCOLS[raw.protocol] ?? String(raw.protocol),
      address: address(raw.family, raw.address),
      port: raw.port === 0 && raw.family === 0 ? undefined : raw.port,
    };
  }
  const path = text(raw.object);
  return {
    path: path.text,
    pathBytes: path.bytes,
    unnamed: raw.flags & FLAG.EVENT_UNNAMED ? true : undefined,
    access: classOf(raw) === 'File' ? (raw.flags & FLAG.EVENT_WRITE ? 'write' : 'read') : undefined,
  };
}

function processOf(raw: RawEvent): ProcessRecord | undefined {
  if (raw.pid === 0) return undefined;
  const program = text(raw.program);
  const args = raw.arguments.toString('utf8').split('\0');
  if (args.at(-1) === '') args.pop();
  return {
    execId: raw.execId.toString(),
    pid: raw.pid,
    pidInside: raw.pidInside,
    tid: raw.tid,
    uid: raw.uid,
    gid: raw.gid,
    program: program.text,
    programBytes: program.bytes,
    comm: raw.comm.toString('utf8'),
    arguments: args,
    argumentsCut: raw.flags & FLAG.EVENT_ARGUMENTS_CUT ? true : undefined,
    tty: (raw.flags & FLAG.EVENT_TTY) !== 0,
    parent: { pid: raw.ppid, program: raw.parent.toString('utf8') },
  };
}

export interface RecordContext {
  readonly node: string;
  readonly cluster: string;
  /** Unix time of CLOCK_BOOTTIME 0, ns. */
  readonly bootTime: bigint;
  readonly id: string;
  readonly sequence: bigint;
}

function whose(workload: Attribution['workload'], { node, cluster }: RecordContext) {
  return {
    node,
    cluster,
    namespace: workload?.namespace ?? '',
    pod: workload?.name ?? '',
    container: workload?.container ?? '',
    containerId: workload?.containerId ?? '',
    image: workload?.image ?? '',
    labels: Object.fromEntries(workload?.labels ?? []),
    owner: workload?.owner,
  };
}

export function alertRecord(
  raw: RawEvent,
  { workload, rule }: Attribution,
  context: RecordContext,
): AlertRecord {
  return {
    schema: 'belay.v1',
    type: 'alert',
    time: (context.bootTime + raw.time).toString(),
    id: context.id,
    sequence: context.sequence.toString(),
    ...whose(workload, context),
    process: processOf(raw),
    class: classOf(raw),
    operation: OPERATIONS[raw.operation] ?? String(raw.operation),
    object: objectOf(raw),
    policy: rule?.policy ?? '',
    policyNamespace: rule?.namespace ?? '',
    // 0: the programs deny by themselves what they cannot name
    rule: BUILT_IN[raw.rule] ?? rule?.rule ?? '',
    ruleId: raw.rule,
    generation: raw.generation,
    action: ACTIONS[raw.action] ?? '',
    verdict: VERDICTS[raw.verdict] ?? 'Denied',
    dryRun: rule?.dryRun ?? false,
    severity: rule?.severity ?? 1,
    tags: rule?.tags ?? [],
    message: rule?.message ?? '',
    count: raw.count.toString(),
    enforcer: 'BPF-LSM',
  };
}

export function execRecord(raw: RawEvent, { workload }: Attribution, context: RecordContext): ExecRecord {
  return {
    schema: 'belay.v1',
    type: 'exec',
    time: (context.bootTime + raw.time).toString(),
    id: context.id,
    sequence: context.sequence.toString(),
    ...whose(workload, context),
    process: processOf(raw),
    count: raw.count.toString(),
  };
}

export function logRecord(raw: RawEvent, { workload }: Attribution, context: RecordContext): LogRecord {
  return {
    schema: 'belay.v1',
    type: 'log',
    time: (context.bootTime + raw.time).toString(),
    id: context.id,
    sequence: context.sequence.toString(),
    ...whose(workload, context),
    process: processOf(raw),
    class: classOf(raw),
    operation: OPERATIONS[raw.operation] ?? String(raw.operation),
    object: objectOf(raw),
    count: raw.count.toString(),
  };
}

export function unknownPodRecord(raw: RawEvent, cgroup: string, context: RecordContext): UnknownPodRecord {
  const uid = cgroup
    .split('/')
    .map(podOfCgroup)
    .find((found) => found !== undefined);
  return {
    schema: 'belay.v1',
    type: 'unknown-pod',
    time: (context.bootTime + raw.time).toString(),
    id: context.id,
    sequence: context.sequence.toString(),
    node: context.node,
    podUid: uid ?? '',
    cgroup,
  };
}
