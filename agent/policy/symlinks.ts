/** Well-known symbolic links of Linux images: names that rules cannot be about, because the kernel resolves them. */

export interface LinkedName {
  readonly why: string;
  /** Names to use instead, in the order of their likelihood; any one will do. */
  readonly targets: readonly string[];
}

/** Directories that are links on images with a merged /usr, or everywhere. */
const DIRECTORIES: readonly { readonly link: string; readonly target: string; readonly why: string }[] = [
  { link: '/bin/', target: '/usr/bin/', why: 'where /usr is merged, /bin is a link to /usr/bin' },
  { link: '/sbin/', target: '/usr/sbin/', why: 'where /usr is merged, /sbin is a link to /usr/sbin' },
  { link: '/lib/', target: '/usr/lib/', why: 'where /usr is merged, /lib is a link to /usr/lib' },
  { link: '/lib64/', target: '/usr/lib64/', why: 'where /usr is merged, /lib64 is a link to /usr/lib64' },
  { link: '/var/run/', target: '/run/', why: '/var/run is a link to /run' },
  { link: '/var/lock/', target: '/run/lock/', why: '/var/lock is a link to /run/lock' },
  { link: '/dev/fd/', target: '/proc/', why: '/dev/fd is a link into /proc' },
];

/** Programs that are links wherever they exist: to the shell, or to the version, that the image has. */
const PROGRAMS: ReadonlyMap<string, readonly string[]> = new Map([
  ['sh', ['/usr/bin/dash', '/usr/bin/bash', '/bin/busybox', '/usr/bin/busybox']],
  ['awk', ['/usr/bin/mawk', '/usr/bin/gawk', '/bin/busybox']],
]);

/** The link that `name` (a path, a directory with its slash, a pattern) is or lies behind, if it is a known one. */
export function linkedName(name: string): LinkedName | undefined {
  const program = /^(?:\/usr)?\/bin\/([^/]+)$/.exec(name)?.[1] ?? /^\*\/(.+)$/.exec(name)?.[1];
  const targets = program === undefined ? undefined : PROGRAMS.get(program);
  if (targets !== undefined)
    return { why: `${program} is a link to the program that does its work`, targets };
  const directory = DIRECTORIES.find(({ link }) => name.startsWith(link));
  if (directory === undefined) return undefined;
  return { why: directory.why, targets: [directory.target + name.slice(directory.link.length)] };
}
