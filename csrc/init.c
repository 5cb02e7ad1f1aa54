/*
 * init.c - jail-init: builds the sandbox it was told to build, from inside, and is its PID 1.
 *
 * Theory of operation.  The harness starts us by clone3(2) and execveat(2), in
 * fresh namespaces where the plan has some, with one descriptor: the control
 * socket.  The first request is the plan.  We carry out its setup ops, say
 * READY, and serve: have a shepherd start a program, pass on a signal, reap.  When
 * the socket closes or the harness's pidfd turns readable we end, and with us
 * everything inside: PID 1 of a pid namespace takes all of it along, and
 * without one we are a child subreaper and kill what is left.
 *
 * Two ways to fail, kept apart: what the plan or a program cannot have is a
 * FAULT to the harness; a socket that makes no sense ends the sandbox.
 */
#include "core.h"
#include <asm/signal.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/poll.h>
#include <linux/signalfd.h>

#define ALL_SIGNALS (~(uint64_t)0)

enum {
	EXIT_DONE = 0,
	EXIT_SETUP = 1,
	EXIT_PROTOCOL = 2,
	EXIT_KERNEL = 3,
	EXIT_TOLD = 4,
	EXIT_TIME = 5, /* the sandbox's: it has lasted, or was idle, for as long as it may */
	EXIT_COVER = 6 /* what covered or protected a file of the host's is gone */
};

/* gcc may emit calls to these for struct copies, even freestanding. */
void *memcpy(void *to, const void *from, size_t n)
{
	char *t = to;
	const char *f = from;

	while (n--)
		*t++ = *f++;
	return to;
}

void *memset(void *to, int byte, size_t n)
{
	char *t = to;

	while (n--)
		*t++ = (char)byte;
	return to;
}

/* Handlers do not survive execve(2), but SIG_IGN does: Python ignores SIGPIPE, and would have us do so. */
static void default_signals(void)
{
	struct {
		void *handler;
		unsigned long flags;
		void *restorer;
		uint64_t mask;
	} by_default = { 0 };
	uint64_t all = ALL_SIGNALS;

	for (int signal = 1; signal <= SIG_COUNT; signal++)
		sys(rt_sigaction, signal, &by_default, 0, sizeof(uint64_t));
	sys(rt_sigprocmask, SIG_SETMASK, &all, 0, sizeof(all));
}

/*
 * What the harness may have been given, or taken, that is no program's: a
 * real-time policy, a negative nice value, addresses that do not vary.
 * sched(7), setpriority(2), personality(2)
 */
static void ordinary_process(void)
{
	int none = 0;
	long nice = 20 - sys(getpriority, 0, 0);

	if (sys(sched_getscheduler, 0) != 0)
		sys(sched_setscheduler, 0, 0, &none);
	if (nice < 0)
		sys(setpriority, 0, 0, 0);
	sys(personality, 0);
}

/* Room for a request, and as much again to work in.  Costs what is touched. */
static char *map_request(void)
{
	return (char *)sys(mmap, 0, 2UL * JAIL_REQUEST_BYTES, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static int is_error(const void *pointer)
{
	return (unsigned long)pointer > -4096UL;
}

static int set_up(struct jail_state *state, const struct jail_request *request,
		  struct jail_ops *ret_ops)
{
	struct jail_event event = { .kind = JAIL_EVENT_READY,
				    .phase = JAIL_PHASE_SETUP,
				    .op = JAIL_NO_OP };
	uint64_t start_ns = monotonic_ns();
	int r = plan_decode(request->bytes, request->len, ret_ops);

	if (r < 0) {
		event.op_kind = JAIL_STEP_MESSAGE;
		event.err = -r;
	} else {
		state->data = ret_ops->data;
		state->setup = ret_ops->setup;
		r = run_ops(state, ret_ops->setup, ret_ops->setup_ops, &event);
	}
	if (r < 0)
		event.kind = JAIL_EVENT_FAULT;
	event.wall_ns = monotonic_ns() - start_ns;
	return control_send(JAIL_CONTROL_FD, &event) < 0 ? -EPIPE : r;
}

/* A program that cannot even be tried: said on its own socket, if that came. */
static void refuse(struct jail_request *request, int step, int r)
{
	struct jail_event event = {
		.kind = JAIL_EVENT_FAULT,
		.id = request->id,
		.phase = JAIL_PHASE_EXEC,
		.op = JAIL_NO_OP,
		.op_kind = step,
		.err = -r,
	};

	if (request->n_fds)
		control_send(request->fds[request->n_fds - 1], &event);
	control_close_fds(request);
}

/* A cgroup first, if one comes; then standard input, output and error, if those do; and last the status socket. */
static void take_descriptors(struct jail_slot *slot, const struct jail_request *request)
{
	int has_cgroup = !!(slot->flags & JAIL_EXEC_CGROUP);

	slot->cgroup = has_cgroup ? request->fds[0] : -1;
	slot->status = request->fds[request->n_fds - 1];
	for (int i = 0; i < 3; i++)
		slot->fds[i] = i + has_cgroup < request->n_fds - 1 ? request->fds[i + has_cgroup] :
								     -1;
}

static void start(struct jail_state *state, struct jail_slots *slots, const struct jail_ops *ops,
		  struct jail_request *request)
{
	struct jail_slot *slot = reap_slot(slots);
	int r = slot ? request_parse(request, slot) : 0;

	if (!slot || r < 0) {
		if (slot)
			request_free(slot);
		refuse(request, slot ? JAIL_STEP_MESSAGE : JAIL_STEP_CLONE, slot ? r : -EAGAIN);
		return;
	}
	slot->id = request->id;
	slot->state = state;
	slot->ops = ops;
	take_descriptors(slot, request);
	if (state->wall_at_ns && (!slot->deadline_ns || slot->deadline_ns > state->wall_at_ns))
		slot->deadline_ns = state->wall_at_ns;
	if (!slot->file)
		watch_begin(state, slot);
	r = shepherd_start(slot);
	if (r < 0) {
		request_free(slot);
		refuse(request, JAIL_STEP_CLONE, r);
	}
	request->n_fds = 0;
}

static int answer(struct jail_state *state, struct jail_slots *slots, const struct jail_ops *ops,
		  struct jail_request *request)
{
	if (request->kind == JAIL_REQUEST_EXEC || request->kind == JAIL_REQUEST_FILE) {
		start(state, slots, ops, request);
		return 0;
	}
	if (request->kind == JAIL_REQUEST_SIGNAL && request->len == sizeof(struct jail_signal)) {
		reap_signal(state, slots, request->id,
			    (const struct jail_signal *)(const void *)request->bytes,
			    request->bytes + JAIL_REQUEST_BYTES);
		return 0;
	}
	return -EBADMSG;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a && (!b || a < b) ? a : b;
}

/* Until something happens, or has to. */
static int await(struct pollfd *fds, int n, const struct jail_state *state,
		 const struct jail_slots *slots)
{
	uint64_t next =
		earlier(earlier(deadline_next(slots), watch_next(state, slots)),
			earlier(deadline_of_sandbox(state, slots), cover_next(state, slots)));
	uint64_t now = next ? monotonic_ns() : 0;
	uint64_t left = next > now ? next - now : 0;
	struct {
		int64_t seconds, nanoseconds;
	} timeout = { (int64_t)(left / 1000000000U), (int64_t)(left % 1000000000U) };

	return (int)sys(ppoll, fds, n, next ? &timeout : 0, 0, 0);
}

/*
 * A SIGTERM that somebody outside has sent, who has no other way to reach us.
 * One from inside is for nobody: signals that are blocked reach PID 1, too, and
 * their senders are known by having a pid here.
 */
static int is_told_to_end(int signals)
{
	struct signalfd_siginfo taken = { 0 };

	sys(read, signals, &taken, sizeof(taken));
	return taken.ssi_signo == SIGTERM && (sys(getpid) != 1 || taken.ssi_pid == 0);
}

/* Returns how to end, or -errno. */
static int serve(struct jail_state *state, const struct jail_ops *ops, struct jail_request *request,
		 int harness)
{
	struct jail_slots slots;
	uint64_t wanted = 1UL << (SIGCHLD - 1) | 1UL << (SIGTERM - 1);
	auto_close signals =
		(int)sys(signalfd4, -1, &wanted, sizeof(wanted), SFD_CLOEXEC | SFD_NONBLOCK);
	struct pollfd fds[4] = {
		{ .fd = JAIL_CONTROL_FD, .events = POLLIN },
		{ .fd = signals, .events = POLLIN },
		{ .fd = harness, .events = POLLIN },
		{ .fd = state->covers.mounts, .events = POLLPRI },
	};
	int r = signals;

	slots.used = 0;
	slots.is_over = 0;
	deadline_begin(state);
	while (r >= 0 && !slots.is_over) {
		r = await(fds, 4, state, &slots);
		if (cover_is_lost(state, &slots, r > 0 && (fds[0].revents || fds[3].revents)))
			return EXIT_COVER;
		deadline_pass(state, &slots, request->bytes + JAIL_REQUEST_BYTES);
		watch_pass(state, &slots, request->bytes + JAIL_REQUEST_BYTES);
		if (r >= 0 && fds[1].revents) {
			if (is_told_to_end(signals))
				return EXIT_TOLD;
			r = reap_children(&slots);
			if (r == -ECHILD)
				r = 0;
		}
		if (r >= 0 && fds[2].revents)
			return 0;
		if (r >= 0 && fds[0].revents && !slots.is_over) {
			r = control_receive(request);
			if (r <= 0)
				return r;
			if (r == CONTROL_MORE)
				continue;
			r = answer(state, &slots, ops, request);
			control_close_fds(request);
		}
		if (deadline_is_over(state, &slots))
			return EXIT_TIME;
	}
	return r < 0 ? r : EXIT_DONE;
}

/*
 * With the plan comes a pidfd of the harness, since the control socket may
 * outlive it in a forked child; and, for a plan that makes sockets for the
 * harness, where to send them.
 */
static int live(struct jail_state *state)
{
	struct jail_request plan = { .bytes = map_request() };
	struct jail_request request = { .bytes = map_request() };
	struct jail_ops ops;
	int r = CONTROL_MORE;

	if (is_error(plan.bytes) || is_error(request.bytes))
		return EXIT_KERNEL;
	while (r == CONTROL_MORE)
		r = control_receive(&plan);
	if (r <= 0 || plan.kind != JAIL_REQUEST_PLAN || plan.n_fds < 1 || plan.n_fds > 2)
		return EXIT_PROTOCOL;
	state->sockets = plan.n_fds == 2 ? plan.fds[1] : -1;
	if (set_up(state, &plan, &ops) < 0)
		return EXIT_SETUP;
	close_fdp(&state->sockets);
	r = serve(state, &ops, &request, plan.fds[0]);
	return r < 0 ? EXIT_PROTOCOL : r;
}

__attribute__((used, noreturn)) void init_main(void)
{
	struct jail_state state = {
		.scratch = -1,
		.root = -1,
		.ruleset = -1,
		.sockets = -1,
		.kill_is_contained = sys(getpid) == 1,
		.watch = { .proc = -1, .disk = -1, .loadavg = -1 },
		.covers = { .proc = -1, .mounts = -1 },
	};
	int status;

	default_signals();
	ordinary_process();
	sys(umask, 022);
	status = live(&state);
	if (sys(getpid) != 1)
		reap_everything(&state);
	for (;;)
		sys(exit_group, status);
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tand $-16, %rsp\n\tcall init_main\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n_start:\n\tmov x29, xzr\n\tmov x30, xzr\n\tbl init_main\n");
#endif
