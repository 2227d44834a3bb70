/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sockets and capabilities. A socket is judged by what it is (matchProtocols) when it is made and again when it
 * is used, since it may be older than the policy, and by the address where there is one: the peer's
 * on the way out (egress), the peer's and the local port on the way in (ingress).
 */
#ifndef BELAY_NETWORK_H
#define BELAY_NETWORK_H

#include "traffic.h"

#define DNS_PORT 53
#define SCTP_SOCKOPT_BINDX_ADD 100
#define SCTP_OPTIONS 0x100 /* what is above comes from a peer, by a packet */
#define CONTROL_HEADERS 8192 /* looked at in one message; it holds no more (net.core.optmem_max) */
#define SCTP_ADDRESSES 64 /* looked at in one list; those behind could be any */

SEC("lsm/socket_create")
int BPF_PROG(socket_create, int family, int type, int protocol, int kern)
{
	struct caller c = {};
	struct traffic n = { .operation = OPERATION_SOCKET };

	if (kern || !find_caller(&c))
		return 0;
	n.kind = socket_kind(family, type & 0xf, protocol);
	n.protocol = address_protocol(family, protocol, type & 0xf);
	/* what an XDP socket sends, the driver may take without any call; an RxRPC socket's, a kernel thread sends over UDP */
	ANSWER(judge_in(&c, &n, DOMAIN_SOCKET) ||
	       ((family == AF_XDP || family == AF_RXRPC) && judge_unaddressed(&c, &n)));
}

/* A packet that asks for a domain name is judged when it leaves, for who sent it: remembered here. Which packets those
 * are is known from the port, and of a raw socket not at all. */
static __always_inline bool may_ask(struct socket *sock, u16 port)
{
	return port == DNS_PORT || sock->type == SOCK_RAW;
}

/* Fails closed: without memory nothing is sent. */
static __noinline bool note_sender(struct caller *c, struct socket *sock, bool connects)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct sock *sk = sock->sk;
	struct sender *who = NULL;
	struct scratch *s;
	u32 at;

	/* sockets' storage cannot be had from security_*: the packet is its cgroup's, by no program */
	if (through_security)
		return true;
	if (sk)
		who = bpf_sk_storage_get(&senders, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!who) {
		count_failure(FAILURE_SENDER);
		return false;
	}
	/* what was sent by a connection before this one says nothing of its numbers; one that there is refuses another */
	if (connects && sk->__sk_common.skc_state == TCP_CLOSE)
		who->stream.started = 0;
	if (who->tid == task->pid && who->subject.exec_id == c->subject->exec_id && who->subject.workload == c->subject->workload)
		return true;
	s = take_scratch();
	if (!s)
		return false;
	bpf_probe_read_kernel(&who->subject, __builtin_offsetof(struct subject, pending), c->subject);
	who->tid = task->pid;
	__builtin_memset(s->event, 0, sizeof(struct event));
	at = describe(s, (void *)s->event, c->subject);
	bpf_probe_read_kernel(who->event, sizeof(who->event), s->event);
	who->told = sizeof(struct event) + at;
	give_scratch(s);
	return true;
}

SEC("lsm/socket_connect")
int BPF_PROG(socket_connect, struct socket *sock, struct sockaddr *address, int length)
{
	struct caller c = {};
	struct traffic n = { .operation = OPERATION_CONNECT };

	if (!find_caller(&c))
		return 0;
	describe_socket(&n, sock);
	read_endpoint(&n.peer, address, length, AF_UNSPEC); /* AF_UNSPEC disconnects */
	if (n.peer.unspecified && !resolve(&n.peer, sock->sk, 0) && judge_unaddressed(&c, &n))
		ANSWER(true);
	if (may_ask(sock, n.peer.port) && is_active(&c, DOMAIN_DNS, DECIDE_OTHER) && !note_sender(&c, sock, true))
		ANSWER(true);
	ANSWER(judge_in(&c, &n, DOMAIN_SOCKET) || judge_egress(&c, &n));
}

/* An option of a socket by which its packets go by way of another address, or have their addresses written by the sender: that
 * may be set between this program's look at a message and the kernel's. */
static __always_inline bool routes_packets(int level, int option)
{
	return (level == IPPROTO_IP && (option == IP_OPTIONS || option == IP_HDRINCL)) ||
	       (level == IPPROTO_IPV6 && (option == IPV6_RTHDR || option == IPV6_2292PKTOPTIONS ||
					  option == IPV6_FLOWLABEL_MGR || option == IPV6_HDRINCL)) ||
	       (level == SOL_RAW && option == IPV6_HDRINCL);
}

SEC("lsm/socket_setsockopt")
int BPF_PROG(socket_setsockopt, struct socket *sock, int level, int option)
{
	struct caller c = {};
	struct traffic n = { .operation = OPERATION_SEND };

	if (!routes_packets(level, option) || !find_caller(&c))
		return 0;
	describe_socket(&n, sock);
	ANSWER(judge_unaddressed(&c, &n));
}

/* Control data of a message: headers with what belongs to them, one behind the other. */
struct control { u64 at; u64 left; u32 routes; };

static long control_step(u32 i, struct control *k)
{
	struct cmsghdr h;
	u64 length;

	if (k->left < sizeof(h))
		return 1;
	if (bpf_probe_read_kernel(&h, sizeof(h), (void *)k->at)) {
		k->routes = 1;
		return 1;
	}
	if ((h.cmsg_level == IPPROTO_IP && h.cmsg_type == IP_RETOPTS) ||
	    (h.cmsg_level == IPPROTO_IPV6 && (h.cmsg_type == IPV6_RTHDR || h.cmsg_type == IPV6_2292RTHDR))) {
		k->routes = 1;
		return 1;
	}
	length = (h.cmsg_len + 7) & ~7ull;
	/* the kernel refuses a message with such a one */
	if (length < sizeof(h) || length > k->left) {
		k->left = 0;
		return 1;
	}
	k->at += length;
	k->left -= length;
	return 0;
}

/* Whether a message says by way of which address it goes. The kernel has copied its control data. */
static __noinline bool is_routed(struct msghdr *msg)
{
	struct control k = { (u64)BPF_CORE_READ(msg, msg_control), BPF_CORE_READ(msg, msg_controllen) };

	bpf_loop(CONTROL_HEADERS, control_step, &k, 0);
	return k.routes || k.left >= sizeof(struct cmsghdr);
}

#define SENDMMSG 307
#define X32_BIT 0x40000000
#define X32_SENDMMSG 538
#define IA32_SENDMMSG 345
#define IA32_SOCKETCALL 102
#define SOCKETCALL_SENDMMSG 20

/* Several messages by one call. Those to the same address as one before come to no hook, and their control data may send each
 * elsewhere. No other call that sends has one of these numbers in any of the ways to call. */
static __noinline bool sends_several(void)
{
	struct pt_regs *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	u64 call = BPF_CORE_READ(regs, orig_ax) & ~(u64)X32_BIT;

	if (call == IA32_SOCKETCALL)
		return (u32)BPF_CORE_READ(regs, bx) == SOCKETCALL_SENDMMSG;
	return (call == SENDMMSG || call == X32_SENDMMSG || call == IA32_SENDMMSG) && (u32)BPF_CORE_READ(regs, dx) > 1;
}

/* sendto and its like, and TCP Fast Open, which connects without the connect hook. */
SEC("lsm/socket_sendmsg")
int BPF_PROG(socket_sendmsg, struct socket *sock, struct msghdr *msg, int size)
{
	struct caller c = {};
	struct traffic n = { .operation = OPERATION_SEND };
	void *address = msg->msg_name;
	struct sock *sk = sock->sk;
	u32 family;

	if ((writes_headers(sock) || (msg->msg_controllen && is_inet(sk) && is_routed(msg)) ||
	     (address && is_inet(sk) && sends_several())) && find_caller(&c)) {
		describe_socket(&n, sock);
		if (judge_unaddressed(&c, &n))
			ANSWER(true);
	}
	if (!address) {
		/* connected: judged then */
		if (!sk || !may_ask(sock, bpf_ntohs(sk->__sk_common.skc_dport)) || !find_caller(&c) ||
		    !is_active(&c, DOMAIN_DNS, DECIDE_OTHER))
			return 0;
		ANSWER(!note_sender(&c, sock, false));
	}
	if (!find_caller(&c))
		return 0;
	describe_socket(&n, sock);
	/* a connected TCP socket ignores the address */
	if (n.kind == SOCKET_TCP && !(msg->msg_flags & MSG_FASTOPEN)) {
		if (sk && may_ask(sock, bpf_ntohs(sk->__sk_common.skc_dport)) && is_active(&c, DOMAIN_DNS, DECIDE_OTHER))
			ANSWER(!note_sender(&c, sock, false));
		return 0;
	}
	family = BPF_CORE_READ(sock, sk, __sk_common.skc_family);
	/* raw sockets, and L2TP's, take an address of no family for one of theirs; others of IPv6 take none, but may become one of
	 * IPv4 before the kernel looks (IPV6_ADDRFORM) */
	if (family == AF_INET6 && sock->type != SOCK_RAW && n.protocol != IPPROTO_L2TP)
		family = AF_INET;
	else if (family != AF_INET && family != AF_INET6)
		family = AF_UNSPEC;
	read_endpoint(&n.peer, address, msg->msg_namelen, family);
	if (n.peer.unspecified && !resolve(&n.peer, sk, msg->msg_controllen != 0) && judge_unaddressed(&c, &n))
		ANSWER(true);
	if (may_ask(sock, n.peer.port) && is_active(&c, DOMAIN_DNS, DECIDE_OTHER) && !note_sender(&c, sock, false))
		ANSWER(true);
	ANSWER(judge_in(&c, &n, DOMAIN_SOCKET) || judge_egress(&c, &n));
}

/* Addresses, one behind the other. */
struct listed {
	struct caller c;
	struct traffic n;
	u64 at;
	u32 left;
	u32 denied;
};

static long listed_step(u32 i, struct listed *l)
{
	u16 family = 0;
	u32 length;

	if (l->left < sizeof(struct sockaddr_in) || bpf_probe_read_kernel(&family, sizeof(family), (void *)l->at))
		return 1;
	length = family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	if (l->left < length)
		return 1;
	read_endpoint(&l->n.peer, (void *)l->at, length, AF_INET);
	if ((l->n.peer.unspecified && judge_unaddressed(&l->c, &l->n)) || judge_egress(&l->c, &l->n)) {
		l->denied = 1;
		return 1;
	}
	l->at += length;
	l->left -= length;
	return 0;
}

/* SCTP's connectx, and what else names peers by an option. The list is a kernel copy. */
SEC("lsm/sctp_bind_connect")
int BPF_PROG(sctp_bind_connect, struct sock *sk, int option, struct sockaddr *address, int length)
{
	struct listed l = { .n = { .operation = OPERATION_CONNECT, .protocol = IPPROTO_SCTP }, .left = length };

	/* its own addresses: socket_bind has judged the port, and no address but with that port can be added */
	if (option == SCTP_SOCKOPT_BINDX_ADD || option >= SCTP_OPTIONS || !find_caller(&l.c))
		return 0;
	l.n.kind = sk->sk_type == SOCK_STREAM ? SOCKET_SCTP_STREAM : SOCKET_SCTP_SEQPACKET;
	/* as a number, which can be counted with */
	bpf_probe_read_kernel(&l.at, sizeof(l.at), &ctx[2]);
	bpf_loop(SCTP_ADDRESSES, listed_step, &l, 0);
	ANSWER(l.denied || (l.left >= sizeof(struct sockaddr_in) && judge_unaddressed(&l.c, &l.n)));
}

/* From now on what arrives at this socket is judged for the workload, also where there is no current task. */
static __always_inline bool receive_for(struct caller *c, struct socket *sock)
{
	struct receiver of = { .cgroup = c->subject->cgroup, .workload = c->subject->workload };
	struct sock *sk = sock->sk;
	struct receiver *r = NULL;

	if (through_security) {
		u64 key = (u64)sk;

		if (sk && !bpf_map_update_elem(&socket_receivers, &key, &of, BPF_ANY))
			return true;
	} else if (sk)
		r = bpf_sk_storage_get(&receivers, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!r) {
		count_failure(FAILURE_LISTEN);
		return false;
	}
	*r = of;
	return true;
}

static __always_inline struct receiver *receiver_of(struct sock *sk)
{
	u64 key = (u64)sk;

	if (through_security)
		return bpf_map_lookup_elem(&socket_receivers, &key);
	return bpf_sk_storage_get(&receivers, sk, 0, 0);
}

/* Only where programs run on security_*: what sk_storage does by itself. */
SEC("fentry/security_sk_free")
int BPF_PROG(socket_freed, struct sock *sk)
{
	u64 key = (u64)sk;

	bpf_map_delete_elem(&socket_receivers, &key);
	return 0;
}

static __always_inline bool judge_local(struct caller *c, struct socket *sock, struct traffic *n, u16 port)
{
	bool ip;

	describe_socket(n, sock);
	ip = BPF_CORE_READ(sock, sk, __sk_common.skc_family) != AF_UNIX;
	if (judge_in(c, n, DOMAIN_SOCKET))
		return true;
	if (!ip)
		return false;
	n->peer.port = port;
	if (port && judge_in(c, n, DOMAIN_BIND))
		return true;
	/* also without a port, which listen() finds by itself, after this */
	return !receive_for(c, sock);
}

SEC("lsm/socket_bind")
int BPF_PROG(socket_bind, struct socket *sock, struct sockaddr *address, int length)
{
	struct caller c = {};
	struct traffic n = { .operation = OPERATION_BIND };
	struct endpoint local = {};

	if (!find_caller(&c))
		return 0;
	read_endpoint(&local, address, length, AF_INET);
	ANSWER(judge_local(&c, sock, &n, local.family ? local.port : 0));
}

SEC("lsm/socket_listen")
int BPF_PROG(socket_listen, struct socket *sock, int backlog)
{
	struct caller c = {};
	struct traffic n = { .operation = OPERATION_LISTEN };

	if (!find_caller(&c))
		return 0;
	ANSWER(judge_local(&c, sock, &n, BPF_CORE_READ(sock, sk, __sk_common.skc_num)));
}

SEC("lsm/socket_accept")
int BPF_PROG(socket_accept, struct socket *sock, struct socket *newsock)
{
	struct caller c = {};
	struct traffic n = { .operation = OPERATION_ACCEPT };

	if (!find_caller(&c))
		return 0;
	ANSWER(judge_local(&c, sock, &n, BPF_CORE_READ(sock, sk, __sk_common.skc_num)));
}

/* Whom what arrives at a socket is judged for. One that nobody has listened at may be the kernel's own, which MPTCP and
 * SMC listen with, or older than the policy: it has the cgroup of who made it. */
static __always_inline bool find_receiver(struct caller *c, struct sock *sk)
{
	struct receiver *r = receiver_of(sk);
	u64 cgroup = r ? r->cgroup : BPF_CORE_READ(sk, sk_cgrp_data.cgroup, kn, id);
	struct binding *b = bpf_map_lookup_elem(&cgroups, &cgroup);

	return find_tables(c, b ? b->workload : r ? r->workload : 0);
}

static __always_inline bool judge_ingress(struct caller *c, struct traffic *n, struct sock *sk)
{
	n->peer.port = BPF_CORE_READ(sk, __sk_common.skc_num);
	return judge_in(c, n, n->peer.family == AF_INET ? DOMAIN_INGRESS4 : DOMAIN_INGRESS6);
}

/* A connection request from outside, before the handshake is answered. There is no current task. */
SEC("lsm/inet_conn_request")
int BPF_PROG(inet_conn_request, struct sock *sk, struct sk_buff *skb, struct request_sock *req)
{
	struct caller c = {};
	struct traffic n = { .operation = OPERATION_ACCEPT, .kind = SOCKET_TCP, .protocol = IPPROTO_TCP };

	if (!find_receiver(&c, sk))
		return 0;
	if (BPF_CORE_READ(req, __req_common.skc_family) == AF_INET) {
		set_ipv4(&n.peer, BPF_CORE_READ(req, __req_common.skc_daddr));
	} else {
		struct in6_addr a;

		BPF_CORE_READ_INTO(&a, req, __req_common.skc_v6_daddr);
		set_ipv6(&n.peer, a.u6_addr8);
	}
	ANSWER(judge_ingress(&c, &n, sk));
}

/* The same for SCTP, by the address that the packet is from. The module's types are the kernel's where SELinux is. */
SEC("lsm/sctp_assoc_request")
int BPF_PROG(sctp_assoc_request, struct sctp_association *association, struct sk_buff *skb)
{
	struct caller c = {};
	struct traffic n = { .operation = OPERATION_ACCEPT, .kind = SOCKET_SCTP_STREAM, .protocol = IPPROTO_SCTP };
	struct ipv6hdr header = {};
	struct sock *sk;

	if (!bpf_core_field_exists(association->base.sk))
		return 0;
	sk = association->base.sk;
	if (!sk || !find_receiver(&c, sk))
		return 0;
	bpf_probe_read_kernel(&header, sizeof(header), BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, network_header));
	if (header.version >> 4 == 4)
		set_ipv4(&n.peer, *(u32 *)((struct iphdr *)&header)->saddr);
	else
		set_ipv6(&n.peer, header.saddr);
	ANSWER(judge_ingress(&c, &n, sk));
}

/* A unix socket with a path is a file: connecting to it, or sending to it, is writing. */
static __always_inline bool judge_peer(struct sock *other)
{
	struct unix_sock *u = (void *)other;
	struct caller c = {};
	struct scratch *s;
	u64 dentry;
	bool denied;

	if (!find_caller(&c) || !is_active(&c, DOMAIN_FILE, DECIDE_WRITE))
		return false;
	dentry = (u64)BPF_CORE_READ(u, path.dentry);
	if (!dentry)
		return false;
	s = take_scratch();
	if (!s)
		return true;
	denied = judge_dentry(s, &c, dentry, (u64)real_mount(BPF_CORE_READ(u, path.mnt)),
			      (u64)BPF_CORE_READ((struct dentry *)dentry, d_inode), DECIDE_WRITE, OPERATION_CONNECT);
	give_scratch(s);
	return denied;
}

SEC("lsm/unix_stream_connect")
int BPF_PROG(unix_stream_connect, struct sock *sock, struct sock *other, struct sock *newsk)
{
	ANSWER(judge_peer(other));
}

SEC("lsm/unix_may_send")
int BPF_PROG(unix_may_send, struct socket *sock, struct socket *other)
{
	ANSWER(judge_peer(BPF_CORE_READ(other, sk)));
}

SEC("lsm/capable")
int BPF_PROG(capable, const struct cred *cred, void *ns, int cap, unsigned int opts)
{
	struct caller c = {};
	struct scratch *s;
	bool denied;
	u8 number = cap;

	if (!find_caller(&c) || !is_active(&c, DOMAIN_CAPABILITY, DECIDE_OTHER))
		return 0;
	s = take_scratch();
	if (!s)
		ANSWER(true);
	set_question(s, &c, DOMAIN_CAPABILITY, DECIDE_OTHER, OPERATION_CAPABLE);
	set_classes(s, c.subject, false);
	s->flags = WALK_DONE;
	s->capability = cap;
	put_bytes(s, &number, 1);
	denied = judge(s, c.subject, c.workload);
	give_scratch(s);
	ANSWER(denied);
}

#endif
