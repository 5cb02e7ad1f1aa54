/*
 * request.c - reads what is to be started: an exec, or a call in its place.
 *
 * What is read lasts as long as the shepherd: it is copied into memory of its
 * own, which begins with the shepherd's stack.  As in plan.c everything is
 * checked before any of it is used, and -EBADMSG says that a byte was wrong.
 */
#include "core.h"
#include <linux/mman.h>

static const char *after(const char *text)
{
	while (*text)
		text++;
	return text + 1;
}

static int is_error(const void *pointer)
{
	return (unsigned long)pointer > -4096UL;
}

/* Room for the stack, and then for pointers and bytes; the rest of the slot points into it. */
static char *allocate(struct jail_slot *slot, size_t pointers_len, size_t len)
{
	size_t memory_len = SHEPHERD_STACK_BYTES + pointers_len + len;
	char *memory = (char *)sys(mmap, 0, memory_len, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (is_error(memory))
		return memory;
	slot->memory = memory;
	slot->memory_len = memory_len;
	return memory + SHEPHERD_STACK_BYTES;
}

void request_free(struct jail_slot *slot)
{
	if (slot->memory)
		sys(munmap, slot->memory, slot->memory_len);
	*slot = (struct jail_slot){ 0 };
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

/* The bytes after the header, taken apart: ops, their data, text.  All lengths are known to fit. */
static int take_apart(struct jail_slot *slot, const struct jail_exec *exec, const char *bytes,
		      char **pointers)
{
	const struct jail_op *ops = (const void *)bytes;
	const char *data = (const char *)(ops + exec->ops);
	int r = exec->ops ? plan_check(ops, exec->ops, data, exec->data_len) : 0;

	slot->own = (struct jail_ops){ .exec = ops, .exec_ops = exec->ops, .data = data };
	slot->flags = exec->flags;
	slot->rows = exec->rows;
	slot->columns = exec->columns;
	slot->grace_ns = exec->grace_ns;
	slot->memory_max = exec->memory;
	slot->cpu_max_ns = exec->cpu_ns;
	slot->tasks_max = exec->tasks;
	slot->sample_ns = exec->sample_ns;
	slot->deadline_ns = exec->timeout_ns ? monotonic_ns() + exec->timeout_ns : 0;
	return r < 0 ? r : point(slot, exec, data + exec->data_len, pointers);
}

static int wanted_fds(const struct jail_exec *exec)
{
	return (exec->flags & JAIL_EXEC_TERMINAL ? 1 : 4) + !!(exec->flags & JAIL_EXEC_CGROUP);
}

static int parse_exec(const struct jail_request *request, struct jail_slot *ret_slot)
{
	const struct jail_exec *exec = (const void *)request->bytes;
	size_t len = request->len - sizeof(*exec), pointers_len;
	uint64_t strings;
	char *memory;

	if (request->len < sizeof(*exec) || !exec->text_len || !exec->files || !exec->argc ||
	    request->n_fds != wanted_fds(exec) ||
	    len != exec->ops * sizeof(struct jail_op) + exec->data_len + exec->text_len)
		return -EBADMSG;
	strings = 1 + (uint64_t)exec->files + exec->argc + exec->envc;
	if (request->bytes[request->len - 1] != '\0' || strings > exec->text_len)
		return -EBADMSG;

	pointers_len = (exec->argc + (size_t)exec->envc + 2) * sizeof(char *);
	memory = allocate(ret_slot, pointers_len, len);
	if (is_error(memory))
		return (int)(long)memory;
	__builtin_memcpy(memory + pointers_len, exec + 1, len);
	return take_apart(ret_slot, exec, memory + pointers_len, (char **)(void *)memory);
}

static int parse_file(const struct jail_request *request, struct jail_slot *ret_slot)
{
	const struct jail_file *file = (const void *)request->bytes;
	char *memory;

	if (request->len < sizeof(*file) || !file->text_len || request->n_fds != 1 ||
	    request->len - sizeof(*file) != file->text_len ||
	    request->bytes[request->len - 1] != '\0')
		return -EBADMSG;
	memory = allocate(ret_slot, 0, request->len);
	if (is_error(memory))
		return (int)(long)memory;
	__builtin_memcpy(memory, request->bytes, request->len);
	ret_slot->file = (const void *)memory;
	ret_slot->deadline_ns = monotonic_ns() + FILE_NS;
	ret_slot->directory = memory + sizeof(*file);
	return 0;
}

/* 0 or -errno; either way request_free gives back what ret_slot holds. */
int request_parse(const struct jail_request *request, struct jail_slot *ret_slot)
{
	if (request->kind == JAIL_REQUEST_FILE)
		return parse_file(request, ret_slot);
	return parse_exec(request, ret_slot);
}
