/*
 * deadline.c - a program whose time is over.
 *
 * The harness says how long; jail-init keeps the time, so that it is kept
 * while the harness is busy, stopped, or reads nothing.  SIGTERM to all that
 * descends from the program, SIGCONT so that what is stopped can act on it,
 * and after the grace SIGKILL.  What a program has left behind when it ended
 * in time is not pursued.
 *
 * The sandbox has a time of its own.  It is the latest deadline of each program;
 * when it has come and they are gone, so are we.  Where nothing has run for as
 * long as it may be idle, there is nothing to wait for.
 *
 * A call on a file takes no time.  One that does is held up: programs may stop
 * whoever makes it, who has their uid, and outrun every SIGCONT.
 */
#include "core.h"
#include <asm/signal.h>

#define RETRY_NS 1000000
#define ROUNDS 50

static int is_due(const struct jail_slot *slot, uint64_t now)
{
	return slot->shepherd && slot->deadline_ns && slot->deadline_ns <= now;
}

/* The earliest deadline of all, as monotonic_ns; 0: there is none. */
uint64_t deadline_next(const struct jail_slots *slots)
{
	uint64_t next = 0;

	for (uint32_t i = 0; i < slots->used; i++) {
		uint64_t at = slots->slot[i].shepherd ? slots->slot[i].deadline_ns : 0;

		if (at && (!next || at < next))
			next = at;
	}
	return next;
}

static void send(const struct jail_state *state, const struct jail_slots *slots, uint32_t id,
		 int signal, char *work)
{
	struct jail_signal request = { .signal = signal, .scope = JAIL_SCOPE_TREE };

	reap_signal(state, slots, id, &request, work);
}

/*
 * Stops everybody else until it is through, where our signals reach this
 * sandbox alone.  What was paused on purpose goes on with the rest.
 */
static void let_through(const struct jail_state *state, const struct jail_slot *slot)
{
	struct {
		int64_t seconds, nanoseconds;
	} moment = { 0, RETRY_NS };

	if (!state->kill_is_contained)
		return;
	for (int round = 0; round < ROUNDS && !__atomic_load_n(&slot->ended, __ATOMIC_ACQUIRE);
	     round++) {
		sys(kill, -1, SIGSTOP);
		if (slot->shepherd > 0)
			sys(kill, slot->shepherd, SIGCONT);
		if (slot->pid)
			sys(kill, slot->pid, SIGCONT);
		sys(ppoll, 0, 0, &moment, 0, 0);
	}
	sys(kill, -1, SIGCONT);
}

static void pass(const struct jail_state *state, const struct jail_slots *slots,
		 struct jail_slot *slot, char *work)
{
	if (slot->file) {
		slot->deadline_ns = monotonic_ns() + FILE_NS;
		let_through(state, slot);
	} else if (slot->end) {
		slot->deadline_ns = 0;
		send(state, slots, slot->id, SIGKILL, work);
	} else if (slot->ended) {
		slot->deadline_ns = 0;
	} else if (!__atomic_load_n(&slot->pid, __ATOMIC_ACQUIRE)) {
		slot->deadline_ns += RETRY_NS; /* there is nobody yet to signal */
	} else {
		slot->end = slot->deadline_ns == state->wall_at_ns ? JAIL_END_WALL : JAIL_END_TIME;
		slot->deadline_ns += slot->grace_ns;
		send(state, slots, slot->id, SIGTERM, work);
		send(state, slots, slot->id, SIGCONT, work);
	}
}

void deadline_pass(const struct jail_state *state, struct jail_slots *slots, char *work)
{
	uint64_t now = monotonic_ns();

	for (uint32_t i = 0; i < slots->used; i++)
		if (is_due(&slots->slot[i], now))
			pass(state, slots, &slots->slot[i], work);
}

/* args: how long the sandbox may last from READY, and how long it may be idle, in nanoseconds. */
int room_deadline_lifetime(struct jail_state *state, const struct jail_op *op)
{
	state->wall_ns = op->args[0];
	state->idle_ns = op->args[1];
	return 0;
}

void deadline_begin(struct jail_state *state)
{
	uint64_t now = monotonic_ns();

	state->wall_at_ns = state->wall_ns ? now + state->wall_ns : 0;
	state->idle_since_ns = now;
}

/* How many programs run, and what those that have ended have left behind. */
static uint32_t count_running(const struct jail_slots *slots, uint32_t *ret_left)
{
	uint32_t running = 0;

	*ret_left = 0;
	for (uint32_t i = 0; i < slots->used; i++) {
		if (!slots->slot[i].shepherd)
			continue;
		running += !slots->slot[i].ended;
		*ret_left += !!slots->slot[i].ended;
	}
	return running;
}

/* When the sandbox ends of itself, as monotonic_ns; 0: never, or not while a program runs. */
uint64_t deadline_of_sandbox(const struct jail_state *state, const struct jail_slots *slots)
{
	uint32_t left, running = count_running(slots, &left);
	uint64_t idle = state->idle_ns && !left ? state->idle_since_ns + state->idle_ns : 0;

	if (running)
		return 0;
	return idle && (!state->wall_at_ns || idle < state->wall_at_ns) ? idle : state->wall_at_ns;
}

int deadline_is_over(struct jail_state *state, const struct jail_slots *slots)
{
	uint64_t at;
	uint32_t left;

	if (!state->wall_at_ns && !state->idle_ns)
		return 0;
	if (count_running(slots, &left) || left)
		state->idle_since_ns = monotonic_ns();
	at = deadline_of_sandbox(state, slots);
	return at && at <= monotonic_ns();
}
