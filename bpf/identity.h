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

	if (s->flags & (WALK_LOST | WALK_LONG | WALK_RACE | WALK_STRAY))
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

/* --- which pod, and which container, by the names that kubelet and the runtimes give to cgroups --- */

#define CGROUP_NAME_MAX 128

static __always_inline bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

struct naming_cgroup { struct scratch *s; u32 at; };

/* Finds "pod" at the beginning or behind a dash; the last one counts. */
static long find_pod(u32 i, struct naming_cgroup *n)
{
	const char *name = n->s->name;

	i &= CGROUP_NAME_MAX - 1;
	if (!name[i])
		return 1;
	if (name[i] == 'p' && name[i + 1] == 'o' && name[i + 2] == 'd' && (!i || name[(i - 1) & (CGROUP_NAME_MAX - 1)] == '-'))
		n->at = i + 3;
	return 0;
}

/* Finds what is behind the last dash. */
static long find_last(u32 i, struct naming_cgroup *n)
{
	char c = n->s->name[i & (CGROUP_NAME_MAX - 1)];

	if (c == '-')
		n->at = i + 1;
	return !c;
}

/* `pod<uid>`, `kubepods-burstable-pod<uid with underscores>.slice` (kubelet's cgroup managers): the uid of s->name.
 * That of a static pod is 32 digits, of any other 36 characters. */
static __always_inline bool pod_of(struct scratch *s, struct pod_uid *uid)
{
	struct naming_cgroup n = { s };
	u32 length = 0, at;

	bpf_loop(CGROUP_NAME_MAX, find_pod, &n, 0);
	at = n.at;
	if (!at)
		return false;
	for (int i = 0; i < POD_UID_MAX; i++) {
		char c = s->name[(at + i) & 255];

		if (c == '_')
			c = '-';
		if (c != '-' && !is_hex(c))
			break;
		uid->text[i] = c;
		length++;
	}
	return length == 32 || length == 36;
}

/* `<id>`, `cri-containerd-<id>.scope`, `crio-<id>.scope`: the container's id in s->name, 64 digits. */
static __always_inline bool container_of_name(struct scratch *s, struct container_id *id)
{
	struct naming_cgroup n = { s };
	u32 at;

	bpf_loop(CGROUP_NAME_MAX, find_last, &n, 0);
	at = n.at;
	for (int i = 0; i < CONTAINER_ID_MAX; i++) {
		char c = s->name[(at + i) & 255];

		if (!is_hex(c))
			return false;
		id->text[i] = c;
	}
	return true;
}

/* CRI-O's monitor runs in a cgroup of its own in the pod's, and starts the runtime from there: the node's, not the pod's. */
static __always_inline bool is_monitor(const char *name)
{
	static const char monitor[] = "crio-conmon-";

	for (int i = 0; i < (int)sizeof(monitor) - 1; i++)
		if (name[i] != monitor[i])
			return false;
	return true;
}

/* Whose a new cgroup directly below a pod's is. It stays the pod's where that cannot be told yet. */
static __always_inline void bind_container(struct scratch *s, struct settings *set, struct cgroup *pod, struct binding *to)
{
	struct container_id id = {};
	u32 *known = NULL;

	if (container_of_name(s, &id))
		known = bpf_map_lookup_elem(&containers, &id);
	if (known)
		to->workload = *known;
	else if (is_monitor(s->name) || (set->sandbox_first && BPF_CORE_READ(pod, nr_descendants) == 1))
		to->workload = 0;
}

/*
 * Whose a new cgroup is, before any task can be in it. Below a container's, all are the container's. Below a pod's
 * are its containers'. Else its name may be a pod's, or its path one that was announced; what is left is its parent's.
 * Fails towards the parent's; the agent's next look finds it.
 */
SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(cgroup_mkdir, struct cgroup *cgroup, const char *path)
{
	u64 id = BPF_CORE_READ(cgroup, kn, id), up = 0, *home;
	struct cgroup_subsys_state *parent = BPF_CORE_READ(cgroup, self.parent);
	struct settings *set = get_settings();
	struct binding *above = NULL, to = {};
	struct cgroup *over = NULL;
	struct cgroup_path key = {};
	struct scratch *s = NULL;
	bool bound = false, host;
	u32 *workload;

	/* version 1's hierarchies have ids of their own that mean nothing here */
	if (!set || BPF_CORE_READ(cgroup, root, hierarchy_id))
		return 0;
	if (parent) {
		over = (void *)parent - bpf_core_field_offset(struct cgroup, self);
		up = BPF_CORE_READ(over, kn, id);
		above = bpf_map_lookup_elem(&cgroups, &up);
	}
	if (above) {
		to.workload = above->workload;
		bound = true;
	}
	host = set->host && to.workload == set->host;
	if (set->unknown && (!bound || host || above->flags & BINDING_POD)) {
		s = take_scratch();
		if (!s)
			goto out;
		__builtin_memset(s->name, 0, 256);
		bpf_probe_read_kernel_str(s->name, CGROUP_NAME_MAX, BPF_CORE_READ(cgroup, kn, name));
		if (above && above->flags & BINDING_POD) {
			bind_container(s, set, over, &to);
			report_cgroup(s, id, to.workload, path);
		} else {
			struct pod_uid uid = {};

			if (pod_of(s, &uid)) {
				workload = bpf_map_lookup_elem(&pods, &uid);
				to.workload = workload ? *workload : set->unknown;
				to.flags = BINDING_POD;
				bound = true;
				if (!workload)
					report_cgroup(s, id, to.workload, path);
			}
		}
		give_scratch(s);
	}
	if (!bound || host) {
		if (!(to.flags & BINDING_POD) && bpf_probe_read_kernel_str(key.path, sizeof(key.path), path) > 0) {
			workload = bpf_map_lookup_elem(&cgroup_paths, &key);
			if (workload) {
				to.workload = *workload;
				bound = true;
			}
		}
	}
out:
	if (!bound)
		return 0;
	if (bpf_map_update_elem(&cgroups, &id, &to, BPF_ANY))
		count_failure(FAILURE_CGROUP);
	home = bpf_map_lookup_elem(&cgroup_homes, &up);
	if (home)
		bpf_map_update_elem(&cgroup_homes, &id, home, BPF_ANY);
	return 0;
}

SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(cgroup_rmdir, struct cgroup *cgroup, const char *path)
{
	u64 id = BPF_CORE_READ(cgroup, kn, id);

	if (BPF_CORE_READ(cgroup, root, hierarchy_id))
		return 0;
	bpf_map_delete_elem(&cgroups, &id);
	bpf_map_delete_elem(&cgroup_homes, &id);
	return 0;
}

#define CGROUP_ABOVE(cgroup) ({ \
	struct cgroup_subsys_state *up_ = BPF_CORE_READ(cgroup, self.parent); \
	up_ ? (void *)up_ - bpf_core_field_offset(struct cgroup, self) : NULL; })

/* Whether a task is in the agent's pod, at most two cgroups below the pod's. */
static __always_inline bool is_in_agents_pod(struct settings *set, struct task_struct *task)
{
	struct cgroup *cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp);

	if (!set || !set->agent_pod)
		return false;
	for (int i = 0; i < 3 && cgroup; i++) {
		if (BPF_CORE_READ(cgroup, kn, id) == set->agent_pod)
			return true;
		cgroup = CGROUP_ABOVE(cgroup);
	}
	return false;
}

/* Who reads the iterator is the agent: nobody else can. */
static __always_inline void note_agent(struct settings *set)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct cgroup *cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp), *above = CGROUP_ABOVE(cgroup);
	struct subject *who = bpf_task_storage_get(&tasks, task, 0, 0);

	for (int i = 0; i < AGENT_CGROUPS; i++) {
		/* all but the root, which is above none */
		set->agent_cgroups[i] = above ? BPF_CORE_READ(cgroup, kn, id) : 0;
		if (!i && above && who && who->workload && who->workload != set->host)
			set->agent_pod = BPF_CORE_READ(above, kn, id);
		if (!above)
			continue;
		cgroup = above;
		above = CGROUP_ABOVE(cgroup);
	}
	set->agent_credentials = (u64)task->real_cred;
	set->agent = task->tgid;
}

/* Where the names of a cgroup's tasks are given from: the mount namespace of its first program. joined: there was one. */
static __always_inline u64 settle(struct scratch *s, struct task_struct *task, u64 cgroup, bool *joined)
{
	struct mnt_namespace *ns = BPF_CORE_READ(task, nsproxy, mnt_ns);
	u64 *home = bpf_map_lookup_elem(&cgroup_homes, &cgroup), id;

	*joined = home != NULL;
	if (home)
		return *home;
	if (!ns)
		return 0;
	id = mounts_id(ns);
	take_originals(s, (u64)ns, id, (u64)BPF_CORE_READ(task, fs, root.mnt, mnt_sb));
	bpf_map_update_elem(&cgroup_homes, &cgroup, &id, BPF_NOEXIST);
	return id;
}

/* The program that a task runs, as its name is now. */
static __always_inline void take_program(struct scratch *s, struct task_struct *task, struct subject *who)
{
	struct file *exe = BPF_CORE_READ(task, mm, exe_file);
	u64 dentry, mount;

	s->home = who->home;
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

/* Whether a task is in a cgroup directly below a pod's. */
static __always_inline bool is_containers(struct task_struct *task)
{
	struct cgroup *cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp), *above = CGROUP_ABOVE(cgroup);
	struct binding *pod;
	u64 id;

	if (!above)
		return false;
	id = BPF_CORE_READ(above, kn, id);
	pod = bpf_map_lookup_elem(&cgroups, &id);
	return pod && pod->flags & BINDING_POD;
}

/* A look at all tasks has met this one: neither its workload's number nor its mounts may be given up. */
static __always_inline void mark(struct settings *set, struct subject *who)
{
	struct workload *w = bpf_map_lookup_elem(&workloads, &who->workload);
	struct home *home = bpf_map_lookup_elem(&homes, &who->home);

	if (w)
		w->round = set->round;
	if (home)
		home->round = set->round;
}

/* Read by the agent after it has written `cgroups`: the tasks that are in a workload's cgroup already, and those whose
 * cgroup turned out to be another's. It reads twice, so that a child of a task that was not met yet is not missed either. */
SEC("iter/task")
int adopt(struct bpf_iter__task *ctx)
{
	struct settings *set = get_settings();
	struct task_struct *task = ctx->task;
	struct binding *b;
	struct subject *who;
	struct scratch *s;
	struct file *exe;
	struct mnt_namespace *ns, *exe_ns;
	struct mount *m;
	bool joined;
	u64 cgroup;

	if (!task || !set)
		return 0;
	if (!BPF_CORE_READ(ctx->meta, seq_num))
		note_agent(set);
	if (BPF_CORE_READ(task, tgid) == 1 && !set->host_root) {
		ns = BPF_CORE_READ(task, nsproxy, mnt_ns);
		if (ns) {
			set->host_mounts = mounts_id(ns);
			set->host_root = (u64)BPF_CORE_READ(task, fs, root.dentry);
		}
	}
	if (BPF_CORE_READ(task, flags) & PF_KTHREAD)
		return 0;
	who = bpf_task_storage_get(&tasks, task, 0, 0);
	if (who) {
		cgroup = who->cgroup;
		b = bpf_map_lookup_elem(&cgroups, &cgroup);
		if (b && b->workload != who->workload)
			who->workload = b->workload;
		/* where it began, not where it has moved to */
		if (cgroup == task_cgroup(task) && is_in_agents_pod(set, task))
			who->flags |= SUBJECT_AGENT;
		mark(set, who);
		return 0;
	}
	cgroup = task_cgroup(task);
	b = bpf_map_lookup_elem(&cgroups, &cgroup);
	/* while state is carried over, it may only not have come yet (carry.h) */
	if (!b || !b->workload || set->carrying)
		return 0;
	/* Inside of a container, but running the node's program: the runtime, still setting up. Its exec will be judged. */
	ns = BPF_CORE_READ(task, nsproxy, mnt_ns);
	exe = BPF_CORE_READ(task, mm, exe_file);
	if (!ns || !exe)
		return 0;
	m = real_mount(BPF_CORE_READ(exe, f_path.mnt));
	exe_ns = BPF_CORE_READ(m, mnt_ns);
	if (exe_ns != ns && exe_ns && (u64)exe_ns < (u64)-4096 && mounts_id(exe_ns) == set->host_mounts)
		return 0;
	/* Or it has not gone inside yet: its "/" is the node's, and by that no name would be the container's. It runs a copy
	 * of itself (see bprm_creds_for_exec), or its own program where that is in no mount namespace of its own so far. */
	if ((u64)BPF_CORE_READ(task, fs, root.dentry) == set->host_root &&
	    (mounts_nowhere(m) || (mounts_id(ns) == set->host_mounts && is_containers(task))))
		return 0;
	s = take_scratch();
	if (!s)
		return 0;
	who = bpf_task_storage_get(&tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!who) {
		count_failure(FAILURE_BIND);
		goto out;
	}
	who->workload = b->workload;
	who->cgroup = cgroup;
	who->home = settle(s, task, cgroup, &joined);
	take_program(s, task, who);
	who->exec_id = BPF_CORE_READ(task, start_boottime) << 8;
	mark(set, who);
out:
	give_scratch(s);
	return 0;
}

#endif
