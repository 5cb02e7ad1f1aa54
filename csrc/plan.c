/*
 * plan.c - reads a plan's bytes.
 *
 * The plan comes from the harness, over a socket that nothing inside can
 * reach.  It is checked all the same, whole and before its first op runs: a
 * bug on the other side must end in EBADMSG and not in a half-built sandbox.
 * Pure: touches nothing but its arguments, so a fuzzer can drive it.
 */
#include "core.h"

static int op_is_sound(const struct jail_op *op, uint32_t data_len)
{
	return op->kind > 0 && op->kind < JAIL_OP_MAX_ && !(op->flags & ~(uint32_t)JAIL_OPTIONAL) &&
	       op->path < data_len && op->data < data_len && op->data_len <= data_len - op->data;
}

/* Ops whose data ends in a NUL, so that every offset begins a string that ends. */
int plan_check(const struct jail_op *ops, uint32_t count, const char *data, uint32_t data_len)
{
	if (!data_len || data[data_len - 1] != '\0')
		return -EBADMSG;
	for (uint32_t i = 0; i < count; i++)
		if (!op_is_sound(&ops[i], data_len))
			return -EBADMSG;
	return 0;
}

int plan_decode(const void *bytes, size_t len, struct jail_ops *ret_ops)
{
	const struct jail_plan *plan = bytes;
	const struct jail_op *ops = (const void *)(plan + 1);
	uint64_t count, ops_len;

	if (len < sizeof(*plan))
		return -EBADMSG;
	count = (uint64_t)plan->setup_ops + plan->exec_ops;
	ops_len = count * sizeof(*ops);
	if (ops_len > len - sizeof(*plan) || len - sizeof(*plan) - ops_len != plan->data_len)
		return -EBADMSG;

	*ret_ops = (struct jail_ops){
		.setup = ops,
		.exec = ops + plan->setup_ops,
		.setup_ops = plan->setup_ops,
		.exec_ops = plan->exec_ops,
		.data = (const char *)(ops + count),
	};
	return plan_check(ops, (uint32_t)count, ret_ops->data, plan->data_len);
}
