/*
 * watch.c - that programs have no more than they may, while they run.  proc(5)
 *
 * Where a cgroup keeps a limit, the kernel does.  Elsewhere nobody but us sees
 * all that a program has started: so jail-init looks, every 5 to 80 ms, sooner
 * where a limit is near, and never for more than a tenth of its time.  Whoever
 * has most of what is too much is ended, with all that descends from it.
 */
#include "core.h"
#include "census.h"
#include <linux/fcntl.h>

#define PIDS_MAX (1 << 22) /* as family.c has it: work begins with its bytes, which stay zero */
#define SOONEST_NS 5000000U
#define LATEST_NS 80000000U
#define TASKS_NS 20000000U /* who forks on both of two processors makes some 600 meanwhile */
#define BYTES_PER_NS 4	   /* a program touches no more: 4 GB/s */

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

static int is_much(const struct look *look)
{
	const struct jail_watch *watch = &look->state->watch;

	if (watch->memory && census_memory(look) > watch->memory)
		return 1;
	for (uint32_t i = 0; i < look->slots->used; i++) {
		const struct jail_slot *slot = &look->slots->slot[i];

		if (census_has(slot) && slot->memory_max && slot->now.memory > slot->memory_max)
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

		if (!census_has(slot))
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
	census_begin(look);
	census_count(look, 0);
	if (is_much(look))
		census_count(look, 1);
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
		if (census_has(&look->slots->slot[i]) && !look->slots->slot[i].end)
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

		if (!census_has(slot) || slot->file)
			continue;
		if (why == JAIL_END_TASKS ? slot->now.tasks > most.tasks :
					    slot->now.memory >= most.memory) {
			largest = slot;
			most = slot->now;
		}
	}
	if (largest && why == JAIL_END_MEMORY && largest->most.memory < census_memory(look))
		largest->most.memory = census_memory(look); /* what it was ended for */
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

		if (!census_has(slot))
			continue;
		if (slot->memory_max && slot->now.memory > slot->memory_max)
			end(look, slot, JAIL_END_MEMORY, work);
		else if (slot->cpu_max_ns && slot->most.cpu_ns >= slot->cpu_max_ns)
			end(look, slot, JAIL_END_CPU, work);
		else if (slot->tasks_max && slot->now.tasks > slot->tasks_max)
			end(look, slot, JAIL_END_TASKS, work);
	}
	if (watch->memory && census_memory(look) > watch->memory)
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

		if (!census_has(slot) || !slot->sample_ns || slot->ended ||
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

		if (census_has(slot) && slot->tasks_max && (!lowest || slot->tasks_max < lowest))
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

	ns = at_most(ns, headroom_ns(watch->memory, census_memory(look)));
	if (watch->tasks)
		ns = at_most(ns, TASKS_NS);
	for (uint32_t i = 0; i < look->slots->used; i++) {
		const struct jail_slot *slot = &look->slots->slot[i];

		if (!census_has(slot))
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
	census_room(&look, work + PIDS_MAX, JAIL_REQUEST_BYTES - PIDS_MAX);
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
