/*
 * core.h - what the rooms of jail-init share.
 *
 * A room is one file for one kernel concern.  Each room_ function carries out
 * one op on the calling process, irreversibly: 0, or -errno.  It decides
 * nothing, prints nothing and allocates nothing.
 */
#ifndef JAIL_CORE_H
#define JAIL_CORE_H

#include "sys.h"
#include "boundary.h"

/* What is looked at while programs run, and the most that they may have together. */
struct jail_watch {
	int proc;    /* a /proc that shows them, or -1: nothing is watched */
	int disk;    /* the tmpfs, or -1 */
	int loadavg; /* knows the last pid of our namespace; or -1 */
	int self;    /* our pid in that /proc */
	int is_ours; /* and every pid in it is one for kill(2) */
	uint64_t memory;
	uint32_t tasks;
	uint32_t notice;
	uint64_t next_ns; /* when to look next, and how long after the last time that is */
	uint64_t interval_ns;
	uint32_t seen_tasks;   /* by the last look: of ours, */
	uint32_t seen_entries; /* and of everybody in that /proc */
};

/* A mount that has to stay where it is. */
struct jail_cover {
	int64_t mount; /* its id: statx(2), STATX_MNT_ID, Linux 5.8 */
	int was_seen;  /* since the set-up */
};

struct jail_covers {
	int proc;   /* /proc/self of the host's, until mounts is open */
	int mounts; /* mountinfo, which poll(2) says has changed; or -1 */
	uint32_t n;
	uint32_t most;
	struct jail_cover *cover;
	const struct jail_op *first; /* the op of the first; the others follow it */
	uint64_t next_ns;	     /* when to look next */
};

/* What one op leaves for the next.  -1 is the only "no descriptor". */
struct jail_state {
	const char *data; /* the plan's bytes: paths, link texts, filters */
	const struct jail_op *setup;
	int scratch;	       /* the sandbox's own tmpfs */
	int root;	       /* the tree that will become / */
	int ruleset;	       /* Landlock's, until it is enforced */
	int sockets;	       /* where the harness awaits what LISTEN and NOTIFY ops make, or -1 */
	uint32_t serial;       /* names on scratch */
	int kill_is_contained; /* kill(-1) reaches this sandbox and nothing else */
	uint64_t wall_ns;      /* how long the sandbox may last, and be idle; 0: for ever */
	uint64_t idle_ns;
	uint64_t wall_at_ns; /* as monotonic_ns: the end of the first; and since when nothing runs */
	uint64_t idle_since_ns;
	struct jail_watch watch;
	struct jail_covers covers;
};

/* A plan whose every offset has been checked. */
struct jail_ops {
	const struct jail_op *setup;
	const struct jail_op *exec;
	uint32_t setup_ops;
	uint32_t exec_ops;
	const char *data;
};

/* What all that descends from one program has, together. */
struct jail_seen {
	uint64_t memory; /* bytes that are its alone, and shared ones that it has mapped */
	uint64_t cpu_ns;
	uint32_t tasks;
};

/*
 * One program that was asked for.  jail-init and the program's shepherd run in
 * one memory and share this; what the shepherd writes is pid and ended.
 */
struct jail_slot {
	uint32_t id;
	uint32_t flags; /* enum jail_exec_flag */
	int shepherd;	/* its pid; 0: the slot is free; -1: it was killed, and jail-init reports */
	int pid;	/* 0 until clone(2) has written it */
	int ended;	/* the end was reported, and pid is nobody's any more */
	int end;	/* enum jail_end: why it was sent signals by us */
	int fds[3];
	int cgroup; /* to start in, or -1 */
	int status; /* where the harness listens */
	uint64_t start_ns;
	uint64_t deadline_ns; /* when the next signal is due; 0: never */
	uint64_t grace_ns;
	uint64_t memory_max; /* limits of its own; 0: none */
	uint64_t cpu_max_ns;
	uint32_t tasks_max;
	uint64_t sample_ns, next_sample_ns;
	struct jail_seen now, most; /* when it was last looked at; and at most */
	uint64_t last_cpu_ns;	    /* the same by the last look: less when somebody has gone */
	uint64_t disk;		    /* most of the tmpfs meanwhile */
	uint32_t hits;		    /* enum jail_hit */
	uint32_t first_task;	    /* the last pid before it */
	uint32_t rows, columns;
	const struct jail_state *state;
	const struct jail_ops *ops;
	struct jail_ops own; /* setup: none; exec: what this program has beside the plan's */
	const char *directory;
	const char *files;
	uint32_t n_files;
	char **argv;
	char **envp;
	const struct jail_file *file; /* a call in the place of a program; its path is directory */
	char *memory;		      /* the shepherd's stack, then all that is pointed to above */
	size_t memory_len;
};

/* A half for the shepherd, and a half for the child that it starts. */
#define SHEPHERD_STACK_BYTES 32768

#define SLOTS_MAX 1024
struct jail_slots {
	uint32_t used; /* none beyond has ever been */
	int is_over;
	struct jail_slot slot[SLOTS_MAX];
};

static inline void close_fdp(const int *fd)
{
	if (*fd >= 0)
		sys(close, *fd);
}
#define auto_close __attribute__((cleanup(close_fdp))) int

static inline int take_fd(int *fd)
{
	int r = *fd;

	*fd = -1;
	return r;
}

static inline const char *op_path(const struct jail_state *state, const struct jail_op *op)
{
	return state->data + op->path;
}

static inline const char *op_data(const struct jail_state *state, const struct jail_op *op)
{
	return state->data + op->data;
}

/* plan.c, run.c */
int plan_decode(const void *bytes, size_t len, struct jail_ops *ret_ops);
int plan_check(const struct jail_op *ops, uint32_t count, const char *data, uint32_t data_len);
int run_ops(struct jail_state *state, const struct jail_op *ops, uint32_t count,
	    struct jail_event *reterr_event);

/* tree.c: paths in the tree that is being built */
int tree_open(const struct jail_state *state, const char *path);
int tree_directory(const struct jail_state *state, const char *path, uint32_t mode);
int tree_parent(const struct jail_state *state, const char *path, const char **ret_name);
int tree_place(const struct jail_state *state, const char *path, int is_directory);
int tree_is_directory(int fd);
int tree_attach(int mount_fd, int place_fd);

/* the rooms, one line per op */
int room_userns_map(struct jail_state *state, const struct jail_op *op);
int room_mount_private(struct jail_state *state, const struct jail_op *op);
int room_mount_bind(struct jail_state *state, const struct jail_op *op);
int room_mount_proc(struct jail_state *state, const struct jail_op *op);
int room_mount_devpts(struct jail_state *state, const struct jail_op *op);
int room_mount_overlay(struct jail_state *state, const struct jail_op *op);
int room_mount_pivot(struct jail_state *state, const struct jail_op *op);
int room_scratch_create(struct jail_state *state, const struct jail_op *op);
int room_scratch_directory(struct jail_state *state, const struct jail_op *op);
int room_scratch_symlink(struct jail_state *state, const struct jail_op *op);
int room_scratch_writable(struct jail_state *state, const struct jail_op *op);
int room_scratch_file(struct jail_state *state, const struct jail_op *op);
int room_scratch_hide(struct jail_state *state, const struct jail_op *op);
int room_net_loopback(struct jail_state *state, const struct jail_op *op);
int room_net_local_route(struct jail_state *state, const struct jail_op *op);
int room_net_listen(struct jail_state *state, const struct jail_op *op);
int room_uts_hostname(struct jail_state *state, const struct jail_op *op);
int room_keyring_session(struct jail_state *state, const struct jail_op *op);
int room_rlimit_set(struct jail_state *state, const struct jail_op *op);
int room_landlock_ruleset(struct jail_state *state, const struct jail_op *op);
int room_landlock_path(struct jail_state *state, const struct jail_op *op);
int room_landlock_restrict(struct jail_state *state, const struct jail_op *op);
int room_cred_capabilities(struct jail_state *state, const struct jail_op *op);
int room_cred_no_new_privs(struct jail_state *state, const struct jail_op *op);
int room_cred_undumpable(struct jail_state *state, const struct jail_op *op);
int room_cred_subreaper(struct jail_state *state, const struct jail_op *op);
int room_seccomp_load(struct jail_state *state, const struct jail_op *op);
int room_seccomp_notify(struct jail_state *state, const struct jail_op *op);
int room_cpu_processors(struct jail_state *state, const struct jail_op *op);
int room_watch_start(struct jail_state *state, const struct jail_op *op);
int room_deadline_lifetime(struct jail_state *state, const struct jail_op *op);
int room_cover_begin(struct jail_state *state, const struct jail_op *op);
int room_cover_keep(struct jail_state *state, const struct jail_op *op);

/* net.c */
int room_net_hand_over(int to, int fd);

/* control.c: packets */
struct jail_request {
	uint32_t kind;
	uint32_t id;
	uint32_t len;
	char *bytes; /* JAIL_REQUEST_BYTES long, and as much again to work in */
	int fds[5];
	int n_fds;
	int is_partial; /* more packets are to come, and belong with this one: */
	struct jail_packet first;
};
enum { CONTROL_MORE = 2 };
int control_receive(struct jail_request *request);
int control_send(int fd, const struct jail_event *event);
int control_send_fds(int fd, const struct jail_event *event, const int *fds, int n_fds);
void control_close_fds(struct jail_request *request);

/* request.c: what is to be started.  exec.c, pty.c, file.c: start it.  shepherd.c: until it and its descendants have ended. */
int request_parse(const struct jail_request *request, struct jail_slot *ret_slot);
void request_free(struct jail_slot *slot);
int pty_open(struct jail_slot *slot, int *ret_master);
int pty_control(int fd);
int file_answer(const struct jail_slot *slot);
int exec_start(struct jail_slot *slot, struct jail_event *ret_event, int *ret_master);
int shepherd_start(struct jail_slot *slot);
int shepherd_report(struct jail_slot *slot, int status, const void *rusage);
uint64_t monotonic_ns(void);

/* reap.c, deadline.c, family.c */
struct jail_slot *reap_slot(struct jail_slots *slots);
int reap_children(struct jail_slots *slots);
void reap_signal(const struct jail_state *state, const struct jail_slots *slots, uint32_t id,
		 const struct jail_signal *signal, char *work);
#define FILE_NS 20000000 /* a call on a file that takes longer is held up */
uint64_t deadline_next(const struct jail_slots *slots);
void deadline_pass(const struct jail_state *state, struct jail_slots *slots, char *work);
void deadline_begin(struct jail_state *state);
uint64_t deadline_of_sandbox(const struct jail_state *state, const struct jail_slots *slots);
int deadline_is_over(struct jail_state *state, const struct jail_slots *slots);
void reap_everything(const struct jail_state *state);
int family_signal(int ancestor, int signal, char *work);

/* struct linux_dirent64 of getdents64(2), which no uapi header declares. */
struct directory_entry {
	uint64_t inode;
	int64_t offset;
	uint16_t len;
	uint8_t type;
	char name[];
};

/* proc.c: what /proc says */
struct proc_stat {
	int pid;
	int parent;
	char state;
	uint32_t threads;
	uint64_t ticks;	      /* its own processor time, in hundredths of a second */
	uint64_t child_ticks; /* and that of the children that it has waited for */
	uint64_t mapped;      /* bytes of its address space */
	uint64_t resident;    /* pages of that */
};
int proc_each(int proc_fd, int (*visit)(void *arg, int pid), void *arg);
int proc_stat(int proc_fd, int pid, struct proc_stat *ret_stat);
int proc_open(int proc_fd, int pid, const char *file, int flags);
long proc_read(int proc_fd, int pid, const char *file, char *text, size_t size);
#define STATUS_BYTES 32768 /* it lists all groups: proc_pid_status(5) */
uint64_t proc_number(const char *text, const char *key);
uint64_t proc_number_after(const char *text);
int proc_last_number(const char *text, const char *key);

/* cover.c: that nobody outside takes a mount away */
uint64_t cover_next(const struct jail_state *state, const struct jail_slots *slots);
int cover_is_lost(struct jail_state *state, const struct jail_slots *slots, int has_reason);

/* watch.c: what programs have, while they run */
uint64_t watch_next(const struct jail_state *state, const struct jail_slots *slots);
void watch_pass(struct jail_state *state, struct jail_slots *slots, char *work);
void watch_begin(struct jail_state *state, struct jail_slot *slot);
void watch_end(const struct jail_slot *slot, struct jail_event *ret_event);

#endif
