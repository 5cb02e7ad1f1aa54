/*
 * floor.h - what the two halves of the floor say to each other.
 *
 * floor.c is built with a C library, bare.c with the rooms of jail-init and
 * without one; this header suits both.
 */
#ifndef JAIL_FLOOR_H
#define JAIL_FLOOR_H

#include <stdint.h>

struct bare {
	const void *plan; /* as JAIL_REQUEST_PLAN carries it */
	uint32_t plan_len;
	const char *directory;
	const char *file;
	char **argv;
	char **envp;
	int fds[3];	      /* standard input, output and error of the program */
	uint64_t clone_flags; /* CLONE_NEW* */
	int pidfd;	      /* out */
	int status;	      /* out, once the pidfd is readable: as wait4(2) gives it, or -errno */
};

/* Starts a sandbox that is nothing but the plan's system calls.  Returns its pid, or -errno. */
long bare_start(struct bare *bare);

#endif
