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

struct entry {
	uint64_t inode;
	int64_t offset;
	uint16_t len;
	uint8_t type;
	char name[];
};

static int parse_pid(const char *text)
{
	int pid = 0;

	while (*text >= '0' && *text <= '9')
		pid = pid * 10 + (*text++ - '0');
	return *text == '\0' || *text == ' ' ? pid : 0;
}

/* The parent of a process that lives: not a zombie, which needs no signal.  0 when there is none. */
static int living_parent(int proc_fd, const char *pid)
{
	char path[32], text[512];
	size_t n = 0;
	long len;
	const char *at;
	auto_close fd = -1;

	while (pid[n] && n < 16) {
		path[n] = pid[n];
		n++;
	}
	__builtin_memcpy(path + n, "/stat", 6);
	fd = (int)sys(openat, proc_fd, path, O_RDONLY | O_CLOEXEC);
	len = fd < 0 ? fd : sys(read, fd, text, sizeof(text) - 1);
	if (len <= 0)
		return 0;
	text[len] = '\0';
	/* "PID (NAME) STATE PPID ...": the name may hold anything, so the last parenthesis counts. */
	at = text + len;
	while (at > text && *at != ')')
		at--;
	return at[0] == ')' && at[1] == ' ' && at[2] != 'Z' && at[2] != 'X' ? parse_pid(at + 4) : 0;
}

static int list(struct kin *kin, int max)
{
	auto_close proc = (int)sys(openat, AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	__attribute__((aligned(8))) char buffer[4096];
	int count = 0;
	long n = proc;

	while (n >= 0 && (n = sys(getdents64, proc, buffer, sizeof(buffer))) > 0) {
		for (long at = 0; at < n;) {
			const struct entry *entry = (const void *)(buffer + at);
			int pid = parse_pid(entry->name);
			int parent = pid ? living_parent(proc, entry->name) : 0;

			if (parent && parent < PIDS_MAX && pid < PIDS_MAX && count < max)
				kin[count++] = (struct kin){ .pid = pid, .parent = parent };
			at += entry->len;
		}
	}
	return n < 0 ? (int)n : count;
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
