// SPDX-License-Identifier: Apache-2.0
// Tries to get around a policy, from inside of the workload that it is for.
//
//   evade setup  -e ROOT -s SHARED         makes the objects, before there is a policy (as root)
//   evade policy -e ROOT -s SHARED         prints what must be denied, as the rules of a Belay policy
//   evade list   -e ROOT -s SHARED         the same as words: KIND<TAB>PATH or ADDRESS, for another agent's policy
//   evade witness -s SHARED                stays: the process outside, with the listeners
//   evade run    -e ROOT -s SHARED [-u UID] [-c CONTROL] [-g GROUP] [-t TECHNIQUE]
//
// ROOT is a folder of the workload's own, SHARED one that it and the witness both have by the same name. `run` prints
// technique<TAB>result<TAB>reason. Without -c: `escaped` with proof, else `blocked`. CONTROL is what a run printed without
// a policy: what did not get through even there is `n/a` with that run's reason.
#include "evade.h"
#include <grp.h>
#include <time.h>

struct place here;
struct proof *proof;

enum { READ, WRITE, RUN, REACH, LEAVE, GROUPS };
static const char *const group_names[] = { "read", "write", "run", "reach", "leave" };
static const struct technique *const groups[] = { read_techniques, write_techniques, run_techniques, reach_techniques, leave_techniques };

/* One technique, or a use of an alias. */
struct entry { int group, number; char name[160]; const struct technique *technique; const struct alias *alias; };

static unsigned run_number; /* so that no run takes another's marks for its own */

static void place_it(const struct entry *e)
{
	const char *base = format("%s/%s/%d", here.root, group_names[e->group], e->number);

	snprintf(here.name, sizeof here.name, "%s-%d-%08x", group_names[e->group], e->number, run_number);
	snprintf(here.secret, sizeof here.secret, "%s/a/b/file", base);
	memcpy(here.locked, here.secret, sizeof here.locked);
	memcpy(here.program, here.secret, sizeof here.program);
	snprintf(here.closed, sizeof here.closed, "%s/closed", base);
	snprintf(here.open, sizeof here.open, "%s/open", base);
	snprintf(here.trusted, sizeof here.trusted, "%s/t/trusted", base);
	snprintf(here.guarded, sizeof here.guarded, "%s/a/guarded", base);
}

static void each(void (*what)(const struct entry *))
{
	for (int group = 0; group < GROUPS; group++) {
		struct entry e = { .group = group };

		if (group <= RUN)
			for (e.alias = aliases; e.alias->name; e.alias++, e.number++) {
				snprintf(e.name, sizeof e.name, "%s/by %s", group_names[group], e.alias->name);
				place_it(&e);
				what(&e);
			}
		e.alias = NULL;
		for (e.technique = groups[group]; e.technique->name; e.technique++, e.number++) {
			snprintf(e.name, sizeof e.name, "%s/%s", group_names[group], e.technique->name);
			place_it(&e);
			what(&e);
		}
	}
}

static bool has_trusted(const struct entry *e) { return e->group == READ && strstr(e->name, "trusted"); }

/* --- setup --- */

static void must(int result, const char *what)
{
	if (result < 0) {
		fprintf(stderr, "evade: %s: %s\n", what, strerror(errno));
		exit(1);
	}
}

static void folders(const char *path)
{
	char part[PATH_MAX];

	for (const char *c = path + 1;; c++) {
		if (*c && *c != '/')
			continue;
		snprintf(part, sizeof part, "%.*s", (int)(c - path), path);
		if (mkdir(part, 0777) && errno != EEXIST)
			must(-1, part);
		if (!*c)
			return;
	}
}

static const char *programs; /* where the marker lies */

static void owned(const char *path)
{
	must(chown(path, 1000, 1000), path);
}

static void set_up(const struct entry *e)
{
	struct timespec times[2] = { { 1000, 0 }, { 1000, 0 } };

	folders(here.open);
	chmod(here.open, 0777);
	owned(here.open);
	if (e->group == REACH)
		return;
	folders(folder_of(here.secret));
	if (e->group == READ || e->group == LEAVE) {
		must(put_file(here.secret, SECRET, 0666), here.secret);
		must(truncate(here.secret, 4096), here.secret); /* as much as a loop device needs */
	} else if (e->group == WRITE) {
		must(put_file(here.locked, LOCKED, 0666), here.locked);
		folders(format("%s/folder", here.closed));
		must(put_file(format("%s/file", here.closed), LOCKED, 0666), here.closed);
		must(link(format("%s/file", here.closed), format("%s/closed-earlier", here.open)), "link");
		owned(here.closed);
		owned(format("%s/file", here.closed));
		owned(format("%s/folder", here.closed));
	} else {
		must(copy_file(format("%s/marker", programs), here.program), here.program);
		if (e->technique) {
			must(copy_file(format("%s/marker-dynamic", programs), format("%s/dynamic", folder_of(here.program))), "dynamic");
			must(copy_file(format("%s/marker-library", programs), format("%s/library", folder_of(here.program))), "library");
			must(copy_file(format("%s/marker", programs), format("%s/sealed", folder_of(here.program))), "sealed");
			must(put_file(format("%s/script", folder_of(here.program)), "#!/bin/sh\necho RAN\n", 0777), "script");
			must(copy_file(format("%s/harmless", programs), format("%s/allowed", folder_of(folder_of(here.program)))), "allowed");
			owned(format("%s/allowed", folder_of(folder_of(here.program))));
		}
	}
	owned(here.secret);
	owned(folder_of(here.secret));
	owned(folder_of(folder_of(here.secret)));
	owned(folder_of(folder_of(folder_of(here.secret))));
	must(link(here.secret, format("%s/earlier", here.open)), "link");
	must(utimensat(AT_FDCWD, here.secret, times, 0), "utimensat");
	if (has_trusted(e)) {
		folders(folder_of(here.trusted));
		must(copy_file("/proc/self/exe", here.trusted), here.trusted);
		must(put_file(here.guarded, SECRET, 0666), here.guarded);
		owned(here.trusted);
		owned(folder_of(here.trusted));
		owned(here.guarded);
	}
}

static void set_up_all(void)
{
	umask(0);
	folders(format("%s/held", here.shared));
	chmod(here.shared, 0777);
	folders(format("%s/marks", here.shared));
	must(put_file(format("%s/held/file", here.shared), SECRET, 0666), "held");
	must(put_file(format("%s/held/locked", here.shared), LOCKED, 0666), "held");
	must(copy_file(format("%s/marker", programs), format("%s/node-marker", here.shared)), "node-marker");
	folders(format("%s/bin", here.root));
	must(copy_file(format("%s/harmless-dynamic", programs), format("%s/bin/dynamic", here.root)), "dynamic");
	each(set_up);
}

/* --- what must be denied --- */

static bool as_rules;
static const char *rule_kind;

static void rule(const char *kind, const char *path, const char *how)
{
	if (!as_rules)
		printf("%s\t%s\n", kind, path);
	else if (!strcmp(kind, rule_kind))
		printf("  - {path: \"%s\"%s}\n", path, how);
}

static void forbid(const struct entry *e)
{
	if (e->group == READ || e->group == LEAVE)
		rule("read", here.secret, "");
	if (e->group == WRITE)
		rule("write", here.locked, ", readOnly: true");
	if (e->group == RUN) {
		rule("run", here.program, "");
		if (e->technique) {
			for (const char **name = (const char *[]){ "dynamic", "library", "script", "sealed", NULL }; *name; name++)
				rule("run", format("%s/%s", folder_of(here.program), *name), "");
			rule("read", format("%s/script", folder_of(here.program)), "");
			rule("read", format("%s/sealed", folder_of(here.program)), "");
		}
	}
	if (has_trusted(e)) {
		rule("read", here.guarded, "");
		rule("read", here.guarded, format(", action: Allow, fromSource: [{path: \"%s\"}]", here.trusted));
	}
}

static void forbid_folder(const struct entry *e)
{
	if (e->group == WRITE && e->technique)
		printf("  - {dir: \"%s/\", recursive: true, readOnly: true}\n", here.closed);
}

static void print_policy(void)
{
	as_rules = true;
	printf("action: Block\nfile:\n  matchPaths:\n");
	rule_kind = "read";
	each(forbid);
	rule("read", format("%s/held/file", here.shared), "");
	rule("read", format("%s/forbidden.sock", here.shared), "");
	rule("read", format("%s/forbidden.dgram", here.shared), "");
	rule_kind = "write";
	each(forbid);
	rule("write", format("%s/held/locked", here.shared), ", readOnly: true");
	rule("write", "/proc/sys/kernel/core_pattern", ", readOnly: true");
	rule("write", "/proc/sys/kernel/modprobe", ", readOnly: true");
	rule("write", "/sys/kernel/uevent_helper", ", readOnly: true");
	printf("  matchDirectories:\n");
	each(forbid_folder);
	printf("process:\n  matchPaths:\n");
	rule_kind = "run";
	each(forbid);
	printf("presets: [{name: filelessExec}, {name: anonymousMapExec}]\n");
	/* processes outside, and what the kernel starts by itself */
	printf("escape:\n  matchOperations: [{operation: ptrace}, {operation: kernel_interface}]\n");
	printf("network:\n  egress:\n"
	       "  - {to: [{cidr: 127.0.0.66/32}, {cidr: \"fd00:bad::1/128\"}]}\n"
	       "  - {to: [{cidr: 127.0.0.1/32}, {cidr: \"::1/128\"}], ports: [{port: 7778}]}\n"
	       "  ingress:\n"
	       "  - {from: [{cidr: 127.0.0.77/32}], ports: [{port: 7792}, {port: 7793}, {port: 7794, protocol: UDP}, {port: 7795, protocol: SCTP}]}\n"
	       "  - {ports: [{port: 7790}, {port: 7790, protocol: UDP}]}\n");
}

/* --- running --- */

static const char *only_group, *only_technique, *control;
static int as_user;

static int use(const struct alias *alias, int group)
{
	struct object o = { .at = AT_FDCWD };
	int result = -1;

	memcpy(o.path, here.secret, sizeof here.secret);
	if (alias->make(&o))
		return proof->error ? -1 : failed("alias");
	for (int i = 0; i < (alias->repeated ? group == RUN ? 20 : 500 : 1) && !proof->escaped; i++) {
		proof->error = 0;
		if (group == READ) {
			result = read_path(o.at, o.path);
		} else if (group == WRITE) {
			int fd = openat(o.at, o.path, O_WRONLY | O_CLOEXEC);

			result = fd < 0 ? failed("openat") : write(fd, "X", 1) < 0 ? failed("write") : 0;
			if (fd >= 0)
				close(fd);
		} else {
			result = run_at(o.at, o.path, (char *[]){ "x", NULL }, NULL, 0);
		}
	}
	return result;
}

static void become(int uid)
{
	must(setgroups(0, NULL), "setgroups");
	must(setresgid(uid, uid, uid), "setresgid");
	must(setresuid(uid, uid, uid), "setresuid");
	prctl(PR_SET_DUMPABLE, 1);
}

/* Whatever a technique left behind has become our child. */
static void end_children(void)
{
	for (int i = 0; i < 100; i++) {
		char text[4096] = "", *at = text;
		int fd = open(format("/proc/self/task/%d/children", getpid()), O_RDONLY | O_CLOEXEC);

		if (fd >= 0) {
			if (read(fd, text, sizeof text - 1) < 0)
				text[0] = 0;
			close(fd);
		}
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (!*text)
			return;
		while (*at) {
			long pid = strtol(at, &at, 10);

			if (pid > 0)
				kill(pid, SIGKILL);
			while (*at == ' ')
				at++;
		}
		usleep(2000);
	}
}

/* What the control run said about a technique: true = it got through. */
static bool worked(const char *name, char *reason, size_t size)
{
	char line[512];
	FILE *f = fopen(control, "re");
	bool found = false, escaped = false;

	while (f && !found && fgets(line, sizeof line, f)) {
		char *result = strchr(line, '\t'), *why;

		if (!result)
			continue;
		*result++ = 0;
		result[strcspn(result, "\n")] = 0;
		if (strcmp(line, name))
			continue;
		found = true;
		escaped = !strncmp(result, "escaped", 7);
		why = strchr(result, '\t');
		snprintf(reason, size, "%s", why ? why + 1 : "");
	}
	if (f)
		fclose(f);
	return escaped;
}

static void run_one(const struct entry *e)
{
	bool (*check)(void) = e->alias ? e->group == WRITE ? locked_changed : NULL : e->technique->check;
	bool slow = e->alias ? e->alias->repeated : e->technique->slow, escaped;
	char reason[128] = "", before[128] = "";
	int status = 0, patience = slow ? 8000 : 4000;
	pid_t pid;

	if ((only_group && strcmp(only_group, group_names[e->group])) || (only_technique && !strstr(e->name, only_technique)))
		return;
	if (control && !worked(e->name, before, sizeof before)) {
		printf("%s\tn/a\t%s\n", e->name, before);
		fflush(stdout);
		return;
	}
	memset(proof, 0, sizeof *proof);
	pid = fork();
	if (!pid) {
		setsid();
		umask(0);
		signal(SIGPIPE, SIG_IGN);
		if (as_user)
			become(as_user);
		_exit((e->alias ? use(e->alias, e->group) : e->technique->attempt()) ? 1 : 0);
	}
	for (;;) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			break;
		if (patience <= 0) {
			snprintf(reason, sizeof reason, "time ran out");
			kill(-pid, SIGKILL);
			waitpid(pid, &status, 0);
			break;
		}
		usleep(1000);
		patience -= 1;
	}
	escaped = proof->escaped || (check && check());
	end_children();
	umount2(format("%s/bind", here.open), MNT_DETACH);
	umount2(here.locked, MNT_DETACH);
	umount2(folder_of(here.locked), MNT_DETACH);
	if (escaped)
		reason[0] = 0;
	else if (proof->error)
		snprintf(reason, sizeof reason, "%s: %s", proof->step, strerrorname_np(proof->error) ?: "?");
	else if (WIFSIGNALED(status) && !reason[0])
		snprintf(reason, sizeof reason, "killed by signal %d", WTERMSIG(status));
	else if (!reason[0])
		snprintf(reason, sizeof reason, "no effect");
	printf("%s\t%s\t%s\n", e->name, escaped ? "escaped" : "blocked", reason);
	fflush(stdout);
}

static void name_it(const struct entry *e)
{
	printf("%s\n", e->name);
}

/* Programs that others start: the trusted one, and itself after an exec. */
static int read_and_say(const char *path)
{
	char bytes[64] = "";
	int fd = open(path, O_RDONLY);

	if (fd < 0 || read(fd, bytes, sizeof bytes) < 0 || strncmp(bytes, SECRET, strlen(SECRET)))
		return 1;
	puts(MARKER);
	return 0;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	struct timespec now;
	int option;

	if (!strcmp(verb, "-read") && argc > 2)
		return read_and_say(argv[2]);
	optind = 2;
	here.root = "/e";
	here.shared = "/shared";
	while ((option = getopt(argc, argv, "e:s:u:c:g:t:p:")) > 0) {
		switch (option) {
		case 'e': here.root = optarg; break;
		case 's': here.shared = optarg; break;
		case 'u': as_user = atoi(optarg); break;
		case 'c': control = optarg; break;
		case 'g': only_group = optarg; break;
		case 't': only_technique = optarg; break;
		case 'p': programs = optarg; break;
		default: return 2;
		}
	}
	clock_gettime(CLOCK_REALTIME, &now);
	run_number = now.tv_sec << 8 ^ now.tv_nsec ^ getpid();
	proof = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!strcmp(verb, "setup")) {
		if (!programs)
			programs = strdup(folder_of(argv[0]));
		set_up_all();
	} else if (!strcmp(verb, "policy")) {
		print_policy();
	} else if (!strcmp(verb, "list")) {
		each(forbid);
	} else if (!strcmp(verb, "names")) {
		each(name_it);
	} else if (!strcmp(verb, "witness")) {
		return witness(here.shared);
	} else if (!strcmp(verb, "run")) {
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		each(run_one);
	} else {
		fputs("usage: evade setup|policy|list|names|witness|run -e ROOT -s SHARED ...: see main.c\n", stderr);
		return 2;
	}
	return 0;
}
