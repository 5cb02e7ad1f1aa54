/*
 * landlock.c - a second wall around the files, and the first where there are no mounts.  landlock(7)
 *
 * The ruleset is made once.  Where jail-init is itself to stay outside of it
 * (no pid namespace: its own children must not be able to signal it), each
 * program enters it between clone and exec.
 */
#include "core.h"
#include <linux/fcntl.h>
#include <linux/landlock.h>

/* As of ABI 6, Linux 6.12; older kernels want the size that they know, and ignore zeros beyond it. */
struct ruleset_attr {
	uint64_t handled_access_fs;
	uint64_t handled_access_net;
	uint64_t scoped;
};

int room_landlock_ruleset(struct jail_state *state, const struct jail_op *op)
{
	struct ruleset_attr attr = {
		.handled_access_fs = op->args[0],
		.handled_access_net = op->args[1],
		.scoped = op->args[2],
	};

	state->ruleset = (int)sys(landlock_create_ruleset, &attr, sizeof(attr), 0);
	return state->ruleset < 0 ? state->ruleset : 0;
}

int room_landlock_path(struct jail_state *state, const struct jail_op *op)
{
	auto_close fd = (int)sys(openat, AT_FDCWD, op_path(state, op), O_PATH | O_CLOEXEC);
	struct landlock_path_beneath_attr rule = { .parent_fd = fd };
	int r = fd < 0 ? fd : tree_is_directory(fd);

	if (r < 0)
		return r;
	/* A directory's rights on a file are EINVAL. */
	rule.allowed_access = op->args[r ? 0 : 1];
	return (int)sys(landlock_add_rule, state->ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
}

int room_landlock_restrict(struct jail_state *state, const struct jail_op *op)
{
	(void)op;
	return (int)sys(landlock_restrict_self, state->ruleset, 0);
}
