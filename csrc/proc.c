/*
 * proc.c - what /proc says of a process.  proc(5)
 *
 * Reads text and takes it apart; who may be asked about is for the caller to
 * know.  A process that ends meanwhile is no error: it is not there.
 */
#include "core.h"
#include <linux/fcntl.h>

#define SEEK_SET 0

static int parse_pid(const char *text)
{
	int pid = 0;

	while (*text >= '0' && *text <= '9')
		pid = pid * 10 + (*text++ - '0');
	return *text == '\0' ? pid : 0;
}

/* Visits each process, lowest pid first; a visit that returns less than 0 is the last.  0, or what it returned. */
int proc_each(int proc_fd, int (*visit)(void *arg, int pid), void *arg)
{
	__attribute__((aligned(8))) char buffer[4096];
	long n = sys(lseek, proc_fd, 0, SEEK_SET);

	while (n >= 0 && (n = sys(getdents64, proc_fd, buffer, sizeof(buffer))) > 0) {
		for (long at = 0; at < n;) {
			const struct directory_entry *entry = (const void *)(buffer + at);
			int pid = parse_pid(entry->name);
			int r = pid ? visit(arg, pid) : 0;

			if (r < 0)
				return r;
			at += entry->len;
		}
	}
	return (int)n;
}

/* Opens one of a process's files. */
int proc_open(int proc_fd, int pid, const char *file, int flags)
{
	char path[48], digits[12];
	size_t n = 0, d = 0;

	do
		digits[d++] = (char)('0' + pid % 10);
	while (pid /= 10);
	while (d)
		path[n++] = digits[--d];
	path[n++] = '/';
	while (*file && n < sizeof(path) - 1)
		path[n++] = *file++;
	path[n] = '\0';
	return (int)sys(openat, proc_fd, path, flags);
}

/* The beginning of one of a process's files, as a string.  Its length, or -errno. */
long proc_read(int proc_fd, int pid, const char *file, char *text, size_t size)
{
	auto_close fd = proc_open(proc_fd, pid, file, O_RDONLY | O_CLOEXEC);
	long len = fd < 0 ? fd : sys(read, fd, text, size - 1);

	text[len < 0 ? 0 : len] = '\0';
	return len;
}

static uint64_t take_number(const char **at)
{
	uint64_t number = 0;

	while (**at == ' ' || **at == '\t')
		++*at;
	while (**at >= '0' && **at <= '9')
		number = number * 10 + (uint64_t)(*(*at)++ - '0');
	return number;
}

static void skip(const char **at, int fields)
{
	for (; fields && **at; fields--) {
		while (**at == ' ')
			++*at;
		while (**at && **at != ' ')
			++*at;
	}
}

/* 0, or -errno when there is no such process. */
int proc_stat(int proc_fd, int pid, struct proc_stat *ret_stat)
{
	char text[512];
	long len = proc_read(proc_fd, pid, "stat", text, sizeof(text));
	const char *at = text + (len > 0 ? len : 0);

	if (len < 0)
		return (int)len;
	/* "PID (NAME) STATE PPID ...": the name may hold anything, so the last parenthesis counts. */
	while (at > text && *at != ')')
		at--;
	if (at[0] != ')' || at[1] != ' ')
		return -ESRCH;
	*ret_stat = (struct proc_stat){ .pid = pid, .state = at[2] };
	at += 3;
	ret_stat->parent = (int)take_number(&at);
	skip(&at, 9); /* pgrp to cmajflt */
	ret_stat->ticks = take_number(&at);
	ret_stat->ticks += take_number(&at);
	ret_stat->child_ticks = take_number(&at);
	ret_stat->child_ticks += take_number(&at);
	skip(&at, 2); /* priority, nice */
	ret_stat->threads = (uint32_t)take_number(&at);
	skip(&at, 2); /* itrealvalue, starttime */
	ret_stat->mapped = take_number(&at);
	ret_stat->resident = take_number(&at);
	return 0;
}

/* What follows a key at the beginning of a line; an empty string where there is none. */
static const char *find_line(const char *text, const char *key)
{
	while (*text) {
		const char *at = text, *wanted = key;

		while (*wanted && *at == *wanted) {
			at++;
			wanted++;
		}
		if (!*wanted)
			return at;
		while (*text && *text != '\n')
			text++;
		text += *text == '\n';
	}
	return text;
}

/* The number in a line such as "RssAnon:  123 kB"; 0 where there is none. */
uint64_t proc_number(const char *text, const char *key)
{
	const char *at = find_line(text, key);

	return take_number(&at);
}

/* The second number of some. */
uint64_t proc_number_after(const char *text)
{
	take_number(&text);
	return take_number(&text);
}

/* The last number in a line such as "NSpid:  4711  12". */
int proc_last_number(const char *text, const char *key)
{
	const char *at = find_line(text, key);
	int last = 0;

	while (*at == ' ' || *at == '\t') {
		int number = (int)take_number(&at);

		last = number ? number : last;
	}
	return last;
}
