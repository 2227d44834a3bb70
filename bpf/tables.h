/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The bytes that a compiled policy set consists of, and nothing else: shared by the compiler (through
 * the generated agent/kernel/abi.ts), the kernel programs and the host build of the decision code.
 *
 * A policy set is one contiguous region of the arena, never changed in place:
 *
 *     struct set_header | cells: u64[ncells] | decisions: struct decision[] | rules: struct rule[]
 *
 * Every table is made of cells. A row is named by its base, an index into cells. Row 0 is the dead row.
 *
 *     cell = check << 32 | next
 *     step(row, column): c = cells[row + column]; if (c.check != row) c = cells[row];  -> c.next
 *
 * Column 0 is the row's default, so that a row costs one cell and one more for each exception to it;
 * rows interleave freely because no two rows have the same base and a cell names its owner. Free cells
 * have check 0xffffffff. A row is read past its base by as many columns as there are, bytes' or subject
 * classes', so the compiler pads the end of the array with that many free cells.
 *
 * Each domain has an automaton. A state is a row with the columns of enum column: bytes, and two that are not.
 *   COLUMN_END      -> the row of the object class, when the name may end here (no exception: none[domain])
 *   COLUMN_SUBJECT  -> the subject class of a program of this name (no exception: subject class 0);
 *                     in DOMAIN_PROGRAM only
 * An object class is a row too; its columns are subject classes, 0 being "no source matches";
 *   column          -> index of a struct decision, where decisions[0] has no entries ("no rule").
 */
#ifndef BELAY_TABLES_H
#define BELAY_TABLES_H

enum column {
	COLUMN_DEFAULT = 0,
	COLUMN_END = 1,
	COLUMN_SUBJECT = 2,
	COLUMN_BYTE = 3, /* + the byte's value */
	COLUMN_LIMIT = 65536, /* subject classes are below this */
};

#define TABLES_MAGIC 0x316c6562 /* "bel1" */
#define CELL_FREE 0xffffffffu

/* What a name belongs to, and with it the questions that are asked of it; the input is: */
enum domain {
	DOMAIN_PROGRAM, /* the absolute path of a file, no trailing slash except "/" itself; EXEC, MAP, subjects */
	DOMAIN_FILE, /* the same; READ, WRITE, LOAD, MOVE */
	DOMAIN_EGRESS4, /* 4 address bytes, protocol (IPPROTO_*), port high, port low: of the peer */
	DOMAIN_EGRESS6, /* the same with 16 address bytes; IPv4-mapped addresses go to EGRESS4 */
	DOMAIN_INGRESS4, /* 4 address bytes of the peer, protocol, LOCAL port high, low */
	DOMAIN_INGRESS6,
	DOMAIN_BIND, /* protocol, local port high, low: rules that hold whoever the peer will be */
	DOMAIN_SOCKET, /* one byte, enum socket_kind */
	DOMAIN_CAPABILITY, /* one byte, the capability's number */
	DOMAIN_ESCAPE, /* one byte, enum escape */
	DOMAIN_DNS, /* a domain name from its end: letters lower-case, no dot behind the last label ("moc.elpmaxe.www") */
	/* a system call: CALL_X86_64 or CALL_I386, its number's high and low byte; or CALL_PATH, enum operation, and the
	 * absolute path of what it is about. Only reports. */
	DOMAIN_CALL,
	DOMAIN_COUNT,
};

enum call { CALL_X86_64, CALL_I386, CALL_PATH };

/* Index into struct decision's entries. Domains whose input is no path use DECIDE_OTHER. */
enum decide {
	DECIDE_EXEC, /* running the file; process rules with posture */
	DECIDE_MAP, /* mapping it executable, or giving it a new name; process rules without posture */
	DECIDE_READ, /* file rules */
	DECIDE_WRITE, /* file rules, readOnly counts */
	DECIDE_LOAD, /* opened by the kernel to run it; file rules without posture */
	DECIDE_MOVE, /* renaming a directory that a blocked name lies under */
	DECIDE_COUNT,
	DECIDE_OTHER = DECIDE_EXEC,
};

/* A socket as matchProtocols sees it. */
enum socket_kind {
	SOCKET_TCP, /* AF_INET/6 SOCK_STREAM, TCP or MPTCP */
	SOCKET_UDP, /* AF_INET/6 SOCK_DGRAM, UDP or UDP-Lite */
	SOCKET_ICMP_RAW, /* AF_INET SOCK_RAW, ICMP */
	SOCKET_ICMP_DGRAM, /* AF_INET SOCK_DGRAM, ICMP ("ping socket") */
	SOCKET_ICMPV6_RAW,
	SOCKET_ICMPV6_DGRAM,
	SOCKET_IP_RAW, /* AF_INET/6 SOCK_RAW, any other protocol */
	SOCKET_SCTP_STREAM,
	SOCKET_SCTP_SEQPACKET,
	SOCKET_DCCP,
	SOCKET_PACKET, /* AF_PACKET, any type; also the obsolete SOCK_PACKET */
	SOCKET_UNIX_STREAM,
	SOCKET_UNIX_DGRAM,
	SOCKET_UNIX_SEQPACKET,
	SOCKET_NETLINK,
	SOCKET_OTHER_STREAM, /* every other family, by type */
	SOCKET_OTHER_DGRAM,
	SOCKET_OTHER_RAW,
	SOCKET_OTHER_RDM,
	SOCKET_OTHER_SEQPACKET,
	SOCKET_KIND_COUNT,
};

/* What a workload hardly needs, and an intruder does to get out of it. Adding one: the end, before the count. */
enum escape {
	ESCAPE_MOUNT, /* mounting, remounting, attaching what was mounted elsewhere */
	ESCAPE_UMOUNT,
	ESCAPE_PIVOT_ROOT,
	ESCAPE_CHROOT,
	ESCAPE_PTRACE, /* taking hold of another process: ptrace, process_vm_*, pidfd_getfd, /proc/PID/mem */
	ESCAPE_USER_NAMESPACE,
	ESCAPE_BPF, /* bpf(2) */
	ESCAPE_PERF_EVENT, /* perf_event_open(2) */
	ESCAPE_KERNEL_MODULE, /* loading one, or making the kernel load one */
	ESCAPE_KEXEC,
	ESCAPE_KERNEL_INTERFACE, /* files by which the kernel is told what to run, or changed */
	ESCAPE_DEVICE_NODE, /* making one of a device; opening a disk, or memory, raw */
	ESCAPE_COUNT,
};

enum action {
	ACTION_ALLOW = 1,
	ACTION_AUDIT,
	ACTION_BLOCK,
	ACTION_KILL,
	ACTION_KILL_CONTAINER,
};

/* What only run time can settle. A rule with conditions lets pass when all of them hold, and denies
 * (or, in an audit chain, reports) when one does not. A rule with none always fires: ACTION_ALLOW lets
 * pass, everything else denies or reports. */
enum condition {
	CONDITION_OWNER = 1, /* the file's owner is the caller's fsuid */
	CONDITION_NO_TTY = 2, /* no controlling terminal */
	CONDITION_ARGS = 4, /* every argument after the first is accepted from args_start */
	CONDITION_SELF = 8, /* the /proc entry is the caller's own process */
	CONDITION_NEVER = 16, /* does not hold here: readOnly at a write */
};

/* No chain is longer; one that does not end here denies. */
#define CHAIN_LIMIT 16

/* Rules that pass only if the new program's arguments do; more of them at once cannot be judged and deny. */
#define WAITING_LIMIT 8

/* One rule as a verdict sees it. Chains are walked until one fires. */
struct rule {
	unsigned int next; /* byte offset of the next rule in the region, 0 = end of the chain */
	unsigned int id; /* what the event carries; 0 is never used */
	unsigned int rank; /* specificity, larger wins; see agent/policy */
	unsigned char action; /* enum action */
	unsigned char conditions; /* enum condition, or'ed */
	unsigned short pad;
	unsigned int args_start; /* state that reads (argument NUL)*; COLUMN_END present = all were listed */
	unsigned int pad2;
};

/* verdict: chain of equally specific rules that settle the matter, strictest first; audit: rules that
 * report when the operation goes ahead. Byte offsets of struct rule in the region, 0 = none. */
struct entry {
	unsigned int verdict;
	unsigned int audit;
};

struct decision {
	struct entry entries[DECIDE_COUNT];
	unsigned int passes; /* bit 1 << enum decide: passes without event or condition */
	unsigned int pad;
};

enum preset {
	PRESET_ANONYMOUS_MAP, /* anonymousMapExec: memory that holds no file's bytes becomes executable */
	PRESET_EXEC, /* exec: a process that joined a running container from outside */
	PRESET_DRIFT, /* process.drift: a program or library that is not of the container's image */
	PRESET_COUNT,
};

#define DENIES 0x10000

struct set_header {
	unsigned int magic;
	unsigned int size; /* of the whole region, bytes, a multiple of 8 */
	unsigned int cells; /* byte offsets in the region */
	unsigned int ncells;
	unsigned int decisions;
	unsigned int ndecisions;
	unsigned int rules;
	unsigned int nrules;
	/* bit 1 << enum decide: some name has a verdict or audit for it; DENIES << enum decide: a verdict;
	 * of DOMAIN_ESCAPE, bit 1 << enum escape: some rule has */
	unsigned int active[DOMAIN_COUNT];
	unsigned int start[DOMAIN_COUNT]; /* the automaton's first state */
	unsigned int none[DOMAIN_COUNT]; /* object class of what no rule names */
	unsigned int unnamed; /* object class of files that have no name: memfd, deleted, ... */
	struct entry presets[PRESET_COUNT];
};

#endif
