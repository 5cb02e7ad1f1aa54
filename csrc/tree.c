/*
 * tree.c - finds and makes places in the tree that will become the root.
 *
 * A path here is one of the sandbox, resolved below state->root.  Parts of the
 * tree are the user's own directories, which a hostile program may have filled
 * with links: nothing is followed (openat2(2), Linux 5.6), and nothing is
 * created but on our own tmpfs, so no stub is ever left in the user's files.
 */
#define __KERNEL_STRICT_NAMES
#include "core.h"
#include <linux/fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/stat.h>

static int tree_openat(int dir_fd, const char *path, uint64_t flags)
{
	struct open_how how = {
		.flags = O_CLOEXEC | flags,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};

	while (*path == '/')
		path++;
	return (int)sys(openat2, dir_fd, *path ? path : ".", &how, sizeof(how));
}

int tree_open(const struct jail_state *state, const char *path)
{
	return tree_openat(state->root, path, O_PATH);
}

int tree_is_directory(int fd)
{
	struct statx st;
	int r = (int)sys(statx, fd, "", AT_EMPTY_PATH, STATX_TYPE, &st);

	return r < 0 ? r : (st.stx_mode & S_IFMT) == S_IFDIR;
}

static int on_scratch(const struct jail_state *state, int fd)
{
	struct statx ours, theirs;
	int r = (int)sys(statx, state->scratch, "", AT_EMPTY_PATH, STATX_TYPE, &ours);

	if (r == 0)
		r = (int)sys(statx, fd, "", AT_EMPTY_PATH, STATX_TYPE, &theirs);
	if (r < 0)
		return r;
	return ours.stx_dev_major == theirs.stx_dev_major &&
	       ours.stx_dev_minor == theirs.stx_dev_minor;
}

/* One component of a path, copied out so that it ends in a NUL. */
static const char *next_component(const char *path, char ret_name[256])
{
	size_t n = 0;

	while (*path == '/')
		path++;
	while (path[n] && path[n] != '/' && n < 255) {
		ret_name[n] = path[n];
		n++;
	}
	ret_name[n] = '\0';
	return path + n;
}

static int make_directory(const struct jail_state *state, int dir_fd, const char *name,
			  uint32_t mode)
{
	int fd = tree_openat(dir_fd, name, O_PATH | O_DIRECTORY);
	int r;

	if (fd != -ENOENT)
		return fd;
	r = on_scratch(state, dir_fd);
	if (r == 0)
		return -EXDEV;
	if (r > 0)
		r = (int)sys(mkdirat, dir_fd, name, mode);
	return r < 0 ? r : tree_openat(dir_fd, name, O_PATH | O_DIRECTORY);
}

/* Makes path and what is missing above it.  Only path itself gets mode; the rest is 0755. */
int tree_directory(const struct jail_state *state, const char *path, uint32_t mode)
{
	auto_close at = tree_openat(state->root, ".", O_PATH | O_DIRECTORY);
	char name[256];

	while (at >= 0) {
		int last, next;

		path = next_component(path, name);
		if (!name[0])
			return take_fd(&at);
		while (*path == '/')
			path++;
		last = *path == '\0';
		next = make_directory(state, at, name, last ? mode : 0755);
		sys(close, at);
		at = next;
	}
	return take_fd(&at);
}

/* An open directory for path's last component, which *ret_name then points to. */
int tree_parent(const struct jail_state *state, const char *path, const char **ret_name)
{
	char parent[4096];
	size_t slash = 0, n = 0;

	for (; path[n]; n++)
		if (path[n] == '/')
			slash = n;
	if (slash >= sizeof(parent))
		return -ENAMETOOLONG;
	for (size_t i = 0; i < slash; i++)
		parent[i] = path[i];
	parent[slash] = '\0';
	*ret_name = path + slash + (path[slash] == '/');
	return tree_directory(state, parent, 0755);
}

/* A place to mount on: what is at path, or a new empty directory or file on scratch. */
int tree_place(const struct jail_state *state, const char *path, int is_directory)
{
	const char *name;
	auto_close parent = -1;
	int fd, r;

	if (is_directory)
		return tree_directory(state, path, 0755);
	fd = tree_open(state, path);
	if (fd != -ENOENT)
		return fd;
	parent = tree_parent(state, path, &name);
	if (parent < 0)
		return parent;
	r = on_scratch(state, parent);
	if (r == 0)
		return -EXDEV;
	if (r > 0)
		r = (int)sys(mknodat, parent, name, S_IFREG | 0600, 0);
	return r < 0 ? r : tree_openat(parent, name, O_PATH);
}

int tree_attach(int mount_fd, int place_fd)
{
	return (int)sys(move_mount, mount_fd, "", place_fd, "",
			MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}
