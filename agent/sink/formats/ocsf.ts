import { basename } from 'node:path/posix';
import { VERSION } from '../../cli/version.js';
import { ATTACK_VERSION } from '../../event/attack.js';
import type { AlertRecord, BelayRecord, ExecRecord, LogRecord, ProcessRecord } from '../../event/record.js';
import {
  attackOfRecord,
  countOf,
  millisecondsOf,
  objectText,
  placeOf,
  sentenceOf,
  severityOf,
  withoutEmpty,
} from './words.js';

/** The version of the Open Cybersecurity Schema Framework whose classes these are. */
const OCSF_VERSION = '1.3.0';

/** severity_id and its caption, by a record's severity. */
const SEVERITIES = [
  [1, 1, 'Informational'],
  [3, 2, 'Low'],
  [6, 3, 'Medium'],
  [8, 4, 'High'],
  [10, 5, 'Critical'],
] as const;

/**
 * A record in OCSF: an alert is a Detection Finding (2004), what processes begin, end and become a Process Activity
 * (1007), and all else a Base Event.
 */
export function ocsf(record: BelayRecord): object {
  if (record.type === 'alert') return withoutEmpty(finding(record));
  const ofProcess = record.type === 'exec' || (record.type === 'log' && record.class === 'Process');
  return withoutEmpty(ofProcess ? activity(record) : base(record));
}

function head(record: BelayRecord, profiles: readonly string[]): object {
  const [, severity_id, severity] = SEVERITIES.find(([most]) => severityOf(record) <= most) ?? SEVERITIES[4];
  return {
    time: millisecondsOf(record),
    severity_id,
    severity,
    count: countOf(record),
    message: sentenceOf(record),
    metadata: {
      version: OCSF_VERSION,
      product: { name: 'Belay', vendor_name: 'Belay', version: VERSION },
      uid: record.id,
      sequence: Number(record.sequence),
      log_name: `belay.${record.type}`,
      profiles,
    },
  };
}

function finding(record: AlertRecord): object {
  const denied = record.verdict !== 'Passed';
  const attacks = attacksOf(record);
  const { image, labels } = placeOf(record);
  return {
    category_uid: 2,
    category_name: 'Findings',
    class_uid: 2004,
    class_name: 'Detection Finding',
    activity_id: 1,
    activity_name: 'Create',
    type_uid: 200401,
    type_name: 'Detection Finding: Create',
    ...head(record, ['container', 'host', 'security_control']),
    status_id: 1,
    status: 'New',
    is_alert: true,
    action_id: denied ? 2 : 1,
    action: denied ? 'Denied' : 'Allowed',
    disposition_id: denied ? 2 : 15,
    disposition: denied ? 'Blocked' : 'Detected',
    finding_info: {
      uid: record.id,
      title: `${record.verdict} ${record.operation}: ${record.policy ? `${record.policy}/` : ''}${record.rule}`,
      desc: sentenceOf(record),
      created_time: millisecondsOf(record),
      types: [record.class],
      analytic: {
        name: record.rule || 'rule',
        uid: String(record.ruleId),
        category: record.policy,
        type_id: 1,
        type: 'Rule',
      },
      attacks,
    },
    attacks,
    policy: { name: record.policy, uid: `${record.policyNamespace}/${record.policy}` },
    device: deviceOf(record),
    container: containerOf(record),
    evidences: [evidenceOf(record)],
    resources: [
      withoutEmpty({
        name: record.pod,
        namespace: record.namespace,
        type: record.namespace === '' ? 'Node' : 'Pod',
        labels: Object.entries(labels).map(([name, value]) => `${name}=${value}`),
      }),
    ],
    unmapped: {
      action: record.action,
      verdict: record.verdict,
      dry_run: record.dryRun,
      generation: record.generation,
      tags: record.tags,
      image,
    },
  };
}

function evidenceOf(record: AlertRecord): object {
  const { object, process } = record;
  const network = record.class === 'Network';
  return withoutEmpty({
    actor: process && { process: processOf(process), user: { uid: String(process.uid) } },
    file:
      !network && object.path
        ? { name: basename(object.path) || '/', path: object.path, type_id: 0 }
        : undefined,
    dst_endpoint: network && object.address ? { ip: object.address, port: object.port } : undefined,
    connection_info: network
      ? {
          protocol_name: object.protocol ?? object.socket,
          direction_id: record.operation === 'accept' ? 1 : 2,
        }
      : undefined,
    data: { object: objectText(object) },
  });
}

function processOf(process: ProcessRecord): object {
  const file = { name: basename(process.program) || process.comm, path: process.program, type_id: 1 };
  return withoutEmpty({
    pid: process.pid,
    tid: process.tid,
    uid: process.execId,
    name: process.comm,
    cmd_line: process.arguments.join(' '),
    file: file.name === '' ? undefined : file,
    user: { uid: String(process.uid) },
    parent_process: {
      pid: process.parent.pid,
      file: process.parent.program && {
        name: basename(process.parent.program),
        path: process.parent.program,
        type_id: 1,
      },
    },
  });
}

function attacksOf(record: AlertRecord): object[] {
  const { tactics, techniques, subtechniques } = attackOfRecord(record);
  const one = ({ id, name }: { id: string; name?: string }) => ({ uid: id, ...(name && { name }) });
  return [
    ...techniques.map((technique) => {
      const sub = subtechniques.find(({ id }) => id.startsWith(`${technique.id}.`));
      return { version: ATTACK_VERSION, technique: one(technique), ...(sub && { sub_technique: one(sub) }) };
    }),
    ...tactics.map((tactic) => ({ version: ATTACK_VERSION, tactic: one(tactic) })),
  ];
}

function deviceOf(record: BelayRecord): object {
  return { hostname: record.node, name: record.node, type_id: 1, type: 'Server' };
}

function containerOf(record: BelayRecord): object {
  const { container, containerId, image, pod } = placeOf(record);
  return {
    name: container,
    uid: containerId,
    image: image && { name: image },
    pod_uuid: undefined,
    orchestrator: pod && 'kubernetes',
  };
}

/** activity_id of class 1007, by operations of processes; for all others it has only "Other". */
const ACTIVITIES: Readonly<Record<string, readonly [number, string]>> = {
  exec: [1, 'Launch'],
  fork: [1, 'Launch'],
  exit: [2, 'Terminate'],
  setuid: [5, 'Set User ID'],
};

function activity(record: ExecRecord | LogRecord): object {
  const { process } = record;
  const operation = record.type === 'log' ? record.operation : 'exec';
  const object = record.type === 'log' ? record.object : undefined;
  const [activity_id, activity_name] = ACTIVITIES[operation] ?? [99, operation];
  const parent = process && { pid: process.parent.pid, name: basename(process.parent.program) };
  return {
    category_uid: 1,
    category_name: 'System Activity',
    class_uid: 1007,
    class_name: 'Process Activity',
    activity_id,
    activity_name,
    type_uid: 100700 + activity_id,
    type_name: `Process Activity: ${ACTIVITIES[operation] ? activity_name : 'Other'}`,
    ...head(record, ['container', 'host']),
    status_id: 1,
    status: 'Success',
    actor: { process: parent ?? { pid: 0 } },
    device: deviceOf(record),
    container: containerOf(record),
    process: process ? processOf(process) : { pid: 0 },
    exit_code: object?.exitCode,
    unmapped: object && { ...object, operation },
  };
}

function base(record: BelayRecord): object {
  const { schema: _, ...rest } = record as BelayRecord & Record<string, unknown>;
  return {
    category_uid: 0,
    category_name: 'Uncategorized',
    class_uid: 0,
    class_name: 'Base Event',
    activity_id: 99,
    activity_name: record.type,
    type_uid: 99,
    type_name: 'Base Event: Other',
    ...head(record, ['host']),
    device: deviceOf(record),
    unmapped: rest,
  };
}
