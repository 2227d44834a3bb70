// SPDX-License-Identifier: Apache-2.0
// What holds a pod's namespaces: waits, and takes in orphans when the pod shares its processes' namespace.
#include <signal.h>
#include <unistd.h>

int main(void)
{
	signal(SIGCHLD, SIG_IGN);
	for (;;)
		pause();
}
