// SPDX-License-Identifier: Apache-2.0
// Other ways to the bytes of a file that must not be read.
#include "evade.h"
#include <linux/openat2.h>
#include <pthread.h>
#include <sys/fanotify.h>
#include <sys/ptrace.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#define SQE(op, ...) ((struct io_uring_sqe){ .opcode = IORING_OP_##op, __VA_ARGS__ })

static int opened(void) { return TRY(open(here.secret, O_RDONLY | O_CLOEXEC)); }

static int plain(void) { return read_path(AT_FDCWD, here.secret); }

static int open_syscall(void) { return prove_read(TRY(syscall(SYS_open, here.secret, O_RDONLY, 0))); }

static int open_writable(void) { return prove_read(TRY(open(here.secret, O_RDWR))); }

static int open_direct(void)
{
	static char bytes[4096] __attribute__((aligned(4096)));
	int fd = TRY(open(here.secret, O_RDONLY | O_DIRECT));

	return prove_bytes(bytes, TRY(read(fd, bytes, sizeof bytes)));
}

static int open2(void)
{
	struct open_how how = { .flags = O_RDONLY };

	return prove_read(TRY(syscall(SYS_openat2, AT_FDCWD, here.secret, &how, sizeof how)));
}

static int open2_cached(void)
{
	struct open_how how = { .flags = O_RDONLY, .resolve = 0x20 /* RESOLVE_CACHED */ };

	return prove_read(TRY(syscall(SYS_openat2, AT_FDCWD, here.secret, &how, sizeof how)));
}

/* 32-bit system calls have numbers of their own. */
static int open_32(void)
{
	char *path = TRY(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0));
	int fd;

	strcpy(path, here.secret);
	__asm__ volatile("int $0x80" : "=a"(fd) : "a"(5), "b"((int)(long)path), "c"(0), "d"(0) : "r8", "r9", "r10", "r11", "memory");
	if (fd < 0)
		return failed_as("int 0x80", -fd);
	return prove_read(fd);
}

static int open_x32(void)
{
	return prove_read(TRY(syscall(0x40000000 | SYS_open, here.secret, O_RDONLY, 0)));
}

static int uring_open(unsigned setup, unsigned flags)
{
	return prove_read(TRY(uring(setup, flags, SQE(OPENAT, .fd = AT_FDCWD, .addr = (long)here.secret))));
}

static int uring_inline(void) { return uring_open(0, 0); }
static int uring_worker(void) { return uring_open(0, IOSQE_ASYNC); }
static int uring_polled(void) { return uring_open(IORING_SETUP_SQPOLL, 0); }
static int uring_polled_worker(void) { return uring_open(IORING_SETUP_SQPOLL, IOSQE_ASYNC); }

static int uring_open2(void)
{
	struct open_how how = { .flags = O_RDONLY };

	return prove_read(TRY(uring(0, 0, SQE(OPENAT2, .fd = AT_FDCWD, .addr = (long)here.secret, .len = sizeof how,
					      .off = (long)&how))));
}

/* The path is written over while the kernel may be reading it. */
static char racing[PATH_MAX];
static volatile int stop;

static void *overwrite(void *unused)
{
	char innocent[PATH_MAX] = "";

	snprintf(innocent, sizeof innocent, "%s/innocent", here.open);
	while (!stop) {
		memcpy(racing, innocent, PATH_MAX);
		memcpy(racing, here.secret, PATH_MAX);
	}
	return NULL;
}

static int path_race(void)
{
	pthread_t thread;

	put_file(in_open("innocent"), "innocent", 0666);
	strcpy(racing, in_open("innocent"));
	TRY(pthread_create(&thread, NULL, overwrite, NULL));
	for (int i = 0; i < 1000 && !proof->escaped; i++) {
		char bytes[64];
		int fd = open(racing, O_RDONLY);

		if (fd < 0)
			continue;
		if (read(fd, bytes, sizeof bytes) >= (ssize_t)strlen(SECRET) && !memcmp(bytes, SECRET, strlen(SECRET)))
			proof->escaped = 1;
		close(fd);
	}
	stop = 1;
	errno = EACCES;
	return proof->escaped ? 0 : failed("open");
}

static int map(void)
{
	int fd = opened();
	char *p;

	if (fd < 0)
		return -1;
	p = TRY(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0));
	return prove_bytes(p, strlen(SECRET));
}

static int spliced(void)
{
	char bytes[64];
	int fd = opened(), out[2];

	if (fd < 0)
		return -1;
	TRY(pipe(out));
	TRY(splice(fd, NULL, out[1], NULL, 64, 0));
	return prove_bytes(bytes, TRY(read(out[0], bytes, sizeof bytes)));
}

static int sent(void)
{
	int fd = opened(), to;

	if (fd < 0)
		return -1;
	to = TRY(open(in_open("copy"), O_RDWR | O_CREAT, 0666));
	TRY(sendfile(to, fd, NULL, 64));
	return prove_read(to);
}

static int copied_range(void)
{
	int fd = opened(), to;

	if (fd < 0)
		return -1;
	to = TRY(open(in_open("copy"), O_RDWR | O_CREAT, 0666));
	TRY(copy_file_range(fd, NULL, to, NULL, strlen(SECRET), 0));
	return prove_read(to);
}

static int cloned(void)
{
	int fd = opened(), to;

	if (fd < 0)
		return -1;
	to = TRY(open(in_open("copy"), O_RDWR | O_CREAT, 0666));
	TRY(ioctl(to, 0x40049409 /* FICLONE */, fd));
	return prove_read(to);
}

static int vmspliced(void)
{
	struct iovec part = { NULL, strlen(SECRET) };
	char bytes[64];
	int fd = opened(), out[2];

	if (fd < 0)
		return -1;
	part.iov_base = TRY(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0));
	TRY(pipe(out));
	TRY(vmsplice(out[1], &part, 1, 0));
	return prove_bytes(bytes, TRY(read(out[0], bytes, sizeof bytes)));
}

static int as_script_input(void)
{
	int fd;
	char bytes[128];

	/* the kernel opens what `#!` names: a file of its own, then the secret as its argument by /proc/self/fd */
	fd = TRY(open(here.secret, O_PATH));
	TRY(readlinkat(fd, "", bytes, sizeof bytes) < 0 && errno != ENOENT ? -1 : 0);
	return prove_read(TRY(open(format("/proc/self/fd/%d", fd), O_RDONLY)));
}

static int loop_device(void)
{
	int control = TRY(open("/dev/loop-control", O_RDWR)), number = TRY(ioctl(control, 0x4C82, 0)), loop;
	int fd = opened();

	if (fd < 0)
		return -1;
	loop = TRY(open(format("/dev/loop%d", number), O_RDWR));
	TRY(ioctl(loop, 0x4C00 /* LOOP_SET_FD */, fd));
	return prove_read(loop);
}

/* Descriptors that fanotify hands out: the secret is opened by somebody who may. */
static int notified(void)
{
	struct { struct fanotify_event_metadata head; char more[4096]; } event;
	unsigned long pid;
	int fd = TRY(fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK, O_RDONLY));

	TRY(fanotify_mark(fd, FAN_MARK_ADD, FAN_OPEN | FAN_ACCESS | FAN_EVENT_ON_CHILD, AT_FDCWD, format("%s/held", here.shared)));
	TRY(witness_number("pid", &pid));
	for (int i = 0; i < 30; i++) {
		if (read(fd, &event, sizeof event) > 0) {
			if (event.head.fd < 0)
				return failed_as("the event's descriptor", EACCES);
			return prove_read(event.head.fd);
		}
		usleep(50000);
	}
	return failed_as("no event", ETIMEDOUT);
}

static int received(void)
{
	return prove_read(TRY(witness_descriptor('r')));
}

static int received_mapped(void)
{
	int fd = TRY(witness_descriptor('r'));

	return prove_bytes(TRY(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0)), strlen(SECRET));
}

static int received_path(void)
{
	int fd = TRY(witness_descriptor('p'));

	return prove_read(TRY(open(format("/proc/self/fd/%d", fd), O_RDONLY)));
}

static int received_folder(void)
{
	return read_path(TRY(witness_descriptor('d')), "file");
}

static int witness_at(const char *what)
{
	unsigned long pid;

	if (witness_number("pid", &pid))
		return -1;
	return TRY(open(format("/proc/%lu/%s", pid, what), O_RDONLY));
}

static int descriptor_of_another(void)
{
	unsigned long fd;

	TRY(witness_number("fd", &fd));
	return prove_read(TRY(witness_at(format("fd/%lu", fd))));
}

static int mapping_of_another(void)
{
	unsigned long address;

	TRY(witness_number("mapped", &address));
	return prove_read(TRY(witness_at(format("map_files/%lx-%lx", address, address + 4096))));
}

static int pidfd_taken(void)
{
	unsigned long pid, fd;
	int handle;

	TRY(witness_number("pid", &pid));
	TRY(witness_number("fd", &fd));
	handle = TRY(syscall(SYS_pidfd_open, pid, 0));
	return prove_read(TRY(syscall(SYS_pidfd_getfd, handle, fd, 0)));
}

static int memory_read(void)
{
	unsigned long pid, address;
	char bytes[64];
	struct iovec to = { bytes, sizeof bytes }, from = { NULL, sizeof bytes };

	TRY(witness_number("pid", &pid));
	TRY(witness_number("memory", &address));
	from.iov_base = (void *)address;
	return prove_bytes(bytes, TRY(process_vm_readv(pid, &to, 1, &from, 1, 0)));
}

static int memory_file(void)
{
	unsigned long address;
	char bytes[64];
	int fd;

	TRY(witness_number("memory", &address));
	fd = TRY(witness_at("mem"));
	return prove_bytes(bytes, TRY(pread(fd, bytes, sizeof bytes, address)));
}

static int traced(void)
{
	unsigned long pid, address, words[8];
	int status;

	TRY(witness_number("pid", &pid));
	TRY(witness_number("memory", &address));
	TRY(ptrace(PTRACE_SEIZE, pid, 0, 0));
	TRY(ptrace(PTRACE_INTERRUPT, pid, 0, 0));
	TRY(waitpid(pid, &status, __WALL));
	for (int i = 0; i < 8; i++)
		words[i] = ptrace(PTRACE_PEEKDATA, pid, address + 8 * i, 0);
	ptrace(PTRACE_DETACH, pid, 0, 0);
	return prove_bytes((char *)words, sizeof words);
}

/* Opened by a process outside that then became part of the workload: its descriptor 9. */
static int inherited(void) { return prove_read(9); }

static int thread_opens(void);
static void *open_in_thread(void *unused)
{
	return (void *)(long)plain();
}

static int thread_opens(void)
{
	pthread_t thread;

	TRY(pthread_create(&thread, NULL, open_in_thread, NULL));
	return pthread_join(thread, NULL);
}

/* A program that alone may read the file, made to do so for another. */
static int as_trusted(char *const envp[], char *const argv[])
{
	return run_at(AT_FDCWD, here.trusted, argv, envp, 0);
}

static int trusted_name(void)
{
	const char *self = in_open("trusted");

	TRY(copy_file("/proc/self/exe", self));
	return run_at(AT_FDCWD, self, (char *[]){ (char *)here.trusted, "-read", here.guarded, NULL }, NULL, 0);
}

static int trusted_comm(void)
{
	TRY(prctl(PR_SET_NAME, name_of(here.trusted)));
	return read_path(AT_FDCWD, here.guarded);
}

static int trusted_exe(void)
{
	struct prctl_mm_map map = {};
	int fd = TRY(open(here.trusted, O_RDONLY)), pages = open("/proc/self/stat", O_RDONLY);
	char text[1024] = "";
	unsigned long v[64] = {};
	int n = 0;

	/* all limits as they are: only the file changes */
	TRY(read(pages, text, sizeof text - 1));
	for (char *c = strrchr(text, ')') + 4; c && n < 60; c = strchr(c, ' ')) {
		c += *c == ' ';
		v[n++] = strtoul(c, NULL, 10);
	}
	map.start_code = v[22];
	map.end_code = v[23];
	map.start_stack = v[24];
	map.start_data = v[41];
	map.end_data = v[42];
	map.start_brk = v[43];
	map.brk = (unsigned long)sbrk(0);
	map.arg_start = v[44];
	map.arg_end = v[45];
	map.env_start = v[46];
	map.env_end = v[47];
	map.exe_fd = fd;
	TRY(prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0));
	return read_path(AT_FDCWD, here.guarded);
}

static int trusted_bind(void)
{
	TRY(copy_file("/proc/self/exe", in_open("mine")));
	TRY(new_mounts(0));
	TRY(mount(in_open("mine"), here.trusted, NULL, MS_BIND, NULL));
	return as_trusted(NULL, (char *[]){ here.trusted, "-read", here.guarded, NULL });
}

static int trusted_tmpfs(void)
{
	int self = TRY(open("/proc/self/exe", O_RDONLY));

	TRY(new_mounts(0));
	TRY(mount("tmpfs", folder_of(here.trusted), "tmpfs", 0, NULL));
	TRY(copy_file(format("/proc/self/fd/%d", self), here.trusted));
	return as_trusted(NULL, (char *[]){ here.trusted, "-read", here.guarded, NULL });
}

static int trusted_replaced(void)
{
	TRY(copy_file("/proc/self/exe", in_open("mine")));
	TRY(rename(in_open("mine"), here.trusted));
	return as_trusted(NULL, (char *[]){ here.trusted, "-read", here.guarded, NULL });
}

/* Who owns an overlay owns what is copied up in it. */
static int copied_up(int flags, const char *lower, const char *rest)
{
	struct object o = { .at = AT_FDCWD };

	TRY(overlay_of(&o, flags, lower, rest));
	TRY(chmod(o.path, 0777));
	return read_path(AT_FDCWD, in_open(format("fs/upper/%s", rest)));
}

static int copy_up(void) { return copied_up(0, folder_of(here.secret), name_of(here.secret)); }
static int copy_up_of_user(void) { return copied_up(CLONE_NEWUSER, folder_of(here.secret), name_of(here.secret)); }
static int copy_up_deep(void) { return copied_up(0, here.root, here.secret + strlen(here.root) + 1); }

const struct technique read_techniques[] = {
	{ "open", open_syscall },
	{ "open for writing too", open_writable },
	{ "open O_DIRECT", open_direct },
	{ "openat2", open2 },
	{ "openat2 RESOLVE_CACHED", open2_cached },
	{ "32-bit open", open_32 },
	{ "x32 open", open_x32 },
	{ "io_uring openat", uring_inline },
	{ "io_uring openat in a worker", uring_worker },
	{ "io_uring openat, SQPOLL", uring_polled },
	{ "io_uring openat, SQPOLL, in a worker", uring_polled_worker },
	{ "io_uring openat2", uring_open2 },
	{ "path overwritten during the call", path_race, .slow = true },
	{ "mmap", map },
	{ "splice", spliced },
	{ "vmsplice", vmspliced },
	{ "sendfile", sent },
	{ "copy_file_range", copied_range },
	{ "FICLONE", cloned },
	{ "O_PATH, then opened", as_script_input },
	{ "loop device", loop_device },
	{ "copied up in an overlay", copy_up },
	{ "copied up in an overlay in a user namespace", copy_up_of_user },
	{ "copied up in an overlay of the folders above", copy_up_deep },
	{ "in a thread", thread_opens },
	{ "fanotify's descriptor", notified, .slow = true },
	{ "descriptor over a socket", received },
	{ "descriptor over a socket, mapped", received_mapped },
	{ "O_PATH descriptor over a socket", received_path },
	{ "folder's descriptor over a socket", received_folder },
	{ "/proc/PID/fd of a process outside", descriptor_of_another },
	{ "/proc/PID/map_files of a process outside", mapping_of_another },
	{ "pidfd_getfd from a process outside", pidfd_taken },
	{ "process_vm_readv of a process outside", memory_read },
	{ "/proc/PID/mem of a process outside", memory_file },
	{ "ptrace of a process outside", traced },
	{ "descriptor inherited from outside", inherited },
	{ "trusted program's name as argument 0", trusted_name },
	{ "trusted program's comm", trusted_comm },
	{ "trusted program as PR_SET_MM_EXE_FILE", trusted_exe },
	{ "bind mount over the trusted program", trusted_bind },
	{ "tmpfs over the trusted program", trusted_tmpfs },
	{ "file in the trusted program's place", trusted_replaced },
	{ NULL },
};
