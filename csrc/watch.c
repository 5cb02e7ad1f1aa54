/*
 * watch.c - what programs have while they run, and that it is no more than they may.  proc(5)
 *
 * Where a cgroup keeps a limit, the kernel does.  Elsewhere nobody but us sees
 * all that a program has started: so jail-init looks, every 5 to 80 ms, sooner
 * where a limit is near, and never for more than a tenth of its time.  Whoever
 * has most of what is too much is ended, with all that descends from it.
 */
#include "core.h"
#include "memory.h"
#include <linux/fcntl.h>

#define PIDS_MAX (1 << 22) /* as family.c has it: work begins with its bytes, which stay zero */
#define SOONEST_NS 5000000U
#define LATEST_NS 80000000U
#define TASKS_NS 20000000U /* who forks on both of two processors makes some 600 meanwhile */
#define VFORK_PAGES 256	   /* that a child touches, between two readings of one memory */
#define BYTES_PER_NS 4	   /* a program touches no more: 4 GB/s */
#define TICK_NS 10000000U  /* of USER_HZ, which is 100 wherever we run */

enum { STRANGER = -1, ORPHAN = -2, UNKNOWN = -3 };

struct row {
	struct proc_stat stat;
	int slot;    /* its index, or one of the above */
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
	int has_ended_some;
};

/*
 * Opens what is looked at: before PIVOT both trees can be reached.  A /proc
 * of the host's shows our programs under other pids than kill(2) takes.
 */
int room_watch_start(struct jail_state *state, const struct jail_op *op)
{
	struct jail_watch *watch = &state->watch;
	int is_inside = op->args[JAIL_WATCH_PLACE] == JAIL_PROC_INSIDE;
	auto_close place = is_inside ? tree_open(state, op_path(state, op)) : -1;
	char self[16];
	long n;

	if (is_inside && place < 0)
		return place;
	watch->proc = (int)sys(openat, is_inside ? place : AT_FDCWD,
			       is_inside ? "." : op_path(state, op),
			       O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (watch->proc < 0)
		return watch->proc;
	n = sys(readlinkat, watch->proc, "self", self, sizeof(self) - 1);
	if (n < 0)
		return (int)n;
	for (long i = 0; i < n; i++)
		watch->self = watch->self * 10 + (self[i] - '0');
	watch->is_ours = watch->self == sys(getpid);
	if (sys(getpid) == 1) /* elsewhere the last pid is the host's, and says nothing */
		watch->loadavg = (int)sys(openat, watch->proc, "loadavg", O_RDONLY | O_CLOEXEC);
	if (state->scratch >= 0)
		watch->disk = (int)sys(fcntl, state->scratch, F_DUPFD_CLOEXEC, JAIL_CONTROL_FD + 1);
	watch->memory = op->args[JAIL_WATCH_MEMORY];
	watch->tasks = (uint32_t)op->args[JAIL_WATCH_TASKS];
	watch->notice = (uint32_t)op->args[JAIL_WATCH_NOTICE];
	return 0;
}

static int is_running(const struct jail_slot *slot)
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

/*
 * Whether a process has its parent's memory: a child of vfork(2), whose parent
 * waits in state D until it executes something.  Each parent lends to one, so
 * that nobody hides more than half of what he has by looking like it.
 */
static int is_borrowed(struct look *look, const struct row *row)
{
	int i = find(look, row->stat.parent);
	struct row *parent = i >= 0 ? &look->rows[i] : 0;
	uint64_t more, less;

	if (!parent || parent->stat.state != 'D' || parent->is_lent ||
	    parent->stat.mapped != row->stat.mapped)
		return 0;
	more = parent->stat.resident;
	less = row->stat.resident;
	if (more < less) {
		more = row->stat.resident;
		less = parent->stat.resident;
	}
	if (more - less > VFORK_PAGES)
		return 0;
	parent->is_lent = 1;
	return 1;
}

static void add(struct look *look, const struct row *row, int counts_memfds)
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

static uint64_t total(const struct look *look)
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

static void add_all(struct look *look, int exactly)
{
	const struct jail_watch *watch = &look->state->watch;
	uint32_t hits;
	int is_bounded = watch->memory != 0;

	clear(look);
	look->exactly = exactly;
	look->kept = memory_of_tmpfs(watch->disk, &hits);
	for (uint32_t i = 0; i < look->slots->used; i++) {
		struct jail_slot *slot = &look->slots->slot[i];

		if (!is_running(slot))
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

static int is_much(const struct look *look)
{
	const struct jail_watch *watch = &look->state->watch;

	if (watch->memory && total(look) > watch->memory)
		return 1;
	for (uint32_t i = 0; i < look->slots->used; i++) {
		const struct jail_slot *slot = &look->slots->slot[i];

		if (is_running(slot) && slot->memory_max && slot->now.memory > slot->memory_max)
			return 1;
	}
	return 0;
}

static void remember(const struct look *look)
{
	const struct jail_watch *watch = &look->state->watch;
	int is_full = watch->notice && look->tasks + look->shepherds + 1 >= watch->notice + 2;

	for (uint32_t i = 0; i < look->slots->used; i++) {
		struct jail_slot *slot = &look->slots->slot[i];
		uint64_t cpu_ns = slot->now.cpu_ns;

		if (!is_running(slot))
			continue;
		if (is_full)
			slot->hits |= JAIL_HIT_TASKS;
		/* Who ends without being waited for takes his time along: what was seen stays counted. */
		if (cpu_ns > slot->last_cpu_ns)
			slot->most.cpu_ns += cpu_ns - slot->last_cpu_ns;
		slot->last_cpu_ns = cpu_ns;
		if (slot->most.memory < slot->now.memory)
			slot->most.memory = slot->now.memory;
		if (slot->most.tasks < slot->now.tasks)
			slot->most.tasks = slot->now.tasks;
	}
}

static void look_around(struct look *look)
{
	proc_each(look->state->watch.proc, note, look);
	for (int i = 0; i < look->count; i++)
		look->rows[i].slot = owner(look, i);
	add_all(look, 0);
	if (is_much(look))
		add_all(look, 1);
	remember(look);
}

static void end(struct look *look, struct jail_slot *slot, int why, char *work)
{
	struct jail_signal kill = { .signal = SIGKILL, .scope = JAIL_SCOPE_TREE };

	look->has_ended_some = 1;
	if (!slot->end)
		slot->end = why;
	reap_signal(look->state, look->slots, slot->id, &kill, work);
}

/* Daemons whose shepherd was killed cannot be told apart: all go. */
static void end_orphans(struct look *look, int why)
{
	for (uint32_t i = 0; i < look->slots->used; i++)
		if (is_running(&look->slots->slot[i]) && !look->slots->slot[i].end)
			look->slots->slot[i].end = why;
	if (look->state->kill_is_contained)
		sys(kill, -1, SIGKILL);
}

/* Ends whoever has most of what the programs have too much of together. */
static void end_largest(struct look *look, int why, char *work)
{
	struct jail_slot *largest = 0;
	struct jail_seen most = look->orphans;

	for (uint32_t i = 0; i < look->slots->used; i++) {
		struct jail_slot *slot = &look->slots->slot[i];

		if (!is_running(slot) || slot->file)
			continue;
		if (why == JAIL_END_TASKS ? slot->now.tasks > most.tasks :
					    slot->now.memory >= most.memory) {
			largest = slot;
			most = slot->now;
		}
	}
	if (largest && why == JAIL_END_MEMORY && largest->most.memory < total(look))
		largest->most.memory = total(look); /* what it was ended for */
	if (largest)
		end(look, largest, why, work);
	else
		end_orphans(look, why);
}

static void judge(struct look *look, char *work)
{
	const struct jail_watch *watch = &look->state->watch;

	for (uint32_t i = 0; i < look->slots->used; i++) {
		struct jail_slot *slot = &look->slots->slot[i];

		if (!is_running(slot))
			continue;
		if (slot->memory_max && slot->now.memory > slot->memory_max)
			end(look, slot, JAIL_END_MEMORY, work);
		else if (slot->cpu_max_ns && slot->most.cpu_ns >= slot->cpu_max_ns)
			end(look, slot, JAIL_END_CPU, work);
		else if (slot->tasks_max && slot->now.tasks > slot->tasks_max)
			end(look, slot, JAIL_END_TASKS, work);
	}
	if (watch->memory && total(look) > watch->memory)
		end_largest(look, JAIL_END_MEMORY, work);
	if (watch->tasks && look->tasks > watch->tasks)
		end_largest(look, JAIL_END_TASKS, work);
}

/* A harness that does not read gets no more samples: the socket is full. */
static void send_samples(struct jail_slots *slots, uint64_t now)
{
	for (uint32_t i = 0; i < slots->used; i++) {
		struct jail_slot *slot = &slots->slot[i];
		struct jail_event event = {
			.kind = JAIL_EVENT_SAMPLE,
			.id = slot->id,
			.tasks = slot->now.tasks,
			.user_us = slot->most.cpu_ns / 1000,
			.memory = slot->now.memory,
			/* It may have started since the look began. */
			.wall_ns = now > slot->start_ns ? now - slot->start_ns : 0,
		};

		if (!is_running(slot) || !slot->sample_ns || slot->ended ||
		    slot->next_sample_ns > now)
			continue;
		slot->next_sample_ns += slot->sample_ns;
		if (slot->next_sample_ns < now)
			slot->next_sample_ns = now + slot->sample_ns;
		control_send(slot->status, &event);
	}
}

static int count(void *arg, int pid)
{
	(void)pid;
	++*(uint32_t *)arg;
	return 0;
}

/* The lowest limit of processes that we keep; 0: none. */
static uint32_t tasks_limit(const struct look *look)
{
	uint32_t lowest = look->state->watch.tasks;

	for (uint32_t i = 0; i < look->slots->used; i++) {
		const struct jail_slot *slot = &look->slots->slot[i];

		if (is_running(slot) && slot->tasks_max && (!lowest || slot->tasks_max < lowest))
			lowest = slot->tasks_max;
	}
	return lowest;
}

/*
 * Whoever forks faster than we look is stopped first, with everybody beside
 * him, where our signals reach this sandbox alone: when we have seen half of
 * the limit, or there are half of it more in that /proc, whoever they are.
 */
static int freeze(const struct look *look)
{
	struct jail_watch *watch = &look->state->watch;
	uint32_t limit = tasks_limit(look), entries = 0, before = watch->seen_entries;

	if (!limit || !look->state->kill_is_contained)
		return 0;
	proc_each(watch->proc, count, &entries);
	watch->seen_entries = entries;
	if (watch->seen_tasks * 2 <= limit && entries <= before + limit / 2)
		return 0;
	sys(kill, -1, SIGSTOP);
	return 1;
}

static void thaw(int is_frozen)
{
	if (is_frozen)
		sys(kill, -1, SIGCONT);
}

static uint64_t at_most(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t headroom_ns(uint64_t limit, uint64_t used)
{
	if (!limit)
		return LATEST_NS;
	return used < limit ? (limit - used) / BYTES_PER_NS : 0;
}

/* How long nothing can go wrong. */
static uint64_t interval(const struct look *look, uint64_t before)
{
	const struct jail_watch *watch = &look->state->watch;
	uint64_t ns = at_most(before * 2, LATEST_NS);

	ns = at_most(ns, headroom_ns(watch->memory, total(look)));
	if (watch->tasks)
		ns = at_most(ns, TASKS_NS);
	for (uint32_t i = 0; i < look->slots->used; i++) {
		const struct jail_slot *slot = &look->slots->slot[i];

		if (!is_running(slot))
			continue;
		ns = at_most(ns, headroom_ns(slot->memory_max, slot->now.memory));
		if (slot->tasks_max)
			ns = at_most(ns, TASKS_NS);
		if (slot->cpu_max_ns && slot->most.cpu_ns < slot->cpu_max_ns)
			ns = at_most(ns, (slot->cpu_max_ns - slot->most.cpu_ns) / 8);
		if (slot->sample_ns)
			ns = at_most(ns, slot->sample_ns);
	}
	return ns < SOONEST_NS ? SOONEST_NS : ns;
}

static int anybody_runs(const struct jail_slots *slots)
{
	for (uint32_t i = 0; i < slots->used; i++)
		if (slots->slot[i].shepherd && !slots->slot[i].file)
			return 1; /* or is about to: its shepherd has yet to say so */
	return 0;
}

/* When to look next, as monotonic_ns; 0: there is nothing to look at. */
uint64_t watch_next(const struct jail_state *state, const struct jail_slots *slots)
{
	return state->watch.proc >= 0 && anybody_runs(slots) ? state->watch.next_ns : 0;
}

void watch_pass(struct jail_state *state, struct jail_slots *slots, char *work)
{
	struct look look = { .state = state, .slots = slots };
	struct jail_watch *watch = &state->watch;
	uint64_t now = monotonic_ns(), took;
	int is_frozen;

	if (!watch_next(state, slots) || watch->next_ns > now)
		return;
	look.inodes = (struct jail_inodes *)(void *)(work + PIDS_MAX);
	look.rows = (struct row *)(void *)(look.inodes + 1);
	look.max =
		(int)((JAIL_REQUEST_BYTES - PIDS_MAX - sizeof(*look.inodes)) / sizeof(struct row));
	is_frozen = freeze(&look);
	look_around(&look);
	judge(&look, work);
	thaw(is_frozen);
	send_samples(slots, now);
	watch->seen_tasks = look.tasks;
	took = monotonic_ns() - now;
	watch->interval_ns = interval(&look, watch->interval_ns);
	if (look.has_ended_some)
		watch->interval_ns = SOONEST_NS; /* and see whether they are gone */
	else if (watch->interval_ns < took * 10)
		watch->interval_ns = took * 10;
	watch->next_ns = now + watch->interval_ns;
}

static uint32_t last_task(const struct jail_watch *watch)
{
	char text[128];
	uint32_t number = 0;
	long n = watch->loadavg < 0 ? 0 : sys(pread64, watch->loadavg, text, sizeof(text), 0);

	for (long i = 0; i < n; i++)
		if (text[i] >= '0' && text[i] <= '9')
			number = number * 10 + (uint32_t)(text[i] - '0');
		else if (text[i] != '\n')
			number = 0;
	return number;
}

/* A program is about to start. */
void watch_begin(struct jail_state *state, struct jail_slot *slot)
{
	uint64_t now = monotonic_ns();

	slot->first_task = last_task(&state->watch) + 1; /* the shepherd's */
	slot->next_sample_ns = now;
	state->watch.interval_ns = SOONEST_NS;
	state->watch.seen_tasks = 0;
	state->watch.next_ns = now + SOONEST_NS;
}

/* A program has ended: what was seen of it, and a last look at the tmpfs. */
void watch_end(const struct jail_slot *slot, struct jail_event *ret_event)
{
	const struct jail_watch *watch = &slot->state->watch;
	uint32_t last = last_task(watch), hits;
	uint64_t disk = memory_of_tmpfs(watch->disk, &hits);

	ret_event->end = (uint32_t)slot->end;
	ret_event->hits = slot->hits | hits;
	ret_event->tasks = slot->most.tasks;
	ret_event->memory = slot->most.memory;
	ret_event->disk = disk > slot->disk ? disk : slot->disk;
	if (last > slot->first_task) /* pids may have begun anew */
		ret_event->started = last - slot->first_task;
}
