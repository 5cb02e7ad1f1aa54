/*
 * cover.c - that what covers and protects the host's files stays where it is.  mount_namespaces(7)
 *
 * A mount of ours on a file or directory of the host's is there only as long
 * as that is.  Whoever unlinks it outside, or renames something over it, has
 * the kernel detach the mount; and whoever renames it away takes the mount
 * along, and may put something else in its place.  Inside neither is possible
 * (EBUSY).  What is missed is not mounted again: the sandbox ends.
 *
 * The kernel tells of a mount that was detached, at once: poll(2) on mountinfo,
 * proc_pid_mounts(5).  Of one that was moved it tells nobody, so we look, before
 * each request and every 100 ms while programs run.  Looking is a statx(2) for
 * each, and says what is true: other mounts, as of an automounter, end nothing.
 */
#include "core.h"
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/stat.h>

#define INTERVAL_NS 100000000U

/*
 * Before PIVOT, where the host's /proc can be reached, and only a directory of
 * it: mountinfo itself keeps the root that it was opened under, and with it
 * every file system of the host's, busy for as long as it is open.
 */
int room_cover_begin(struct jail_state *state, const struct jail_op *op)
{
	struct jail_covers *covers = &state->covers;
	uint64_t most = op->args[0];
	long at;

	if (!most || most > JAIL_REQUEST_BYTES)
		return -EINVAL;
	covers->proc =
		(int)sys(openat, AT_FDCWD, op_path(state, op), O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (covers->proc < 0)
		return covers->proc;
	at = sys(mmap, 0, most * sizeof(struct jail_cover), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at < 0 && at > -4096)
		return (int)at;
	covers->cover = (struct jail_cover *)at;
	covers->most = (uint32_t)most;
	return 0;
}

/* The mount whose root is at path; 0: path is no mount's root; or -errno. */
static int64_t mount_at(const char *path)
{
	struct statx st;
	int r = (int)sys(statx, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_MNT_ID,
			 &st);

	if (r < 0)
		return r;
	return st.stx_attributes & STATX_ATTR_MOUNT_ROOT ? (int64_t)st.stx_mnt_id : 0;
}

/* After PIVOT.  The first has changes told from here on, so that none is missed. */
int room_cover_keep(struct jail_state *state, const struct jail_op *op)
{
	struct jail_covers *covers = &state->covers;
	int64_t mount;

	if (covers->mounts < 0) {
		covers->mounts = (int)sys(openat, covers->proc, "mountinfo", O_RDONLY | O_CLOEXEC);
		if (covers->mounts < 0)
			return covers->mounts;
		sys(close, take_fd(&covers->proc));
		covers->first = op;
	}
	if (covers->n == covers->most || op != covers->first + covers->n)
		return -EINVAL;
	mount = mount_at(op_path(state, op));
	if (mount <= 0)
		return mount < 0 ? (int)mount : -ESTALE;
	covers->cover[covers->n++].mount = mount;
	return 0;
}

/*
 * A place that was never to be seen after the set-up is one that no program
 * sees, as one of another user's where we gave up root's capabilities.
 */
static int is_there(const struct jail_state *state, uint32_t i)
{
	struct jail_cover *cover = &state->covers.cover[i];
	int64_t mount = mount_at(op_path(state, &state->covers.first[i]));

	if (mount == -EACCES)
		return !cover->was_seen;
	cover->was_seen = 1;
	return mount == cover->mount;
}

/* When to look next, as monotonic_ns; 0: when there is a reason to. */
uint64_t cover_next(const struct jail_state *state, const struct jail_slots *slots)
{
	for (uint32_t i = 0; state->covers.n && i < slots->used; i++)
		if (slots->slot[i].shepherd)
			return state->covers.next_ns;
	return 0;
}

/* Whether one is missed, which the harness is told of; looks if there is a reason to, or it is time. */
int cover_is_lost(struct jail_state *state, const struct jail_slots *slots, int has_reason)
{
	struct jail_covers *covers = &state->covers;
	uint64_t next = cover_next(state, slots), now;

	if (!covers->n || (!has_reason && (!next || next > monotonic_ns())))
		return 0;
	now = monotonic_ns();
	for (uint32_t i = 0; i < covers->n; i++) {
		struct jail_event event = {
			.kind = JAIL_EVENT_FAULT,
			.phase = JAIL_PHASE_SETUP,
			.op = (int32_t)(covers->first - state->setup + i),
			.op_kind = JAIL_OP_COVER,
			.err = ESTALE,
		};

		if (is_there(state, i))
			continue;
		control_send(JAIL_CONTROL_FD, &event);
		return 1;
	}
	next = monotonic_ns();
	covers->next_ns = next + INTERVAL_NS + (next - now) * 10;
	return 0;
}
