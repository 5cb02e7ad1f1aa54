/*
 * memory.h - what memory.c finds, for watch.c alone.
 */
#ifndef JAIL_MEMORY_H
#define JAIL_MEMORY_H

#include <stdint.h>

#define INODES_MAX 16384 /* a power of two */

/* Bytes that are a process's alone, and of shared memory that it has mapped. */
struct jail_memory {
	uint64_t own;
	uint64_t shared;
};

/* Files that were counted already, by what their numbers hash to; 0: none. */
struct jail_inodes {
	uint32_t count;
	uint64_t inode[INODES_MAX];
};

void memory_of(int proc, int pid, int exactly, struct jail_memory *ret_memory);
uint64_t memory_of_tmpfs(int fd, uint32_t *ret_hits);
void memory_forget(struct jail_inodes *inodes);
uint64_t memory_of_memfds(int proc, int pid, struct jail_inodes *inodes);

#endif
