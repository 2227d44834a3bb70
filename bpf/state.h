/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps, what is in them, and the ways to fail that are counted. */
#ifndef BELAY_STATE_H
#define BELAY_STATE_H

#include "event.h"
#include "kernel.h"
#include "tables.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

/* Bytes of tables that can be in force or in preparation at once. */
#define ARENA_BYTES (32 << 20)

/* Set by the agent before loading: the programs run on the functions of security/security.c, as fmod_ret, since BPF is no
 * active security module. Storage of inodes and sockets is out of their reach there. */
const volatile bool through_security;
const volatile bool setattr_has_idmap; /* the inode_setattr hook is given the idmap (6.9) */
const volatile u64 fold_window = 1000000000; /* ns */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, u32);
	__uint(value_size, ARENA_BYTES);
} arena SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_WORKLOADS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, u32);
	__type(value, struct workload);
} workloads SEC(".maps");

enum subject_flag {
	SUBJECT_UNSTARTED = 1, /* the container runtime, not yet the container: see is_starting */
	SUBJECT_JOINED = 2, /* came from outside into a workload that was running */
	SUBJECT_PROGRAM_CUT = 4, /* program[] holds the end of a longer name */
	SUBJECT_CARRIED = 8, /* as another schema's programs knew it, and no exec since */
	SUBJECT_AGENT = 16, /* of the agent's own pod: nothing is kept from it */
};

#define SUBJECT_WORD(generation, program, script) ((u64)(generation) << 32 | (u32)(script) << 16 | (program))
#define SUBJECT_GENERATION(word) ((u32)((word) >> 32))
#define SUBJECT_SCRIPT(word) ((u16)((word) >> 16))
#define SUBJECT_PROGRAM(word) ((u16)(word))

/* What a task carries; inherited by its children, renewed by exec, never changed by moving. */
struct subject {
	u64 exec_id;
	/* SUBJECT_WORD of the tables' generation and the classes, of the program and of the script that it interprets,
	 * in those tables; one word, since a child may be reading it. 0 = not read yet. */
	u64 classes;
	u64 home; /* id of the mount namespace that names are given in */
	u64 cgroup; /* where it became part of the workload; who owns that may turn out later */
	u32 workload;
	u16 flags;
	u16 program_length;
	u16 script_length; /* 0 = no script */
	/* while an exec is under way: */
	u16 pending_length; /* the file first asked for, a script if there is a second */
	u32 pending_files;
	u32 pending_generation;
	u32 pending_arguments[WAITING_LIMIT]; /* the rules that judge the arguments */
	u32 pending_waits;
	u32 told; /* the operation under way that a rule has reported, see was_told; only where something is visible */
	char program[PROGRAM_MAX];
	char script[PROGRAM_MAX];
	char pending[PROGRAM_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct subject);
} tasks SEC(".maps");

/* Out of the way of everybody else: where a bit of the task lies takes a dozen instructions to ask. */
static __noinline bool is_in_exec(struct task_struct *task)
{
	return BPF_CORE_READ_BITFIELD(task, in_execve);
}

/* The exec that makes the current task the container is under way: not judged until it is done. One that fails leaves the
 * task where it went, and judged. */
static __always_inline bool is_starting(struct subject *who, struct task_struct *task)
{
	return who->flags & SUBJECT_UNSTARTED && is_in_exec(task);
}

/* cgroup id -> whose it is */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4 * MAX_WORKLOADS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, struct binding);
} cgroups SEC(".maps");

/* cgroup id -> id of the mount namespace that its first program ran in */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4 * MAX_WORKLOADS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, u64);
} cgroup_homes SEC(".maps");

#define POD_UID_MAX 40
struct pod_uid { char text[POD_UID_MAX]; }; /* as in the API, with dashes; NUL behind */

/* Pods of this node -> the workload that their containers are part of until it is known which one they are */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_WORKLOADS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct pod_uid);
	__type(value, u32);
} pods SEC(".maps");

#define CONTAINER_ID_MAX 64
struct container_id { char text[CONTAINER_ID_MAX]; };

/* Containers that are known before their cgroup is made -> workload, or 0 = nobody's */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4 * MAX_WORKLOADS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct container_id);
	__type(value, u32);
} containers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, u32);
	__type(value, struct settings);
} settings SEC(".maps");

#define CGROUP_PATH_MAX 256
struct cgroup_path { char path[CGROUP_PATH_MAX]; };

/* Path below the cgroup v2 root, of cgroups that are announced but do not exist yet -> workload */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_WORKLOADS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct cgroup_path);
	__type(value, u32);
} cgroup_paths SEC(".maps");

#define PREFIX_MAX 256

/* An original mount: one that was there when the workload started. */
struct original {
	u64 root; /* its root dentry */
	u64 inode; /* that one's number: once it is unmounted, the memory is another dentry's */
	u64 home; /* the mount namespace it was seen in */
	u32 length;
	char prefix[PREFIX_MAX]; /* where it is mounted; empty for "/" */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64); /* struct mount */
	__type(value, struct original);
} originals SEC(".maps");

struct root_key { u64 dentry; u64 home; };

/* Root dentry of an original mount -> the mount, to name what is reached through a later mount. Under the address of its
 * super block as well, to tell file systems that were there from those that came later. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct root_key);
	__type(value, u64);
} roots SEC(".maps");

/* A mount namespace whose originals have been taken. */
struct home {
	u32 round; /* of the last look at all tasks that met one of its */
	u64 root; /* the super block of its first program's root: in a container, its image */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4 * MAX_WORKLOADS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, struct home);
} homes SEC(".maps");

/* What a decision lets pass, valid while all that it was made from is unchanged. sum guards against two CPUs
 * writing one entry at once: a torn entry does not add up and is a miss. */
struct cached {
	u64 dentry;
	u64 mount;
	u64 parent; /* the parent directory's inode */
	u64 name; /* hash | length << 32, as the dentry cache has it */
	u64 home; /* as in struct subject */
	u64 classes; /* SUBJECT_WORD of a program and no script, with enum domain in the script's place */
	u64 sequence; /* tree_sequence() */
	u64 passes; /* bit 1 << enum decide: without event or condition */
	u64 sum;
};
#define CACHE_WAYS 4

struct verdicts { struct cached ways[CACHE_WAYS]; };

struct {
	__uint(type, BPF_MAP_TYPE_INODE_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct verdicts);
} verdicts SEC(".maps");

/* A socket that receives on behalf of a workload. */
struct receiver {
	u64 cgroup; /* as in struct subject */
	u32 workload; /* what it was, where the cgroup is gone */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct receiver);
} receivers SEC(".maps");

/* The same where programs run on security_*: by struct sock, and gone with it (socket_freed) */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, struct receiver);
} socket_receivers SEC(".maps");

enum query_phase {
	QUERY_LENGTH, /* before a message over TCP */
	QUERY_LENGTH_LOW,
	QUERY_HEADER,
	QUERY_LABEL, /* its length is next */
	QUERY_BYTES, /* of a label */
	QUERY_REST, /* what is behind the name */
	QUERY_ASKED, /* the name is whole */
	QUERY_BROKEN,
};

/* How far DNS messages have been read (RFC 1035, 4.1). */
struct query {
	u32 at; /* where in the packet the next byte is */
	u32 end; /* of the packet */
	u32 chunk; /* bytes of it at hand, and of those read */
	u32 read;
	u32 left; /* bytes of the message to come */
	u32 questions;
	u32 length; /* of the name so far */
	u8 phase; /* enum query_phase */
	u8 header; /* bytes of it read */
	u8 label; /* bytes of it to come */
};

/* The longest name has 253 characters. It stands at the end of scratch.name. */
#define QUERY_NAME 256

/* A TCP connection to port 53: what left of it so far. */
struct stream {
	u32 started;
	u32 next; /* sequence number of the first byte that was not read */
	u32 refused; /* that of a segment that was denied, and told, or next */
	struct query query;
	char name[QUERY_NAME];
};

#define EVENT_STRINGS 2048 /* more than all but the object's name come to */
#define SENDER_EVENT (sizeof(struct event) + EVENT_STRINGS)

/* Who sent by a socket last: packets leave when there may be nobody. */
struct sender {
	struct subject subject;
	struct stream stream;
	u32 told; /* bytes of event */
	u32 tid;
	char event[SENDER_EVENT]; /* a struct event that says who, and its strings */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct sender);
} senders SEC(".maps");

/* Names are written from the right: name[off..4096) is the name. A component of up to 255 bytes is
 * copied at once, so its copy may start at the last byte. The bytes from 4096 on stay zero. */
#define NAME_SIZE (NAME_MAX_BYTES + 256)
#define EVENT_SIZE (sizeof(struct event) + EVENT_STRINGS + NAME_SIZE)

/* --- the tables, in the kernel's way --- */

static __always_inline void *tables_arena(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&arena, &zero);
}

struct tables { u8 *arena; u32 region; };
#define TABLES struct tables
/* Masked to the arena, and to the type's alignment. */
#define TABLE(type, tables, offset) \
	(*(type *)((tables).arena + (((tables).region + (offset)) & (ARENA_BYTES - 1) & ~(sizeof(type) - 1))))
/* Regions begin with a page (agent/kernel/arena.ts), and their headers are shorter: one mask does for all of it. */
#define HEADER_AT(tables, offset) \
	(*(u32 *)((tables).arena + ((tables).region & (ARENA_BYTES - 1) & ~4095u) + (offset)))
#define MATCHER_LOOP _Pragma("clang loop unroll(disable)")
struct judgement;
#define WALK_CHAIN walk_chain
static __always_inline u32 walk_chain(struct tables tables, u32 rule, u32 held, u32 posture, u32 waiting,
				      struct judgement *out);
#include "matcher.h"

static long walk_chain_step(u32 i, struct chain *c)
{
	c->settled = chain_step(c);
	return c->settled;
}

/* As in matcher.h. A global function is verified by itself, once, instead of at each call, and what bpf_loop calls once
 * for all rules. flags: posture | WAITING_AUDIT. */
__noinline u32 walk_chain_at(u32 region, u32 rule, u32 held, u32 flags, struct judgement *out)
{
	struct chain c = { { tables_arena(), region }, rule, held, flags & 1, flags & WAITING_AUDIT, 0, out };

	if (!c.tables.arena || !out)
		return rule;
	bpf_loop(CHAIN_LIMIT, walk_chain_step, &c, 0);
	if (!c.settled && c.rule)
		out->failed = 1;
	return c.rule;
}

static __always_inline u32 walk_chain(struct tables tables, u32 rule, u32 held, u32 posture, u32 waiting,
				      struct judgement *out)
{
	return walk_chain_at(tables.region, rule, held, (posture != 0) | waiting, out);
}

/* --- scratch --- */

/* What one program works with, since a stack is 512 bytes. Programs can preempt or interrupt each other
 * on a CPU, so there are several, and each is taken and given back. */
struct scratch {
	u32 busy;
	/* what is to be named, or judged: kernel addresses */
	u64 object_dentry;
	u64 object_mount; /* 0 = not known */
	u64 object_inode; /* whose owner counts; 0 = nobody */
	/* naming */
	u32 off;
	u32 flags;
	u32 known; /* mount is an original */
	u32 tries;
	u32 over; /* the name is to be that in the upper layer of the overlay that the object is in */
	u64 dentry;
	u64 mount;
	u64 stop;
	u64 home;
	u64 hash;
	u64 sequence; /* of the trees when the name was made */
	/* the automaton */
	u32 row;
	u32 at;
	u32 region;
	u32 cells;
	/* taking the originals */
	u64 visit;
	u64 visit_root;
	u32 visit_ascend;
	/* telling */
	u64 up; /* the task, or the directory, that is to be told of next */
	u64 up_mount;
	u32 level;
	u32 room;
	/* the question */
	u32 generation;
	u32 workload;
	u32 held;
	u32 capability;
	u16 kind;
	u16 protocol;
	u16 port;
	u8 family;
	u8 operation;
	u8 decide;
	u8 domain;
	u8 event_flags;
	u8 count; /* of classes */
	u8 escape; /* enum escape, of a question in DOMAIN_ESCAPE; then name[] is what the event says */
	u8 address[16];
	u16 classes[SUBJECT_CLASSES];
	struct judgement judgement;
	struct cached fresh; /* a cache entry in the making */
	struct query query;
	char name[NAME_SIZE];
	char event[EVENT_SIZE];
};

#define SCRATCHES 8
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SCRATCHES);
	__type(key, u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

#define DENIALS_BYTES (2 << 20)
/* What a workload may hold of it while the agent's pace is not known. */
#define DENIALS_SHARE (DENIALS_BYTES / 32)

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, DENIALS_BYTES);
} denials SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} matches SEC(".maps");

#define TELEMETRY_BYTES (1 << 20)
/* What any workload may write within a second, even where little room is left. */
#define TELEMETRY_SHARE (TELEMETRY_BYTES / 32)

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, TELEMETRY_BYTES);
} telemetry_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FOLD_SLOTS + LOG_FOLD_SLOTS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, u32);
	__type(value, struct fold);
} folds SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, FAILURE_COUNT);
	__type(key, u32);
	__type(value, u64);
} failures SEC(".maps");

/* HAS_RDONLY_CAST: the object is for kernels that have this function (6.2). Not a constant that is set when it is loaded: what
 * then is dead would take the verifier its time in each program, and asking which way to go takes two instructions. */
extern void *bpf_rdonly_cast(const void *obj, u32 btf_id) __ksym __weak;

/* One member of a kernel structure whose address is just a number to the verifier: a plain load where the kernel
 * allows that (6.2), else by the helper, which costs some ninety instructions. NULL reads as 0. */
#define PEEK(type, address, member) ({ \
	u64 address_ = (u64)(address); \
	typeof(((struct type *)0)->member) value_; \
	if (HAS_RDONLY_CAST) \
		value_ = CAST(type, address_)->member; \
	else \
		value_ = BPF_CORE_READ((struct type *)address_, member); \
	value_; })
#define CAST(type, address) \
	((struct type *)bpf_rdonly_cast((void *)(u64)(address), bpf_core_type_id_kernel(struct type)))

/* The current task, to read members of it. For each pointer that is read from a trusted one, the verifier (6.2 and newer)
 * looks through all types of the kernel four times; this is not trusted. */
static __always_inline struct task_struct *peek_current(void)
{
	struct task_struct *task = bpf_get_current_task_btf();

	return HAS_RDONLY_CAST ? CAST(task_struct, task) : task;
}

static __always_inline void count_failure(u32 failure)
{
	u64 *n = bpf_map_lookup_elem(&failures, &failure);

	if (n)
		__sync_fetch_and_add(n, 1);
}

static __always_inline struct settings *get_settings(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

static __always_inline struct scratch *take_scratch(void)
{
	for (u32 i = 0; i < SCRATCHES; i++) {
		u32 key = i;
		struct scratch *s = bpf_map_lookup_elem(&scratches, &key);

		if (s && __sync_val_compare_and_swap(&s->busy, 0, 1) == 0)
			return s;
	}
	count_failure(FAILURE_SCRATCH);
	return NULL;
}

static __always_inline void give_scratch(struct scratch *s)
{
	__sync_lock_test_and_set(&s->busy, 0);
}

#endif
