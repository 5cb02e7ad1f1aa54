/*
 * family.c - who descends from whom, by /proc.  proc_pid_stat(5)
 *
 * A process that forks while we read is found in the next round; one that
 * forks faster than we read is stopped first, with everything beside it,
 * where our signals reach this sandbox alone.
 */
#include "core.h"
#include <linux/fcntl.h>

#define PIDS_MAX (1 << 22) /* PID_MAX_LIMIT of threads.h */
#define ROUNDS 8

struct kin {
	int pid;
	int parent;
};

struct family {
	int proc;
	struct kin *kin;
	int count;
	int max;
};

/* A process that lives: not a zombie, which needs no signal. */
static int note(void *arg, int pid)
{
	struct family *family = arg;
	struct proc_stat stat;

	if (proc_stat(family->proc, pid, &stat) < 0 || stat.state == 'Z' || stat.state == 'X')
		return 0;
	if (stat.parent && stat.parent < PIDS_MAX && pid < PIDS_MAX && family->count < family->max)
		family->kin[family->count++] = (struct kin){ .pid = pid, .parent = stat.parent };
	return 0;
}

static int list(struct kin *kin, int max)
{
	auto_close proc = (int)sys(openat, AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct family family = { .proc = proc, .kin = kin, .max = max };
	int r = proc < 0 ? proc : proc_each(proc, note, &family);

	return r < 0 ? r : family.count;
}

/*
 * One round: the signal to each descendant that lives now.  Their number.
 * work begins with a byte for every pid, all zero before and after.
 */
static int signal_once(int ancestor, int signal, char *work)
{
	struct kin *kin = (struct kin *)(void *)(work + PIDS_MAX);
	int max = (int)((JAIL_REQUEST_BYTES - PIDS_MAX) / sizeof(*kin));
	int n = list(kin, max), found = 0, before = -1;

	if (n < 0)
		return n;
	work[ancestor] = 1;
	while (found != before) {
		before = found;
		for (int i = 0; i < n; i++)
			if (work[kin[i].parent] && !work[kin[i].pid]) {
				work[kin[i].pid] = 1;
				found++;
			}
	}
	work[ancestor] = 0;
	for (int i = 0; i < n; i++) {
		if (work[kin[i].pid])
			sys(kill, kin[i].pid, signal);
		work[kin[i].pid] = 0;
	}
	return found;
}

/* The number of descendants that lived when the last round began; for SIGKILL 0 says that all are gone. */
int family_signal(int ancestor, int signal, char *work)
{
	int n = signal_once(ancestor, signal, work), before = 0;

	for (int round = 0; signal == SIGKILL && n > 0 && round < ROUNDS; round++)
		n = signal_once(ancestor, signal, work);
	/* Who is stopped forks no more: two rounds that find as many have found all. */
	for (int round = 0; signal == SIGSTOP && n != before && round < ROUNDS; round++) {
		before = n;
		n = signal_once(ancestor, signal, work);
	}
	return n;
}
