// SPDX-License-Identifier: Apache-2.0
// Other ways to run a program that must not be run. The same folder holds, beside `file`, the program: `dynamic` for
// ld.so, `library` for preloading, and `sealed`, which must not be read either, so that no copy can be made.
#include "evade.h"
#include <pthread.h>
#include <spawn.h>
#include <sys/personality.h>
#include <sys/shm.h>

static const char *beside(const char *name) { return format("%s/%s", folder_of(here.program), name); }
static const char *const loader = "/lib64/ld-linux-x86-64.so.2";

static int plain(void) { return run(here.program); }

static int by_descriptor(int flags)
{
	int fd = TRY(open(here.program, flags));

	return run_at(fd, "", (char *[]){ "x", NULL }, NULL, AT_EMPTY_PATH);
}

static int exec_path_descriptor(void) { return by_descriptor(O_PATH); }
static int exec_descriptor(void) { return by_descriptor(O_RDONLY); }
static int exec_descriptor_cloexec(void) { return by_descriptor(O_RDONLY | O_CLOEXEC); }
static int exec_proc_fd(void) { return run(format("/proc/self/fd/%d", TRY(open(here.program, O_PATH)))); }

static int vforked(void)
{
	int out[2], status;
	char bytes[8] = "";
	pid_t pid;

	TRY(pipe(out));
	pid = vfork();
	if (!pid) {
		dup2(out[1], 1);
		execl(here.program, here.program, NULL);
		_exit(127);
	}
	close(out[1]);
	waitpid(pid, &status, 0);
	if (read(out[0], bytes, 3) == 3 && !strcmp(bytes, MARKER))
		proof->escaped = 1;
	return status ? failed_as("execve", EACCES) : 0;
}

static int spawned(void)
{
	posix_spawn_file_actions_t actions;
	int out[2], error;
	char bytes[8] = "", *argv[] = { here.program, NULL };
	pid_t pid;

	TRY(pipe(out));
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, out[1], 1);
	error = posix_spawn(&pid, here.program, &actions, NULL, argv, environ);
	close(out[1]);
	if (error)
		return failed_as("posix_spawn", error);
	waitpid(pid, NULL, 0);
	if (read(out[0], bytes, 3) == 3 && !strcmp(bytes, MARKER))
		proof->escaped = 1;
	return 0;
}

static void *execute(void *unused)
{
	execl(here.program, here.program, NULL);
	failed("execve");
	_exit(127);
}

static int in_thread(void *unused)
{
	pthread_t thread;

	pthread_create(&thread, NULL, execute, NULL);
	pause();
	return -1;
}

static int thread_execs(void) { return run_with(in_thread, NULL); }

static int interpreter(void)
{
	TRY(put_file(in_open("script"), format("#!%s\n", here.program), 0777));
	return run(in_open("script"));
}

static int chain(void)
{
	TRY(put_file(in_open("script0"), format("#!%s\n", here.program), 0777));
	for (int i = 1; i < 4; i++)
		TRY(put_file(in_open(format("script%d", i)), format("#!%s\n", in_open(format("script%d", i - 1))), 0777));
	return run(in_open("script3"));
}

static int script_executed(void) { return run(beside("script")); }
static int script_in_shell(void) { return run_args((char *[]){ "/bin/sh", (char *)beside("script"), NULL }); }

static int script_on_input(void *unused)
{
	int fd = open(beside("script"), O_RDONLY);

	if (fd < 0)
		return -1;
	dup2(fd, 0);
	return execl("/bin/sh", "sh", NULL);
}

static int script_input(void) { return run_with(script_on_input, NULL); }
static int shell_dot(void) { return run_args((char *[]){ "/bin/sh", "-c", (char *)format(". %s", beside("script")), NULL }); }
static int shell_execs(void) { return run_args((char *[]){ "/bin/sh", "-c", here.program, NULL }); }
static int loader_runs(void) { return run_args((char *[]){ (char *)loader, (char *)beside("dynamic"), NULL }); }

static int loader_descriptor(void)
{
	int fd = TRY(open(beside("dynamic"), O_RDONLY));

	return run_args((char *[]){ (char *)loader, (char *)format("/proc/self/fd/%d", fd), NULL });
}

static int loader_preload(void)
{
	return run_args((char *[]){ (char *)loader, "--preload", (char *)beside("library"), (char *)format("%s/bin/dynamic", here.root), NULL });
}

static int with_variable(const char *name)
{
	char *argv[] = { "x", NULL }, *envp[] = { (char *)format("%s=%s", name, beside("library")), NULL };

	return run_at(AT_FDCWD, format("%s/bin/dynamic", here.root), argv, envp, 0);
}

static int preloaded(void) { return with_variable("LD_PRELOAD"); }
static int audited(void) { return with_variable("LD_AUDIT"); }

/* Calls the first byte of a mapping that begins with what jump says; it prints the marker. */
static const unsigned char code[] = {
	0xb8, 1, 0, 0, 0, /* mov eax, write */
	0xbf, 1, 0, 0, 0, /* mov edi, 1 */
	0x48, 0x8d, 0x35, 9, 0, 0, 0, /* lea rsi, [rip + 9] */
	0xba, 4, 0, 0, 0, /* mov edx, 4 */
	0x0f, 0x05, /* syscall */
	0xc3, 0x90, /* ret */
	'R', 'A', 'N', '\n',
};

static int call_it(void *p)
{
	((void (*)(void))p)();
	return 0;
}

static int map_executable(int protection, int later)
{
	int fd = TRY(open(here.program, O_RDONLY));
	void *p = TRY(mmap(NULL, 4096, protection, MAP_PRIVATE, fd, 0));

	if (later)
		TRY(mprotect(p, 4096, later));
	proof->escaped = 1;
	return 0;
}

static int mapped(void) { return map_executable(PROT_READ | PROT_EXEC, 0); }
static int mapped_later(void) { return map_executable(PROT_READ, PROT_READ | PROT_EXEC); }
static int mapped_shared(void)
{
	TRY(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, TRY(open(here.program, O_RDONLY)), 0));
	proof->escaped = 1;
	return 0;
}

static int mapped_key(void)
{
	void *p = TRY(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, TRY(open(here.program, O_RDONLY)), 0));

	TRY(syscall(SYS_pkey_mprotect, p, 4096, PROT_READ | PROT_EXEC, -1));
	proof->escaped = 1;
	return 0;
}

/* Old programs' readable memory is executable. */
static int implied_child(void *unused)
{
	int fd = open(here.program, O_RDONLY);
	void *p;

	if (personality(READ_IMPLIES_EXEC) < 0 || fd < 0)
		return -1;
	p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return -1;
	proof->escaped = 1;
	return 0;
}

static int implied(void) { return run_with(implied_child, NULL); }

static int implied_later_child(void *unused)
{
	int fd = open(here.program, O_RDONLY);
	void *p;

	if (fd < 0)
		return -1;
	p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED || personality(READ_IMPLIES_EXEC) < 0)
		return -1;
	if (mprotect(p, 4096, PROT_READ))
		return -1;
	proof->escaped = 1;
	return 0;
}

static int implied_later(void) { return run_with(implied_later_child, NULL); }

/* Code of one's own, in memory that nobody wrote to a file. */
static int call_child(void *how)
{
	int kind = *(int *)how;
	char *p = MAP_FAILED, *write_here = NULL;
	int fd = -1;

	if (kind == 0) { /* anonymous, executable from the start */
		p = write_here = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	} else if (kind == 1) { /* anonymous, executable later */
		p = write_here = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	} else if (kind == 2) { /* a memfd, mapped twice */
		fd = memfd_create("code", 0);
		ftruncate(fd, 4096);
		write_here = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	} else if (kind == 3) { /* System V shared memory */
		fd = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0700);
		write_here = shmat(fd, NULL, 0);
		p = shmat(fd, NULL, SHM_EXEC);
		shmctl(fd, IPC_RMID, NULL);
	} else if (kind == 4) { /* the stack */
		static __thread char dummy;
		(void)dummy;
		p = (char *)(((unsigned long)__builtin_frame_address(0) - 16384) & ~4095ul);
		write_here = p;
	} else if (kind == 5) { /* the heap */
		p = (char *)(((unsigned long)sbrk(16384) + 4095) & ~4095ul);
		write_here = p;
	} else if (kind == 10) { /* the heap, executable as all memory */
		personality(READ_IMPLIES_EXEC);
		p = (char *)(((unsigned long)sbrk(16384) + 4095) & ~4095ul);
		write_here = p;
	} else if (kind == 6) { /* shared and anonymous */
		p = write_here = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	} else if (kind == 8) { /* memory, by a device */
		p = write_here = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, open("/dev/zero", O_RDWR), 0);
	} else if (kind == 9) { /* what a ring's entries stand in */
		struct io_uring_params parameters = {};

		fd = syscall(SYS_io_uring_setup, 64, &parameters);
		p = write_here = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, fd, IORING_OFF_SQES);
	} else if (kind == 7) { /* a private mapping of an allowed program, written */
		p = write_here = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE, open("/proc/self/exe", O_RDONLY), 0);
	}
	if (p == MAP_FAILED || write_here == MAP_FAILED || !write_here)
		return -1;
	memcpy(write_here, code, sizeof code);
	if ((kind == 1 || kind == 4 || kind == 5) && mprotect(p, 4096, PROT_READ | PROT_EXEC))
		return -1;
	return call_it(p);
}

static int call_code(int kind) { return run_with(call_child, &kind); }
static int code_anonymous(void) { return call_code(0); }
static int code_anonymous_later(void) { return call_code(1); }
static int code_memfd(void) { return call_code(2); }
static int code_shared_memory(void) { return call_code(3); }
static int code_stack(void) { return call_code(4); }
static int code_heap(void) { return call_code(5); }
static int code_shared(void) { return call_code(6); }
static int code_private(void) { return call_code(7); }
static int code_device(void) { return call_code(8); }
static int code_ring(void) { return call_code(9); }
static int code_heap_implied(void) { return call_code(10); }

__attribute__((aligned(4096), noinline)) static int own_text(void) { asm volatile(".fill 64, 1, 0x90"); return 1; }

static int rewritten_child(void *nothing)
{
	int fd = open("/proc/self/mem", O_RDWR);

	(void)nothing;
	if (fd < 0 || pwrite(fd, code, sizeof code, (long)own_text) != sizeof code)
		return -1;
	return call_it((char *)own_text);
}

/* The program's own text, which it may not write. */
static int code_rewritten(void) { return run_with(rewritten_child, NULL); }

static int copy_to_descriptor(int to, const char *from)
{
	char bytes[65536];
	int fd = TRY(open(from, O_RDONLY));
	ssize_t n;

	while ((n = TRY(read(fd, bytes, sizeof bytes))) > 0)
		TRY(write(to, bytes, n));
	return 0;
}

static int memory_file(const char *program, unsigned flags)
{
	int fd = TRY(memfd_create("x", flags));

	TRY(copy_to_descriptor(fd, program));
	return run_at(fd, "", (char *[]){ "x", NULL }, NULL, AT_EMPTY_PATH);
}

static int memfd(void) { return memory_file(here.program, 0); }
static int memfd_sealed(void) { return memory_file(here.program, MFD_ALLOW_SEALING | MFD_CLOEXEC); }
static int memfd_exec_flag(void) { return memory_file(here.program, 0x10 /* MFD_EXEC */); }
static int memfd_huge(void) { return memory_file(here.program, MFD_HUGETLB); }

static int memfd_by_proc(void)
{
	int fd = TRY(memfd_create("x", 0));

	TRY(copy_to_descriptor(fd, here.program));
	return run(format("/proc/%d/fd/%d", getpid(), fd));
}

static int memfd_loader(void)
{
	int fd = TRY(memfd_create("x", 0));

	TRY(copy_to_descriptor(fd, beside("dynamic")));
	return run_args((char *[]){ (char *)loader, (char *)format("/proc/self/fd/%d", fd), NULL });
}

static int memfd_script(void)
{
	int fd = TRY(memfd_create("x", 0));

	TRY(copy_to_descriptor(fd, here.program));
	TRY(put_file(in_open("script"), format("#!/proc/%d/fd/%d\n", getpid(), fd), 0777));
	return run(in_open("script"));
}

static int unnamed(void)
{
	int fd = TRY(open(here.open, O_TMPFILE | O_RDWR, 0777)), again;

	TRY(copy_to_descriptor(fd, here.program));
	again = TRY(open(format("/proc/self/fd/%d", fd), O_RDONLY));
	close(fd);
	return run_at(again, "", (char *[]){ "x", NULL }, NULL, AT_EMPTY_PATH);
}

/* The same, where it is mounted. */
static int unnamed_mounted(void)
{
	int fd = TRY(open(here.open, O_TMPFILE | O_RDWR, 0777)), again;

	TRY(copy_to_descriptor(fd, here.program));
	again = TRY(open(format("/proc/self/fd/%d", fd), O_RDONLY));
	close(fd);
	TRY(put_file(in_open("mounted"), "", 0777));
	TRY(mount(format("/proc/self/fd/%d", again), in_open("mounted"), NULL, MS_BIND, NULL));
	return run(in_open("mounted"));
}

static int deleted(void)
{
	int fd;

	TRY(copy_file(here.program, in_open("copy")));
	fd = TRY(open(in_open("copy"), O_RDONLY));
	TRY(unlink(in_open("copy")));
	return run_at(fd, "", (char *[]){ "x", NULL }, NULL, AT_EMPTY_PATH);
}

static int copied(void)
{
	TRY(copy_file(here.program, in_open("copy")));
	return run(in_open("copy"));
}

static int copied_sealed(void)
{
	TRY(copy_file(beside("sealed"), in_open("copy")));
	return run(in_open("copy"));
}

static int copied_to_shm(void)
{
	const char *to = format("/dev/shm/evade.%d", getpid());
	int result;

	TRY(copy_file(here.program, to));
	result = run(to);
	unlink(to);
	return result;
}

static int written_over_allowed(void)
{
	TRY(copy_file(here.program, format("%s/allowed", folder_of(folder_of(here.program)))));
	return run(format("%s/allowed", folder_of(folder_of(here.program))));
}

static int renamed_away(void)
{
	TRY(rename(here.program, in_open("renamed")));
	return run(in_open("renamed"));
}

static int exchanged(void)
{
	TRY(copy_file("/proc/self/exe", in_open("other")));
	TRY(syscall(SYS_renameat2, AT_FDCWD, here.program, AT_FDCWD, in_open("other"), 2));
	return run(in_open("other"));
}

static int binfmt(void)
{
	char folder[PATH_MAX];
	int result;

	TRY(new_mounts(0));
	snprintf(folder, sizeof folder, "%s", in_open("binfmt"));
	mkdir(folder, 0777);
	TRY(mount("binfmt_misc", folder, "binfmt_misc", 0, NULL));
	TRY(put_text(format("%s/register", folder), format(":ev%d:E::evade%d::%s:", getpid(), getpid(), here.program)));
	TRY(put_file(in_open(format("x.evade%d", getpid())), "x", 0777));
	result = run(in_open(format("x.evade%d", getpid())));
	put_text(format("%s/ev%d", folder, getpid()), "-1");
	return result;
}

/* The file itself opened by the kernel beforehand ("F"). */
static int binfmt_fixed(void)
{
	char folder[PATH_MAX];
	int result;

	TRY(new_mounts(0));
	snprintf(folder, sizeof folder, "%s", in_open("binfmt"));
	mkdir(folder, 0777);
	TRY(mount("binfmt_misc", folder, "binfmt_misc", 0, NULL));
	TRY(put_text(format("%s/register", folder), format(":ef%d:E::evadf%d::%s:F", getpid(), getpid(), here.program)));
	TRY(put_file(in_open(format("x.evadf%d", getpid())), "x", 0777));
	result = run(in_open(format("x.evadf%d", getpid())));
	put_text(format("%s/ef%d", folder, getpid()), "-1");
	return result;
}

/* The kernel's own helper: runs outside of every workload, in the node's mount namespace. */
static const char *on_node(void)
{
	return format("%s/node-marker", here.shared);
}

static int core_pattern(void)
{
	char before[256] = "";
	int fd = TRY(open("/proc/sys/kernel/core_pattern", O_RDWR)), result;

	TRY(read(fd, before, sizeof before - 1));
	before[strcspn(before, "\n")] = 0;
	TRY(pwrite(fd, format("|%s %s/marks/%s", on_node(), here.shared, here.name), strlen(format("|%s %s/marks/%s", on_node(), here.shared, here.name)), 0));
	if (!fork()) {
		signal(SIGSEGV, SIG_DFL);
		raise(SIGSEGV);
		_exit(0);
	}
	wait(&result);
	usleep(300000);
	pwrite(fd, before, strlen(before), 0);
	return 0;
}

static int core_pattern_second_proc(void)
{
	const char *text = format("|%s %s/marks/%s", on_node(), here.shared, here.name);
	char before[256] = "";
	int fd, result;

	TRY(new_mounts(0));
	mkdir(in_open("proc"), 0777);
	TRY(mount("proc", in_open("proc"), "proc", 0, NULL));
	fd = TRY(open(in_open("proc/sys/kernel/core_pattern"), O_RDWR));
	TRY(read(fd, before, sizeof before - 1));
	before[strcspn(before, "\n")] = 0;
	TRY(pwrite(fd, text, strlen(text), 0));
	if (!fork()) {
		raise(SIGSEGV);
		_exit(0);
	}
	wait(&result);
	usleep(300000);
	pwrite(fd, before, strlen(before), 0);
	return 0;
}

static int modprobe_path(void)
{
	/* a script in modprobe's place, which cannot take the mark's name as an argument: the node's own marker does */
	char before[256] = "";
	int fd = TRY(open("/proc/sys/kernel/modprobe", O_RDWR));
	const char *script = format("%s/modprobe.%d", here.shared, getpid());

	TRY(put_file(script, format("#!/bin/sh\n%s %s/marks/%s\n", on_node(), here.shared, here.name), 0777));
	TRY(read(fd, before, sizeof before - 1));
	before[strcspn(before, "\n")] = 0;
	TRY(pwrite(fd, script, strlen(script), 0));
	/* a protocol family that nobody has: the kernel asks for its module */
	socket(23 + getpid() % 3, SOCK_STREAM, 0);
	socket(AF_INET, SOCK_STREAM, 199);
	mount("none", in_open("."), format("fs%d", getpid()), 0, NULL);
	usleep(300000);
	pwrite(fd, before, strlen(before), 0);
	return 0;
}

static int release_agent(void)
{
	char folder[PATH_MAX];
	int result;

	TRY(new_mounts(0));
	snprintf(folder, sizeof folder, "%s", in_open("cgroup"));
	mkdir(folder, 0777);
	TRY(mount("cgroup", folder, "cgroup", 0, "rdma"));
	mkdir(format("%s/x", folder), 0777);
	TRY(put_file(format("%s/release", here.shared), format("#!/bin/sh\n%s %s/marks/%s\n", on_node(), here.shared, here.name), 0777));
	TRY(put_text(format("%s/release_agent", folder), format("%s/release", here.shared)));
	TRY(put_text(format("%s/x/notify_on_release", folder), "1"));
	if (!fork())
		_exit(put_text(format("%s/x/cgroup.procs", folder), "0"));
	wait(&result);
	usleep(300000);
	rmdir(format("%s/x", folder));
	return 0;
}

static int uevent_helper(void)
{
	TRY(put_file(format("%s/uevent", here.shared), format("#!/bin/sh\n%s %s/marks/%s\n", on_node(), here.shared, here.name), 0777));
	TRY(put_text("/sys/kernel/uevent_helper", format("%s/uevent", here.shared)));
	TRY(put_text("/sys/class/mem/null/uevent", "change"));
	return 0;
}

const struct technique run_techniques[] = {
	{ "execve", plain },
	{ "execveat of a descriptor", exec_descriptor },
	{ "execveat of an O_PATH descriptor", exec_path_descriptor },
	{ "execveat of a close-on-exec descriptor", exec_descriptor_cloexec },
	{ "/proc/self/fd", exec_proc_fd },
	{ "vfork", vforked },
	{ "posix_spawn", spawned },
	{ "exec in a thread", thread_execs },
	{ "interpreter of a script", interpreter },
	{ "chain of scripts", chain },
	{ "script", script_executed },
	{ "script read by a shell", script_in_shell },
	{ "script as a shell's input", script_input },
	{ "script sourced by a shell", shell_dot },
	{ "started by a shell", shell_execs },
	{ "ld.so", loader_runs },
	{ "ld.so and a descriptor", loader_descriptor },
	{ "ld.so --preload", loader_preload },
	{ "LD_PRELOAD", preloaded },
	{ "LD_AUDIT", audited },
	{ "executable mapping", mapped },
	{ "executable shared mapping", mapped_shared },
	{ "mapping made executable", mapped_later },
	{ "mapping made executable by pkey_mprotect", mapped_key },
	{ "mapping by READ_IMPLIES_EXEC", implied },
	{ "mapping made executable by READ_IMPLIES_EXEC", implied_later },
	{ "code in anonymous memory", code_anonymous },
	{ "code in memory made executable", code_anonymous_later },
	{ "code in a memfd mapped twice", code_memfd },
	{ "code in System V shared memory", code_shared_memory },
	{ "code on the stack", code_stack },
	{ "code in the heap", code_heap },
	{ "code in the heap by READ_IMPLIES_EXEC", code_heap_implied },
	{ "code in shared anonymous memory", code_shared },
	{ "code in a private mapping of an allowed program", code_private },
	{ "code in memory of /dev/zero", code_device },
	{ "code in io_uring's entries", code_ring },
	{ "code over its own by /proc/self/mem", code_rewritten },
	{ "memfd", memfd },
	{ "memfd, sealable", memfd_sealed },
	{ "memfd, MFD_EXEC", memfd_exec_flag },
	{ "memfd of huge pages", memfd_huge },
	{ "memfd by /proc/PID/fd", memfd_by_proc },
	{ "memfd by ld.so", memfd_loader },
	{ "memfd as a script's interpreter", memfd_script },
	{ "O_TMPFILE", unnamed },
	{ "O_TMPFILE, mounted", unnamed_mounted },
	{ "deleted copy", deleted },
	{ "copy", copied },
	{ "copy of what must not be read", copied_sealed },
	{ "copy in /dev/shm", copied_to_shm },
	{ "copy over an allowed program", written_over_allowed },
	{ "new name", renamed_away },
	{ "exchange with an allowed program", exchanged },
	{ "binfmt_misc", binfmt },
	{ "binfmt_misc, opened beforehand", binfmt_fixed },
	{ "core_pattern", core_pattern, .check = marker_left },
	{ "core_pattern of a second proc", core_pattern_second_proc, .check = marker_left },
	{ "modprobe's path", modprobe_path, .check = marker_left },
	{ "release_agent", release_agent, .check = marker_left },
	{ "uevent_helper", uevent_helper, .check = marker_left },
	{ NULL },
};
