// SPDX-License-Identifier: Apache-2.0
// What counts as proof, and small helpers.
#include "evade.h"
#include <stdarg.h>

int failed_as(const char *step, int error)
{
	if (!proof->error) {
		proof->error = error;
		snprintf(proof->step, sizeof proof->step, "%.*s", (int)strcspn(step, "("), step);
	}
	errno = error;
	return -1;
}

int failed(const char *step)
{
	return failed_as(step, errno);
}

const char *format(const char *text, ...)
{
	static char ring[16][2 * PATH_MAX];
	static unsigned next;
	char *to = ring[next++ % 16];
	va_list list;

	va_start(list, text);
	vsnprintf(to, sizeof ring[0], text, list);
	va_end(list);
	return to;
}

const char *folder_of(const char *path)
{
	return format("%.*s", (int)(strrchr(path, '/') - path), path);
}

const char *name_of(const char *path)
{
	return strrchr(path, '/') + 1;
}

const char *in_open(const char *name)
{
	return format("%s/%s", here.open, name);
}

int put_file(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	ssize_t length = strlen(text);

	if (fd < 0)
		return -1;
	if (write(fd, text, length) != length || fchmod(fd, mode)) {
		close(fd);
		return -1;
	}
	return close(fd);
}

int put_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), saved;
	ssize_t length = strlen(text), written;

	if (fd < 0)
		return -1;
	written = write(fd, text, length);
	saved = errno;
	close(fd);
	errno = saved;
	return written == length ? 0 : -1;
}

int copy_file(const char *from, const char *to)
{
	int in = open(from, O_RDONLY | O_CLOEXEC), out;
	char buffer[65536];
	ssize_t n;

	if (in < 0)
		return -1;
	out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	if (out < 0)
		return -1;
	while ((n = read(in, buffer, sizeof buffer)) > 0)
		if (write(out, buffer, n) != n)
			return -1;
	fchmod(out, 0755);
	close(in);
	return close(out);
}

/* --- proof --- */

int prove_bytes(const char *bytes, size_t length)
{
	if (length < strlen(SECRET) || memcmp(bytes, SECRET, strlen(SECRET)))
		return failed_as("other bytes", ENODATA);
	proof->escaped = 1;
	return 0;
}

int prove_read(int fd)
{
	char bytes[256];
	ssize_t n = pread(fd, bytes, sizeof bytes, 0);

	if (n < 0)
		n = read(fd, bytes, sizeof bytes);
	if (n < 0)
		return failed("read");
	return prove_bytes(bytes, n);
}

int read_path(int at, const char *path)
{
	int fd = TRY(openat(at, path, O_RDONLY | O_CLOEXEC));

	return prove_read(fd);
}

/* Times, owner, mode, contents, attributes and the name itself. */
bool locked_changed(void)
{
	struct stat now;
	char bytes[256] = "", list[256];
	int fd = open(here.locked, O_RDONLY | O_CLOEXEC);
	unsigned flags = 0;
	bool changed;

	if (fd < 0)
		return errno == ENOENT || errno == ENXIO; /* a whiteout is a device */
	changed = fstat(fd, &now) || read(fd, bytes, sizeof bytes) != (ssize_t)strlen(LOCKED) || strcmp(bytes, LOCKED) ||
		  now.st_mtime != 1000 || (now.st_mode & 07777) != 0666 || now.st_uid != 1000 ||
		  syscall(SYS_flistxattr, fd, list, sizeof list) > 0 ||
		  (ioctl(fd, 0x80086601 /* FS_IOC_GETFLAGS */, &flags) == 0 && flags & 0x80 /* FS_NOATIME_FL */);
	close(fd);
	return changed;
}

/* A directory that holds `file` and an empty `folder`, and no more. */
bool closed_changed(void)
{
	char path[PATH_MAX + 8], bytes[256] = "", entries[4096];
	struct stat now;
	int fd;
	bool changed;

	snprintf(path, sizeof path, "%s/file", here.closed);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	changed = fd < 0 || read(fd, bytes, sizeof bytes) != (ssize_t)strlen(LOCKED) || strcmp(bytes, LOCKED);
	if (fd >= 0)
		close(fd);
	snprintf(path, sizeof path, "%s/folder", here.closed);
	changed |= lstat(path, &now) != 0;
	fd = open(here.closed, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		int count = 0;
		long n = syscall(SYS_getdents64, fd, entries, sizeof entries);

		for (long i = 0; i < n; i += *(unsigned short *)(entries + i + 16))
			count++;
		changed |= count != 4;
		close(fd);
	}
	return changed;
}

bool token_arrived(void)
{
	char bytes[1 << 16], token[NAME_SIZE + 2];

	snprintf(token, sizeof token, "%s\n", here.name);
	for (int i = 0; i < (proof->error ? 2 : 25); i++) {
		int fd = open(format("%s/got", here.shared), O_RDONLY | O_CLOEXEC);
		ssize_t n;

		if (fd >= 0 && lseek(fd, 1 - (off_t)sizeof bytes, SEEK_END) < 0)
			lseek(fd, 0, SEEK_SET);
		n = fd < 0 ? 0 : read(fd, bytes, sizeof bytes - 1);
		if (fd >= 0)
			close(fd);
		bytes[n < 0 ? 0 : n] = 0;
		if (strstr(bytes, token))
			return true;
		usleep(40000);
	}
	return false;
}

/* Left by the marker when it was started by somebody else. */
bool marker_left(void)
{
	for (int i = 0; i < 15; i++) {
		if (!access(format("%s/marks/%s", here.shared, here.name), F_OK))
			return true;
		usleep(40000);
	}
	return false;
}

/* --- running --- */

int run_with(int (*child)(void *), void *argument)
{
	int out[2], status, answer;
	char bytes[64] = "";
	pid_t pid;

	TRY(pipe(out));
	pid = TRY(fork());
	if (!pid) {
		int null = open("/dev/null", O_WRONLY);

		dup2(out[1], 1);
		if (null >= 0)
			dup2(null, 2);
		close(out[0]);
		answer = child(argument);
		if (answer)
			failed("exec");
		_exit(answer ? 127 : 0);
	}
	close(out[1]);
	for (size_t got = 0; got < sizeof bytes - 1;) {
		ssize_t n = read(out[0], bytes + got, sizeof bytes - 1 - got);

		if (n <= 0)
			break;
		got += n;
		if (strstr(bytes, MARKER))
			break;
	}
	close(out[0]);
	if (strstr(bytes, MARKER)) {
		proof->escaped = 1;
		kill(pid, SIGKILL);
	}
	waitpid(pid, &status, 0);
	if (WIFSIGNALED(status) && !proof->escaped)
		return failed_as(strsignal(WTERMSIG(status)), EINTR);
	return status ? failed_as("exit", WEXITSTATUS(status) == 127 ? proof->error : EIO) : 0;
}

struct execution { int at; const char *path; char *const *argv; char *const *envp; int flags; };

static int execute(void *argument)
{
	struct execution *e = argument;

	return syscall(SYS_execveat, e->at, e->path, e->argv, e->envp, e->flags);
}

int run_at(int at, const char *path, char *const argv[], char *const envp[], int flags)
{
	char *none[] = { NULL };
	struct execution e = { at, path, argv, envp ? envp : none, flags };

	return run_with(execute, &e);
}

int run(const char *path)
{
	char *argv[] = { (char *)path, NULL };

	return run_at(AT_FDCWD, path, argv, NULL, 0);
}

int run_args(char *const argv[])
{
	return run_at(AT_FDCWD, argv[0], argv, NULL, 0);
}

int in_child(int (*child)(void))
{
	int status;
	pid_t pid = TRY(fork());

	if (!pid)
		_exit(child() ? 1 : 0);
	TRY(waitpid(pid, &status, 0));
	return status ? -1 : 0;
}

int new_mounts(int flags)
{
	unsigned uid = getuid(), gid = getgid();

	TRY(unshare(CLONE_NEWNS | flags));
	if (flags & CLONE_NEWUSER) {
		TRY(put_text("/proc/self/setgroups", "deny"));
		TRY(put_text("/proc/self/uid_map", format("0 %u 1", uid)));
		TRY(put_text("/proc/self/gid_map", format("0 %u 1", gid)));
	}
	TRY(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	return 0;
}

/* --- io_uring --- */

int uring(unsigned setup, unsigned sqe_flags, struct io_uring_sqe sqe)
{
	struct io_uring_params p = { .flags = setup, .sq_thread_idle = 2000 };
	int fd = syscall(SYS_io_uring_setup, 4, &p), result;
	char *sq, *cq;
	struct io_uring_sqe *sqes;
	unsigned *tail, *head, *array;

	if (fd < 0)
		return failed("io_uring_setup");
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), PROT_READ | PROT_WRITE, MAP_SHARED,
		  fd, IORING_OFF_CQ_RING);
	sqes = mmap(NULL, p.sq_entries * sizeof sqe, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || sqes == MAP_FAILED)
		return failed("mmap of a ring");
	sqe.flags = sqe_flags;
	sqes[0] = sqe;
	array = (void *)(sq + p.sq_off.array);
	array[0] = 0;
	tail = (void *)(sq + p.sq_off.tail);
	__atomic_store_n(tail, *tail + 1, __ATOMIC_SEQ_CST);
	if (setup & IORING_SETUP_SQPOLL) {
		if (__atomic_load_n((unsigned *)(sq + p.sq_off.flags), __ATOMIC_SEQ_CST) & IORING_SQ_NEED_WAKEUP)
			syscall(SYS_io_uring_enter, fd, 0, 0, IORING_ENTER_SQ_WAKEUP, NULL, 0);
		if (syscall(SYS_io_uring_enter, fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
			return failed("io_uring_enter");
	} else if (syscall(SYS_io_uring_enter, fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0) {
		return failed("io_uring_enter");
	}
	head = (void *)(cq + p.cq_off.head);
	result = ((struct io_uring_cqe *)(cq + p.cq_off.cqes))[*head & (p.cq_entries - 1)].res;
	/* a fixed file lives as long as its ring: the ring stays open */
	if (result < 0)
		return failed_as("io_uring", -result);
	return result;
}
