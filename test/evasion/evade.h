// SPDX-License-Identifier: Apache-2.0
// What the groups of techniques share: the objects that must stay out of reach, and what counts as proof that they
// did not.
#ifndef EVADE_H
#define EVADE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECRET "the secret that must not be read"
#define LOCKED "the text that must not be changed"
#define MARKER "RAN"
#define NAME_SIZE 64

/* What one technique is about; every technique has objects of its own, so that none spoils another's. */
struct place {
	const char *root; /* holds all of it */
	const char *shared; /* the same folder for the workload and for the witness outside of it */
	char name[NAME_SIZE];
	char secret[PATH_MAX]; /* a file that must not be read */
	char locked[PATH_MAX]; /* a file that must not be changed */
	char closed[PATH_MAX]; /* a directory in which nothing must change, with `file` and `folder` in it */
	char program[PATH_MAX]; /* a program that must not be run */
	char open[PATH_MAX]; /* a directory where anything may be done */
	char trusted[PATH_MAX]; /* a program that alone may read the file `guarded` */
	char guarded[PATH_MAX];
};
extern struct place here;

/* Shared by all processes of a technique. */
struct proof { volatile int escaped; volatile int error; char step[64]; };
extern struct proof *proof;

/* Where a system call goes wrong, for the third column. */
#define TRY(call) ({ \
	__auto_type result_ = (call); \
	if ((long)result_ < 0 || (void *)(long)result_ == MAP_FAILED) \
		return failed(#call); \
	result_; })
int failed(const char *step);
int failed_as(const char *step, int error);

/* 0 = all calls succeeded. Whether it got through is for the proof to say. */
/* An object as a technique reaches it. */
struct object { int at; char path[2 * PATH_MAX]; };

int overlay_of(struct object *o, int flags, const char *lower, const char *rest);

struct technique {
	const char *name;
	int (*attempt)(void);
	bool (*check)(void); /* looks for proof after the attempt, from the outside */
	bool slow; /* worth more than the usual time */
};

extern const struct technique read_techniques[], write_techniques[], run_techniques[], reach_techniques[],
	leave_techniques[];
/* What an object may be called otherwise. repeated: a race, tried many times. */
struct alias { const char *name; int (*make)(struct object *); bool repeated; };
extern const struct alias aliases[];

/* --- proof --- */
int prove_read(int fd); /* the secret can be read from it */
int prove_bytes(const char *bytes, size_t length);
int read_path(int at, const char *path);
bool locked_changed(void);
bool closed_changed(void);
bool token_arrived(void);
bool marker_left(void);
/* execs in a child; proof if the marker comes out of it */
int run_at(int at, const char *path, char *const argv[], char *const envp[], int flags);
int run(const char *path);
int run_args(char *const argv[]);
/* what the child does; proof if the marker comes out of it */
int run_with(int (*child)(void *), void *argument);

/* --- small helpers --- */
const char *format(const char *text, ...) __attribute__((format(printf, 1, 2)));
const char *folder_of(const char *path);
const char *name_of(const char *path);
const char *in_open(const char *name);
int put_file(const char *path, const char *text, mode_t mode);
int copy_file(const char *from, const char *to);
int put_text(const char *path, const char *text); /* one write to a file that exists */
int new_mounts(int flags); /* a mount namespace of its own, private; CLONE_NEWUSER: with a user namespace, as root */
int in_child(int (*child)(void)); /* waits; its status is the child's answer */

/* One operation on a ring of its own. The result, or -1 with errno. */
int uring(unsigned setup, unsigned sqe_flags, struct io_uring_sqe sqe);

int witness(const char *shared);
int witness_number(const char *what, unsigned long *number);
int witness_descriptor(char which);

#endif
