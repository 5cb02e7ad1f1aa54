/*
 * census.h - what census.c counts, for watch.c alone.
 */
#ifndef JAIL_CENSUS_H
#define JAIL_CENSUS_H

#include "memory.h"

struct row {
	struct proc_stat stat;
	int slot;    /* its index, or that of nobody: census.c */
	int is_lent; /* its memory is a child's, too, until that has executed something */
};

/* One look at all processes. */
struct look {
	struct jail_state *state;
	struct jail_slots *slots;
	struct row *rows;
	int count, max;
	struct jail_inodes *inodes;
	struct jail_seen orphans;
	uint64_t own, mapped,
		kept; /* bytes of all: alone, shared and mapped, in tmpfs and memfds */
	uint32_t tasks, shepherds;
	int exactly;
	int moments; /* that it has waited for somebody to begin to wait */
	int has_ended_some;
};

void census_room(struct look *look, char *room, size_t size);
void census_begin(struct look *look);
void census_count(struct look *look, int exactly);
int census_has(const struct jail_slot *slot);
uint64_t census_memory(const struct look *look);

#endif
