/*
 * census.c - which processes there are, whose each is, and what each has.  proc(5)
 */
#include "core.h"
#include "census.h"
#include <linux/time_types.h>

#define VFORK_PAGES 256	  /* that a child touches, between two readings of one memory */
#define MOMENT_NS 100000  /* for others to run */
#define MOMENTS_MAX 10	  /* of one look */
#define TICK_NS 10000000U /* of USER_HZ, which is 100 wherever we run */

enum { STRANGER = -1, ORPHAN = -2, UNKNOWN = -3 };

int census_has(const struct jail_slot *slot)
{
	return slot->shepherd && !slot->file && slot->pid;
}

static int note(void *arg, int pid)
{
	struct look *look = arg;
	struct row *row = &look->rows[look->count];

	if (look->count < look->max && proc_stat(look->state->watch.proc, pid, &row->stat) == 0) {
		row->slot = UNKNOWN;
		look->count++;
	}
	return 0;
}

static int find(const struct look *look, int pid)
{
	int low = 0, high = look->count;

	while (low < high) {
		int middle = (low + high) / 2;

		if (look->rows[middle].stat.pid < pid)
			low = middle + 1;
		else
			high = middle;
	}
	return low < look->count && look->rows[low].stat.pid == pid ? low : -1;
}

/* Whose program a child of ours is. */
static int slot_of_child(const struct look *look, int pid)
{
	char text[STATUS_BYTES];

	if (!look->state->watch.is_ours) {
		proc_read(look->state->watch.proc, pid, "status", text, sizeof(text));
		pid = proc_last_number(text, "NSpid:");
	}
	for (uint32_t i = 0; i < look->slots->used; i++)
		if (look->slots->slot[i].shepherd == pid || look->slots->slot[i].pid == pid)
			return (int)i;
	return ORPHAN;
}

/* Whose a process is: that of the ancestor who is our child.  In a /proc of our own nobody is a stranger. */
static int owner(const struct look *look, int i)
{
	int nobody = look->state->watch.self == 1 ? ORPHAN : STRANGER;

	for (int steps = 0; steps < look->count && i >= 0; steps++) {
		const struct row *row = &look->rows[i];

		if (row->slot != UNKNOWN)
			return row->slot;
		if (row->stat.pid == look->state->watch.self)
			return STRANGER;
		if (row->stat.parent == look->state->watch.self)
			return slot_of_child(look, row->stat.pid);
		i = find(look, row->stat.parent);
	}
	return nobody;
}

static int is_shepherd(const struct look *look, const struct row *row)
{
	return row->slot >= 0 && row->stat.parent == look->state->watch.self &&
	       look->slots->slot[row->slot].shepherd > 0;
}

static int looks_borrowed(const struct row *row, const struct row *parent)
{
	uint64_t more = parent->stat.resident, less = row->stat.resident;

	if (more < less) {
		more = row->stat.resident;
		less = parent->stat.resident;
	}
	return parent->stat.mapped == row->stat.mapped && more - less <= VFORK_PAGES;
}

/*
 * Whether a process has its parent's memory: a child of vfork(2), whose parent
 * waits in state D until it executes something.  Each parent lends to one, so
 * that nobody hides more than half of what he has by looking like it.
 *
 * kcmp(2) would tell, and the programs' filter, which is ours too, refuses it.
 * What was read first may be from before the vfork(2); and the child may run
 * when its parent has yet to wait, or is woken while execve(2) has yet to take
 * the memory from the child.  An exact look gives such a child some moments.
 */
static int is_borrowed(struct look *look, struct row *row)
{
	int i = find(look, row->stat.parent), proc = look->state->watch.proc;
	struct row *parent = i >= 0 ? &look->rows[i] : 0;
	const struct __kernel_timespec moment = { .tv_nsec = MOMENT_NS };

	if (!parent || parent->is_lent)
		return 0;
	for (;;) {
		if (look->exactly) {
			proc_stat(proc, parent->stat.pid, &parent->stat);
			proc_stat(proc, row->stat.pid, &row->stat);
		}
		if (!looks_borrowed(row, parent))
			return 0;
		if (parent->stat.state == 'D')
			return parent->is_lent = 1;
		if (row->stat.state != 'R' || !look->exactly || look->moments == MOMENTS_MAX)
			return 0;
		look->moments++;
		sys(nanosleep, &moment, 0);
	}
}

static void add(struct look *look, struct row *row, int counts_memfds)
{
	struct jail_seen *seen = row->slot >= 0 ? &look->slots->slot[row->slot].now :
						  &look->orphans;
	int proc = look->state->watch.proc;
	struct jail_memory memory;

	seen->cpu_ns += row->stat.child_ticks * TICK_NS;
	if (is_shepherd(look, row)) {
		look->shepherds++;
		return;
	}
	if (is_borrowed(look, row))
		memory = (struct jail_memory){ 0 };
	else
		memory_of(proc, row->stat.pid, look->exactly, &memory);
	if (counts_memfds)
		look->kept += memory_of_memfds(proc, row->stat.pid, look->inodes);
	seen->cpu_ns += row->stat.ticks * TICK_NS;
	seen->memory += memory.own + memory.shared;
	seen->tasks += row->stat.threads;
	look->tasks += row->stat.threads;
	look->own += memory.own;
	look->mapped += memory.shared;
}

uint64_t census_memory(const struct look *look)
{
	return look->own + (look->mapped > look->kept ? look->mapped : look->kept);
}

static void clear(struct look *look)
{
	for (uint32_t i = 0; i < look->slots->used; i++)
		look->slots->slot[i].now = (struct jail_seen){ 0 };
	look->orphans = (struct jail_seen){ 0 };
	look->own = look->mapped = look->kept = 0;
	for (int i = 0; i < look->count; i++)
		look->rows[i].is_lent = 0;
	look->tasks = look->shepherds = 0;
}

void census_count(struct look *look, int exactly)
{
	const struct jail_watch *watch = &look->state->watch;
	uint32_t hits;
	int is_bounded = watch->memory != 0;

	clear(look);
	look->exactly = exactly;
	look->kept = memory_of_tmpfs(watch->disk, &hits);
	for (uint32_t i = 0; i < look->slots->used; i++) {
		struct jail_slot *slot = &look->slots->slot[i];

		if (!census_has(slot))
			continue;
		is_bounded |= slot->memory_max != 0;
		slot->hits |= hits;
		if (slot->disk < look->kept)
			slot->disk = look->kept;
	}
	if (is_bounded)
		memory_forget(look->inodes);
	for (int i = 0; i < look->count; i++)
		if (look->rows[i].slot != STRANGER)
			add(look, &look->rows[i], is_bounded);
}

/* Where the lists are to lie, in zeroed bytes. */
void census_room(struct look *look, char *room, size_t size)
{
	look->inodes = (struct jail_inodes *)(void *)room;
	look->rows = (struct row *)(void *)(look->inodes + 1);
	look->max = (int)((size - sizeof(*look->inodes)) / sizeof(struct row));
}

/* Who is there, and whose. */
void census_begin(struct look *look)
{
	proc_each(look->state->watch.proc, note, look);
	for (int i = 0; i < look->count; i++)
		look->rows[i].slot = owner(look, i);
}
