import { enums, structs } from '../kernel/abi.js';
import type { Attribution } from '../kernel/enforcer.js';
import { CAPABILITIES, ESCAPES } from '../policy/schema/words.js';
import { syscallName } from '../policy/syscalls.js';
import { podOfCgroup } from '../workload/cgroup-names.js';
import type { RawEvent } from './decode.js';
import type {
  AlertRecord,
  AncestorRecord,
  BelayRecord,
  CredentialsRecord,
  ExecRecord,
  LogRecord,
  ObjectRecord,
  ProcessRecord,
  UnknownPodRecord,
} from './record.js';

/** Records of what the kernel tells, in the form that record.ts gives them. */

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
  const cwd = text(raw.cwd);
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
    cwd: cwd.text,
    cwdBytes: cwd.bytes,
    cwdCut: raw.flags & FLAG.EVENT_CWD_CUT ? true : undefined,
    tty: raw.tty.length > 0 ? raw.tty.toString('utf8') : undefined,
    loginUid: raw.loginUid === NO_LOGIN ? undefined : raw.loginUid,
    capabilities: raw.capabilities.toString(16).padStart(16, '0'),
    namespaces: {
      mnt: raw.mountNamespace,
      pid: raw.pidNamespace,
      net: raw.networkNamespace,
      user: raw.userNamespace,
    },
    parent: { pid: raw.ppid, program: raw.parent.toString('utf8') },
    ancestors: raw.ancestors.length > 0 ? ancestorsOf(raw.ancestors) : undefined,
  };
}

const NO_LOGIN = 2 ** 32 - 1;

/** Structures of bpf/event.h. */
function ancestorsOf(bytes: Buffer): AncestorRecord[] {
  const { size, fields } = structs.ancestor;
  const all: AncestorRecord[] = [];
  for (let at = 0; at + size <= bytes.length; at += size) {
    const comm = bytes.toString('utf8', at + fields.comm.offset, at + fields.comm.offset + fields.comm.size);
    all.push({ pid: bytes.readUInt32LE(at + fields.pid.offset), comm: comm.split('\0', 1)[0] });
  }
  return all;
}

export interface RecordContext {
  readonly node: string;
  readonly cluster: string;
  /** Unix time of CLOCK_BOOTTIME 0, ns. */
  readonly bootTime: bigint;
  readonly id: string;
  readonly sequence: bigint;
}

/**
 * A record of a workload: what all of those have, then what is its own. That order is quick; V8 takes tens of microseconds to go on
 * with an object that begins as a copy of another.
 */
function record<T extends BelayRecord['type'], Own extends object>(
  type: T,
  raw: RawEvent,
  workload: Attribution['workload'],
  { node, cluster, bootTime, id, sequence }: RecordContext,
  own: Own,
) {
  return {
    schema: 'belay.v1' as const,
    type,
    time: (bootTime + raw.time).toString(),
    id,
    sequence: sequence.toString(),
    node,
    cluster,
    namespace: workload?.namespace ?? '',
    pod: workload?.name ?? '',
    container: workload?.container ?? '',
    containerId: workload?.containerId ?? '',
    image: workload?.image ?? '',
    labels: Object.fromEntries(workload?.labels ?? []),
    owner: workload?.owner,
    ...own,
  };
}

export function alertRecord(
  raw: RawEvent,
  { workload, rule }: Attribution,
  context: RecordContext,
): AlertRecord {
  return record('alert', raw, workload, context, {
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
  });
}

export function execRecord(raw: RawEvent, { workload }: Attribution, context: RecordContext): ExecRecord {
  return record('exec', raw, workload, context, {
    process: processOf(raw),
    count: raw.count.toString(),
  });
}

export function logRecord(raw: RawEvent, { workload }: Attribution, context: RecordContext): LogRecord {
  return record('log', raw, workload, context, {
    process: processOf(raw),
    class: classOf(raw),
    operation: OPERATIONS[raw.operation] ?? String(raw.operation),
    object: objectOf(raw),
    count: raw.count.toString(),
  });
}

export function unknownPodRecord(raw: RawEvent, cgroup: string, context: RecordContext): UnknownPodRecord {
  const uid = cgroup
    .split('/')
    .map(podOfCgroup)
    .find((found) => found !== undefined);
  // of no workload
  const { schema, type, time, id, sequence, node } = record('unknown-pod', raw, undefined, context, {});
  return { schema, type, time, id, sequence, node, podUid: uid ?? '', cgroup };
}
