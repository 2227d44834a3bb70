/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a socket is to the rules, where what it sends goes, and the questions about that. */
#ifndef BELAY_TRAFFIC_H
#define BELAY_TRAFFIC_H

#include "decide.h"

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

/* Protocols with ports. */
static __always_inline bool has_ports(u32 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE ||
	       protocol == IPPROTO_SCTP || protocol == IPPROTO_DCCP;
}

/* Packet sockets write all of a packet, raw ones the ports, and with IP_HDRINCL all but the link's part. */
static __always_inline bool writes_headers(struct socket *sock)
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
	if (has_ports(BPF_CORE_READ(sk, sk_protocol)))
		return true;
	inet = (u64)sk;
	if (bpf_core_field_exists(((struct inet_sock *)0)->inet_flags))
		return BPF_CORE_READ((struct inet_sock *)inet, inet_flags) & 1 << INET_FLAGS_HDRINCL;
	return BPF_CORE_READ_BITFIELD_PROBED((struct inet_sock___bits *)inet, hdrincl);
}

#endif
