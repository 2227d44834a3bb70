// SPDX-License-Identifier: Apache-2.0
// The program that must not be run: says so on standard output, and leaves a file where its first argument
// says. Without a C library, so that it also runs by ld.so, from a memfd, and as a library (its constructor).
static long call(long number, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long result;

	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return result;
}

#ifdef LIBRARY
__attribute__((constructor)) static void loaded(void)
{
	call(1, 1, (long)"RAN\n", 4, 0);
}
unsigned int la_version(unsigned int version) { return version; }
#else
__attribute__((used)) static void start(long *stack)
{
#ifndef HARMLESS
	call(1, 1, (long)"RAN\n", 4, 0);
	if (stack[0] > 1)
		call(257, -100, stack[2], 0101, 0644);
#endif
	call(231, 0, 0, 0, 0);
}
__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall start\n");
#endif
