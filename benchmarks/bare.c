/*
 * bare.c - a sandbox that is nothing but the plan's system calls.  clone(2)
 *
 * The second floor: the same rooms as jail-init's, run by a process that
 * shares the harness's memory and executes nothing itself.  No jail-init is
 * started, no socket carries the plan, nobody serves: PID 1 carries out the
 * ops, starts the one program, waits for it and ends.  What jail-init costs
 * beyond this is the price of being a program of its own.
 *
 * Not a sandbox to use.  PID 1 holds the harness's memory, and a program that
 * outlives its parent is not waited for.
 */
#include "core.h"
#include "clone.h"
#include "floor.h"
#include <linux/sched.h>

#define CLOSE_ALL (~0U)
#define STACK_BYTES 65536

struct program {
	const struct bare *bare;
	const struct jail_ops *ops;
	struct jail_state *state;
	int err;
};

/* As child() in exec.c, in the same order. */
static int run_program(void *arg)
{
	struct program *program = arg;
	const struct bare *bare = program->bare;
	struct jail_event fault = { 0 };
	int r = (int)sys(setsid);

	for (int fd = 0; r >= 0 && fd < 3; fd++)
		r = (int)sys(dup3, bare->fds[fd], fd, 0);
	if (r >= 0)
		r = run_ops(program->state, program->ops->exec, program->ops->exec_ops, &fault);
	if (r >= 0)
		r = (int)sys(close_range, 3, CLOSE_ALL, 0);
	if (r >= 0)
		r = (int)sys(chdir, bare->directory);
	if (r >= 0)
		r = (int)sys(execve, bare->file, bare->argv, bare->envp);
	program->err = r;
	return 127;
}

static int live(struct bare *bare)
{
	__attribute__((aligned(16))) char stack[STACK_BYTES / 4];
	struct jail_state state = { .scratch = -1,
				    .root = -1,
				    .ruleset = -1,
				    .sockets = -1,
				    .watch = { .proc = -1, .disk = -1, .loadavg = -1 },
				    .covers = { .proc = -1, .mounts = -1 } };
	long a[5] = { CLONE_VM | CLONE_VFORK | SIGCHLD, (long)(stack + sizeof(stack)) };
	struct jail_event fault = { 0 };
	struct jail_ops ops;
	struct program program = { .bare = bare, .ops = &ops, .state = &state };
	int r = plan_decode(bare->plan, bare->plan_len, &ops);

	if (r == 0) {
		state.data = ops.data;
		state.setup = ops.setup;
		r = run_ops(&state, ops.setup, ops.setup_ops, &fault);
	}
	if (r == 0)
		r = (int)clone_call(__NR_clone, a, run_program, &program);
	if (r > 0)
		r = (int)sys(wait4, r, &bare->status, 0, 0);
	return program.err < 0 ? program.err : r;
}

static int pid_one(void *arg)
{
	struct bare *bare = arg;
	int r = live(bare);

	if (r < 0)
		bare->status = r;
	return 0;
}

/* One at a time: there is one stack. */
long bare_start(struct bare *bare)
{
	static __attribute__((aligned(16))) char stack[STACK_BYTES];
	struct clone_args args = {
		.flags = CLONE_VM | CLONE_PIDFD | bare->clone_flags,
		.pidfd = (uint64_t)(uintptr_t)&bare->pidfd,
		.stack = (uint64_t)(uintptr_t)stack,
		.stack_size = sizeof(stack),
	};
	long a[5] = { (long)&args, sizeof(args) };

	return clone_call(__NR_clone3, a, pid_one, bare);
}
