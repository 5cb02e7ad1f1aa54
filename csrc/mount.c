/*
 * mount.c - the host's trees, and kernel filesystems, at their places.  mount_namespaces(7)
 *
 * Made detached, given their attributes, and attached last: nothing is ever
 * writable for a moment (mount_setattr(2), Linux 5.12).
 */
#define __KERNEL_STRICT_NAMES
#include "core.h"
#include <linux/fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/stat.h>

#define MOUNT_ALWAYS (MOUNT_ATTR_NOSUID)

int room_mount_private(struct jail_state *state, const struct jail_op *op)
{
	(void)state, (void)op;
	return (int)sys(mount, 0, "/", 0, MS_REC | MS_PRIVATE, 0);
}

/*
 * A copy of the tree at an outside path, detached.  The plan holds resolved
 * paths; a link that appears in one afterwards is an attack, and ELOOP.
 * Opened here and not handed in: a descriptor from before the new mount
 * namespace cannot be cloned (EINVAL).  Recursive, since a tree with locked
 * submounts cannot be cloned without them.
 */
static int clone_outside(const char *path)
{
	struct open_how how = {
		.flags = O_PATH | O_CLOEXEC,
		.resolve = RESOLVE_NO_SYMLINKS,
	};
	auto_close fd = (int)sys(openat2, AT_FDCWD, path, &how, sizeof(how));

	if (fd < 0)
		return fd;
	return (int)sys(open_tree, fd, "",
			AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
}

/* args 1 to 3: number and device of the inode that was judged, or 0 where any will do. */
static int check_inode(int fd, const struct jail_op *op)
{
	struct statx st;
	int r;

	if (!op->args[1])
		return 0;
	r = (int)sys(statx, fd, "", AT_EMPTY_PATH, STATX_INO, &st);
	if (r < 0)
		return r;
	if (st.stx_ino != op->args[1] || st.stx_dev_major != op->args[2] ||
	    st.stx_dev_minor != op->args[3])
		return -ESTALE;
	return 0;
}

int room_mount_bind(struct jail_state *state, const struct jail_op *op)
{
	struct mount_attr attr = { .attr_set = op->args[0] | MOUNT_ALWAYS };
	auto_close tree = clone_outside(op_data(state, op));
	auto_close place = -1;
	int r;

	if (tree < 0)
		return tree;
	r = check_inode(tree, op);
	if (r == 0)
		r = (int)sys(mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr,
			     sizeof(attr));
	if (r == 0)
		r = tree_is_directory(tree);
	if (r < 0)
		return r;
	place = tree_place(state, op_path(state, op), r);
	return place < 0 ? place : tree_attach(tree, place);
}

/* A new instance of a kernel filesystem, detached.  options: key, value, key, value, 0. */
static int new_filesystem(const char *type, const char *const *options, uint64_t attributes)
{
	auto_close fs = (int)sys(fsopen, type, FSOPEN_CLOEXEC);
	int r = fs;

	for (; r >= 0 && *options; options += 2)
		r = (int)sys(fsconfig, fs, FSCONFIG_SET_STRING, options[0], options[1], 0);
	if (r >= 0)
		r = (int)sys(fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0);
	if (r >= 0)
		r = (int)sys(fsmount, fs, FSMOUNT_CLOEXEC, attributes);
	return r;
}

static int mount_new(const struct jail_state *state, const char *path, const char *type,
		     const char *const *options, uint64_t attributes)
{
	auto_close mount = new_filesystem(type, options, attributes);
	auto_close place = -1;

	if (mount < 0)
		return mount;
	place = tree_place(state, path, 1);
	return place < 0 ? place : tree_attach(mount, place);
}

/*
 * The kernel wants a fully visible /proc in the old tree, so this comes before
 * PIVOT; where a container masks its own, this is EPERM ("mount too revealing").
 */
int room_mount_proc(struct jail_state *state, const struct jail_op *op)
{
	static const char *const none[] = { 0 };

	return mount_new(state, op_path(state, op), "proc", none, op->args[0] | MOUNT_ALWAYS);
}

int room_mount_devpts(struct jail_state *state, const struct jail_op *op)
{
	static const char *const options[] = { "ptmxmode", "0666", "mode", "0620", 0 };

	return mount_new(state, op_path(state, op), "devpts", options,
			 MOUNT_ALWAYS | MOUNT_ATTR_NOEXEC);
}

int room_mount_overlay(struct jail_state *state, const struct jail_op *op)
{
	const char *const options[] = { "lowerdir", op_data(state, op), 0 };

	return mount_new(state, op_path(state, op), "overlay", options,
			 MOUNT_ALWAYS | MOUNT_ATTR_NODEV);
}

/*
 * The old root ends up on top of the new one (pivot_root(2), NOTES), with
 * scratch, which was attached over it, on top of that: two to detach.  The
 * skeleton is complete: it becomes read-only.
 */
int room_mount_pivot(struct jail_state *state, const struct jail_op *op)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };
	int r = (int)sys(fchdir, state->root);

	(void)op;
	if (r == 0)
		r = (int)sys(pivot_root, ".", ".");
	for (int stacked = 0; r == 0 && stacked < 2; stacked++)
		r = (int)sys(umount2, ".", MNT_DETACH);
	if (r == 0)
		r = (int)sys(chdir, "/");
	if (r == 0)
		r = (int)sys(mount_setattr, AT_FDCWD, "/", 0, &attr, sizeof(attr));
	if (r < 0)
		return r;
	sys(close, take_fd(&state->scratch));
	sys(close, take_fd(&state->root));
	return 0;
}
