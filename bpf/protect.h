/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The agent's own protection, on by itself: a task of a workload, with policies or without, does not signal it, take
 * hold of it, starve it, or touch its maps, programs and pins. The node's own processes may, host policies or not:
 * init, kubelet and the runtime must be able to end it, and a new agent to take over. So may what runs in the agent's
 * own pod. A pod that nobody knows may take over too, but only while there is no agent: it may be the next one.
 *
 * The node's root outside of every workload wins.
 */
#ifndef BELAY_PROTECT_H
#define BELAY_PROTECT_H

#include "identity.h"

/* Most of the node's tasks have no state, and so are none of a workload's: one load settles it. */
static __always_inline bool has_state(void)
{
	return bpf_get_current_task_btf()->bpf_storage;
}

/* The state of a task that the agent is protected from, or NULL. */
static __always_inline struct subject *find_stranger(struct settings *set)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct subject *who;

	if (!set || !has_state() || task->tgid == set->agent)
		return NULL;
	who = bpf_task_storage_get(&tasks, task, 0, 0);
	if (!who || !who->workload || who->workload == set->host || who->flags & SUBJECT_AGENT || is_starting(who, task))
		return NULL;
	if (!set->agent && who->workload == set->unknown)
		return NULL;
	return who;
}

/* Reports a denial; s may be NULL, and then it is counted only. The object is name[off..4096). */
static __always_inline void tell_protected(struct scratch *s, struct caller *c)
{
	if (!s)
		return;
	c->workload = bpf_map_lookup_elem(&workloads, &c->id);
	if (c->workload)
		report(s, c->subject, c->workload, RULE_SELF_PROTECTION | (u64)ACTION_BLOCK << 32, VERDICT_DENY);
	give_scratch(s);
}

static __always_inline struct scratch *begin_protected(struct caller *c, struct subject *who, u32 operation)
{
	struct scratch *s = take_scratch();

	c->subject = who;
	c->id = who->workload;
	if (s) {
		set_question(s, c, DOMAIN_FILE, DECIDE_WRITE, operation);
		s->off = NAME_MAX_BYTES;
	}
	return s;
}

/* Denies a stranger, who must not be NULL; about: statements that put the object into s. */
#define PROTECT(who, operation, about) ({ \
	struct caller c_ = {}; \
	struct scratch *s = begin_protected(&c_, who, operation); \
	if (s) { \
		about; \
	} \
	tell_protected(s, &c_); \
	true; })

static __always_inline bool is_protected_task(struct settings *set, struct task_struct *task)
{
	return set && set->agent && task->tgid == set->agent;
}

/* True = denied. */
static __always_inline bool protects_task(struct task_struct *task, u32 operation)
{
	struct settings *set = get_settings();
	struct subject *who;

	if (!is_protected_task(set, task))
		return false;
	who = find_stranger(set);
	return who && PROTECT(who, operation, );
}

/* Signal 0 only asks whether it is there. */
SEC("lsm/task_kill")
int BPF_PROG(task_kill, struct task_struct *task, void *info, int signal)
{
	if (!signal)
		return 0;
	ANSWER(protects_task(task, OPERATION_SIGNAL));
}

/* By a descriptor that is ready (F_SETOWN, F_SETSIG), whoever makes it so, an interrupt perhaps: there is nobody to name, and
 * nobody has any business to. */
SEC("lsm/file_send_sigiotask")
int BPF_PROG(file_send_sigiotask, struct task_struct *task)
{
	ANSWER(is_protected_task(get_settings(), task));
}

SEC("lsm/task_setscheduler")
int BPF_PROG(task_setscheduler, struct task_struct *task)
{
	ANSWER(protects_task(task, OPERATION_SCHEDULE));
}

SEC("lsm/task_setnice")
int BPF_PROG(task_setnice, struct task_struct *task, int nice)
{
	ANSWER(protects_task(task, OPERATION_SCHEDULE));
}

SEC("lsm/task_setioprio")
int BPF_PROG(task_setioprio, struct task_struct *task, int priority)
{
	ANSWER(protects_task(task, OPERATION_SCHEDULE));
}

SEC("lsm/task_movememory")
int BPF_PROG(task_movememory, struct task_struct *task)
{
	ANSWER(protects_task(task, OPERATION_SCHEDULE));
}

/* The hook is given credentials only; those of a process are its own. */
SEC("lsm/task_prlimit")
int BPF_PROG(task_prlimit, const struct cred *own, const struct cred *other)
{
	struct settings *set = get_settings();
	struct subject *who;

	if (!set || !set->agent || (u64)other != set->agent_credentials)
		return 0;
	who = find_stranger(set);
	ANSWER(who && PROTECT(who, OPERATION_LIMIT, ));
}

/* --- what it is made of in the kernel --- */

static __always_inline bool is_own_map(struct bpf_map *map)
{
	u64 m = (u64)map;

#define IS(own) (m == (u64)&(own))
	return IS(arena) || IS(workloads) || IS(tasks) || IS(cgroups) || IS(cgroup_homes) || IS(pods) || IS(containers) ||
	       IS(settings) || IS(cgroup_paths) || IS(originals) || IS(roots) || IS(homes) ||
	       (through_security ? IS(socket_receivers) : IS(verdicts) || IS(receivers)) || IS(senders) || IS(scratches) || IS(denials) || IS(matches) || IS(telemetry_ring) || IS(folds) ||
	       IS(failures);
#undef IS
}

SEC("lsm/bpf_map")
int BPF_PROG(bpf_map, struct bpf_map *map)
{
	struct subject *who = find_stranger(get_settings());

	ANSWER(who && is_own_map(map) && PROTECT(who, OPERATION_BPF, ));
}

struct uses { struct bpf_map **maps; u32 count; u32 own; };

static long uses_step(u32 i, struct uses *u)
{
	struct bpf_map *map = NULL;

	if (i >= u->count)
		return 1;
	bpf_probe_read_kernel(&map, sizeof(map), u->maps + i);
	u->own = (u64)map == (u64)&tasks || (u64)map == (u64)&arena || (u64)map == (u64)&cgroups;
	return u->own;
}

/* Who uses Belay's maps is one of its programs. */
SEC("lsm/bpf_prog")
int BPF_PROG(bpf_prog, struct bpf_prog *prog)
{
	struct subject *who = find_stranger(get_settings());
	struct uses u = {};

	if (!who)
		return 0;
	u.maps = BPF_CORE_READ(prog, aux, used_maps);
	u.count = BPF_CORE_READ(prog, aux, used_map_cnt);
	bpf_loop(64, uses_step, &u, 0);
	ANSWER(u.own && PROTECT(who, OPERATION_BPF, ));
}

static __always_inline bool is_pins(struct settings *set, struct inode *inode)
{
	return inode && BPF_CORE_READ(inode, i_ino) == set->pins_inode;
}

/* The directory of the pins, those of its versions, and the pins in them. */
static __always_inline bool is_pinned(struct settings *set, struct dentry *dentry)
{
	struct super_block *block;

	if (!has_state())
		return false;
	block = PEEK(dentry, dentry, d_sb);
	if (PEEK(super_block, block, s_magic) != BPF_FS_MAGIC || !set || !set->pins_inode ||
	    BPF_CORE_READ(block, s_dev) != set->pins_device)
		return false;
	return is_pins(set, BPF_CORE_READ(dentry, d_inode)) || is_pins(set, BPF_CORE_READ(dentry, d_parent, d_inode)) ||
	       is_pins(set, BPF_CORE_READ(dentry, d_parent, d_parent, d_inode));
}

/* Taking a pin away, or giving it another name. True = denied. */
static __always_inline bool protects_pin(struct path *dir, struct dentry *dentry, u32 operation)
{
	struct settings *set = get_settings();
	struct subject *who;

	if (!is_pinned(set, dentry))
		return false;
	who = find_stranger(set);
	return who && PROTECT(who, operation, name_object(s, (u64)dentry, (u64)real_mount(BPF_CORE_READ(dir, mnt))));
}

/* The file system that they are on. True = denied. */
static __always_inline bool protects_mount(struct vfsmount *mnt)
{
	struct settings *set = get_settings();
	struct super_block *block = BPF_CORE_READ(mnt, mnt_sb);
	struct subject *who;

	if (BPF_CORE_READ(block, s_magic) != BPF_FS_MAGIC || !set || !set->pins_inode ||
	    BPF_CORE_READ(block, s_dev) != set->pins_device)
		return false;
	who = find_stranger(set);
	return who && PROTECT(who, OPERATION_UMOUNT,
			      name_object(s, (u64)BPF_CORE_READ(mnt, mnt_root), (u64)real_mount(mnt)));
}

/* --- files that act on it --- */

/* Whether an entry of /proc is the process's, or one of its threads'. */
static __always_inline bool is_proc_of(struct settings *set, struct inode *inode)
{
	struct proc_inode *p = (void *)inode - bpf_core_field_offset(struct proc_inode, vfs_inode);
	struct pid *pid = PEEK(proc_inode, p, pid);
	struct hlist_node *first;
	struct task_struct *task;

	if (!pid)
		return false;
	first = BPF_CORE_READ(pid, tasks[0].first);
	if (!first)
		return false;
	task = (void *)first - bpf_core_field_offset(struct task_struct, pid_links);
	return BPF_CORE_READ(task, tgid) == set->agent;
}

/* Whether a directory is the cgroup of the agent, or one above it. */
static __always_inline bool is_cgroup_of(struct settings *set, struct inode *directory)
{
	u64 id = BPF_CORE_READ(directory, i_ino);

	for (int i = 0; i < AGENT_CGROUPS; i++)
		if (id == set->agent_cgroups[i])
			return true;
	return false;
}

/* A file that is opened to be written. 0 or -EACCES. */
static __noinline int protects_file(struct file *file)
{
	struct settings *set;
	struct subject *who;
	struct inode *inode;
	u64 magic;

	if (!has_state())
		return 0;
	inode = file->f_inode;
	magic = PEEK(super_block, PEEK(inode, inode, i_sb), s_magic);
	if (magic != PROC_SUPER_MAGIC && magic != CGROUP2_SUPER_MAGIC)
		return 0;
	set = get_settings();
	if (!set || !set->agent)
		return 0;
	if (magic == PROC_SUPER_MAGIC ? !is_proc_of(set, inode) :
				       !is_cgroup_of(set, BPF_CORE_READ(file, f_path.dentry, d_parent, d_inode)))
		return 0;
	who = find_stranger(set);
	ANSWER(who && PROTECT(who, OPERATION_OPEN, name_path(s, &file->f_path)));
}

/* The agent is gone: what named it may soon be another's. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(sched_process_exit, struct task_struct *task)
{
	struct settings *set = get_settings();

	if (!set || !set->agent || task->pid != set->agent)
		return 0;
	set->agent = 0;
	set->agent_credentials = 0;
	__builtin_memset(set->agent_cgroups, 0, sizeof(set->agent_cgroups));
	return 0;
}

#endif
