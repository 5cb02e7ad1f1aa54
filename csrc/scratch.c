/*
 * scratch.c - the sandbox's own tmpfs.  tmpfs(5)
 *
 * One superblock serves for everything that is not the host's: the skeleton of
 * the new root, /tmp, /dev/shm and the home, contents of our own, and the empty
 * things that hide others.  One superblock is one size limit for all of it, and
 * half the cost of two.
 *
 *   root/      becomes /, read-only
 *   w/N        shown writable where a WRITABLE op says
 *   f/N        a file of ours
 *   hide/d, f  without any permission, shown read-only over what is denied
 */
#include "core.h"
#include <linux/fcntl.h>
#include <linux/mount.h>
#include <linux/stat.h>

/* A decimal number behind a prefix: "w/12".  Returns its length. */
static size_t render_number(char *ret_text, const char *prefix, uint64_t number)
{
	char digits[20];
	size_t n = 0, d = 0;

	while (*prefix)
		ret_text[n++] = *prefix++;
	do
		digits[d++] = (char)('0' + number % 10);
	while (number /= 10);
	while (d)
		ret_text[n++] = digits[--d];
	ret_text[n] = '\0';
	return n;
}

static int make_skeleton(int fs)
{
	int r = (int)sys(mkdirat, fs, "root", 0755);

	if (r == 0)
		r = (int)sys(mkdirat, fs, "w", 0755);
	if (r == 0)
		r = (int)sys(mkdirat, fs, "f", 0755);
	if (r == 0)
		r = (int)sys(mkdirat, fs, "hide", 0755);
	if (r == 0)
		r = (int)sys(mkdirat, fs, "hide/d", 0);
	if (r == 0)
		r = (int)sys(mknodat, fs, "hide/f", S_IFREG, 0);
	return r;
}

static int new_tmpfs(uint64_t size, uint64_t inodes)
{
	auto_close fs = (int)sys(fsopen, "tmpfs", FSOPEN_CLOEXEC);
	char number[32];
	int r = fs;

	if (r >= 0) {
		render_number(number, "", size);
		r = (int)sys(fsconfig, fs, FSCONFIG_SET_STRING, "size", number, 0);
	}
	if (r >= 0) {
		render_number(number, "", inodes);
		r = (int)sys(fsconfig, fs, FSCONFIG_SET_STRING, "nr_inodes", number, 0);
	}
	if (r >= 0)
		r = (int)sys(fsconfig, fs, FSCONFIG_SET_STRING, "mode", "0755", 0);
	if (r >= 0)
		r = (int)sys(fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0);
	if (r >= 0)
		r = (int)sys(fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	return r;
}

static int clone_tree(int dir_fd, const char *path)
{
	return (int)sys(open_tree, dir_fd, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
}

static int set_attributes(int mount_fd, uint64_t attributes)
{
	struct mount_attr attr = { .attr_set = attributes };

	return (int)sys(mount_setattr, mount_fd, "", AT_EMPTY_PATH, &attr, sizeof(attr));
}

/*
 * The tmpfs is attached over the old /, which nothing looks up from there any
 * more: parts of a mount can be cloned only while it is attached, and / is the
 * one place that every host has.
 */
int room_scratch_create(struct jail_state *state, const struct jail_op *op)
{
	auto_close fs = new_tmpfs(op->args[0], op->args[1]);
	auto_close root = -1;
	int r;

	if (fs < 0)
		return fs;
	r = (int)sys(move_mount, fs, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH);
	if (r == 0)
		r = make_skeleton(fs);
	if (r < 0)
		return r;
	root = clone_tree(fs, "root");
	if (root < 0)
		return root;
	r = (int)sys(move_mount, root, "", fs, "root", MOVE_MOUNT_F_EMPTY_PATH);
	if (r < 0)
		return r;
	state->scratch = take_fd(&fs);
	state->root = take_fd(&root);
	return 0;
}

int room_scratch_directory(struct jail_state *state, const struct jail_op *op)
{
	auto_close fd = tree_directory(state, op_path(state, op), (uint32_t)op->args[0]);

	return fd < 0 ? fd : 0;
}

int room_scratch_symlink(struct jail_state *state, const struct jail_op *op)
{
	const char *name;
	auto_close parent = tree_parent(state, op_path(state, op), &name);

	if (parent < 0)
		return parent;
	return (int)sys(symlinkat, op_data(state, op), parent, name);
}

/* Shows a part of scratch at path, with attributes set before it can be seen. */
static int show(const struct jail_state *state, const char *part, int place, uint64_t attributes)
{
	auto_close mount = clone_tree(state->scratch, part);
	int r = mount < 0 ? mount : set_attributes(mount, attributes);

	return r < 0 ? r : tree_attach(mount, place);
}

int room_scratch_writable(struct jail_state *state, const struct jail_op *op)
{
	auto_close place = tree_directory(state, op_path(state, op), 0755);
	char part[32];
	int r;

	if (place < 0)
		return place;
	render_number(part, "w/", state->serial++);
	r = (int)sys(mkdirat, state->scratch, part, 0700);
	if (r == 0) /* mkdir(2) obeys the umask, chmod(2) does not */
		r = (int)sys(fchmodat, state->scratch, part, op->args[0]);
	return r < 0 ? r : show(state, part, place, op->args[1]);
}

static int write_all(int fd, const char *bytes, size_t len)
{
	while (len) {
		long n = sys(write, fd, bytes, len);

		if (n < 0)
			return (int)n;
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

int room_scratch_file(struct jail_state *state, const struct jail_op *op)
{
	auto_close place = tree_place(state, op_path(state, op), 0);
	auto_close file = -1;
	char part[32];
	int r;

	if (place < 0)
		return place;
	render_number(part, "f/", state->serial++);
	file = (int)sys(openat, state->scratch, part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
			0644);
	if (file < 0)
		return file;
	r = write_all(file, op_data(state, op), op->data_len);
	return r < 0 ? r :
		       show(state, part, place,
			    MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
}

/*
 * What is hidden can still be listed in its directory; opening it is EACCES,
 * and changing that EROFS.
 */
int room_scratch_hide(struct jail_state *state, const struct jail_op *op)
{
	auto_close place = tree_open(state, op_path(state, op));
	int r = place < 0 ? place : tree_is_directory(place);

	if (r < 0)
		return r;
	return show(state, r ? "hide/d" : "hide/f", place,
		    MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
}
