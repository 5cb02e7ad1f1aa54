/*
 * userns.c - who we are inside.  user_namespaces(7)
 *
 * A fresh user namespace maps nobody.  One line each for uid and gid is what
 * the kernel grants without privilege, and gid only after setgroups(2) is off.
 * Written by jail-init about itself: a harness that is not dumpable could not
 * have its child write it (proc(5)), an image just executed can.
 */
#include "core.h"
#include <linux/fcntl.h>

static int write_file(const char *path, const char *text, size_t len)
{
	auto_close fd = (int)sys(openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC);
	long n = fd < 0 ? fd : sys(write, fd, text, len);

	return n < 0 ? (int)n : 0;
}

static size_t render_id(char *text, uint64_t id, char end)
{
	char digits[20];
	size_t d = 0, n = 0;

	do
		digits[d++] = (char)('0' + id % 10);
	while (id /= 10);
	while (d)
		text[n++] = digits[--d];
	text[n++] = end;
	return n;
}

static int write_map(const char *path, uint64_t inside, uint64_t outside)
{
	char line[64];
	size_t n = render_id(line, inside, ' ');

	n += render_id(line + n, outside, ' ');
	n += render_id(line + n, 1, '\n');
	return write_file(path, line, n);
}

int room_userns_map(struct jail_state *state, const struct jail_op *op)
{
	int r = write_map("/proc/self/uid_map", op->args[0], op->args[1]);

	(void)state;
	if (r == 0)
		r = write_file("/proc/self/setgroups", "deny", 4);
	if (r == 0)
		r = write_map("/proc/self/gid_map", op->args[2], op->args[3]);
	return r;
}
