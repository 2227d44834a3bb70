/**
 * What the names of cgroups say, as kubelet's two cgroup managers and the runtimes give them. `bpf/identity.h` reads
 * the same names in the kernel.
 */

/** `pod<uid>`, or `kubepods-burstable-pod<uid, with underscores>.slice`. A static pod's uid is 32 digits. */
export function podOfCgroup(name: string): string | undefined {
  const found = /(?:^|-)pod([0-9a-f][0-9a-f_-]{31}(?:[0-9a-f]{4})?)(?:\.slice)?$/.exec(name);
  return found?.[1].replaceAll('_', '-');
}

/** `<id>`, `cri-containerd-<id>.scope`, `crio-<id>.scope`; not the cgroup of CRI-O's monitor. */
export function containerOfCgroup(name: string): string | undefined {
  if (name.startsWith('crio-conmon-')) return undefined;
  return /(?:^|-)([0-9a-f]{64})(?:\.scope)?$/.exec(name)?.[1];
}
