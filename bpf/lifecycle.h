/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How processes begin and end, and what they become: telemetry of workloads that are visible, attached only while there
 * are any. No verdict depends on it; what finds no room is counted.
 *
 * Credentials that the kernel gives by itself, as to who makes a user namespace, are not told of.
 */
#ifndef BELAY_LIFECYCLE_H
#define BELAY_LIFECYCLE_H

#include "decide.h"

/* Whether a rule has reported the operation that has just been let pass. */
static __always_inline bool was_told(struct subject *who, u32 told)
{
	u32 last = who->told;

	if (last)
		who->told = 0;
	return last == told;
}

/* Who acts, if that is visible; needs no tables. */
static __always_inline bool find_visible(struct caller *c, u32 visible)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (!task->bpf_storage)
		return false;
	c->subject = bpf_task_storage_get(&tasks, task, 0, 0);
	if (!c->subject || is_starting(c->subject, task))
		return false;
	c->id = c->subject->workload;
	c->workload = bpf_map_lookup_elem(&workloads, &c->id);
	return c->workload && c->workload->visible & visible;
}

/* what: of which type the operation's object is. Fails towards not telling, counted. */
#define REPORT_LIFE(caller, operation, what) \
	do { \
		struct scratch *s = take_scratch(); \
		if (s) { \
			put_bytes(s, &(what), sizeof(what)); \
			report_process(s, (caller)->subject, (caller)->workload, operation); \
			give_scratch(s); \
		} \
	} while (0)

SEC("tp_btf/sched_process_fork")
int BPF_PROG(process_forked, struct task_struct *parent, struct task_struct *child)
{
	struct caller c = {};
	struct child made = {};

	/* a thread has its process's number */
	if (child->pid != child->tgid || !find_visible(&c, VISIBLE_PROCESS))
		return 0;
	made.pid = child->pid;
	made.pid_inside = BPF_CORE_READ(number_inside(child), nr);
	REPORT_LIFE(&c, OPERATION_FORK, made);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exited, struct task_struct *task)
{
	struct caller c = {};
	u32 status;

	if (!find_visible(&c, VISIBLE_PROCESS) || BPF_CORE_READ(task, signal, live.counter))
		return 0;
	/* as its parent will be told (wait_task_zombie) */
	status = BPF_CORE_READ(task, signal, flags) & SIGNAL_GROUP_EXIT ? BPF_CORE_READ(task, signal, group_exit_code) :
									  BPF_CORE_READ(task, group_leader, exit_code);
	REPORT_LIFE(&c, OPERATION_EXIT, status);
	return 0;
}

static __always_inline void read_credentials(struct credentials *to, const struct cred *from)
{
	to->uid = BPF_CORE_READ(from, uid.val);
	to->gid = BPF_CORE_READ(from, gid.val);
	to->effective_uid = BPF_CORE_READ(from, euid.val);
	to->effective_gid = BPF_CORE_READ(from, egid.val);
	to->saved_uid = BPF_CORE_READ(from, suid.val);
	to->saved_gid = BPF_CORE_READ(from, sgid.val);
	bpf_probe_read_kernel(&to->permitted, sizeof(to->permitted),
			      (void *)from + bpf_core_field_offset(struct cred, cap_permitted));
	bpf_probe_read_kernel(&to->effective, sizeof(to->effective),
			      (void *)from + bpf_core_field_offset(struct cred, cap_effective));
}

/* The current task is about to have other credentials, unless they are the same. */
static __always_inline int credentials_become(const struct cred *after, u32 operation)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct credentials_change change = {};
	struct caller c = {};
	u64 *before = (u64 *)&change.before, *now = (u64 *)&change.after, differ = 0;

	if (!find_visible(&c, VISIBLE_PROCESS))
		return 0;
	read_credentials(&change.before, task->cred);
	read_credentials(&change.after, after);
#pragma unroll
	for (int i = 0; i < (int)(sizeof(change.before) / sizeof(u64)); i++)
		differ |= before[i] ^ now[i];
	if (differ)
		REPORT_LIFE(&c, operation, change);
	return 0;
}

/* Behind the security modules' hooks: what they refuse changes nothing, and capabilities follow ids there. */
#define CREDENTIALS_CHANGE(name, function, operation) \
	SEC("fexit/" #function) \
	int BPF_PROG(name, struct cred *after, const struct cred *before, int flags, int denied) \
	{ \
		return denied ? 0 : credentials_become(after, operation); \
	}

CREDENTIALS_CHANGE(user_changed, security_task_fix_setuid, OPERATION_SETUID)
CREDENTIALS_CHANGE(group_changed, security_task_fix_setgid, OPERATION_SETGID)

SEC("fexit/security_capset")
int BPF_PROG(capabilities_changed, struct cred *after, const struct cred *before, const void *effective,
	     const void *inheritable, const void *permitted, int denied)
{
	return denied ? 0 : credentials_become(after, OPERATION_CAPSET);
}

/* An exec that can fail no more; the program before still has its own. */
SEC("fexit/security_bprm_committing_creds")
int BPF_PROG(exec_credentials, struct linux_binprm *bprm)
{
	return credentials_become(BPF_CORE_READ(bprm, cred), OPERATION_EXEC_CREDENTIALS);
}

#endif
