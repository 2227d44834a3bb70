import { readFileSync } from 'node:fs';
import { posix } from 'node:path';

/** Where cgroup v2 is mounted. */
export const CGROUP_ROOT = '/sys/fs/cgroup';

/** The longest path below the mount, its first slash counted, that the kernel programs can be told. */
export const MAX_CGROUP_BYTES = 255;

/** Why an absolute path is no workload's cgroup, and what to do; undefined when it may be one. */
export function cgroupFault(path: string): string | undefined {
  if (!path.startsWith('/')) return `is not absolute; write ${CGROUP_ROOT}/...`;
  const normal = posix.normalize(path).replace(/(?<=.)\/$/, '');
  if (normal === CGROUP_ROOT)
    return 'is the root of all cgroups, which is no workload; name a cgroup below it';
  if (!normal.startsWith(`${CGROUP_ROOT}/`)) return `is not below ${CGROUP_ROOT}; write ${CGROUP_ROOT}/...`;
  if (normal !== path) return `is not in its plain form; write ${normal}`;
  if (path.includes('\0')) return 'holds a NUL character; take it out';
  const length = Buffer.byteLength(path) - CGROUP_ROOT.length;
  if (length > MAX_CGROUP_BYTES)
    return `is ${length} bytes long below ${CGROUP_ROOT}; at most ${MAX_CGROUP_BYTES} can be watched, so nest it less deeply`;
  return undefined;
}

/**
 * The path below the mount that runc makes of `linux.cgroupsPath`: `/a/b` as it is, `SLICE:PREFIX:NAME` as systemd
 * lays slices out. Undefined for a relative path, which hangs below runc's own cgroup, and for one that runc refuses.
 * (runc: libcontainer/specconv `createCgroupConfig`, opencontainers/cgroups `systemd.ExpandSlice`, `getUnitName`.)
 */
export function cgroupOfSpec(cgroupsPath: string): string | undefined {
  if (cgroupsPath.startsWith('/')) return posix.normalize(cgroupsPath).replace(/(?<=.)\/$/, '');
  const parts = cgroupsPath.split(':');
  if (parts.length !== 3) return undefined;
  const [slice = '', prefix = '', name = ''] = parts;
  const above = expandSlice(slice === '' ? 'system.slice' : slice);
  if (above === undefined || name === '') return undefined;
  return `${above}/${name.endsWith('.slice') ? name : `${prefix}-${name}.scope`}`;
}

/** `a-b.slice` lies in `a.slice`: `/a.slice/a-b.slice`. The root slice is `-.slice`, with the path ''. */
function expandSlice(slice: string): string | undefined {
  if (!slice.endsWith('.slice') || slice.includes('/')) return undefined;
  const name = slice.slice(0, -'.slice'.length);
  if (name === '-') return '';
  const components = name.split('-');
  if (components.includes('')) return undefined;
  return components.map((_, i) => `/${components.slice(0, i + 1).join('-')}.slice`).join('');
}

/**
 * The cgroup v2 path, below the mount, that a process is in; undefined when it is gone, or when its cgroup cannot be
 * named from the agent's own cgroup namespace.
 */
export function cgroupOfProcess(pid: number, proc = '/proc'): string | undefined {
  let text: string;
  try {
    text = readFileSync(`${proc}/${pid}/cgroup`, 'utf8');
  } catch {
    return undefined;
  }
  const path = /^0::(\/.*)$/m.exec(text)?.[1]?.replace(/ \(deleted\)$/, '');
  return path === undefined || path === '/' || path.split('/').includes('..') ? undefined : path;
}

/**
 * The container's cgroup, from where its first process is seen. That process may have moved itself deeper (as systemd
 * in a container does, to `init.scope`), so what the spec asked for, found within the path, is where it ends.
 */
export function containerCgroup(cgroupsPath: string, seen: string): string {
  const asked = cgroupOfSpec(cgroupsPath) ?? `/${cgroupsPath}`;
  const at = asked === '/' ? -1 : `${seen}/`.indexOf(`${asked}/`);
  return at < 0 ? seen : seen.slice(0, at + asked.length);
}
