/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Running programs: exec, and mapping a file executable, which is how ld.so runs one without exec. */
#ifndef BELAY_PROCESS_H
#define BELAY_PROCESS_H

#include "drift.h"
#include "identity.h"

/* Where pods that are not known are refused, the next agent's would be: nobody is there to tell of it. So while there is
 * no agent, one that may use bpf(2) as an agent does starts unjudged; that next agent takes it in, whoever it is. */
static __always_inline bool may_be_next_agent(struct settings *set, struct task_struct *task, struct binding *b)
{
	u64 effective = 0;

	if (set->agent || b->workload != set->unknown || BPF_CORE_READ(task, cred, user_ns, level))
		return false;
	BPF_CORE_READ_INTO(&effective, task, cred, cap_effective);
	return effective & 1ull << CAP_BPF;
}

/* Once per exec, before anything else: brings in whoever execs in a workload's cgroup from outside. */
SEC("lsm/bprm_creds_for_exec")
int BPF_PROG(bprm_creds_for_exec, struct linux_binprm *bprm)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct settings *set = get_settings();
	struct subject *who = NULL;
	struct binding *b;
	struct scratch *s;
	struct mount *m;
	bool joined = false;
	u64 cgroup;

	if (task->bpf_storage)
		who = bpf_task_storage_get(&tasks, task, 0, 0);
	if (who) {
		who->pending_files = 0;
		who->pending_waits = 0;
		/* one of the node's own may be about to become a container */
		if (!set || !set->host || who->workload != set->host)
			return 0;
	}
	/* it may not be new at all: see carry.h */
	if (!who && (!set || set->carrying))
		return 0;
	cgroup = bpf_get_current_cgroup_id();
	b = bpf_map_lookup_elem(&cgroups, &cgroup);
	if (!set || !b || b->workload == (who ? who->workload : 0))
		return 0;
	/* The runtime copies itself to a memfd (or a detached mount) and execs that, still in the node's mount
	 * namespace, before it goes inside: not the entrypoint yet. */
	m = real_mount(bprm->file->f_path.mnt);
	if (mounts_nowhere(m) && mounts_id(BPF_CORE_READ(task, nsproxy, mnt_ns)) == set->host_mounts)
		return 0;
	if (!who && may_be_next_agent(set, task, b))
		return 0;
	s = take_scratch();
	if (!s)
		return -EACCES;
	who = bpf_task_storage_get(&tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!who) {
		count_failure(FAILURE_BIND);
		give_scratch(s);
		return -EACCES;
	}
	who->workload = b->workload;
	who->cgroup = cgroup;
	who->home = settle(s, task, cgroup, &joined);
	who->flags = SUBJECT_UNSTARTED | (joined ? SUBJECT_JOINED : 0) | (is_in_agents_pod(set, task) ? SUBJECT_AGENT : 0);
	give_scratch(s);
	return 0;
}

struct keep { struct scratch *s; struct subject *who; u32 generation; u32 failed; };

/* Remembers one rule that waits for the arguments until they can be read. */
static long keep_step(u32 i, struct keep *k)
{
	struct subject *who = k->who;
	u32 n = who->pending_waits;

	if (i >= k->s->judgement.waits)
		return 1;
	if (n >= WAITING_LIMIT || (n && who->pending_generation != k->generation)) {
		count_failure(FAILURE_PENDING);
		k->failed = 1;
		return 1;
	}
	barrier_var(n);
	who->pending_arguments[n & (WAITING_LIMIT - 1)] = k->s->judgement.waiting[i & (WAITING_LIMIT - 1)];
	who->pending_waits = n + 1;
	who->pending_generation = k->generation;
	return 0;
}

/* For each file of an exec: a script, then its interpreter, or just the program. */
SEC("lsm/bprm_check_security")
int BPF_PROG(bprm_check_security, struct linux_binprm *bprm)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct caller c = {};
	struct keep k = {};
	struct scratch *s;
	struct file *file;
	bool denied = false;
	u16 flags = 0;

	if (!task->bpf_storage)
		return 0;
	c.subject = bpf_task_storage_get(&tasks, task, 0, 0);
	if (!c.subject)
		return 0;
	if (!find_tables(&c, c.subject->workload))
		return 0;
	if (c.subject->flags & SUBJECT_JOINED && c.subject->flags & SUBJECT_UNSTARTED &&
	    judge_preset(&c, PRESET_EXEC, OPERATION_EXEC))
		ANSWER(true);
	file = bprm->file;
	if (judge_drift(&c, &file->f_path, OPERATION_EXEC))
		ANSWER(true);
	s = take_scratch();
	if (!s)
		ANSWER(true);
	s->flags = 0;
	if (is_active(&c, DOMAIN_PROGRAM, DECIDE_EXEC)) {
		denied = judge_dentry(s, &c, (u64)file->f_path.dentry, (u64)real_mount(file->f_path.mnt),
				      (u64)file->f_inode, DECIDE_EXEC, OPERATION_EXEC);
		/* of a script's interpreter too, in addition to the script's own */
		k.s = s;
		k.who = c.subject;
		k.generation = generation_of(&c);
		bpf_loop(WAITING_LIMIT, keep_step, &k, 0);
		denied = denied || k.failed;
	} else {
		s->home = c.subject->home;
		name_object(s, (u64)file->f_path.dentry, (u64)real_mount(file->f_path.mnt));
	}
	if (!c.subject->pending_files) {
		c.subject->pending_length = store_name(s, c.subject->pending, &flags);
		if (flags & SUBJECT_PROGRAM_CUT)
			c.subject->pending_length = 0;
	}
	c.subject->pending_files++;
	give_scratch(s);
	ANSWER(denied);
}

struct arguments { struct scratch *s; u8 *arena; };

/* One byte of the new program's arguments; those before the first NUL are argument 0. row: the state,
 * at: where in name[], visit: arguments still to come, known: argument 0 has passed. */
static long argument_step(u32 i, struct arguments *a)
{
	struct scratch *s = a->s;
	struct tables t = { a->arena, s->region };
	u8 byte;

	if (!s->visit || s->at >= NAME_MAX_BYTES)
		return 1;
	byte = s->name[s->at & (NAME_MAX_BYTES - 1)];
	s->at++;
	if (s->known)
		s->row = STEP(t, s->cells, s->row, COLUMN_BYTE + byte);
	if (!byte) {
		s->known = 1;
		s->visit--;
	}
	return 0;
}

/* Copies the arguments of the new image from its own stack, which nobody else can reach yet, to name[]. False = they
 * could not be read. */
static __noinline bool read_arguments(struct scratch *s, struct linux_binprm *bprm)
{
	u64 p = bprm->p;
	u32 rest = 4096 - (p & 4095);

	if (!bpf_probe_read_user(s->name, NAME_MAX_BYTES, (void *)p))
		return true;
	/* the stack may end before that */
	if (rest > NAME_MAX_BYTES)
		rest = NAME_MAX_BYTES;
	return rest && !bpf_probe_read_user(s->name, rest, (void *)p);
}

/* True if every argument after the first is listed. More than 4096 bytes of them are not. */
static __noinline bool arguments_listed(struct scratch *s, u8 *arena, u32 start, u32 count)
{
	struct tables t = { arena, s->region };
	struct arguments a = { s, arena };

	s->cells = HEADER(t, cells);
	s->row = start;
	s->at = 0;
	s->known = 0;
	s->visit = count;
	bpf_loop(NAME_MAX_BYTES, argument_step, &a, 0);
	return !s->visit && EXCEPTION(t, s->cells, s->row, COLUMN_END, 0);
}

struct pending { struct scratch *s; struct subject *who; u8 *arena; u32 count; u32 readable; u32 breach; u32 audit; };

/* One rule that waits for the arguments. Leaves the one that denies in breach, the one that reports in audit. */
static long pending_step(u32 i, struct pending *p)
{
	struct tables t = { p->arena, p->s->region };
	u32 word, rule;

	if (i >= p->who->pending_waits)
		return 1;
	word = p->who->pending_arguments[i & (WAITING_LIMIT - 1)];
	rule = word & WAITING_RULE;
	if (!(word & WAITING_FIRED) &&
	    (p->count <= 1 ||
	     (p->readable && arguments_listed(p->s, p->arena, RULE(t, rule, u32, args_start), p->count))))
		return 0;
	if (word & WAITING_AUDIT)
		p->audit = foremost(t, p->audit, rule);
	else
		p->breach = stricter(t, p->breach, rule);
	return 0;
}

/* The new program is certain, its first instruction still to come: the subject becomes it. */
SEC("lsm/bprm_committed_creds")
int BPF_PROG(bprm_committed_creds, struct linux_binprm *bprm)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pending p = {};
	struct caller c = {};
	struct scratch *s;
	struct file *file;
	u32 rule;

	if (!task->bpf_storage)
		return 0;
	c.subject = bpf_task_storage_get(&tasks, task, 0, 0);
	if (!c.subject)
		return 0;
	s = take_scratch();
	if (!s) {
		/* a program that could not be named must not run under the name of the one before */
		bpf_send_signal(9);
		return 0;
	}
	file = bprm->file;
	c.subject->flags &= ~(SUBJECT_UNSTARTED | SUBJECT_PROGRAM_CUT | SUBJECT_CARRIED);
	c.subject->exec_id = bpf_ktime_get_boot_ns() << 8 | (bpf_get_smp_processor_id() & 255);
	c.subject->classes = 0;
	c.workload = bpf_map_lookup_elem(&workloads, &c.subject->workload);
	s->home = c.subject->home;
	name_object(s, (u64)file->f_path.dentry, (u64)real_mount(file->f_path.mnt));
	c.subject->program_length = store_name(s, c.subject->program, &c.subject->flags);
	c.subject->script_length = 0;
	if (c.subject->pending_files > 1) {
		c.subject->script_length = c.subject->pending_length;
		bpf_probe_read_kernel(c.subject->script, PROGRAM_MAX, c.subject->pending);
	}
	if (c.workload && c.workload->visible & VISIBLE_PROCESS)
		report_start(s, c.subject, c.workload, bprm);
	if (!find_tables(&c, c.subject->workload))
		goto out;
	if (!c.subject->pending_waits)
		goto out;
	if (c.subject->pending_generation != generation_of(&c)) {
		/* the tables changed between the two hooks: the rules cannot be read any more */
		count_failure(FAILURE_PENDING);
		bpf_send_signal(9);
		goto out;
	}
	set_question(s, &c, DOMAIN_PROGRAM, DECIDE_EXEC, OPERATION_EXEC);
	p.s = s;
	p.who = c.subject;
	p.arena = c.tables.arena;
	p.count = bprm->argc;
	p.readable = read_arguments(s, bprm);
	bpf_loop(WAITING_LIMIT, pending_step, &p, 0);
	rule = p.breach ? p.breach : p.audit;
	if (rule) {
		/* name[] holds the arguments now */
		name_object(s, (u64)file->f_path.dentry, (u64)real_mount(file->f_path.mnt));
		report(s, c.subject, c.workload, RULE(c.tables, rule, u32, id) | (u64)RULE(c.tables, rule, u8, action) << 32,
		       p.breach ? VERDICT_KILL : VERDICT_PASS);
		if (p.breach)
			bpf_send_signal(9);
	}
out:
	give_scratch(s);
	return 0;
}

/* memfd, shared memory, and what is no regular file (/dev/zero, io_uring's rings): a file in name only. */
static __always_inline bool is_memory(struct path *path)
{
	u64 dentry = (u64)BPF_CORE_READ(path, dentry), inode = (u64)BPF_CORE_READ((struct dentry *)dentry, d_inode);
	enum standing standing;

	if (!S_ISREG(PEEK(inode, inode, i_mode)))
		return true;
	standing = standing_of((u64)real_mount(BPF_CORE_READ(path, mnt)), inode, dentry, DECIDE_MAP);
	return standing == STANDING_UNNAMED || standing == STANDING_IGNORED;
}

SEC("lsm/mmap_file")
int BPF_PROG(mmap_file, struct file *file, unsigned long reqprot, unsigned long prot, unsigned long flags)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct caller c = {};
	bool loads;
	u64 raw = 0;

	/* security_mmap_file has no reqprot, and adds what the personality implies itself (mmap_prot) */
	if (through_security) {
		flags = prot;
		prot = reqprot;
		if (prot & PROT_READ && BPF_CORE_READ(task, personality) & READ_IMPLIES_EXEC)
			prot |= PROT_EXEC;
	}
	if (!((reqprot | prot) & PROT_EXEC) || !find_caller(&c))
		return 0;
	/* Verifiers up to 6.12 take the argument for never NULL and drop the test, later ones insist on it: test a
	 * copy as well. */
	bpf_probe_read_kernel(&raw, sizeof(raw), ctx);
	if (!raw || !file)
		ANSWER(judge_preset(&c, PRESET_ANONYMOUS_MAP, OPERATION_MAP));
	/* exec loads the program that it has asked about; by itself exe_file says little, since prctl sets it */
	loads = BPF_CORE_READ_BITFIELD_PROBED(task, in_execve) && (u64)file == (u64)BPF_CORE_READ(task, mm, exe_file);
	/* what is written to a private mapping is no file's */
	if ((((reqprot | prot) & PROT_WRITE && (flags & MAP_TYPE) == MAP_PRIVATE) || (!loads && is_memory(&file->f_path))) &&
	    judge_preset(&c, PRESET_ANONYMOUS_MAP, OPERATION_MAP))
		ANSWER(true);
	if (loads)
		return 0;
	ANSWER(judge_drift(&c, &file->f_path, OPERATION_MAP) || judge_file(&c, file, DECIDE_MAP, OPERATION_MAP));
}

/* brk(2) asks nobody else, and where all memory is executable the heap is too. */
SEC("lsm/mmap_addr")
int BPF_PROG(mmap_addr, unsigned long address)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct caller c = {};

	if (!(task->personality & READ_IMPLIES_EXEC) || address - BPF_CORE_READ(task, mm, brk) >= PAGE_BYTES || !find_caller(&c))
		return 0;
	ANSWER(judge_preset(&c, PRESET_ANONYMOUS_MAP, OPERATION_MAP));
}

SEC("lsm/file_mprotect")
int BPF_PROG(file_mprotect, struct vm_area_struct *vma, unsigned long reqprot, unsigned long prot)
{
	bool private = !(vma->vm_flags & VM_SHARED), writable = (reqprot | prot) & PROT_WRITE;
	bool executable = vma->vm_flags & VM_EXEC;
	struct caller c = {};
	struct scratch *s;
	struct dentry *dentry;
	struct file *file;
	struct path *path;
	bool denied;

	if (!((reqprot | prot) & PROT_EXEC) || (executable && !(private && writable)) || !find_caller(&c))
		return 0;
	file = BPF_CORE_READ(vma, vm_file);
	if (!file)
		ANSWER(judge_preset(&c, PRESET_ANONYMOUS_MAP, OPERATION_MAP));
	path = opened_path(file);
	/* what was or can be written to a private mapping is no file's */
	if (((private && (writable || vma->anon_vma)) || is_memory(path)) &&
	    judge_preset(&c, PRESET_ANONYMOUS_MAP, OPERATION_MAP))
		ANSWER(true);
	if (judge_drift(&c, path, OPERATION_MAP))
		ANSWER(true);
	if (executable || !is_active(&c, DOMAIN_PROGRAM, DECIDE_MAP))
		return 0;
	s = take_scratch();
	if (!s)
		ANSWER(true);
	dentry = BPF_CORE_READ(path, dentry);
	denied = judge_dentry(s, &c, (u64)dentry, (u64)real_mount(BPF_CORE_READ(path, mnt)),
			      (u64)BPF_CORE_READ(dentry, d_inode), DECIDE_MAP, OPERATION_MAP);
	give_scratch(s);
	ANSWER(denied);
}

#endif
