/*
 * file.c - one call on a file, or for a socket, in the place of a program.
 *
 * The harness reads and writes files of the sandbox through descriptors that
 * were opened here: by a process that stands where a program would, in its
 * tree and under its limits, so that a name means what it means inside and
 * permits what it permits inside.  A link cannot lead out of that.  A socket
 * keeps the network namespace that it was made in, whoever binds or connects it.
 */
#include "core.h"
#include <linux/fcntl.h>

#define CLOSE_ALL (~0U)

static int carry_out(const struct jail_slot *slot)
{
	const struct jail_file *file = slot->file;

	switch (file->call) {
	case JAIL_FILE_OPEN:
		return (int)sys(openat, AT_FDCWD, slot->directory, file->flags, file->mode);
	case JAIL_FILE_MKDIR:
		return (int)sys(mkdirat, AT_FDCWD, slot->directory, file->mode);
	case JAIL_FILE_UNLINK:
		return (int)sys(unlinkat, AT_FDCWD, slot->directory, file->flags);
	case JAIL_FILE_SOCKET:
		return (int)sys(socket, file->flags, file->mode, 0);
	default:
		return -EBADMSG;
	}
}

static int brings_fd(uint32_t call)
{
	return call == JAIL_FILE_OPEN || call == JAIL_FILE_SOCKET;
}

/* Only the socket stays open: /proc/self/fd would have other names for jail-init's own. */
int file_answer(const struct jail_slot *slot)
{
	struct jail_event event = {
		.kind = JAIL_EVENT_FILE, .id = slot->id, .phase = JAIL_PHASE_EXEC, .op = JAIL_NO_OP
	};
	int fd = (int)sys(dup3, slot->status, 0, 0);
	int r = fd < 0 ? fd : (int)sys(close_range, 1, CLOSE_ALL, 0);

	if (r >= 0)
		r = carry_out(slot);
	event.err = r < 0 ? -r : 0;
	return control_send_fds(0, &event, &r, brings_fd(slot->file->call) && r >= 0);
}
