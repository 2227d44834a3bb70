/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who is who. A workload is a cgroup with all below it. A task becomes part of it when it execs there, or
 * when the agent looks at all tasks (adopt); its children inherit, and nothing that a task does
 * afterwards, moving cgroup or namespace included, takes it out. So the container runtime's own set-up inside
 * of the cgroup, before it execs the entrypoint, is not judged, and the entrypoint's exec is.
 */
#ifndef BELAY_IDENTITY_H
#define BELAY_IDENTITY_H

#include "decide.h"

static __always_inline u64 task_cgroup(struct task_struct *task)
{
	return BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
}

/* Program and script names are stored whole or, if longer than fits, by their end. */
static __always_inline u16 store_name(struct scratch *s, char *to, u16 *flags)
{
	u32 length = NAME_MAX_BYTES - s->off, at = s->off;

	if (s->flags & (WALK_LOST | WALK_LONG | WALK_RACE))
		return 0;
	if (length > PROGRAM_MAX) {
		at = NAME_MAX_BYTES - PROGRAM_MAX;
		length = PROGRAM_MAX;
		*flags |= SUBJECT_PROGRAM_CUT;
	}
	length &= 255;
	if (length)
		bpf_probe_read_kernel(to, length, &s->name[at & (NAME_MAX_BYTES - 1)]);
	return length;
}

/* A new task has its parent's state, io_uring's workers included. Fails closed: no memory, no fork. */
SEC("lsm/task_alloc")
int BPF_PROG(task_alloc, struct task_struct *task, unsigned long clone_flags)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct subject *from, *to;

	if (!current->bpf_storage)
		return 0;
	from = bpf_task_storage_get(&tasks, current, 0, 0);
	if (!from)
		return 0;
	to = bpf_task_storage_get(&tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!to) {
		count_failure(FAILURE_TASK_ALLOC);
		return -ENOMEM;
	}
	bpf_probe_read_kernel(to, __builtin_offsetof(struct subject, program), from);
	bpf_probe_read_kernel(to->program, from->program_length & 255, from->program);
	if (from->script_length)
		bpf_probe_read_kernel(to->script, from->script_length & 255, from->script);
	return 0;
}

/* Below a workload's cgroup every cgroup is the workload's; one that was announced by path becomes one. */
SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(cgroup_mkdir, struct cgroup *cgroup, const char *path)
{
	u64 id = BPF_CORE_READ(cgroup, kn, id), up = 0;
	struct cgroup_subsys_state *parent = BPF_CORE_READ(cgroup, self.parent);
	struct cgroup_path key = {};
	u32 *workload = NULL;

	if (parent) {
		struct cgroup *above = (void *)parent - bpf_core_field_offset(struct cgroup, self);

		up = BPF_CORE_READ(above, kn, id);
		workload = bpf_map_lookup_elem(&cgroups, &up);
	}
	if (!workload) {
		if (bpf_probe_read_kernel_str(key.path, sizeof(key.path), path) < 0)
			return 0;
		workload = bpf_map_lookup_elem(&cgroup_paths, &key);
	}
	if (workload && bpf_map_update_elem(&cgroups, &id, workload, BPF_ANY))
		count_failure(FAILURE_CGROUP);
	return 0;
}

SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(cgroup_rmdir, struct cgroup *cgroup, const char *path)
{
	u64 id = BPF_CORE_READ(cgroup, kn, id);

	bpf_map_delete_elem(&cgroups, &id);
	return 0;
}

/* Where this workload's names are given from: the first mount namespace that it runs in. */
static __always_inline void settle(struct scratch *s, struct task_struct *task, u32 workload)
{
	struct workload *w = bpf_map_lookup_elem(&workloads, &workload);
	struct mnt_namespace *ns = BPF_CORE_READ(task, nsproxy, mnt_ns);
	u64 id;

	if (!w || w->home || !ns)
		return;
	id = mounts_id(ns);
	take_originals(s, (u64)ns, id);
	w->home = id;
}

/* The program that a task runs, as its name is now. */
static __always_inline void take_program(struct scratch *s, struct task_struct *task, struct subject *who, u64 home)
{
	struct file *exe = BPF_CORE_READ(task, mm, exe_file);
	u64 dentry, mount;

	s->home = home;
	who->script_length = 0;
	who->program_length = 0;
	who->classes = 0;
	if (!exe)
		return;
	dentry = (u64)BPF_CORE_READ(exe, f_path.dentry);
	mount = (u64)real_mount(BPF_CORE_READ(exe, f_path.mnt));
	name_object(s, dentry, mount);
	who->program_length = store_name(s, who->program, &who->flags);
}

/* Read by the agent after it has written `cgroups`: the tasks that are in a workload's cgroup already. It reads
 * twice, so that a child of a task that was not yet adopted is not missed either. */
SEC("iter/task")
int adopt(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct subject *who;
	struct scratch *s;
	struct file *exe;
	struct mnt_namespace *ns, *exe_ns;
	struct workload *w;
	struct mount *m;
	u32 *workload;
	u64 cgroup;

	if (!task)
		return 0;
	if (BPF_CORE_READ(task, tgid) == 1 && !host_mounts) {
		ns = BPF_CORE_READ(task, nsproxy, mnt_ns);
		if (ns)
			host_mounts = mounts_id(ns);
	}
	cgroup = task_cgroup(task);
	workload = bpf_map_lookup_elem(&cgroups, &cgroup);
	if (!workload || BPF_CORE_READ(task, flags) & PF_KTHREAD)
		return 0;
	who = bpf_task_storage_get(&tasks, task, 0, 0);
	if (who)
		return 0;
	/* Inside of a container, but running the node's program: the runtime, still setting up. Its exec will be judged. */
	ns = BPF_CORE_READ(task, nsproxy, mnt_ns);
	exe = BPF_CORE_READ(task, mm, exe_file);
	if (!ns || !exe)
		return 0;
	m = real_mount(BPF_CORE_READ(exe, f_path.mnt));
	exe_ns = BPF_CORE_READ(m, mnt_ns);
	if (exe_ns != ns && exe_ns && (u64)exe_ns < (u64)-4096 && mounts_id(exe_ns) == host_mounts)
		return 0;
	w = bpf_map_lookup_elem(&workloads, workload);
	s = take_scratch();
	if (!w || !s)
		goto out;
	who = bpf_task_storage_get(&tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!who) {
		count_failure(FAILURE_BIND);
		goto out;
	}
	who->workload = *workload;
	settle(s, task, *workload);
	take_program(s, task, who, w->home);
	who->exec_id = BPF_CORE_READ(task, start_boottime) << 8;
out:
	if (s)
		give_scratch(s);
	return 0;
}

#endif
