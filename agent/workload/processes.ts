import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Of a second, in /proc's times: the kernel's USER_HZ. */
const TICK_NS = 10_000_000n;
const MAX_ARGUMENTS_BYTES = 4096;

/** A process that is there now. */
export interface RunningProcess {
  readonly pid: number;
  readonly parent: { readonly pid: number; readonly program: string };
  readonly comm: string;
  readonly arguments: readonly string[];
  readonly uid: number;
  /** Unix time, ns. */
  readonly started: string;
}

/**
 * The processes in a cgroup and in those below it, as /proc has them (proc(5)); without those that end meanwhile.
 * @param bootTime Unix time, ns
 */
export function processesIn(cgroup: string, bootTime: bigint, proc = '/proc'): RunningProcess[] {
  return pidsIn(cgroup).flatMap((pid) => {
    try {
      const { comm, parent, ticks } = statOf(pid, proc);
      const line = readFileSync(`${proc}/${pid}/cmdline`).toString('utf8', 0, MAX_ARGUMENTS_BYTES);
      const status = readFileSync(`${proc}/${pid}/status`, 'utf8');
      return {
        ...{ pid, comm, parent: { pid: parent, program: commOf(parent, proc) } },
        arguments: line === '' ? [] : line.replace(/\0$/, '').split('\0'),
        uid: Number(/^Uid:\t(\d+)/m.exec(status)?.[1]),
        started: String(bootTime + ticks * TICK_NS),
      };
    } catch {
      return [];
    }
  });
}

function pidsIn(cgroup: string): number[] {
  try {
    const own = readFileSync(join(cgroup, 'cgroup.procs'), 'utf8').trim().split('\n');
    const below = readdirSync(cgroup, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    return [
      // 0 is one of another process namespace
      ...own.map(Number).filter((pid) => pid > 0),
      ...below.flatMap(({ name }) => pidsIn(join(cgroup, name))),
    ];
  } catch {
    return [];
  }
}

function statOf(pid: number, proc: string): { comm: string; parent: number; ticks: bigint } {
  const stat = readFileSync(`${proc}/${pid}/stat`, 'utf8');
  // a name may hold anything, parentheses too
  const end = stat.lastIndexOf(')');
  const rest = stat.slice(end + 2).split(' ');
  return {
    comm: stat.slice(stat.indexOf('(') + 1, end),
    parent: Number(rest[1]),
    ticks: BigInt(rest[19]),
  };
}

function commOf(pid: number, proc: string): string {
  try {
    return statOf(pid, proc).comm;
  } catch {
    return '';
  }
}
