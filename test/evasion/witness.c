// SPDX-License-Identifier: Apache-2.0
// The witness: a process outside of the workload. Listens where the workload must not reach, notes what arrives in the
// file `got`; hands descriptors over by `witness.sock`; says in `witness` where its pid, descriptors and memory are.
#include "evade.h"
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/ipv6.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/un.h>

static int notes;
static const char *folder;

/* SCTP answers only from addresses that an interface has. */
static void add_address4(void)
{
	struct ifreq request = { .ifr_name = "lo:66" };
	struct sockaddr_in own = { AF_INET };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	inet_pton(AF_INET, "127.0.0.66", &own.sin_addr);
	memcpy(&request.ifr_addr, &own, sizeof own);
	ioctl(fd, SIOCSIFADDR, &request);
	close(fd);
}

static void add_address6(void)
{
	struct in6_ifreq request = { .ifr6_prefixlen = 128 };
	int fd = socket(AF_INET6, SOCK_DGRAM, 0);

	request.ifr6_ifindex = if_nametoindex("lo");
	inet_pton(AF_INET6, "fd00:bad::1", &request.ifr6_addr);
	ioctl(fd, SIOCSIFADDR, &request);
	close(fd);
}

static int listener(int family, int type, int protocol, int port)
{
	struct sockaddr_in6 v6 = { AF_INET6, htons(port) };
	struct sockaddr_in v4 = { AF_INET, htons(port) };
	int fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol), one = 1, queue = 16;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
	if (bind(fd, family == AF_INET ? (void *)&v4 : (void *)&v6, family == AF_INET ? sizeof v4 : sizeof v6)) {
		close(fd);
		return -1;
	}
	if (type != SOCK_DGRAM) {
		if (type == SOCK_STREAM && protocol != IPPROTO_SCTP)
			setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, &queue, sizeof queue);
		listen(fd, 64);
	}
	return fd;
}

/* Sees packets to the forbidden addresses that come to no listener. */
static int watcher(void)
{
	struct sockaddr_ll own = { AF_PACKET, htons(ETH_P_ALL), if_nametoindex("lo") };
	int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL));

	return fd >= 0 && bind(fd, (void *)&own, sizeof own) ? -1 : fd;
}

/* The line in a packet to a forbidden address that begins as tokens of this group do. Its length, or 0. */
static ssize_t forbidden_line(char *packet, ssize_t length)
{
	char forbidden4[4], forbidden6[16], *line, *end;

	inet_pton(AF_INET, "127.0.0.66", forbidden4);
	inet_pton(AF_INET6, "fd00:bad::1", forbidden6);
	if (length < 40 || (packet[0] >> 4 == 4 ? memcmp(packet + 16, forbidden4, 4) : memcmp(packet + 24, forbidden6, 16)))
		return 0;
	line = memmem(packet, length, "reach-", 6);
	end = line ? memchr(line, '\n', packet + length - line) : NULL;
	if (!end)
		return 0;
	length = end + 1 - line;
	memmove(packet, line, length);
	return length;
}

static int unix_listener(const char *name, int type)
{
	struct sockaddr_un own = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	snprintf(own.sun_path, sizeof own.sun_path, "%s/%s", folder, name);
	unlink(own.sun_path);
	if (bind(fd, (void *)&own, sizeof own))
		return -1;
	chmod(own.sun_path, 0777);
	if (type == SOCK_STREAM)
		listen(fd, 64);
	return fd;
}

static int forbidden_connection(void)
{
	struct sockaddr_in to = { AF_INET, htons(7777) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, "127.0.0.66", &to.sin_addr);
	return connect(fd, (void *)&to, sizeof to) ? -1 : fd;
}

static void come_in(int type, int protocol, int port)
{
	struct sockaddr_in own = { AF_INET }, to = { AF_INET, htons(port) };
	int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);

	inet_pton(AF_INET, "127.0.0.77", &own.sin_addr);
	inet_pton(AF_INET, protocol == IPPROTO_SCTP ? "127.0.0.1" : "127.0.0.5", &to.sin_addr);
	bind(fd, (void *)&own, sizeof own);
	connect(fd, (void *)&to, sizeof to);
	send(fd, "x", 1, MSG_NOSIGNAL);
	/* not closed: whoever is called may need a while to answer */
}

static void hand_over(int to, int fd)
{
	char control[CMSG_SPACE(sizeof fd)] = {}, byte = 0;
	struct iovec data = { &byte, 1 };
	struct msghdr m = { .msg_iov = &data, .msg_iovlen = 1 };

	if (fd >= 0) {
		struct cmsghdr *c = (void *)control;

		m.msg_control = control;
		m.msg_controllen = sizeof control;
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
	}
	sendmsg(to, &m, MSG_NOSIGNAL);
}

static void serve(int asked, const char *held)
{
	struct timeval patience = { 1, 0 };
	char what = 0;
	int fd = -1;

	setsockopt(asked, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (recv(asked, &what, 1, 0) == 1) {
		if (what == 'r')
			fd = open(format("%s/file", held), O_RDONLY | O_CLOEXEC);
		else if (what == 'p')
			fd = open(format("%s/file", held), O_PATH | O_CLOEXEC);
		else if (what == 'd')
			fd = open(held, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		else if (what == 'w')
			fd = open(format("%s/locked", held), O_RDWR | O_CLOEXEC);
		else if (what == 't')
			fd = forbidden_connection();
		else if (what == 'C')
			come_in(SOCK_STREAM, 0, 7792);
		else if (what == 'M')
			come_in(SOCK_STREAM, 262, 7793);
		else if (what == 'S')
			come_in(SOCK_STREAM, IPPROTO_SCTP, 7795);
		else if (what == 'U')
			come_in(SOCK_DGRAM, 0, 7794);
		hand_over(asked, fd);
	}
	if (fd >= 0)
		close(fd);
	close(asked);
}

int witness(const char *shared)
{
	static char memory[4096] __attribute__((aligned(4096)));
	struct pollfd fds[256];
	const char *held = strdup(format("%s/held", folder = shared));
	int asked, count = 0, first_data, first_connection, fd, watching = watcher();
	void *mapped;

	signal(SIGPIPE, SIG_IGN);
	umask(0);
	add_address4();
	add_address6();
	strcpy(memory, SECRET);
	notes = open(format("%s/got", shared), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
	mkdir(format("%s/marks", shared), 0777);
	fd = open(format("%s/file", held), O_RDONLY | O_CLOEXEC);
	mapped = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	asked = unix_listener("witness.sock", SOCK_STREAM);
	fds[count++] = (struct pollfd){ asked, POLLIN };
#define LISTEN(...) do { int fd_ = __VA_ARGS__; if (fd_ >= 0) fds[count++] = (struct pollfd){ fd_, POLLIN }; } while (0)
	LISTEN(unix_listener("forbidden.sock", SOCK_STREAM));
	for (int port = 7777; port <= 7778; port++)
		for (int family = AF_INET; family <= AF_INET6; family += AF_INET6 - AF_INET) {
			LISTEN(listener(family, SOCK_STREAM, 0, port));
			LISTEN(listener(family, SOCK_STREAM, IPPROTO_SCTP, port));
		}
	first_data = count;
	LISTEN(unix_listener("forbidden.dgram", SOCK_DGRAM));
	for (int port = 7777; port <= 7778; port++)
		for (int family = AF_INET; family <= AF_INET6; family += AF_INET6 - AF_INET) {
			LISTEN(listener(family, SOCK_DGRAM, 0, port));
			LISTEN(listener(family, SOCK_DGRAM, IPPROTO_UDPLITE, port));
		}
	LISTEN(watching);
	first_connection = count;
	put_file(format("%s/.witness", shared), format("pid %d\nfd %d\nmapped %lu\nmemory %lu\nconnection %d\n", getpid(), fd,
		 (unsigned long)mapped, (unsigned long)memory, forbidden_connection()), 0644);
	rename(format("%s/.witness", shared), format("%s/witness", shared));
	for (;;) {
		if (poll(fds, count, 100) < 0 && errno != EINTR)
			return 1;
		/* for fanotify: somebody who may opens the file over and over */
		close(open(format("%s/file", held), O_RDONLY));
		for (int i = 0; i < count; i++) {
			char bytes[4096];
			ssize_t n;

			if (!(fds[i].revents & (POLLIN | POLLHUP | POLLERR)))
				continue;
			if (i < first_data) {
				int got = accept4(fds[i].fd, NULL, NULL, SOCK_CLOEXEC | (i ? SOCK_NONBLOCK : 0));

				if (got >= 0 && !i)
					serve(got, held);
				else if (got >= 0 && count < 256)
					fds[count++] = (struct pollfd){ got, POLLIN };
				else if (got >= 0)
					close(got);
				continue;
			}
			n = recv(fds[i].fd, bytes, sizeof bytes, MSG_DONTWAIT);
			if (n > 0 && fds[i].fd == watching)
				n = forbidden_line(bytes, n);
			if (n > 0) {
				if (write(notes, bytes, n) < 0)
					return 1;
			} else if (i >= first_connection) {
				close(fds[i].fd);
				fds[i] = fds[--count];
				i--;
			}
		}
	}
}

/* --- the workload's side --- */

int witness_number(const char *what, unsigned long *number)
{
	char text[512] = "", *at;
	int fd = open(format("%s/witness", here.shared), O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, text, sizeof text - 1) < 0)
		return -1;
	close(fd);
	at = strstr(text, format("%s ", what));
	if (!at) {
		errno = ESRCH;
		return -1;
	}
	*number = strtoul(at + strlen(what) + 1, NULL, 10);
	return 0;
}

int witness_descriptor(char which)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec data = { &byte, 1 };
	struct msghdr m = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	struct cmsghdr *c;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), got = 0;

	snprintf(to.sun_path, sizeof to.sun_path, "%s/witness.sock", here.shared);
	if (fd < 0 || connect(fd, (void *)&to, sizeof to))
		return failed("connect to the witness");
	send(fd, &which, 1, 0);
	if (recvmsg(fd, &m, 0) < 0)
		return failed("recvmsg");
	close(fd);
	if (strchr("CMUS", which))
		return 0;
	c = CMSG_FIRSTHDR(&m);
	if (!c)
		return failed_as("no descriptor came", m.msg_flags & MSG_CTRUNC ? EACCES : EBADMSG);
	memcpy(&got, CMSG_DATA(c), sizeof got);
	return got;
}
