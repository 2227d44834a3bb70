/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From "who" and "what" to an answer. Hooks pick the object and ask one of judge_file, judge_dentry and
 * judge_bytes; each answers true when the operation is denied, and has then reported it.
 */
#ifndef BELAY_DECIDE_H
#define BELAY_DECIDE_H

#include "emit.h"
#include "name.h"

/* clang makes arithmetic of `denied ? -EACCES : 0`, whose bounds newer verifiers cannot see: the error
 * must leave as a constant on a path of its own. */
#define ANSWER(denied) \
	do { \
		if (denied) { \
			asm volatile("" ::: "memory"); \
			return -EACCES; \
		} \
		return 0; \
	} while (0)

/* Who asks: a task with state, of a workload with tables. */
struct caller {
	struct subject *subject;
	struct workload *workload;
	struct tables tables;
	u64 set; /* as in struct workload */
	u32 id; /* of the workload */
};

static __always_inline u32 generation_of(struct caller *c)
{
	return c->set >> 32;
}

static __always_inline bool find_tables(struct caller *c, u32 workload)
{
	c->id = workload;
	c->workload = bpf_map_lookup_elem(&workloads, &workload);
	if (!c->workload)
		return false;
	c->set = *(volatile u64 *)&c->workload->set;
	if (!c->set)
		return false;
	c->tables.arena = tables_arena();
	c->tables.region = c->set;
	return c->tables.arena != NULL;
}

/* A task that never had any BPF state has no storage at all: one load settles most of the node. */
static __always_inline bool find_caller(struct caller *c)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (!task->bpf_storage)
		return false;
	c->subject = bpf_task_storage_get(&tasks, task, 0, 0);
	if (!c->subject || is_starting(c->subject, task))
		return false;
	return find_tables(c, c->subject->workload);
}

/* Which automaton of names answers a question. */
static __always_inline u32 names_of(u32 decide)
{
	return decide == DECIDE_EXEC || decide == DECIDE_MAP ? DOMAIN_PROGRAM : DOMAIN_FILE;
}

static __always_inline bool is_active(struct caller *c, u32 domain, u32 decide)
{
	return HEADER_OF(c->tables, active, domain) & (1u << decide);
}

/* --- the automaton --- */

struct run { struct scratch *s; u8 *arena; };
#define RUN_BYTES 16

static long run_step(u32 i, struct run *r)
{
	struct scratch *s = r->s;
	struct tables t = { r->arena, s->region };
	u32 row = s->row, at = s->at, cells = s->cells;

#pragma unroll
	for (int k = 0; k < RUN_BYTES; k++) {
		if (at >= NAME_MAX_BYTES || !row)
			break;
		row = STEP(t, cells, row, COLUMN_BYTE + (u8)s->name[at & (NAME_MAX_BYTES - 1)]);
		at++;
	}
	s->row = row;
	s->at = at;
	return at >= NAME_MAX_BYTES || !row;
}

/* Reads name[off..4096) from the first state of a domain; leaves the state in s->row. */
static __always_inline void run_name(struct scratch *s, u8 *arena, u32 domain)
{
	struct tables t = { arena, s->region };
	struct run r = { s, arena };

	s->cells = HEADER(t, cells);
	s->row = HEADER_OF(t, start, domain);
	s->at = s->off;
	bpf_loop(NAME_MAX_BYTES / RUN_BYTES + 1, run_step, &r, 0);
}

/* --- the subject --- */

static __always_inline u16 class_of(struct scratch *s, u8 *arena, const char *name, u32 length)
{
	struct tables t = { arena, s->region };

	length &= 255;
	if (!length)
		return 0;
	s->off = NAME_MAX_BYTES - length;
	bpf_probe_read_kernel(&s->name[s->off & (NAME_MAX_BYTES - 1)], length, name);
	run_name(s, arena, DOMAIN_PROGRAM);
	return EXCEPTION(t, s->cells, s->row, COLUMN_SUBJECT, 0);
}

/* A subject's classes, read anew when the tables have changed since. Global, as judge is. */
__noinline u64 renew(struct scratch *s, struct subject *who)
{
	u8 *arena = tables_arena();
	u16 program, script;
	u64 word;

	if (!s || !who || !arena)
		return 0;
	word = *(volatile u64 *)&who->classes;
	if (SUBJECT_GENERATION(word) == s->generation)
		return word;
	/* of a name that was cut nothing is known: it is no rule's source */
	program = who->flags & SUBJECT_PROGRAM_CUT ? 0 : class_of(s, arena, who->program, who->program_length);
	script = class_of(s, arena, who->script, who->script_length);
	word = SUBJECT_WORD(s->generation, program, script);
	*(volatile u64 *)&who->classes = word;
	return word;
}

/* --- the object --- */

static __always_inline void gather_facts(struct scratch *s, u64 inode)
{
	struct task_struct *task = peek_current();

	s->held = 0;
	if (!task->signal->tty)
		s->held |= CONDITION_NO_TTY;
	if (!inode)
		return;
	if (PEEK(inode, inode, i_uid.val) == task->cred->fsuid.val)
		s->held |= CONDITION_OWNER;
	if (PEEK(super_block, PEEK(inode, inode, i_sb), s_magic) == PROC_SUPER_MAGIC) {
		struct proc_inode *p = (void *)inode - bpf_core_field_offset(struct proc_inode, vfs_inode);
		u64 pid = (u64)PEEK(proc_inode, p, pid);

		if (pid && (pid == (u64)task->signal->pids[PIDTYPE_TGID] || pid == (u64)task->thread_pid))
			s->held |= CONDITION_SELF;
	}
}

/* Everything of a question but the object. */
static __always_inline void set_question(struct scratch *s, struct caller *c, u32 domain, u32 decide, u32 operation)
{
	s->region = c->tables.region;
	s->generation = generation_of(c);
	s->workload = c->id;
	s->home = c->subject ? c->subject->home : 0;
	s->domain = domain;
	s->decide = decide;
	s->operation = operation;
	s->event_flags = 0;
	if (decide == DECIDE_WRITE || decide == DECIDE_MOVE ||
	    (decide == DECIDE_MAP && operation != OPERATION_MAP && operation != OPERATION_OPEN))
		s->event_flags = EVENT_WRITE;
	s->flags = 0;
	s->held = 0;
	s->judgement.waits = 0;
	s->judgement.decisions[0] = 0;
	s->kind = SOCKET_KIND_COUNT;
	s->family = 0;
	s->port = 0;
	s->protocol = 0;
	s->capability = 0;
}

/* The subject's classes; must come before the object is named, since it uses the same buffer. */
static __always_inline void set_classes(struct scratch *s, struct subject *who, bool parents)
{
	u64 word = renew(s, who);

	s->classes[0] = SUBJECT_PROGRAM(word);
	s->classes[1] = SUBJECT_SCRIPT(word);
	s->count = SUBJECT_SCRIPT(word) ? 2 : 1;
	if (parents) {
		struct task_struct *task = bpf_get_current_task_btf();
		struct subject *up = bpf_task_storage_get(&tasks, task->real_parent, 0, 0);

		if (up && up->workload == who->workload && !(up->flags & SUBJECT_UNSTARTED)) {
			word = renew(s, up);
			s->classes[2] = SUBJECT_PROGRAM(word);
			s->classes[3] = SUBJECT_SCRIPT(word);
			s->count = 4;
		}
	}
}

static __always_inline int refuse(struct scratch *s, struct subject *who, struct workload *w, u32 rule, u32 action)
{
	u32 verdict = action == ACTION_KILL_CONTAINER ? VERDICT_KILL_CONTAINER :
		      action == ACTION_KILL ? VERDICT_KILL : VERDICT_DENY;

	report(s, who, w, rule | (u64)action << 32, verdict);
	if (verdict != VERDICT_DENY)
		bpf_send_signal(9);
	return 1;
}

/* Settles the question in s, whose object's name is in name[off..4096). 1 = denied. Global, so that a
 * program that asks several questions is not verified once for each. who is NULL where nobody acts. */
__noinline int judge(struct scratch *s, struct subject *who, struct workload *w)
{
	struct tables t = { tables_arena() };
	struct judgement *j;
	u32 object;

	if (!s || !w || !t.arena)
		return 1;
	t.region = s->region;
	/* A name that cannot be made could be any name: where some rule may apply, it is denied. */
	if (s->flags & (WALK_LONG | WALK_RACE | WALK_STRAY)) {
		count_failure(s->flags & WALK_RACE ? FAILURE_NAME_RACE :
			      s->flags & WALK_LONG ? FAILURE_NAME_LONG : FAILURE_NAME_STRAY);
		return refuse(s, who, w, 0, ACTION_BLOCK);
	}
	if (s->flags & WALK_LOST) {
		s->event_flags |= EVENT_UNNAMED;
		s->cells = HEADER(t, cells);
		object = HEADER(t, unnamed);
	} else {
		u32 none = HEADER_OF(t, none, s->domain & 15);

		if (s->domain == DOMAIN_ESCAPE) {
			/* not by the name in name[], which only the event needs */
			s->cells = HEADER(t, cells);
			s->row = STEP(t, s->cells, HEADER_OF(t, start, DOMAIN_ESCAPE), COLUMN_BYTE + s->escape);
		} else {
			run_name(s, t.arena, s->domain & 15);
		}
		object = EXCEPTION(t, s->cells, s->row, COLUMN_END, none);
	}
	/* not on the stack, whose every content is another state to a verifier */
	j = &s->judgement;
	judge_object(t, s->cells, object, s->classes, s->count, s->decide, s->held, j);
	if (j->failed)
		count_failure(FAILURE_CHAIN);
	if (j->fired)
		return refuse(s, who, w, RULE(t, j->fired, u32, id), RULE(t, j->fired, u8, action));
	if (j->audit)
		report(s, who, w, RULE(t, j->audit, u32, id) | (u64)RULE(t, j->audit, u8, action) << 32, VERDICT_PASS);
	return 0;
}

/* A preset's entry, for what has no object that a rule could name. */
static __always_inline bool judge_preset(struct caller *c, u32 preset, u32 operation)
{
	u32 at = __builtin_offsetof(struct set_header, presets) + preset * sizeof(struct entry);
	u32 verdict = HEADER_AT(c->tables, at), audit = HEADER_AT(c->tables, at + 4);
	u32 rule = verdict ? verdict : audit;
	struct scratch *s;

	if (!rule)
		return false;
	s = take_scratch();
	if (!s)
		return verdict != 0;
	set_question(s, c, DOMAIN_PROGRAM, DECIDE_EXEC, operation);
	s->off = NAME_MAX_BYTES;
	s->event_flags = EVENT_UNNAMED;
	report(s, c->subject, c->workload,
	       RULE(c->tables, rule, u32, id) | (u64)RULE(c->tables, rule, u8, action) << 32,
	       verdict ? VERDICT_DENY : VERDICT_PASS);
	give_scratch(s);
	return verdict != 0;
}

/* Short inputs (addresses, sockets, capabilities) are right-aligned where names are. */
static __always_inline void put_bytes(struct scratch *s, const void *bytes, u32 length)
{
	s->off = NAME_MAX_BYTES - length;
	__builtin_memcpy(&s->name[NAME_MAX_BYTES - length], bytes, length);
}

/* An object on an internal mount of a real file system is in a layer below an overlay: the overlay's own
 * work. One of the kernel's own file systems (memfd, pipes) has no name; only its regular files matter. */
enum standing { STANDING_NAMED, STANDING_UNNAMED, STANDING_IN_LAYER, STANDING_IGNORED };

static __always_inline enum standing standing_of(u64 mount, u64 inode, u64 dentry, u32 decide)
{
	if (mount && (u64)PEEK(mount, mount, mnt_ns) > (u64)-4096) {
		u64 block = (u64)PEEK(mount, mount, mnt.mnt_sb);

		if (!(PEEK(super_block, block, s_flags) & SB_KERNMOUNT))
			return STANDING_IN_LAYER;
		/* event descriptors and the like say that they are regular files since 6.16 */
		return S_ISREG(PEEK(inode, inode, i_mode)) && PEEK(super_block, block, s_magic) != ANON_INODE_FS_MAGIC ?
			       STANDING_UNNAMED : STANDING_IGNORED;
	}
	/* deleted: its old name says nothing of what would run; without a mount it is a layer's, whose name counts. A file
	 * system's root has no name of its own, and what is mounted may be a deleted file */
	if (decide == DECIDE_EXEC && mount && !PEEK(dentry, dentry, d_hash.pprev) && dentry != (u64)PEEK(dentry, dentry, d_parent))
		return STANDING_UNNAMED;
	return STANDING_NAMED;
}

/* A change that passes, to the object that name[] names, as a system call that some rule reports. */
static __always_inline void audit_call(struct scratch *s, struct subject *who, struct workload *w)
{
	u32 off = s->off, decision = s->judgement.decisions[0];
	u8 domain = s->domain, decide = s->decide, operation = s->operation;

	if (s->flags != WALK_DONE || off < 2 || off >= NAME_MAX_BYTES)
		return;
	s->name[(off - 1) & (NAME_MAX_BYTES - 1)] = operation;
	s->name[(off - 2) & (NAME_MAX_BYTES - 1)] = CALL_PATH;
	s->off = off - 2;
	s->domain = DOMAIN_CALL;
	s->decide = DECIDE_OTHER;
	s->operation = OPERATION_SYSCALL;
	judge(s, who, w);
	s->off = off;
	s->domain = domain;
	s->decide = decide;
	s->operation = operation;
	s->judgement.decisions[0] = decision;
}

/* A change in an overlay that came after the workload is one in its upper layer, which may be protected where it lies, and
 * where most hooks do not see it. */
static __noinline int judge_over(struct scratch *s, struct subject *who, struct workload *w)
{
	u64 block = (u64)PEEK(dentry, s->object_dentry, d_sb);
	struct root_key key = { block, s->home };
	int denied;

	if (PEEK(super_block, block, s_magic) != OVERLAYFS_SUPER_MAGIC || bpf_map_lookup_elem(&roots, &key))
		return 0;
	s->over = 1;
	s->object_mount = 0;
	make_name(s);
	s->over = 0;
	denied = !(s->flags & WALK_LOST) && judge(s, who, w);
	s->flags = 0; /* two names, but one entry of the cache: not for it */
	return denied;
}

/* Names the object in s and settles the question about it. Global, as judge is. */
__noinline int judge_name(struct scratch *s, struct subject *who, struct workload *w)
{
	struct tables t = { tables_arena() };
	enum standing standing;

	if (!s || !who || !w || !t.arena)
		return 1;
	t.region = s->region;
	standing = standing_of(s->object_mount, s->object_inode, s->object_dentry, s->decide);
	/* What is done through the overlay is judged above. But what is read here is copied up, for whoever owns the overlay to
	 * read, and a descriptor may have been had from fanotify: judged where it lies. */
	if (standing == STANDING_IN_LAYER)
		s->object_mount = 0;
	if (standing == STANDING_IGNORED)
		return 0;
	set_classes(s, who, s->decide == DECIDE_EXEC);
	gather_facts(s, s->object_inode);
	make_name(s);
	if (standing == STANDING_UNNAMED) {
		if (s->off == NAME_MAX_BYTES - 1)
			name_alone(s, s->object_dentry);
		s->flags = WALK_LOST;
	} else if (!s->object_mount && s->flags & WALK_LOST)
		return s->event_flags & EVENT_WRITE ? judge_over(s, who, w) : 0;
	if (judge(s, who, w))
		return 1;
	if (s->decide == DECIDE_WRITE && HEADER_OF(t, active, DOMAIN_CALL) & 1u << DECIDE_OTHER)
		audit_call(s, who, w);
	return s->event_flags & EVENT_WRITE ? judge_over(s, who, w) : 0;
}

/* The whole question about a dentry, the slow way. mount 0 = not known (hooks that are given none); then
 * what no original mount leads to is the lower part of an overlay and passes. inode gives the owner. */
static __always_inline bool judge_dentry(struct scratch *s, struct caller *c, u64 dentry, u64 mount, u64 inode,
					 u32 decide, u32 operation)
{
	set_question(s, c, names_of(decide), decide, operation);
	s->object_dentry = dentry;
	s->object_mount = mount;
	s->object_inode = inode;
	return judge_name(s, c->subject, c->workload);
}

/* --- the verdict cache --- */

#define CACHE_WAY(class, domain) (((class) + (domain)) & (CACHE_WAYS - 1))

/* Odd, so that no mixture of two entries adds up. */
#define CACHE_SUM(sum, value) ((sum) * 0x5bd1e995 + (value))

/* Hash and length of a dentry's name; one word, but no verifier lets a program of 6.1 load it as such. */
static __always_inline u64 name_hash(struct dentry *dentry)
{
	return dentry->d_name.hash | (u64)dentry->d_name.len << 32;
}

/* An entry's member is read once, for the comparison and for the sum. Behind the barrier clang cannot take the other
 * side of the comparison for the sum, which may be a pointer, nor put the sum off and keep all that it is made of. */
#define CACHE_SAME(member, wanted) ({ \
	u64 read_ = *(volatile u64 *)&e->member; \
	bool same_ = read_ == (u64)(wanted); \
	barrier_var(read_); \
	sum = CACHE_SUM(sum, read_); \
	barrier_var(sum); \
	same_; })

/* Whether the entry is about this file and passes it. */
static __always_inline bool passes_cached(struct cached *e, struct caller *c, struct file *file, u64 classes, u32 decide)
{
	struct dentry *dentry = file->f_path.dentry;
	u64 name, sequence, passes, sum = 1;

	barrier_var(e);
	if (!CACHE_SAME(dentry, dentry) || !CACHE_SAME(mount, file->f_path.mnt) ||
	    !CACHE_SAME(parent, dentry->d_parent->d_inode) || !CACHE_SAME(home, c->subject->home) ||
	    !CACHE_SAME(classes, classes))
		return false;
	/* asking once which way to go, for every cached answer comes by here */
	if (HAS_RDONLY_CAST) {
		name = peek8((void *)&dentry->d_name);
		sequence = TREE_SEQUENCE(SEQUENCE_CAST);
	} else {
		name = name_hash(dentry);
		sequence = TREE_SEQUENCE(SEQUENCE_READ);
	}
	if (!CACHE_SAME(name, name) || !CACHE_SAME(sequence, sequence))
		return false;
	passes = *(volatile u64 *)&e->passes;
	return CACHE_SUM(sum, passes) == *(volatile u64 *)&e->sum && passes >> decide & 1;
}

/* What an entry is about, from before the object is named: where that changes meanwhile, it will not be found. */
static __always_inline void identify(struct cached *e, struct caller *c, struct file *file)
{
	struct dentry *dentry = file->f_path.dentry;

	e->dentry = (u64)dentry;
	e->mount = (u64)file->f_path.mnt;
	e->parent = (u64)dentry->d_parent->d_inode;
	e->name = name_hash(dentry);
	e->home = c->subject->home;
}

/* Keeps what has been judged of the file in the tables of this set (as in struct workload); only what was named without
 * trouble, and by a single subject class. */
static __noinline void keep_verdict(struct scratch *s, struct file *file, u64 set, u32 decide)
{
	struct tables t = { tables_arena(), set };
	u32 domain = names_of(decide), generation = set >> 32, decision;
	struct cached *e = &s->fresh;
	struct verdicts *v;
	u64 sum = 1;

	if (!t.arena || s->flags != WALK_DONE || s->count != 1)
		return;
	v = bpf_inode_storage_get(&verdicts, file->f_inode, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!v) {
		count_failure(FAILURE_CACHE);
		return;
	}
	e->classes = SUBJECT_WORD(generation, s->classes[0], domain);
	e->sequence = s->sequence;
	decision = s->judgement.decisions[0];
	e->passes = PASSES(t, decision);
	/* a change is also asked about in an overlay's upper layer, see judge_over */
	if (decide != DECIDE_WRITE)
		e->passes &= ~(1ull << DECIDE_WRITE);
	/* through memory, since a verifier lets nobody count with pointers */
	barrier();
	sum = CACHE_SUM(sum, e->dentry);
	sum = CACHE_SUM(sum, e->mount);
	sum = CACHE_SUM(sum, e->parent);
	sum = CACHE_SUM(sum, e->home);
	sum = CACHE_SUM(sum, e->classes);
	sum = CACHE_SUM(sum, e->name);
	sum = CACHE_SUM(sum, e->sequence);
	e->sum = CACHE_SUM(sum, e->passes);
	v->ways[CACHE_WAY(s->classes[0], domain)] = *e;
}

/* An open file whose verdict is not cached; then it is. A function of its own that finds the tables again, so that who
 * is answered from the cache keeps all it needs in registers. */
static __noinline int judge_uncached(struct file *file, struct subject *who, u32 decide, u32 operation)
{
	struct caller c = { who };
	struct scratch *s;
	bool denied;

	if (!find_tables(&c, who->workload)) /* let go of since */
		return 0;
	s = take_scratch();
	if (!s)
		return -EACCES;
	s->flags = 0;
	identify(&s->fresh, &c, file);
	denied = judge_dentry(s, &c, (u64)file->f_path.dentry, (u64)real_mount(file->f_path.mnt), (u64)file->f_inode, decide,
			      operation);
	if (!through_security)
		keep_verdict(s, file, c.set, decide);
	give_scratch(s);
	ANSWER(denied);
}

/* For hooks that are given an open file: most answers come from the inode's own cache. 0 or -EACCES. */
static __always_inline int judge_file(struct caller *c, struct file *file, u32 decide, u32 operation)
{
	u64 word = *(volatile u64 *)&c->subject->classes, domain = names_of(decide);
	struct verdicts *v;

	if (!is_active(c, domain, decide))
		return 0;
	/* classes of these tables, and no script's */
	if (!through_security && word >> 16 == (u64)generation_of(c) << 16) {
		v = bpf_inode_storage_get(&verdicts, file->f_inode, 0, 0);
		word |= domain << 16;
		if (v && passes_cached(&v->ways[CACHE_WAY(word, domain)], c, file, word, decide))
			return 0;
	}
	return judge_uncached(file, c->subject, decide, operation);
}

#endif
