import { type BigIntStats, createReadStream } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command, InvalidArgumentError } from 'commander';
import type { BelayRecord } from '../event/record.js';
import { safeJson } from '../event/safe-json.js';
import { unreadable } from '../policy/files.js';
import { checkFilter, EVERYTHING, type Filter, isType, SINCE_FORM, sinceOf, wants } from '../serve/filter.js';
import { AgentClient, socketOption } from './client.js';
import { COLUMNS, type Column, cellsOf, lineOf, USUAL } from './event-columns.js';
import { tableOf } from './terminal.js';

const POLL_MS = 200;

/** `belay events`: an event stream for people. */
export function eventsCommand(): Command {
  return new Command('events')
    .description("show events in a terminal: this node's agent's, or those in a file")
    .argument('[file]', 'a file that an agent writes to (JSON lines), or - for standard input')
    .addOption(socketOption())
    .option('-f, --follow', 'go on as events come (with --since 0s: only those)')
    .option('-n, --namespace <name>', 'only this namespace (may be given again)', collect)
    .option('-p, --pod <name>', 'only this pod (may be given again)', collect)
    .option(
      '--type <type>',
      'only alert, exec, log, gap, throttle, failure or unknown-pod (may be given again)',
      collect,
    )
    .option(
      '--class <class>',
      'only Process, File, Network, Capabilities, Syscall or Escape (may be given again)',
      collect,
    )
    .option('--policy <name>', 'only this policy (may be given again)', collect)
    .option(
      '--verdict <verdict>',
      'only Passed, Denied, Killed or ContainerKilled (may be given again)',
      collect,
    )
    .option('--denied', 'only what was stopped')
    .option('--severity <number>', 'only this severity and above', severity)
    .option('--since <when>', `only from then on: ${SINCE_FORM}`, since)
    .option('--after <sequence>', 'only after this sequence number', sequence)
    .option('--columns <names>', `what to show, of ${Object.keys(COLUMNS).join(', ')}`, columnsOf, USUAL)
    .option('--json', 'print records as they are, a JSON object a line')
    .option('--table', 'draw a table once everything has been read')
    .addHelpText(
      'after',
      '\nColours are left out when NO_COLOR is set, or the output is no terminal and FORCE_COLOR is not set.',
    )
    .action(show);
}

interface ShowOptions {
  readonly socket: string;
  readonly follow?: boolean;
  readonly namespace?: readonly string[];
  readonly pod?: readonly string[];
  readonly type?: readonly string[];
  readonly class?: readonly string[];
  readonly policy?: readonly string[];
  readonly verdict?: readonly string[];
  readonly denied?: boolean;
  readonly severity?: number;
  readonly since?: bigint;
  readonly after?: bigint;
  readonly columns: readonly Column[];
  readonly json?: boolean;
  readonly table?: boolean;
}

const collect = (value: string, before: readonly string[] = []) => [...before, value];

function severity(text: string): number {
  if (!/^([1-9]|10)$/.test(text)) throw new InvalidArgumentError('Write a number from 1 to 10.');
  return Number(text);
}

function sequence(text: string): bigint {
  if (!/^\d{1,19}$/.test(text)) throw new InvalidArgumentError('Write a whole number.');
  return BigInt(text);
}

function since(text: string): bigint {
  const at = sinceOf(text);
  if (at === undefined) throw new InvalidArgumentError(`Write ${SINCE_FORM}.`);
  return at;
}

function columnsOf(text: string): Column[] {
  const names = text.split(',').map((name) => name.trim());
  const wrong = names.find((name) => !Object.hasOwn(COLUMNS, name));
  if (wrong !== undefined)
    throw new InvalidArgumentError(
      `There is no column "${wrong}"; there are ${Object.keys(COLUMNS).join(', ')}.`,
    );
  return names as Column[];
}

function filterOf(options: ShowOptions): Filter {
  const stopped = options.denied ? ['Denied', 'Killed', 'ContainerKilled'] : [];
  return checkFilter({
    ...EVERYTHING,
    namespaces: options.namespace ?? [],
    pods: options.pod ?? [],
    types: options.type ?? [],
    classes: options.class ?? [],
    policies: options.policy ?? [],
    verdicts: [...(options.verdict ?? []), ...stopped],
    minSeverity: options.severity ?? 0,
    since: options.since ?? 0n,
  });
}

async function show(file: string | undefined, options: ShowOptions): Promise<void> {
  const agent = file === undefined ? new AgentClient(options.socket) : undefined;
  const unread: Unread = { lines: 0, first: 0 };
  const rows: string[][] = [];
  const tell = (record: BelayRecord): void => {
    if (options.json) {
      process.stdout.write(`${safeJson(record)}\n`);
      return;
    }
    const cells = cellsOf(record, options.columns);
    if (options.table) rows.push(cells);
    else process.stdout.write(`${lineOf(cells, options.columns)}\n`);
  };
  try {
    const filter = filterOf(options);
    if (agent === undefined) await tellFile(file ?? '-', filter, options, tell, unread);
    else for await (const record of fromAgent(agent, filter, options)) tell(record);
  } catch (error) {
    const told = error instanceof Error ? error.message : String(error);
    const what = file !== undefined && error instanceof Error && 'code' in error;
    process.stderr.write(`belay events: ${what ? `${file}: ${unreadable(error)}` : told}\n`);
    process.exitCode = 1;
  } finally {
    agent?.close();
  }
  if (options.table && (rows.length > 0 || !process.exitCode))
    process.stdout.write(tableOf(options.columns, rows));
  if (unread.lines > 0) {
    const { lines, first } = unread;
    const what = lines === 1 ? 'line is no belay.v1 record' : 'lines are no belay.v1 records';
    const where = lines === 1 ? `line ${first}` : `line ${first} the first`;
    process.stderr.write(`belay events: ${lines} ${what} (${where})\n`);
    process.exitCode = 1;
  }
}

/** All that the agent remembers, and what comes then if it is to be followed. */
async function* fromAgent(
  agent: AgentClient,
  filter: Filter,
  options: ShowOptions,
): AsyncGenerator<BelayRecord> {
  yield* agent.records({
    namespace: filter.namespaces,
    pod: filter.pods,
    type: filter.types,
    class: filter.classes,
    policy: filter.policies,
    verdict: filter.verdicts,
    severity: String(filter.minSeverity),
    since: String(filter.since),
    follow: String(options.follow === true),
    after: String(options.after ?? 0n),
  });
}

/** Lines of a file that could not be told. */
interface Unread {
  lines: number;
  /** The first one's number. */
  first: number;
}

async function tellFile(
  file: string,
  filter: Filter,
  { follow: goOn, after = 0n }: ShowOptions,
  tell: (record: BelayRecord) => void,
  unread: Unread,
): Promise<void> {
  const input = file === '-' ? process.stdin : goOn ? Readable.from(follow(file)) : createReadStream(file);
  let number = 0;
  for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
    number++;
    if (line.trim() === '') continue;
    try {
      const record = recordOf(line);
      if (BigInt(record.sequence) > after && wants(filter, record)) tell(record);
    } catch {
      // no JSON, or not all that a record has: one broken line hides none of the others
      unread.first ||= number;
      unread.lines++;
    }
  }
}

/** @throws Error when it is none that this version knows */
function recordOf(line: string): BelayRecord {
  const value = JSON.parse(line) as Partial<BelayRecord> | null;
  if (value?.schema !== 'belay.v1' || !isType(value.type)) throw new Error('no record');
  return value as BelayRecord;
}

/** A file's bytes as it grows, for ever: also when it begins anew, or another has its name. */
async function* follow(path: string): AsyncGenerator<Buffer> {
  const buffer = Buffer.alloc(65536);
  let file = await open(path);
  try {
    let read = 0;
    /** Where the last line that was read ended. */
    let end = 0;
    for (;;) {
      // before what is here is read, so that nothing of it is left when it is given up
      const own = await file.stat({ bigint: true });
      const next = await successor(path, own);
      if (own.isFile() && own.size < read) {
        // an agent cuts off a line that another did not finish, which is no new beginning
        if (own.size < end) end = 0;
        read = end;
        yield LINE_END;
      }
      for (;;) {
        // a pipe knows no positions
        const { bytesRead } = await file.read(buffer, 0, buffer.length, own.isFile() ? read : null);
        if (bytesRead === 0) break;
        const bytes = Buffer.from(buffer.subarray(0, bytesRead));
        const last = bytes.lastIndexOf(LINE_END);
        if (last >= 0) end = read + last + 1;
        read += bytesRead;
        yield bytes;
      }
      if (next === undefined) await sleep(POLL_MS);
      else {
        await file.close();
        file = next;
        read = end = 0;
        yield LINE_END;
      }
    }
  } finally {
    await file.close();
  }
}

const LINE_END = Buffer.from('\n');

/** Another file of that name, once it is written to: until then the one before may be. */
async function successor(path: string, own: BigIntStats): Promise<FileHandle | undefined> {
  try {
    const there = await stat(path, { bigint: true });
    const other = there.dev !== own.dev || there.ino !== own.ino;
    return other && there.size > 0 ? await open(path) : undefined;
  } catch (error) {
    // renamed away, and there is none yet
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
