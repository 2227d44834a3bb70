// SPDX-License-Identifier: Apache-2.0
// Ways out of the policy: afterwards, the secret is read by its own name.
#include "evade.h"
#include <linux/sched.h>
#include <pthread.h>
#include <sys/ptrace.h>

static int read_it(void) { return read_path(AT_FDCWD, here.secret); }

static int cloned(struct clone_args args)
{
	int status;
	long pid;

	args.exit_signal = SIGCHLD;
	pid = TRY(syscall(SYS_clone3, &args, sizeof args));
	if (!pid)
		_exit(read_it() ? 1 : 0);
	TRY(waitpid(pid, &status, __WALL));
	return status ? -1 : 0;
}

static int namespaces(unsigned long flags)
{
	return cloned((struct clone_args){ .flags = flags });
}

static int forked(void) { return in_child(read_it); }

static int forked_twice_child(void)
{
	pid_t pid = TRY(fork());

	if (!pid) {
		setsid();
		usleep(30000);
		_exit(read_it() ? 1 : 0);
	}
	return 0;
}

static int forked_twice(void)
{
	int result = in_child(forked_twice_child);

	usleep(200000);
	return result;
}

static int vforked(void)
{
	pid_t pid = vfork();

	if (!pid) {
		read_it();
		_exit(0);
	}
	return waitpid(pid, NULL, 0) < 0 ? -1 : 0;
}

static int shared_memory(void) { return cloned((struct clone_args){ .flags = CLONE_VM | CLONE_VFORK }); }
static int shared_all(void) { return cloned((struct clone_args){ .flags = CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_FS | CLONE_SYSVSEM | CLONE_IO }); }
static int untraced(void) { return namespaces(CLONE_UNTRACED); }
static int cleared(void) { return namespaces(CLONE_CLEAR_SIGHAND); }
static int user_namespace(void) { return namespaces(CLONE_NEWUSER); }
static int pid_namespace(void) { return namespaces(CLONE_NEWPID); }
static int mount_namespace(void) { return namespaces(CLONE_NEWNS); }
static int cgroup_namespace(void) { return namespaces(CLONE_NEWCGROUP); }
static int network_namespace(void) { return namespaces(CLONE_NEWNET); }
static int ipc_namespace(void) { return namespaces(CLONE_NEWIPC); }
static int host_namespace(void) { return namespaces(CLONE_NEWUTS); }
static int time_namespace_child(void) { return in_child(read_it); }
static int time_namespace(void) { TRY(unshare(0x80 /* CLONE_NEWTIME */)); return time_namespace_child(); }
static int all_namespaces(void) { return namespaces(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS); }
static int unshared_files(void) { TRY(unshare(CLONE_FS | CLONE_FILES | CLONE_SYSVSEM)); return read_it(); }

static int thread_of_parent(void)
{
	/* a sibling instead of a child */
	long pid = TRY(syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL));

	if (!pid)
		_exit(read_it() ? 1 : 0);
	usleep(200000);
	return 0;
}

static int joined(const char *what, int kind)
{
	TRY(setns(TRY(open(format("/proc/1/ns/%s", what), O_RDONLY)), kind));
	return in_child(read_it);
}

static int of_process_1(void)
{
	int root = TRY(open("/", O_PATH));

	TRY(unshare(CLONE_FS));
	TRY(setns(TRY(syscall(SYS_pidfd_open, 1, 0)), CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP));
	return read_path(root, here.secret + 1);
}

static int join_cgroup(void) { return joined("cgroup", CLONE_NEWCGROUP); }
static int join_pid(void) { return joined("pid", CLONE_NEWPID); }
static int join_net(void) { return joined("net", CLONE_NEWNET); }
static int join_uts(void) { return joined("uts", CLONE_NEWUTS); }

/* cgroup v2, of the node's first process where it can be seen, mounted here if it is not. */
static const char *cgroups(void)
{
	if (!access("/sys/fs/cgroup/cgroup.procs", W_OK))
		return "/sys/fs/cgroup";
	if (!access("/proc/1/root/sys/fs/cgroup/cgroup.procs", W_OK))
		return "/proc/1/root/sys/fs/cgroup";
	new_mounts(0);
	mkdir(in_open("cgroup"), 0777);
	mount("cgroup2", in_open("cgroup"), "cgroup2", 0, NULL);
	return in_open("cgroup");
}

static int moved(void)
{
	TRY(put_text(format("%s/cgroup.procs", cgroups()), "0"));
	return read_it();
}

static int moved_new(void)
{
	const char *to = format("%s/evade.%d", cgroups(), getpid());
	int result;

	TRY(mkdir(to, 0755));
	TRY(put_text(format("%s/cgroup.procs", to), "0"));
	result = in_child(read_it);
	put_text(format("%s/../cgroup.procs", to), "0");
	rmdir(to);
	return result;
}

static int exec_self(void *unused)
{
	return execl("/proc/self/exe", "evade", "-read", here.secret, NULL);
}

static int moved_exec(void)
{
	TRY(put_text(format("%s/cgroup.procs", cgroups()), "0"));
	return run_with(exec_self, NULL);
}

static int born_elsewhere(void)
{
	int fd = TRY(open(cgroups(), O_RDONLY | O_DIRECTORY));

	return cloned((struct clone_args){ .flags = 0x200000000ull /* CLONE_INTO_CGROUP */, .cgroup = fd });
}

static int born_elsewhere_exec(void)
{
	int fd = TRY(open(cgroups(), O_RDONLY | O_DIRECTORY)), status;
	struct clone_args args = { .flags = 0x200000000ull, .cgroup = fd, .exit_signal = SIGCHLD };
	long pid = TRY(syscall(SYS_clone3, &args, sizeof args));

	if (!pid)
		_exit(run_with(exec_self, NULL) ? 1 : 0);
	TRY(waitpid(pid, &status, 0));
	return status ? -1 : 0;
}

static int renamed_cgroup(void)
{
	char line[PATH_MAX] = "";
	int fd = TRY(open("/proc/self/cgroup", O_RDONLY));
	const char *own;

	TRY(read(fd, line, sizeof line - 1));
	line[strcspn(line, "\n")] = 0;
	own = format("%s%s/evade.%d", cgroups(), strncmp(line, "0::", 3) ? "" : line + 3, getpid());
	TRY(mkdir(own, 0755));
	TRY(put_text(format("%s/cgroup.procs", own), "0"));
	return in_child(read_it);
}

static int executed(void) { return run_with(exec_self, NULL); }

static int exec_memfd(void *unused)
{
	int fd = memfd_create("evade", 0);

	if (copy_file("/proc/self/exe", format("/proc/self/fd/%d", fd)))
		return -1;
	return syscall(SYS_execveat, fd, "", (char *[]){ "evade", "-read", here.secret, NULL }, environ, AT_EMPTY_PATH);
}

static int executed_memfd(void) { return run_with(exec_memfd, NULL); }

static int deep_forks(void)
{
	for (int i = 0; i < 60; i++) {
		pid_t pid = fork();

		if (pid < 0)
			return failed("fork");
		if (pid) {
			waitpid(pid, NULL, 0);
			_exit(0);
		}
	}
	read_it();
	return 0;
}

static int many_forks(void)
{
	for (int i = 0; i < 100; i++) {
		pid_t pid = fork();

		if (!pid) {
			read_it();
			_exit(0);
		}
	}
	while (wait(NULL) > 0)
		;
	return 0;
}

static void *read_in_thread(void *unused) { return (void *)(long)read_it(); }

static int many_threads(void)
{
	pthread_t threads[100];
	int n = 0;

	for (; n < 100; n++)
		if (pthread_create(&threads[n], NULL, read_in_thread, NULL))
			break;
	while (n--)
		pthread_join(threads[n], NULL);
	return 0;
}

static int exec_from_thread_child(void *unused)
{
	pthread_t thread;

	pthread_create(&thread, NULL, (void *(*)(void *))exec_self, NULL);
	pause();
	return -1;
}

static int exec_from_thread(void) { return run_with(exec_from_thread_child, NULL); }

/* A process of the workload that waits in the node's hands: the parent is gone. */
static int reaper_child(void)
{
	if (fork())
		_exit(0);
	usleep(100000);
	return read_it();
}

static int reparented(void)
{
	int result = in_child(reaper_child);

	usleep(300000);
	return result;
}

static int other_user(void)
{
	TRY(setresuid(12345, 12345, 12345));
	return read_it();
}

static int no_new_privileges(void)
{
	TRY(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	return read_it();
}

static int secure_computing(void)
{
	/* a filter that lets everything pass */
	struct { unsigned short code; unsigned char jt, jf; unsigned k; } filter[] = { { 6, 0, 0, 0x7fff0000 } };
	struct { unsigned short length; void *filter; } program = { 1, filter };

	TRY(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	TRY(prctl(PR_SET_SECCOMP, 2, &program));
	return read_it();
}

static int old_personality(void)
{
	TRY(syscall(SYS_personality, 8 /* PER_LINUX32 */));
	return read_it();
}

static int dumpable_off(void)
{
	TRY(prctl(PR_SET_DUMPABLE, 0));
	return read_it();
}

/* A process outside is made to read for us, by code put into its memory. */
static int memory_of_outside(void)
{
	unsigned long pid, address, word;
	int status;

	TRY(witness_number("pid", &pid));
	TRY(witness_number("memory", &address));
	TRY(ptrace(PTRACE_SEIZE, pid, 0, 0));
	TRY(ptrace(PTRACE_INTERRUPT, pid, 0, 0));
	TRY(waitpid(pid, &status, __WALL));
	word = ptrace(PTRACE_PEEKDATA, pid, address, 0);
	if (!memcmp(&word, SECRET, sizeof word) && !ptrace(PTRACE_POKEDATA, pid, address, word))
		proof->escaped = 1;
	ptrace(PTRACE_DETACH, pid, 0, 0);
	return 0;
}

const struct technique leave_techniques[] = {
	{ "fork", forked },
	{ "fork twice and a session of its own", forked_twice },
	{ "vfork", vforked },
	{ "clone with shared memory", shared_memory },
	{ "clone with everything shared", shared_all },
	{ "CLONE_UNTRACED", untraced },
	{ "CLONE_CLEAR_SIGHAND", cleared },
	{ "CLONE_PARENT", thread_of_parent },
	{ "parent that ends", reparented },
	{ "sixty generations", deep_forks },
	{ "hundred children at once", many_forks },
	{ "hundred threads at once", many_threads },
	{ "user namespace", user_namespace },
	{ "pid namespace", pid_namespace },
	{ "mount namespace", mount_namespace },
	{ "cgroup namespace", cgroup_namespace },
	{ "network namespace", network_namespace },
	{ "IPC namespace", ipc_namespace },
	{ "UTS namespace", host_namespace },
	{ "time namespace", time_namespace },
	{ "all namespaces", all_namespaces },
	{ "unshared files", unshared_files },
	{ "cgroup namespace of process 1", join_cgroup },
	{ "pid namespace of process 1", join_pid },
	{ "network namespace of process 1", join_net },
	{ "UTS namespace of process 1", join_uts },
	{ "all namespaces of process 1", of_process_1 },
	{ "root cgroup", moved },
	{ "root cgroup, then exec", moved_exec },
	{ "new cgroup", moved_new },
	{ "CLONE_INTO_CGROUP", born_elsewhere },
	{ "CLONE_INTO_CGROUP, then exec", born_elsewhere_exec },
	{ "new cgroup below its own", renamed_cgroup },
	{ "exec of itself", executed },
	{ "exec of a copy in memory", executed_memfd },
	{ "exec in a thread", exec_from_thread },
	{ "another user", other_user },
	{ "no new privileges", no_new_privileges },
	{ "seccomp", secure_computing },
	{ "personality", old_personality },
	{ "not dumpable", dumpable_off },
	{ "ptrace of a process outside", memory_of_outside },
	{ NULL },
};
