/*
 * shepherd.c - stands between jail-init and one program.  prctl(2), PR_SET_CHILD_SUBREAPER
 *
 * A daemon that forks twice and calls setsid(2) is nobody's child any more and
 * would be found below jail-init, like every other.  The shepherd is a
 * subreaper: whatever its program leaves behind comes to it, so "all that
 * this exec started" has an answer for as long as any of it lives.
 *
 * It shares jail-init's memory and descriptors (CLONE_VM|CLONE_FILES): it
 * costs a stack, not a copy.  It may be killed by the programs, which have its
 * uid: then jail-init finds their program among its own children, and reports.
 */
#include "core.h"
#include "clone.h"
#include <asm/siginfo.h>
#include <linux/prctl.h>
#include <linux/resource.h>
#include <linux/sched.h>
#include <linux/time.h>
#include <linux/wait.h>

uint64_t monotonic_ns(void)
{
	struct {
		int64_t seconds, nanoseconds;
	} now = { 0, 0 };

	sys(clock_gettime, CLOCK_MONOTONIC, &now);
	return (uint64_t)now.seconds * 1000000000U + (uint64_t)now.nanoseconds;
}

static uint64_t microseconds(const struct __kernel_old_timeval *time)
{
	return (uint64_t)time->tv_sec * 1000000U + (uint64_t)time->tv_usec;
}

int shepherd_report(struct jail_slot *slot, int status, const void *rusage)
{
	const struct rusage *used = rusage;
	struct jail_event event = {
		.kind = JAIL_EVENT_EXITED,
		.id = slot->id,
		.pid = slot->pid,
		.status = status,
		.user_us = microseconds(&used->ru_utime),
		.system_us = microseconds(&used->ru_stime),
		.maxrss_kb = (uint64_t)used->ru_maxrss,
		.minor_faults = (uint64_t)used->ru_minflt,
		.major_faults = (uint64_t)used->ru_majflt,
		.read_blocks = (uint64_t)used->ru_inblock,
		.written_blocks = (uint64_t)used->ru_oublock,
		.voluntary = (uint64_t)used->ru_nvcsw,
		.involuntary = (uint64_t)used->ru_nivcsw,
		.wall_ns = monotonic_ns() - slot->start_ns,
	};

	watch_end(slot, &event);
	__atomic_store_n(&slot->ended, 1, __ATOMIC_RELEASE);
	return control_send(slot->status, &event);
}

/* A wait status, as wait4(2) would have given it. */
static int wait_status(const siginfo_t *info)
{
	if (info->si_code == CLD_EXITED)
		return (info->si_status & 0xff) << 8;
	return info->si_status | (info->si_code == CLD_DUMPED ? 0x80 : 0);
}

/* What is still open when the slot is released, jail-init closes.  Ends when nobody is left to wait for; or, where the sandbox ends with the program, with that. */
static void watch(struct jail_slot *slot)
{
	for (;;) {
		struct rusage used = { 0 };
		siginfo_t info = { 0 };
		int r = (int)sys(waitid, P_ALL, 0, &info, WEXITED | WNOWAIT | __WALL, &used);

		if (r == -ECHILD)
			return;
		/* Reported, then reaped: whoever kills us in between leaves the end for jail-init to find. */
		if (info.si_pid == slot->pid && !slot->ended)
			shepherd_report(slot, wait_status(&info), &used);
		sys(wait4, info.si_pid, 0, __WALL, 0);
		if (slot->ended && slot->flags & JAIL_EXEC_LAST)
			return;
	}
}

/* STARTED with the descriptors that were asked for; whoever asks for none is not woken for it. */
static void announce(const struct jail_slot *slot, const struct jail_event *event, int master)
{
	auto_close pidfd = -1;
	int fds[2], n = 0;

	/* The program has not been waited for, so its pid is still its own.  Linux 5.3. */
	if (slot->flags & JAIL_EXEC_PIDFD)
		pidfd = (int)sys(pidfd_open, slot->pid, 0);
	if (pidfd >= 0)
		fds[n++] = pidfd;
	if (master >= 0)
		fds[n++] = master;
	if (slot->flags & (JAIL_EXEC_PIDFD | JAIL_EXEC_TERMINAL))
		control_send_fds(slot->status, event, fds, n);
}

static int shepherd(void *arg)
{
	struct jail_slot *slot = arg;
	struct jail_event event;
	auto_close master = -1;
	int r;

	sys(prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0,
	    0); /* fails for no process of Linux 3.4 or later */
	slot->start_ns = monotonic_ns();
	r = exec_start(slot, &event, &master);
	for (int i = 0; i < 3; i++)
		close_fdp(&(int){ take_fd(&slot->fds[i]) });
	close_fdp(&(int){ take_fd(&slot->cgroup) });
	if (r == 0)
		announce(slot, &event, master);
	else
		control_send(slot->status, &event);
	close_fdp(&(int){ take_fd(&master) }); /* the harness's, who hangs up by closing it */
	if (r == 0)
		watch(slot);
	else
		__atomic_store_n(&slot->ended, 1, __ATOMIC_RELEASE);
	return 0;
}

int shepherd_start(struct jail_slot *slot)
{
	/* The upper half of the stack is the shepherd's to begin with; the lower, its child's frame. */
	char *top = slot->memory + SHEPHERD_STACK_BYTES;
	long a[5] = { CLONE_VM | CLONE_FILES | SIGCHLD, (long)top & ~15L };
	int pid = (int)clone_call(__NR_clone, a, shepherd, slot);

	if (pid < 0)
		return pid;
	slot->shepherd = pid;
	return 0;
}
