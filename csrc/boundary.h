/*
 * boundary.h - what Python and C say to each other.
 *
 * Read by cffi as it stands and included by every C file: one truth, so no
 * preprocessor in here.  Numbers are native-endian; both sides are one build
 * on one machine.  An op's number is also its room's row in run.c.
 */

enum jail_op_kind {
	JAIL_OP_USERNS_MAP = 1, /* args: uid inside, uid outside, gid inside, gid outside */
	JAIL_OP_MOUNT_PRIVATE,	/* no mount of ours reaches the host, nor the reverse */
	JAIL_OP_SCRATCH,	/* args: size in bytes, inodes */
	JAIL_OP_DIRECTORY,	/* path; args: mode */
	JAIL_OP_SYMLINK,	/* path; data: the link's text */
	JAIL_OP_BIND,		/* path inside; data: path outside; args: MOUNT_ATTR_*, its inode */
	JAIL_OP_WRITABLE,	/* path of a fresh directory on scratch; args: mode, MOUNT_ATTR_* */
	JAIL_OP_FILE,		/* path; data: content, shown over the file that is there */
	JAIL_OP_HIDE,		/* path of a file or directory to cover with an empty one */
	JAIL_OP_PROC,		/* path; args: MOUNT_ATTR_* */
	JAIL_OP_DEVPTS,		/* path */
	JAIL_OP_OVERLAY,	/* path of the upper directory; data: lower.  Tried by the probe */
	JAIL_OP_PIVOT,		/* the tree built so far becomes the root, read-only */
	JAIL_OP_LOOPBACK,	/* brings lo up */
	JAIL_OP_HOSTNAME,	/* data: the name, without NUL */
	JAIL_OP_KEYRING,	/* a session keyring of our own */
	JAIL_OP_RLIMIT,		/* args: RLIMIT_*, soft, hard */
	JAIL_OP_LANDLOCK_RULESET, /* args: handled_access_fs, handled_access_net, scoped */
	JAIL_OP_LANDLOCK_PATH,	  /* path; args: access for a directory, access for a file */
	JAIL_OP_LANDLOCK_RESTRICT,
	JAIL_OP_CAPABILITIES, /* none left, in no set, for good */
	JAIL_OP_NO_NEW_PRIVS,
	JAIL_OP_UNDUMPABLE, /* nobody traces jail-init or opens its /proc files */
	JAIL_OP_SUBREAPER,  /* orphans come to jail-init although it is not PID 1 */
	JAIL_OP_SECCOMP,    /* data: struct sock_filter[] */
	JAIL_OP_PROCESSORS, /* args: how many to run on, from the one that we are on */
	JAIL_OP_WATCH,	    /* path of a /proc; args: see enum jail_watch_arg */
	JAIL_OP_LIFETIME, /* args: nanoseconds of the sandbox, and of nothing running; 0: no limit */
	JAIL_OP_LOCAL_ROUTE, /* args: AF_*.  Every address is one of ours */
	JAIL_OP_LISTEN,	     /* args: AF_*, SOCK_*, port.  The socket goes to the harness */
	JAIL_OP_NOTIFY,	     /* data: struct sock_filter[].  Its listener goes to the harness */
	JAIL_OP_COVERS, /* path of /proc/self outside; args: how many of the next there will be */
	JAIL_OP_COVER,	/* path of a mount whose loss ends the sandbox; one after the other */
	JAIL_OP_MAX_
};

enum jail_op_flag {
	JAIL_OPTIONAL = 1 /* what the op names may be absent: ENOENT is no fault */
};

/* What is watched over, for all programs together; 0: no limit. */
enum jail_watch_arg {
	JAIL_WATCH_MEMORY, /* bytes */
	JAIL_WATCH_TASKS,  /* processes and threads; beyond this a program is ended */
	JAIL_WATCH_NOTICE, /* the same number, where the kernel keeps it: to be noticed */
	JAIL_WATCH_PLACE   /* enum jail_proc_place */
};

enum jail_proc_place {
	JAIL_PROC_OUTSIDE, /* the path is one of the host's tree */
	JAIL_PROC_INSIDE   /* of the tree that is being built */
};

enum jail_phase {
	JAIL_PHASE_SPAWN = 1, /* before jail-init ran */
	JAIL_PHASE_SETUP,     /* an op of the plan's first list */
	JAIL_PHASE_EXEC	      /* an op of the second list, or the exec itself */
};

/* The steps of an exec that are not ops; jail_event.op_kind when op is JAIL_NO_OP. */
enum jail_step {
	JAIL_STEP_CLONE = 100,
	JAIL_STEP_CAPABILITIES,
	JAIL_STEP_DESCRIPTORS,
	JAIL_STEP_INIT,
	JAIL_STEP_MESSAGE,
	JAIL_STEP_SESSION,
	JAIL_STEP_DIRECTORY,
	JAIL_STEP_SIGNALS,
	JAIL_STEP_EXEC,
	JAIL_STEP_TERMINAL
};

enum jail_limit {
	JAIL_NO_OP = -1,
	JAIL_PACKET_BYTES =
		65536, /* most bytes in one packet on the control socket, header included */
	JAIL_REQUEST_BYTES = 16777216, /* most bytes in one request */
	JAIL_CONTROL_FD = 3
};

struct jail_op {
	uint32_t kind;
	uint32_t flags;
	uint64_t args[4];
	uint32_t path; /* offset into the plan's data, NUL-terminated there */
	uint32_t data; /* offset into the plan's data */
	uint32_t data_len;
	uint32_t pad;
};

/* A plan: this header, then setup_ops + exec_ops of struct jail_op, then data_len bytes. */
struct jail_plan {
	uint32_t setup_ops;
	uint32_t exec_ops;
	uint32_t data_len;
	uint32_t pad;
};

/*
 * An exec: this header; ops of its own, which come after the plan's and can
 * therefore only take away; their data; then the working directory, files to
 * try in turn, arguments and environment, each NUL-terminated.  Four
 * descriptors come with its first packet: standard input, output and error,
 * and a socket on which every event about this program is sent; its end of
 * file says that the program and all that descends from it are gone.  Of a
 * program at a terminal of its own only the socket comes.
 */
struct jail_exec {
	uint32_t files;
	uint32_t argc;
	uint32_t envc;
	uint32_t text_len;
	uint32_t ops;
	uint32_t data_len;
	uint32_t flags; /* enum jail_exec_flag */
	uint32_t rows;	/* of the terminal */
	uint32_t columns;
	uint32_t tasks;	     /* processes and threads; of this and the next three 0 is no limit */
	uint64_t timeout_ns; /* from its start to SIGTERM for all that descends from it */
	uint64_t grace_ns;   /* and on to SIGKILL */
	uint64_t memory;     /* bytes, of all that descends from it */
	uint64_t cpu_ns;     /* processor time, of all that descends from it */
	uint64_t sample_ns;  /* between two SAMPLE events; 0: none are sent */
};

enum jail_exec_flag {
	JAIL_EXEC_LAST = 1,	/* jail-init ends when this program has */
	JAIL_EXEC_TERMINAL = 2, /* it gets a pseudoterminal; STARTED brings the master */
	JAIL_EXEC_PIDFD = 4,	/* STARTED brings a pidfd, before the master if there is one */
	JAIL_EXEC_CGROUP = 8	/* the first descriptor is the directory of a cgroup to start in */
};

/*
 * One call on a file of the sandbox, made under the ops of an exec and in its
 * place: this header, then the path, NUL-terminated.  One descriptor comes
 * with it, the socket for its events.
 */
struct jail_file {
	uint32_t call;	/* enum jail_file_call */
	uint32_t flags; /* of that call */
	uint32_t mode;
	uint32_t text_len;
};

enum jail_file_call {
	JAIL_FILE_OPEN = 1, /* open(2); the answer brings the descriptor */
	JAIL_FILE_MKDIR,    /* mkdir(2) */
	JAIL_FILE_UNLINK,   /* unlinkat(2) */
	JAIL_FILE_SOCKET /* socket(2): flags is its family, mode its type; the answer brings it */
};

enum jail_request_kind {
	JAIL_REQUEST_PLAN =
		1, /* struct jail_plan; comes first, once, with a pidfd of the harness, and where */
		   /* the plan has LISTEN or NOTIFY ops a socket to send what they make */
	JAIL_REQUEST_EXEC,   /* struct jail_exec */
	JAIL_REQUEST_SIGNAL, /* struct jail_signal */
	JAIL_REQUEST_FILE    /* struct jail_file */
};

/* Before each packet from the harness.  A request longer than one packet goes on in the next. */
struct jail_packet {
	uint32_t kind;
	uint32_t id;	 /* of the exec */
	uint32_t total;	 /* bytes of the whole request, headers of packets not counted */
	uint32_t offset; /* of this packet's bytes in it */
};

enum jail_scope {
	JAIL_SCOPE_PROCESS = 1, /* the exec's first process */
	JAIL_SCOPE_GROUP,	/* its process group */
	JAIL_SCOPE_TREE		/* all that descends from it, daemons included */
};

struct jail_signal {
	int32_t signal;
	int32_t scope;
};

enum jail_event_kind {
	JAIL_EVENT_READY = 1, /* the setup ops are done */
	JAIL_EVENT_FAULT,     /* phase, op, op_kind, err say what failed; or what was lost, later */
	JAIL_EVENT_STARTED, /* pid, as seen inside; of an exec that asks for descriptors with it */
	JAIL_EVENT_EXITED,  /* status as wait4(2) gives it, and what was used */
	JAIL_EVENT_FILE,    /* err of the call that was asked for, 0 when it succeeded */
	JAIL_EVENT_SAMPLE,  /* wall_ns, and at that time: user_us of all, memory, tasks */
	JAIL_EVENT_SOCKET /* brings what a LISTEN or NOTIFY op has made; on the socket that came with the plan */
};

/* The limit that a program was ended for. */
enum jail_end {
	JAIL_END_NONE,
	JAIL_END_TIME,	 /* its own time was over */
	JAIL_END_WALL,	 /* the sandbox's was */
	JAIL_END_CPU,	 /* processor time */
	JAIL_END_MEMORY, /* more memory than the sandbox or the program may have */
	JAIL_END_TASKS	 /* more processes and threads */
};

/* A limit that was reached, and ended nothing. */
enum jail_hit {
	JAIL_HIT_TASKS = 1,
	JAIL_HIT_BYTES = 2, /* of the tmpfs */
	JAIL_HIT_INODES = 4
};

/* Each packet from jail-init is one of these.  READY comes on the control socket, the rest on the exec's own. */
struct jail_event {
	uint32_t kind;
	uint32_t id;
	int32_t phase;
	int32_t op; /* index into its list, an exec's own ops after the plan's; or JAIL_NO_OP */
	int32_t op_kind; /* enum jail_op_kind, or enum jail_step */
	int32_t err;	 /* errno, positive */
	int32_t pid;
	int32_t status;	  /* as wait4(2) gives it */
	uint32_t end;	  /* enum jail_end */
	uint32_t hits;	  /* enum jail_hit, together */
	uint32_t tasks;	  /* alive at once, at most, when they were looked at; 0: they were not */
	uint32_t started; /* in the sandbox, meanwhile; 0: not known */
	uint64_t user_us; /* getrusage(2) has this and the next eight */
	uint64_t system_us;
	uint64_t maxrss_kb;
	uint64_t minor_faults;
	uint64_t major_faults;
	uint64_t read_blocks; /* of 512 bytes */
	uint64_t written_blocks;
	uint64_t voluntary; /* context switches */
	uint64_t involuntary;
	uint64_t memory;  /* bytes at most, when they were looked at */
	uint64_t disk;	  /* bytes of the tmpfs at most, likewise */
	uint64_t wall_ns; /* of the setup ops; from the exec to its end */
};

struct jail_spawn {
	uint64_t clone_flags; /* CLONE_NEW* */
	uint64_t ambient;     /* capabilities that jail-init keeps across its exec, one bit each */
	int32_t init_fd;      /* jail-init, open for reading or O_PATH */
	int32_t control_fd;   /* jail-init's end of the control socket */
	int32_t cgroup_fd;    /* of the cgroup to start in, or -1 */
	int32_t pidfd;	      /* out: owned by the caller */
	int32_t pid;	      /* out: as the caller's pid namespace sees it */
	int32_t step;	      /* out, on failure: enum jail_step */
};

int jail_spawn(struct jail_spawn *spawn);
int jail_landlock_abi(void);
int jail_seccomp_action(uint32_t action);
int jail_clone3(void);
