/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Files: opening them, and changing what is there without opening. */
#ifndef BELAY_FILE_H
#define BELAY_FILE_H

#include "decide.h"

#define ANY_DENIES (DENIES * ((1u << DECIDE_COUNT) - 1))
#define ALIASES 64 /* names of one file that are looked at */

static __always_inline u32 opened_for(struct file *file)
{
	/* one question for most */
	if (file->f_flags & (FMODE_EXEC_FLAG | O_TRUNC))
		return file->f_flags & FMODE_EXEC_FLAG ? DECIDE_LOAD : DECIDE_WRITE;
	return file->f_mode & FMODE_WRITE ? DECIDE_WRITE : DECIDE_READ;
}

/* What lies in a layer, where no mount is known. */
static __always_inline bool judge_below(struct scratch *s, struct caller *c, u64 dentry, u64 inode, u32 decide)
{
	if (!is_active(c, names_of(decide), decide))
		return false;
	return judge_dentry(s, c, dentry, 0, inode, decide, OPERATION_OPEN);
}

static __always_inline bool judge_in_layer(struct scratch *s, struct caller *c, u64 dentry, u64 inode, u32 decide)
{
	return judge_below(s, c, dentry, inode, decide) || judge_below(s, c, dentry, inode, DECIDE_MAP) ||
	       (decide == DECIDE_LOAD && judge_below(s, c, dentry, inode, DECIDE_EXEC));
}

/* Until 6.8 the path is the overlay's, and only the inode the layer's, by whose cached names (hard links) it is judged, by
 * all of them: which one leads here nobody says. Without any there is nothing to judge by, and it passes, as what is lost does. */
static __always_inline bool judge_aliases(struct scratch *s, struct caller *c, u64 inode, u32 decide)
{
	struct hlist_node *alias = BPF_CORE_READ((struct inode *)inode, i_dentry.first);

	for (u32 i = 0; i < ALIASES && alias; i++) {
		u64 dentry = (u64)alias - bpf_core_field_offset(struct dentry, d_u.d_alias);

		if (judge_in_layer(s, c, dentry, inode, decide))
			return true;
		alias = BPF_CORE_READ(alias, next);
	}
	if (!alias)
		return false;
	count_failure(FAILURE_ALIASES);
	return true;
}

/* The second open of a file in an overlay, that of the layer's own. Where the overlay came after the workload, who made it
 * is free in what it calls the file, which may be protected where it lies: whoever may not run or map it there may
 * not open it here either, since no later hook sees more than the overlay's name. */
static __noinline int judge_layer(struct file *file)
{
	u32 decide = opened_for(file);
	u64 over = (u64)BPF_CORE_READ(opened_path(file), dentry), inode = (u64)file->f_inode;
	u64 dentry = (u64)file->f_path.dentry;
	struct root_key key = { (u64)PEEK(dentry, over, d_sb) };
	struct scratch *s;
	struct caller c;
	bool denied;

	if (!find_caller(&c))
		return 0;
	key.home = c.subject->home;
	if (bpf_map_lookup_elem(&roots, &key))
		return 0;
	s = take_scratch();
	if (!s)
		return -EACCES;
	if (bpf_core_field_exists(((struct dentry *)0)->d_u.d_alias) && (u64)PEEK(dentry, dentry, d_inode) != inode)
		denied = judge_aliases(s, &c, inode, decide);
	else
		denied = judge_in_layer(s, &c, dentry, inode, decide);
	give_scratch(s);
	ANSWER(denied);
}

/* What a workload mounts anew was not there at the start, even if its super block lies where such a one did: the overlays of
 * containers that have ended are the node's. */
SEC("lsm/sb_alloc_security")
int BPF_PROG(sb_alloc_security, struct super_block *sb)
{
	struct caller c = {};
	struct root_key key = { (u64)sb };

	if (!find_caller(&c))
		return 0;
	key.home = c.subject->home;
	bpf_map_delete_elem(&roots, &key);
	return 0;
}

SEC("lsm/file_open")
int BPF_PROG(file_open, struct file *file)
{
	struct caller c;
	int answer;

	if (file->f_mode & FMODE_WRITE) {
		answer = protects_file(file);
		if (answer)
			return answer;
	}
	if (!find_caller(&c))
		return 0;
	if (file->f_mode & FMODE_LAYER)
		return judge_layer(file);
	if (is_special(&c, file)) {
		answer = judge_special(file);
		if (answer)
			return answer;
	}
	return judge_file(&c, file, opened_for(file), OPERATION_OPEN);
}

/* A descriptor that another process sends. */
SEC("lsm/file_receive")
int BPF_PROG(file_receive, struct file *file)
{
	struct caller c = {};

	if (!find_caller(&c))
		return 0;
	if (is_special(&c, file) && judge_special(file))
		ANSWER(true);
	ANSWER(judge_file(&c, file, file->f_mode & FMODE_WRITE ? DECIDE_WRITE : DECIDE_READ, OPERATION_RECEIVE));
}

/* A change to what is, or will be, at dentry in the mount of path. */
static __always_inline bool judge_change(struct path *path, struct dentry *dentry, u32 operation)
{
	struct caller c = {};
	struct scratch *s;
	u64 inode;
	bool denied;

	if (!find_caller(&c) || !is_active(&c, DOMAIN_FILE, DECIDE_WRITE))
		return false;
	s = take_scratch();
	if (!s)
		return true;
	inode = (u64)BPF_CORE_READ(dentry, d_inode);
	if (!inode) /* not there yet: as if owned by whoever owns the directory */
		inode = (u64)BPF_CORE_READ(dentry, d_parent, d_inode);
	denied = judge_dentry(s, &c, (u64)dentry, (u64)real_mount(BPF_CORE_READ(path, mnt)), inode, DECIDE_WRITE,
			      operation);
	give_scratch(s);
	return denied;
}

#define CHANGE_IN(hook, operation, ...) \
	SEC("lsm/" #hook) \
	int BPF_PROG(hook, struct path *dir, struct dentry *dentry, ##__VA_ARGS__) \
	{ \
		ANSWER(judge_change(dir, dentry, operation)); \
	}

#define REMOVAL_IN(hook, operation) \
	SEC("lsm/" #hook) \
	int BPF_PROG(hook, struct path *dir, struct dentry *dentry) \
	{ \
		ANSWER(protects_pin(dir, dentry, operation) || judge_change(dir, dentry, operation)); \
	}

REMOVAL_IN(path_unlink, OPERATION_UNLINK)
REMOVAL_IN(path_rmdir, OPERATION_RMDIR)
CHANGE_IN(path_mkdir, OPERATION_MKDIR, unsigned short mode)
CHANGE_IN(path_symlink, OPERATION_SYMLINK, const char *target)

SEC("lsm/path_mknod")
int BPF_PROG(path_mknod, struct path *dir, struct dentry *dentry, unsigned short mode, unsigned int dev)
{
	ANSWER(makes_device(dir, dentry, mode, dev) || judge_change(dir, dentry, OPERATION_CREATE));
}

#define CHANGE_OF(hook, operation, ...) \
	SEC("lsm/" #hook) \
	int BPF_PROG(hook, struct path *path, ##__VA_ARGS__) \
	{ \
		ANSWER(judge_change(path, BPF_CORE_READ(path, dentry), operation)); \
	}

CHANGE_OF(path_truncate, OPERATION_TRUNCATE)
CHANGE_OF(path_chmod, OPERATION_CHMOD, unsigned short mode)
CHANGE_OF(path_chown, OPERATION_CHOWN, u64 uid, u64 gid)

/* 6.2; until then an open file's truncation comes to path_truncate */
SEC("lsm/file_truncate")
int BPF_PROG(file_truncate, struct file *file)
{
	struct caller c = {};

	if (!find_caller(&c))
		return 0;
	ANSWER(judge_file(&c, file, DECIDE_WRITE, OPERATION_TRUNCATE));
}

/* What has a dentry only. */
static __always_inline bool judge_attribute(struct dentry *dentry, u32 operation)
{
	struct caller c = {};
	struct scratch *s;
	bool denied;

	if (!find_caller(&c) || !is_active(&c, DOMAIN_FILE, DECIDE_WRITE))
		return false;
	s = take_scratch();
	if (!s)
		return true;
	denied = judge_dentry(s, &c, (u64)dentry, 0, (u64)BPF_CORE_READ(dentry, d_inode), DECIDE_WRITE, operation);
	give_scratch(s);
	return denied;
}

/* Owner, mode and size have hooks that know the mount; this is for the times (touch). */
static __always_inline bool judge_setattr(struct dentry *dentry, struct iattr *attr)
{
	u32 valid = BPF_CORE_READ(attr, ia_valid);

	/* ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_SIZE | ATTR_OPEN */
	if (valid & (0x0f | 1 << 15) || !(valid & ATTR_TIMES))
		return false;
	return judge_attribute(dentry, OPERATION_SETATTR);
}

/* The hook's first argument, the idmap, came in 6.9. */
SEC("lsm/inode_setattr")
int inode_setattr(u64 *ctx)
{
	if (setattr_has_idmap)
		ANSWER(judge_setattr((void *)ctx[1], (void *)ctx[2]));
	ANSWER(judge_setattr((void *)ctx[0], (void *)ctx[1]));
}

SEC("lsm/inode_setxattr")
int BPF_PROG(inode_setxattr, void *idmap, struct dentry *dentry, const char *name)
{
	ANSWER(judge_attribute(dentry, OPERATION_SETXATTR));
}

SEC("lsm/inode_removexattr")
int BPF_PROG(inode_removexattr, void *idmap, struct dentry *dentry, const char *name)
{
	ANSWER(judge_attribute(dentry, OPERATION_SETXATTR));
}

/* 6.2; until then these come to inode_setxattr */
SEC("lsm/inode_set_acl")
int BPF_PROG(inode_set_acl, void *idmap, struct dentry *dentry)
{
	ANSWER(judge_attribute(dentry, OPERATION_SETXATTR));
}

SEC("lsm/inode_remove_acl")
int BPF_PROG(inode_remove_acl, void *idmap, struct dentry *dentry)
{
	ANSWER(judge_attribute(dentry, OPERATION_SETXATTR));
}

/* btrfs makes, removes, copies and reads whole subvolumes, and asks nobody. */
static __always_inline bool is_about_subvolumes(u32 command)
{
	u32 number = command & 0xff;

	return (command >> 8 & 0xff) == BTRFS_IOCTL_MAGIC &&
	       (number == BTRFS_SNAP_CREATE || number == BTRFS_SNAP_CREATE_V2 || number == BTRFS_SUBVOL_CREATE ||
		number == BTRFS_SUBVOL_CREATE_V2 || number == BTRFS_SNAP_DESTROY || number == BTRFS_SNAP_DESTROY_V2 ||
		number == BTRFS_TREE_SEARCH || number == BTRFS_SEND);
}

/* Which subvolume, only user memory says, which can change: it could be any, so where some name has a verdict it is denied.
 * The node's own processes may, since snapshots are what it makes its containers of. */
static __noinline bool judge_subvolume(struct caller *c)
{
	struct settings *set = get_settings();
	struct scratch *s;

	if (!((HEADER_OF(c->tables, active, DOMAIN_FILE) | HEADER_OF(c->tables, active, DOMAIN_PROGRAM)) & ANY_DENIES) ||
	    (set && set->host && c->id == set->host))
		return false;
	s = take_scratch();
	if (!s)
		return true;
	set_question(s, c, DOMAIN_FILE, DECIDE_WRITE, OPERATION_LINK);
	s->off = NAME_MAX_BYTES;
	refuse(s, c->subject, c->workload, 0, ACTION_BLOCK);
	give_scratch(s);
	return true;
}

/* Flags of a file (immutable, append-only, ...), which also an open for reading allows to change. */
static __always_inline bool judge_ioctl(struct file *file, u32 command)
{
	struct caller c = {};

	if (is_about_subvolumes(command))
		return find_caller(&c) && judge_subvolume(&c);
	if (command != FS_IOC_SETFLAGS && command != FS_IOC32_SETFLAGS && command != FS_IOC_FSSETXATTR &&
	    command != FS_IOC_SETVERSION && command != FS_IOC_ENABLE_VERITY)
		return false;
	return find_caller(&c) && judge_file(&c, file, DECIDE_WRITE, OPERATION_SETATTR);
}

SEC("lsm/file_ioctl")
int BPF_PROG(file_ioctl, struct file *file, unsigned int command)
{
	ANSWER(judge_ioctl(file, command));
}

/* 6.8; until then 32-bit calls come to file_ioctl */
SEC("lsm/file_ioctl_compat")
int BPF_PROG(file_ioctl_compat, struct file *file, unsigned int command)
{
	ANSWER(judge_ioctl(file, command));
}

/* 6.17: the system call file_setattr */
SEC("lsm/inode_file_setattr")
int BPF_PROG(inode_file_setattr, struct dentry *dentry)
{
	ANSWER(judge_attribute(dentry, OPERATION_SETATTR));
}

/* A second name for an object, or another one: both are judged, and the old one also as a program that
 * will be run and as a directory that protected names lie under. */
static __noinline bool judge_names(struct scratch *s, struct caller *c, struct dentry *old, u64 old_mount,
				   u32 operation)
{
	u64 inode = (u64)BPF_CORE_READ(old, d_inode);
	bool directory = S_ISDIR(BPF_CORE_READ((struct inode *)inode, i_mode));

	if (is_active(c, DOMAIN_FILE, DECIDE_WRITE) &&
	    judge_dentry(s, c, (u64)old, old_mount, inode, DECIDE_WRITE, operation))
		return true;
	if (directory)
		return is_active(c, DOMAIN_FILE, DECIDE_MOVE) &&
		       judge_dentry(s, c, (u64)old, old_mount, inode, DECIDE_MOVE, operation);
	return is_active(c, DOMAIN_PROGRAM, DECIDE_MAP) &&
	       judge_dentry(s, c, (u64)old, old_mount, inode, DECIDE_MAP, operation);
}

SEC("lsm/path_link")
int BPF_PROG(path_link, struct dentry *old, struct path *dir, struct dentry *new)
{
	struct caller c = {};
	struct scratch *s;
	u64 mount;
	bool denied;

	if (!find_caller(&c))
		return 0;
	s = take_scratch();
	if (!s)
		ANSWER(true);
	/* a link never leaves its mount */
	mount = (u64)real_mount(BPF_CORE_READ(dir, mnt));
	denied = judge_names(s, &c, old, mount, OPERATION_LINK) ||
		 (is_active(&c, DOMAIN_FILE, DECIDE_WRITE) &&
		  judge_dentry(s, &c, (u64)new, mount, (u64)BPF_CORE_READ(new, d_parent, d_inode), DECIDE_WRITE,
			       OPERATION_LINK));
	give_scratch(s);
	ANSWER(denied);
}

static __always_inline bool judge_rename(struct path *old_dir, struct dentry *old, struct path *new_dir,
					 struct dentry *new)
{
	struct caller c = {};
	struct scratch *s;
	u64 mount, parent, replaced;
	bool denied;

	if (!find_caller(&c))
		return false;
	s = take_scratch();
	if (!s)
		return true;
	mount = (u64)real_mount(BPF_CORE_READ(old_dir, mnt));
	denied = judge_names(s, &c, old, mount, OPERATION_RENAME);
	if (!denied) {
		/* what is there already is replaced, or goes the other way (RENAME_EXCHANGE) */
		replaced = (u64)BPF_CORE_READ(new, d_inode);
		mount = (u64)real_mount(BPF_CORE_READ(new_dir, mnt));
		parent = (u64)BPF_CORE_READ(new, d_parent, d_inode);
		if (replaced)
			denied = judge_names(s, &c, new, mount, OPERATION_RENAME);
		else
			denied = (is_active(&c, DOMAIN_FILE, DECIDE_WRITE) &&
				  judge_dentry(s, &c, (u64)new, mount, parent, DECIDE_WRITE, OPERATION_RENAME)) ||
				 /* a directory brings what it holds, under names that may be protected */
				 (S_ISDIR(BPF_CORE_READ(old, d_inode, i_mode)) && is_active(&c, DOMAIN_FILE, DECIDE_MOVE) &&
				  judge_dentry(s, &c, (u64)new, mount, parent, DECIDE_MOVE, OPERATION_RENAME));
	}
	give_scratch(s);
	return denied;
}

SEC("lsm/path_rename")
int BPF_PROG(path_rename, struct path *old_dir, struct dentry *old, struct path *new_dir, struct dentry *new)
{
	ANSWER(protects_pin(old_dir, old, OPERATION_RENAME) || protects_pin(new_dir, new, OPERATION_RENAME) ||
	       judge_rename(old_dir, old, new_dir, new));
}

#endif
