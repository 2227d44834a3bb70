import { basename, dirname } from 'node:path/posix';
import type { AlertRecord, BelayRecord, LogRecord } from '../../event/record.js';
import {
  attackOfRecord,
  capabilityNames,
  countOf,
  placeOf,
  processOf,
  rfc3339,
  sentenceOf,
  severityOf,
  withoutEmpty,
} from './words.js';

/** The version of the Elastic Common Schema whose fields these are. */
const ECS_VERSION = '9.4.0';

const CATEGORIES: Readonly<Record<string, string>> = {
  Process: 'process',
  File: 'file',
  Network: 'network',
  Capabilities: 'process',
};

const FILE_TYPES: Readonly<Record<string, string>> = {
  create: 'creation',
  mkdir: 'creation',
  link: 'creation',
  symlink: 'creation',
  unlink: 'deletion',
  rmdir: 'deletion',
  open: 'access',
  receive: 'access',
};

const PROCESS_TYPES: Readonly<Record<string, string>> = {
  exec: 'start',
  fork: 'start',
  exit: 'end',
  setuid: 'change',
  setgid: 'change',
  capset: 'change',
  'exec-credentials': 'change',
};

/** A record in the Elastic Common Schema; what it has no field for is below `belay`. */
export function ecs(record: BelayRecord): object {
  const { node, cluster, namespace, pod, container, containerId, image, labels } = placeOf(record);
  return withoutEmpty({
    '@timestamp': rfc3339(record),
    ecs: { version: ECS_VERSION },
    message: sentenceOf(record),
    event: {
      id: record.id,
      sequence: Number(record.sequence),
      module: 'belay',
      dataset: `belay.${record.type}`,
      provider: 'belay',
      severity: severityOf(record),
      ...(record.type === 'alert' ? alertEvent(record) : otherEvent(record)),
    },
    host: { name: node, hostname: node },
    orchestrator: {
      type: namespace === '' ? undefined : 'kubernetes',
      namespace,
      cluster: { name: cluster },
      resource: pod === '' ? undefined : { type: namespace === '' ? 'node' : 'pod', name: pod },
    },
    container: { id: containerId, name: container, image: { name: image } },
    // a dot in a label's name would nest it
    labels: Object.fromEntries(Object.entries(labels).map(([k, v]) => [k.replaceAll('.', '_'), v])),
    ...processFields(record),
    ...(record.type === 'alert' && alertFields(record)),
    ...((record.type === 'alert' || record.type === 'log') && objectFields(record)),
    belay: {
      type: record.type,
      count: countOf(record),
      ...(record.type === 'alert' && {
        verdict: record.verdict,
        action: record.action,
        rule_id: record.ruleId,
        policy_namespace: record.policyNamespace,
        generation: record.generation,
        dry_run: record.dryRun,
      }),
      ...((record.type === 'alert' || record.type === 'log') && {
        capability: record.object.capability,
        syscall: record.object.syscall,
        unnamed: record.object.unnamed,
        pid: record.object.pid,
        pid_inside: record.object.pidInside,
        exit_signal: record.object.exitSignal,
        before: record.object.before,
        after: record.object.after,
      }),
      ...(record.type === 'gap' && { ring: record.ring }),
      ...(record.type === 'failure' && { failure: record.failure }),
      ...(record.type === 'unknown-pod' && { pod_uid: record.podUid, cgroup: record.cgroup }),
    },
  });
}

function categoryOf(record: AlertRecord | LogRecord): { category: string; type: string } {
  const category = CATEGORIES[record.class] ?? 'process';
  if (category === 'file') return { category, type: FILE_TYPES[record.operation] ?? 'change' };
  if (category === 'network') return { category, type: 'connection' };
  return { category, type: PROCESS_TYPES[record.operation] ?? 'info' };
}

function alertEvent(record: AlertRecord): object {
  const denied = record.verdict !== 'Passed';
  const { category, type } = categoryOf(record);
  return {
    kind: 'alert',
    category: ['intrusion_detection', category],
    type: [denied ? 'denied' : 'allowed', type],
    action: record.operation,
    outcome: denied ? 'failure' : 'success',
    reason: record.message,
  };
}

function otherEvent(record: BelayRecord): object {
  if (record.type === 'exec') {
    return { kind: 'event', category: ['process'], type: ['start'], action: 'exec', outcome: 'success' };
  }
  if (record.type === 'log') {
    const { category, type } = categoryOf(record);
    const outcome = 'success';
    return { kind: 'event', category: [category], type: [type], action: record.operation, outcome };
  }
  return { kind: 'event', category: ['host'], type: ['info'], action: record.type };
}

function processFields(record: BelayRecord): object {
  const process = processOf(record);
  if (process === undefined) return {};
  return {
    process: {
      entity_id: process.execId,
      pid: process.pid,
      executable: process.program,
      name: process.comm,
      args: process.arguments,
      args_count: process.arguments.length,
      command_line: process.arguments.join(' '),
      working_directory: process.cwd || undefined,
      thread: { id: process.tid, capabilities: { effective: capabilityNames(process.capabilities) } },
      interactive: process.tty !== undefined,
      parent: { pid: process.parent.pid, executable: process.parent.program },
      exit_code: record.type === 'log' ? record.object.exitCode : undefined,
    },
    user: { id: String(process.uid) },
    group: { id: String(process.gid) },
  };
}

function alertFields(record: AlertRecord): object {
  const { tactics, techniques, subtechniques } = attackOfRecord(record);
  const of = (all: readonly { id: string; name?: string }[]) => ({
    id: all.map(({ id }) => id),
    name: all.flatMap(({ name }) => name ?? []),
  });
  return {
    rule: {
      id: String(record.ruleId),
      name: record.rule,
      ruleset: record.policy,
      category: record.class,
    },
    tags: record.tags,
    threat:
      tactics.length + techniques.length > 0
        ? {
            framework: 'MITRE ATT&CK',
            tactic: of(tactics),
            technique: { ...of(techniques), subtechnique: of(subtechniques) },
          }
        : undefined,
  };
}

function objectFields(record: AlertRecord | LogRecord): object {
  const { object } = record;
  const path = object.unnamed ? undefined : object.path;
  return {
    file:
      path === undefined ? { name: object.path } : { path, name: basename(path), directory: dirname(path) },
    destination:
      record.operation === 'bind' || record.operation === 'listen' || record.operation === 'accept'
        ? undefined
        : { ip: object.address, address: object.address, port: object.port },
    source: record.operation === 'accept' ? { ip: object.address, address: object.address } : undefined,
    server:
      record.operation === 'bind' || record.operation === 'listen'
        ? { ip: object.address, port: object.port }
        : undefined,
    network: record.class === 'Network' ? { transport: object.protocol } : undefined,
    dns: object.domain === undefined ? undefined : { type: 'query', question: { name: object.domain } },
  };
}
