import { type Attack, attackOf } from '../../event/attack.js';
import type {
  AlertRecord,
  BelayRecord,
  CredentialsRecord,
  LogRecord,
  ObjectRecord,
  ProcessRecord,
} from '../../event/record.js';
import { CAPABILITIES } from '../../policy/schema/words.js';

/** What all formats say of a record, each in its own fields. */

/** Of what a record is about: absent parts are empty. */
export interface Place {
  readonly node: string;
  readonly cluster: string;
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  readonly containerId: string;
  readonly image: string;
  readonly labels: Readonly<Record<string, string>>;
}

export function placeOf(record: BelayRecord): Place {
  const known: Partial<Place> = record;
  return {
    node: record.node,
    cluster: known.cluster ?? '',
    namespace: known.namespace ?? '',
    pod: known.pod ?? '',
    container: known.container ?? '',
    containerId: known.containerId ?? '',
    image: known.image ?? '',
    labels: known.labels ?? {},
  };
}

/** Names of Kubernetes' have 253 characters at most. */
const NAME = 255;

/** A workload's name in counts and keys: `namespace/pod/container`; empty parts stay empty. */
export function workloadOf(record: BelayRecord): string {
  const { namespace = '', pod = '', container = '' }: Partial<Place> = record as Partial<Place>;
  if (!namespace && !pod && !container) return '';
  return [namespace, pod, container].map((name) => name.slice(0, NAME)).join('/');
}

export function processOf(record: BelayRecord): ProcessRecord | undefined {
  return 'process' in record ? record.process : undefined;
}

/** `CAP_CHOWN` and so on, of a set as /proc/PID/status has it; what has no name yet by its number. */
export function capabilityNames(set: string): string[] {
  const bits = BigInt(`0x${set}`);
  const names: string[] = [];
  for (let i = 0; i < 64; i++)
    if ((bits >> BigInt(i)) & 1n)
      names.push(i in CAPABILITIES ? `CAP_${CAPABILITIES[i].toUpperCase()}` : String(i));
  return names;
}

export const isDenial = (record: BelayRecord) => record.type === 'alert' && record.verdict !== 'Passed';

/** That events are missing, or will be, or that something could not be done. */
export const ofAgent = ({ type }: BelayRecord) => type === 'gap' || type === 'throttle' || type === 'failure';

/** 1 to 10, the rule's own for alerts. */
export function severityOf(record: BelayRecord): number {
  if (record.type === 'alert') return record.severity;
  if (ofAgent(record)) return 6;
  return record.type === 'unknown-pod' ? 5 : 1;
}

/** How often it happened; for a gap, how much is missing. */
export function countOf(record: BelayRecord): number {
  if (record.type === 'gap') return Number(record.lost);
  return 'count' in record ? Number(record.count) : 1;
}

export function attackOfRecord(record: BelayRecord): Attack {
  return attackOf(record.type === 'alert' ? record.tags : []);
}

export function objectText(object: ObjectRecord): string {
  if (object.capability !== undefined) return `capability ${object.capability}`;
  if (object.domain !== undefined) return object.domain;
  if (object.syscall !== undefined) return [object.syscall, object.path].filter(Boolean).join(' ');
  if (object.command !== undefined) return `command ${object.command}`;
  if (object.name !== undefined) return object.name;
  if (object.pid !== undefined) return `process ${object.pid}`;
  if (object.exitCode !== undefined) return `code ${object.exitCode}`;
  if (object.exitSignal !== undefined) return `signal ${object.exitSignal}`;
  if (object.before !== undefined && object.after !== undefined)
    return credentialsText(object.before, object.after);
  if (object.address !== undefined) {
    const host = object.address.includes(':') ? `[${object.address}]` : object.address;
    return `${object.protocol ?? object.socket ?? ''} ${host}${object.port === undefined ? '' : `:${object.port}`}`.trim();
  }
  if (object.path !== undefined) return object.path;
  const what = [
    object.protocol ?? object.socket ?? '',
    object.port === undefined ? '' : `port ${object.port}`,
  ];
  return what.filter((each) => each !== '').join(' ');
}

/** What is different, such as `uid 0 to 33, permitted 000001ffffffffff to 0000000000000000`. */
export function credentialsText(before: CredentialsRecord, after: CredentialsRecord): string {
  const names = Object.keys(after) as (keyof CredentialsRecord)[];
  return names
    .filter((name) => before[name] !== after[name])
    .map((name) => `${name} ${before[name]} to ${after[name]}`)
    .join(', ');
}

/** One sentence for people. */
export function sentenceOf(record: BelayRecord): string {
  if (record.type === 'alert') return record.message || alertSentence(record);
  const process = processOf(record);
  switch (record.type) {
    case 'exec':
      return `started ${process?.program ?? process?.comm ?? 'a program'}`;
    case 'log':
      return logSentence(record);
    case 'gap':
      return `${record.lost} events were not delivered (${record.ring})`;
    case 'throttle':
      return `more than ${record.maxAlertsPerSecond} alerts in a second; for ${record.throttleSeconds} s they are only counted`;
    case 'failure':
      return `the kernel programs failed ${record.count} times (${record.failure})`;
    case 'unknown-pod':
      return `a pod that is not known has come to the node (${record.podUid})`;
    default:
      return (record as { type: string }).type;
  }
}

function byWhom({ process }: AlertRecord | LogRecord): string {
  const actor = process?.program || process?.comm;
  return actor === undefined || actor === '' ? '' : ` by ${actor}`;
}

function alertSentence(record: AlertRecord): string {
  return `${record.verdict.toLowerCase()} ${record.operation} of ${objectText(record.object)}${byWhom(record)}`;
}

function logSentence(record: LogRecord): string {
  return `${record.operation} of ${objectText(record.object)}${byWhom(record)}`;
}

/** Unix milliseconds. */
export const millisecondsOf = (record: BelayRecord) => Number(BigInt(record.time) / 1_000_000n);

/** RFC 3339 with nine digits of the second. */
export function rfc3339(record: BelayRecord): string {
  const time = BigInt(record.time);
  const seconds = new Date(Number(time / 1_000_000_000n) * 1000).toISOString().slice(0, 19);
  return `${seconds}.${String(time % 1_000_000_000n).padStart(9, '0')}Z`;
}

/** What JSON gives for a value without its absent and empty parts. */
export function withoutEmpty(value: object): object {
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, each]) => {
      const kept =
        typeof each === 'object' && each !== null && !Array.isArray(each) ? withoutEmpty(each) : each;
      const empty =
        kept === undefined ||
        kept === '' ||
        (typeof kept === 'object' && kept !== null && Object.keys(kept).length === 0);
      return empty ? [] : [[name, kept]];
    }),
  );
}
