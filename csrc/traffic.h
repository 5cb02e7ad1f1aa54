/*
 * traffic.h - what Python and the mover of bytes say to each other.
 *
 * Read by cffi as it stands and included by traffic.c: no preprocessor in here.
 * All memory is Python's; nothing is allocated on this side.
 */

enum jail_order_kind {
	JAIL_ORDER_OPEN = 1, /* what it holds back may be read */
	JAIL_ORDER_CUT,	     /* end it, by RST */
	JAIL_ORDER_STOP,     /* end all of them, and return */
	JAIL_ORDER_SERVE     /* move what has come: an event was too early */
};

/* On the pipe to the mover.  Back comes the number of each pair that has ended. */
struct jail_order {
	uint32_t kind;
	uint32_t pair;
	uint32_t serial; /* of the pair that is meant: its number may be another's by now */
};

/* Bytes of all the pairs of one sandbox. */
struct jail_account {
	uint64_t moved[2]; /* from the program, and to it */
	uint64_t most;	   /* together, before its pairs are cut; 0: no limit */
};

/* On the way from one socket to the other. */
struct jail_pipe {
	int32_t fds[2];
	uint32_t is_open, is_taken;
	uint32_t held; /* bytes that are in there */
};

/* Two sockets, each of which gets what the other is sent. */
struct jail_pair {
	int32_t fds[2]; /* the program's, and the other */
	uint32_t account;
	uint32_t serial;
	uint32_t is_begun; /* both of its fds are known to epoll(7) */
	uint32_t is_early; /* an event came before that */
	uint32_t is_held;  /* nothing is read from the program's yet */
	uint32_t ended;	   /* one bit for each direction that has */
	uint32_t is_queued;
	uint32_t next; /* in the queue of those that have more to move */
	uint32_t bulk; /* one bit for each direction in which much has come at once */
	uint32_t full; /* one bit for each side that once took no more, and says when it does */
	struct jail_pipe *pipes[2];
	int32_t err; /* errno that ended it; 0: both sides have */
	uint64_t moved[2];
	uint64_t at_ns; /* of CLOCK_MONOTONIC: when bytes were moved last */
};

enum jail_traffic_number {
	JAIL_NO_PAIR = 2147483647,
	JAIL_PIPES_MAX = 16,
	JAIL_PIPE_BYTES = 262144
};

struct jail_traffic {
	int32_t epoll_fd;
	int32_t orders_fd;    /* to be read */
	int32_t reports_fd;   /* to be written */
	uint32_t first, last; /* of the queue; JAIL_NO_PAIR: it is empty */
	uint32_t buffer_len;
	struct jail_pair *pairs;
	struct jail_account *accounts;
	char *buffer;
	struct jail_pipe pipes[JAIL_PIPES_MAX]; /* opened as they are needed */
};

/* traffic.c */
int jail_traffic_add(struct jail_traffic *traffic, uint32_t number);
int jail_traffic_run(struct jail_traffic *traffic);
