/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Telling user space. No verdict depends on anything here. */
#ifndef BELAY_EMIT_H
#define BELAY_EMIT_H

#include "name.h"
#include "who.h"

static long hash_step(u32 i, struct scratch **sp)
{
	struct scratch *s = *sp;
	u32 at = s->at;

	if (at >= NAME_MAX_BYTES)
		return 1;
	s->hash = (s->hash ^ *(u64 *)&s->name[at & (NAME_MAX_BYTES - 1)]) * 0x9e3779b97f4a7c15ull;
	s->hash ^= s->hash >> 29;
	s->at = at + 8;
	return 0;
}

/* Same key = same workload, rule, operation and object. Other tables' rule of that number is another rule. */
static __always_inline u64 fold_key(struct scratch *s, u32 rule, u32 verdict)
{
	s->hash = ((u64)s->workload << 48 | (u64)rule << 16 | s->operation << 8 | verdict) * 0x9e3779b97f4a7c15ull;
	s->hash = (s->hash ^ s->generation) * 0x9e3779b97f4a7c15ull;
	s->at = s->off;
	bpf_loop(NAME_MAX_BYTES / 8 + 1, hash_step, &s, 0);
	return s->hash | 1;
}

/* How many repeats to report now, this one included; 0 = it was only counted. */
static __always_inline u64 fold(u64 key, u64 now, u32 workload, u32 rule)
{
	u32 slot = rule == RULE_NONE ? FOLD_SLOTS + ((key >> 20) & (LOG_FOLD_SLOTS - 1)) : (key >> 20) & (FOLD_SLOTS - 1);
	struct fold *f = bpf_map_lookup_elem(&folds, &slot);
	u64 since, old, count;

	if (!f)
		return 1;
	since = f->since;
	old = f->key;
	if (old == key) {
		if (now - since < fold_window || __sync_val_compare_and_swap(&f->since, since, now) != since) {
			__sync_fetch_and_add(&f->count, 1);
			return 0;
		}
		count = f->count;
		if (count & FOLD_CLAIMED || __sync_val_compare_and_swap(&f->count, count, 0) != count) {
			__sync_fetch_and_add(&f->count, 1);
			return 0;
		}
		return count + 1;
	}
	if (!old || (now - since >= fold_window && !f->count)) {
		if (__sync_val_compare_and_swap(&f->key, old, key) == old) {
			f->since = now;
			f->workload = workload;
			f->rule = rule;
		}
	}
	return 1;
}

/*
 * Whether the workload gets so many bytes more of the denials' ring: no more than the agent reads in a moment, for others'
 * wait behind it, and no more than is then free, so that there is room however many do the same. What it holds is known
 * to within what comes while a record waits. Two processors at once make the share a little larger.
 */
static __always_inline bool take_share(struct workload *w, u32 size)
{
	struct settings *set = get_settings();
	u32 most = set && set->denials_share ? set->denials_share : DENIALS_SHARE;
	u64 read = bpf_ringbuf_query(&denials, BPF_RB_CONS_POS);
	u64 waiting = bpf_ringbuf_query(&denials, BPF_RB_AVAIL_DATA);
	u64 held;

	if (read >= w->held_mark) {
		w->held_before = read < w->held_last ? w->held_behind : 0;
		w->held_behind = 0;
		w->held_mark = read + waiting;
	}
	held = (u64)w->held_before + w->held_behind;
	if (held > waiting)
		held = waiting;
	held += size;
	if (held > most || held + waiting + size > DENIALS_BYTES)
		return false;
	__sync_fetch_and_add(&w->held_behind, size);
	w->held_last = read + waiting + size;
	return true;
}

/* Puts the object's name behind the event, whose strings end at; returns the size of it all. */
static __always_inline u32 finish(struct scratch *s, struct event *e, u32 at)
{
	/* addresses and such have fields of their own */
	bool named = s->domain <= DOMAIN_FILE || (s->domain >= DOMAIN_ESCAPE && s->domain <= DOMAIN_CALL);
	u32 length = named ? NAME_MAX_BYTES - s->off : 0, size;

	at &= EVENT_STRINGS - 1;
	length &= 8191;
	if (length > NAME_MAX_BYTES)
		length = NAME_MAX_BYTES;
	e->object_length = length;
	if (length)
		bpf_probe_read_kernel(s->event + sizeof(struct event) + at, length,
				      &s->name[s->off & (NAME_MAX_BYTES - 1)]);
	size = sizeof(struct event) + at + length;
	if (size > EVENT_SIZE)
		size = EVENT_SIZE;
	return size;
}

static __always_inline void send(struct scratch *s, struct event *e, u32 at, u32 ring, struct workload *w)
{
	u32 size = finish(s, e, at);
	long failed;

	if (ring == RING_DENIALS)
		failed = !take_share(w, size) || bpf_ringbuf_output(&denials, s->event, size, 0);
	else if (ring == RING_MATCHES)
		failed = bpf_ringbuf_output(&matches, s->event, size, 0);
	else
		failed = bpf_ringbuf_output(&telemetry_ring, s->event, size, 0);
	if (failed)
		__sync_fetch_and_add(&w->lost[ring & 3], e->count);
}

/* Telemetry: once half of the ring is full, a workload has a share of what is left, so that one cannot take it all. Two
 * processors that begin a second at once make its share a little larger. */
static __always_inline void send_visible(struct scratch *s, struct event *e, u32 at, struct workload *w)
{
	u32 size = finish(s, e, at);

	if (e->time - w->spent_since > 1000000000) {
		w->spent_since = e->time;
		w->spent = 0;
	}
	if (__sync_fetch_and_add(&w->spent, size) > TELEMETRY_SHARE &&
	    bpf_ringbuf_query(&telemetry_ring, BPF_RB_AVAIL_DATA) > TELEMETRY_BYTES / 2)
		__sync_fetch_and_add(&w->lost[LOST_TO_OTHERS], e->count);
	else if (bpf_ringbuf_output(&telemetry_ring, s->event, size, 0))
		__sync_fetch_and_add(&w->lost[RING_TELEMETRY], e->count);
}

static __always_inline u32 begin_process(struct scratch *s, struct event *e, struct subject *who, u32 operation)
{
	__builtin_memset(e, 0, sizeof(*e));
	e->time = bpf_ktime_get_boot_ns();
	e->count = 1;
	e->workload = who->workload;
	e->operation = operation;
	e->socket_kind = SOCKET_KIND_COUNT;
	s->domain = DOMAIN_PROGRAM;
	return describe(s, e, who);
}

/* What a process has done or become: telemetry, of which as much is kept as fits. name[] holds what it is about. */
static __noinline void report_process(struct scratch *s, struct subject *who, struct workload *w, u32 operation)
{
	struct event *e = (void *)s->event;

	send_visible(s, e, begin_process(s, e, who, operation), w);
}

struct argument_count { struct scratch *s; u32 at; u32 left; u32 length; };

static long count_argument(u32 i, struct argument_count *a)
{
	if (!a->left)
		return 1;
	a->length = i + 1;
	if (!a->s->event[sizeof(struct event) + (a->at & 1023) + (i & (ARGUMENTS_MAX - 1))])
		a->left--;
	return 0;
}

/* A program has started. name[] holds it. Its arguments are on its new stack, and nowhere said to be yet. */
static __noinline void report_start(struct scratch *s, struct subject *who, struct workload *w, struct linux_binprm *bprm)
{
	struct event *e = (void *)s->event;
	struct argument_count a = { s, 0, bprm->argc };
	u64 p = bprm->p;
	u32 size = ARGUMENTS_MAX - 1, rest = 4096 - (p & 4095), at;
	void *to;

	begin_process(s, e, who, OPERATION_EXEC);
	at = (e->program_length & 255) + (e->parent_length & 255) + (e->ancestors_length & 255) + (e->cwd_length & 255);
	barrier_var(at);
	at &= 1023;
	a.at = at;
	to = s->event + sizeof(struct event) + at;
	/* the stack may end before that */
	if (bpf_probe_read_user(to, size, (void *)p)) {
		size = rest < size ? rest : size;
		size &= ARGUMENTS_MAX - 1;
		if (!size || bpf_probe_read_user(to, size, (void *)p))
			size = 0;
	}
	bpf_loop(size, count_argument, &a, 0);
	if (a.left)
		e->flags |= EVENT_ARGUMENTS_CUT;
	size = a.length & (ARGUMENTS_MAX - 1);
	e->arguments_length = size;
	send_visible(s, e, at + size, w);
}

/* A pod's or a container's cgroup has been made: the agent finds out whose. */
static __noinline void report_cgroup(struct scratch *s, u64 id, u32 workload, const char *path)
{
	struct event *e = (void *)s->event;
	struct workload *w = bpf_map_lookup_elem(&workloads, &workload);
	long length = bpf_probe_read_kernel_str(s->name, 256, path);

	if (!w || length < 1)
		return;
	length = (length - 1) & 255;
	__builtin_memset(e, 0, sizeof(*e));
	e->time = bpf_ktime_get_boot_ns();
	e->count = 1;
	e->workload = workload;
	e->exec_id = id;
	e->operation = OPERATION_CGROUP;
	s->domain = DOMAIN_FILE;
	s->off = NAME_MAX_BYTES - length;
	if (length)
		bpf_probe_read_kernel(&s->name[s->off & (NAME_MAX_BYTES - 1)], length, path);
	send(s, e, 0, RING_TELEMETRY, w);
}

/* What the question in s came to, counted and folded: how many to report now, 0 = none. */
static __always_inline u64 tally(struct scratch *s, struct workload *w, u64 key, u64 now, u32 rule, u32 verdict)
{
	__sync_fetch_and_add(verdict == VERDICT_PASS ? &w->matched : &w->denied, 1);
	return fold(key, now, s->workload, rule);
}

/* Writes the question in s into an event: rule id and action that settled it, and what became of it. */
static __always_inline void tell_question(struct scratch *s, struct event *e, u64 rule, u32 verdict)
{
	e->workload = s->workload;
	e->generation = s->generation;
	e->rule = rule;
	e->operation = s->operation;
	e->verdict = verdict;
	e->action = rule >> 32;
	e->flags |= s->event_flags;
	e->socket_kind = s->kind;
	e->family = s->family;
	e->port = s->port;
	e->protocol = s->protocol;
	e->capability = s->capability;
	__builtin_memcpy(e->address, s->address, sizeof(e->address));
}

/* Connecting is an operation on files, too: to the name of a unix socket. */
#define TOLD(operation, file) ((u32)(operation) << 1 | (file))

/* Reports the question in s for the current task, whose state who is; NULL = nobody acts. Global, so that it is verified
 * once for a program, not at each call. */
__noinline int report(struct scratch *s, struct subject *who, struct workload *w, u64 rule, u32 verdict)
{
	struct event *e;
	u32 at = 0;
	u64 now, key, count;

	if (!s || !w)
		return 0;
	e = (void *)s->event;
	if (who && w->visible && verdict == VERDICT_PASS && s->domain != DOMAIN_CALL)
		who->told = TOLD(s->operation, s->domain == DOMAIN_FILE);
	now = bpf_ktime_get_boot_ns();
	key = fold_key(s, rule, verdict);
	count = tally(s, w, key, now, rule, verdict);
	if (!count)
		return 0;
	__builtin_memset(e, 0, sizeof(*e));
	e->time = now;
	e->fold_key = key;
	e->count = count;
	tell_question(s, e, rule, verdict);
	if (who)
		at = describe(s, e, who);
	send(s, e, at, verdict == VERDICT_PASS ? RING_MATCHES : RING_DENIALS, w);
	return 0;
}

/* Tells of the question in s, which passed and which no rule reports, for the current task. */
__noinline int report_visible(struct scratch *s, struct subject *who, struct workload *w)
{
	struct event *e;
	u64 now, key, count;

	if (!s || !who || !w)
		return 0;
	e = (void *)s->event;
	now = bpf_ktime_get_boot_ns();
	/* reading is another thing than writing */
	key = fold_key(s, RULE_NONE, s->event_flags);
	count = fold(key, now, s->workload, RULE_NONE);
	if (!count)
		return 0;
	__builtin_memset(e, 0, sizeof(*e));
	e->time = now;
	e->fold_key = key;
	e->count = count;
	tell_question(s, e, RULE_NONE, VERDICT_PASS);
	send_visible(s, e, describe(s, e, who), w);
	return 0;
}

#endif
