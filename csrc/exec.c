/*
 * exec.c - starts a program.  execve(2)
 *
 * The child shares our memory until it executes (CLONE_VM|CLONE_VFORK): there
 * is no copy to pay for, and what went wrong is an int that it leaves behind.
 * Whoever calls waits until then, and a program may stop the child before it
 * gets there: so a shepherd calls, never jail-init itself.
 */
#include "core.h"
#include "clone.h"
#include <linux/sched.h>

#define CLOSE_ALL (~0U)
#define SIG_SETMASK 2
#define STACK_BYTES 16384

struct start {
	struct jail_slot *slot;
	struct jail_event *fault;
};

static const char *after(const char *text)
{
	while (*text)
		text++;
	return text + 1;
}

/* Tries each file as execvp(3) does: a missing one is passed over, a forbidden one remembered. */
static int execute(const struct jail_slot *slot)
{
	const char *file = slot->files;
	int forbidden = 0, r = -ENOENT;

	for (uint32_t i = 0; i < slot->n_files; i++, file = after(file)) {
		r = (int)sys(execve, file, slot->argv, slot->envp);
		if (r == -EACCES)
			forbidden = r;
		else if (r != -ENOENT && r != -ENOTDIR)
			return r;
	}
	return forbidden ? forbidden : r;
}

static int fail(struct jail_event *fault, int step, int r)
{
	fault->kind = JAIL_EVENT_FAULT;
	fault->op_kind = step;
	fault->err = -r;
	return 127;
}

/* The plan's ops for every program, then this one's own.  What one op leaves for the next is not shared. */
static int confine(const struct jail_slot *slot, struct jail_event *fault)
{
	struct jail_state state = *slot->state;
	int r = run_ops(&state, slot->ops->exec, slot->ops->exec_ops, fault);

	if (r < 0)
		return r;
	state.data = slot->own.data;
	r = run_ops(&state, slot->own.exec, slot->own.exec_ops, fault);
	if (r < 0)
		fault->op += (int32_t)slot->ops->exec_ops;
	return r;
}

static int arrange(const struct jail_slot *slot)
{
	int terminal = slot->flags & JAIL_EXEC_TERMINAL;

	for (int fd = 0; fd < 3; fd++) {
		int r = (int)sys(dup3, slot->fds[terminal ? 0 : fd], fd, 0);

		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * The order is the argument: limits and walls, and then descriptors, so that
 * nothing above can leave one open; all of it before anything of the caller's
 * choosing is touched (its directory, its file): /proc/self/fd would have names
 * for what jail-init looks at.  CVE-2024-21626
 */
static int child(void *arg)
{
	const struct start *start = arg;
	struct jail_slot *slot = start->slot;
	uint64_t no_signals = 0;
	int r = (int)sys(setsid);

	if (r < 0)
		return fail(start->fault, JAIL_STEP_SESSION, r);
	r = arrange(slot);
	if (r < 0)
		return fail(start->fault, JAIL_STEP_DESCRIPTORS, r);
	r = slot->flags & JAIL_EXEC_TERMINAL ? pty_control(0) : 0;
	if (r < 0)
		return fail(start->fault, JAIL_STEP_TERMINAL, r);
	if (confine(slot, start->fault) < 0) {
		start->fault->kind = JAIL_EVENT_FAULT;
		return 127;
	}
	r = (int)sys(close_range, 3, CLOSE_ALL, 0);
	if (r < 0)
		return fail(start->fault, JAIL_STEP_DESCRIPTORS, r);
	r = (int)sys(chdir, slot->directory);
	if (r < 0)
		return fail(start->fault, JAIL_STEP_DIRECTORY, r);
	r = (int)sys(rt_sigprocmask, SIG_SETMASK, &no_signals, 0, sizeof(no_signals));
	if (r < 0)
		return fail(start->fault, JAIL_STEP_SIGNALS, r);
	return fail(start->fault, JAIL_STEP_EXEC, execute(slot));
}

/* In memory of its own, so that what went wrong has to be said. */
static int file_child(void *arg)
{
	const struct start *start = arg;

	if (confine(start->slot, start->fault) == 0)
		return file_answer(start->slot) < 0;
	start->fault->kind = JAIL_EVENT_FAULT;
	control_send(start->slot->status, start->fault);
	return 127;
}

/* 0: running, and ret_event says STARTED; -errno: not running, and it says why. */
int exec_start(struct jail_slot *slot, struct jail_event *ret_event, int *ret_master)
{
	__attribute__((aligned(16))) char stack[STACK_BYTES];
	struct start start = { .slot = slot, .fault = ret_event };
	/* To whom shares its memory jail-init is no stranger, in /proc (ptrace(2), access mode checking). */
	long vm = slot->file ? 0 : CLONE_VM;
	uint64_t flags = (uint64_t)vm | CLONE_VFORK | CLONE_PARENT_SETTID;
	struct clone_args into = { .flags = flags | CLONE_INTO_CGROUP,
				   .parent_tid = (uint64_t)(uintptr_t)&slot->pid,
				   .exit_signal = SIGCHLD,
				   .stack = (uint64_t)(uintptr_t)stack,
				   .stack_size = STACK_BYTES,
				   .cgroup = (uint64_t)(uint32_t)slot->cgroup };
	long in_cgroup[5] = { (long)&into, sizeof(into) };
	long plainly[5] = { (long)flags | SIGCHLD, (long)(stack + STACK_BYTES), (long)&slot->pid };
	int pid, r = 0;

	*ret_event = (struct jail_event){ .kind = JAIL_EVENT_STARTED,
					  .id = slot->id,
					  .phase = JAIL_PHASE_EXEC,
					  .op = JAIL_NO_OP };
	if (slot->flags & JAIL_EXEC_TERMINAL)
		r = pty_open(slot, ret_master);
	if (r < 0) {
		fail(ret_event, JAIL_STEP_TERMINAL, r);
		return r;
	}
	if (slot->cgroup >= 0)
		pid = (int)clone_call(__NR_clone3, in_cgroup, child, &start);
	else
		pid = (int)clone_call(__NR_clone, plainly, slot->file ? file_child : child, &start);
	if (pid < 0)
		fail(ret_event, JAIL_STEP_CLONE, pid);
	ret_event->pid = pid;
	if (ret_event->kind == JAIL_EVENT_STARTED)
		return 0;
	if (pid > 0)
		sys(wait4, pid, 0, 0, 0);
	return -ret_event->err;
}
