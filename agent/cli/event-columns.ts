import { tagText } from '../event/attack.js';
import type { AlertRecord, BelayRecord, ObjectRecord } from '../event/record.js';
import { objectText } from '../sink/formats/words.js';
import { colours, pad } from './terminal.js';

/** What can be shown of a record, and how wide it usually is. */
export const COLUMNS = {
  time: 12,
  node: 16,
  verdict: 15,
  sev: 3,
  workload: 22,
  program: 24,
  pid: 7,
  parent: 24,
  operation: 9,
  object: 36,
  rule: 40,
  tags: 40,
  message: 40,
  count: 6,
} as const;

export type Column = keyof typeof COLUMNS;

export const USUAL: readonly Column[] = [
  ...(['time', 'verdict', 'sev', 'workload', 'program', 'operation', 'object', 'rule', 'count'] as const),
];

/** A record's cells, safe for a terminal. */
export function cellsOf(record: BelayRecord, columns: readonly Column[]): string[] {
  const cells = cellsByName(record);
  return columns.map((column) => cells[column] ?? '');
}

function cellsByName(record: BelayRecord): Partial<Record<Column, string>> {
  const time = new Date(Number(BigInt(record.time) / 1_000_000n)).toISOString().slice(11, 23);
  const common = { time, node: printable(record.node) };
  if (record.type === 'failure') {
    const object = printable(record.failure);
    return { ...common, verdict: colours.yellow('failure'), object, count: record.count };
  }
  if (record.type === 'unknown-pod') {
    const workload = printable(`pod ${record.podUid}`);
    return { ...common, verdict: colours.yellow('unknown'), workload, object: printable(record.cgroup) };
  }
  const workload = printable(`${record.namespace}/${record.pod}/${record.container}`);
  if (record.type === 'gap') {
    const lost = record.lost === '0' ? 'some' : record.lost;
    const object = `events lost (${printable(record.ring)})`;
    return { ...common, verdict: colours.yellow('gap'), workload, object, count: lost };
  }
  if (record.type === 'throttle') {
    const { maxAlertsPerSecond: most, throttleSeconds: seconds } = record;
    const object = `over ${most} alerts/s: counted for ${seconds} s`;
    return { ...common, verdict: colours.yellow('throttled'), workload, object };
  }
  const { process: actor } = record;
  const who = {
    ...common,
    workload,
    program: printable(actor?.program || actor?.comm || '-'),
    pid: actor === undefined ? '' : String(actor.pid),
    parent: printable(actor?.parent?.program ?? ''),
    count: record.count === '1' ? '' : `×${record.count}`,
  };
  if (record.type === 'exec') {
    const object = printable((actor?.arguments ?? []).join(' ') || (actor?.comm ?? ''));
    return { ...who, verdict: colours.gray('started'), operation: 'exec', object };
  }
  if (record.type === 'log') {
    const object = printable(objectOf(record.object));
    return { ...who, verdict: colours.gray('seen'), operation: printable(record.operation), object };
  }
  return {
    ...who,
    verdict: verdict(record),
    sev: String(record.severity),
    operation: printable(record.operation),
    object: printable(objectOf(record.object)),
    rule: printable(record.policy ? `${record.policy}: ${record.rule}` : record.rule),
    tags: printable(record.tags.map(tagText).join(', ')),
    message: printable(record.message),
  };
}

function verdict({ verdict: what, dryRun }: AlertRecord): string {
  if (what !== 'Passed') return colours.red(what);
  return dryRun ? colours.cyan('Passed (dry)') : colours.yellow('Passed');
}

function objectOf(object: ObjectRecord): string {
  const text = object.unnamed ? '' : objectText(object);
  return text === '' ? '(no name)' : object.access ? `${text} (${object.access})` : text;
}

/** Names come from whoever is being watched: no escape sequence or line break of theirs reaches the terminal. */
export function printable(text: string): string {
  return text.replace(
    /[\p{Cc}\p{Cf}\u2028\u2029]/gu,
    (c) => `\\x${c.codePointAt(0)?.toString(16).padStart(2, '0')}`,
  );
}

/** Cells as a line, each as wide as usual. */
export function lineOf(cells: readonly string[], columns: readonly Column[]): string {
  return cells
    .map((cell, i) => pad(cell, COLUMNS[columns[i]]))
    .join(' ')
    .trimEnd();
}
