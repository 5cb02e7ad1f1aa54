/*
 * rlimit.c - limits that each process carries.  getrlimit(2)
 */
#include "core.h"
#include <linux/resource.h>

int room_rlimit_set(struct jail_state *state, const struct jail_op *op)
{
	struct rlimit64 limit = { .rlim_cur = op->args[1], .rlim_max = op->args[2] };

	(void)state;
	return (int)sys(prlimit64, 0, op->args[0], &limit, 0);
}
