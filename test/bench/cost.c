// SPDX-License-Identifier: Apache-2.0
// What one operation costs: does it many times and prints the median, in the clock's nanoseconds, which under QEMU's
// icount are instructions.   cost OPERATION COUNT PATH [uncached]
// fork+exec: CPU time of both processes, to the microsecond.
// uncached: renames a file of its own before each measured operation, which empties every verdict cache.
//   cost stay COUNT   starts so many programs that stay, then says "ready"
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *path;
static int fd, server, client, flip;
static struct sockaddr_in to = { .sin_family = AF_INET };

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static long long (*clock_now)(void) = now;

static void do_open(void)
{
	int f = open(path, O_RDONLY);

	if (f < 0)
		die(path);
	close(f);
}

static void do_read(void)
{
	char byte;

	if (pread(fd, &byte, 1, 0) < 0)
		die("pread");
}

static void do_create(void)
{
	char name[4200];

	snprintf(name, sizeof name, "%s.new", path);
	close(open(name, O_CREAT | O_WRONLY, 0600));
	if (unlink(name))
		die(name);
}

/* CPU time of this process and of children it has waited for: waiting for one lets the clock jump. */
static long long cpu(void)
{
	struct rusage r;
	struct timespec t;

	getrusage(RUSAGE_CHILDREN, &r);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec + (r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000000ll +
	       (r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1000ll;
}

static void do_exec(void)
{
	char *argv[] = { "/proc/self/exe", NULL };
	pid_t pid = vfork();

	if (!pid) {
		execv(argv[0], argv);
		_exit(1);
	}
	waitpid(pid, NULL, 0);
}

static void do_connect(void)
{
	int s = socket(AF_INET, SOCK_STREAM, 0), a;

	if (connect(s, (void *)&to, sizeof to))
		die("connect");
	a = accept(server, NULL, NULL);
	close(a);
	close(s);
}

static void do_send(void)
{
	char byte = 0;

	if (sendto(client, &byte, 1, 0, (void *)&to, sizeof to) != 1 || recv(server, &byte, 1, 0) != 1)
		die("sendto");
}

static void listen_at(int type)
{
	socklen_t length = sizeof to;

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	server = socket(AF_INET, type, 0);
	if (bind(server, (void *)&to, sizeof to) || (type == SOCK_STREAM && listen(server, 16)) ||
	    getsockname(server, (void *)&to, &length))
		die("listen");
	client = socket(AF_INET, type, 0);
}

static void stir(void)
{
	char from[4200], other[4200];

	snprintf(from, sizeof from, "/tmp/stir.%d.%d", getpid(), flip);
	flip = !flip;
	snprintf(other, sizeof other, "/tmp/stir.%d.%d", getpid(), flip);
	if (rename(from, other))
		die("rename");
}

static int compare(const void *a, const void *b)
{
	long long x = *(long long *)a, y = *(long long *)b;

	return x < y ? -1 : x > y;
}

static int stay(int count)
{
	for (int i = 0; i < count; i++)
		switch (fork()) {
		case -1:
			die("fork");
		case 0:
			execl("/proc/self/exe", "stay", "here", NULL);
			die("exec");
		}
	puts("ready");
	fflush(stdout);
	return pause();
}

int main(int argc, char **argv)
{
	void (*operation)(void) = NULL;
	long long *times, begin, empty;
	int count, uncached;
	char name[4200];

	if (argc == 2)
		return pause(); /* as a program that stays */
	if (argc == 3)
		return stay(atoi(argv[2]));
	if (argc < 4)
		return 0; /* as the program that do_exec runs */
	path = argv[3];
	count = atoi(argv[2]);
	uncached = argc > 4;
	if (!strcmp(argv[1], "open"))
		operation = do_open;
	if (!strcmp(argv[1], "read")) {
		operation = do_read;
		fd = open(path, O_RDONLY);
	}
	if (!strcmp(argv[1], "create"))
		operation = do_create;
	if (!strcmp(argv[1], "exec")) {
		operation = do_exec;
		clock_now = cpu;
	}
	if (!strcmp(argv[1], "connect")) {
		operation = do_connect;
		listen_at(SOCK_STREAM);
	}
	if (!strcmp(argv[1], "send")) {
		operation = do_send;
		listen_at(SOCK_DGRAM);
	}
	if (!operation)
		return 2;
	if (uncached) {
		snprintf(name, sizeof name, "/tmp/stir.%d.0", getpid());
		close(open(name, O_CREAT | O_WRONLY, 0600));
	}
	times = calloc(count, sizeof *times);
	for (int i = -8; i < count; i++) {
		if (uncached)
			stir();
		begin = clock_now();
		operation();
		if (i >= 0)
			times[i] = clock_now() - begin;
	}
	qsort(times, count, sizeof *times, compare);
	begin = clock_now();
	empty = clock_now() - begin;
	printf("%lld\n", times[count / 2] - empty);
	return 0;
}
