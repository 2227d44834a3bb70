/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From the programs of another schema to these: what tasks and listening sockets carry. Both sets of programs run
 * meanwhile. Until all is carried over (settings.carrying), these make no state of their own for whoever joins a
 * workload, since what they do not know yet they would take for new; the old ones do, and it is carried over like the
 * rest. The agent copies the other maps.
 */
#ifndef BELAY_CARRY_H
#define BELAY_CARRY_H

#include "state.h"

/* Members of the old struct subject, and of its struct receiver. */
enum carried {
	CARRIED_EXEC_ID,
	CARRIED_HOME,
	CARRIED_CGROUP,
	CARRIED_WORKLOAD,
	CARRIED_FLAGS,
	CARRIED_PROGRAM_LENGTH,
	CARRIED_SCRIPT_LENGTH,
	CARRIED_PENDING_LENGTH,
	CARRIED_PENDING_FILES,
	CARRIED_PROGRAM,
	CARRIED_SCRIPT,
	CARRIED_PENDING,
	CARRIED_RECEIVER_CGROUP,
	CARRIED_RECEIVER_WORKLOAD,
	CARRIED_COUNT,
};

/* Where they are, and how long; the agent reads that from the type information of the old maps. */
const volatile u16 carried_at[CARRIED_COUNT];
const volatile u16 carried_size[CARRIED_COUNT];

/* The old maps. Never made, only taken over: what is said of their values does not matter. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct subject);
} previous_tasks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct receiver);
} previous_receivers SEC(".maps");

#define CARRY(member, to, from) \
	do { \
		u32 size_ = carried_size[member]; \
		if (size_ > sizeof(to)) \
			size_ = sizeof(to); \
		if (size_) \
			bpf_probe_read_kernel(&(to), size_, (void *)(from) + carried_at[member]); \
	} while (0)

/* Read by the agent until it finds nothing more: a task that has forked meanwhile may have a child that was not met. */
SEC("iter/task")
int carry(struct bpf_iter__task *ctx)
{
	struct settings *set = get_settings();
	struct task_struct *task = ctx->task;
	struct subject *from, *to;
	u64 exec_id = 0;

	if (!task || !set)
		return 0;
	from = bpf_task_storage_get(&previous_tasks, task, 0, 0);
	if (!from)
		return 0;
	to = bpf_task_storage_get(&tasks, task, 0, 0);
	if (to) {
		CARRY(CARRIED_EXEC_ID, exec_id, from);
		/* an exec has renewed it, or is about to; what it was before that matters no more */
		if (!(to->flags & SUBJECT_CARRIED) || to->exec_id == exec_id ||
		    BPF_CORE_READ_BITFIELD_PROBED(task, in_execve))
			return 0;
	} else {
		to = bpf_task_storage_get(&tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	}
	if (!to) {
		/* the agent keeps the old programs */
		count_failure(FAILURE_BIND);
		set->uncarried++;
		return 0;
	}
	CARRY(CARRIED_EXEC_ID, to->exec_id, from);
	CARRY(CARRIED_HOME, to->home, from);
	CARRY(CARRIED_CGROUP, to->cgroup, from);
	CARRY(CARRIED_FLAGS, to->flags, from);
	CARRY(CARRIED_PROGRAM_LENGTH, to->program_length, from);
	CARRY(CARRIED_SCRIPT_LENGTH, to->script_length, from);
	CARRY(CARRIED_PENDING_LENGTH, to->pending_length, from);
	CARRY(CARRIED_PENDING_FILES, to->pending_files, from);
	CARRY(CARRIED_PROGRAM, to->program, from);
	CARRY(CARRIED_SCRIPT, to->script, from);
	CARRY(CARRIED_PENDING, to->pending, from);
	to->classes = 0;
	to->flags |= SUBJECT_CARRIED;
	if (to->program_length > PROGRAM_MAX) {
		to->program_length = 0;
		to->flags |= SUBJECT_PROGRAM_CUT;
	}
	if (to->script_length > PROGRAM_MAX)
		to->script_length = 0;
	if (to->pending_length > PROGRAM_MAX)
		to->pending_length = 0;
	/* last: from now on it is judged */
	barrier();
	CARRY(CARRIED_WORKLOAD, to->workload, from);
	set->carried++;
	return 0;
}

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	void *value;
} __attribute__((preserve_access_index));

/* Once, over the old receivers. */
SEC("iter/bpf_sk_storage_map")
int carry_receivers(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct settings *set = get_settings();
	struct receiver *to;
	void *from = ctx->value;
	struct sock *sk = ctx->sk;

	if (!sk || !from || !set)
		return 0;
	to = bpf_sk_storage_get(&receivers, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!to) {
		count_failure(FAILURE_LISTEN);
		set->uncarried++;
		return 0;
	}
	if (!to->workload) {
		CARRY(CARRIED_RECEIVER_CGROUP, to->cgroup, from);
		CARRY(CARRIED_RECEIVER_WORKLOAD, to->workload, from);
	}
	return 0;
}

#endif
