/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What an object is called. Its name is made from its dentry up to the root of the mount it was reached
 * by, then continued where that mount was when the workload started. A mount made later is looked
 * through: the dentry's ancestors are searched for the root of an original mount. Only a file system
 * that the workload did not have when it started is named by where it is mounted now.
 *
 * bpf_loop with its state in the scratch buffer is the one shape that every kernel verifies cheaply.
 */
#ifndef BELAY_NAME_H
#define BELAY_NAME_H

#include "state.h"

/* where the kernel has them; no variable of a kernel can be named by its type but per-CPU ones */
const volatile u64 rename_lock_at;
const volatile u64 mount_lock_at;

struct seqcount { unsigned int sequence; } __attribute__((preserve_access_index));

enum walk_flag {
	WALK_DONE = 1, /* the name is complete */
	WALK_LONG = 2, /* over 4096 bytes, or a component over 255, which some file systems allow */
	WALK_TOP = 4, /* came to the file system's root without meeting what was looked for */
	WALK_LOST = 8, /* in a mount tree that is no namespace's: no absolute name */
	WALK_RACE = 16, /* renames never paused */
	WALK_STRAY = 32, /* not below what it was reached by: opened by handle, or moved out of a bind mount */
};

#define WALK_STEPS 4096
#define WALK_TRIES 256
/* How often a lock is looked at that somebody holds. The kernel's own readers wait without end; a virtual processor
 * may be taken away while it holds one, for milliseconds. */
#define WALK_WAITS (1 << 20)

struct walk { struct scratch *s; };

/* Both locks' counts; an odd one means that a writer is at work. */
#define TREE_SEQUENCE(read) (read(rename_lock_at) | (u64)read(mount_lock_at) << 32)
#define SEQUENCE_CAST(lock) (CAST(seqcount, lock)->sequence)
#define SEQUENCE_READ(lock) BPF_CORE_READ((struct seqcount *)(lock), sequence)

static __always_inline u64 tree_sequence(void)
{
	/* as PEEK, which would ask twice which way to go */
	return HAS_RDONLY_CAST ? TREE_SEQUENCE(SEQUENCE_CAST) : TREE_SEQUENCE(SEQUENCE_READ);
}

#define SEQUENCE_BUSY 0x100000001ull

/* Identity of a mount namespace, never used again: its sequence number, or its id where that is gone. */
static __always_inline u64 mounts_id(struct mnt_namespace *ns)
{
	if (bpf_core_field_exists(((struct mnt_namespace___seq *)0)->seq))
		return BPF_CORE_READ((struct mnt_namespace___seq *)ns, seq);
	return BPF_CORE_READ((struct ns_common___new *)&ns->ns, ns_id);
}

/* Not a namespace that anybody is in: detached, made by open_tree or fsmount, or the kernel's own. */
static __always_inline bool mounts_nowhere(struct mount *m)
{
	struct mnt_namespace *ns = BPF_CORE_READ(m, mnt_ns);

	if (!ns || (u64)ns > (u64)-4096)
		return true;
	if (bpf_core_field_exists(((struct mnt_namespace___anon *)0)->is_anon))
		return BPF_CORE_READ((struct mnt_namespace___anon *)ns, is_anon);
	return mounts_id(ns) == 0;
}

static __always_inline struct mount *real_mount(struct vfsmount *mnt)
{
	return (void *)mnt - bpf_core_field_offset(struct mount, mnt);
}

/* What a file was opened by. From 6.8 on that of an overlay's layer, which is also what a mapping holds, has the layer's
 * path in f_path. */
static __always_inline struct path *opened_path(struct file *file)
{
	if (bpf_core_field_exists(((struct backing_file *)0)->user_path) && BPF_CORE_READ(file, f_mode) & FMODE_LAYER)
		return (void *)file + bpf_core_field_offset(struct backing_file, user_path);
	return (void *)file + bpf_core_field_offset(struct file, f_path);
}

static __always_inline u64 mount_root(u64 mount)
{
	return (u64)PEEK(mount, mount, mnt.mnt_root);
}

static __always_inline u64 inode_number(u64 dentry)
{
	return PEEK(inode, PEEK(dentry, dentry, d_inode), i_ino);
}

/* Whether it is the directory that the original had as its root, and no other in the memory of that. */
static __always_inline bool is_root_of(struct original *o, u64 dentry)
{
	return o->root == dentry && o->inode == inode_number(dentry);
}

/* Notes whether the mount is an original; one whose memory was reused has another root. */
static __always_inline struct original *set_mount(struct scratch *s, u64 mount)
{
	struct original *o = bpf_map_lookup_elem(&originals, &mount);

	s->mount = mount;
	s->stop = mount_root(mount);
	s->known = o && is_root_of(o, s->stop);
	return o;
}

struct timespec64 { s64 tv_sec; } __attribute__((preserve_access_index));

/* Eight bytes from anywhere; any structure that begins with 64 bits will do. */
static __always_inline u64 peek8(const unsigned char *at)
{
	struct timespec64 *t = bpf_rdonly_cast(at, bpf_core_type_id_kernel(struct timespec64));

	return t->tv_sec;
}

/* Copies length bytes, not 0, to name[at..at + length), without the helper for the short ones that most are. Words overlap at
 * the end, so nothing after it is touched; a component below one word keeps what follows by its mask. */
static __always_inline void put_component(struct scratch *s, u32 at, u32 length, const unsigned char *from)
{
	u8 *to = (u8 *)&s->name[at];

	if (!HAS_RDONLY_CAST || length > 32) {
		bpf_probe_read_kernel(to, length, from);
	} else if (length >= 8) {
		*(u64 *)to = peek8(from);
		if (length > 16)
			*(u64 *)(to + 8) = peek8(from + 8);
		if (length > 24)
			*(u64 *)(to + 16) = peek8(from + 16);
		*(u64 *)&s->name[(at + length - 8) & (NAME_MAX_BYTES - 1)] = peek8(from + length - 8);
	} else {
		u64 mask = ((u64)1 << length * 8) - 1;

		*(u64 *)to = (peek8(from) & mask) | (*(u64 *)to & ~mask);
	}
}

/* Puts one component before the name and goes to the parent. 1 = stop. */
static __always_inline long prepend(struct scratch *s)
{
	struct dentry *d = (void *)s->dentry, *parent;
	const unsigned char *name;
	u32 whole, len, off;

	if (HAS_RDONLY_CAST) {
		struct dentry *r = bpf_rdonly_cast(d, bpf_core_type_id_kernel(struct dentry));

		parent = r->d_parent;
		whole = r->d_name.len;
		name = r->d_name.name;
	} else {
		struct { struct dentry *parent; u32 hash, len; const unsigned char *name; } x;

		if (bpf_probe_read_kernel(&x, sizeof(x), (void *)d + bpf_core_field_offset(struct dentry, d_parent))) {
			s->flags |= WALK_LOST;
			return 1;
		}
		parent = x.parent;
		whole = x.len;
		name = x.name;
	}
	if (parent == d) {
		s->flags |= WALK_TOP;
		return 1;
	}
	len = whole & 255;
	off = s->off;
	if (whole > 255 || off < len + 1 || off > NAME_MAX_BYTES) {
		s->flags |= WALK_LONG;
		return 1;
	}
	off = (off - len - 1) & (NAME_MAX_BYTES - 1);
	s->name[off] = '/';
	put_component(s, off + 1, len, name);
	s->off = off;
	s->dentry = (u64)parent;
	return 0;
}

/* From the root of a mount to where that is mounted. 1 = stop. */
static __always_inline long step_over(struct scratch *s)
{
	struct mount *m = (void *)s->mount;
	struct mount *parent;

	if (s->known) {
		s->flags |= WALK_DONE;
		return 1;
	}
	parent = PEEK(mount, m, mnt_parent);
	if (parent == m) {
		s->flags |= mounts_nowhere(m) ? WALK_LOST : WALK_DONE;
		return 1;
	}
	s->dentry = (u64)BPF_CORE_READ(m, mnt_mountpoint);
	set_mount(s, (u64)parent);
	return 0;
}

/* Two components at once: a call takes as long as half of one. */
static long walk_step(u32 i, struct walk *w)
{
	struct scratch *s = w->s;

	if (s->dentry != s->stop && prepend(s))
		return 1;
	return s->dentry == s->stop ? step_over(s) : prepend(s);
}

/* As walk_step, but looking at every ancestor whether an original mount begins there. */
static long climb_step(u32 i, struct walk *w)
{
	struct scratch *s = w->s;
	struct root_key key = { s->dentry, s->home };
	u64 *mount = bpf_map_lookup_elem(&roots, &key);
	struct original *o = mount ? bpf_map_lookup_elem(&originals, mount) : NULL;

	if (o && o->home == s->home && is_root_of(o, s->dentry)) {
		s->mount = *mount;
		s->flags |= WALK_DONE;
		return 1;
	}
	return prepend(s);
}

/* Where an overlay's inode has its dentry in the upper layer. The module's own types say it, if it was there when the
 * programs were loaded and they may be read; if not: behind struct inode, where it has been since Linux 4.13. */
static __always_inline u64 upper_dentry(u64 inode)
{
	u64 upper = 0;
	u32 behind;

	if (bpf_core_field_exists(((struct ovl_inode *)0)->__upperdentry))
		behind = bpf_core_field_offset(struct ovl_inode, __upperdentry) -
			 bpf_core_field_offset(struct ovl_inode, vfs_inode);
	else
		behind = bpf_core_type_size(struct inode);
	bpf_probe_read_kernel(&upper, sizeof(upper), (void *)inode + behind);
	return upper;
}

/* From an object in an overlay up to a folder that the upper layer has, and over into that. */
static long over_step(u32 i, struct walk *w)
{
	struct scratch *s = w->s;
	u64 upper;

	if (prepend(s))
		return 1;
	upper = upper_dentry((u64)PEEK(dentry, s->dentry, d_inode));
	if (!upper)
		return 0;
	s->dentry = upper;
	return 1;
}

/* The original that the walk ended at. */
static __always_inline struct original *original_met(struct scratch *s)
{
	u64 mount = s->mount; /* 6.1 takes no key from where a global function's argument points */

	return bpf_map_lookup_elem(&originals, &mount);
}

static __always_inline void put_prefix(struct scratch *s, struct original *o)
{
	u32 len, off;

	if (!o)
		return;
	len = o->length & 255;
	off = s->off;
	if (off < len || off > NAME_MAX_BYTES) {
		s->flags |= WALK_LONG;
		return;
	}
	if (!len)
		return;
	off = (off - len) & (NAME_MAX_BYTES - 1);
	put_component(s, off, len, (unsigned char *)o->prefix);
	s->off = off;
}

/* File systems of which there may be many, but whose files are the kernel's: they are called what they are called
 * everywhere, wherever and however often a workload mounts them. */
static const struct { u32 magic, length; char place[24]; } usual_places[] = {
	{ PROC_SUPER_MAGIC, 5, "/proc" },
	{ SYSFS_MAGIC, 4, "/sys" },
	{ CGROUP2_SUPER_MAGIC, 14, "/sys/fs/cgroup" },
	{ BPF_FS_MAGIC, 11, "/sys/fs/bpf" },
	{ DEBUGFS_MAGIC, 17, "/sys/kernel/debug" },
	{ TRACEFS_MAGIC, 19, "/sys/kernel/tracing" },
	{ SECURITYFS_MAGIC, 20, "/sys/kernel/security" },
	{ BINFMTFS_MAGIC, 24, "/proc/sys/fs/binfmt_misc" },
};

static __noinline bool put_usual_place(struct scratch *s)
{
	u32 magic = PEEK(super_block, PEEK(dentry, s->object_dentry, d_sb), s_magic), off = s->off;

#pragma unroll
	for (u32 i = 0; i < sizeof(usual_places) / sizeof(*usual_places); i++) {
		u32 length = usual_places[i].length;

		if (magic != usual_places[i].magic)
			continue;
		if (off < length || off > NAME_MAX_BYTES)
			return false;
		off = (off - length) & (NAME_MAX_BYTES - 1);
		bpf_probe_read_kernel(&s->name[off], length, usual_places[i].place);
		s->off = off;
		s->flags = WALK_DONE;
		return true;
	}
	return false;
}

/* One try at the name of a dentry in a mount (0 = which one is not known). */
static __noinline void name_once(struct scratch *s, u64 dentry, u64 mount)
{
	struct walk w = { s };
	struct original *o = NULL;

	s->off = NAME_MAX_BYTES;
	s->flags = 0;
	s->dentry = dentry;
	s->known = 0;
	if (s->over)
		bpf_loop(WALK_STEPS, over_step, &w, 0);
	if (mount)
		o = set_mount(s, mount);
	if (!s->known) {
		if (s->home && !s->flags) {
			bpf_loop(WALK_STEPS, climb_step, &w, 0);
			if (s->flags & WALK_DONE) {
				put_prefix(s, original_met(s));
				return;
			}
			if (s->flags & WALK_TOP && put_usual_place(s))
				return;
		}
		if (!mount) {
			if (!(s->flags & WALK_LONG))
				s->flags |= WALK_LOST;
			return;
		}
		s->off = NAME_MAX_BYTES;
		s->flags = 0;
		s->dentry = dentry;
	}
	bpf_loop(WALK_STEPS, walk_step, &w, 0);
	if (s->flags & WALK_TOP)
		s->flags |= WALK_STRAY;
	else if (!(s->flags & (WALK_DONE | WALK_LONG | WALK_LOST)))
		/* more steps than a name can have components */
		s->flags |= WALK_LONG;
	if (s->known) {
		if (s->mount != mount)
			o = original_met(s);
		put_prefix(s, o);
	}
}

/* A walk during which nothing moved is true; otherwise it is done again. */
static long name_try(u32 i, struct walk *w)
{
	struct scratch *s = w->s;
	u64 before = tree_sequence();

	if (before & SEQUENCE_BUSY) {
		s->flags = WALK_RACE;
		return 0;
	}
	name_once(s, s->object_dentry, s->object_mount);
	if (tree_sequence() == before) {
		s->sequence = before;
		return 1;
	}
	s->flags |= WALK_RACE;
	/* counted in the scratch: a count on the stack is a new state for the verifier each time round */
	return ++s->tries >= WALK_TRIES;
}

/* Names the object in s; s->home must be set. Leaves the name in name[off..4096), and s->flags. Global, so that a program
 * with several uses is not verified once for each; addresses come by way of s, since verifiers take none for numbers. */
__noinline int make_name(struct scratch *s)
{
	struct walk w = { s };

	if (!s)
		return 0;
	s->tries = 0;
	bpf_loop(WALK_WAITS, name_try, &w, 0);
	if (s->off == NAME_MAX_BYTES) {
		s->off = NAME_MAX_BYTES - 1;
		s->name[NAME_MAX_BYTES - 1] = '/';
	}
	return 0;
}

static __always_inline void name_object(struct scratch *s, u64 dentry, u64 mount)
{
	s->object_dentry = dentry;
	s->object_mount = mount;
	make_name(s);
}

/* What is on a file system of the kernel's own has no path, but is called something. */
static __always_inline void name_alone(struct scratch *s, u64 dentry)
{
	struct dentry *d = (void *)dentry;
	u32 len = BPF_CORE_READ(d, d_name.len) & 255;

	s->off = NAME_MAX_BYTES - len;
	if (len)
		bpf_probe_read_kernel(&s->name[s->off & (NAME_MAX_BYTES - 1)], len, BPF_CORE_READ(d, d_name.name));
}

static __always_inline void name_path(struct scratch *s, struct path *path)
{
	name_object(s, (u64)BPF_CORE_READ(path, dentry), (u64)real_mount(BPF_CORE_READ(path, mnt)));
}

/* --- the original mounts of a workload --- */

static __always_inline u64 list_mount(struct list_head *child)
{
	return (u64)child - bpf_core_field_offset(struct mount, mnt_child);
}

/* The first mount of a directory names it. */
static __always_inline void note_root(struct root_key *key, u64 *mount)
{
	int error = bpf_map_update_elem(&roots, key, mount, BPF_NOEXIST); /* 6.1 leaves the upper half 0 */

	if (error && error != -EEXIST)
		count_failure(FAILURE_MOUNTS_FULL);
}

/* Visits the mount tree of a namespace, parents before children, one mount or one step up per call. */
static long take_step(u32 i, struct walk *w)
{
	struct scratch *s = w->s;
	struct mount *m = (void *)s->visit;
	struct list_head *head, *next;

	if (!s->visit_ascend) {
		struct original *o = (void *)s->event; /* too large for the stack */
		struct root_key key;
		u64 mount = s->visit;
		u32 len;

		s->off = NAME_MAX_BYTES;
		s->flags = WALK_DONE;
		if (s->visit != s->visit_root) {
			s->dentry = (u64)BPF_CORE_READ(m, mnt_mountpoint);
			set_mount(s, (u64)BPF_CORE_READ(m, mnt_parent));
			s->flags = 0;
			bpf_loop(WALK_STEPS, walk_step, w, 0);
			if (s->known)
				put_prefix(s, original_met(s));
		}
		len = NAME_MAX_BYTES - s->off;
		if (!(s->flags & WALK_DONE) || len >= PREFIX_MAX) {
			count_failure(FAILURE_MOUNTS_FULL);
		} else {
			o->root = mount_root(mount);
			o->inode = inode_number(o->root);
			o->home = s->home;
			o->length = len;
			if (len) {
				len &= PREFIX_MAX - 1;
				bpf_probe_read_kernel(o->prefix, len, &s->name[s->off & (NAME_MAX_BYTES - 1)]);
			}
			key.dentry = o->root;
			key.home = s->home;
			if (bpf_map_update_elem(&originals, &mount, o, BPF_ANY))
				count_failure(FAILURE_MOUNTS_FULL);
			note_root(&key, &mount);
			key.dentry = (u64)BPF_CORE_READ(m, mnt.mnt_sb);
			note_root(&key, &mount);
		}
		head = (void *)&m->mnt_mounts;
		next = BPF_CORE_READ(m, mnt_mounts.next);
		if (next != head) {
			s->visit = list_mount(next);
			return 0;
		}
		s->visit_ascend = 1;
	}
	if (s->visit == s->visit_root)
		return 1;
	next = BPF_CORE_READ(m, mnt_child.next);
	s->visit = (u64)BPF_CORE_READ(m, mnt_parent);
	if (next != &((struct mount *)s->visit)->mnt_mounts) {
		s->visit = list_mount(next);
		s->visit_ascend = 0;
	}
	return 0;
}

/* Notes the mounts of a namespace as originals, once, and the super block that its first program calls "/". */
static __noinline void take_originals(struct scratch *s, u64 ns, u64 id, u64 root)
{
	struct settings *set = get_settings();
	struct walk w = { s };
	/* newer than any look at all tasks, so that it is not given up before its first task is met */
	struct home home = { set ? set->round + 1 : 1, root };

	if (bpf_map_lookup_elem(&homes, &id))
		return;
	s->home = id;
	s->visit = s->visit_root = (u64)BPF_CORE_READ((struct mnt_namespace *)ns, root);
	s->visit_ascend = 0;
	bpf_loop(1 << 17, take_step, &w, 0);
	if (bpf_map_update_elem(&homes, &id, &home, BPF_ANY))
		count_failure(FAILURE_MOUNTS_FULL);
}

#endif
