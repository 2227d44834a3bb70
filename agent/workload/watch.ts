import type { Logger } from 'pino';
import { readPolicyBytes, unreadable } from '../policy/files.js';
import type { Diagnostic } from '../policy/model.js';
import { decodePolicyFile, MAX_FILE_BYTES } from '../policy/source.js';
import { ContainerdWorkloads } from './containerd.js';
import { readWorkloads, type WorkloadFile, workloadsTooLong } from './file.js';
import { sameWorkload, type Workload } from './model.js';
import { Presence } from './presence.js';
import { watchPath } from './watch-path.js';

export interface WatchOptions {
  /** Path of the YAML list of workloads. */
  readonly file: string;
  readonly log: Logger;
  /**
   * All workloads: first those at the start, even if there are none, and then whenever they changed. Those of the file
   * come first, in its order. Of two with the same cgroup, the file's counts.
   */
  readonly onChange: (workloads: readonly Workload[]) => void;
}

/** How often cgroups of the file's workloads are looked for. */
const LOOK_MS = 1000;

/** The list of workloads cannot be read, or has errors. */
export class WorkloadsFault extends Error {
  readonly diagnostics: readonly Diagnostic[];

  constructor(diagnostics: readonly Diagnostic[]) {
    super(diagnostics.map(told).join('\n'));
    this.name = 'WorkloadsFault';
    this.diagnostics = diagnostics;
  }
}

/**
 * Keeps the workloads of a file, and of the containerd it names, up to date. A file that becomes unreadable or wrong is
 * logged, and what it said before stays.
 * @throws WorkloadsFault when the file is wrong at the start
 */
export async function watchWorkloads(options: WatchOptions): Promise<{ close(): Promise<void> }> {
  const watch = new WorkloadWatch(options);
  await watch.start();
  return { close: () => watch.close() };
}

/** What a list of workloads says now, or why it says nothing. */
export function readWorkloadsFile(file: string): WorkloadFile {
  const text = bytesOf(file);
  return 'fault' in text ? failed(file, text.fault) : workloadsOf(text.bytes, file);
}

class WorkloadWatch {
  readonly #options: WatchOptions;
  /** What was read last, good or bad: the same is not told twice. */
  #seen = '';
  #file: WorkloadFile = { workloads: [], diagnostics: [] };
  #containerd: ContainerdWorkloads | undefined;
  #watcher: { close(): void } | undefined;
  #told: readonly Workload[] | undefined;
  #started = false;
  readonly #presence: Presence;
  #looking: NodeJS.Timeout | undefined;

  constructor(options: WatchOptions) {
    this.#options = options;
    this.#presence = new Presence(options.log);
  }

  async start(): Promise<void> {
    const read = this.#read();
    if (read === undefined || hasErrors(read)) throw new WorkloadsFault(read?.diagnostics ?? []);
    this.#adopt(read);
    await this.#containerd?.attempted;
    this.#started = true;
    this.#tell();
    this.#watcher = watchPath(this.#options.file, () => this.#reload());
    this.#looking = setInterval(() => this.#presence.look(this.#file.workloads), LOOK_MS);
  }

  async close(): Promise<void> {
    clearInterval(this.#looking);
    this.#watcher?.close();
    await this.#containerd?.close();
  }

  #reload(): void {
    const read = this.#read();
    if (read === undefined) return;
    if (hasErrors(read)) {
      for (const diagnostic of read.diagnostics) this.#log(diagnostic);
      this.#options.log.warn({ file: this.#options.file }, 'the workloads of before stay in force');
      return;
    }
    this.#adopt(read);
    this.#tell();
  }

  /** Undefined when nothing has changed since the last time. */
  #read(): WorkloadFile | undefined {
    const file = this.#options.file;
    const text = bytesOf(file);
    if ('fault' in text) return this.#new(`fault:${text.fault}`) ? failed(file, text.fault) : undefined;
    if (!this.#new(`text:${Buffer.from(text.bytes).toString('latin1')}`)) return undefined;
    return workloadsOf(text.bytes, file);
  }

  #new(seen: string): boolean {
    if (seen === this.#seen) return false;
    this.#seen = seen;
    return true;
  }

  #adopt(read: WorkloadFile): void {
    for (const diagnostic of read.diagnostics) this.#log(diagnostic);
    const before = this.#containerd;
    if (read.containerd !== this.#file.containerd) {
      const { log } = this.#options;
      this.#containerd =
        read.containerd === undefined
          ? undefined
          : new ContainerdWorkloads({ socket: read.containerd, log, onChange: () => this.#tell() });
      before?.close().catch((error: unknown) => log.error({ error }, 'closing the connection to containerd'));
    }
    this.#file = read;
    this.#presence.look(read.workloads);
  }

  #tell(): void {
    if (!this.#started) return;
    const own = new Set(this.#file.workloads.map(({ cgroup }) => cgroup));
    const others = this.#containerd?.workloads.filter(({ cgroup }) => !own.has(cgroup)) ?? [];
    const now = [...this.#file.workloads, ...others];
    const before = this.#told;
    const same = (w: Workload, i: number) => before?.[i] !== undefined && sameWorkload(before[i], w);
    if (before?.length === now.length && now.every(same)) return;
    this.#told = now;
    this.#options.onChange(now);
  }

  #log(diagnostic: Diagnostic): void {
    this.#options.log[diagnostic.severity === 'error' ? 'error' : 'warn'](told(diagnostic));
  }
}

function bytesOf(file: string): { readonly bytes: Uint8Array } | { readonly fault: string } {
  try {
    return { bytes: readPolicyBytes(file) };
  } catch (error) {
    return { fault: unreadable(error) };
  }
}

function failed(file: string, message: string): WorkloadFile {
  return { workloads: [], diagnostics: [{ at: { file, line: 1, column: 1 }, severity: 'error', message }] };
}

function workloadsOf(bytes: Uint8Array, file: string): WorkloadFile {
  if (bytes.length > MAX_FILE_BYTES) return { workloads: [], diagnostics: [workloadsTooLong(file)] };
  const decoded = decodePolicyFile(bytes, file);
  if ('fault' in decoded) return { workloads: [], diagnostics: [decoded.fault] };
  return readWorkloads(decoded.text, file);
}

function hasErrors({ diagnostics }: WorkloadFile): boolean {
  return diagnostics.some(({ severity }) => severity === 'error');
}

function told({ at, severity, message }: Diagnostic): string {
  return `${at.file}:${at.line}:${at.column}: ${severity}: ${message}`;
}
