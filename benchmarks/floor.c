/*
 * floor.c - what a one-shot sandbox costs when no Python is in the way.
 *
 * A harness in C: it does for one_shot.py what jail.run does, with the same
 * plan, the same jail-init, the same socket and pipes, and it times each run
 * itself.  Or, asked so, it leaves jail-init out as well: bare.c.
 *
 *   floor JAIL-INIT JOB
 *
 * A byte on standard input asks for a run: 'i' through jail-init, 'b' bare.
 * The answer on standard output is a struct answer and what the program wrote
 * to its standard output.  JOB is a struct job and what it counts.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "boundary.h"
#include "floor.h"

#define JOB_BYTES (1 << 20)
#define STRINGS_MAX 4096

struct job {
	uint64_t clone_flags;
	uint64_t ambient;
	uint32_t plan_len; /* of the plan that follows */
	uint32_t exec_len; /* of the exec that follows that */
};

struct answer {
	int64_t ns;
	int32_t status; /* as wait4(2) gives it */
	uint32_t output_len;
};

static struct job job;
static char plan[JOB_BYTES];
static char exec[JOB_BYTES];
static char *strings[STRINGS_MAX];
static char output[JOB_BYTES];
static struct answer answer;

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* Every failure here ends the benchmark: a run that went wrong has no time worth printing. */
static long must(long r, const char *what)
{
	if (r < 0) {
		perror(what);
		exit(1);
	}
	return r;
}

static void send_request(int control, uint32_t kind, uint32_t id, char *body, uint32_t len,
			 const int *fds, uint32_t n_fds)
{
	struct jail_packet packet = { .kind = kind, .id = id, .total = len };
	struct iovec iov[2] = { { &packet, sizeof(packet) }, { body, len } };
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(4 * sizeof(int))];
	} rights = { .header = { .cmsg_len = CMSG_LEN(n_fds * sizeof(int)),
				 .cmsg_level = SOL_SOCKET,
				 .cmsg_type = SCM_RIGHTS } };
	struct msghdr message = { .msg_iov = iov,
				  .msg_iovlen = 2,
				  .msg_control = &rights,
				  .msg_controllen = CMSG_SPACE(n_fds * sizeof(int)) };

	memcpy(CMSG_DATA(&rights.header), fds, n_fds * sizeof(int));
	must(sendmsg(control, &message, MSG_NOSIGNAL), "sendmsg");
}

/* 0 at the end of the stream, or where there is nothing to read now. */
static int take_output(int fd, int is_stdout)
{
	char unwanted[4096];
	ssize_t n = is_stdout ? read(fd, output + answer.output_len,
				     sizeof(output) - answer.output_len) :
				read(fd, unwanted, sizeof(unwanted));

	if (n < 0 && errno == EAGAIN)
		return 0;
	must(n, "read");
	answer.output_len += is_stdout ? (uint32_t)n : 0;
	return n > 0;
}

/* The pipes, as subprocess and jail.run have them: ours are ends 0, the program's are fds. */
static void open_streams(int ours[2], int fds[3])
{
	fds[0] = (int)must(open("/dev/null", O_RDONLY | O_CLOEXEC), "/dev/null");
	for (int i = 0; i < 2; i++) {
		int both[2];

		must(pipe2(both, O_CLOEXEC), "pipe2");
		ours[i] = both[0];
		fds[i + 1] = both[1];
	}
}

static void close_all(const int *fds, int n)
{
	for (int i = 0; i < n; i++)
		close(fds[i]);
}

static int start_init(const char *path, int *ret_control)
{
	int init = (int)must(open(path, O_PATH | O_CLOEXEC), path);
	int harness = (int)must(syscall(SYS_pidfd_open, getpid(), 0), "pidfd_open");
	struct jail_spawn spawn = { .clone_flags = job.clone_flags,
				    .ambient = job.ambient,
				    .init_fd = init,
				    .cgroup_fd = -1 };
	int pair[2], r;

	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "socketpair");
	spawn.control_fd = pair[1];
	r = jail_spawn(&spawn);
	errno = -r;
	must(r, "jail_spawn");
	close(pair[1]);
	send_request(pair[0], JAIL_REQUEST_PLAN, 0, plan, job.plan_len, &harness, 1);
	close(harness);
	close(init);
	*ret_control = pair[0];
	return spawn.pidfd;
}

/* Whether it is the end of the program.  A fault ends the benchmark. */
static int take_event(int socket_fd)
{
	struct jail_event event = { 0 };

	must(recv(socket_fd, &event, sizeof(event), 0), "recv");
	if (event.kind == 0 || event.kind == JAIL_EVENT_FAULT) {
		fprintf(stderr, "floor: phase %d, op %d, kind %d: %s\n", event.phase, event.op,
			event.op_kind, strerror(event.err));
		exit(1);
	}
	if (event.kind == JAIL_EVENT_EXITED)
		answer.status = event.status;
	return event.kind == JAIL_EVENT_EXITED;
}

static void communicate(int status, const int ours[2])
{
	struct pollfd fds[3] = { { status, POLLIN, 0 },
				 { ours[0], POLLIN, 0 },
				 { ours[1], POLLIN, 0 } };
	int is_over = 0;

	while (!is_over) {
		must(poll(fds, 3, -1), "poll");
		for (int i = 1; i < 3; i++)
			if (fds[i].revents && !take_output(ours[i - 1], i == 1))
				fds[i].fd = -1;
		if (fds[0].revents)
			is_over = take_event(status);
	}
	for (int i = 0; i < 2; i++) {
		must(fcntl(ours[i], F_SETFL, O_NONBLOCK), "fcntl");
		while (take_output(ours[i], i == 0))
			;
	}
}

static void await_end(int pidfd)
{
	siginfo_t ended;

	must(waitid(P_PIDFD, (id_t)pidfd, &ended, WEXITED | __WALL), "waitid");
	close(pidfd);
}

static void run_through_init(const char *path)
{
	int control, ours[2], fds[4], status[2];
	int pidfd = start_init(path, &control);

	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, status), "socketpair");
	open_streams(ours, fds);
	fds[3] = status[1];
	send_request(control, JAIL_REQUEST_EXEC, 1, exec, job.exec_len, fds, 4);
	close_all(fds, 4);
	communicate(status[0], ours);
	take_event(control); /* READY, which nobody waited for */
	close_all(ours, 2);
	close(status[0]);
	close(control);
	await_end(pidfd);
}

static void run_bare(struct bare *bare)
{
	int ours[2];

	open_streams(ours, bare->fds);
	must(bare_start(bare), "clone3");
	close_all(bare->fds, 3);
	while (take_output(ours[0], 1))
		;
	while (take_output(ours[1], 0))
		;
	await_end(bare->pidfd);
	close_all(ours, 2);
	/* The op UNDUMPABLE reached us: the memory is shared. */
	must(prctl(PR_SET_DUMPABLE, 1), "prctl");
	if (bare->status < 0)
		fprintf(stderr, "floor: bare: %s\n", strerror(-bare->status));
	answer.status = bare->status;
}

static void read_job(const char *path)
{
	FILE *file = fopen(path, "rb");

	if (!file || fread(&job, sizeof(job), 1, file) != 1 || job.plan_len > sizeof(plan) ||
	    job.exec_len > sizeof(exec) || fread(plan, 1, job.plan_len, file) != job.plan_len ||
	    fread(exec, 1, job.exec_len, file) != job.exec_len) {
		fprintf(stderr, "floor: %s: not a job\n", path);
		exit(1);
	}
	fclose(file);
}

/* The strings of an exec: its directory, the one file, argv and envp. */
static void parse_exec(struct bare *ret_bare)
{
	const struct jail_exec *header = (const void *)exec;
	char *text = (char *)(header + 1);
	uint32_t n = 2 + header->argc + header->envc, at = 0;

	if (header->files != 1 || n + 2 > STRINGS_MAX) {
		fprintf(stderr, "floor: name one file, by its path\n");
		exit(1);
	}
	for (uint32_t i = 0; i < n; i++, text += strlen(text) + 1) {
		if (i == 2 + header->argc)
			at++; /* NULL ends argv */
		strings[at++] = text;
	}
	ret_bare->directory = strings[0];
	ret_bare->file = strings[1];
	ret_bare->argv = strings + 2;
	ret_bare->envp = strings + 2 + header->argc + 1;
}

int main(int argc, char **argv)
{
	struct bare bare = { .plan = plan };
	char asked;

	if (argc != 3) {
		fprintf(stderr, "usage: floor JAIL-INIT JOB\n");
		return 2;
	}
	read_job(argv[2]);
	parse_exec(&bare);
	bare.plan_len = job.plan_len;
	bare.clone_flags = job.clone_flags;
	while (read(STDIN_FILENO, &asked, 1) == 1) {
		int64_t started = now_ns();

		answer = (struct answer){ 0 };
		if (asked == 'b')
			run_bare(&bare);
		else
			run_through_init(argv[1]);
		answer.ns = now_ns() - started;
		must(write(STDOUT_FILENO, &answer, sizeof(answer)), "write");
		must(write(STDOUT_FILENO, output, answer.output_len), "write");
	}
	return 0;
}
