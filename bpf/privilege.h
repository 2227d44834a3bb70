/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Ways out of a workload, or into the kernel (enum escape): what ordinary programs hardly do and an intruder does.
 * A question is one byte, so the tables answer at once; what it is done to goes into the event only. Each hook first
 * asks whether any rule of the workload is about it, which is one load where there is none.
 *
 * What no hook sees: mount_setattr, setns and unshare of anything but user namespaces, mounts that a detached tree
 * (open_tree, fsmount) holds until it is attached.
 */
#ifndef BELAY_PRIVILEGE_H
#define BELAY_PRIVILEGE_H

#include "protect.h"

static __always_inline bool is_escape_judged(struct caller *c, u32 escape)
{
	return HEADER_OF(c->tables, active, DOMAIN_ESCAPE) & (1u << escape);
}

/* All of a question but what it is about, for the event. NULL = no question; then refused says whether for want of a
 * buffer, which denies. */
static __always_inline struct scratch *begin_escape(struct caller *c, u32 escape, bool *refused)
{
	struct scratch *s;

	*refused = false;
	if (!is_escape_judged(c, escape))
		return NULL;
	s = take_scratch();
	if (!s) {
		*refused = true;
		return NULL;
	}
	set_question(s, c, DOMAIN_ESCAPE, DECIDE_OTHER, OPERATION_MOUNT + escape);
	set_classes(s, c->subject, false);
	s->escape = escape;
	s->off = NAME_MAX_BYTES;
	return s;
}

static __always_inline bool end_escape(struct scratch *s, struct caller *c)
{
	bool denied;

	s->flags = WALK_DONE; /* a name that could not be made is no reason to deny here */
	denied = judge(s, c->subject, c->workload);
	give_scratch(s);
	return denied;
}

/* What the event says: a string of the kernel's. */
static __always_inline void put_text(struct scratch *s, const char *text)
{
	long length = bpf_probe_read_kernel_str(s->name, 256, text);

	if (length <= 1)
		return;
	length = (length - 1) & 255;
	s->off = NAME_MAX_BYTES - length;
	bpf_probe_read_kernel(&s->name[s->off & (NAME_MAX_BYTES - 1)], length, text);
}

/* escape: enum escape; about: statements that put into s what it is done to. True = denied. */
#define JUDGE_ESCAPE(caller, escape, about) ({ \
	bool denied_; \
	struct scratch *s = begin_escape(caller, escape, &denied_); \
	if (s) { \
		about; \
		denied_ = end_escape(s, caller); \
	} \
	denied_; })

#define ESCAPE_HOOK(hook, escape, about, ...) \
	SEC("lsm/" #hook) \
	int BPF_PROG(hook, ##__VA_ARGS__) \
	{ \
		struct caller c = {}; \
		if (!find_caller(&c)) \
			return 0; \
		ANSWER(JUDGE_ESCAPE(&c, escape, about)); \
	}

ESCAPE_HOOK(sb_mount, ESCAPE_MOUNT, name_path(s, path), const char *device, struct path *path)
ESCAPE_HOOK(move_mount, ESCAPE_MOUNT, name_path(s, to), struct path *from, struct path *to)
/* the new mount calls: making a file system, and reconfiguring one */
ESCAPE_HOOK(sb_kern_mount, ESCAPE_MOUNT, put_text(s, BPF_CORE_READ(sb, s_type, name)), struct super_block *sb)
ESCAPE_HOOK(sb_remount, ESCAPE_MOUNT, put_text(s, BPF_CORE_READ(sb, s_type, name)), struct super_block *sb)
ESCAPE_HOOK(sb_pivotroot, ESCAPE_PIVOT_ROOT, name_path(s, to), struct path *from, struct path *to)
ESCAPE_HOOK(path_chroot, ESCAPE_CHROOT, name_path(s, path), struct path *path)
/* since 6.1 */
ESCAPE_HOOK(userns_create, ESCAPE_USER_NAMESPACE, , const void *cred)
ESCAPE_HOOK(perf_event_open, ESCAPE_PERF_EVENT, )
ESCAPE_HOOK(kernel_module_request, ESCAPE_KERNEL_MODULE, put_text(s, name), char *name)

SEC("lsm/bpf")
int BPF_PROG(bpf, int command)
{
	struct caller c = {};
	struct subject *who;

	/* by a link that is had by its number, or by its pin, which no hook sees, a program is detached or replaced, and by the
	 * number an iterator read as if by the agent */
	if (command == BPF_LINK_GET_FD_BY_ID || command == BPF_LINK_DETACH || command == BPF_LINK_UPDATE) {
		who = find_stranger(get_settings());
		if (who)
			ANSWER(PROTECT(who, OPERATION_BPF, ));
	}
	if (!find_caller(&c))
		return 0;
	ANSWER(JUDGE_ESCAPE(&c, ESCAPE_BPF, s->capability = command));
}

SEC("lsm/sb_umount")
int BPF_PROG(sb_umount, struct vfsmount *mnt)
{
	struct caller c = {};

	if (protects_mount(mnt))
		ANSWER(true);
	if (!find_caller(&c))
		return 0;
	ANSWER(JUDGE_ESCAPE(&c, ESCAPE_UMOUNT,
			    name_object(s, (u64)BPF_CORE_READ(mnt, mnt_root), (u64)real_mount(mnt))));
}

/* The program that another task runs, or what it is called. */
static __always_inline void put_program(struct scratch *s, struct task_struct *task)
{
	struct subject *who = bpf_task_storage_get(&tasks, task, 0, 0);
	u32 length = who ? who->program_length & 255 : 0;

	if (length) {
		s->off = NAME_MAX_BYTES - length;
		bpf_probe_read_kernel(&s->name[s->off & (NAME_MAX_BYTES - 1)], length, who->program);
	} else {
		put_text(s, task->comm);
	}
}

/* Reading another's /proc is no ptrace; the presets protectProc and protectEnv are for that. */
SEC("lsm/ptrace_access_check")
int BPF_PROG(ptrace_access_check, struct task_struct *child, unsigned int mode)
{
	struct caller c = {};

	if (protects_task(child, OPERATION_PTRACE))
		ANSWER(true);
	if (!(mode & PTRACE_MODE_ATTACH) || !find_caller(&c))
		return 0;
	ANSWER(JUDGE_ESCAPE(&c, ESCAPE_PTRACE, put_program(s, child)));
}

ESCAPE_HOOK(ptrace_traceme, ESCAPE_PTRACE, put_program(s, parent), struct task_struct *parent)

#define IS_ID(type, id, value) \
	(bpf_core_enum_value_exists(enum type, value) && (id) == bpf_core_enum_value(enum type, value))

SEC("lsm/kernel_read_file")
int BPF_PROG(kernel_read_file, struct file *file, int id)
{
	struct caller c = {};

	if (!find_caller(&c))
		return 0;
	if (IS_ID(kernel_read_file_id, id, READING_MODULE) ||
	    IS_ID(kernel_read_file_id___compressed, id, READING_MODULE_COMPRESSED))
		ANSWER(JUDGE_ESCAPE(&c, ESCAPE_KERNEL_MODULE, name_path(s, &file->f_path)));
	if (IS_ID(kernel_read_file_id, id, READING_KEXEC_IMAGE) ||
	    IS_ID(kernel_read_file_id, id, READING_KEXEC_INITRAMFS))
		ANSWER(JUDGE_ESCAPE(&c, ESCAPE_KEXEC, name_path(s, &file->f_path)));
	return 0;
}

SEC("lsm/kernel_load_data")
int BPF_PROG(kernel_load_data, int id)
{
	struct caller c = {};

	if (!find_caller(&c))
		return 0;
	if (IS_ID(kernel_load_data_id, id, LOADING_MODULE))
		ANSWER(JUDGE_ESCAPE(&c, ESCAPE_KERNEL_MODULE, ));
	if (IS_ID(kernel_load_data_id, id, LOADING_KEXEC_IMAGE))
		ANSWER(JUDGE_ESCAPE(&c, ESCAPE_KEXEC, ));
	return 0;
}

/* --- files of the kernel's own, wherever they are mounted --- */

#define CALLED_MAX 16

/* Both sides are zero to the end, so two words tell. */
#define IS_CALLED(name, literal) ({ \
	static const char want_[CALLED_MAX] __attribute__((aligned(8))) = literal; \
	((const u64 *)(name))[0] == ((const u64 *)want_)[0] && ((const u64 *)(name))[1] == ((const u64 *)want_)[1]; })

/* Those by which the kernel is told what to run as root on the node, is stopped, or is changed; and its memory, which
 * can only be read. */
static __always_inline bool is_kernel_interface(struct dentry *dentry, u64 magic, bool write)
{
	u64 name[CALLED_MAX / 8] = {};

	switch (magic) {
	case BINFMTFS_MAGIC:
	case DEBUGFS_MAGIC:
	case TRACEFS_MAGIC:
	case SECURITYFS_MAGIC:
	case EFIVARFS_MAGIC:
		return write;
	case PROC_SUPER_MAGIC:
	case SYSFS_MAGIC:
	case CGROUP_SUPER_MAGIC:
		break;
	default:
		return false;
	}
	if (BPF_CORE_READ(dentry, d_name.len) >= CALLED_MAX)
		return false;
	bpf_probe_read_kernel_str(name, CALLED_MAX, BPF_CORE_READ(dentry, d_name.name));
	/* the helper leaves what is behind the end alone, and so it stays zero */
	if (!write)
		return magic == PROC_SUPER_MAGIC && IS_CALLED(name, "kcore");
	if (magic == PROC_SUPER_MAGIC)
		return IS_CALLED(name, "core_pattern") || IS_CALLED(name, "modprobe") || IS_CALLED(name, "hotplug") ||
		       IS_CALLED(name, "poweroff_cmd") || IS_CALLED(name, "sysrq") || IS_CALLED(name, "sysrq-trigger");
	if (magic == SYSFS_MAGIC)
		return IS_CALLED(name, "uevent_helper");
	return IS_CALLED(name, "release_agent") || IS_CALLED(name, "devices.allow");
}

/* /proc/PID/mem writes also where the process itself may not: to its text. True = denied. */
static __always_inline bool writes_memory(struct caller *c, struct file *file)
{
	u64 name[CALLED_MAX / 8] = {};
	struct inode *inode = file->f_inode;
	struct dentry *dentry = file->f_path.dentry;

	if (!(file->f_mode & FMODE_WRITE) || PEEK(super_block, PEEK(inode, inode, i_sb), s_magic) != PROC_SUPER_MAGIC ||
	    PEEK(dentry, dentry, d_name.len) != 3)
		return false;
	bpf_probe_read_kernel_str(name, CALLED_MAX, BPF_CORE_READ(dentry, d_name.name));
	return IS_CALLED(name, "mem") && judge_preset(c, PRESET_ANONYMOUS_MAP, OPERATION_OPEN);
}

/* Disks, by blocks or by SCSI commands, and the memory of the machine: /dev/mem, kmem and port. */
static __always_inline bool is_raw_device(struct inode *inode, u32 mode)
{
	u32 device, minor;

	if ((mode & S_IFMT) == S_IFBLK)
		return true;
	if ((mode & S_IFMT) != S_IFCHR)
		return false;
	device = BPF_CORE_READ(inode, i_rdev);
	minor = device & 0xfffff;
	return device >> 20 == SCSI_GENERIC_MAJOR || (device >> 20 == MEM_MAJOR && (minor == 1 || minor == 2 || minor == 4));
}

#define OPENS_KERNEL (1u << ESCAPE_KERNEL_INTERFACE | 1u << ESCAPE_DEVICE_NODE)

/* An open file, or one that is received, by which the kernel or a device is reached. True = denied. */
static __always_inline bool opens_kernel(struct caller *c, struct file *file)
{
	struct inode *inode = file->f_inode;
	u32 mode;

	if (!(HEADER_OF(c->tables, active, DOMAIN_ESCAPE) & OPENS_KERNEL))
		return false;
	mode = PEEK(inode, inode, i_mode);
	if (is_raw_device(inode, mode))
		return JUDGE_ESCAPE(c, ESCAPE_DEVICE_NODE, name_path(s, &file->f_path));
	if (!S_ISREG(mode) || !is_kernel_interface(file->f_path.dentry, PEEK(super_block, PEEK(inode, inode, i_sb), s_magic),
						   file->f_mode & FMODE_WRITE))
		return false;
	return JUDGE_ESCAPE(c, ESCAPE_KERNEL_INTERFACE, name_path(s, &file->f_path));
}

/* What is asked of an open file, or one that is received, besides its name. 0 or -EACCES. */
static __noinline int judge_special(struct file *file)
{
	struct caller c;

	ANSWER(find_caller(&c) && (opens_kernel(&c, file) || writes_memory(&c, file)));
}

/* Whether there is anything to ask. */
static __always_inline bool is_special(struct caller *c, struct file *file)
{
	return file->f_mode & FMODE_WRITE || HEADER_OF(c->tables, active, DOMAIN_ESCAPE) & OPENS_KERNEL;
}

/* mknod of a device; device 0 is none (what overlays hide files with). True = denied. */
static __always_inline bool makes_device(struct path *dir, struct dentry *dentry, u32 mode, u32 device)
{
	struct caller c = {};

	mode &= S_IFMT;
	if ((mode != S_IFBLK && mode != S_IFCHR) || !device || !find_caller(&c))
		return false;
	return JUDGE_ESCAPE(&c, ESCAPE_DEVICE_NODE,
			    name_object(s, (u64)dentry, (u64)real_mount(BPF_CORE_READ(dir, mnt))));
}

#endif
