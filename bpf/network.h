/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sockets and capabilities. A socket is judged by what it is (matchProtocols) when it is made and again when it
 * is used, since it may be older than the policy, and by the address where there is one: the peer's
 * on the way out (egress), the peer's and the local port on the way in (ingress).
 */
#ifndef BELAY_NETWORK_H
#define BELAY_NETWORK_H

#include "decide.h"

#define DNS_PORT 53
#define SCTP_SOCKOPT_BINDX_ADD 100
#define SCTP_OPTIONS 0x100 /* what is above comes from a peer, by a packet */
#define CONTROL_HEADERS 8192 /* looked at in one message; it holds no more (net.core.optmem_max) */
#define SCTP_ADDRESSES 64 /* looked at in one list; those behind could be any */

static __always_inline u16 socket_kind(u32 family, u32 type, u32 protocol)
{
	bool ip = family == AF_INET || family == AF_INET6;

	if (family == AF_PACKET || type == SOCK_PACKET)
		return SOCKET_PACKET;
	if (family == AF_UNIX)
		return type == SOCK_STREAM ? SOCKET_UNIX_STREAM :
		       type == SOCK_SEQPACKET ? SOCKET_UNIX_SEQPACKET : SOCKET_UNIX_DGRAM;
	if (family == AF_NETLINK)
		return SOCKET_NETLINK;
	if (ip && type == SOCK_RAW)
		return protocol == IPPROTO_ICMP ? SOCKET_ICMP_RAW :
		       protocol == IPPROTO_ICMPV6 ? SOCKET_ICMPV6_RAW : SOCKET_IP_RAW;
	if (ip && protocol == IPPROTO_SCTP)
		return type == SOCK_STREAM ? SOCKET_SCTP_STREAM : SOCKET_SCTP_SEQPACKET;
	if (ip && (type == SOCK_DCCP || protocol == IPPROTO_DCCP))
		return SOCKET_DCCP;
	if (ip && type == SOCK_DGRAM && protocol == IPPROTO_ICMP)
		return SOCKET_ICMP_DGRAM;
	if (ip && type == SOCK_DGRAM && protocol == IPPROTO_ICMPV6)
		return SOCKET_ICMPV6_DGRAM;
	if (family == AF_SMC || (ip && type == SOCK_STREAM &&
				 (protocol == IPPROTO_IP || protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP ||
				  protocol == IPPROTO_SMC)))
		return SOCKET_TCP;
	if (ip && type == SOCK_DGRAM &&
	    (protocol == IPPROTO_IP || protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE))
		return SOCKET_UDP;
	return type == SOCK_STREAM ? SOCKET_OTHER_STREAM :
	       type == SOCK_DGRAM ? SOCKET_OTHER_DGRAM :
	       type == SOCK_RAW ? SOCKET_OTHER_RAW :
	       type == SOCK_RDM ? SOCKET_OTHER_RDM : SOCKET_OTHER_SEQPACKET;
}

/* One address as the rules see it: IPv4-mapped is IPv4, the unspecified address is the loopback one, see resolve. */
struct endpoint {
	u8 bytes[16];
	u16 port;
	u8 family; /* AF_INET, AF_INET6, 0 = none */
	u8 unspecified; /* nobody was named */
};

static __always_inline void set_ipv4(struct endpoint *e, u32 address)
{
	if (!address) {
		address = bpf_htonl(0x7f000001);
		e->unspecified = 1;
	}
	e->family = AF_INET;
	__builtin_memcpy(e->bytes, &address, 4);
}

static __always_inline void set_ipv6(struct endpoint *e, const u8 *address)
{
	u32 words[4];

	__builtin_memcpy(words, address, 16);
	if (!words[0] && !words[1] && words[2] == bpf_htonl(0xffff)) {
		set_ipv4(e, words[3]);
		return;
	}
	if (!words[0] && !words[1] && !words[2] && !words[3]) {
		words[3] = bpf_htonl(1);
		e->unspecified = 1;
	}
	e->family = AF_INET6;
	__builtin_memcpy(e->bytes, words, 16);
}

static __always_inline bool is_mapped(const struct in6_addr *address)
{
	u32 words[4];

	__builtin_memcpy(words, address, 16);
	return !words[0] && !words[1] && words[2] == bpf_htonl(0xffff);
}

/* Where goes what names nobody. Over IPv6, to the loopback address, which is IPv4's if the socket has a mapped one
 * (tcp_v6_connect, ip6_datagram_connect, udpv6_sendmsg). Over IPv4, to the address that it comes from
 * (ip_route_output_key_hash_rcu): the socket's own, else one of a device that was chosen, else loopback. steered: a message
 * may name either itself. False = it cannot be told. */
static __noinline bool resolve(struct endpoint *e, struct sock *sk, u32 steered)
{
	struct inet_sock *inet = (void *)sk;
	struct in6_addr bound = {}, source = {};
	u32 own, family;

	if (!sk)
		return true;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (family == AF_SMC || BPF_CORE_READ(sk, sk_protocol) == IPPROTO_SMC)
		return false; /* a socket behind it has the address */
	if (e->family == AF_INET6) {
		BPF_CORE_READ_INTO(&bound, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&source, inet, pinet6, saddr);
		if (is_mapped(&bound) || is_mapped(&source))
			set_ipv4(e, 0);
		return true;
	}
	own = BPF_CORE_READ(inet, inet_saddr);
	if (steered || (!own && (BPF_CORE_READ(sk, __sk_common.skc_bound_dev_if) || BPF_CORE_READ(inet, uc_index))))
		return false;
	if (own)
		set_ipv4(e, own);
	return true;
}

/* address is a kernel copy. AF_UNSPEC counts as IPv4 where the socket's family says that the kernel does. */
static __always_inline void read_endpoint(struct endpoint *e, const void *address, u32 length, u32 unspec)
{
	union { struct sockaddr_in v4; struct sockaddr_in6 v6; } a = {};
	u32 family;

	e->family = 0;
	if (!address || length < sizeof(a.v4))
		return;
	/* the kernel's copy is a struct sockaddr_storage, so all of it can be read */
	if (bpf_probe_read_kernel(&a, sizeof(a), address))
		return;
	family = a.v4.sin_family == AF_UNSPEC ? unspec : a.v4.sin_family;
	if (family == AF_INET) {
		e->port = bpf_ntohs(a.v4.sin_port);
		set_ipv4(e, a.v4.sin_addr);
	} else if (family == AF_INET6 && length >= 24 /* SIN6_LEN_RFC2133 */) {
		e->port = bpf_ntohs(a.v6.sin6_port);
		set_ipv6(e, a.v6.sin6_addr);
	}
}

static __always_inline u8 address_protocol(u32 family, u32 protocol, u32 type)
{
	/* SMC begins as TCP, and an AF_SMC socket's protocol says which IP that goes by */
	if (protocol == IPPROTO_MPTCP || protocol == IPPROTO_SMC || family == AF_SMC)
		return IPPROTO_TCP;
	if (protocol == IPPROTO_UDPLITE)
		return IPPROTO_UDP;
	if (protocol == IPPROTO_IP)
		return type == SOCK_STREAM ? IPPROTO_TCP : type == SOCK_DGRAM ? IPPROTO_UDP : 0;
	return protocol;
}

/* What the socket is and where it goes; filled in once, asked of several domains. */
struct traffic {
	struct endpoint peer;
	u16 kind;
	u8 protocol;
	u8 operation;
};

static __noinline bool judge_traffic(struct scratch *s, struct caller *c, struct traffic *n, u32 domain)
{
	struct { u8 protocol, high, low; } tail = { n->protocol, n->peer.port >> 8, n->peer.port };

	set_question(s, c, domain, DECIDE_OTHER, n->operation);
	if (c->subject) {
		set_classes(s, c->subject, false);
	} else {
		s->classes[0] = 0;
		s->classes[1] = 0;
		s->count = 1;
	}
	s->flags = WALK_DONE;
	s->kind = n->kind;
	s->protocol = n->protocol;
	s->family = n->peer.family;
	s->port = n->peer.port;
	__builtin_memcpy(s->address, n->peer.bytes, 16);
	if (domain == DOMAIN_SOCKET) {
		u8 kind = n->kind;

		put_bytes(s, &kind, 1);
	} else if (domain == DOMAIN_BIND) {
		put_bytes(s, &tail, 3);
	} else {
		s->off = NAME_MAX_BYTES - (domain == DOMAIN_EGRESS4 || domain == DOMAIN_INGRESS4 ? 7 : 19);
		if (domain == DOMAIN_EGRESS4 || domain == DOMAIN_INGRESS4)
			__builtin_memcpy(&s->name[NAME_MAX_BYTES - 7], n->peer.bytes, 4);
		else
			__builtin_memcpy(&s->name[NAME_MAX_BYTES - 19], n->peer.bytes, 16);
		__builtin_memcpy(&s->name[NAME_MAX_BYTES - 3], &tail, 3);
	}
	return judge(s, c->subject, c->workload);
}

static __always_inline bool judge_in(struct caller *c, struct traffic *n, u32 domain)
{
	struct scratch *s;
	bool denied;

	if (!is_active(c, domain, DECIDE_OTHER))
		return false;
	s = take_scratch();
	if (!s)
		return true;
	denied = judge_traffic(s, c, n, domain);
	give_scratch(s);
	return denied;
}

static __always_inline void describe_socket(struct traffic *n, struct socket *sock)
{
	u32 family = BPF_CORE_READ(sock, sk, __sk_common.skc_family), type = BPF_CORE_READ(sock, sk, sk_type);
	u32 protocol = BPF_CORE_READ(sock, sk, sk_protocol);

	n->kind = socket_kind(family, type, protocol);
	n->protocol = address_protocol(family, protocol, type);
}

static __always_inline bool judge_egress(struct caller *c, struct traffic *n)
{
	if (!n->peer.family)
		return false;
	return judge_in(c, n, n->peer.family == AF_INET ? DOMAIN_EGRESS4 : DOMAIN_EGRESS6);
}

/* What goes to an address that the sender writes into the packet could go to any: where some address has a verdict, it
 * is denied. */
static __noinline bool judge_unaddressed(struct caller *c, struct traffic *n)
{
	struct scratch *s;

	if (!((HEADER_OF(c->tables, active, DOMAIN_EGRESS4) | HEADER_OF(c->tables, active, DOMAIN_EGRESS6)) & DENIES))
		return false;
	s = take_scratch();
	if (!s)
		return true;
	set_question(s, c, DOMAIN_EGRESS4, DECIDE_OTHER, n->operation);
	s->off = NAME_MAX_BYTES;
	s->kind = n->kind;
	s->protocol = n->protocol;
	refuse(s, c->subject, c->workload, 0, ACTION_BLOCK);
	give_scratch(s);
	return true;
}

static __always_inline bool is_inet(struct sock *sk)
{
	return sk && (sk->__sk_common.skc_family == AF_INET || sk->__sk_common.skc_family == AF_INET6);
}

/* Packet sockets write all of a packet, raw ones with IP_HDRINCL all but the link's part. */
static __always_inline bool writes_addresses(struct socket *sock)
{
	struct sock *sk = sock->sk;
	u32 family;
	u64 inet;

	if (!sk)
		return false;
	family = sk->__sk_common.skc_family;
	if (family == AF_PACKET)
		return true;
	if (sock->type != SOCK_RAW || !is_inet(sk))
		return false;
	inet = (u64)sk;
	if (bpf_core_field_exists(((struct inet_sock *)0)->inet_flags))
		return BPF_CORE_READ((struct inet_sock *)inet, inet_flags) & 1 << INET_FLAGS_HDRINCL;
	return BPF_CORE_READ_BITFIELD_PROBED((struct inet_sock___bits *)inet, hdrincl);
}

SEC("lsm/socket_create")
int BPF_PROG(socket_create, int family, int type, int protocol, int kern)
{
	struct caller c = {};
	struct traffic n = { .operation = OPERATION_SOCKET };

	if (kern || !find_caller(&c))
		return 0;
	n.kind = socket_kind(family, type & 0xf, protocol);
	n.protocol = address_protocol(family, protocol, type & 0xf);
	/* what an XDP socket sends, the driver may take without any call */
	ANSWER(judge_in(&c, &n, DOMAIN_SOCKET) || (family == AF_XDP && judge_unaddressed(&c, &n)));
}

/* A packet that asks for a domain name is judged when it leaves, for who sent it: remembered here. Which packets those
 * are is known from the port, and of a raw socket not at all. */
static __always_inline bool may_ask(struct socket *sock, u16 port)
{
	return port == DNS_PORT || sock->type == SOCK_RAW;
}

/* Fails closed: without memory nothing is sent. */
static __noinline bool note_sender(struct caller *c, struct socket *sock)
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
	if (may_ask(sock, n.peer.port) && is_active(&c, DOMAIN_DNS, DECIDE_OTHER) && !note_sender(&c, sock))
		ANSWER(true);
	ANSWER(judge_in(&c, &n, DOMAIN_SOCKET) || judge_egress(&c, &n));
}

/* An option of a socket by which its packets go by way of another address. */
static __always_inline bool routes_packets(int level, int option)
{
	return (level == IPPROTO_IP && option == IP_OPTIONS) ||
	       (level == IPPROTO_IPV6 &&
		(option == IPV6_RTHDR || option == IPV6_2292PKTOPTIONS || option == IPV6_FLOWLABEL_MGR));
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

/* sendto and its like, and TCP Fast Open, which connects without the connect hook. */
SEC("lsm/socket_sendmsg")
int BPF_PROG(socket_sendmsg, struct socket *sock, struct msghdr *msg, int size)
{
	struct caller c = {};
	struct traffic n = { .operation = OPERATION_SEND };
	void *address = msg->msg_name;
	struct sock *sk = sock->sk;
	u32 family;

	if ((writes_addresses(sock) || (msg->msg_controllen && is_inet(sk) && is_routed(msg))) && find_caller(&c)) {
		describe_socket(&n, sock);
		if (judge_unaddressed(&c, &n))
			ANSWER(true);
	}
	if (!address) {
		/* connected: judged then */
		if (!sk || !may_ask(sock, bpf_ntohs(sk->__sk_common.skc_dport)) || !find_caller(&c) ||
		    !is_active(&c, DOMAIN_DNS, DECIDE_OTHER))
			return 0;
		ANSWER(!note_sender(&c, sock));
	}
	if (!find_caller(&c))
		return 0;
	describe_socket(&n, sock);
	/* a connected TCP socket ignores the address */
	if (n.kind == SOCKET_TCP && !(msg->msg_flags & MSG_FASTOPEN)) {
		if (sk && may_ask(sock, bpf_ntohs(sk->__sk_common.skc_dport)) && is_active(&c, DOMAIN_DNS, DECIDE_OTHER))
			ANSWER(!note_sender(&c, sock));
		return 0;
	}
	family = BPF_CORE_READ(sock, sk, __sk_common.skc_family);
	/* raw sockets, and L2TP's, take an address of no family for one of theirs */
	read_endpoint(&n.peer, address, msg->msg_namelen,
		      family == AF_INET || (family == AF_INET6 && (sock->type == SOCK_RAW || n.protocol == IPPROTO_L2TP)) ?
			      family : AF_UNSPEC);
	if (n.peer.unspecified && !resolve(&n.peer, sk, msg->msg_controllen != 0) && judge_unaddressed(&c, &n))
		ANSWER(true);
	if (may_ask(sock, n.peer.port) && is_active(&c, DOMAIN_DNS, DECIDE_OTHER) && !note_sender(&c, sock))
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
