/*
 * pty.c - a terminal for one program.  pty(7), ioctl_tty(2)
 *
 * Made by jail-init, so that it is one of the sandbox's own /dev/pts where
 * there is one, and ttyname(3) finds it.  The master goes to the harness; the
 * harness's own terminal is never passed on.
 */
#include "core.h"
#include <asm/ioctls.h>
#include <asm/termios.h>
#include <linux/fcntl.h>

/* Opens both ends and sets the size.  slot->fds[0] is the program's; it is standard output and error too. */
int pty_open(struct jail_slot *slot, int *ret_master)
{
	struct winsize size = { .ws_row = (unsigned short)slot->rows,
				.ws_col = (unsigned short)slot->columns };
	auto_close master = (int)sys(openat, AT_FDCWD, "/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	int locked = 0, r = master;

	if (r >= 0)
		r = (int)sys(ioctl, master, TIOCSPTLCK, &locked);
	if (r >= 0)
		r = (int)sys(ioctl, master, TIOCSWINSZ, &size);
	/* By descriptor, not by name: Linux 4.13. */
	if (r >= 0)
		r = (int)sys(ioctl, master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (r < 0)
		return r;
	slot->fds[0] = r;
	slot->fds[1] = slot->fds[2] = -1;
	*ret_master = take_fd(&master);
	return 0;
}

/* Makes a terminal the controlling one of the session that the caller leads. */
int pty_control(int fd)
{
	return (int)sys(ioctl, fd, TIOCSCTTY, 0);
}
