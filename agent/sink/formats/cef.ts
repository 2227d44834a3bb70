import { VERSION } from '../../cli/version.js';
import type { AlertRecord, BelayRecord, LogRecord } from '../../event/record.js';
import { cutText } from './shorten.js';
import {
  attackOfRecord,
  countOf,
  isDenial,
  millisecondsOf,
  objectText,
  placeOf,
  processOf,
  sentenceOf,
  severityOf,
  workloadOf,
} from './words.js';

/**
 * ArcSight's Common Event Format, version 0 of its header. In the header `\` and `|` are escaped, in the extension `\`,
 * `=` and line ends; other control characters, which CEF has no escape for, become `\xNN` in words. Values are cut to the
 * lengths that CEF's dictionary of extension keys allows.
 */
export function cef(record: BelayRecord): string {
  const header = [
    'CEF:0',
    'Belay',
    'Belay',
    VERSION,
    signatureOf(record),
    cutText(nameOf(record), 512),
    String(severityOf(record)),
  ].map((part, at) => (at === 0 ? part : headerText(part)));
  const extension = [...pairsOf(record)].flatMap(([key, value, most]) =>
    value === undefined || value === '' ? [] : `${key}=${extensionText(cutText(String(value), most))}`,
  );
  return `${header.join('|')}|${extension.join(' ')}`;
}

type Pair = readonly [key: string, value: string | number | undefined, most: number];

const signatureOf = (record: BelayRecord) =>
  record.type === 'alert'
    ? `${record.class}:${record.operation}`
    : record.type === 'log'
      ? `log:${record.class}:${record.operation}`
      : record.type;

function nameOf(record: BelayRecord): string {
  if (record.type !== 'alert') return sentenceOf(record);
  return `${record.verdict} ${record.operation}${record.policy ? ` (${record.policy})` : ''}`;
}

function* pairsOf(record: BelayRecord): Generator<Pair> {
  const { node, cluster, namespace, container, containerId, image } = placeOf(record);
  const process = processOf(record);
  yield ['rt', millisecondsOf(record), 20];
  yield ['externalId', record.id, 40];
  yield ['cat', record.type, 1023];
  yield ['cnt', countOf(record), 20];
  yield ['dvchost', node, 100];
  yield ['msg', sentenceOf(record), 1023];
  yield* labelled('cs2', 'workload', workloadOf(record));
  yield* labelled('cs3', 'arguments', process?.arguments.join(' '));
  yield* labelled('cs4', 'image', image);
  if (process !== undefined) {
    yield ['sproc', process.program || process.comm, 1023];
    yield ['spid', process.pid, 20];
    yield ['suid', process.uid, 1023];
    yield ['sourceServiceName', process.parent.program, 1023];
  }
  yield ['destinationServiceName', container, 1023];
  yield ['deviceFacility', cluster, 1023];
  yield ['dntdom', namespace, 255];
  yield ['fileId', containerId, 1023];
  if (record.type === 'alert') yield* alertPairs(record);
  if (record.type === 'log') yield* objectPairs(record);
  if (record.type === 'gap') yield ['reason', record.ring, 1023];
  if (record.type === 'failure') yield ['reason', record.failure, 1023];
}

function* alertPairs(record: AlertRecord): Generator<Pair> {
  const { techniques, subtechniques, tactics } = attackOfRecord(record);
  const attack = [...tactics, ...techniques, ...subtechniques].map(({ id, name }) =>
    `${id} ${name ?? ''}`.trim(),
  );
  yield ['act', record.verdict, 63];
  yield ['outcome', isDenial(record) ? 'failure' : 'success', 63];
  yield ['reason', record.dryRun ? `dry run of ${record.action}` : record.action, 1023];
  yield* labelled(
    'cs1',
    'policy',
    `${record.policyNamespace ? `${record.policyNamespace}/` : ''}${record.policy}`,
  );
  yield* labelled('cs5', 'rule', record.rule);
  yield* labelled('cs6', 'attack', attack.join(', '));
  yield* objectPairs(record);
}

function* objectPairs(record: AlertRecord | LogRecord): Generator<Pair> {
  const { object } = record;
  if (record.class === 'Network') {
    yield ['proto', (object.protocol ?? object.socket ?? '').toUpperCase(), 31];
    if (object.address?.includes(':')) {
      yield ['c6a3', object.address, 64];
      yield ['c6a3Label', 'Destination IPv6 Address', 1023];
    } else yield ['dst', object.address, 16];
    yield ['dpt', object.port, 5];
    yield ['dhost', object.domain, 1023];
  } else yield ['filePath', objectText(object), 1023];
}

function* labelled(key: string, label: string, value: string | undefined): Generator<Pair> {
  if (value === undefined || value === '') return;
  yield [key, value, 4000];
  yield [`${key}Label`, label, 1023];
}

const HEADER = /[\\|\p{Cc}\p{Bidi_Control}\u2028\u2029\ufeff]/gu;
const EXTENSION = /[\\=\p{Cc}\p{Bidi_Control}\u2028\u2029\ufeff]/gu;

function headerText(text: string): string {
  return text.replace(HEADER, (c) => (c === '\\' || c === '|' ? `\\${c}` : inWords(c)));
}

function extensionText(text: string): string {
  return text.replace(EXTENSION, (c) => {
    if (c === '\\' || c === '=') return `\\${c}`;
    if (c === '\n') return '\\n';
    return c === '\r' ? '\\r' : inWords(c);
  });
}

/** `\x1b` to read, its backslash escaped. */
function inWords(c: string): string {
  const code = c.charCodeAt(0);
  return code < 0x100
    ? `\\\\x${code.toString(16).padStart(2, '0')}`
    : `\\\\u${code.toString(16).padStart(4, '0')}`;
}
