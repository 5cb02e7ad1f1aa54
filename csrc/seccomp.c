/*
 * seccomp.c - the system calls that exist inside.  seccomp(2)
 *
 * The filter was compiled by plan's side from names; here it is loaded.  No
 * SECCOMP_FILTER_FLAG_SPEC_ALLOW: speculation stays as the host has it.
 */
#include "core.h"
#include <linux/filter.h>
#include <linux/seccomp.h>

int room_seccomp_load(struct jail_state *state, const struct jail_op *op)
{
	struct sock_fprog program = {
		.len = (unsigned short)(op->data_len / sizeof(struct sock_filter)),
		.filter = (struct sock_filter *)op_data(state, op),
	};

	if (!op->data_len || op->data_len % sizeof(struct sock_filter) ||
	    op->data_len / sizeof(struct sock_filter) > BPF_MAXINSNS)
		return -EINVAL;
	return (int)sys(seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}
