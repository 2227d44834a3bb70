import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { BelayRecord } from '../../agent/event/record.js';

/** What a sink's file tells of denials, by workload: each record once, and those that gaps count. */
export interface Told {
  alerts: number;
  counted: number;
}

export interface Accounts {
  readonly byPod: ReadonlyMap<string, Told>;
  /** What should not be there: denials of what is allowed, losses of nobody's, failures. */
  readonly strange: readonly string[];
}

/** Where denials may be lost, by what gap records call it. */
const LOSSES = ['denials', 'folded', 'spool-full'];

/** @param allowed what no policy denies */
export function told(path: string, allowed: readonly string[]): Accounts {
  const byPod = new Map<string, Told>();
  const strange: string[] = [];
  const seen = new Set<string>();
  const text = existsSync(path) ? readFileSync(path, 'utf8') : '';
  for (const line of text.split('\n').slice(0, -1)) {
    const r = JSON.parse(line) as BelayRecord;
    if (seen.has(r.id)) continue;
    seen.add(r.id);
    if (
      r.type === 'alert' &&
      r.verdict === 'Denied' &&
      !allowed.includes(r.object.path ?? r.object.address ?? '')
    ) {
      of(r.pod).alerts += Number(r.count);
    } else if (r.type === 'gap' && r.pod !== '' && LOSSES.includes(r.ring)) {
      of(r.pod).counted += Number(r.lost);
    } else strange.push(line);
  }
  return { byPod, strange };

  function of(pod: string): Told {
    const there = byPod.get(pod) ?? { alerts: 0, counted: 0 };
    byPod.set(pod, there);
    return there;
  }
}

/** What may leak, by what it is, in numbers. */
export type Holdings = Readonly<Record<string, number>>;

const bpftool = (...args: string[]): { id: number; type: string; name?: string; prog_id?: number }[] =>
  JSON.parse(execFileSync('bpftool', ['--json', ...args], { encoding: 'utf8', maxBuffer: 1 << 28 }));

/** Everything of BPF in this machine, and the entries of maps that grow; but for what runc makes for containers' devices. */
export function inKernel(): Holdings {
  const all: Record<string, number> = {};
  const count = (what: string, by = 1) => {
    all[what] = (all[what] ?? 0) + by;
  };
  const programs = bpftool('prog', 'show').filter(({ type }) => type !== 'cgroup_device');
  for (const { type, name } of programs) count(`program ${type} ${name}`);
  for (const { type, prog_id: program } of bpftool('link', 'show'))
    count(`link ${type} ${programs.find(({ id }) => id === program)?.name}`);
  for (const { id, type, name } of bpftool('map', 'show')) {
    count(`map ${type} ${name}`);
    if (type === 'hash') count(`entries of ${name}`, bpftool('map', 'dump', 'id', String(id)).length);
  }
  return all;
}

/** The descriptors of a process, by what they are, but for files below `but`. */
export function descriptors(pid: number, but: string): Holdings {
  const all: Record<string, number> = {};
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    let to: string;
    try {
      to = readlinkSync(`/proc/${pid}/fd/${fd}`);
    } catch {
      continue; // closed meanwhile
    }
    if (to.startsWith(`${but}/`)) continue;
    // what it is, without which one
    const what = `descriptor ${to.replace(/\d+/g, '#').replace(/ \(deleted\)$/, '')}`;
    all[what] = (all[what] ?? 0) + 1;
  }
  return all;
}

/** Resident memory of a process, MiB. */
export function resident(pid: number): number {
  const line = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Math.round(Number(line?.[1]) / 1024);
}

/** What there is more or less of. */
export function difference(before: Holdings, after: Holdings): string[] {
  return [...new Set([...Object.keys(before), ...Object.keys(after)])]
    .filter((what) => (before[what] ?? 0) !== (after[what] ?? 0))
    .map((what) => `${what}: ${before[what] ?? 0} before, ${after[what] ?? 0} after`);
}
