/*
 * spawn.c - starts jail-init.  clone(2)
 *
 * The only C that runs in the harness.  The child shares the harness's memory
 * until it executes, on a stack that is the caller's: cost does not grow with
 * the harness, no page of it is copied, no lock of it is taken.  Between clone
 * and exec there are system calls and nothing else (signal-safety(7)).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include "boundary.h"
#include "clone.h"

#define STACK_BYTES 16384
#define CLOSE_RANGE_CLOEXEC_ 4U

/*
 * execve(2) takes the capabilities of whoever is not root in his user
 * namespace, and nobody is before the map is written.  Ambient ones stay.
 */
static int keep_ambient(uint64_t ambient)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct sets[2];

	if (syscall(SYS_capget, &header, sets) < 0)
		return -errno;
	sets[0].inheritable |= (uint32_t)ambient;
	sets[1].inheritable |= (uint32_t)(ambient >> 32);
	if (syscall(SYS_capset, &header, sets) < 0)
		return -errno;
	for (unsigned long capability = 0; capability < 64; capability++)
		if (ambient >> capability & 1 &&
		    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) < 0)
			return -errno;
	return 0;
}

/* 0, 1 and 2 are jail-init's own image, O_PATH: taken, and good for nothing. */
static int keep_descriptors(const struct jail_spawn *spawn, int *ret_init)
{
	int control = fcntl(spawn->control_fd, F_DUPFD, JAIL_CONTROL_FD + 2);
	int init = fcntl(spawn->init_fd, F_DUPFD, JAIL_CONTROL_FD + 2);

	if (control < 0 || init < 0)
		return -errno;
	for (int fd = 0; fd < JAIL_CONTROL_FD; fd++)
		if (dup3(init, fd, 0) < 0)
			return -errno;
	if (dup3(control, JAIL_CONTROL_FD, 0) < 0)
		return -errno;
	*ret_init = init;
	if (syscall(SYS_close_range, JAIL_CONTROL_FD + 1, ~0U, CLOSE_RANGE_CLOEXEC_) < 0)
		return -errno;
	return 0;
}

static int fail(struct jail_spawn *spawn, int step, int r)
{
	spawn->step = step;
	spawn->pid = r;
	return 127;
}

static int child(void *arg)
{
	struct jail_spawn *spawn = arg;
	char *const argv[] = { "jail-init", NULL };
	char *const envp[] = { NULL };
	int init = -1, r;

	r = spawn->ambient ? keep_ambient(spawn->ambient) : 0;
	if (r < 0)
		return fail(spawn, JAIL_STEP_CAPABILITIES, r);
	r = keep_descriptors(spawn, &init);
	if (r < 0)
		return fail(spawn, JAIL_STEP_DESCRIPTORS, r);
	syscall(SYS_execveat, init, "", argv, envp, AT_EMPTY_PATH);
	return fail(spawn, JAIL_STEP_INIT, -errno);
}

/*
 * clone3(2), or clone(2) where a container's filter hides clone3 (ENOSYS) and
 * no cgroup has to be entered.  Whatever exit_signal is given, execve(2) makes
 * it SIGCHLD: the harness's own loops may reap this child before we do.
 */
static int clone_init(struct jail_spawn *spawn, char *stack)
{
	uint64_t flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | spawn->clone_flags;
	struct clone_args args = {
		.flags = flags | (spawn->cgroup_fd >= 0 ? CLONE_INTO_CGROUP : 0),
		.pidfd = (uint64_t)(uintptr_t)&spawn->pidfd,
		.stack = (uint64_t)(uintptr_t)stack,
		.stack_size = STACK_BYTES,
		.cgroup = spawn->cgroup_fd >= 0 ? (uint64_t)spawn->cgroup_fd : 0,
	};
	long a3[5] = { (long)&args, sizeof(args) };
	long a[5] = { (long)flags, (long)(stack + STACK_BYTES), (long)&spawn->pidfd };
	long r = clone_call(SYS_clone3, a3, child, spawn);

	if (r == -ENOSYS && spawn->cgroup_fd < 0)
		r = clone_call(SYS_clone, a, child, spawn);
	return (int)r;
}

/* Returns 0 with pid and pidfd set; or -errno with step set, and no process and no descriptor left. */
int jail_spawn(struct jail_spawn *spawn)
{
	__attribute__((aligned(16))) char stack[STACK_BYTES];
	sigset_t all, before;
	int pid;

	spawn->pidfd = -1;
	spawn->pid = 0;
	spawn->step = 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = clone_init(spawn, stack);
	pthread_sigmask(SIG_SETMASK, &before, NULL);

	if (pid < 0) {
		spawn->step = JAIL_STEP_CLONE;
		return pid;
	}
	if (spawn->step) {
		int r = spawn->pid;

		syscall(SYS_wait4, pid, NULL, __WALL, NULL);
		close(spawn->pidfd);
		spawn->pidfd = -1;
		return r;
	}
	spawn->pid = pid;
	return 0;
}

/* The ABI, or -errno: ENOSYS where it was not built, EOPNOTSUPP where it was not enabled. */
int jail_landlock_abi(void)
{
	long r = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	return r < 0 ? -errno : (int)r;
}

/* 0 where a filter may return this action; seccomp(2), SECCOMP_GET_ACTION_AVAIL. */
int jail_seccomp_action(uint32_t action)
{
	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) < 0 ? -errno : 0;
}

/* 0 where clone3(2) exists: a size of nothing is EINVAL to it, ENOSYS to a kernel or filter without it. */
int jail_clone3(void)
{
	syscall(SYS_clone3, NULL, 0);
	return errno == ENOSYS ? -ENOSYS : 0;
}
