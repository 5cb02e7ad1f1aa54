/*
 * pipes.h - see pipes.c.
 */
#include <sys/types.h>
#include "traffic.h"

struct jail_pipe *jail_pipe_take(struct jail_pipe *pipes);
void jail_pipe_give_back(struct jail_pipe *pipe);
ssize_t jail_pipe_move(struct jail_pipe *pipe, int from, int to, uint32_t *come);
