/*
 * run.c - carries out ops, in order.  Nothing is undone on failure: a
 * half-built sandbox is thrown away with its process.
 */
#include "core.h"

static int (*const rooms[JAIL_OP_MAX_])(struct jail_state *, const struct jail_op *) = {
	[JAIL_OP_USERNS_MAP] = room_userns_map,
	[JAIL_OP_MOUNT_PRIVATE] = room_mount_private,
	[JAIL_OP_SCRATCH] = room_scratch_create,
	[JAIL_OP_DIRECTORY] = room_scratch_directory,
	[JAIL_OP_SYMLINK] = room_scratch_symlink,
	[JAIL_OP_BIND] = room_mount_bind,
	[JAIL_OP_WRITABLE] = room_scratch_writable,
	[JAIL_OP_FILE] = room_scratch_file,
	[JAIL_OP_HIDE] = room_scratch_hide,
	[JAIL_OP_PROC] = room_mount_proc,
	[JAIL_OP_DEVPTS] = room_mount_devpts,
	[JAIL_OP_OVERLAY] = room_mount_overlay,
	[JAIL_OP_PIVOT] = room_mount_pivot,
	[JAIL_OP_LOOPBACK] = room_net_loopback,
	[JAIL_OP_HOSTNAME] = room_uts_hostname,
	[JAIL_OP_KEYRING] = room_keyring_session,
	[JAIL_OP_RLIMIT] = room_rlimit_set,
	[JAIL_OP_LANDLOCK_RULESET] = room_landlock_ruleset,
	[JAIL_OP_LANDLOCK_PATH] = room_landlock_path,
	[JAIL_OP_LANDLOCK_RESTRICT] = room_landlock_restrict,
	[JAIL_OP_CAPABILITIES] = room_cred_capabilities,
	[JAIL_OP_NO_NEW_PRIVS] = room_cred_no_new_privs,
	[JAIL_OP_UNDUMPABLE] = room_cred_undumpable,
	[JAIL_OP_SUBREAPER] = room_cred_subreaper,
	[JAIL_OP_SECCOMP] = room_seccomp_load,
	[JAIL_OP_PROCESSORS] = room_cpu_processors,
	[JAIL_OP_WATCH] = room_watch_start,
	[JAIL_OP_LIFETIME] = room_deadline_lifetime,
	[JAIL_OP_LOCAL_ROUTE] = room_net_local_route,
	[JAIL_OP_LISTEN] = room_net_listen,
	[JAIL_OP_NOTIFY] = room_seccomp_notify,
	[JAIL_OP_COVERS] = room_cover_begin,
	[JAIL_OP_COVER] = room_cover_keep,
};

int run_ops(struct jail_state *state, const struct jail_op *ops, uint32_t count,
	    struct jail_event *reterr_event)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct jail_op *op = &ops[i];
		int r = op->kind < JAIL_OP_MAX_ && rooms[op->kind] ? rooms[op->kind](state, op) :
								     -EINVAL;

		if (r == -ENOENT && (op->flags & JAIL_OPTIONAL))
			continue;
		if (r < 0) {
			reterr_event->op = (int32_t)i;
			reterr_event->op_kind = (int32_t)op->kind;
			reterr_event->err = -r;
			return r;
		}
	}
	return 0;
}
