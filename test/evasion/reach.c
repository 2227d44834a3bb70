// SPDX-License-Identifier: Apache-2.0
// Other ways to send bytes to an address that must not be reached: 127.0.0.66, fd00:bad::1, and port 7778 of
// 127.0.0.1 and ::1. 127.0.0.5 may be. The witness listens on all of them and notes what arrives. Also: a port (7790)
// that must not be listened on, and unix sockets that must not be connected to.
#include "evade.h"
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <sys/un.h>

#define SQE(op, ...) ((struct io_uring_sqe){ .opcode = IORING_OP_##op, __VA_ARGS__ })
#define MPTCP 262
#define PORT 7777
#define LOCAL_PORT 7778
#define CLOSED_PORT 7790

struct address { socklen_t length; union { struct sockaddr any; struct sockaddr_in v4; struct sockaddr_in6 v6; }; };

static struct address v4(const char *ip, int port)
{
	struct address a = { sizeof a.v4, .v4 = { AF_INET, htons(port) } };

	inet_pton(AF_INET, ip, &a.v4.sin_addr);
	return a;
}

static struct address v6(const char *ip, int port)
{
	struct address a = { sizeof a.v6, .v6 = { AF_INET6, htons(port) } };

	inet_pton(AF_INET6, ip, &a.v6.sin6_addr);
	return a;
}

#define FORBIDDEN v4("127.0.0.66", PORT)
#define FORBIDDEN6 v6("fd00:bad::1", PORT)
#define ALLOWED v4("127.0.0.5", PORT)

static char *payload(void) { return (char *)format("%s\n", here.name); }
static size_t size(void) { return strlen(here.name) + 1; }

static int deliver(int fd)
{
	TRY(send(fd, payload(), size(), MSG_NOSIGNAL));
	shutdown(fd, SHUT_WR);
	usleep(30000);
	return 0;
}

static int connected(int type, int protocol, struct address to)
{
	int fd = TRY(socket(to.any.sa_family, type, protocol));

	TRY(connect(fd, &to.any, to.length));
	return deliver(fd);
}

static int sent(int type, int protocol, int flags, struct address to)
{
	int fd = TRY(socket(to.any.sa_family, type, protocol));

	TRY(sendto(fd, payload(), size(), flags, &to.any, to.length));
	usleep(30000);
	return 0;
}

static int tcp(void) { return connected(SOCK_STREAM, 0, FORBIDDEN); }
static int tcp6(void) { return connected(SOCK_STREAM, 0, FORBIDDEN6); }
static int tcp_mapped(void) { return connected(SOCK_STREAM, 0, v6("::ffff:127.0.0.66", PORT)); }
static int tcp_any(void) { return connected(SOCK_STREAM, 0, v4("0.0.0.0", LOCAL_PORT)); }
static int tcp_any6(void) { return connected(SOCK_STREAM, 0, v6("::", LOCAL_PORT)); }
static int tcp_any_mapped(void) { return connected(SOCK_STREAM, 0, v6("::ffff:0.0.0.0", LOCAL_PORT)); }
static int mptcp(void) { return connected(SOCK_STREAM, MPTCP, FORBIDDEN); }
static int mptcp6(void) { return connected(SOCK_STREAM, MPTCP, FORBIDDEN6); }
static int fast_open(void) { return sent(SOCK_STREAM, 0, MSG_FASTOPEN, FORBIDDEN); }
static int fast_open6(void) { return sent(SOCK_STREAM, 0, MSG_FASTOPEN, FORBIDDEN6); }
static int fast_open_mptcp(void) { return sent(SOCK_STREAM, MPTCP, MSG_FASTOPEN, FORBIDDEN); }

static int fast_open_connect(void)
{
	int fd = TRY(socket(AF_INET, SOCK_STREAM, 0)), one = 1;
	struct address to = FORBIDDEN;

	TRY(setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof one));
	TRY(connect(fd, &to.any, to.length));
	return deliver(fd);
}

/* A connection that ends, and begins elsewhere. */
static int tcp_again(void)
{
	int fd = TRY(socket(AF_INET, SOCK_STREAM, 0));
	struct address first = ALLOWED, to = FORBIDDEN;
	struct sockaddr nobody = { AF_UNSPEC };

	TRY(connect(fd, &first.any, first.length));
	TRY(connect(fd, &nobody, sizeof nobody));
	TRY(connect(fd, &to.any, to.length));
	return deliver(fd);
}

static int tcp_nonblocking(void)
{
	int fd = TRY(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	struct address to = FORBIDDEN;
	struct pollfd ready = { fd, POLLOUT };

	if (connect(fd, &to.any, to.length) && errno != EINPROGRESS)
		return failed("connect");
	poll(&ready, 1, 500);
	return deliver(fd);
}

/* Nobody in particular, from an address of one's own: IPv6 goes to the loopback address all the same. */
static int any_from(int type, struct address own)
{
	struct address to = v6("::", LOCAL_PORT);
	int fd = TRY(socket(AF_INET6, type, 0));

	TRY(bind(fd, &own.any, own.length));
	TRY(connect(fd, &to.any, to.length));
	return deliver(fd);
}

static int tcp_any_from(void) { return any_from(SOCK_STREAM, v6("fd00:bad::1", 0)); }
static int tcp_any_from_mapped(void) { return any_from(SOCK_STREAM, v6("::ffff:127.0.0.2", 0)); }
static int udp_any_from(void) { return any_from(SOCK_DGRAM, v6("fd00:bad::1", 0)); }
static int udp_any_from_mapped(void) { return any_from(SOCK_DGRAM, v6("::ffff:127.0.0.2", 0)); }

static int udp(void) { return sent(SOCK_DGRAM, 0, 0, FORBIDDEN); }
static int udp6(void) { return sent(SOCK_DGRAM, 0, 0, FORBIDDEN6); }
static int udp_mapped(void) { return sent(SOCK_DGRAM, 0, 0, v6("::ffff:127.0.0.66", PORT)); }
static int udp_any(void) { return sent(SOCK_DGRAM, 0, 0, v4("0.0.0.0", LOCAL_PORT)); }
static int udp_any6(void) { return sent(SOCK_DGRAM, 0, 0, v6("::", LOCAL_PORT)); }
static int udp_connected(void) { return connected(SOCK_DGRAM, 0, FORBIDDEN); }
static int udp_lite(void) { return sent(SOCK_DGRAM, IPPROTO_UDPLITE, 0, FORBIDDEN); }

/* The family that IPv4 sockets also take for IPv4. */
static int udp_unspec(void)
{
	struct address to = FORBIDDEN;

	to.any.sa_family = AF_UNSPEC;
	int fd = TRY(socket(AF_INET, SOCK_DGRAM, 0));
	TRY(sendto(fd, payload(), size(), 0, &to.any, to.length));
	return 0;
}

static void *becomes_v4(void *fd)
{
	int family = AF_INET;

	setsockopt(*(int *)fd, SOL_IPV6, IPV6_ADDRFORM, &family, sizeof family);
	return NULL;
}

/* An IPv6 socket, which ignores such an address, that becomes one of IPv4 meanwhile. */
static int udp_becomes_v4(void)
{
	struct address first = v6("::ffff:127.0.0.5", PORT), to = FORBIDDEN;

	to.any.sa_family = AF_UNSPEC;
	for (int i = 0; i < 2000; i++) {
		int fd = TRY(socket(AF_INET6, SOCK_DGRAM, 0));
		pthread_t other;

		TRY(connect(fd, &first.any, first.length));
		pthread_create(&other, NULL, becomes_v4, &fd);
		for (int j = 0; j < i % 50; j++)
			sched_yield();
		sendto(fd, payload(), size(), 0, &to.any, to.length);
		pthread_join(other, NULL);
		close(fd);
	}
	return 0;
}

/* AF_INET names given to an IPv6 socket. */
static int udp_v4_on_v6(void)
{
	struct address to = FORBIDDEN;
	int fd = TRY(socket(AF_INET6, SOCK_DGRAM, 0));

	TRY(sendto(fd, payload(), size(), 0, &to.any, to.length));
	return 0;
}

static int udp_elsewhere(void)
{
	struct address first = ALLOWED, to = FORBIDDEN;
	int fd = TRY(socket(AF_INET, SOCK_DGRAM, 0));

	TRY(connect(fd, &first.any, first.length));
	TRY(sendto(fd, payload(), size(), 0, &to.any, to.length));
	return 0;
}

static int udp_corked(void)
{
	struct address first = ALLOWED, to = FORBIDDEN;
	int fd = TRY(socket(AF_INET, SOCK_DGRAM, 0));

	TRY(sendto(fd, payload(), size(), MSG_MORE, &first.any, first.length));
	TRY(sendto(fd, "", 0, 0, &to.any, to.length));
	return 0;
}

static struct msghdr message(struct address *to, struct iovec *part)
{
	*part = (struct iovec){ payload(), size() };
	return (struct msghdr){ .msg_name = &to->any, .msg_namelen = to->length, .msg_iov = part, .msg_iovlen = 1 };
}

/* With one piece of control data; second: in a call whose first message has none. */
static int controlled(bool second, int family, struct address to, int level, int type, const void *data, size_t length)
{
	char control[256] __attribute__((aligned(8))) = {};
	struct cmsghdr *c = (void *)control;
	struct iovec part, plain = { "allowed\n", 8 };
	struct msghdr m = message(&to, &part);
	struct mmsghdr both[2] = { { m } };
	int fd = TRY(socket(family, SOCK_DGRAM, 0));

	m.msg_control = control;
	m.msg_controllen = CMSG_SPACE(length);
	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(length);
	memcpy(CMSG_DATA(c), data, length);
	both[0].msg_hdr.msg_iov = &plain;
	both[1].msg_hdr = m;
	if (second)
		TRY(sendmmsg(fd, both, 2, 0));
	else
		TRY(sendmsg(fd, &m, 0));
	usleep(30000);
	return 0;
}

/* Nobody in particular is then who it is from. */
static int any_from_message(bool second)
{
	struct in_pktinfo from = { .ipi_spec_dst = FORBIDDEN.v4.sin_addr };

	return controlled(second, AF_INET, v4("0.0.0.0", PORT), IPPROTO_IP, IP_PKTINFO, &from, sizeof from);
}

static int udp_any_from_message(void) { return any_from_message(false); }
static int udp_any_from_second_message(void) { return any_from_message(true); }

/* By way of the forbidden address to another. The witness sees the packet there. */
#define BEYOND v6("fd00:bad::77", PORT)
struct route { uint8_t next, length, type, left, last, flags; uint16_t tag; struct in6_addr hops[2]; };

static struct route route(void)
{
	struct route r = { 0, 4, 4 /* segments */, 1, 1 };

	r.hops[0] = BEYOND.v6.sin6_addr;
	r.hops[1] = FORBIDDEN6.v6.sin6_addr;
	return r;
}

/* Messages and flows take the routing header of mobile hosts only: to the care-of address, for the home address. */
struct mobile_route { uint8_t next, length, type, left; uint32_t reserved; struct in6_addr home; };

static struct mobile_route mobile_route(void)
{
	return (struct mobile_route){ 0, 2, 2, 1, 0, FORBIDDEN6.v6.sin6_addr };
}

static int routed(void)
{
	int fd = TRY(socket(AF_INET6, SOCK_DGRAM, 0));
	struct route by = route();
	struct address to = BEYOND;

	TRY(setsockopt(fd, IPPROTO_IPV6, IPV6_RTHDR, &by, sizeof by));
	TRY(sendto(fd, payload(), size(), 0, &to.any, to.length));
	usleep(30000);
	return 0;
}

static int routed_message(void)
{
	struct mobile_route by = mobile_route();

	return controlled(false, AF_INET6, BEYOND, IPPROTO_IPV6, IPV6_RTHDR, &by, sizeof by);
}

/* As many sent with a packet, but in one option. */
static int routed_old(void)
{
	char control[256] __attribute__((aligned(8))) = {};
	struct cmsghdr *c = (void *)control;
	int fd = TRY(socket(AF_INET6, SOCK_DGRAM, 0));
	struct mobile_route by = mobile_route();
	struct address to = BEYOND;

	c->cmsg_level = IPPROTO_IPV6;
	c->cmsg_type = 5 /* IPV6_2292RTHDR */;
	c->cmsg_len = CMSG_LEN(sizeof by);
	memcpy(CMSG_DATA(c), &by, sizeof by);
	TRY(setsockopt(fd, IPPROTO_IPV6, 6 /* IPV6_2292PKTOPTIONS */, control, CMSG_SPACE(sizeof by)));
	TRY(sendto(fd, payload(), size(), 0, &to.any, to.length));
	usleep(30000);
	return 0;
}

/* A flow that has a route. */
static int routed_flow(void)
{
	struct { struct in6_addr to; uint32_t label; uint8_t action, share; uint16_t flags, expires, linger; uint32_t pad; char control[64]; }
		__attribute__((aligned(8))) flow = { .to = BEYOND.v6.sin6_addr, .action = 0 /* get */, .share = 1, .flags = 1 /* create */ };
	struct cmsghdr *c = (void *)flow.control;
	struct mobile_route by = mobile_route();
	struct address to = BEYOND;
	int fd = TRY(socket(AF_INET6, SOCK_DGRAM, 0)), one = 1;

	c->cmsg_level = IPPROTO_IPV6;
	c->cmsg_type = IPV6_RTHDR;
	c->cmsg_len = CMSG_LEN(sizeof by);
	memcpy(CMSG_DATA(c), &by, sizeof by);
	TRY(setsockopt(fd, IPPROTO_IPV6, 32 /* IPV6_FLOWLABEL_MGR */, &flow, 32 + CMSG_SPACE(sizeof by)));
	TRY(setsockopt(fd, IPPROTO_IPV6, 33 /* IPV6_FLOWINFO_SEND */, &one, sizeof one));
	to.v6.sin6_flowinfo = flow.label;
	TRY(sendto(fd, payload(), size(), 0, &to.any, to.length));
	usleep(30000);
	return 0;
}

static const unsigned char *source_route(void)
{
	static unsigned char options[8] = { 131 /* loose */, 7, 4 };

	memcpy(options + 3, &(struct in_addr){ FORBIDDEN.v4.sin_addr.s_addr }, 4);
	return options;
}

static int source_routed(void)
{
	int fd = TRY(socket(AF_INET, SOCK_DGRAM, 0));
	struct address to = ALLOWED;

	TRY(setsockopt(fd, IPPROTO_IP, IP_OPTIONS, source_route(), 8));
	TRY(sendto(fd, payload(), size(), 0, &to.any, to.length));
	usleep(30000);
	return 0;
}

static int source_routed_message(void) { return controlled(false, AF_INET, ALLOWED, IPPROTO_IP, IP_RETOPTS, source_route(), 8); }
static int source_routed_second_message(void) { return controlled(true, AF_INET, ALLOWED, IPPROTO_IP, IP_RETOPTS, source_route(), 8); }

/* --- what begins as TCP, and what is no UDP --- */

#define IPPROTO_SMC 256

static int smc_connected(int family, int protocol, struct address to)
{
	int fd = TRY(socket(family, SOCK_STREAM, protocol));

	TRY(connect(fd, &to.any, to.length));
	return deliver(fd);
}

/* A rule about TCP's port. */
static int smc(void) { return smc_connected(AF_SMC, 0, v4("127.0.0.1", LOCAL_PORT)); }
static int smc6(void) { return smc_connected(AF_SMC, 1, v6("::1", LOCAL_PORT)); }
static int smc_protocol(void) { return smc_connected(AF_INET, IPPROTO_SMC, v4("127.0.0.1", LOCAL_PORT)); }

static int tunneled(int family, bool named)
{
	struct { uint16_t family, unused; uint32_t flow; struct in6_addr to; uint32_t scope, connection; } to6 = { named ? AF_INET6 : AF_UNSPEC };
	int fd = TRY(socket(family, SOCK_DGRAM, 115 /* IPPROTO_L2TP */));

	to6.to = FORBIDDEN6.v6.sin6_addr;
	to6.connection = 7;
	TRY(sendto(fd, payload(), size(), 0, (void *)&to6, sizeof to6));
	usleep(30000);
	return 0;
}

static int l2tp(void) { return tunneled(AF_INET6, true); }
static int l2tp_unspec(void) { return tunneled(AF_INET6, false); }

static int message_sent(void)
{
	struct address to = FORBIDDEN;
	struct iovec part;
	struct msghdr m = message(&to, &part);

	TRY(sendmsg(TRY(socket(AF_INET, SOCK_DGRAM, 0)), &m, 0));
	return 0;
}

static int messages_sent(void)
{
	struct address first = ALLOWED, to = FORBIDDEN;
	struct iovec parts[2];
	struct mmsghdr m[3] = { { message(&first, parts) }, { message(&first, parts) }, { message(&to, parts + 1) } };
	int fd = TRY(socket(AF_INET, SOCK_DGRAM, 0)), n;

	parts[0] = (struct iovec){ "allowed\n", 8 };
	n = TRY(sendmmsg(fd, m, 3, 0));
	if (n < 3)
		return failed_as("sendmmsg", EACCES);
	return 0;
}

static int ring_connect(unsigned setup, unsigned flags)
{
	int fd = TRY(socket(AF_INET, SOCK_STREAM, 0));
	struct address to = FORBIDDEN;

	TRY(uring(setup, flags, SQE(CONNECT, .fd = fd, .addr = (long)&to.any, .off = to.length)));
	return deliver(fd);
}

static int uring_connect(void) { return ring_connect(0, 0); }
static int uring_connect_worker(void) { return ring_connect(0, IOSQE_ASYNC); }
static int uring_connect_polled(void) { return ring_connect(IORING_SETUP_SQPOLL, IOSQE_ASYNC); }

static int ring_message(unsigned op, unsigned setup)
{
	struct address to = FORBIDDEN;
	struct iovec part;
	struct msghdr m = message(&to, &part);
	int fd = TRY(socket(AF_INET, SOCK_DGRAM, 0));

	TRY(uring(setup, 0, SQE(NOP, .opcode = op, .fd = fd, .addr = (long)&m, .len = 1)));
	usleep(30000);
	return 0;
}

static int uring_message(void) { return ring_message(IORING_OP_SENDMSG, 0); }
static int uring_message_polled(void) { return ring_message(IORING_OP_SENDMSG, IORING_SETUP_SQPOLL); }
static int uring_message_zero_copy(void) { return ring_message(IORING_OP_SENDMSG_ZC, 0); }

static int uring_send_to(void)
{
	struct address to = FORBIDDEN;
	int fd = TRY(socket(AF_INET, SOCK_DGRAM, 0));

	TRY(uring(0, 0, SQE(SEND_ZC, .fd = fd, .addr = (long)payload(), .len = size(), .addr2 = (long)&to.any, .addr_len = to.length)));
	usleep(30000);
	return 0;
}

static int uring_socket(void)
{
	struct address to = FORBIDDEN;
	int fd = TRY(uring(0, 0, SQE(SOCKET, .fd = AF_INET, .off = SOCK_DGRAM)));

	TRY(sendto(fd, payload(), size(), 0, &to.any, to.length));
	return 0;
}

/* --- SCTP --- */

static int sctp_socket(int type) { return TRY(socket(AF_INET, type, IPPROTO_SCTP)); }
static int sctp(void) { return connected(SOCK_STREAM, IPPROTO_SCTP, FORBIDDEN); }
static int sctp_sent(void) { return sent(SOCK_SEQPACKET, IPPROTO_SCTP, 0, FORBIDDEN); }

static int sctp_connectx(int option)
{
	struct address to = FORBIDDEN;
	int fd = sctp_socket(SOCK_STREAM), none = 1;
	struct { int association; int length; void *addresses; } by_pointer = { 0, to.length, &to.any };
	socklen_t length = sizeof by_pointer;

	if (fd < 0)
		return -1;
	(void)none;
	if (option == 111) /* SCTP_SOCKOPT_CONNECTX3, a getsockopt */
		TRY(getsockopt(fd, IPPROTO_SCTP, option, &by_pointer, &length));
	else
		TRY(setsockopt(fd, IPPROTO_SCTP, option, &to.any, to.length));
	return deliver(fd);
}

static int sctp_connectx_old(void) { return sctp_connectx(107); }
static int sctp_connectx_new(void) { return sctp_connectx(110); }
static int sctp_connectx_get(void) { return sctp_connectx(111); }

/* To one that may be reached, and by the way to one that may not. */
static int sctp_connectx_second(void)
{
	struct address first = ALLOWED, to = FORBIDDEN;
	struct sockaddr_in both[2] = { first.v4, to.v4 };
	struct address primary = FORBIDDEN;
	struct { int association; struct sockaddr_storage address; } __attribute__((packed)) p = {};
	int fd = sctp_socket(SOCK_STREAM);

	if (fd < 0)
		return -1;
	TRY(setsockopt(fd, IPPROTO_SCTP, 110, both, sizeof both));
	memcpy(&p.address, &primary.any, primary.length);
	TRY(setsockopt(fd, IPPROTO_SCTP, 6 /* SCTP_PRIMARY_ADDR */, &p, sizeof p));
	return deliver(fd);
}

/* --- packets of one's own making --- */

static uint16_t sum(const void *data, size_t length, uint32_t from)
{
	const uint8_t *b = data;

	for (size_t i = 0; i + 1 < length; i += 2)
		from += b[i] << 8 | b[i + 1];
	if (length & 1)
		from += b[length - 1] << 8;
	while (from >> 16)
		from = (from & 0xffff) + (from >> 16);
	return htons(~from);
}

/* IPv4 or IPv6 with UDP and the payload. */
static size_t packet(unsigned char *p, bool six)
{
	size_t data = size(), head = six ? 40 : 20, total = head + 8 + data;
	struct udphdr *u = (void *)(p + head);

	memset(p, 0, head + 8);
	memcpy(p + head + 8, payload(), data);
	u->source = htons(4242);
	u->dest = htons(PORT);
	u->len = htons(8 + data);
	if (six) {
		struct ip6_hdr *h = (void *)p;

		h->ip6_vfc = 0x60;
		h->ip6_plen = htons(8 + data);
		h->ip6_nxt = IPPROTO_UDP;
		h->ip6_hlim = 64;
		inet_pton(AF_INET6, "fd00:bad::2", &h->ip6_src);
		inet_pton(AF_INET6, "fd00:bad::1", &h->ip6_dst);
		u->check = sum(p + 8, 32 + 8 + data, IPPROTO_UDP + 8 + data);
	} else {
		struct iphdr *h = (void *)p;

		h->version = 4;
		h->ihl = 5;
		h->ttl = 64;
		h->protocol = IPPROTO_UDP;
		h->tot_len = htons(total);
		inet_pton(AF_INET, "127.0.0.5", &h->saddr);
		inet_pton(AF_INET, "127.0.0.66", &h->daddr);
		h->check = sum(p, 20, 0);
	}
	return total;
}

static int raw_udp(void)
{
	unsigned char p[512];
	size_t n = packet(p, false);
	struct address to = FORBIDDEN;
	int fd = TRY(socket(AF_INET, SOCK_RAW, IPPROTO_UDP));

	TRY(sendto(fd, p + 20, n - 20, 0, &to.any, to.length));
	return 0;
}

/* The header says one thing, the call another. */
static int raw_header(int protocol, bool connects)
{
	unsigned char p[512];
	size_t n = packet(p, false);
	struct address to = ALLOWED;
	int fd = TRY(socket(AF_INET, SOCK_RAW, protocol)), one = 1;

	TRY(setsockopt(fd, IPPROTO_IP, IP_HDRINCL, &one, sizeof one));
	if (connects) {
		TRY(connect(fd, &to.any, to.length));
		TRY(send(fd, p, n, 0));
	} else {
		TRY(sendto(fd, p, n, 0, &to.any, to.length));
	}
	return 0;
}

static int raw_header_sent(void) { return raw_header(IPPROTO_RAW, false); }
static int raw_header_connected(void) { return raw_header(IPPROTO_RAW, true); }
static int raw_header_of_udp(void) { return raw_header(IPPROTO_UDP, false); }

/* A port in the packet, and another in the call, which the kernel ignores. */
static int raw_port(void)
{
	unsigned char p[512];
	size_t n = packet(p, false);
	struct address to = v4("127.0.0.1", 9);
	int fd = TRY(socket(AF_INET, SOCK_RAW, IPPROTO_UDP));

	((struct udphdr *)(p + 20))->uh_dport = htons(LOCAL_PORT);
	((struct udphdr *)(p + 20))->uh_sum = 0;
	TRY(sendto(fd, p + 20, n - 20, 0, &to.any, to.length));
	return 0;
}

/* With a header of its own, and without, in turns: what a program saw of it may be over when the kernel looks. */
static int raw_header_raced(void)
{
	unsigned char p[512];
	size_t n = packet(p, false);
	struct address to = ALLOWED;
	int fd = TRY(socket(AF_INET, SOCK_RAW, 253)), on = 1, off = 0, sent = 0;
	pid_t other;

	TRY(setsockopt(fd, IPPROTO_IP, IP_HDRINCL, &on, sizeof on));
	other = TRY(fork());
	for (int i = 0; other || getppid() != 1; i++) {
		if (!other)
			setsockopt(fd, IPPROTO_IP, IP_HDRINCL, i & 1 ? &on : &off, sizeof on);
		else if (i < 5000)
			sent += sendto(fd, p, n, 0, &to.any, to.length) > 0;
		else
			break;
	}
	if (!other)
		_exit(0);
	kill(other, SIGKILL);
	waitpid(other, NULL, 0);
	usleep(30000);
	return sent ? 0 : failed("sendto");
}

static int raw_header6(void)
{
	unsigned char p[512];
	size_t n = packet(p, true);
	struct address to = v6("::1", 0);
	int fd = TRY(socket(AF_INET6, SOCK_RAW, IPPROTO_RAW));

	TRY(sendto(fd, p, n, 0, &to.any, to.length));
	return 0;
}

/* IPv6, since what comes in from 127.0.0.0/8 by a device is dropped */
static int packet_socket(int type, bool bound)
{
	unsigned char p[512] = {};
	size_t n = packet(p + 14, true);
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IPV6), .sll_ifindex = TRY((int)if_nametoindex("lo")), .sll_halen = 6 };
	int fd = TRY(socket(AF_PACKET, type, 0));

	p[12] = 0x86;
	p[13] = 0xdd;
	if (bound) {
		TRY(bind(fd, (void *)&to, sizeof to));
		TRY(send(fd, type == SOCK_DGRAM ? p + 14 : p, type == SOCK_DGRAM ? n : n + 14, 0));
	} else {
		TRY(sendto(fd, type == SOCK_DGRAM ? p + 14 : p, type == SOCK_DGRAM ? n : n + 14, 0, (void *)&to, sizeof to));
	}
	return 0;
}

static int packet_raw(void) { return packet_socket(SOCK_RAW, false); }
static int packet_raw_bound(void) { return packet_socket(SOCK_RAW, true); }
static int packet_dgram(void) { return packet_socket(SOCK_DGRAM, false); }

static int packet_old(void)
{
	unsigned char p[512] = {};
	size_t n = packet(p + 14, true);
	struct sockaddr to = { AF_PACKET, "lo" };
	int fd = TRY(socket(AF_INET, SOCK_PACKET, htons(ETH_P_ALL)));

	p[12] = 0x86;
	p[13] = 0xdd;
	TRY(sendto(fd, p, n + 14, 0, &to, sizeof to));
	return 0;
}

static int packet_ring(void)
{
	struct tpacket_req ring = { 4096, 1, 2048, 2 };
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IPV6), .sll_ifindex = TRY((int)if_nametoindex("lo")) };
	int fd = TRY(socket(AF_PACKET, SOCK_RAW, 0));
	struct tpacket_hdr *frame;
	unsigned char *p;

	TRY(setsockopt(fd, SOL_PACKET, PACKET_TX_RING, &ring, sizeof ring));
	TRY(bind(fd, (void *)&to, sizeof to));
	frame = TRY(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	p = (unsigned char *)frame + TPACKET_ALIGN(sizeof *frame);
	memset(p, 0, 14);
	p[12] = 0x86;
	p[13] = 0xdd;
	frame->tp_len = packet(p + 14, true) + 14;
	frame->tp_status = TP_STATUS_SEND_REQUEST;
	TRY(send(fd, NULL, 0, 0));
	return 0;
}

static int packet_uring(void)
{
	unsigned char p[512] = {};
	size_t n = packet(p + 14, true);
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IPV6), .sll_ifindex = TRY((int)if_nametoindex("lo")), .sll_halen = 6 };
	struct iovec part = { p, n + 14 };
	struct msghdr m = { .msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &part, .msg_iovlen = 1 };
	int fd = TRY(socket(AF_PACKET, SOCK_RAW, 0));

	p[12] = 0x86;
	p[13] = 0xdd;
	TRY(uring(0, 0, SQE(SENDMSG, .fd = fd, .addr = (long)&m, .len = 1)));
	return 0;
}

static int tunnel(void)
{
	unsigned char p[512];
	struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI };
	int fd = TRY(open("/dev/net/tun", O_RDWR)), control = TRY(socket(AF_INET6, SOCK_DGRAM, 0));

	strcpy(request.ifr_name, "evade0");
	TRY(ioctl(fd, TUNSETIFF, &request));
	TRY(ioctl(control, SIOCGIFFLAGS, &request));
	request.ifr_flags |= IFF_UP;
	TRY(ioctl(control, SIOCSIFFLAGS, &request));
	usleep(100000);
	TRY(write(fd, p, packet(p, true)));
	usleep(50000);
	return 0;
}

/* An answer is proof that it was reached. */
static int echo(int family, int type)
{
	struct address to = family == AF_INET ? v4("127.0.0.66", 0) : v6("fd00:bad::1", 0);
	unsigned char p[64] = {}, back[256];
	int fd = TRY(socket(family, type, family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6));
	struct pollfd ready = { fd, POLLIN };

	p[0] = family == AF_INET ? ICMP_ECHO : ICMP6_ECHO_REQUEST;
	p[4] = 7;
	if (family == AF_INET)
		*(uint16_t *)(p + 2) = sum(p, 16, 0);
	TRY(sendto(fd, p, 16, 0, &to.any, to.length));
	for (int i = 0; i < 8 && poll(&ready, 1, 300) > 0; i++) {
		ssize_t n = TRY(recv(fd, back, sizeof back, 0));
		unsigned char *at = family == AF_INET && type == SOCK_RAW ? back + 20 : back;

		if (n >= 8 && at[0] == (family == AF_INET ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY)) {
			proof->escaped = 1;
			return 0;
		}
	}
	return failed_as("no answer", ETIMEDOUT);
}

static int ping_socket(void) { return echo(AF_INET, SOCK_DGRAM); }
static int ping6_socket(void) { return echo(AF_INET6, SOCK_DGRAM); }
static int ping_raw(void) { return echo(AF_INET, SOCK_RAW); }
static int ping6_raw(void) { return echo(AF_INET6, SOCK_RAW); }

/* --- sockets of others --- */

static int socket_received(void) { return deliver(TRY(witness_descriptor('t'))); }

static int socket_taken(void)
{
	unsigned long pid, fd;

	TRY(witness_number("pid", &pid));
	TRY(witness_number("connection", &fd));
	return deliver(TRY(syscall(SYS_pidfd_getfd, TRY(syscall(SYS_pidfd_open, pid, 0)), fd, 0)));
}

static int network_namespace(void)
{
	/* one of its own, and back in that of process 1 */
	TRY(unshare(CLONE_NEWNET));
	TRY(setns(TRY(open("/proc/1/ns/net", O_RDONLY)), CLONE_NEWNET));
	return tcp();
}

/* --- unix sockets --- */

static int unix_connect(const char *path, int type)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = TRY(socket(AF_UNIX, type, 0));

	snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
	TRY(connect(fd, (void *)&to, sizeof to));
	return deliver(fd);
}

static const char *unix_path(void) { return format("%s/forbidden.sock", here.shared); }
static int unix_stream(void) { return unix_connect(unix_path(), SOCK_STREAM); }
static int unix_by_root(void) { return unix_connect(format("/proc/self/root%s", unix_path()), SOCK_STREAM); }
static int unix_by_descriptor(void) { return unix_connect(format("/proc/self/fd/%d", TRY(open(unix_path(), O_PATH))), SOCK_STREAM); }
static int unix_by_link(void) { TRY(symlink(unix_path(), in_open("s"))); TRY(chdir(here.open)); return unix_connect("s", SOCK_STREAM); }
static int unix_by_hard_link(void) { TRY(link(unix_path(), format("%s/s.%d", here.shared, getpid()))); return unix_connect(format("%s/s.%d", here.shared, getpid()), SOCK_STREAM); }
static int unix_by_rename(void) { const char *to = format("%s/r.%d", here.shared, getpid()); TRY(rename(unix_path(), to)); int r = unix_connect(to, SOCK_STREAM); rename(to, unix_path()); return r; }

static int unix_by_bind(void)
{
	TRY(new_mounts(0));
	mkdir(in_open("b"), 0777);
	TRY(mount(here.shared, in_open("b"), NULL, MS_BIND, NULL));
	TRY(chdir(in_open("b")));
	return unix_connect("forbidden.sock", SOCK_STREAM);
}

static int unix_uring(void)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = TRY(socket(AF_UNIX, SOCK_STREAM, 0));

	snprintf(to.sun_path, sizeof to.sun_path, "%s", unix_path());
	TRY(uring(0, IOSQE_ASYNC, SQE(CONNECT, .fd = fd, .addr = (long)&to, .off = sizeof to)));
	return deliver(fd);
}

static int unix_datagram(void)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = TRY(socket(AF_UNIX, SOCK_DGRAM, 0));

	snprintf(to.sun_path, sizeof to.sun_path, "%s/forbidden.dgram", here.shared);
	TRY(sendto(fd, payload(), size(), 0, (void *)&to, sizeof to));
	return 0;
}

static int unix_datagram_connected(void) { return unix_connect(format("%s/forbidden.dgram", here.shared), SOCK_DGRAM); }

/* --- a port that must not be listened on: proof is a connection to it --- */

static int listening(int fd, bool listens)
{
	struct address to = v4("127.0.0.5", CLOSED_PORT);
	struct pollfd ready = { fd, POLLIN };
	int client = TRY(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));

	if (listens)
		TRY(listen(fd, 4));
	/* the kernel says what the port is */
	struct address own = { sizeof own.v6 };
	TRY(getsockname(fd, &own.any, &own.length));
	if (own.v4.sin_port != htons(CLOSED_PORT))
		return failed_as("another port", EADDRNOTAVAIL);
	if (connect(client, &to.any, to.length) && errno != EINPROGRESS)
		return failed("connect");
	if (poll(&ready, 1, 400) > 0)
		proof->escaped = 1;
	return 0;
}

static int bound(int family, int type, int protocol)
{
	struct address a = family == AF_INET ? v4("0.0.0.0", CLOSED_PORT) : v6("::", CLOSED_PORT);
	int fd = TRY(socket(family, type, protocol)), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
	TRY(bind(fd, &a.any, a.length));
	return fd;
}

static int bind4(void) { int fd = bound(AF_INET, SOCK_STREAM, 0); return fd < 0 ? -1 : listening(fd, true); }
static int bind6(void) { int fd = bound(AF_INET6, SOCK_STREAM, 0); return fd < 0 ? -1 : listening(fd, true); }
static int bind_mptcp(void) { int fd = bound(AF_INET, SOCK_STREAM, MPTCP); return fd < 0 ? -1 : listening(fd, true); }

static int bind_unspec(void)
{
	struct address a = v4("0.0.0.0", CLOSED_PORT);
	int fd = TRY(socket(AF_INET, SOCK_STREAM, 0));

	a.any.sa_family = AF_UNSPEC;
	TRY(bind(fd, &a.any, a.length));
	return listening(fd, true);
}

static int bind_uring(void)
{
	struct address a = v4("0.0.0.0", CLOSED_PORT);
	int fd = TRY(socket(AF_INET, SOCK_STREAM, 0));

	TRY(uring(0, 0, SQE(NOP, .opcode = 56 /* BIND */, .fd = fd, .addr = (long)&a.any, .off = a.length)));
	return listening(fd, true);
}

static int bind_range(void)
{
	/* the port that the kernel finds by itself, from a range of one */
	int fd = TRY(socket(AF_INET, SOCK_STREAM, 0));
	unsigned range = CLOSED_PORT | CLOSED_PORT << 16;

	TRY(setsockopt(fd, IPPROTO_IP, 51 /* IP_LOCAL_PORT_RANGE */, &range, sizeof range));
	return listening(fd, true);
}

static int bind_range_explicit(void)
{
	struct address any = v4("0.0.0.0", 0);
	int fd = TRY(socket(AF_INET, SOCK_STREAM, 0));
	unsigned range = CLOSED_PORT | CLOSED_PORT << 16;

	TRY(setsockopt(fd, IPPROTO_IP, 51, &range, sizeof range));
	TRY(bind(fd, &any.any, any.length));
	return listening(fd, true);
}

static int bind_udp(void)
{
	int fd = bound(AF_INET, SOCK_DGRAM, 0);
	struct address to = v4("127.0.0.5", CLOSED_PORT);
	struct pollfd ready = { fd, POLLIN };

	if (fd < 0)
		return -1;
	TRY(sendto(TRY(socket(AF_INET, SOCK_DGRAM, 0)), "x", 1, 0, &to.any, to.length));
	if (poll(&ready, 1, 400) > 0)
		proof->escaped = 1;
	return 0;
}

/* Who connects: the witness, from 127.0.0.77, which must not. */
static int asked_in(int family, int protocol, int port, char who)
{
	struct address a = v4("0.0.0.0", port);
	int fd = TRY(socket(family, SOCK_STREAM, protocol)), one = 1, got;
	struct pollfd ready = { fd, POLLIN };
	struct address from = { sizeof from.v6 };

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	TRY(bind(fd, &a.any, a.length));
	TRY(listen(fd, 4));
	TRY(witness_descriptor(who));
	if (poll(&ready, 1, 1000) <= 0)
		return failed_as("nobody came", ETIMEDOUT);
	got = TRY(accept(fd, &from.any, &from.length));
	close(got);
	proof->escaped = 1;
	return 0;
}

static int arrives(void) { return asked_in(AF_INET, 0, 7792, 'C'); }
static int arrives_mptcp(void) { return asked_in(AF_INET, MPTCP, 7793, 'M'); }
static int arrives_smc(void) { return asked_in(AF_SMC, 0, 7792, 'C'); }
static int arrives_smc_protocol(void) { return asked_in(AF_INET, IPPROTO_SMC, 7792, 'C'); }
static int arrives_sctp(void) { return asked_in(AF_INET, IPPROTO_SCTP, 7795, 'S'); }

static int arrives_udp(void)
{
	struct address a = v4("0.0.0.0", 7794);
	int fd = TRY(socket(AF_INET, SOCK_DGRAM, 0));
	struct pollfd ready = { fd, POLLIN };

	TRY(bind(fd, &a.any, a.length));
	TRY(witness_descriptor('U'));
	if (poll(&ready, 1, 1000) <= 0)
		return failed_as("nothing came", ETIMEDOUT);
	proof->escaped = 1;
	return 0;
}

#define CHECK .check = token_arrived
const struct technique reach_techniques[] = {
	{ "TCP", tcp, CHECK },
	{ "TCP, IPv6", tcp6, CHECK },
	{ "TCP, IPv4-mapped", tcp_mapped, CHECK },
	{ "TCP to 0.0.0.0", tcp_any, CHECK },
	{ "TCP to ::", tcp_any6, CHECK },
	{ "TCP to ::ffff:0.0.0.0", tcp_any_mapped, CHECK },
	{ "TCP, not blocking", tcp_nonblocking, CHECK },
	{ "TCP, connected a second time", tcp_again, CHECK },
	{ "TCP Fast Open", fast_open, CHECK },
	{ "TCP Fast Open, IPv6", fast_open6, CHECK },
	{ "TCP Fast Open by connect", fast_open_connect, CHECK },
	{ "MPTCP", mptcp, CHECK },
	{ "MPTCP, IPv6", mptcp6, CHECK },
	{ "MPTCP Fast Open", fast_open_mptcp, CHECK },
	{ "UDP", udp, CHECK },
	{ "UDP, IPv6", udp6, CHECK },
	{ "UDP, IPv4-mapped", udp_mapped, CHECK },
	{ "UDP to 0.0.0.0", udp_any, CHECK },
	{ "UDP to ::", udp_any6, CHECK },
	{ "TCP to :: from another address", tcp_any_from, CHECK },
	{ "TCP to :: from an IPv4-mapped address", tcp_any_from_mapped, CHECK },
	{ "UDP to :: from another address", udp_any_from, CHECK },
	{ "UDP to :: from an IPv4-mapped address", udp_any_from_mapped, CHECK },
	{ "UDP to 0.0.0.0 from an address in the message", udp_any_from_message, CHECK },
	{ "UDP to 0.0.0.0 from an address in the second message", udp_any_from_second_message, CHECK },
	{ "UDP by a routing header", routed, CHECK },
	{ "UDP by a routing header in the message", routed_message, CHECK },
	{ "UDP by a routing header of the old kind", routed_old, CHECK },
	{ "UDP by a routing header of a flow", routed_flow, CHECK },
	{ "UDP by a source route", source_routed, CHECK },
	{ "UDP by a source route in the message", source_routed_message, CHECK },
	{ "UDP by a source route in the second message", source_routed_second_message, CHECK },
	{ "SMC", smc, CHECK },
	{ "SMC, IPv6", smc6, CHECK },
	{ "SMC by its protocol", smc_protocol, CHECK },
	{ "L2TP", l2tp, CHECK },
	{ "L2TP, AF_UNSPEC", l2tp_unspec, CHECK },
	{ "UDP, connected", udp_connected, CHECK },
	{ "UDP, AF_UNSPEC", udp_unspec, CHECK },
	{ "UDP, AF_UNSPEC, IPV6_ADDRFORM", udp_becomes_v4, CHECK },
	{ "UDP, IPv4 address on an IPv6 socket", udp_v4_on_v6, CHECK },
	{ "UDP, connected elsewhere", udp_elsewhere, CHECK },
	{ "UDP, corked for elsewhere", udp_corked, CHECK },
	{ "UDP-Lite", udp_lite, CHECK },
	{ "sendmsg", message_sent, CHECK },
	{ "sendmmsg, the third", messages_sent, CHECK },
	{ "io_uring connect", uring_connect, CHECK },
	{ "io_uring connect in a worker", uring_connect_worker, CHECK },
	{ "io_uring connect, SQPOLL", uring_connect_polled, CHECK },
	{ "io_uring sendmsg", uring_message, CHECK },
	{ "io_uring sendmsg, SQPOLL", uring_message_polled, CHECK },
	{ "io_uring sendmsg, zero-copy", uring_message_zero_copy, CHECK },
	{ "io_uring send to, zero-copy", uring_send_to, CHECK },
	{ "io_uring socket", uring_socket, CHECK },
	{ "SCTP", sctp, CHECK },
	{ "SCTP, one to many", sctp_sent, CHECK },
	{ "SCTP connectx", sctp_connectx_new, CHECK },
	{ "SCTP connectx, old", sctp_connectx_old, CHECK },
	{ "SCTP connectx by getsockopt", sctp_connectx_get, CHECK },
	{ "SCTP connectx, second address", sctp_connectx_second, CHECK },
	{ "raw UDP", raw_udp, CHECK },
	{ "raw UDP, another port in the packet", raw_port, CHECK },
	{ "raw with a header of its own", raw_header_sent, CHECK },
	{ "raw with a header of its own, connected", raw_header_connected, CHECK },
	{ "raw UDP with a header of its own", raw_header_of_udp, CHECK },
	{ "raw with a header of its own in a race", raw_header_raced, CHECK },
	{ "raw with a header of its own, IPv6", raw_header6, CHECK },
	{ "packet socket", packet_raw, CHECK },
	{ "packet socket, bound", packet_raw_bound, CHECK },
	{ "packet socket, SOCK_DGRAM", packet_dgram, CHECK },
	{ "packet socket of the old kind", packet_old, CHECK },
	{ "packet socket's ring", packet_ring, CHECK },
	{ "packet socket by io_uring", packet_uring, CHECK },
	{ "TUN device", tunnel, CHECK },
	{ "ping socket", ping_socket },
	{ "ping socket, IPv6", ping6_socket },
	{ "raw ICMP", ping_raw },
	{ "raw ICMPv6", ping6_raw },
	{ "connected socket over a socket", socket_received, CHECK },
	{ "pidfd_getfd of a connected socket", socket_taken, CHECK },
	{ "network namespace left and joined", network_namespace, CHECK },
	{ "unix socket", unix_stream, CHECK },
	{ "unix socket by /proc/self/root", unix_by_root, CHECK },
	{ "unix socket by /proc/self/fd", unix_by_descriptor, CHECK },
	{ "unix socket by a symbolic link", unix_by_link, CHECK },
	{ "unix socket by a hard link", unix_by_hard_link, CHECK },
	{ "unix socket by a new name", unix_by_rename, CHECK },
	{ "unix socket by a bind mount", unix_by_bind, CHECK },
	{ "unix socket by io_uring", unix_uring, CHECK },
	{ "unix datagram", unix_datagram, CHECK },
	{ "unix datagram, connected", unix_datagram_connected, CHECK },
	{ "listen", bind4 },
	{ "listen, IPv6", bind6 },
	{ "listen, MPTCP", bind_mptcp },
	{ "listen, AF_UNSPEC", bind_unspec },
	{ "listen, bound by io_uring", bind_uring },
	{ "listen on what the kernel finds", bind_range },
	{ "listen on what bind finds", bind_range_explicit },
	{ "UDP port", bind_udp },
	{ "TCP from a forbidden address", arrives },
	{ "MPTCP from a forbidden address", arrives_mptcp },
	{ "SMC from a forbidden address", arrives_smc },
	{ "SMC by its protocol from a forbidden address", arrives_smc_protocol },
	{ "SCTP from a forbidden address", arrives_sctp },
	{ "UDP from a forbidden address", arrives_udp },
	{ NULL },
};
