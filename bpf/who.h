/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who acts: program, parents, working directory, arguments, namespaces and rights, as they are when an event is made. */
#ifndef BELAY_WHO_H
#define BELAY_WHO_H

#include "name.h"

/* Copies a string of a map value behind the event and returns where the next one goes. */
static __always_inline u32 append(struct scratch *s, u32 at, const void *from, u32 length)
{
	at &= 1023;
	length &= 255;
	if (length)
		bpf_probe_read_kernel(s->event + sizeof(struct event) + at, length, from);
	return at + length;
}

/* Its number in its own pid namespace, and which that is. */
static __always_inline struct upid *number_inside(struct task_struct *task)
{
	struct pid *pid = BPF_CORE_READ(task, signal, pids[PIDTYPE_TGID]);

	return (void *)pid + bpf_core_field_offset(struct pid, numbers) +
	       (BPF_CORE_READ(pid, level) & 31) * bpf_core_type_size(struct upid);
}

/* In which namespaces, with which rights and from which login. */
static __always_inline void take_standing(struct event *e, struct task_struct *task)
{
	struct tty_struct *tty = BPF_CORE_READ(task, signal, tty);
	struct upid *inside = number_inside(task);

	if (tty)
		bpf_probe_read_kernel_str(e->tty, sizeof(e->tty), tty->name);
	e->pid_inside = BPF_CORE_READ(inside, nr);
	e->pid_namespace = BPF_CORE_READ(inside, ns, ns.inum);
	e->mount_namespace = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	e->network_namespace = BPF_CORE_READ(task, nsproxy, net_ns, ns.inum);
	e->user_namespace = BPF_CORE_READ(task, cred, user_ns, ns.inum);
	BPF_CORE_READ_INTO(&e->capabilities, task, cred, cap_effective);
	e->login_uid = bpf_core_field_exists(task->loginuid) ? BPF_CORE_READ(task, loginuid.val) : ~0u;
}

/* The state of what follows is in the scratch: it is called where little of the stack is left. */

/* Adds the parent of the task that s->up is, unless that is outside of the pid namespace of who acts. 1 = stop. */
static long add_ancestor(u32 i, struct scratch **sp)
{
	struct scratch *s = *sp;
	struct task_struct *below = (void *)s->up, *task = BPF_CORE_READ(below, real_parent);
	struct ancestor *to = (void *)s->event + sizeof(struct event) + (s->at & 1023);
	u32 pid = BPF_CORE_READ(task, tgid);

	if (!pid || BPF_CORE_READ(task, signal, pids[PIDTYPE_TGID], level) < s->level)
		return 1;
	to->pid = pid;
	bpf_probe_read_kernel(to->comm, sizeof(to->comm), task->comm);
	s->at += sizeof(*to);
	s->up = (u64)task;
	return 0;
}

static __always_inline u32 add_ancestors(struct scratch *s, struct event *e, struct task_struct *task,
					 struct task_struct *parent, u32 at)
{
	s->up = (u64)parent;
	s->level = BPF_CORE_READ(task, signal, pids[PIDTYPE_TGID], level);
	s->at = at;
	bpf_loop(ANCESTORS_MAX, add_ancestor, &s, 0);
	e->ancestors_length = s->at - at;
	return s->at;
}

/* The working directory is made from its end, where the object's name will be. */
#define CWD_END (sizeof(struct event) + EVENT_STRINGS + CWD_MAX)

/* Puts the name of the directory that s->up is before it, and goes to that above. 1 = stop. */
static long add_directory(u32 i, struct scratch **sp)
{
	struct scratch *s = *sp;
	u64 parent;
	u32 length;

	if (s->up == mount_root(s->up_mount)) {
		parent = (u64)PEEK(mount, s->up_mount, mnt_parent);
		if (parent == s->up_mount)
			return 1;
		s->up = (u64)PEEK(mount, s->up_mount, mnt_mountpoint);
		s->up_mount = parent;
		return 0;
	}
	parent = (u64)PEEK(dentry, s->up, d_parent);
	if (parent == s->up)
		return 1;
	length = PEEK(dentry, s->up, d_name.len) & 255;
	if (length >= s->room) {
		((struct event *)s->event)->flags |= EVENT_CWD_CUT;
		return 1;
	}
	s->room = (s->room - length - 1) & 255;
	s->event[CWD_END - CWD_MAX + s->room] = '/';
	if (length)
		bpf_probe_read_kernel(&s->event[CWD_END - CWD_MAX + s->room + 1], length,
				      (void *)PEEK(dentry, s->up, d_name.name));
	s->up = parent;
	return 0;
}

/* By the mounts as they are now: no rule is about it. What moves meanwhile is told as it comes. */
static __always_inline u32 add_cwd(struct scratch *s, struct event *e, struct task_struct *task, u32 at)
{
	struct fs_struct *fs = BPF_CORE_READ(task, fs);
	u32 length;

	if (!fs)
		return at;
	s->up = (u64)BPF_CORE_READ(fs, pwd.dentry);
	s->up_mount = (u64)real_mount(BPF_CORE_READ(fs, pwd.mnt));
	s->room = CWD_MAX;
	bpf_loop(CWD_MAX, add_directory, &s, 0);
	if (s->room == CWD_MAX)
		s->event[CWD_END - CWD_MAX + --s->room] = '/';
	length = (CWD_MAX - s->room) & 255;
	e->cwd_length = length;
	return append(s, at, &s->event[CWD_END - length], length);
}

/* Who acts: of the current task, whose state this is. NULL = nobody in particular (a packet arrived). */
static __always_inline u32 describe(struct scratch *s, struct event *e, struct subject *who)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_struct *parent;
	struct subject *up;
	u32 at, length;
	u64 start, end;

	e->pid = task->tgid;
	e->tid = task->pid;
	e->uid = BPF_CORE_READ(task, cred, uid.val);
	e->gid = BPF_CORE_READ(task, cred, gid.val);
	e->exec_id = who->exec_id;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	take_standing(e, task);
	if (who->flags & SUBJECT_PROGRAM_CUT)
		e->flags |= EVENT_PROGRAM_CUT;
	e->program_length = who->program_length;
	at = append(s, 0, who->program, who->program_length);
	parent = task->real_parent;
	e->ppid = BPF_CORE_READ(parent, tgid);
	up = bpf_task_storage_get(&tasks, parent, 0, 0);
	if (up && !(up->flags & SUBJECT_UNSTARTED)) {
		e->parent_length = up->program_length;
		at = append(s, at, up->program, up->program_length);
	} else {
		e->parent_length = 15;
		bpf_probe_read_kernel(s->event + sizeof(struct event) + (at & 1023), 15,
				      (void *)parent + bpf_core_field_offset(struct task_struct, comm));
		at += 15;
	}
	at = add_ancestors(s, e, task, parent, at);
	at = add_cwd(s, e, task, at);
	start = BPF_CORE_READ(task, mm, arg_start);
	end = BPF_CORE_READ(task, mm, arg_end);
	if (start && end > start) {
		length = end - start;
		if (end - start >= ARGUMENTS_MAX) {
			length = ARGUMENTS_MAX - 1;
			e->flags |= EVENT_ARGUMENTS_CUT;
		}
		length &= ARGUMENTS_MAX - 1;
		at &= 1023;
		if (length && !bpf_probe_read_user(s->event + sizeof(struct event) + at, length, (void *)start)) {
			e->arguments_length = length;
			at += length;
		}
	}
	return at;
}

#endif
