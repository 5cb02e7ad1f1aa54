/*
 * cpu.c - on which processors.  sched_setaffinity(2)
 *
 * How many are allowed is the plan's to say; which, the kernel's, by where it
 * has put us: so sandboxes that may have one each do not all have the first.
 */
#include "core.h"

#define WORDS 128 /* 8192 processors: CONFIG_NR_CPUS at most */
#define BITS 64

int room_cpu_processors(struct jail_state *state, const struct jail_op *op)
{
	uint64_t allowed[WORDS] = { 0 }, kept[WORDS] = { 0 };
	uint64_t wanted = op->args[0];
	uint32_t here = 0;
	long bytes = sys(sched_getaffinity, 0, sizeof(allowed), allowed);
	int r = (int)sys(getcpu, &here, 0, 0);

	(void)state;
	if (bytes < 0 || r < 0)
		return bytes < 0 ? (int)bytes : r;
	for (uint32_t i = 0; wanted && i < bytes * 8; i++) {
		uint32_t cpu = (here + i) % (uint32_t)(bytes * 8);

		if (allowed[cpu / BITS] >> cpu % BITS & 1) {
			kept[cpu / BITS] |= 1UL << cpu % BITS;
			wanted--;
		}
	}
	return (int)sys(sched_setaffinity, 0, bytes, kept);
}
