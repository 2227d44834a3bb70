// SPDX-License-Identifier: Apache-2.0
// Does one thing, by one system call, and says how it went: `act VERB ARGUMENT...` prints "ok", the errno's name, or
// how a program ended ("killed", "exit 1").
// Static, so that it runs in any container. `act -n COUNT VERB ARGUMENT...` does it many times and prints how
// often it succeeded. Some words before the verb change where it is done from: a chroot, a terminal, another mount
// namespace; see prefixed().
#define _GNU_SOURCE
#include "ask.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

extern char **environ;

static int opened(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0644);

	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

/* Runs a program in a child; -1 with errno if it could not be exec'd. A child killed gives EKILLED, one that
 * fails EEXIT + its status. */
#define EKILLED 4095
#define EEXIT 5000
static int ran(int fd, char **argv)
{
	int pipes[2], error = 0, status;
	pid_t pid;

	if (pipe2(pipes, O_CLOEXEC))
		return -1;
	pid = fork();
	if (pid < 0)
		return -1;
	if (!pid) {
		int null = open("/dev/null", O_RDWR);

		if (null >= 0) {
			dup2(null, 1);
			dup2(null, 2);
		}
		if (fd >= 0)
			fexecve(fd, argv, environ);
		else
			execv(argv[0], argv);
		error = errno;
		if (write(pipes[1], &error, sizeof error) < 0)
			_exit(126);
		_exit(127);
	}
	close(pipes[1]);
	if (read(pipes[0], &error, sizeof error) <= 0)
		error = 0;
	close(pipes[0]);
	waitpid(pid, &status, 0);
	if (WIFSIGNALED(status))
		error = EKILLED;
	else if (!error && WEXITSTATUS(status))
		error = EEXIT + WEXITSTATUS(status);
	errno = error;
	return error ? -1 : 0;
}

static int address(const char *ip, const char *port, struct sockaddr_storage *to)
{
	struct sockaddr_in *v4 = (void *)to;
	struct sockaddr_in6 *v6 = (void *)to;

	memset(to, 0, sizeof *to);
	if (strchr(ip, ':')) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(atoi(port));
		inet_pton(AF_INET6, ip, &v6->sin6_addr);
		return sizeof *v6;
	}
	v4->sin_family = AF_INET;
	v4->sin_port = htons(atoi(port));
	inet_pton(AF_INET, ip, &v4->sin_addr);
	return sizeof *v4;
}

/* ok also if nobody listens: the question is whether it was let through */
static int reached(int result)
{
	return result < 0 && (errno == ECONNREFUSED || errno == EINPROGRESS || errno == ENETUNREACH || errno == EHOSTUNREACH) ? 0 : result;
}

static int with_socket(int type, int protocol, char **a, const char *how)
{
	struct sockaddr_storage to;
	int length = address(a[0], a[1], &to), fd, one = 1, result = -1, saved;

	fd = socket(to.ss_family, type | SOCK_CLOEXEC, protocol);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (!strcmp(how, "connect"))
		result = reached(connect(fd, (void *)&to, length));
	else if (!strcmp(how, "send"))
		result = reached(sendto(fd, "x", 1, 0, (void *)&to, length) < 0 ? -1 : 0);
	else if (!strcmp(how, "fastopen"))
		result = reached(sendto(fd, "x", 1, MSG_FASTOPEN, (void *)&to, length) < 0 ? -1 : 0);
	else if (!strcmp(how, "bind"))
		result = bind(fd, (void *)&to, length);
	else if (!strcmp(how, "listen"))
		result = bind(fd, (void *)&to, length) ? -1 : listen(fd, 1);
	saved = errno;
	close(fd);
	errno = saved;
	return result;
}

static int from_device(const char *device, char **a)
{
	struct sockaddr_storage to;
	int length = address(a[0], a[1], &to), fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, strlen(device)))
		return -1;
	return reached(connect(fd, (void *)&to, length));
}

/* Takes the option away, which any value would do as well for who judges. */
static int option(int level, int name)
{
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return fd < 0 ? -1 : setsockopt(fd, level, name, NULL, 0);
}

/* By a descriptor that becomes ready. ok: it was asked for. */
static int signaled_by_descriptor(int pid, int number)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) || fcntl(ends[0], F_SETOWN, pid) || fcntl(ends[0], F_SETSIG, number) ||
	    fcntl(ends[0], F_SETFL, O_ASYNC))
		return -1;
	return write(ends[1], "x", 1) == 1 ? 0 : -1;
}

static int made(int family, int type, int protocol)
{
	int fd = socket(family, type, protocol);

	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

static int mapped(const char *path, int later)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	void *p;

	if (fd < 0)
		return -1;
	p = mmap(NULL, 4096, later ? PROT_READ : PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return -1;
	return later ? mprotect(p, 4096, PROT_READ | PROT_EXEC) : 0;
}

static int memfd_ran(char **argv)
{
	int fd = memfd_create("act", 0), from = open(argv[0], O_RDONLY), n;
	char buffer[65536];

	if (fd < 0 || from < 0)
		return -1;
	while ((n = read(from, buffer, sizeof buffer)) > 0)
		if (write(fd, buffer, n) != n)
			return -1;
	return ran(fd, argv);
}

/* How it ended, for a socket that is closed now. */
static int ended(int fd, int result)
{
	int saved = errno;

	close(fd);
	errno = saved;
	return result;
}

static int unix_socket(const char *path, int type, int (*use)(int, const struct sockaddr *, socklen_t))
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	strncpy(name.sun_path, path, sizeof name.sun_path - 1);
	return ended(fd, use(fd, (void *)&name, sizeof name));
}

/* Sends without connecting. */
static int unix_send(int fd, const struct sockaddr *name, socklen_t length)
{
	return sendto(fd, "x", 1, 0, name, length) < 0 ? -1 : 0;
}

/* Keeps what unix_socket() binds, and ends when its input does. */
static int unix_serve(int fd, const struct sockaddr *name, socklen_t length)
{
	char c;

	if (bind(fd, name, length))
		return -1;
	listen(fd, 16);
	puts("ready");
	fflush(stdout);
	while (read(0, &c, 1) > 0)
		;
	return 0;
}

/* Listens, connects to itself from another address, and waits for the connection to arrive: ETIMEDOUT if none
 * does. Port 0 = listens without bind. Arguments: address, port, the peer's address. */
static int arrived(char **a)
{
	struct sockaddr_storage here, there;
	socklen_t length = address(a[0], a[1], &here), size = sizeof here;
	int server = socket(here.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), client, one = 1, got;
	struct pollfd ready = { server, POLLIN, 0 };
	char port[8];

	if (server < 0)
		return -1;
	setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (strcmp(a[1], "0") && bind(server, (void *)&here, length))
		return -1;
	if (listen(server, 4) || getsockname(server, (void *)&here, &size))
		return -1;
	if (getnameinfo((void *)&here, size, NULL, 0, port, sizeof port, NI_NUMERICSERV))
		return -1;
	address(a[0], port, &here);
	length = address(a[2], "0", &there);
	client = socket(there.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (client < 0 || bind(client, (void *)&there, length))
		return -1;
	if (connect(client, (void *)&here, size) && errno != EINPROGRESS)
		return -1;
	if (poll(&ready, 1, 500) <= 0) {
		errno = ETIMEDOUT;
		return -1;
	}
	got = accept(server, NULL, NULL);
	return got < 0 ? -1 : 0;
}

/* A descriptor of a file that a process outside has opened, by SCM_RIGHTS: what arrives of it. Sent on standard
 * input, a socket. */
static int received(void)
{
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec data = { &byte, 1 };
	struct msghdr m = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };

	if (recvmsg(0, &m, 0) < 0)
		return -1;
	if (CMSG_FIRSTHDR(&m))
		return 0;
	errno = EBADMSG;
	return -1;
}

static int anonymous_exec(int later)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | (later ? 0 : PROT_EXEC), MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return -1;
	return later ? mprotect(p, 4096, PROT_READ | PROT_EXEC) : 0;
}

/* Makes memory executable that looks like a file's: memfd's, a private mapping that is written to before, or that can be
 * written to, at once or afterwards. */
static int disguised_exec(const char *way, const char *path)
{
	int memory = !strcmp(way, "memfd"), both = !strcmp(way, "both"), before = !strcmp(way, "before");
	int fd = memory ? memfd_create("code", 0) : open(path, O_RDONLY | O_CLOEXEC);
	char *p;

	if (fd < 0 || (memory && ftruncate(fd, 4096)))
		return -1;
	p = mmap(NULL, 4096, PROT_READ | (both || before ? PROT_WRITE : 0) | (before ? 0 : PROT_EXEC), MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return -1;
	if (before)
		p[0] = 1;
	if (memory || both)
		return 0;
	return mprotect(p, 4096, PROT_READ | PROT_EXEC | (before ? 0 : PROT_WRITE));
}

/* Opens a name below a directory that stays open, wherever it is moved. */
static int read_below(const char *directory, const char *name)
{
	static int at = -1;
	int fd;

	if (at < 0)
		at = open(directory, O_PATH | O_DIRECTORY);
	fd = openat(at, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

/* Creates a file of another name each time. */
static int create_counted(const char *prefix)
{
	static int count;
	char path[4096];

	snprintf(path, sizeof path, "%s%d", prefix, count++);
	return opened(path, O_WRONLY | O_CREAT);
}

/* Through a copy of the mount that hangs nowhere. */
static int read_detached(const char *directory, const char *name)
{
	int tree = syscall(SYS_open_tree, AT_FDCWD, directory, 1 /* OPEN_TREE_CLONE */), fd;

	if (tree < 0)
		return -1;
	fd = openat(tree, name, O_RDONLY);
	return fd < 0 ? -1 : 0;
}

/* Runs a program whose file has lost its name. */
static int deleted_ran(char **argv)
{
	int fd = open(argv[0], O_RDONLY);

	return fd < 0 || unlink(argv[0]) ? -1 : ran(fd, argv);
}

/* A tmpfs by the new calls: made, and attached. */
static int mounted_anew(const char *at)
{
	int context = syscall(SYS_fsopen, "tmpfs", 0), mount;

	if (context < 0 || syscall(SYS_fsconfig, context, 6 /* FSCONFIG_CMD_CREATE */, NULL, NULL, 0))
		return -1;
	mount = syscall(SYS_fsmount, context, 0, 0);
	return mount < 0 ? -1 : syscall(SYS_move_mount, mount, "", AT_FDCWD, at, 4 /* MOVE_MOUNT_F_EMPTY_PATH */);
}

/* Attaches what is mounted at one place at another too. */
static int attached(const char *from, const char *to)
{
	int tree = syscall(SYS_open_tree, AT_FDCWD, from, 1 /* OPEN_TREE_CLONE */);

	return tree < 0 ? -1 : syscall(SYS_move_mount, tree, "", AT_FDCWD, to, 4);
}

/* Takes hold of a child of its own, or lets it ask for that. */
static int traced(int by_child)
{
	int pipes[2], error = 0, result = 0;
	pid_t pid;

	if (pipe(pipes))
		return -1;
	pid = fork();
	if (!pid) {
		if (by_child)
			error = ptrace(PTRACE_TRACEME, 0, NULL, NULL) ? errno : 0;
		if (write(pipes[1], &error, sizeof error) < 0)
			_exit(1);
		pause();
	}
	if (read(pipes[0], &error, sizeof error) < 0)
		error = EIO;
	if (!by_child) {
		result = ptrace(PTRACE_SEIZE, pid, NULL, NULL);
		error = result ? errno : 0;
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	errno = error;
	return error ? -1 : 0;
}

/* ok also if what was loaded is none: the question is whether it was let through */
static int loaded(long result)
{
	return result < 0 && errno == ENOEXEC ? 0 : result;
}

static int bpf_map(void)
{
	union bpf_attr attr = { .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1 };

	return syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof attr) < 0 ? -1 : 0;
}

/* A pinned link is had without any question. */
static int bpf_detach(const char *pin)
{
	union bpf_attr get = { .pathname = (uint64_t)pin }, detach = {};
	int fd = syscall(SYS_bpf, BPF_OBJ_GET, &get, sizeof get);

	if (fd < 0)
		return -1;
	detach.link_detach.link_fd = fd;
	return syscall(SYS_bpf, BPF_LINK_DETACH, &detach, sizeof detach);
}

static int bpf_by_id(int command, const char *id)
{
	union bpf_attr attr = { .map_id = atoi(id) };

	return syscall(SYS_bpf, command, &attr, sizeof attr) < 0 ? -1 : 0;
}

static int perf_event(void)
{
	struct perf_event_attr attr = { .type = PERF_TYPE_SOFTWARE, .size = sizeof attr, .config = PERF_COUNT_SW_CPU_CLOCK };

	return syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0) < 0 ? -1 : 0;
}

/* How programs get out of where they are. */
static int escaped(const char *verb, char **a)
{
#define IS(name) (!strcmp(verb, name))
	if (IS("mount")) return mount("none", a[0], "tmpfs", 0, NULL);
	if (IS("mount-type")) return mount("none", a[1], a[0], 0, NULL);
	if (IS("mount-anew")) return mounted_anew(a[0]);
	if (IS("attach")) return attached(a[0], a[1]);
	if (IS("remount")) return mount(NULL, a[0], NULL, MS_REMOUNT, "size=1m");
	if (IS("umount")) return umount2(a[0], MNT_DETACH);
	if (IS("pivot_root")) return unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ? -1 :
		(int)syscall(SYS_pivot_root, a[0], a[0]);
	if (IS("ptrace")) return traced(0);
	if (IS("traceme")) return traced(1);
	if (IS("user_namespace")) return unshare(CLONE_NEWUSER);
	if (IS("bpf")) return bpf_map();
	if (IS("perf_event")) return perf_event();
	/* the kernel asks nobody about less than an ELF header */
	if (IS("init_module")) { static char none[4096]; return loaded(syscall(SYS_init_module, none, sizeof none, "")); }
	if (IS("finit_module")) return loaded(syscall(SYS_finit_module, open(a[0], O_RDONLY), "", 0));
	if (IS("kexec")) return loaded(syscall(SYS_kexec_file_load, open(a[0], O_RDONLY), -1, 1UL, "", 4UL /* no initramfs */));
	if (IS("signal")) return kill(atoi(a[0]), atoi(a[1]));
	if (IS("signal-io")) return signaled_by_descriptor(atoi(a[0]), atoi(a[1]));
	if (IS("link-of")) return bpf_by_id(BPF_LINK_GET_FD_BY_ID, a[0]);
	if (IS("seize")) return ptrace(PTRACE_SEIZE, atoi(a[0]), NULL, NULL);
	if (IS("prlimit")) { struct rlimit limit = { 64, 64 }; return prlimit(atoi(a[0]), RLIMIT_NOFILE, &limit, NULL); }
	if (IS("affinity")) { cpu_set_t set; CPU_ZERO(&set); CPU_SET(0, &set); return sched_setaffinity(atoi(a[0]), sizeof set, &set); }
	if (IS("io-priority")) return syscall(SYS_ioprio_set, 1 /* a process */, atoi(a[0]), 3 << 13 /* idle */);
	if (IS("detach")) return bpf_detach(a[0]);
	if (IS("nice")) return setpriority(PRIO_PROCESS, atoi(a[0]), 10);
	if (IS("map-of")) return bpf_by_id(BPF_MAP_GET_FD_BY_ID, a[0]);
	if (IS("program-of")) return bpf_by_id(BPF_PROG_GET_FD_BY_ID, a[0]);
	if (IS("mkblk")) return mknod(a[0], S_IFBLK | 0600, makedev(7, 99));
	if (IS("mkchr")) return mknod(a[0], S_IFCHR | 0600, makedev(1, 3));
	errno = EINVAL;
	return -1;
#undef IS
}

static int act(char **a)
{
	const char *verb = *a++;

#define IS(name) (!strcmp(verb, name))
	if (IS("exec")) return ran(-1, a);
	if (IS("fexec")) { int fd = open(a[0], O_PATH); return fd < 0 ? -1 : ran(fd, a); }
	if (IS("memfd")) return memfd_ran(a);
	if (IS("read")) return opened(a[0], O_RDONLY);
	if (IS("write")) return opened(a[0], O_WRONLY);
	if (IS("append")) return opened(a[0], O_WRONLY | O_APPEND);
	if (IS("create")) return opened(a[0], O_WRONLY | O_CREAT | O_EXCL);
	if (IS("unlink")) return unlink(a[0]);
	if (IS("rename")) return rename(a[0], a[1]);
	if (IS("exchange")) return syscall(SYS_renameat2, AT_FDCWD, a[0], AT_FDCWD, a[1], 2);
	if (IS("link")) return link(a[0], a[1]);
	if (IS("symlink")) return symlink(a[0], a[1]);
	if (IS("mkdir")) return mkdir(a[0], 0755);
	if (IS("rmdir")) return rmdir(a[0]);
	if (IS("mknod")) return mknod(a[0], S_IFIFO | 0644, 0);
	if (IS("chmod")) return chmod(a[0], 0600);
	if (IS("chown")) return chown(a[0], 0, 0);
	if (IS("truncate")) return truncate(a[0], 0);
	if (IS("utimes")) return utimensat(AT_FDCWD, a[0], NULL, 0);
	if (IS("setxattr")) return setxattr(a[0], "trusted.act", "1", 1, 0);
	if (IS("map")) return mapped(a[0], 0);
	if (IS("mprotect")) return mapped(a[0], 1);
	if (IS("connect")) return with_socket(SOCK_STREAM, 0, a, "connect");
	if (IS("connect-device")) return from_device(a[0], a + 1);
	if (IS("option")) return option(atoi(a[0]), atoi(a[1]));
	if (IS("snapshot")) { static char name[4096]; return ioctl(open(a[0], O_RDONLY), 0x50009401 /* BTRFS_IOC_SNAP_CREATE */, name); }
	if (IS("connect-udp")) return with_socket(SOCK_DGRAM, 0, a, "connect");
	if (IS("sendto")) return with_socket(SOCK_DGRAM, 0, a, "send");
	if (IS("fastopen")) return with_socket(SOCK_STREAM, 0, a, "fastopen");
	if (IS("bind")) return with_socket(SOCK_STREAM, 0, a, "bind");
	if (IS("bind-udp")) return with_socket(SOCK_DGRAM, 0, a, "bind");
	if (IS("listen")) return with_socket(SOCK_STREAM, 0, a, "listen");
	if (IS("unix")) return unix_socket(a[0], SOCK_STREAM, connect);
	if (IS("unix-send")) return unix_socket(a[0], SOCK_DGRAM, unix_send);
	if (IS("unix-serve")) return unix_socket(a[0], SOCK_STREAM, unix_serve);
	if (IS("unix-serve-dgram")) return unix_socket(a[0], SOCK_DGRAM, unix_serve);
	if (IS("arrive")) return arrived(a);
	if (IS("listen-given")) return listen(0, 1);
	if (IS("receive")) return received();
	if (IS("anonymous")) return anonymous_exec(0);
	if (IS("anonymous-later")) return anonymous_exec(1);
	if (IS("disguised")) return disguised_exec(a[0], a[1]);
	if (IS("read-below")) return read_below(a[0], a[1]);
	if (IS("read-detached")) return read_detached(a[0], a[1]);
	if (IS("create-counted")) return create_counted(a[0]);
	if (IS("read-either")) return opened(a[0], O_RDONLY) && opened(a[1], O_RDONLY) ? -1 : 0;
	if (IS("swap")) return rename(a[0], a[1]) || rename(a[1], a[0]) ? -1 : 0;
	if (IS("deleted")) return deleted_ran(a);
	if (IS("tcp")) return made(AF_INET, SOCK_STREAM, 0);
	if (IS("udp")) return made(AF_INET, SOCK_DGRAM, 0);
	if (IS("raw")) return made(AF_INET, SOCK_RAW, 255);
	if (IS("icmp")) return made(AF_INET, SOCK_RAW, 1);
	if (IS("packet")) return made(AF_PACKET, SOCK_RAW, 0);
	if (IS("unix-stream")) return made(AF_UNIX, SOCK_STREAM, 0);
	if (IS("hostname")) { char name[65]; gethostname(name, 65); return sethostname(name, strlen(name)); }
	if (IS("ask")) return asked(a);
	if (IS("chroot")) return chroot(a[0]);
	return escaped(verb, a);
}

static int said(char **a);

/* In a child with a controlling terminal of its own; what it says there is said here. */
static int on_terminal(char **a)
{
	int terminal, n, status;
	pid_t pid = forkpty(&terminal, NULL, NULL, NULL);
	char buffer[256];

	if (pid < 0)
		return -1;
	if (!pid) {
		said(a);
		fflush(stdout);
		_exit(0);
	}
	while ((n = read(terminal, buffer, sizeof buffer)) > 0)
		for (int i = 0; i < n; i++)
			if (buffer[i] != '\r')
				putchar(buffer[i]);
	waitpid(pid, &status, 0);
	return 0;
}

/* A bind mount in a mount namespace of our own; `flags` may ask for a user namespace as well. */
static int mounted(int flags, const char *from, const char *to)
{
	return unshare(CLONE_NEWNS | flags) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	       mount(from, to, NULL, MS_BIND, NULL) ? -1 : 0;
}

static int bound(const char *ip, const char *port)
{
	struct sockaddr_storage name;
	int length = address(ip, port, &name), fd = socket(name.ss_family, SOCK_STREAM, 0);

	return fd < 0 || bind(fd, (void *)&name, length) || dup2(fd, 0) ? -1 : 0;
}

/* With a socket as standard input by which somebody has sent a descriptor of the file. */
static int sent(const char *path)
{
	char control[CMSG_SPACE(sizeof(int))] = {}, byte = 0;
	struct iovec data = { &byte, 1 };
	struct msghdr m = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int pair[2], fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return -1;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	return sendmsg(pair[0], &m, 0) < 0 || dup2(pair[1], 0) ? -1 : 0;
}

/* Where a name as long as one likes begins: a directory, and in it another, TIMES times, which are made. */
static int went_down(const char *from, const char *component, int times)
{
	if (chdir(from))
		return -1;
	for (int i = 0; i < times; i++)
		if ((mkdir(component, 0755) && errno != EEXIST) || chdir(component))
			return -1;
	return 0;
}

/* The words before a verb: changes what they say and returns the rest, NULL if that failed. */
/* As a container runtime goes in: as a copy of itself in memory, to mounts of its own, and after WAIT is there (WAIT.ready
 * says that it waits) to the new root, whose /act it becomes. a: -runtime ROOT WAIT WORD... */
static int went_in(char **a)
{
	char buffer[65536], ready[4096];
	int from, memory, n;

	if (!getenv("ACT_COPY")) {
		memory = memfd_create("act", MFD_CLOEXEC);
		from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
		while ((n = read(from, buffer, sizeof buffer)) > 0)
			if (write(memory, buffer, n) != n)
				return -1;
		setenv("ACT_COPY", "1", 1);
		return fexecve(memory, a - 1, environ);
	}
	snprintf(ready, sizeof ready, "%s.ready", a[2]);
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount(a[1], a[1], NULL, MS_BIND, NULL) ||
	    opened(ready, O_CREAT | O_WRONLY))
		return -1;
	while (access(a[2], F_OK))
		usleep(20000);
	if (chdir(a[1]) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH))
		return -1;
	a[2] = "act";
	return execv("/act", a + 2);
}

static char **prefixed(char **a)
{
	for (;;) {
		int taken, failed;

		if (!*a)
			return a;
		if (!strcmp(*a, "-u")) { /* as another user */
			int uid = atoi(a[1]);

			taken = 2;
			failed = setresgid(uid, uid, uid) || setresuid(uid, uid, uid);
		} else if (!strcmp(*a, "-C")) {
			taken = 2;
			failed = chdir(a[1]);
		} else if (!strcmp(*a, "-chroot")) {
			taken = 2;
			failed = chroot(a[1]) || chdir("/");
		} else if (!strcmp(*a, "-bind")) {
			taken = 3;
			failed = mounted(0, a[1], a[2]);
		} else if (!strcmp(*a, "-userbind")) {
			taken = 3;
			failed = mounted(CLONE_NEWUSER, a[1], a[2]);
		} else if (!strcmp(*a, "-deep")) {
			taken = 4;
			failed = went_down(a[1], a[2], atoi(a[3]));
		} else if (!strcmp(*a, "-exec")) { /* instead of itself */
			taken = 1;
			failed = execv(a[1], a + 1);
		} else if (!strcmp(*a, "-become")) { /* through exec, which is how a process becomes part of a cgroup */
			*a = "act";
			taken = 1;
			failed = execv("/proc/self/exe", a);
		} else if (!strcmp(*a, "-runtime")) {
			taken = 3;
			failed = went_in(a);
		} else if (!strcmp(*a, "-bound")) { /* with a bound socket as standard input */
			taken = 3;
			failed = bound(a[1], a[2]);
		} else if (!strcmp(*a, "-sent")) {
			taken = 2;
			failed = sent(a[1]);
		} else if (!strcmp(*a, "-cgroup")) {
			int fd = open(a[1], O_WRONLY);

			taken = 2;
			failed = fd < 0 || write(fd, "0", 1) != 1;
		} else {
			return a;
		}
		if (failed) {
			printf("%s: %s\n", *a, strerrorname_np(errno));
			return NULL;
		}
		a += taken;
	}
}

/* Does it and says how it went. */
static int said(char **a)
{
	if (*a && !strcmp(*a, "-pty"))
		return on_terminal(a + 1);
	a = prefixed(a);
	if (!a)
		return 1;
	if (*a && a[1] && !strcmp(*a, "-n")) {
		long count = atol(a[1]), good = 0;

		for (long i = 0; i < count; i++)
			good += act(a + 2) == 0;
		printf("%ld\n", good);
		return 0;
	}
	if (!*a) {
		fputs("usage: act [-pty] [-u UID | -C DIR | ...] [-n COUNT] VERB ARGUMENT...\n", stderr);
		return 2;
	}
	if (act(a) == 0)
		puts("ok");
	else if (errno >= EEXIT)
		printf("exit %d\n", errno - EEXIT);
	else
		puts(errno == EKILLED ? "killed" : strerrorname_np(errno));
	return 0;
}

/* One act after another, a line of standard input each, words parted by tabs: for acting without an exec of its own. */
static int served(void)
{
	char line[8192];

	while (fgets(line, sizeof line, stdin)) {
		char *words[16] = {}, *rest = line;

		line[strcspn(line, "\n")] = 0;
		for (int i = 0; i < 15 && rest; i++)
			words[i] = strsep(&rest, "\t");
		said(words);
		fflush(stdout);
	}
	return 0;
}

int main(int argc, char **argv)
{
	return argc > 1 && !strcmp(argv[1], "-serve") ? served() : said(argv + 1);
}
