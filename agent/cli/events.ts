import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import Table from 'cli-table3';
import { Command } from 'commander';
import pc from 'picocolors';
import type { AlertRecord, BelayRecord, ObjectRecord } from '../event/record.js';

const POLL_MS = 200;

/** `belay events`: an event stream for people. */
export function eventsCommand(): Command {
  return new Command('events')
    .description('show events that an agent wrote (JSON lines) in a terminal')
    .argument('[file]', 'the file that the agent writes to, or - for standard input', '-')
    .option('-f, --follow', 'go on as the file grows')
    .option('-n, --namespace <name>', 'only this namespace')
    .option('--denied', 'only what was stopped')
    .option('--table', 'draw a table once everything has been read')
    .addHelpText('after', '\nFor machines: the file itself has one JSON object a line (schema belay.v1).')
    .action(show);
}

interface ShowOptions {
  readonly follow?: boolean;
  readonly namespace?: string;
  readonly denied?: boolean;
  readonly table?: boolean;
}

async function show(file: string, options: ShowOptions): Promise<void> {
  const input =
    file === '-' ? process.stdin : options.follow ? Readable.from(follow(file)) : createReadStream(file);
  const rows: string[][] = [];
  let bad = 0;
  try {
    for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
      if (line.trim() === '') continue;
      const record = parse(line);
      if (record === undefined) {
        bad++;
        continue;
      }
      if (!wanted(record, options)) continue;
      const row = columns(record);
      if (options.table) rows.push(row);
      else
        process.stdout.write(
          `${row
            .map((cell, i) => pad(cell, WIDTHS[i]))
            .join(' ')
            .trimEnd()}\n`,
        );
    }
  } catch (error) {
    process.stderr.write(`belay events: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
  if (options.table) {
    const table = new Table({ head: HEAD.map((h) => pc.bold(h)), style: { head: [], border: ['gray'] } });
    table.push(...rows);
    process.stdout.write(`${table.toString()}\n`);
  }
  if (bad > 0) {
    process.stderr.write(
      `belay events: ${bad} ${bad === 1 ? 'line is' : 'lines are'} not belay.v1 records\n`,
    );
    process.exitCode = 1;
  }
}

function parse(line: string): BelayRecord | undefined {
  try {
    const value = JSON.parse(line) as Partial<BelayRecord>;
    return value.schema === 'belay.v1' ? (value as BelayRecord) : undefined;
  } catch {
    return undefined;
  }
}

function wanted(record: BelayRecord, { namespace, denied }: ShowOptions): boolean {
  if (namespace !== undefined && (!('namespace' in record) || record.namespace !== namespace)) return false;
  return !denied || (record.type === 'alert' && record.verdict !== 'Passed');
}

const HEAD = [
  'time',
  'verdict',
  'sev',
  'workload',
  'program',
  'operation',
  'object',
  'policy: rule',
  'count',
];
const WIDTHS = [12, 15, 3, 22, 24, 9, 36, 40, 0];

function columns(record: BelayRecord): string[] {
  const time = new Date(Number(BigInt(record.time) / 1_000_000n)).toISOString().slice(11, 23);
  if (record.type === 'failure') {
    return [time, pc.yellow('failure'), '', '', '', '', printable(record.failure), '', record.count];
  }
  if (record.type === 'unknown-pod') {
    return [time, pc.yellow('unknown'), '', `pod ${record.podUid}`, '', '', printable(record.cgroup), '', ''];
  }
  const workload = printable(`${record.namespace}/${record.pod}/${record.container}`);
  if (record.type === 'gap') {
    return [time, pc.yellow('gap'), '', workload, '', '', `events lost (${record.ring})`, '', record.lost];
  }
  const { process: actor } = record;
  if (record.type === 'exec') {
    const program = printable(actor?.program ?? '');
    return [time, pc.gray('started'), '', workload, program, 'exec', printable(actor?.comm ?? ''), '', ''];
  }
  return [
    time,
    verdict(record),
    String(record.severity),
    workload,
    printable(actor?.program || actor?.comm || '-'),
    record.operation,
    printable(object(record.object)),
    printable(record.policy ? `${record.policy}: ${record.rule}` : record.rule),
    record.count === '1' ? '' : `×${record.count}`,
  ];
}

function verdict({ verdict: what, dryRun }: AlertRecord): string {
  if (what !== 'Passed') return pc.red(what);
  return dryRun ? pc.cyan('Passed (dry)') : pc.yellow('Passed');
}

function object(o: ObjectRecord): string {
  if (o.path !== undefined) return o.unnamed ? '(no name)' : o.access ? `${o.path} (${o.access})` : o.path;
  if (o.capability !== undefined) return o.capability;
  if (o.address === undefined) return o.port ? `${o.protocol} port ${o.port}` : `${o.socket} socket`;
  return `${o.protocol} ${o.address.includes(':') ? `[${o.address}]` : o.address}:${o.port}`;
}

/** Names come from whoever is being watched: no escape sequence or line break of theirs reaches the terminal. */
function printable(text: string): string {
  return text.replace(
    /[\p{Cc}\p{Cf}\u2028\u2029]/gu,
    (c) => `\\x${c.codePointAt(0)?.toString(16).padStart(2, '0')}`,
  );
}

/** To a width as seen, colours not counted. */
function pad(cell: string, width: number): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are control characters
  const seen = cell.replace(/\x1b\[\d+m/g, '').length;
  return cell + ' '.repeat(Math.max(0, width - seen));
}

/** A file's bytes as it grows, for ever. */
async function* follow(path: string): AsyncGenerator<Buffer> {
  const handle = await open(path);
  try {
    const buffer = Buffer.alloc(65536);
    for (;;) {
      const { bytesRead } = await handle.read(buffer, 0, buffer.length);
      if (bytesRead > 0) yield Buffer.from(buffer.subarray(0, bytesRead));
      else await sleep(POLL_MS);
    }
  } finally {
    await handle.close();
  }
}
