/** The closed sets of words of which policies are made. */

/** KubeArmor's actions, and Belay's own. */
export const KUBEARMOR_ACTIONS = ['Allow', 'Audit', 'Block'] as const;
export const ACTIONS = [...KUBEARMOR_ACTIONS, 'Kill', 'KillContainer'] as const;

/** A preset is no allow-list, and its place in the kernel knows no other answer. */
export const PRESET_ACTIONS = ['Audit', 'Block'] as const;

export const MODES = ['Enforce', 'Audit'] as const;

export const ACTIVITIES = ['Active', 'Inactive'] as const;

export const OPERATORS = ['In', 'NotIn', 'Exists', 'DoesNotExist'] as const;

/** In `key: label` and `key: namespace`, and all that KubeArmor knows. */
export const PAIR_OPERATORS = ['In', 'NotIn'] as const;

export const TRANSPORTS = ['TCP', 'UDP', 'SCTP'] as const;

export const PROTOCOLS = [
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
] as const;

export const PRESETS = [
  'protectEnv',
  'filelessExec',
  'exec',
  'protectProc',
  'anonymousMapExec',
  'hardened',
] as const;

/** Ways out of a workload, in the order of enum escape. */
export const ESCAPES = [
  'mount',
  'umount',
  'pivot_root',
  'chroot',
  'ptrace',
  'user_namespace',
  'bpf',
  'perf_event',
  'kernel_module',
  'kexec',
  'kernel_interface',
  'device_node',
] as const;

/** In the order of their numbers in linux/capability.h. */
export const CAPABILITIES = [
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
] as const;

/**
 * The spellings in which people write a word of lower-case letters: as it is, in capitals, and for capabilities with
 * `CAP_` before it.
 */
export const PROTOCOL_SPELLINGS: ReadonlyMap<string, (typeof PROTOCOLS)[number]> = new Map(
  [plain, capitals].flatMap((write) => PROTOCOLS.map((name) => [write(name), name] as const)),
);

export const CAPABILITY_SPELLINGS: ReadonlyMap<string, (typeof CAPABILITIES)[number]> = new Map(
  [plain, capitals, (name: string) => `CAP_${capitals(name)}`, (name: string) => `cap_${name}`].flatMap(
    (write) => CAPABILITIES.map((name) => [write(name), name] as const),
  ),
);

export const TRANSPORT_SPELLINGS: ReadonlyMap<string, (typeof TRANSPORTS)[number]> = new Map(
  [plain, (name: string) => name.toLowerCase()].flatMap((write) =>
    TRANSPORTS.map((name) => [write(name), name] as const),
  ),
);

function plain(name: string): string {
  return name;
}

function capitals(name: string): string {
  return name.toUpperCase();
}
