/* SPDX-License-Identifier: Apache-2.0
 *
 * What an intruder would bring along: opens a connection or a raw socket, without a shell.
 *   intruder connect ADDRESS PORT
 *   intruder raw
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "connect")) {
		struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[3])) };
		int s = socket(AF_INET, SOCK_STREAM, 0);

		if (s < 0 || inet_pton(AF_INET, argv[2], &to.sin_addr) != 1 ||
		    connect(s, (struct sockaddr *)&to, sizeof(to))) {
			perror("connect");
			return 1;
		}
		puts("connected");
		return 0;
	}
	if (argc == 2 && !strcmp(argv[1], "raw")) {
		if (socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) < 0) {
			perror("socket");
			return 1;
		}
		puts("raw socket opened");
		return 0;
	}
	fputs("usage: intruder connect ADDRESS PORT | raw\n", stderr);
	return 2;
}
