/*
 * piece.c - one piece of bytes, from a socket to another: copied, or through a
 * pipe.  splice(2), pipe(7), tcp(7)
 *
 * The pipes are a few for all pairs.  A pair has one while it moves, and keeps
 * it for as long as bytes are in there that the other side does not take.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>
#include "piece.h"

#define BULK 65536 /* bytes at once, from which on a pipe is worth its calls */

/* What send(2) and splice(2) to a socket say when it takes no more, apart from nothing having come. */
static ssize_t given(ssize_t n)
{
	if (n >= 0)
		return n;
	return errno == EAGAIN ? -EXFULL : -errno;
}

/* One, by way of a buffer.  Bytes; 0: the end; -EXFULL; or -errno. `come`: as many were there. */
ssize_t jail_piece_copy(char *buffer, size_t len, int from, int to, uint32_t *come)
{
	ssize_t n = recv(from, buffer, len, MSG_PEEK | MSG_DONTWAIT);

	*come = n > 0 ? (uint32_t)n : 0;
	if (n <= 0)
		return n < 0 ? -errno : 0;
	n = given(send(to, buffer, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL));
	if (n > 0 && recv(from, NULL, (size_t)n, MSG_TRUNC | MSG_DONTWAIT) != n)
		return -EPROTO;
	return n;
}

/* An empty one for a pair; NULL: all of them are others', or there is no descriptor left. */
static struct jail_pipe *take(struct jail_pipe *pipes)
{
	for (struct jail_pipe *pipe = pipes; pipe < pipes + JAIL_PIPES_MAX; pipe++) {
		if (pipe->is_taken)
			continue;
		if (!pipe->is_open && pipe2(pipe->fds, O_NONBLOCK | O_CLOEXEC) < 0)
			return NULL;
		if (!pipe->is_open) /* or as large as it comes: a user's pipes are bounded in sum */
			fcntl(pipe->fds[1], F_SETPIPE_SZ, JAIL_PIPE_BYTES);
		pipe->is_open = pipe->is_taken = 1;
		return pipe;
	}
	return NULL;
}

/* It is another pair's to take. */
static void give_back(struct jail_pipe *pipe)
{
	if (pipe->held) {
		close(pipe->fds[0]);
		close(pipe->fds[1]);
		pipe->is_open = 0;
	}
	pipe->held = pipe->is_taken = 0;
}

/*
 * What has come, or what is in there still, to the other side.  Both are
 * O_NONBLOCK, by which splice(2) goes with sockets.  Bytes; 0: the end of what
 * comes; -EXFULL; or -errno.
 */
static ssize_t move_by_pipe(struct jail_pipe *pipe, int from, int to, uint32_t *come)
{
	ssize_t n;

	*come = 0;
	if (!pipe->held) {
		n = splice(from, NULL, pipe->fds[1], NULL, JAIL_PIPE_BYTES, SPLICE_F_NONBLOCK);
		if (n <= 0)
			return n < 0 ? -errno : 0;
		pipe->held = *come = (uint32_t)n;
	}
	n = given(splice(pipe->fds[0], NULL, to, NULL, pipe->held, SPLICE_F_NONBLOCK));
	if (n == 0)
		return -EPROTO;
	pipe->held -= n > 0 ? (uint32_t)n : 0;
	return n;
}

/* Whether the next piece is worth a pipe.  With sockets splice(2) waits, unless they are O_NONBLOCK. */
static void mark_bulk(struct jail_pair *pair, int direction, int is_bulk)
{
	uint32_t bit = 1U << direction;

	if (is_bulk && !pair->bulk)
		for (int side = 0; side < 2; side++)
			fcntl(pair->fds[side], F_SETFL, O_RDWR | O_NONBLOCK);
	pair->bulk = is_bulk ? pair->bulk | bit : pair->bulk & ~bit;
}

/*
 * One, in one direction.  Bytes; 0: the end; -EAGAIN: nothing has come;
 * -EXFULL: the other side takes no more; or another -errno.
 *
 * What splice(2) finds nothing of may still be there: it stops before a byte
 * that is urgent, and says so as if nothing had come, or as the end.
 */
ssize_t jail_piece_move(struct jail_traffic *traffic, struct jail_pair *pair, int direction)
{
	int from = pair->fds[direction], to = pair->fds[!direction];
	struct jail_pipe *pipe = pair->pipes[direction];
	uint32_t come = 0;
	ssize_t n = 0;

	if (!pipe && pair->bulk >> direction & 1)
		pipe = pair->pipes[direction] = take(traffic->pipes);
	if (pipe)
		n = move_by_pipe(pipe, from, to, &come);
	if (pipe && !pipe->held) {
		give_back(pipe);
		pair->pipes[direction] = NULL;
	}
	if (!pipe || (!pipe->held && !come && (n == 0 || n == -EAGAIN)))
		n = jail_piece_copy(traffic->buffer, traffic->buffer_len, from, to, &come);
	if (come)
		mark_bulk(pair, direction, come >= BULK);
	return n;
}

/* What is on the way goes with its pair. */
void jail_piece_drop(struct jail_pair *pair)
{
	for (int side = 0; side < 2; side++) {
		if (pair->pipes[side])
			give_back(pair->pipes[side]);
		pair->pipes[side] = NULL;
	}
	pair->bulk = 0;
}
