/*
 * reap.c - who runs, who has ended, and that nobody stays.  wait(2), pid_namespaces(7)
 *
 * jail-init's children are shepherds, and what shepherds that were killed have
 * left: every orphan of the sandbox ends up here and is reaped.
 */
#include "core.h"
#include <linux/fcntl.h>
#include <linux/resource.h>
#include <linux/wait.h>

#define STOPPED 0x7f /* the low byte of a wait status; wait(2), WIFSTOPPED */

/* A free slot, or none when SLOTS_MAX programs run. */
struct jail_slot *reap_slot(struct jail_slots *slots)
{
	for (uint32_t i = 0; i < slots->used; i++)
		if (!slots->slot[i].shepherd)
			return &slots->slot[i];
	if (slots->used == SLOTS_MAX)
		return 0;
	slots->slot[slots->used] = (struct jail_slot){ 0 };
	return &slots->slot[slots->used++];
}

static int pid_of(const struct jail_slot *slot)
{
	return __atomic_load_n(&slot->ended, __ATOMIC_ACQUIRE) ?
		       0 :
		       __atomic_load_n(&slot->pid, __ATOMIC_ACQUIRE);
}

/* Whoever stops jail-init's helpers and outruns its signals has everybody stopped until he is gone. */
static void kill_frozen(const struct jail_state *state, int ancestor, char *work)
{
	if (!state->kill_is_contained)
		return;
	sys(kill, -1, SIGSTOP);
	family_signal(ancestor, SIGKILL, work);
	sys(kill, -1, SIGCONT);
}

static void signal_family(const struct jail_state *state, const struct jail_slot *slot, int signal,
			  char *work)
{
	int ancestor = slot->shepherd > 0 ? slot->shepherd : pid_of(slot);
	int n = family_signal(ancestor, signal, work);

	if (n > 0 && signal == SIGKILL)
		kill_frozen(state, ancestor, work);
	if (pid_of(slot) && n < 0) { /* no /proc to read */
		sys(kill, pid_of(slot), signal);
		sys(kill, -pid_of(slot), signal);
	}
	if (pid_of(slot) && slot->shepherd < 0) /* he is the ancestor */
		sys(kill, pid_of(slot), signal);
}

/*
 * After a SIGKILL the end is jail-init's to report, when all have died: the
 * shepherd is stopped, so that it does not report the first of them, and then
 * killed.  Whoever keeps it from reporting gains nothing.
 */
static void signal_tree(const struct jail_state *state, const struct jail_slot *slot, int signal,
			char *work)
{
	int last = signal == SIGKILL && slot->shepherd > 0;

	if (last)
		sys(kill, slot->shepherd, SIGSTOP);
	signal_family(state, slot, signal, work);
	if (last)
		sys(kill, slot->shepherd, SIGKILL);
}

/* An exec that has ended meanwhile is no error: its EXITED is on the way. */
void reap_signal(const struct jail_state *state, const struct jail_slots *slots, uint32_t id,
		 const struct jail_signal *signal, char *work)
{
	for (uint32_t i = 0; i < slots->used; i++) {
		const struct jail_slot *slot = &slots->slot[i];

		if (!slot->shepherd || slot->id != id)
			continue;
		if (signal->scope == JAIL_SCOPE_TREE)
			signal_tree(state, slot, signal->signal, work);
		else if (pid_of(slot))
			sys(kill, signal->scope == JAIL_SCOPE_GROUP ? -pid_of(slot) : pid_of(slot),
			    signal->signal);
	}
}

static void release(struct jail_slots *slots, struct jail_slot *slot)
{
	slots->is_over |= !!(slot->flags & JAIL_EXEC_LAST);
	close_fdp(&slot->status);
	for (int i = 0; i < 3; i++)
		close_fdp(&slot->fds[i]);
	close_fdp(&slot->cgroup);
	request_free(slot);
}

/* A shepherd that ended early was killed.  Its program, if there is one, is our child now. */
static void take_over(struct jail_slots *slots, struct jail_slot *slot, const struct rusage *used)
{
	if (pid_of(slot) && sys(kill, pid_of(slot), 0) == 0) {
		slot->shepherd = -1;
		return;
	}
	shepherd_report(slot, SIGKILL, used);
	release(slots, slot);
}

static void reaped(struct jail_slots *slots, int pid, int status, const struct rusage *used)
{
	for (uint32_t i = 0; i < slots->used; i++) {
		struct jail_slot *slot = &slots->slot[i];

		if (slot->shepherd == pid && !slot->ended) {
			take_over(slots, slot, used);
		} else if (slot->shepherd == pid) {
			release(slots, slot);
		} else if (slot->shepherd == -1 && slot->pid == pid) {
			shepherd_report(slot, status, used);
			release(slots, slot);
		}
	}
}

/*
 * A program that stops its shepherd would have nobody to report its end, and
 * one that goes on stopping it outruns any SIGCONT.  So it loses its shepherd;
 * but for one that has yet to start its program.
 */
static void dismiss(const struct jail_slots *slots, int pid)
{
	for (uint32_t i = 0; i < slots->used; i++)
		if (slots->slot[i].shepherd == pid)
			sys(kill, pid, pid_of(&slots->slot[i]) ? SIGKILL : SIGCONT);
}

/* Takes in all that have ended.  -ECHILD when nobody is left, 0 when some still run. */
int reap_children(struct jail_slots *slots)
{
	for (;;) {
		struct rusage used = { 0 };
		int status = 0;
		int pid = (int)sys(wait4, -1, &status, WNOHANG | WUNTRACED | __WALL, &used);

		if (pid <= 0)
			return pid;
		if ((status & 0xff) == STOPPED)
			dismiss(slots, pid);
		else
			reaped(slots, pid, status, &used);
	}
}

/* SIGKILL to each child by name; their children become ours when they die. */
static void kill_children(void)
{
	auto_close fd =
		(int)sys(openat, AT_FDCWD, "/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
	char text[4096];
	long n = fd < 0 ? fd : sys(read, fd, text, sizeof(text));
	int pid = 0;

	for (long i = 0; i < n; i++) {
		if (text[i] >= '0' && text[i] <= '9') {
			pid = pid * 10 + (text[i] - '0');
		} else if (pid) {
			sys(kill, pid, SIGKILL);
			pid = 0;
		}
	}
}

/*
 * Ends every process of a sandbox that has no pid namespace to end it.  Where
 * Landlock contains our signals one kill(-1) takes all at once: a process with
 * a pending SIGKILL cannot fork.  Elsewhere generation by generation, until
 * wait(2) knows of no child.
 */
void reap_everything(const struct jail_state *state)
{
	int r = 0;

	while (r != -ECHILD) {
		if (state->kill_is_contained)
			sys(kill, -1, SIGKILL);
		else
			kill_children();
		r = (int)sys(wait4, -1, 0, __WALL, 0);
		while (r >
		       0) /* all that have ended: a kill for each would take the square of their number */
			r = (int)sys(wait4, -1, 0, WNOHANG | __WALL, 0);
	}
}
