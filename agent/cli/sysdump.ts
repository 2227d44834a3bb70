import { createReadStream, createWriteStream, existsSync, readFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { cpus, release, totalmem, uptime, version } from 'node:os';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { Command, Option } from 'commander';
import { pack } from 'tar-stream';
import { parse, stringify, YAMLParseError } from 'yaml';
import { safeJson } from '../event/safe-json.js';
import { loadAddon } from '../kernel/addon.js';
import { activeLsms } from '../kernel/trouble.js';
import { unreadable, unwritable } from '../policy/files.js';
import { AgentClient, socketOption } from './client.js';
import { findings } from './probe.js';
import { VERSION } from './version.js';

/** Of what an agent remembers, the newest; of its log, the end. */
const MAX_RECORDS = 5000;
const MAX_LOG_MIB = 4;
/** Where an agent's configuration usually is: nothing is missing where it has none. */
const USUAL_CONFIG = '/etc/belay/config.yaml';

/** `belay sysdump`: what somebody needs to know who is to help. */
export function sysdumpCommand(): Command {
  return new Command('sysdump')
    .description(
      'gather configuration, versions, counters, events and logs in an archive, for those who help',
    )
    .argument(
      '[file]',
      'the archive',
      `belay-sysdump-${new Date().toISOString().slice(0, 19).replaceAll(':', '')}.tar.gz`,
    )
    .addOption(socketOption())
    .addOption(
      new Option(
        '--config <file>',
        `the agent's configuration file (default: ${USUAL_CONFIG}, if it is there)`,
      ).env('BELAY_CONFIG'),
    )
    .option('--log <file>', `a file with the agent's log, of which the last ${MAX_LOG_MIB} MiB are taken`)
    .addHelpText(
      'after',
      '\nKeys, tokens, certificates and kubeconfigs are not read. Events hold names, arguments and paths of your workloads.',
    )
    .action(run);
}

interface SysdumpOptions {
  readonly socket: string;
  readonly config?: string;
  readonly log?: string;
}

type Part = () => string | undefined | Promise<string | undefined>;

async function run(file: string, { socket, config, log }: SysdumpOptions): Promise<void> {
  const fault = unwritable(file);
  if (fault !== undefined) {
    process.stderr.write(`belay sysdump: ${file}: ${fault}\n`);
    process.exitCode = 1;
    return;
  }
  const agent = new AgentClient(socket);
  const ask = (method: string) => async () => json(await agent.ask(method));
  const parts: Readonly<Record<string, Part>> = {
    'versions.json': () =>
      json({
        belay: VERSION,
        node: process.version,
        kernel: release(),
        kernelBuild: version(),
        ...{ processors: cpus().length, memory: totalmem(), uptime: uptime(), lsms: activeLsms() },
      }),
    'probe.json': () => json(findings(loadAddon())),
    'config.yaml': () =>
      config === undefined && !existsSync(USUAL_CONFIG) ? undefined : configOf(config ?? USUAL_CONFIG),
    'health.json': ask('Health'),
    'policies.json': ask('Policies'),
    'workloads.json': ask('Workloads'),
    'costs.json': ask('Costs'),
    'events.jsonl': () => newest(agent),
    'kernel/cmdline': () => first('/proc/cmdline'),
    'kernel/btf': () => (existsSync('/sys/kernel/btf/vmlinux') ? 'present\n' : 'absent\n'),
    'agent.log': () => (log === undefined ? undefined : tail(log)),
  };
  const archive = pack();
  const written = pipeline(archive, createGzip(), createWriteStream(file, { mode: 0o600 }));
  let broken: unknown;
  written.catch((error: unknown) => {
    broken = error;
  });
  /** Names of what is missing, by why it is. */
  const faults = new Map<string, string[]>();
  try {
    for (const [name, part] of Object.entries(parts)) {
      try {
        const text = await part();
        if (text !== undefined) archive.entry({ name: `belay-sysdump/${name}` }, text);
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        faults.set(why, [...(faults.get(why) ?? []), name]);
      }
    }
    const missing = [...faults].map(([why, names]) => `${names.join(', ')}: ${why}\n`);
    if (missing.length > 0) archive.entry({ name: 'belay-sysdump/missing.txt' }, missing.join(''));
    archive.finalize();
    await written;
    for (const line of missing) process.stderr.write(`belay sysdump: without ${line}`);
    process.stdout.write(`${file}\n`);
  } catch (error) {
    // writing to an archive that is broken says nothing of why
    const why = broken ?? error;
    process.stderr.write(`belay sysdump: ${why instanceof Error ? why.message : String(why)}\n`);
    process.exitCode = 1;
  } finally {
    agent.close();
  }
}

const json = (value: unknown) => `${safeJson(value, 2)}\n`;
const first = (path: string) => (existsSync(path) ? readFileSync(path, 'utf8') : undefined);

async function newest(agent: AgentClient): Promise<string> {
  const lines: string[] = [];
  for await (const record of agent.records({ after: '0', follow: 'false' })) {
    lines.push(safeJson(record));
    if (lines.length > MAX_RECORDS) lines.shift();
  }
  return lines.map((line) => `${line}\n`).join('');
}

const unread = (path: string, error: unknown) => new Error(`${path}: ${unreadable(error)}`);

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw unread(path, error);
  }
}

function configOf(path: string): string {
  const text = textOf(path);
  try {
    return withoutSecrets(text);
  } catch (error) {
    // the parser quotes what it stumbles over, which may be a secret
    const at = error instanceof YAMLParseError ? error.linePos?.[0] : undefined;
    throw new Error(`${path}:${at?.line ?? 1}:${at?.col ?? 1}: it is not valid YAML; correct it`);
  }
}

/** The end of a file, or of what a pipe gives, in whole lines, and how much there was before it. */
async function tail(path: string): Promise<string> {
  const most = MAX_LOG_MIB << 20;
  const parts: Buffer[] = [];
  let before = 0;
  let length = 0;
  try {
    before = Math.max(0, (await stat(path)).size - most);
    // a pipe knows no positions
    for await (const part of createReadStream(path, before > 0 ? { start: before } : {})) {
      parts.push(part);
      length += part.length;
      while (length - parts[0].length >= most) {
        before += parts[0].length;
        length -= parts[0].length;
        parts.shift();
      }
    }
  } catch (error) {
    throw unread(path, error);
  }
  const bytes = Buffer.concat(parts);
  const over = Math.max(0, length - most);
  if (before + over === 0) return bytes.toString('utf8');
  const start = bytes.indexOf('\n', over) + 1;
  const told = `The last ${MAX_LOG_MIB} MiB of ${path}; ${before + start} bytes before are left out.\n`;
  return told + bytes.toString('utf8', start);
}

const SECRET = /token|password|passwd|secret|credential|authorization|api-?key|private|\bkey$|Key$/i;

/**
 * A configuration's text without what could let somebody in: values of fields that are called so, passwords and queries in URLs,
 * and paths of webhooks' URLs, which are secrets to many services.
 */
export function withoutSecrets(text: string): string {
  const clean = (value: unknown, name = ''): unknown => {
    if (Array.isArray(value)) return value.map((each) => clean(each, name));
    if (typeof value === 'object' && value !== null) {
      const hook = 'type' in value && value.type === 'webhook';
      return Object.fromEntries(
        Object.entries(value).map(([key, each]) => {
          const kept = clean(each, SECRET.test(name) ? name : key);
          const cut = hook && key === 'url' && typeof kept === 'string';
          return [key, cut ? kept.replace(/^(\w+:\/\/[^/?#]*)[/?#].*$/s, '$1/(left out)') : kept];
        }),
      );
    }
    if (typeof value !== 'string') return value;
    // a path says where a secret is, not what it is
    if (SECRET.test(name) && !/audience$/i.test(name) && !value.startsWith('/')) return '(left out)';
    return value
      .replace(/(\w+:\/\/)[^/@\s]*@/g, '$1(left out)@')
      .replace(/(\w+:\/\/[^?]*\?)\S+/g, '$1(left out)');
  };
  return stringify(clean(parse(text)));
}
