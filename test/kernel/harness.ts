import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AlertRecord, BelayRecord } from '../../agent/event/record.js';

export const PROJECT = resolve(import.meta.dirname, '../..');
/** Does one thing and says how it went; see act.c. */
export const ACT = join(PROJECT, 'build/act');
/** Where tests keep what they act on, under the same name in a container and outside of one. */
export const T = '/tmp/t';

const DEADLINE_MS = 60_000;
const CGROUPS = '/sys/fs/cgroup';

/** How programs get called here; a machine booted without `bpf` in lsm= is as stock distributions are. */
export const attachment = () =>
  readFileSync('/sys/kernel/security/lsm', 'utf8').trim().split(',').includes('bpf') ? 'lsm' : 'fmod_ret';

export const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

/** Waits until `probe` has an answer. For what takes time, never for what might be wrong the first time. */
export async function eventually<R>(
  what: string,
  probe: () => R | undefined | Promise<R | undefined>,
  deadline = DEADLINE_MS,
): Promise<R> {
  const end = performance.now() + deadline;
  for (;;) {
    const result = await probe();
    if (result !== undefined) return result;
    if (performance.now() > end) throw new Error(`${what}: not within ${deadline} ms`);
    await sleep(20);
  }
}

/** A shell that runs one script after the other, somewhere. */
export class Shell {
  readonly #child: ChildProcess;
  #output = '';
  #ended = false;
  #scripts = 0;
  /** The program that tests act with, as it is called there. */
  act = ACT;

  constructor(program: string, args: readonly string[]) {
    this.#child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#output += text;
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#output += text;
    });
    this.#child.on('exit', () => setTimeout(() => this.#end(), 100));
    this.#child.stdin?.on('error', () => {});
  }

  /** @returns what the script printed, trimmed; ends with `(the shell ended)` if it did */
  async run(script: string, deadline = 300_000): Promise<string> {
    const mark = `=-${++this.#scripts}-=`;
    this.#output = '';
    this.#child.stdin?.write(`{ ${script}\n} </dev/null 2>&1; printf '%s\\n' '${mark}'\n`);
    return eventually(
      `the script ${script}`,
      () => {
        const end = this.#output.indexOf(mark);
        if (end >= 0) return this.#output.slice(0, end).trim();
        return this.#ended ? `${this.#output.trim()}(the shell ended)` : undefined;
      },
      deadline,
    );
  }

  /** Does one thing there with build/act. */
  do(...words: readonly string[]): Promise<string> {
    return this.doAs(this.act, ...words);
  }

  /** The same with a copy of it under another name. */
  doAs(program: string, ...words: readonly string[]): Promise<string> {
    return this.run([program, ...words].map(quote).join(' '));
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** What it said last may still come, and what it left behind may keep its output open: no waiting for that. */
  #end(): void {
    this.#ended = true;
    this.#child.stdout?.destroy();
    this.#child.stderr?.destroy();
  }

  async close(): Promise<void> {
    this.#child.stdin?.end();
    await eventually('the shell ends', () => this.#ended || undefined);
  }
}

export interface WorkloadEntry {
  /** The shop by default. */
  readonly namespace?: string;
  readonly name: string;
  /** Named like the workload by default. */
  readonly container?: string;
  readonly cgroup: string;
  readonly labels?: Readonly<Record<string, string>>;
}

/** In the shop namespace, labelled `app: web`. */
export const workload = (name: string, cgroup: string, labels = { app: 'web' }): WorkloadEntry => ({
  name,
  cgroup,
  labels,
});

/** A policy named `name` for `app: web`; `spec` is YAML, indented by nothing. */
export function policy(name: string, spec: string, extra = ''): string {
  const body = spec
    .trim()
    .split('\n')
    .map((line) => `  ${line}`)
    .join('\n');
  return `apiVersion: security.belay.dev/v1
kind: WorkloadPolicy
metadata: {name: ${name}, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
${extra}${body}
`;
}

interface LogLine {
  readonly level: number;
  readonly msg: string;
  readonly [field: string]: unknown;
}

export interface BelayOptions {
  readonly workloads: readonly WorkloadEntry[];
  readonly policies?: Readonly<Record<string, string>>;
  readonly flags?: readonly string[];
  /** A folder to go on with, of an agent before this one. */
  readonly folder?: string;
  /** Another build of the program than this one's. */
  readonly main?: string;
  /** A program that it is run by, with arguments. */
  readonly by?: readonly string[];
}

/** `belay agent`, as people run it. */
export class Belay {
  readonly folder: string;
  readonly policyFolder: string;
  readonly #output: string;
  readonly #child: ChildProcess;
  #records: BelayRecord[] = [];
  readonly #log: LogLine[] = [];
  #stderr = '';
  #read = 0;
  #rest = '';

  private constructor(options: BelayOptions) {
    this.folder = options.folder ?? mkdtempSync('/tmp/belay-');
    this.policyFolder = join(this.folder, 'policies');
    this.#output = join(this.folder, 'events.jsonl');
    if (options.folder !== undefined) {
      this.#read = existsSync(this.#output) ? statSync(this.#output).size : 0;
    }
    // left by one that was killed
    rmSync(join(this.folder, 'ready'), { force: true });
    mkdirSync(this.policyFolder, { recursive: true });
    for (const [name, text] of Object.entries(options.policies ?? {})) this.write(name, text);
    this.writeWorkloads(options.workloads);
    const [program, ...args] = [...(options.by ?? []), process.execPath];
    this.#child = spawn(
      program,
      [
        ...args,
        options.main ?? join(PROJECT, 'dist/bin/main.js'),
        ...['agent', '--policies', this.policyFolder, '--workloads', join(this.folder, 'workloads.yaml')],
        ...['--output', this.#output, '--ready-file', join(this.folder, 'ready')],
        ...(options.flags ?? []),
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => this.#takeLog(text));
  }

  /** As it starts; it may be told to end before it is ready. */
  static spawn(options: BelayOptions): Belay {
    return new Belay(options);
  }

  get ended(): boolean {
    return this.end !== undefined;
  }

  /** How it ended: its status, or the signal that ended it. */
  get end(): number | NodeJS.Signals | undefined {
    return this.#child.exitCode ?? this.#child.signalCode ?? undefined;
  }

  static async start(options: BelayOptions): Promise<Belay> {
    const belay = new Belay(options);
    await eventually(
      'the agent is ready',
      () => {
        if (belay.#child.exitCode !== null) {
          const last = belay.#log.at(-1)?.msg ?? belay.#stderr;
          throw new Error(`the agent ended with ${belay.#child.exitCode}: ${last}`);
        }
        return existsSync(join(belay.folder, 'ready')) || undefined;
      },
      300_000,
    );
    return belay;
  }

  #takeLog(text: string): void {
    this.#stderr += text;
    const lines = this.#stderr.split('\n');
    this.#stderr = lines.pop() ?? '';
    for (const line of lines) {
      try {
        this.#log.push(JSON.parse(line));
      } catch {
        this.#log.push({ level: 60, msg: line });
      }
    }
  }

  /** What it has said so far. */
  get log(): readonly LogLine[] {
    return this.#log;
  }

  /** The first line of the log from `from` on that says this. */
  logged(what: string | RegExp, from = 0, deadline = DEADLINE_MS): Promise<LogLine> {
    const says = (line: LogLine) => (typeof what === 'string' ? line.msg === what : what.test(line.msg));
    return eventually(
      `the log says ${what}`,
      () => {
        if (this.#child.exitCode !== null)
          throw new Error(`the agent ended: ${JSON.stringify(this.#log.slice(-5))}`);
        return this.#log.slice(from).find(says);
      },
      deadline,
    );
  }

  /** Puts a policy file in its place at once, as a rename does; undefined takes it away. */
  write(name: string, text: string): void {
    const aside = join(this.folder, `.${name}`);
    writeFileSync(aside, text);
    renameSync(aside, join(this.policyFolder, name));
  }

  /** The one policy file there is, and waits until it is in force. */
  async enforce(text: string): Promise<void> {
    const file = join(this.policyFolder, 'policy.yaml');
    if (existsSync(file) && readFileSync(file, 'utf8') === text) return;
    const from = this.#log.length;
    this.write('policy.yaml', text);
    await this.logged('policies in force', from);
    const complaint = this.#log.slice(from).find((line) => line.level >= 50);
    if (complaint !== undefined) throw new Error(complaint.msg);
  }

  writeWorkloads(workloads: readonly WorkloadEntry[]): void {
    const text = JSON.stringify({
      workloads: workloads.map((w) => ({ namespace: 'shop', container: w.name, ...w })),
    });
    writeFileSync(join(this.folder, '.workloads'), text);
    renameSync(join(this.folder, '.workloads'), join(this.folder, 'workloads.yaml'));
  }

  /** Every record so far. */
  records(): readonly BelayRecord[] {
    if (!existsSync(this.#output)) return this.#records;
    const fd = openSync(this.#output, 'r');
    const bytes = Buffer.alloc(fstatSync(fd).size - this.#read);
    this.#read += readSync(fd, bytes, 0, bytes.length, this.#read);
    closeSync(fd);
    const lines = (this.#rest + bytes.toString('utf8')).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#records.push(JSON.parse(line));
    return this.#records;
  }

  /** What has come since the last call, and is then forgotten: there may be too much to keep. */
  take(): readonly BelayRecord[] {
    const records = this.records();
    this.#records = [];
    return records;
  }

  alerts(wanted: (alert: AlertRecord) => boolean = () => true, from = 0): AlertRecord[] {
    return this.records()
      .slice(from)
      .filter((r): r is AlertRecord => r.type === 'alert' && wanted(r));
  }

  /** The first alert that is wanted, from the record numbered `from` on. */
  alert(wanted: (alert: AlertRecord) => boolean, from = 0): Promise<AlertRecord> {
    return eventually('the alert', () => this.alerts(wanted, from)[0]).catch((error) => {
      const seen = this.alerts(undefined, from)
        .slice(-8)
        .map((a) => JSON.stringify(brief(a)));
      throw new Error(`${error.message}; the last ones were:\n${seen.join('\n')}`);
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#child.kill(signal);
      await once(this.#child, 'exit');
    }
    return this.#child.exitCode;
  }
}

/** What an alert says, without what differs each time. */
export function brief(a: AlertRecord) {
  return {
    pod: a.pod,
    program: a.process?.program,
    class: a.class,
    operation: a.operation,
    object: a.object.path ?? a.object.domain ?? a.object.address ?? a.object.capability ?? a.object.socket,
    policy: a.policy,
    rule: a.rule,
    action: a.action,
    verdict: a.verdict,
  };
}

/** The path of a cgroup, which may exist. */
export const cgroup = (name: string) => join(CGROUPS, name);

export function makeCgroup(path: string): string {
  if (!existsSync(path)) mkdirSync(path);
  return path;
}

export async function removeCgroup(path: string): Promise<void> {
  if (!existsSync(path)) return;
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (entry.isDirectory()) await removeCgroup(join(path, entry.name));
  }
  writeFileSync(join(path, 'cgroup.kill'), '1');
  await eventually(`${path} is empty`, () =>
    readFileSync(join(path, 'cgroup.events'), 'utf8').includes('populated 0') ? true : undefined,
  );
  rmdirSync(path);
}

/** A shell in a bare cgroup, which exists. */
export function inCgroup(path: string): Shell {
  return new Shell('/bin/sh', ['-c', `echo $$ > ${path}/cgroup.procs; exec /bin/sh`]);
}

let containers = 0;

function startContainerd(): void {
  const images = execFileSync(join(PROJECT, 'test/vm/images'), { encoding: 'utf8' }).trim();
  if (existsSync('/run/containerd/containerd.sock')) return;
  execFileSync(join(PROJECT, 'test/vm/containerd'), [join(images, 'nginx.tar')]);
}

/** A name for a container, so that its cgroup is known before it starts. */
export function containerName(): { name: string; cgroup: string } {
  const name = `t${process.pid}-${++containers}`;
  return { name, cgroup: cgroup(`default/${name}`) };
}

/**
 * A shell that is a container of containerd's: the node's network, and leave to mount. It has build/act as
 * /belay/act, bind-mounted.
 */
export async function inContainer(name: string, args: readonly string[] = []): Promise<Shell> {
  startContainerd();
  const shell = new Shell('ctr', [
    ...['run', '--rm', '--net-host', '--cap-add', 'CAP_SYS_ADMIN'],
    ...['--mount', `type=bind,src=${join(PROJECT, 'build')},dst=/belay,options=rbind:ro`],
    ...args,
    ...['localhost/nginx:1', name, '/bin/sh'],
  ]);
  shell.act = '/belay/act';
  const greeting = await shell.run('echo inside');
  if (greeting !== 'inside') throw new Error(`the container did not start: ${greeting}`);
  return shell;
}
