/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Records in the ring buffers, and the state that kernel and agent share. The agent reads all of these
 * layouts from the BTF of the built object.
 */
#ifndef BELAY_EVENT_H
#define BELAY_EVENT_H

/* Version of all that is pinned: goes on by one when a map, or what is in it, can no longer be used by the programs and the
 * agent of the version before. What is carried over then, bpf/carry.h and agent/kernel/previous.ts say. */
#define SCHEMA_VERSION 1
enum schema { SCHEMA = SCHEMA_VERSION };

#define MAX_WORKLOADS 4096
#define FOLD_SLOTS 16384
#define LOG_FOLD_SLOTS 4096 /* behind those, for telemetry: it takes none from alerts */
#define PROGRAM_MAX 240 /* longer program names are cut, and the flag below says so */
#define ARGUMENTS_MAX 512
#define CWD_MAX 255
#define ANCESTORS_MAX 8
#define NAME_MAX_BYTES 4096
#define AGENT_CGROUPS 6

enum operation {
	OPERATION_EXEC = 1,
	OPERATION_MAP,
	OPERATION_OPEN,
	OPERATION_CREATE,
	OPERATION_UNLINK,
	OPERATION_RENAME,
	OPERATION_LINK,
	OPERATION_SYMLINK,
	OPERATION_MKDIR,
	OPERATION_RMDIR,
	OPERATION_CHMOD,
	OPERATION_CHOWN,
	OPERATION_TRUNCATE,
	OPERATION_SETATTR,
	OPERATION_SETXATTR,
	OPERATION_RECEIVE,
	OPERATION_SOCKET,
	OPERATION_CONNECT,
	OPERATION_SEND,
	OPERATION_BIND,
	OPERATION_LISTEN,
	OPERATION_ACCEPT,
	OPERATION_CAPABLE,
	OPERATION_DNS_QUERY, /* the object is the name from its end, as DOMAIN_DNS reads it */
	OPERATION_SYSCALL, /* the object is what DOMAIN_CALL reads */
	OPERATION_SIGNAL,
	OPERATION_LIMIT, /* prlimit */
	OPERATION_SCHEDULE,
	OPERATION_MOUNT, /* in the order of enum escape, from here */
	OPERATION_UMOUNT,
	OPERATION_PIVOT_ROOT,
	OPERATION_CHROOT,
	OPERATION_PTRACE,
	OPERATION_USER_NAMESPACE,
	OPERATION_BPF,
	OPERATION_PERF_EVENT,
	OPERATION_KERNEL_MODULE,
	OPERATION_KEXEC,
	OPERATION_KERNEL_INTERFACE,
	OPERATION_DEVICE_NODE,
	OPERATION_CGROUP, /* a pod's or a container's cgroup was made; exec_id is its id, the object its path */
	OPERATION_FORK, /* a process, no thread; the object is a struct child */
	OPERATION_EXIT, /* of a process's last thread; the object is its wait status, as a u32 */
	OPERATION_SETUID, /* and the like, from here: the object is a struct credentials_change */
	OPERATION_SETGID,
	OPERATION_CAPSET,
	OPERATION_EXEC_CREDENTIALS, /* by the program that is about to run */
};

/* What a workload's telemetry tells of. */
enum visible {
	VISIBLE_PROCESS = 1, /* exec, fork, exit, and credentials that change */
	VISIBLE_FILE = 2,
	VISIBLE_NETWORK = 4,
	VISIBLE_CAPABILITIES = 8,
};

struct child {
	unsigned int pid; /* on the node */
	unsigned int pid_inside; /* in its own pid namespace */
};

struct credentials {
	unsigned int uid;
	unsigned int gid;
	unsigned int effective_uid;
	unsigned int effective_gid;
	unsigned int saved_uid;
	unsigned int saved_gid;
	unsigned long long permitted; /* capabilities, a bit each */
	unsigned long long effective;
};

struct credentials_change {
	struct credentials before;
	struct credentials after;
};

enum ring {
	RING_DENIALS, /* denied or killed; shared with nothing else */
	RING_MATCHES, /* audit rules and postures */
	RING_TELEMETRY, /* what is visible of workloads, and what the programs tell the agent */
	RING_COUNT,
	LOST_TO_OTHERS = RING_COUNT, /* no ring: telemetry that was left out so that there is room for other workloads' */
};

enum verdict {
	VERDICT_PASS, /* reported, went ahead */
	VERDICT_DENY,
	VERDICT_KILL,
	VERDICT_KILL_CONTAINER,
};

enum event_flag {
	EVENT_WRITE = 1, /* the open, or whatever, was for writing */
	EVENT_UNNAMED = 2, /* the object has no name; what is given is how the kernel calls it */
	EVENT_PROGRAM_CUT = 4,
	EVENT_OBJECT_CUT = 8,
	EVENT_ARGUMENTS_CUT = 16,
	EVENT_CWD_CUT = 32, /* its beginning is missing */
};

/* Above the parent. */
struct ancestor {
	unsigned int pid; /* on the node */
	char comm[16];
};

/* One record; what follows in data, in this order: program, parent program, ancestors (struct ancestor each), working
 * directory, arguments (NUL after each), object (a file's name). No other string ends in NUL. */
struct event {
	unsigned long long time; /* CLOCK_BOOTTIME, ns */
	unsigned long long exec_id; /* of the process's program: start of the exec, ns << 8 | cpu */
	unsigned long long fold_key; /* equal for what folds together */
	unsigned long long count; /* how many this stands for, itself included */
	unsigned long long capabilities; /* effective, a bit each */
	unsigned int workload;
	unsigned int generation;
	unsigned int rule;
	unsigned int pid; /* the process's id on the node */
	unsigned int tid;
	unsigned int ppid;
	unsigned int pid_inside; /* in its own pid namespace */
	unsigned int uid;
	unsigned int gid;
	unsigned int login_uid; /* of the login that it came from; ~0 = of none */
	/* inode numbers, as /proc/PID/ns has them */
	unsigned int mount_namespace;
	unsigned int pid_namespace;
	unsigned int network_namespace;
	unsigned int user_namespace;
	unsigned int object_length;
	unsigned short program_length;
	unsigned short parent_length;
	unsigned short ancestors_length;
	unsigned short cwd_length;
	unsigned short arguments_length;
	unsigned char operation; /* enum operation */
	unsigned char verdict; /* enum verdict */
	unsigned char action; /* enum action, of the rule */
	unsigned char flags; /* enum event_flag */
	unsigned char socket_kind; /* enum socket_kind: network operations */
	unsigned char family; /* AF_INET, AF_INET6, 0 = no address */
	unsigned short port; /* host byte order */
	unsigned short protocol; /* IPPROTO_* */
	unsigned int capability; /* its number; of OPERATION_BPF, the command */
	unsigned char address[16];
	char comm[16];
	char tty[16]; /* the controlling terminal, as the kernel calls it; empty = it has none */
	char data[];
};

/* What the agent and the programs know of one workload. */
struct workload {
	/* region's offset in the arena | generation << 32; 0 = nothing is enforced. One store flips it. */
	unsigned long long set;
	unsigned long long denied;
	unsigned long long matched;
	unsigned long long lost[4]; /* by enum ring: events that did not fit */
	unsigned long long told[4]; /* how many of lost have been told; the agent's */
	unsigned long long telling[4]; /* up to which of lost it is telling, where that is more than told; the agent's */
	/* bytes of the denials' ring that it put behind a mark, and before it: those are gone once the reader is there */
	unsigned int held_behind;
	unsigned int held_before;
	unsigned long long held_mark;
	unsigned long long held_last; /* where its last record ends: it holds nothing once the reader is there */
	unsigned int round; /* of the last look at all tasks that met one of its */
	unsigned int visible; /* enum visible; no verdict looks at it */
	unsigned long long spent; /* bytes of telemetry in the second that began at spent_since */
	unsigned long long spent_since;
};

/* What the agent tells the programs while they run, and an agent the next. */
struct settings {
	unsigned int unknown; /* workload of the pods whose uid is not known; 0 = the names of cgroups mean nothing */
	unsigned int host; /* workload of the node's own processes; 0 = they are not judged */
	unsigned int sandbox_first; /* the runtime makes a pod's sandbox before its containers */
	unsigned int generation; /* the last one given to tables */
	unsigned int round; /* of looking at all tasks */
	unsigned int carrying; /* state of another schema's programs is being carried over */
	unsigned int carried; /* tasks, so far */
	unsigned int uncarried; /* of tasks and sockets there was no memory for */
	unsigned long long failures_told[64]; /* by enum failure; the agent's, as told in struct workload */
	unsigned long long failures_telling[64]; /* the same as telling there */
	unsigned long long sweep; /* of what is counted: the last one that the agent told of, or began to tell of */
	/* The agent, for its protection. What is of a process is 0 while there is none. */
	unsigned int agent; /* its process id on the node */
	unsigned long long agent_credentials; /* its struct cred */
	unsigned long long agent_cgroups[AGENT_CGROUPS]; /* ids of its cgroup and those above it, the root left out */
	unsigned long long agent_pod; /* id of the cgroup above its own, if it runs in a pod; that stays */
	unsigned long long pins_inode; /* of the directory of its pins; 0 = there are none */
	unsigned int pins_device; /* as the kernel writes it: major << 20 | minor */
	unsigned long long host_mounts; /* of the mount namespace of pid 1, see mounts_id; found by the first look at all tasks */
	unsigned long long host_root; /* the directory that its first program calls "/" */
	unsigned int denials_share; /* bytes of the denials' ring that a workload may hold; 0 = not known */
};

/* Rules that are in no policy. */
enum built_in_rule {
	RULE_UNNAMEABLE, /* what cannot be named is denied where any rule could apply */
	RULE_NONE = 0x7ffffffe, /* of telemetry: no rule speaks of it */
	RULE_SELF_PROTECTION = 0x7fffffff, /* workloads keep their hands off the agent */
};

/* Whose a cgroup is. */
struct binding {
	unsigned int workload; /* 0 = nobody's, as a pod's sandbox: not judged */
	unsigned int flags; /* enum binding_flag */
};

enum binding_flag {
	BINDING_POD = 1, /* a pod's cgroup; those of its containers lie directly below */
};

/* Repeats of the same (workload, tables, rule, object) within a window are one record: the first is reported at
 * once, the rest are counted here and reported when the window ends. */
struct fold {
	unsigned long long key; /* 0 = free */
	unsigned long long since; /* start of the window, ns */
	unsigned long long count; /* not reported yet; and FOLD_CLAIMED */
	unsigned long long telling; /* how many of those the agent is telling of, once it has claimed them; the agent's */
	unsigned int workload;
	unsigned int rule;
};

/* Set in a fold's count while the agent tells of it, so that nobody else does. The agent takes this and the repeats that it
 * told of away at once: one that is killed meanwhile leaves all for the next to see. */
#define FOLD_CLAIMED (1ull << 63)

/* Everything that can fail in a program, counted; which way each fails is said where it is counted. */
enum failure {
	FAILURE_TASK_ALLOC, /* no memory for a new task's state: the fork is refused */
	FAILURE_BIND, /* no memory for the first task's state: the exec is refused */
	FAILURE_SCRATCH, /* more nested programs on a CPU than buffers: denied */
	FAILURE_NAME_LONG, /* the name is over 4096 bytes: denied where any rule could apply */
	FAILURE_NAME_RACE, /* renames never paused: denied where any rule could apply */
	FAILURE_NAME_STRAY, /* reached from outside of every mount, as by a file handle: denied where any rule could apply */
	FAILURE_MOUNTS_FULL, /* original mounts that found no room: named as mounted now */
	FAILURE_CHAIN, /* a rule chain did not end: denied */
	FAILURE_CACHE, /* no memory for a cached verdict: judged anew each time */
	FAILURE_PENDING, /* no state when a new program's arguments are judged: killed */
	FAILURE_CGROUP, /* no room to let a new cgroup inherit: it is bound at the agent's next look */
	FAILURE_LISTEN, /* no memory for a listener's state: listening is refused */
	FAILURE_DRIFT, /* the root is no overlay, so what changed on it cannot be told from the image: passes as unchanged */
	FAILURE_SENDER, /* no memory for who sends: sending is refused */
	FAILURE_QUERY, /* what is sent to port 53 is no query that can be read: denied where any rule could apply */
	FAILURE_ALIASES, /* before 6.8, a file in a layer of a workload's own overlay has more names than are looked at: denied */
	FAILURE_COUNT,
};

#endif
