import type { PolicyKind, PolicyScope, PresetName, ProtocolName } from './model.js';

/** The names that policies may use, and the nearest of them to a name that they may not. */

export const BELAY_API = 'security.belay.dev/v1';
export const KUBEARMOR_API = 'security.kubearmor.com/v1';

export const KINDS: Readonly<Record<PolicyKind, { readonly api: string; readonly scope: PolicyScope }>> = {
  WorkloadPolicy: { api: BELAY_API, scope: 'namespace' },
  ClusterWorkloadPolicy: { api: BELAY_API, scope: 'cluster' },
  HostPolicy: { api: BELAY_API, scope: 'host' },
  KubeArmorPolicy: { api: KUBEARMOR_API, scope: 'namespace' },
  KubeArmorClusterPolicy: { api: KUBEARMOR_API, scope: 'cluster' },
  KubeArmorHostPolicy: { api: KUBEARMOR_API, scope: 'host' },
};

export const PROTOCOLS: readonly ProtocolName[] = [
  'tcp',
  'udp',
  'raw',
  'icmp',
  'icmpv6',
  'sctp',
  'stream',
  'dgram',
  'rdm',
  'seqpacket',
  'dccp',
  'packet',
  'all',
];

export const PRESETS: readonly PresetName[] = [
  'protectEnv',
  'filelessExec',
  'exec',
  'protectProc',
  'anonymousMapExec',
];

/** In the order of their numbers in linux/capability.h. */
export const CAPABILITIES: readonly string[] = [
  'chown',
  'dac_override',
  'dac_read_search',
  'fowner',
  'fsetid',
  'kill',
  'setgid',
  'setuid',
  'setpcap',
  'linux_immutable',
  'net_bind_service',
  'net_broadcast',
  'net_admin',
  'net_raw',
  'ipc_lock',
  'ipc_owner',
  'sys_module',
  'sys_rawio',
  'sys_chroot',
  'sys_ptrace',
  'sys_pacct',
  'sys_admin',
  'sys_boot',
  'sys_nice',
  'sys_resource',
  'sys_time',
  'sys_tty_config',
  'mknod',
  'lease',
  'audit_write',
  'audit_control',
  'setfcap',
  'mac_override',
  'mac_admin',
  'syslog',
  'wake_alarm',
  'block_suspend',
  'audit_read',
  'perfmon',
  'bpf',
  'checkpoint_restore',
];

/** ` (did you mean "recursive"?)`, or nothing when no known name is near. */
export function suggestion(written: string, known: readonly string[]): string {
  const near = nearest(written, known);
  return near === undefined ? '' : `; did you mean "${near}"?`;
}

function nearest(written: string, known: readonly string[]): string | undefined {
  if (written.length > 40) return undefined;
  const wanted = written.toLowerCase();
  let best: string | undefined;
  // A third of the letters may be wrong: fewer in short names, which are all near each other.
  let least = Math.min(3, Math.floor(written.length / 3)) + 1;
  for (const name of known) {
    const distance = editDistance(wanted, name.toLowerCase());
    if (distance < least) {
      best = name;
      least = distance;
    }
  }
  return best;
}

/** Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b` (optimal string alignment). */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let cost = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, (before[j - 2] ?? 0) + 1);
      }
      row.push(cost);
    }
    before = last;
    last = row;
  }
  return last[b.length] ?? 0;
}
