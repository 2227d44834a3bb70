import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Belay, eventually, type WorkloadEntry } from '../kernel/harness.js';

/** Where file systems of little room are. */
export const SMALL = '/tmp/small';

/** A file system of little room, which can be full. */
export class SmallDisk {
  readonly path: string;

  constructor(name: string, mib: number) {
    this.path = join(SMALL, name);
    mkdirSync(this.path, { recursive: true });
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mib}m,nr_inodes=200`, 'tmpfs', this.path]);
  }

  /** Takes all room, and all that there is for more files. */
  fill(): void {
    // ends because there is no room
    spawnSync('sh', ['-c', `cat /dev/zero > ballast; i=0; while : > ballast.$i; do i=$((i+1)); done`], {
      cwd: this.path,
    });
  }

  free(): void {
    execFileSync('sh', ['-c', 'rm -f ballast*'], { cwd: this.path });
  }

  unmount(): void {
    spawnSync('umount', ['-l', this.path]);
  }
}

/** The wall clock, which can be told to be wrong. */
export class Clock {
  readonly #start = Date.now() / 1000 - performance.now() / 1000;

  jump(seconds: number): void {
    this.#set(Date.now() / 1000 + seconds);
  }

  restore(): void {
    this.#set(this.#start + performance.now() / 1000);
  }

  #set(unix: number): void {
    execFileSync('date', ['-s', `@${unix.toFixed(3)}`]);
  }
}

/** Takes memory until the kernel kills who does, or leaves `leftMiB`, for a while. It is the first to be killed. */
export async function eatMemory(leftMiB: number, seconds: number): Promise<void> {
  const available = Number(/^MemAvailable:\s+(\d+)/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]) >> 10;
  const eaten = Math.max(64, available - leftMiB);
  // tail keeps what it may have to print
  const script = `echo 1000 > /proc/self/oom_score_adj; { head -c ${eaten}M /dev/zero; sleep ${seconds}; } | tail -n 1 > /dev/null`;
  const child = spawn('sh', ['-c', script], { stdio: 'ignore' });
  await new Promise((resolve) => child.on('exit', resolve));
}

/** `belay agent`, which somebody always starts again. */
export class Agent {
  readonly #flags: readonly string[];
  readonly folder: string;
  readonly #say: (what: string) => void;
  #belay: Belay | undefined;
  #meant = false;
  workloads: readonly WorkloadEntry[];
  /** Ends that nobody meant. */
  readonly deaths: string[] = [];
  readonly log: { level: number; msg: string }[] = [];

  constructor(options: {
    folder: string;
    output: string;
    flags: readonly string[];
    workloads: readonly WorkloadEntry[];
    say: (what: string) => void;
  }) {
    this.folder = options.folder;
    this.#flags = options.flags;
    this.workloads = options.workloads;
    this.#say = options.say;
    rmSync(this.folder, { recursive: true, force: true });
    mkdirSync(join(this.folder, 'policies'), { recursive: true });
    symlinkSync(options.output, join(this.folder, 'events.jsonl'));
  }

  spawn(): void {
    this.#belay = Belay.spawn({ folder: this.folder, workloads: this.workloads, flags: this.#flags });
    // who starts has far more to do than who tries, and a machine may be slow
    if (this.pid > 0) setPriority(this.pid, -15);
    this.#meant = false;
  }

  async ready(): Promise<void> {
    await eventually(
      'the agent is ready',
      () => {
        if (this.#belay?.ended) this.look();
        return existsSync(join(this.folder, 'ready')) || undefined;
      },
      300_000,
    );
  }

  /** Starts it again if it has ended by itself. */
  look(): void {
    if (this.#meant || !this.#belay?.ended) return;
    const last = this.#belay.log.at(-1)?.msg;
    this.deaths.push(`${this.#belay.end}: ${last}`);
    this.#say(`the agent ended by itself (${this.#belay.end}): ${last}`);
    this.#keepLog();
    this.spawn();
  }

  async stop(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    this.#meant = true;
    await this.#belay?.stop(signal);
    this.#keepLog();
  }

  #keepLog(): void {
    this.log.push(...(this.#belay?.log ?? []));
  }

  /** Stops it for a while; how it is then, it goes on, or is killed. */
  async pause(seconds: number, killed: boolean): Promise<void> {
    this.#belay?.signal('SIGSTOP');
    await sleep(seconds * 1000);
    if (killed) await this.stop('SIGKILL');
    else this.#belay?.signal('SIGCONT');
  }

  get pid(): number {
    return this.#belay?.pid ?? 0;
  }

  /** Puts a policy into its folder; undefined takes it away. */
  write(name: string, text: string | undefined): void {
    if (text !== undefined) this.#belay?.write(name, text);
    else rmSync(join(this.folder, 'policies', name), { force: true });
  }

  writeWorkloads(workloads: readonly WorkloadEntry[]): void {
    this.workloads = workloads;
    this.#belay?.writeWorkloads(workloads);
  }
}
