/*
 * clone.h - clone(2) and clone3(2) whose child calls a function on a stack of its own.
 *
 * Needed twice: the harness starts jail-init (spawn.c), jail-init starts
 * programs (exec.c).  Both use CLONE_VM|CLONE_VFORK: nothing of the caller is
 * copied, and the caller waits until the child has executed or ended.
 */
#ifndef JAIL_CLONE_H
#define JAIL_CLONE_H

#include <asm/unistd.h>

/*
 * Returns the child's pid, or -errno.  The child returns from no function of
 * the caller's: it calls fn(arg) and exits with what that returned.
 */
__attribute__((noinline)) static long clone_call(long nr, const long a[5], int (*fn)(void *),
						 void *arg)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = a[3];
	register long r8 __asm__("r8") = a[4];
	register void *r12 __asm__("r12") = (void *)fn;
	register void *r13 __asm__("r13") = arg;
	long r;

	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "mov %%r13, %%rdi\n\t"
			 "call *%%r12\n\t"
			 "mov %%eax, %%edi\n\t"
			 "mov %[exit], %%eax\n\t"
			 "syscall\n\t"
			 "1:"
			 : "=a"(r)
			 : "a"(nr), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r12),
			   "r"(r13), [exit] "i"(__NR_exit_group)
			 : "rcx", "r11", "memory", "cc");
	return r;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a[0];
	register long x1 __asm__("x1") = a[1];
	register long x2 __asm__("x2") = a[2];
	register long x3 __asm__("x3") = a[3];
	register long x4 __asm__("x4") = a[4];
	register void *x9 __asm__("x9") = (void *)fn;
	register void *x10 __asm__("x10") = arg;

	__asm__ volatile("svc 0\n\t"
			 "cbnz x0, 1f\n\t"
			 "mov x29, xzr\n\t"
			 "mov x0, x10\n\t"
			 "blr x9\n\t"
			 "mov x8, %[exit]\n\t"
			 "svc 0\n\t"
			 "1:"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x9),
			   "r"(x10), [exit] "i"(__NR_exit_group)
			 : "memory", "cc", "x30");
	return x0;
#else
#error "clone.h: this architecture has no clone sequence here yet"
#endif
}

#endif
