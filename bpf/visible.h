/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What workloads do that passes and that no rule reports: telemetry of those that are visible. Programs of their own, behind
 * the security modules' hooks, attached only while a workload wants them: verdicts, and what they cost, stay what they are.
 * Repeats are folded as those of alerts are; what finds no room is counted. All of it fails towards not telling.
 */
#ifndef BELAY_VISIBLE_H
#define BELAY_VISIBLE_H

#include "lifecycle.h"
#include "network.h"

/* An operation on what is, or will be, at dentry. A structure, since a global function may be given no kernel pointers. */
struct watched {
	u64 dentry;
	u64 mount;
	u32 operation;
	u32 decide; /* DECIDE_READ or DECIDE_WRITE */
};

/* Global, so that a program is small. */
__noinline int watch_file(struct watched *f)
{
	u64 dentry, mount;
	u32 decide;
	struct caller c = {};
	enum standing standing;
	struct scratch *s;

	if (!f || !find_visible(&c, VISIBLE_FILE) || was_told(c.subject, TOLD(f->operation, true)))
		return 0;
	dentry = f->dentry;
	mount = f->mount;
	decide = f->decide;
	standing = standing_of(mount, (u64)PEEK(dentry, dentry, d_inode), dentry, decide);
	if (standing == STANDING_IGNORED)
		return 0;
	s = take_scratch();
	if (!s)
		return 0;
	set_question(s, &c, DOMAIN_FILE, decide, f->operation);
	name_object(s, dentry, mount);
	if (standing == STANDING_UNNAMED && s->off == NAME_MAX_BYTES - 1)
		name_alone(s, dentry);
	if (standing == STANDING_UNNAMED || s->flags != WALK_DONE)
		s->event_flags |= EVENT_UNNAMED;
	report_visible(s, c.subject, c.workload);
	give_scratch(s);
	return 0;
}

SEC("fexit/security_file_open")
int BPF_PROG(file_opened, struct file *file, int denied)
{
	struct watched f = { (u64)file->f_path.dentry, (u64)real_mount(file->f_path.mnt), OPERATION_OPEN };

	/* what exec opens is told of as a program that starts */
	if (denied || file->f_mode & FMODE_LAYER || file->f_flags & FMODE_EXEC_FLAG)
		return 0;
	f.decide = file->f_mode & FMODE_WRITE ? DECIDE_WRITE : DECIDE_READ;
	return watch_file(&f);
}

static __always_inline int watch_change(const struct path *in, struct dentry *dentry, u32 operation)
{
	struct watched f = { (u64)dentry, (u64)real_mount(BPF_CORE_READ(in, mnt)), operation, DECIDE_WRITE };

	return watch_file(&f);
}

/* Behind a hook that is given a directory and what is in it; the hook's other arguments are before `denied`. */
#define WATCH_IN(name, function, operation, ...) \
	SEC("fexit/" #function) \
	int BPF_PROG(name, const struct path *dir, struct dentry *dentry, ##__VA_ARGS__, int denied) \
	{ \
		return denied ? 0 : watch_change(dir, dentry, operation); \
	}

#define WATCH_OF(name, function, operation, ...) \
	SEC("fexit/" #function) \
	int BPF_PROG(name, const struct path *path, ##__VA_ARGS__, int denied) \
	{ \
		return denied ? 0 : watch_change(path, BPF_CORE_READ(path, dentry), operation); \
	}

WATCH_IN(file_created, security_path_mknod, OPERATION_CREATE, unsigned short mode, unsigned int dev)
WATCH_IN(file_unlinked, security_path_unlink, OPERATION_UNLINK)
WATCH_IN(dir_made, security_path_mkdir, OPERATION_MKDIR, unsigned short mode)
WATCH_IN(dir_removed, security_path_rmdir, OPERATION_RMDIR)
WATCH_IN(symlink_made, security_path_symlink, OPERATION_SYMLINK, const char *target)
WATCH_OF(mode_changed, security_path_chmod, OPERATION_CHMOD, unsigned short mode)
WATCH_OF(owner_changed, security_path_chown, OPERATION_CHOWN, u64 uid, u64 gid)
WATCH_OF(file_truncated, security_path_truncate, OPERATION_TRUNCATE)

/* By the name that it had. */
SEC("fexit/security_path_rename")
int BPF_PROG(file_renamed, const struct path *old_dir, struct dentry *old, const struct path *new_dir, struct dentry *new,
	     unsigned int flags, int denied)
{
	return denied ? 0 : watch_change(old_dir, old, OPERATION_RENAME);
}

SEC("fexit/security_path_link")
int BPF_PROG(file_linked, struct dentry *old, const struct path *dir, struct dentry *new, int denied)
{
	return denied ? 0 : watch_change(dir, old, OPERATION_LINK);
}

/* Tells of what a socket is and where it goes. */
__noinline int watch_traffic(struct traffic *n)
{
	struct caller c = {};
	struct scratch *s;

	if (!n || !find_visible(&c, VISIBLE_NETWORK) || was_told(c.subject, TOLD(n->operation, false)))
		return 0;
	s = take_scratch();
	if (!s)
		return 0;
	set_question(s, &c, DOMAIN_SOCKET, DECIDE_OTHER, n->operation);
	s->kind = n->kind;
	s->protocol = n->protocol;
	s->family = n->peer.family;
	s->port = n->peer.port;
	__builtin_memcpy(s->address, n->peer.bytes, sizeof(s->address));
	/* what repeats is told from other things by this */
	put_bytes(s, n, sizeof(*n));
	report_visible(s, c.subject, c.workload);
	give_scratch(s);
	return 0;
}

SEC("fexit/security_socket_create")
int BPF_PROG(socket_created, int family, int type, int protocol, int kern, int denied)
{
	struct traffic n = { .operation = OPERATION_SOCKET };

	if (denied || kern)
		return 0;
	n.kind = socket_kind(family, type & 0xf, protocol);
	n.protocol = address_protocol(family, protocol, type & 0xf);
	return watch_traffic(&n);
}

/* A call that has an address. */
static __always_inline int watch_address(struct socket *sock, const void *address, u32 length, u32 operation)
{
	struct traffic n = { .operation = operation };

	describe_socket(&n, sock);
	read_endpoint(&n.peer, address, length, AF_UNSPEC);
	return watch_traffic(&n);
}

SEC("fexit/security_socket_connect")
int BPF_PROG(socket_connected, struct socket *sock, struct sockaddr *address, int length, int denied)
{
	return denied ? 0 : watch_address(sock, address, length, OPERATION_CONNECT);
}

SEC("fexit/security_socket_bind")
int BPF_PROG(socket_bound, struct socket *sock, struct sockaddr *address, int length, int denied)
{
	return denied ? 0 : watch_address(sock, address, length, OPERATION_BIND);
}

/* To somebody in particular; who is connected has been told of. */
SEC("fexit/security_socket_sendmsg")
int BPF_PROG(socket_sent, struct socket *sock, struct msghdr *msg, int size, int denied)
{
	const void *address = BPF_CORE_READ(msg, msg_name);

	return denied || !address ? 0 : watch_address(sock, address, BPF_CORE_READ(msg, msg_namelen), OPERATION_SEND);
}

SEC("fexit/security_socket_listen")
int BPF_PROG(socket_listens, struct socket *sock, int backlog, int denied)
{
	struct traffic n = { .operation = OPERATION_LISTEN };

	if (denied)
		return 0;
	describe_socket(&n, sock);
	n.peer.port = BPF_CORE_READ(sock, sk, __sk_common.skc_num);
	return watch_traffic(&n);
}

/* Once there is a peer. What is behind the two sockets has changed with 6.10. */
SEC("fexit/inet_accept")
int socket_accepted(u64 *ctx)
{
	struct traffic n = { .operation = OPERATION_ACCEPT };
	struct socket *sock = (void *)ctx[1];
	u64 failed = 0;

	if (bpf_get_func_ret(ctx, &failed) || (int)failed)
		return 0;
	describe_socket(&n, sock);
	if (BPF_CORE_READ(sock, sk, __sk_common.skc_family) == AF_INET) {
		set_ipv4(&n.peer, BPF_CORE_READ(sock, sk, __sk_common.skc_daddr));
	} else {
		struct in6_addr a;

		BPF_CORE_READ_INTO(&a, sock, sk, __sk_common.skc_v6_daddr);
		set_ipv6(&n.peer, a.u6_addr8);
	}
	n.peer.port = BPF_CORE_READ(sock, sk, __sk_common.skc_num);
	return watch_traffic(&n);
}

/* A capability that was asked for and is there; where the kernel only wonders, it is not used. */
SEC("fexit/security_capable")
int BPF_PROG(capability_used, const struct cred *cred, void *ns, int cap, unsigned int opts, int denied)
{
	struct caller c = {};
	struct scratch *s;
	u8 number = cap;

	if (denied || opts & CAP_OPT_NOAUDIT || !find_visible(&c, VISIBLE_CAPABILITIES) ||
	    was_told(c.subject, TOLD(OPERATION_CAPABLE, false)))
		return 0;
	s = take_scratch();
	if (!s)
		return 0;
	set_question(s, &c, DOMAIN_CAPABILITY, DECIDE_OTHER, OPERATION_CAPABLE);
	s->capability = cap;
	put_bytes(s, &number, 1);
	report_visible(s, c.subject, c.workload);
	give_scratch(s);
	return 0;
}

#endif
