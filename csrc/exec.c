/*
 * exec.c - starts a program.  execve(2)
 *
 * The child shares our memory until it executes (CLONE_VM|CLONE_VFORK): there
 * is no copy to pay for, and what went wrong is an int that it leaves behind.
 * Whoever calls waits until then, and a program may stop the child before it
 * gets there: so a shepherd calls, never jail-init itself.
 */
#include "core.h"
#include "clone.h"
#include <linux/mman.h>
#include <linux/sched.h>

#define CLOSE_ALL (~0U)
#define SIG_SETMASK 2
#define STACK_BYTES 16384

struct start {
	struct jail_slot *slot;
	struct jail_event *fault;
};

static const char *after(const char *text)
{
	while (*text)
		text++;
	return text + 1;
}

/* Tries each file as execvp(3) does: a missing one is passed over, a forbidden one remembered. */
static int execute(const struct jail_slot *slot)
{
	const char *file = slot->files;
	int forbidden = 0, r = -ENOENT;

	for (uint32_t i = 0; i < slot->n_files; i++, file = after(file)) {
		r = (int)sys(execve, file, slot->argv, slot->envp);
		if (r == -EACCES)
			forbidden = r;
		else if (r != -ENOENT && r != -ENOTDIR)
			return r;
	}
	return forbidden ? forbidden : r;
}

static int fail(struct jail_event *fault, int step, int r)
{
	fault->kind = JAIL_EVENT_FAULT;
	fault->op_kind = step;
	fault->err = -r;
	return 127;
}

/*
 * The order is the argument: limits and walls before anything of the
 * program's choosing is touched (its directory, its file), descriptors last,
 * so that nothing above can leave one open.
 */
static int child(void *arg)
{
	const struct start *start = arg;
	struct jail_slot *slot = start->slot;
	uint64_t no_signals = 0;
	int r = (int)sys(setsid);

	if (r < 0)
		return fail(start->fault, JAIL_STEP_SESSION, r);
	for (int fd = 0; fd < 3; fd++) {
		r = (int)sys(dup3, slot->fds[fd], fd, 0);
		if (r < 0)
			return fail(start->fault, JAIL_STEP_DESCRIPTORS, r);
	}
	if (run_ops(slot->state, slot->ops->exec, slot->ops->exec_ops, start->fault) < 0) {
		start->fault->kind = JAIL_EVENT_FAULT;
		return 127;
	}
	r = (int)sys(chdir, slot->directory);
	if (r < 0)
		return fail(start->fault, JAIL_STEP_DIRECTORY, r);
	r = (int)sys(close_range, 3, CLOSE_ALL, 0);
	if (r < 0)
		return fail(start->fault, JAIL_STEP_DESCRIPTORS, r);
	r = (int)sys(rt_sigprocmask, SIG_SETMASK, &no_signals, 0, sizeof(no_signals));
	if (r < 0)
		return fail(start->fault, JAIL_STEP_SIGNALS, r);
	return fail(start->fault, JAIL_STEP_EXEC, execute(slot));
}

/* Points directory, files, argv and envp at their strings in text. */
static int point(struct jail_slot *slot, const struct jail_exec *exec, const char *text,
		 char **pointers)
{
	const char *end = text + exec->text_len;

	slot->directory = text;
	text = after(text);
	slot->files = text;
	slot->n_files = exec->files;
	for (uint32_t i = 0; i < exec->files && text < end; i++)
		text = after(text);
	slot->argv = pointers;
	for (uint32_t i = 0; i < exec->argc && text < end; i++, text = after(text))
		*pointers++ = (char *)text;
	*pointers++ = 0;
	slot->envp = pointers;
	for (uint32_t i = 0; i < exec->envc && text < end; i++, text = after(text))
		*pointers++ = (char *)text;
	*pointers++ = 0;
	return text == end && (uint64_t)(pointers - slot->argv) ==
				       (uint64_t)exec->argc + exec->envc + 2 ?
		       0 :
		       -EBADMSG;
}

/*
 * Takes an EXEC request apart, into memory that lasts as long as its shepherd:
 * the shepherd's stack, the pointers, the strings.  exec_free gives it back.
 */
int exec_parse(const struct jail_request *request, struct jail_slot *ret_slot)
{
	const struct jail_exec *exec = (const void *)request->bytes;
	const char *text = (const char *)(exec + 1);
	uint64_t strings, pointers_len;
	char *memory;

	if (request->len < sizeof(*exec) || request->len - sizeof(*exec) != exec->text_len ||
	    !exec->text_len)
		return -EBADMSG;
	strings = 1 + (uint64_t)exec->files + exec->argc + exec->envc;
	if (text[exec->text_len - 1] != '\0' || strings > exec->text_len || !exec->files ||
	    !exec->argc)
		return -EBADMSG;

	pointers_len = (exec->argc + (uint64_t)exec->envc + 2) * sizeof(char *);
	ret_slot->memory_len = 2 * STACK_BYTES + pointers_len + exec->text_len;
	memory = (char *)sys(mmap, 0, ret_slot->memory_len, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if ((unsigned long)memory > -4096UL)
		return (int)(long)memory;
	ret_slot->memory = memory;
	ret_slot->last = exec->last;
	memory += 2 * STACK_BYTES;
	__builtin_memcpy(memory + pointers_len, text, exec->text_len);
	return point(ret_slot, exec, memory + pointers_len, (char **)(void *)memory);
}

void exec_free(struct jail_slot *slot)
{
	if (slot->memory)
		sys(munmap, slot->memory, slot->memory_len);
	*slot = (struct jail_slot){ 0 };
}

/* 0: running, and ret_event says STARTED; -errno: not running, and it says why. */
int exec_start(struct jail_slot *slot, struct jail_event *ret_event)
{
	__attribute__((aligned(16))) char stack[STACK_BYTES];
	struct start start = { .slot = slot, .fault = ret_event };
	long a[5] = { CLONE_VM | CLONE_VFORK | CLONE_PARENT_SETTID | SIGCHLD,
		      (long)(stack + STACK_BYTES), (long)&slot->pid };
	int pid;

	*ret_event = (struct jail_event){ .kind = JAIL_EVENT_STARTED,
					  .id = slot->id,
					  .phase = JAIL_PHASE_EXEC,
					  .op = JAIL_NO_OP };
	pid = (int)clone_call(__NR_clone, a, child, &start);
	if (pid < 0)
		fail(ret_event, JAIL_STEP_CLONE, pid);
	ret_event->pid = pid;
	if (ret_event->kind == JAIL_EVENT_STARTED)
		return 0;
	if (pid > 0)
		sys(wait4, pid, 0, 0, 0);
	return -ret_event->err;
}
