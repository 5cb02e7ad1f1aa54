/*
 * cred.c - privileges, given up.  capabilities(7), credentials(7)
 */
#include "core.h"
#include <linux/capability.h>
#include <linux/prctl.h>
#include <linux/securebits.h>

/* More than any kernel has: dropping stops at the first that it does not know (EINVAL). */
#define CAPABILITIES_MAX 64

static int drop_bounding(void)
{
	for (int capability = 0; capability < CAPABILITIES_MAX; capability++) {
		int r = (int)sys(prctl, PR_CAPBSET_DROP, capability);

		if (r == -EINVAL && capability > CAP_SETPCAP)
			return 0;
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * Without CAP_SETPCAP there is no bounding set to drop and no securebit to
 * lock, and nothing to gain either: no_new_privs closes execve(2), and that
 * was the only way.  Whether it is held is asked of the kernel, not assumed.
 */
static int hold_setpcap(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct sets[2] = { 0 };
	int r = (int)sys(capget, &header, sets);

	return r < 0 ? r : !!(sets[0].effective & CAP_TO_MASK(CAP_SETPCAP));
}

int room_cred_capabilities(struct jail_state *state, const struct jail_op *op)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { 0 };
	int r = hold_setpcap();

	(void)state, (void)op;
	if (r > 0) {
		r = drop_bounding();
		if (r == 0)
			r = (int)sys(prctl, PR_SET_SECUREBITS,
				     SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
					     SECBIT_NO_SETUID_FIXUP_LOCKED |
					     SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
					     SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED);
	}
	if (r == 0)
		r = (int)sys(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (r == 0)
		r = (int)sys(capset, &header, none);
	return r;
}

int room_cred_no_new_privs(struct jail_state *state, const struct jail_op *op)
{
	(void)state, (void)op;
	return (int)sys(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/* Lasts for this image: what it executes is dumpable again. */
int room_cred_undumpable(struct jail_state *state, const struct jail_op *op)
{
	(void)state, (void)op;
	return (int)sys(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
}

/*
 * args[0]: Landlock's signal scope already keeps us from everything outside.
 * Then one kill(-1) ends the sandbox at its teardown and no fork outruns it;
 * were that untrue it would end the harness, so it is tried on it first.
 */
int room_cred_subreaper(struct jail_state *state, const struct jail_op *op)
{
	if (op->args[0]) {
		long harness = sys(getppid);
		int r = (int)sys(kill, harness, 0);

		if (r != -EPERM)
			return r < 0 ? r : -ENOTRECOVERABLE;
		state->kill_is_contained = 1;
	}
	return (int)sys(prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}
