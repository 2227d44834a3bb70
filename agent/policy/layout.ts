/**
 * The numbers of bpf/tables.h, under the names they have there. A unit test reads the header and holds the two
 * equal.
 */
export const enums = {
  column: {
    COLUMN_DEFAULT: 0,
    COLUMN_END: 1,
    COLUMN_SUBJECT: 2,
    COLUMN_BYTE: 3,
    COLUMN_LIMIT: 65536,
  },
  domain: {
    DOMAIN_PROGRAM: 0,
    DOMAIN_FILE: 1,
    DOMAIN_EGRESS4: 2,
    DOMAIN_EGRESS6: 3,
    DOMAIN_INGRESS4: 4,
    DOMAIN_INGRESS6: 5,
    DOMAIN_BIND: 6,
    DOMAIN_SOCKET: 7,
    DOMAIN_CAPABILITY: 8,
    DOMAIN_ESCAPE: 9,
    DOMAIN_DNS: 10,
    DOMAIN_CALL: 11,
    DOMAIN_COUNT: 12,
  },
  call: {
    CALL_X86_64: 0,
    CALL_I386: 1,
    CALL_PATH: 2,
  },
  decide: {
    DECIDE_EXEC: 0,
    DECIDE_MAP: 1,
    DECIDE_READ: 2,
    DECIDE_WRITE: 3,
    DECIDE_LOAD: 4,
    DECIDE_MOVE: 5,
    DECIDE_COUNT: 6,
    DECIDE_OTHER: 0,
  },
  socket_kind: {
    SOCKET_TCP: 0,
    SOCKET_UDP: 1,
    SOCKET_ICMP_RAW: 2,
    SOCKET_ICMP_DGRAM: 3,
    SOCKET_ICMPV6_RAW: 4,
    SOCKET_ICMPV6_DGRAM: 5,
    SOCKET_IP_RAW: 6,
    SOCKET_SCTP_STREAM: 7,
    SOCKET_SCTP_SEQPACKET: 8,
    SOCKET_DCCP: 9,
    SOCKET_PACKET: 10,
    SOCKET_UNIX_STREAM: 11,
    SOCKET_UNIX_DGRAM: 12,
    SOCKET_UNIX_SEQPACKET: 13,
    SOCKET_NETLINK: 14,
    SOCKET_OTHER_STREAM: 15,
    SOCKET_OTHER_DGRAM: 16,
    SOCKET_OTHER_RAW: 17,
    SOCKET_OTHER_RDM: 18,
    SOCKET_OTHER_SEQPACKET: 19,
    SOCKET_KIND_COUNT: 20,
  },
  escape: {
    ESCAPE_MOUNT: 0,
    ESCAPE_UMOUNT: 1,
    ESCAPE_PIVOT_ROOT: 2,
    ESCAPE_CHROOT: 3,
    ESCAPE_PTRACE: 4,
    ESCAPE_USER_NAMESPACE: 5,
    ESCAPE_BPF: 6,
    ESCAPE_PERF_EVENT: 7,
    ESCAPE_KERNEL_MODULE: 8,
    ESCAPE_KEXEC: 9,
    ESCAPE_KERNEL_INTERFACE: 10,
    ESCAPE_DEVICE_NODE: 11,
    ESCAPE_COUNT: 12,
  },
  action: {
    ACTION_ALLOW: 1,
    ACTION_AUDIT: 2,
    ACTION_BLOCK: 3,
    ACTION_KILL: 4,
    ACTION_KILL_CONTAINER: 5,
  },
  condition: {
    CONDITION_OWNER: 1,
    CONDITION_NO_TTY: 2,
    CONDITION_ARGS: 4,
    CONDITION_SELF: 8,
    CONDITION_NEVER: 16,
  },
  preset: {
    PRESET_ANONYMOUS_MAP: 0,
    PRESET_EXEC: 1,
    PRESET_DRIFT: 2,
    PRESET_COUNT: 3,
  },
} as const;

export const TABLES_MAGIC = 0x316c6562;
export const CELL_FREE = 0xffffffff;
/** In a header's `active`, shifted by the question: some verdict answers it. */
export const DENIES = 0x10000;
/** Rules in a chain. */
export const CHAIN_LIMIT = 16;
/** Rules in a chain that wait for arguments. */
export const WAITING_LIMIT = 8;

/** Sizes and offsets in bytes of the structures; all fields are u32 unless said otherwise, little endian. */
export const structs = {
  rule: { size: 24, next: 0, id: 4, rank: 8, action_u8: 12, conditions_u8: 13, args_start: 16 },
  entry: { size: 8, verdict: 0, audit: 4 },
  decision: { size: 56, passes: 48 },
  set_header: {
    size: 204,
    magic: 0,
    regionSize: 4,
    cells: 8,
    ncells: 12,
    decisions: 16,
    ndecisions: 20,
    rules: 24,
    nrules: 28,
    active: 32,
    start: 80,
    none: 128,
    unnamed: 176,
    presets: 180,
  },
} as const;

/** The one number for "/", which wildcards within a component stop at. */
export const SLASH = 0x2f;

/** Protocol numbers (IANA) as they stand in an address's input. */
export const IP_PROTOCOLS = { TCP: 6, UDP: 17, SCTP: 132 } as const;
