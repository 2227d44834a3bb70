// SPDX-License-Identifier: Apache-2.0
// Other ways to change a file, or a directory, that must not be changed.
#include "evade.h"
#include <dirent.h>
#include <sys/fanotify.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <utime.h>

#define SQE(op, ...) ((struct io_uring_sqe){ .opcode = IORING_OP_##op, __VA_ARGS__ })

static const char *closed(const char *name) { return format("%s/%s", here.closed, name); }

static int readable(void) { return TRY(open(here.locked, O_RDONLY)); }

static int overwrite(int fd)
{
	if (fd < 0)
		return -1;
	TRY(pwrite(fd, "X", 1, 0));
	return 0;
}

static int plain(void) { return overwrite(TRY(open(here.locked, O_WRONLY))); }
static int read_and_write(void) { return overwrite(TRY(open(here.locked, O_RDWR))); }
static int append(void) { TRY(write(TRY(open(here.locked, O_WRONLY | O_APPEND)), "X", 1)); return 0; }
static int open_truncating(void) { TRY(open(here.locked, O_RDONLY | O_TRUNC)); return 0; }
static int create(void) { TRY(creat(here.locked, 0666)); return 0; }
static int truncate_path(void) { TRY(truncate(here.locked, 1)); return 0; }
static int truncate_descriptor(void) { TRY(ftruncate(TRY(open(here.locked, O_RDWR)), 1)); return 0; }
static int truncate_uring(void) { TRY(uring(0, 0, SQE(NOP, .opcode = 55 /* FTRUNCATE */, .fd = TRY(open(here.locked, O_RDWR)), .off = 1))); return 0; }
static int uring_write_open(void) { return overwrite(TRY(uring(0, 0, SQE(OPENAT, .fd = AT_FDCWD, .addr = (long)here.locked, .open_flags = O_RDWR)))); }
static int uring_write_polled(void) { return overwrite(TRY(uring(IORING_SETUP_SQPOLL, IOSQE_ASYNC, SQE(OPENAT, .fd = AT_FDCWD, .addr = (long)here.locked, .open_flags = O_RDWR)))); }

static int map_shared(void)
{
	char *p = TRY(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, TRY(open(here.locked, O_RDWR)), 0));

	*p = 'X';
	return msync(p, 4096, MS_SYNC);
}

static int reopened(void) { return overwrite(TRY(open(format("/proc/self/fd/%d", readable()), O_RDWR))); }

/* A private mapping, written through /proc/self/mem: must stay private. */
static int own_memory(void)
{
	char *p = TRY(mmap(NULL, 4096, PROT_READ, MAP_SHARED, readable(), 0));

	TRY(pwrite(TRY(open("/proc/self/mem", O_RDWR)), "X", 1, (long)p));
	return 0;
}

static int spliced(void)
{
	int in[2], fd = TRY(open(here.locked, O_WRONLY));

	TRY(pipe(in));
	TRY(write(in[1], "X", 1));
	TRY(splice(in[0], NULL, fd, NULL, 1, 0));
	return 0;
}

static int copied_range(void)
{
	int from = TRY(open("/proc/self/exe", O_RDONLY)), to = TRY(open(here.locked, O_WRONLY));

	TRY(copy_file("/proc/self/exe", in_open("source")));
	from = TRY(open(in_open("source"), O_RDONLY));
	TRY(copy_file_range(from, NULL, to, NULL, 16, 0));
	return 0;
}

static int allocate(void) { TRY(fallocate(TRY(open(here.locked, O_WRONLY)), 3 /* PUNCH_HOLE | KEEP_SIZE */, 0, 8)); return 0; }
static int change_mode(void) { TRY(chmod(here.locked, 0777)); return 0; }
static int change_mode_descriptor(void) { TRY(fchmod(readable(), 0777)); return 0; }
static int change_mode_2(void) { TRY(syscall(452 /* fchmodat2 */, AT_FDCWD, here.locked, 0777, AT_SYMLINK_NOFOLLOW)); return 0; }
static int change_mode_link(void) { TRY(chmod(format("/proc/self/fd/%d", TRY(open(here.locked, O_PATH))), 0777)); return 0; }
static int change_owner(void) { TRY(chown(here.locked, 0, -1)); return 0; }
static int change_owner_link(void) { TRY(lchown(here.locked, 0, -1)); return 0; }
static int change_owner_descriptor(void) { TRY(fchown(readable(), 0, -1)); return 0; }
static int change_owner_path(void) { TRY(fchownat(TRY(open(here.locked, O_PATH)), "", 0, -1, AT_EMPTY_PATH)); return 0; }
static int change_times(void) { TRY(utimensat(AT_FDCWD, here.locked, NULL, 0)); return 0; }
static int change_times_descriptor(void) { TRY(futimens(readable(), NULL)); return 0; }
static int change_times_old(void) { TRY(utime(here.locked, NULL)); return 0; }
static int change_times_set(void) { struct timeval t[2] = { { 5, 0 }, { 5, 0 } }; TRY(utimes(here.locked, t)); return 0; }

static int attribute(const char *name, const char *value, size_t length)
{
	TRY(setxattr(here.locked, name, value, length, 0));
	return 0;
}

static int attribute_user(void) { return attribute("user.evade", "1", 1); }
static int attribute_trusted(void) { return attribute("trusted.evade", "1", 1); }
static int attribute_security(void) { return attribute("security.evade", "1", 1); }
static int attribute_capability(void) { return attribute("security.capability", "\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20); }
static int attribute_descriptor(void) { TRY(fsetxattr(readable(), "trusted.evade", "1", 1, 0)); return 0; }
static int attribute_uring(void) { TRY(uring(0, 0, SQE(SETXATTR, .addr = (long)"trusted.evade", .off = (long)"1", .addr3 = (long)here.locked, .len = 1))); return 0; }
static int attribute_uring_descriptor(void) { TRY(uring(0, 0, SQE(FSETXATTR, .fd = readable(), .addr = (long)"trusted.evade", .off = (long)"1", .len = 1))); return 0; }

static const char acl[] = "\2\0\0\0" "\1\0\6\0\377\377\377\377" "\2\0\7\0\350\3\0\0" "\4\0\6\0\377\377\377\377" "\20\0\7\0\377\377\377\377" "\40\0\6\0\377\377\377\377";
static int access_list(void) { return attribute("system.posix_acl_access", acl, sizeof acl - 1); }

static int file_flags(void)
{
	unsigned flags = 0;
	int fd = readable();

	if (fd < 0)
		return -1;
	TRY(ioctl(fd, 0x80086601 /* FS_IOC_GETFLAGS */, &flags));
	flags |= 0x80; /* FS_NOATIME_FL */
	TRY(ioctl(fd, 0x40086602 /* FS_IOC_SETFLAGS */, &flags));
	return 0;
}

struct extended { unsigned flags, extent, next, project, cow; char pad[8]; };

static int file_flags_extended(void)
{
	struct extended e = {};
	int fd = readable();

	if (fd < 0)
		return -1;
	TRY(ioctl(fd, 0x801c581f /* FS_IOC_FSGETXATTR */, &e));
	e.flags |= 0x40; /* FS_XFLAG_NOATIME */
	TRY(ioctl(fd, 0x401c5820 /* FS_IOC_FSSETXATTR */, &e));
	return 0;
}

static int file_attributes(void)
{
	struct { uint64_t flags; unsigned extent, next, project, cow; } a = { .flags = 0x40 };

	TRY(syscall(469 /* file_setattr */, AT_FDCWD, here.locked, &a, sizeof a, 0));
	return 0;
}

static int unlinked(void) { TRY(unlink(here.locked)); return 0; }
static int unlinked_at(void) { TRY(unlinkat(TRY(open(folder_of(here.locked), O_PATH)), name_of(here.locked), 0)); return 0; }
static int unlinked_uring(void) { TRY(uring(0, 0, SQE(UNLINKAT, .fd = AT_FDCWD, .addr = (long)here.locked))); return 0; }
static int moved(void) { TRY(rename(here.locked, in_open("moved"))); return 0; }

static int replaced(void)
{
	TRY(put_file(in_open("mine"), "mine", 0666));
	TRY(rename(in_open("mine"), here.locked));
	return 0;
}

static int replaced_uring(void)
{
	TRY(put_file(in_open("mine"), "mine", 0666));
	TRY(uring(0, IOSQE_ASYNC, SQE(RENAMEAT, .fd = AT_FDCWD, .addr = (long)in_open("mine"), .len = AT_FDCWD, .addr2 = (long)here.locked)));
	return 0;
}

static int exchanged(void)
{
	TRY(put_file(in_open("mine"), "mine", 0666));
	TRY(syscall(SYS_renameat2, AT_FDCWD, in_open("mine"), AT_FDCWD, here.locked, 2));
	return 0;
}

static int whited_out(void) { TRY(syscall(SYS_renameat2, AT_FDCWD, here.locked, AT_FDCWD, in_open("moved"), 4)); return 0; }
static int folder_replaced(void)
{
	mkdir(in_open("mine"), 0777);
	TRY(put_file(format("%s/%s", in_open("mine"), name_of(here.locked)), "mine", 0666));
	TRY(syscall(SYS_renameat2, AT_FDCWD, in_open("mine"), AT_FDCWD, folder_of(here.locked), 2));
	return 0;
}

static int process_accounting(void)
{
	TRY(acct(here.locked));
	if (!fork())
		_exit(0);
	wait(NULL);
	acct(NULL);
	return 0;
}

static int bound_over(void)
{
	TRY(put_file(in_open("mine"), "mine", 0666));
	TRY(mount(in_open("mine"), here.locked, NULL, MS_BIND, NULL));
	return 0;
}

static int bound_over_folder(void)
{
	mkdir(in_open("mine"), 0777);
	TRY(put_file(format("%s/%s", in_open("mine"), name_of(here.locked)), "mine", 0666));
	TRY(mount(in_open("mine"), folder_of(here.locked), NULL, MS_BIND, NULL));
	return 0;
}

static int tree_moved_over(void)
{
	int tree;

	TRY(put_file(in_open("mine"), "mine", 0666));
	tree = TRY(syscall(SYS_open_tree, AT_FDCWD, in_open("mine"), 1 /* OPEN_TREE_CLONE */));
	TRY(syscall(SYS_move_mount, tree, "", AT_FDCWD, here.locked, 4));
	return 0;
}

static int descriptor_received(void)
{
	char byte = 0;
	int fd = TRY(witness_descriptor('w'));

	if (overwrite(fd))
		return -1;
	proof->escaped = pread(fd, &byte, 1, 0) == 1 && byte == 'X';
	return 0;
}

/* --- the directory --- */

static int file_created(void) { TRY(open(closed("new"), O_WRONLY | O_CREAT, 0666)); return 0; }
static int file_created_uring(void) { TRY(uring(0, 0, SQE(OPENAT, .fd = AT_FDCWD, .addr = (long)closed("new"), .open_flags = O_CREAT | O_WRONLY, .len = 0666))); return 0; }
static int folder_created(void) { TRY(mkdir(closed("new"), 0777)); return 0; }
static int folder_created_uring(void) { TRY(uring(0, 0, SQE(MKDIRAT, .fd = AT_FDCWD, .addr = (long)closed("new"), .len = 0777))); return 0; }
static int link_created(void) { TRY(symlink("target", closed("new"))); return 0; }
static int link_created_uring(void) { TRY(uring(0, 0, SQE(SYMLINKAT, .fd = AT_FDCWD, .addr = (long)"target", .addr2 = (long)closed("new")))); return 0; }
static int pipe_created(void) { TRY(mknod(closed("new"), S_IFIFO | 0666, 0)); return 0; }
static int device_created(void) { TRY(mknod(closed("new"), S_IFCHR | 0666, 0x103)); return 0; }
static int hard_linked(void) { TRY(put_file(in_open("mine"), "mine", 0666)); TRY(link(in_open("mine"), closed("new"))); return 0; }
static int renamed_in(void) { TRY(put_file(in_open("mine"), "mine", 0666)); TRY(rename(in_open("mine"), closed("new"))); return 0; }
static int folder_removed(void) { TRY(rmdir(closed("folder"))); return 0; }
static int folder_renamed(void) { TRY(rename(closed("folder"), in_open("moved"))); return 0; }
static int unnamed_linked(void)
{
	int fd = TRY(open(here.closed, O_TMPFILE | O_RDWR, 0666));

	TRY(linkat(AT_FDCWD, format("/proc/self/fd/%d", fd), AT_FDCWD, closed("new"), AT_SYMLINK_FOLLOW));
	return 0;
}

static int unnamed_linked_in(void)
{
	int fd = TRY(open(here.open, O_TMPFILE | O_RDWR, 0666));

	TRY(linkat(AT_FDCWD, format("/proc/self/fd/%d", fd), AT_FDCWD, closed("new"), AT_SYMLINK_FOLLOW));
	return 0;
}

static int socket_bound(void)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = TRY(socket(AF_UNIX, SOCK_STREAM, 0));

	TRY(chdir(here.closed));
	strcpy(name.sun_path, "new");
	TRY(bind(fd, (void *)&name, sizeof name));
	return 0;
}

static int earlier_link_out(void)
{
	/* what is inside, linked out before there was a policy, and written there */
	return put_text(in_open("closed-earlier"), "X") ? failed("open") : 0;
}

#define FILE_CHECK .check = locked_changed
#define FOLDER_CHECK .check = closed_changed
/* In an overlay of its own, whose upper layer is the closed folder, and whose lower one has a file `lower`. */
static const char *by_upper(const char *name)
{
	if (new_mounts(0) || mkdir(in_open("low"), 0777) || mkdir(in_open("work"), 0777) || mkdir(in_open("merged"), 0777) ||
	    put_file(in_open("low/lower"), LOCKED, 0666) ||
	    mount("overlay", in_open("merged"), "overlay", 0,
		  format("lowerdir=%s,upperdir=%s,workdir=%s", in_open("low"), here.closed, in_open("work"))))
		return NULL;
	return format("%s/merged/%s", here.open, name);
}

#define BY_UPPER(name) ({ \
	const char *path_ = by_upper(name); \
	if (!path_) \
		return failed("overlay"); \
	path_; })

static int upper_unlink(void) { TRY(unlink(BY_UPPER("file"))); return 0; }
static int upper_rmdir(void) { TRY(rmdir(BY_UPPER("folder"))); return 0; }
static int upper_create(void) { TRY(creat(BY_UPPER("new"), 0666)); return 0; }
static int upper_mkdir(void) { TRY(mkdir(BY_UPPER("new"), 0777)); return 0; }
static int upper_rename(void) { const char *from = BY_UPPER("file"); TRY(rename(from, in_open("merged/gone"))); return 0; }
static int upper_truncate(void) { TRY(truncate(BY_UPPER("file"), 1)); return 0; }
static int upper_copy_up(void) { TRY(chmod(BY_UPPER("lower"), 0600)); return 0; }
static int upper_copy_up_opened(void) { TRY(open(BY_UPPER("lower"), O_WRONLY)); return 0; }
static int upper_copy_up_read_before(void)
{
	const char *path = BY_UPPER("lower");

	TRY(open(path, O_RDONLY));
	TRY(open(path, O_WRONLY));
	return 0;
}

static int upper_copy_up_truncating(void) { TRY(open(BY_UPPER("lower"), O_RDONLY | O_TRUNC)); return 0; }
static int upper_truncating(void) { TRY(open(BY_UPPER("file"), O_RDONLY | O_TRUNC)); return 0; }
static int upper_copy_up_times(void) { TRY(utimensat(AT_FDCWD, BY_UPPER("lower"), NULL, 0)); return 0; }
static int upper_copy_up_attribute(void) { TRY(setxattr(BY_UPPER("lower"), "user.x", "y", 1, 0)); return 0; }

/* The folder as the overlay itself opens it, on its private mount. */
static int upper_fanotify(void)
{
	struct fanotify_event_metadata event;
	int fan = TRY(fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK, O_RDONLY)), fd;
	DIR *d;

	(void)BY_UPPER("");
	TRY(fanotify_mark(fan, FAN_MARK_ADD, FAN_OPEN | FAN_CLOSE_NOWRITE | FAN_ONDIR, AT_FDCWD, here.closed));
	d = opendir(in_open("merged"));
	if (!d)
		return failed("opendir");
	while (readdir(d))
		;
	closedir(d);
	TRY(read(fan, &event, sizeof event));
	fd = TRY(openat(event.fd, "file", O_RDWR));
	TRY(write(fd, "X", 1));
	return 0;
}

static int upper_whiteout(void) { TRY(unlink(BY_UPPER("lower"))); return 0; }

const struct technique write_techniques[] = {
	{ "open for reading and writing", read_and_write, FILE_CHECK },
	{ "append", append, FILE_CHECK },
	{ "open O_TRUNC for reading", open_truncating, FILE_CHECK },
	{ "creat", create, FILE_CHECK },
	{ "truncate", truncate_path, FILE_CHECK },
	{ "ftruncate", truncate_descriptor, FILE_CHECK },
	{ "io_uring ftruncate", truncate_uring, FILE_CHECK },
	{ "io_uring openat for writing", uring_write_open, FILE_CHECK },
	{ "io_uring openat for writing, SQPOLL, in a worker", uring_write_polled, FILE_CHECK },
	{ "shared mapping", map_shared, FILE_CHECK },
	{ "descriptor opened anew for writing", reopened, FILE_CHECK },
	{ "/proc/self/mem of a shared mapping", own_memory, FILE_CHECK },
	{ "splice into it", spliced, FILE_CHECK },
	{ "copy_file_range into it", copied_range, FILE_CHECK },
	{ "fallocate", allocate, FILE_CHECK },
	{ "chmod", change_mode, FILE_CHECK },
	{ "fchmod", change_mode_descriptor, FILE_CHECK },
	{ "fchmodat2", change_mode_2, FILE_CHECK },
	{ "chmod by /proc/self/fd", change_mode_link, FILE_CHECK },
	{ "chown", change_owner, FILE_CHECK },
	{ "lchown", change_owner_link, FILE_CHECK },
	{ "fchown", change_owner_descriptor, FILE_CHECK },
	{ "fchownat by O_PATH", change_owner_path, FILE_CHECK },
	{ "utimensat", change_times, FILE_CHECK },
	{ "futimens", change_times_descriptor, FILE_CHECK },
	{ "utime", change_times_old, FILE_CHECK },
	{ "utimes", change_times_set, FILE_CHECK },
	{ "setxattr user", attribute_user, FILE_CHECK },
	{ "setxattr trusted", attribute_trusted, FILE_CHECK },
	{ "setxattr security", attribute_security, FILE_CHECK },
	{ "file capabilities", attribute_capability, FILE_CHECK },
	{ "fsetxattr", attribute_descriptor, FILE_CHECK },
	{ "io_uring setxattr", attribute_uring, FILE_CHECK },
	{ "io_uring fsetxattr", attribute_uring_descriptor, FILE_CHECK },
	{ "POSIX ACL", access_list, FILE_CHECK },
	{ "FS_IOC_SETFLAGS", file_flags, FILE_CHECK },
	{ "FS_IOC_FSSETXATTR", file_flags_extended, FILE_CHECK },
	{ "file_setattr", file_attributes, FILE_CHECK },
	{ "unlink", unlinked, FILE_CHECK },
	{ "unlinkat", unlinked_at, FILE_CHECK },
	{ "io_uring unlinkat", unlinked_uring, FILE_CHECK },
	{ "rename away", moved, FILE_CHECK },
	{ "rename over it", replaced, FILE_CHECK },
	{ "io_uring renameat over it", replaced_uring, FILE_CHECK },
	{ "exchange with another", exchanged, FILE_CHECK },
	{ "rename that leaves a whiteout", whited_out, FILE_CHECK },
	{ "exchange of its folder with another", folder_replaced, FILE_CHECK },
	{ "process accounting", process_accounting, FILE_CHECK },
	{ "bind mount over it", bound_over, FILE_CHECK },
	{ "bind mount over its folder", bound_over_folder, FILE_CHECK },
	{ "detached mount moved over it", tree_moved_over, FILE_CHECK },
	{ "descriptor over a socket", descriptor_received },
	{ "new file in a closed folder", file_created, FOLDER_CHECK },
	{ "io_uring new file in a closed folder", file_created_uring, FOLDER_CHECK },
	{ "mkdir in a closed folder", folder_created, FOLDER_CHECK },
	{ "io_uring mkdirat in a closed folder", folder_created_uring, FOLDER_CHECK },
	{ "symlink in a closed folder", link_created, FOLDER_CHECK },
	{ "io_uring symlinkat in a closed folder", link_created_uring, FOLDER_CHECK },
	{ "mkfifo in a closed folder", pipe_created, FOLDER_CHECK },
	{ "device in a closed folder", device_created, FOLDER_CHECK },
	{ "link in a closed folder", hard_linked, FOLDER_CHECK },
	{ "rename into a closed folder", renamed_in, FOLDER_CHECK },
	{ "rmdir in a closed folder", folder_removed, FOLDER_CHECK },
	{ "rename of a folder out of a closed folder", folder_renamed, FOLDER_CHECK },
	{ "O_TMPFILE in a closed folder, linked", unnamed_linked, FOLDER_CHECK },
	{ "O_TMPFILE elsewhere, linked into a closed folder", unnamed_linked_in, FOLDER_CHECK },
	{ "unix socket in a closed folder", socket_bound, FOLDER_CHECK },
	{ "unlink in an overlay over a closed folder", upper_unlink, FOLDER_CHECK },
	{ "unlink of a lower file in an overlay over a closed folder", upper_whiteout, FOLDER_CHECK },
	{ "rmdir in an overlay over a closed folder", upper_rmdir, FOLDER_CHECK },
	{ "new file in an overlay over a closed folder", upper_create, FOLDER_CHECK },
	{ "mkdir in an overlay over a closed folder", upper_mkdir, FOLDER_CHECK },
	{ "rename in an overlay over a closed folder", upper_rename, FOLDER_CHECK },
	{ "truncate in an overlay over a closed folder", upper_truncate, FOLDER_CHECK },
	{ "chmod copied up in an overlay over a closed folder", upper_copy_up, FOLDER_CHECK },
	{ "open copied up in an overlay over a closed folder", upper_copy_up_opened, FOLDER_CHECK },
	{ "open copied up in an overlay over a closed folder, read before", upper_copy_up_read_before, FOLDER_CHECK },
	{ "open O_TRUNC for reading copied up in an overlay over a closed folder", upper_copy_up_truncating, FOLDER_CHECK },
	{ "open O_TRUNC for reading in an overlay over a closed folder", upper_truncating, FOLDER_CHECK },
	{ "utimensat copied up in an overlay over a closed folder", upper_copy_up_times, FOLDER_CHECK },
	{ "setxattr copied up in an overlay over a closed folder", upper_copy_up_attribute, FOLDER_CHECK },
	{ "descriptor from fanotify on an overlay over a closed folder", upper_fanotify, FOLDER_CHECK },
	{ "earlier hard link out of a closed folder", earlier_link_out, FOLDER_CHECK },
	{ "open for writing", plain, FILE_CHECK },
	{ NULL },
};
