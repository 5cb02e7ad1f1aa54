/*
 * pipes.c - pipes through which a bulk of bytes goes without being copied.
 * splice(2), pipe(7)
 *
 * A few for all the pairs of the mover.  A pair has one while it moves, and
 * keeps it for as long as bytes are in there that the other side does not take.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
#include "pipes.h"

/* An empty one for a pair; NULL: all of them are others', or there is no descriptor left. */
struct jail_pipe *jail_pipe_take(struct jail_pipe *pipes)
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
void jail_pipe_give_back(struct jail_pipe *pipe)
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
 * comes; or -errno, -EAGAIN for not now.
 */
ssize_t jail_pipe_move(struct jail_pipe *pipe, int from, int to, uint32_t *come)
{
	ssize_t n;

	*come = 0;
	if (!pipe->held) {
		n = splice(from, NULL, pipe->fds[1], NULL, JAIL_PIPE_BYTES, SPLICE_F_NONBLOCK);
		if (n <= 0)
			return n < 0 ? -errno : 0;
		pipe->held = *come = (uint32_t)n;
	}
	n = splice(pipe->fds[0], NULL, to, NULL, pipe->held, SPLICE_F_NONBLOCK);
	if (n <= 0)
		return n < 0 ? -errno : -EPROTO;
	pipe->held -= (uint32_t)n;
	return n;
}
