/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Drift: what a container runs and was not in its image. The image is the lower layers of the overlay that was the
 * container's root when it started. So what lies in the upper layer is drift, be it new, written, renamed or with
 * another mode; and so is all that lies on any other file system: volumes, tmpfs, memfd, an overlay mounted later.
 */
#ifndef BELAY_DRIFT_H
#define BELAY_DRIFT_H

#include "decide.h"

static __always_inline bool is_drifted(struct subject *who, u64 dentry)
{
	u64 block = (u64)PEEK(dentry, dentry, d_sb), id = who->home;
	struct home *home = bpf_map_lookup_elem(&homes, &id);

	if (home && home->root && home->root != block)
		return true;
	if (!home || !home->root || PEEK(super_block, block, s_magic) != OVERLAYFS_SUPER_MAGIC) {
		count_failure(FAILURE_DRIFT);
		return false;
	}
	return upper_dentry((u64)PEEK(dentry, dentry, d_inode)) != 0;
}

/* A program that is to run, or a library that is mapped to be run. True = denied. */
static __always_inline bool judge_drift(struct caller *c, struct path *path, u32 operation)
{
	u32 at = __builtin_offsetof(struct set_header, presets) + PRESET_DRIFT * sizeof(struct entry);
	u32 verdict = HEADER_AT(c->tables, at), audit = HEADER_AT(c->tables, at + 4);
	u32 rule = verdict ? verdict : audit;
	struct scratch *s;
	u64 dentry;

	if (!rule)
		return false;
	dentry = (u64)BPF_CORE_READ(path, dentry);
	if (!is_drifted(c->subject, dentry))
		return false;
	s = take_scratch();
	if (!s)
		return verdict != 0;
	set_question(s, c, DOMAIN_PROGRAM, DECIDE_EXEC, operation);
	name_path(s, path);
	if (s->flags & WALK_LOST) {
		if (s->off == NAME_MAX_BYTES - 1)
			name_alone(s, dentry);
		s->event_flags = EVENT_UNNAMED;
	}
	report(s, c->subject, c->workload,
	       RULE(c->tables, rule, u32, id) | (u64)RULE(c->tables, rule, u8, action) << 32,
	       verdict ? VERDICT_DENY : VERDICT_PASS);
	give_scratch(s);
	return verdict != 0;
}

#endif
