/*
 * seccomp.c - the system calls that exist inside.  seccomp(2)
 *
 * The filter was compiled by plan's side from names; here it is loaded.  No
 * SECCOMP_FILTER_FLAG_SPEC_ALLOW: speculation stays as the host has it.
 */
#include "core.h"
#include <linux/filter.h>
#include <linux/seccomp.h>

static int load(struct jail_state *state, const struct jail_op *op, unsigned int flags)
{
	struct sock_fprog program = {
		.len = (unsigned short)(op->data_len / sizeof(struct sock_filter)),
		.filter = (struct sock_filter *)op_data(state, op),
	};

	if (!op->data_len || op->data_len % sizeof(struct sock_filter) ||
	    op->data_len / sizeof(struct sock_filter) > BPF_MAXINSNS)
		return -EINVAL;
	return (int)sys(seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

int room_seccomp_load(struct jail_state *state, const struct jail_op *op)
{
	return load(state, op, 0);
}

/*
 * The same, and calls that the filter leaves to somebody else wait for the
 * harness.  There is one such filter in a sandbox: the kernel takes no second
 * one on top, EBUSY.  seccomp_unotify(2), Linux 5.0
 */
int room_seccomp_notify(struct jail_state *state, const struct jail_op *op)
{
	auto_close fd = load(state, op, SECCOMP_FILTER_FLAG_NEW_LISTENER);

	return fd < 0 ? fd : room_net_hand_over(state->sockets, fd);
}
