/*
 * uts.c - the name inside is not the host's.  uts_namespaces(7)
 */
#include "core.h"

int room_uts_hostname(struct jail_state *state, const struct jail_op *op)
{
	return (int)sys(sethostname, op_data(state, op), op->data_len);
}
