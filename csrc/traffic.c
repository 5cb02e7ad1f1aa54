/*
 * traffic.c - moves bytes between pairs of sockets.  epoll(7), tcp(7)
 *
 * The harness's side, in a thread of its own that holds no lock of the
 * interpreter: a harness that computes, or collects garbage, stalls nobody's
 * download.  What is paired with what is decided in Python, before.
 *
 * What comes in small pieces is never held here.  It is looked at (MSG_PEEK),
 * sent, and as much of it as was taken is dropped from where it came
 * (MSG_TRUNC): the rest stays in the sender's own window, so back-pressure is
 * the kernel's, and a pair costs two descriptors and no memory.  What comes in
 * bulk goes through one of a few pipes, uncopied (piece.c).  An end of file is
 * passed on as one, an error as a reset.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "piece.h"

#define EVENTS_MAX 256
#define ROUNDS 16 /* of a buffer each, before others have their turn */
#define BOTH 3U
#define EVENTS (EPOLLIN | EPOLLRDHUP | EPOLLET) /* room wakes nobody before it is wanted */
#define SIDE 32 /* bit of an event's data: below it is the pair's number */
#define ORDERS UINT64_MAX

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/* Its number is free again.  The pipe has room for every pair there can be. */
static int report(const struct jail_traffic *traffic, uint32_t number)
{
	return write(traffic->reports_fd, &number, sizeof(number)) < 0 ? -errno : 0;
}

static int control(const struct jail_traffic *traffic, uint32_t number, int side, int op,
		   uint32_t events)
{
	struct epoll_event event = { .events = events,
				     .data.u64 = number | (uint64_t)side << SIDE };

	return epoll_ctl(traffic->epoll_fd, op, traffic->pairs[number].fds[side], &event) < 0 ?
		       -errno :
		       0;
}

static void queue(struct jail_traffic *traffic, uint32_t number)
{
	struct jail_pair *pair = &traffic->pairs[number];

	if (pair->is_queued)
		return;
	pair->is_queued = 1;
	pair->next = JAIL_NO_PAIR;
	if (traffic->first == JAIL_NO_PAIR)
		traffic->first = number;
	else
		traffic->pairs[traffic->last].next = number;
	traffic->last = number;
}

/* Closes a pair's descriptors.  Its end is said when no event of this turn is left, that could be another's by then. */
static void finish(struct jail_traffic *traffic, uint32_t number, int err)
{
	struct jail_pair *pair = &traffic->pairs[number];
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };

	pair->err = err;
	pair->is_begun = 0;
	jail_piece_drop(pair);
	for (int side = 0; side < 2; side++) {
		if (err)
			setsockopt(pair->fds[side], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		/* close(2) does not do it while a forked copy of the harness holds the same open file */
		epoll_ctl(traffic->epoll_fd, EPOLL_CTL_DEL, pair->fds[side], NULL);
		close(pair->fds[side]);
		pair->fds[side] = -1;
	}
	queue(traffic, number);
}

/* Of an account both threads have pairs. 0: it is used up. */
static int count(struct jail_account *account, struct jail_pair *pair, int direction, uint64_t n)
{
	uint64_t other = __atomic_load_n(&account->moved[!direction], __ATOMIC_RELAXED);

	pair->moved[direction] += n;
	n = __atomic_add_fetch(&account->moved[direction], n, __ATOMIC_RELAXED);
	return !account->most || n + other <= account->most;
}

/* A side takes no more.  It says so when it does, and at once if it does by now: a MOD looks again. */
static int await_room(const struct jail_traffic *traffic, struct jail_pair *pair, int side)
{
	uint32_t bit = 1U << side;

	if (pair->full & bit)
		return 0;
	pair->full |= bit;
	return control(traffic, (uint32_t)(pair - traffic->pairs), side, EPOLL_CTL_MOD,
		       EVENTS | EPOLLOUT);
}

/* As much as goes, in one direction.  0: no more for now; 1: there is more; or -errno. */
static int move(struct jail_traffic *traffic, struct jail_pair *pair, int direction)
{
	struct jail_account *account = &traffic->accounts[pair->account];

	for (int round = 0; round < ROUNDS; round++) {
		ssize_t n = jail_piece_move(traffic, pair, direction);

		if (n == 0) {
			pair->ended |= 1U << direction;
			if (shutdown(pair->fds[!direction], SHUT_WR) < 0 && errno != ENOTCONN)
				return -errno;
			return 0;
		}
		if (n == -EXFULL)
			return await_room(traffic, pair, !direction);
		if (n < 0)
			return n == -EAGAIN || n == -EINTR ? 0 : (int)n;
		if (!count(account, pair, direction, (uint64_t)n))
			return -EDQUOT;
	}
	return 1;
}

/* One bit of `directions` for each that may have something to move: as far as it goes. */
static void serve(struct jail_traffic *traffic, uint32_t number, uint32_t directions)
{
	struct jail_pair *pair = &traffic->pairs[number];
	uint64_t before = pair->moved[0] + pair->moved[1];
	int r = 0;

	directions &= ~(pair->ended | (pair->is_held ? 1U : 0));
	for (int direction = 0; direction < 2 && r >= 0; direction++) {
		int more = directions >> direction & 1 ? move(traffic, pair, direction) : 0;

		r = more < 0 ? more : r | more;
	}
	if (pair->moved[0] + pair->moved[1] != before)
		pair->at_ns = now_ns();
	if (r < 0 || pair->ended == BOTH)
		finish(traffic, number, r < 0 ? -r : 0);
	else if (r > 0)
		queue(traffic, number);
}

/* Of a side: something has come there, or it takes what comes from the other. */
static void serve_event(struct jail_traffic *traffic, const struct epoll_event *event)
{
	uint32_t number = (uint32_t)event->data.u64, side = (uint32_t)(event->data.u64 >> SIDE);
	struct jail_pair *pair = &traffic->pairs[number];
	uint32_t directions = event->events & EPOLLIN ? 1U << side : 0;

	if (event->events & EPOLLOUT)
		directions |= 1U << !side;
	if (event->events & ~(uint32_t)(EPOLLIN | EPOLLOUT)) /* an end, or an error */
		directions = BOTH;
	if (!__atomic_load_n(&pair->is_begun, __ATOMIC_SEQ_CST)) {
		__atomic_store_n(&pair->is_early, 1, __ATOMIC_SEQ_CST);
		if (!__atomic_load_n(&pair->is_begun, __ATOMIC_SEQ_CST))
			return; /* or not any more, since it ended among the events before this one */
		directions = BOTH;
	}
	serve(traffic, number, directions);
}

static int serve_queue(struct jail_traffic *traffic)
{
	uint32_t number = traffic->first;
	int r = 0;

	traffic->first = JAIL_NO_PAIR;
	while (number != JAIL_NO_PAIR && r >= 0) {
		uint32_t next = traffic->pairs[number].next;

		traffic->pairs[number].is_queued = 0;
		if (traffic->pairs[number].fds[0] < 0)
			r = report(traffic, number);
		else
			serve(traffic, number, BOTH);
		number = next;
	}
	return r;
}

/* What the program has sent while it was connected: a request, mostly, which is not to wait for another thread. */
static int move_first(struct jail_traffic *traffic, struct jail_pair *pair)
{
	char buffer[4096];
	uint32_t come;
	ssize_t n = jail_piece_copy(buffer, sizeof(buffer), pair->fds[0], pair->fds[1], &come);

	return n <= 0 || count(&traffic->accounts[pair->account], pair, 0, (uint64_t)n);
}

/*
 * In the network thread: a pair that is filled in is the mover's from now on.
 * A first event comes for what has already come.  0; 1: it is to be served; or
 * -errno, and it is to be cut.
 *
 * Both descriptors are known to epoll(7) before any event counts: one of the
 * first could have the second closed, and its number be somebody else's by
 * then.  After that it may end at any moment, and there is nothing to change.
 */
int jail_traffic_add(struct jail_traffic *traffic, uint32_t number)
{
	struct jail_pair *pair = &traffic->pairs[number];
	int r = 0;

	pair->at_ns = now_ns();
	if (!pair->is_held && !move_first(traffic, pair))
		r = -EDQUOT;
	for (int side = 1; side >= 0 && r == 0; side--)
		r = control(traffic, number, side, EPOLL_CTL_ADD, EVENTS);
	__atomic_store_n(&pair->is_begun, 1, __ATOMIC_SEQ_CST);
	return r < 0 ? r : !!__atomic_load_n(&pair->is_early, __ATOMIC_SEQ_CST);
}

/* 1: to stop; 0; or -errno. */
static int obey(struct jail_traffic *traffic)
{
	struct jail_order orders[64];
	ssize_t n = read(traffic->orders_fd, orders, sizeof(orders));

	if (n <= 0)
		return n == 0 || errno == EAGAIN || errno == EINTR ? n == 0 : -errno;
	for (size_t i = 0; i < (size_t)n / sizeof(*orders); i++) {
		struct jail_pair *pair = &traffic->pairs[orders[i].pair];

		if (orders[i].kind == JAIL_ORDER_STOP)
			return 1;
		if (orders[i].serial != pair->serial)
			continue;
		if (pair->fds[0] < 0)
			continue;
		if (orders[i].kind == JAIL_ORDER_CUT) {
			finish(traffic, orders[i].pair, ECANCELED);
			continue;
		}
		if (orders[i].kind == JAIL_ORDER_OPEN)
			pair->is_held = 0;
		serve(traffic, orders[i].pair, BOTH);
	}
	return 0;
}

/* Until it is told to stop.  0, or -errno of what should not happen. */
int jail_traffic_run(struct jail_traffic *traffic)
{
	struct epoll_event events[EVENTS_MAX];
	struct epoll_event orders = { .events = EPOLLIN, .data.u64 = ORDERS };
	sigset_t all;
	int r = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	traffic->first = traffic->last = JAIL_NO_PAIR;
	if (epoll_ctl(traffic->epoll_fd, EPOLL_CTL_ADD, traffic->orders_fd, &orders) < 0)
		return -errno;
	while (r == 0) {
		int wait = traffic->first == JAIL_NO_PAIR ? -1 : 0;
		int n = epoll_wait(traffic->epoll_fd, events, EVENTS_MAX, wait);

		if (n < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; i < n && r == 0; i++)
			if (events[i].data.u64 == ORDERS)
				r = obey(traffic);
			else
				serve_event(traffic, &events[i]);
		if (r == 0)
			r = serve_queue(traffic);
	}
	return r < 0 ? r : 0;
}
