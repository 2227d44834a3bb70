// SPDX-License-Identifier: Apache-2.0
// Asks a name server for a name's address, in each of the ways in which bytes get out: `act ask HOW ADDRESS NAME` says
// "ok" when the question was sent, whatever the answer would be.
#define _GNU_SOURCE
#include "ask.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* A message of one question (RFC 1035, 4.1); "\." in a name is a dot inside of a label. */
static int message(unsigned char *m, const char *name)
{
	unsigned char *length, *p;

	memcpy(m, "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00", 12);
	length = m + 12;
	p = length + 1;
	for (; *name; name++) {
		if (*name == '.') {
			*length = p - length - 1;
			length = p++;
		} else {
			if (*name == '\\')
				name++;
			*p++ = *name;
		}
	}
	*length = p - length - 1;
	if (*length)
		*p++ = 0;
	memcpy(p, "\0\1\0\1", 4);
	return p + 4 - m;
}

static int sent(ssize_t n)
{
	return n < 0 ? -1 : 0;
}

/* The second of two messages, the first of which asks for another name. */
static int sendmmsg_second(int fd, const void *to, socklen_t size, unsigned char *m, int n)
{
	unsigned char other[64];
	struct iovec v[2] = { { other, message(other, "free.example") }, { m, n } };
	struct mmsghdr h[2] = {};

	for (int i = 0; i < 2; i++)
		h[i].msg_hdr = (struct msghdr){ .msg_name = (void *)to, .msg_namelen = size, .msg_iov = &v[i], .msg_iovlen = 1 };
	n = sendmmsg(fd, h, 2, 0);
	if (n == 1) {
		/* why the second was not sent is told by sending it again */
		return sent(sendmsg(fd, &h[1].msg_hdr, 0));
	}
	return n == 2 ? 0 : -1;
}

/* Many datagrams in one call: the device cuts them. */
static int segmented(int fd, unsigned char *m, int n)
{
	unsigned char both[1024] = {};
	int size = message(both, "free.example");

	memcpy(both + size, m, n);
	setsockopt(fd, IPPROTO_UDP, 103 /* UDP_SEGMENT */, &size, sizeof size);
	return sent(send(fd, both, size + n, 0));
}

/* Through io_uring, without a system call of its own for sending. */
static int by_uring(int fd, unsigned char *m, int n)
{
	struct io_uring_params p = {};
	int ring = syscall(SYS_io_uring_setup, 4, &p);
	char *sq, *cq;
	struct io_uring_sqe *e;
	struct io_uring_cqe *c;

	if (ring < 0)
		return -1;
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof *c, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING);
	e = mmap(NULL, p.sq_entries * sizeof *e, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || e == MAP_FAILED)
		return -1;
	*e = (struct io_uring_sqe){ .opcode = IORING_OP_SEND, .flags = IOSQE_ASYNC, .fd = fd, .addr = (uint64_t)m, .len = n };
	*(uint32_t *)(sq + p.sq_off.array) = 0;
	__atomic_store_n((uint32_t *)(sq + p.sq_off.tail), 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		return -1;
	c = (void *)(cq + p.cq_off.cqes);
	close(ring);
	if (c->res >= 0)
		return 0;
	errno = -c->res;
	return -1;
}

static int spliced(int fd, unsigned char *m, int n)
{
	int ends[2];

	if (pipe(ends) || write(ends[1], m, n) != n)
		return -1;
	return sent(splice(ends[0], NULL, fd, NULL, n, 0));
}

/* A packet whose IP header is of our own making; `fragments`: in two pieces, the name in both. */
static int by_hand(const struct sockaddr_in *to, unsigned char *m, int n, int fragments)
{
	unsigned char packet[1024] = {};
	struct iphdr *ip = (void *)packet;
	struct udphdr *udp = (void *)(ip + 1);
	int fd = socket(AF_INET, SOCK_RAW, IPPROTO_RAW), first = 24;

	if (fd < 0)
		return -1;
	*ip = (struct iphdr){ .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP, .saddr = htonl(0x7f000001),
			      .daddr = to->sin_addr.s_addr, .id = htons(7) };
	*udp = (struct udphdr){ .uh_sport = htons(4000), .uh_dport = htons(53), .uh_ulen = htons(8 + n) };
	memcpy(udp + 1, m, n);
	if (!fragments)
		return sent(sendto(fd, packet, 28 + n, 0, (void *)to, sizeof *to));
	ip->frag_off = htons(IP_MF);
	if (sendto(fd, packet, 20 + first, 0, (void *)to, sizeof *to) < 0)
		return -1;
	ip->frag_off = htons(first / 8);
	memmove(packet + 20, packet + 20 + first, 8 + n - first);
	return sent(sendto(fd, packet, 20 + 8 + n - first, 0, (void *)to, sizeof *to));
}

/* A destination option before the UDP header, as any process may ask for on its socket. */
static void with_option(int fd)
{
	unsigned char option[8] = { 0, 0, 1, 4 };

	setsockopt(fd, IPPROTO_IPV6, 59 /* IPV6_DSTOPTS */, option, sizeof option);
}

/* A byte in front of the name that the server does not read among the others, by which all of it is one label. */
static int urgent(const void *to, socklen_t size, int family, unsigned char *m, int n)
{
	unsigned char begin[14] = { n >> 8, n }, whole = n - 12 - 4 - 1;
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	struct pollfd answer = { fd, POLLIN, 0 };

	memcpy(begin + 2, m, 12);
	if (fd < 0 || connect(fd, to, size))
		return -1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (send(fd, begin, 14, 0) < 0 || send(fd, &whole, 1, MSG_OOB) < 0 || send(fd, m + 12, n - 12, 0) < 0)
		return -1;
	if (poll(&answer, 1, 1500) > 0)
		return 0;
	errno = ETIMEDOUT;
	return -1;
}

/* A message of another name and its padding (RFC 7830), which alone says that it begins a message so long that the question
 * behind it is a part of that: sent once the connection has been asked to be made once more. */
static int padded(const void *to, socklen_t size, int family, unsigned char *m, int n)
{
	unsigned char all[512], pad[128] = { 0xff, 0xff };
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, length = message(all + 2, "free.example");
	int padding = 2 + message(pad + 2, "free.example");
	unsigned char option[] = { 0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 4 + padding, 0, 12, 0, padding };
	struct pollfd answer = { fd, POLLIN, 0 };
	char byte;

	all[2 + 11] = 1;
	memcpy(all + 2 + length, option, sizeof option);
	length += sizeof option;
	all[0] = 0;
	all[1] = length + padding;
	if (fd < 0 || connect(fd, to, size))
		return -1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (send(fd, all, 2 + length, 0) < 0 || !connect(fd, to, size) || send(fd, pad, padding, 0) < 0)
		return -1;
	all[0] = n >> 8;
	all[1] = n;
	memcpy(all + 2, m, n);
	if (send(fd, all, 2 + n, 0) < 0)
		return -1;
	for (int wanted = 2; wanted; wanted--) {
		if (poll(&answer, 1, 1500) <= 0 || read(fd, &byte, 1) != 1) {
			errno = ETIMEDOUT;
			return -1;
		}
	}
	return 0;
}

/* A segment of no connection of its own. */
static int segment(const struct sockaddr_in *to, unsigned char *m, int n)
{
	unsigned char packet[1024] = {};
	struct tcphdr *tcp = (void *)packet;
	int fd = socket(AF_INET, SOCK_RAW, IPPROTO_TCP);

	*tcp = (struct tcphdr){ .source = htons(4000), .dest = htons(53), .seq = htonl(1), .doff = 5, .ack = 1, .psh = 1 };
	packet[20] = n >> 8;
	packet[21] = n;
	memcpy(packet + 22, m, n);
	return fd < 0 ? -1 : sent(sendto(fd, packet, 22 + n, 0, (void *)to, sizeof *to));
}

/* `piece` bytes a segment, sent with `flags`, after a question for another name if `after`; "ok" when the server has answered with a byte for the last. */
static int by_stream(const void *to, socklen_t size, int family, unsigned char *m, int n, int piece, int after, int flags)
{
	unsigned char all[1024];
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, length = 0, wanted = 1;
	struct pollfd answer = { fd, POLLIN, 0 };

	if (fd < 0 || connect(fd, to, size))
		return -1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof one);
	if (after) {
		length = message(all + 2, "free.example");
		all[0] = 0;
		all[1] = length;
		length += 2;
		wanted++;
	}
	all[length] = n >> 8;
	all[length + 1] = n;
	memcpy(all + length + 2, m, n);
	length += 2 + n;
	for (int at = 0; at < length; at += piece) {
		int some = piece < length - at ? piece : length - at;

		if (send(fd, all + at, some, MSG_NOSIGNAL | flags) != some)
			return -1;
	}
	for (; wanted; wanted--) {
		char byte;

		if (poll(&answer, 1, 1500) <= 0 || read(fd, &byte, 1) != 1) {
			errno = ETIMEDOUT;
			return -1;
		}
	}
	return 0;
}

int asked(char **a)
{
	const char *how = a[0], *ip = a[1];
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(53) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(53) };
	int six = strchr(ip, ':') != NULL, family = six ? AF_INET6 : AF_INET, fd;
	const void *to = six ? (void *)&v6 : (void *)&v4;
	socklen_t size = six ? sizeof v6 : sizeof v4;
	unsigned char m[600];
	int n = message(m, a[2]);

	inet_pton(family, ip, six ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr);
#define BY(name) (!strcmp(how, name))
	if (BY("tcp")) return by_stream(to, size, family, m, n, 1000, 0, 0);
	if (BY("tcp-bytes")) return by_stream(to, size, family, m, n, 1, 0, 0);
	if (BY("tcp-second")) return by_stream(to, size, family, m, n, 1000, 1, 0);
	if (BY("zerocopy")) return by_stream(to, size, family, m, n, 1000, 0, MSG_ZEROCOPY);
	if (BY("padded")) return padded(to, size, family, m, n);
	if (BY("urgent")) return urgent(to, size, family, m, n);
	if (BY("segment")) return segment(&v4, m, n);
	if (BY("raw")) return by_hand(&v4, m, n, 0);
	if (BY("fragments")) return by_hand(&v4, m, n, 1);
	fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (BY("sendto")) return sent(sendto(fd, m, n, 0, to, size));
	if (BY("option")) { with_option(fd); return sent(sendto(fd, m, n, 0, to, size)); }
	if (BY("sendmmsg")) return sendmmsg_second(fd, to, size, m, n);
	if (BY("cut")) return sent(sendto(fd, m, n - 8, 0, to, size));
	if (connect(fd, to, size))
		return -1;
	if (BY("send")) return sent(send(fd, m, n, 0));
	if (BY("write")) return sent(write(fd, m, n));
	if (BY("corked")) return send(fd, m, 5, MSG_MORE) < 0 ? -1 : sent(send(fd, m + 5, n - 5, 0));
	if (BY("segmented")) return segmented(fd, m, n);
	if (BY("io_uring")) return by_uring(fd, m, n);
	if (BY("splice")) return spliced(fd, m, n);
	errno = EINVAL;
	return -1;
}
