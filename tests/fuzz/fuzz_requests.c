/*
 * fuzz_requests.c - gives wrong bytes to all that reads requests.  plan.c, request.c, control.c
 *
 *	fuzz_requests DIRECTORY SEED MILLISECONDS
 *
 * Begins with each file of the directory as it is, and goes on with what a
 * generator makes of them.  The same seed makes the same inputs in the same
 * order.  What a reader accepts is then read the way its users read it: ops as
 * run.c and the rooms do, strings as exec.c and file.c do.  Nothing is carried
 * out: run_ops is linked with, and not called.
 *
 * Built with AddressSanitizer, which needs to know where things end: each
 * input is a block of its own, exactly as long as it says, and request.c is
 * compiled in here with malloc(3) in the place of mmap(2).  The block that was
 * read is freed before the result is walked, as jail-init uses it for the next
 * request.
 *
 * A hosted program, so that it can have the sanitizers: it may allocate and
 * print, and has state.  One line on success; otherwise a report, the input and
 * how to come to it again.
 */
#include <dirent.h>
#include <sanitizer/common_interface_defs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "core.h"

#define INPUT_BYTES 131072
#define SEEDS 64
#define PACKETS 24
#define SENT_FDS 8
#define FDS 5 /* that a request has at most: a cgroup, three streams and a socket */
#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

struct input {
	size_t len;
	unsigned char bytes[INPUT_BYTES];
};

struct counts {
	unsigned long runs, plans, checks, execs, files, received;
};

struct packet {
	size_t len;
	int n_fds;
	unsigned char bytes[sizeof(struct jail_packet) + INPUT_BYTES];
};

static struct input seeds[SEEDS], input;
static size_t n_seeds;
static struct packet sequence[PACKETS];
static struct counts accepted;
static uint64_t generator, first_seed;
static const char *reader = "nobody";

/* What was being read, when a sanitizer or must() ends us. */
static void say_where(void)
{
	fprintf(stderr, "\nread by %s; seed %lu, run %lu; %zu bytes:\n", reader,
		(unsigned long)first_seed, accepted.runs, input.len);
	for (size_t i = 0; i < input.len && i < 4096; i++)
		fprintf(stderr, "%02x%s", input.bytes[i], i % 56 == 55 ? "\n" : "");
	fprintf(stderr, "\n");
}

#define must(condition) must_(!!(condition), #condition, __LINE__)
static void must_(int holds, const char *condition, int line)
{
	if (holds)
		return;
	fprintf(stderr, "fuzz_requests.c:%d: does not hold: %s\n", line, condition);
	say_where();
	_exit(1);
}

/* In request.c: memory that ends where it says, and is in proportion to what was sent. */
static long exact_mmap(long at, size_t len, ...)
{
	must(!at && len <= SHEPHERD_STACK_BYTES + 9 * input.len + 2 * sizeof(char *));
	return (long)malloc(len);
}

static long exact_munmap(char *memory, size_t len)
{
	memory[len - 1] = 0;
	free(memory);
	return 0;
}

#undef sys
#define sys(name, ...) exact_##name(__VA_ARGS__)
#include "request.c"

/* xorshift64*; Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled". */
static uint64_t any(void)
{
	generator ^= generator >> 12;
	generator ^= generator << 25;
	generator ^= generator >> 27;
	return generator * 0x2545f4914f6cdd1dUL;
}

static size_t below(size_t n)
{
	return n ? (size_t)((any() >> 16) % n) : 0;
}

/* Changes. */

static uint32_t interesting(size_t len)
{
	const uint32_t numbers[] = {
		0,
		1,
		2,
		4,
		0xff,
		0xffff,
		0x7fffffff,
		0x80000000,
		0xfffffffe,
		0xffffffff,
		0x04924925, /* ops of 56 bytes: 32 bits overflow */
		0x01000000,
		(uint32_t)len,
		(uint32_t)len - 1,
		(uint32_t)len + 1,
		(uint32_t)len / 2,
	};

	return numbers[below(LENGTH(numbers))];
}

/* Where a number is; in headers more often than not. */
static size_t number_at(size_t len)
{
	size_t within = below(3) && len > 128 ? 128 : len;

	return within < 4 ? 0 : below(within / 4) * 4;
}

static void change_number(unsigned char *bytes, size_t len)
{
	size_t at = number_at(len);
	uint32_t number;

	if (len < 4)
		return;
	memcpy(&number, bytes + at, sizeof(number));
	switch (below(4)) {
	case 0:
		number += (uint32_t)below(9) - 4;
		break;
	case 1:
		memcpy(&number, bytes + number_at(len), sizeof(number));
		break;
	default:
		number = interesting(len);
	}
	memcpy(bytes + at, &number, sizeof(number));
}

/* Puts bytes into the input at some place; what does not fit is lost. */
static void insert(const unsigned char *bytes, size_t len)
{
	static unsigned char copy[INPUT_BYTES];
	size_t at = below(input.len + 1), after_it;

	if (len > INPUT_BYTES - at)
		len = INPUT_BYTES - at;
	memcpy(copy, bytes, len);
	after_it = input.len - at;
	if (after_it > INPUT_BYTES - at - len)
		after_it = INPUT_BYTES - at - len;
	memmove(input.bytes + at + len, input.bytes + at, after_it);
	memcpy(input.bytes + at, copy, len);
	input.len = at + len + after_it;
}

static void splice(void)
{
	const struct input *other = &seeds[below(n_seeds)];
	size_t from = below(other->len);

	input.len = below(input.len + 1);
	if (input.len > INPUT_BYTES - (other->len - from))
		input.len = INPUT_BYTES - (other->len - from);
	memcpy(input.bytes + input.len, other->bytes + from, other->len - from);
	input.len += other->len - from;
}

/* A number of an op, near a border of what is allowed; the input is taken for a plan, or for an exec. */
static void change_op(void)
{
	int is_plan = (int)below(2);
	size_t header = is_plan ? sizeof(struct jail_plan) : sizeof(struct jail_exec);
	size_t data_len_at = is_plan ? offsetof(struct jail_plan, data_len) :
				       offsetof(struct jail_exec, data_len);
	size_t n = input.len < header ? 0 : (input.len - header) / sizeof(struct jail_op);
	uint32_t data_len, borders[] = { 0, 1, 0, JAIL_OP_MAX_ - 1, JAIL_OP_MAX_, 0xffffffff };
	struct jail_op op;
	unsigned char *at;

	if (!n)
		return;
	at = input.bytes + header + below(n < 100 ? n : 100) * sizeof(op);
	memcpy(&data_len, input.bytes + data_len_at, sizeof(data_len));
	memcpy(&op, at, sizeof(op));
	borders[2] = data_len + (uint32_t)below(5) - 3;
	*(uint32_t *[]){ &op.kind, &op.flags, &op.path, &op.data, &op.data_len }[below(5)] =
		borders[below(LENGTH(borders))];
	memcpy(at, &op, sizeof(op));
}

static void change(void)
{
	size_t at = below(input.len);

	switch (below(10)) {
	case 0:
		if (input.len)
			input.bytes[at] ^= (unsigned char)(1U << below(8));
		break;
	case 1:
		input.len = below(8) ? input.len - below(input.len < 8 ? input.len : 8) : at;
		break;
	case 2:
		insert(seeds[0].bytes, below(seeds[0].len < 64 ? seeds[0].len : 64));
		break;
	case 3:
		insert(input.bytes + at, below(input.len - at + 1));
		break;
	case 4:
		splice();
		break;
	case 5:
	case 6:
		change_op();
		break;
	default:
		change_number(input.bytes, input.len);
	}
}

/* Readers. */

static char *exact_copy(const void *bytes, size_t len)
{
	char *copy = malloc(len);

	must(copy);
	memcpy(copy, bytes, len);
	return copy;
}

/* Reads a string and gives what follows it: no later than end. */
static const char *walk_text(const char *text, const char *end)
{
	must(text < end);
	text = after(text);
	must(text <= end);
	return text;
}

static void walk_range(const char *bytes, size_t len, const char *end)
{
	must(bytes <= end && len <= (size_t)(end - bytes));
	for (size_t i = 0; i < len; i++)
		(void)*(const volatile char *)&bytes[i];
}

/* Every offset begins a string that ends, says plan.c; mount.c and scratch.c read data as one. */
static void walk_ops(const struct jail_op *ops, uint32_t count, const char *data, const char *end)
{
	struct jail_state state = { .data = data };

	for (uint32_t i = 0; i < count; i++) {
		must(ops[i].kind > 0 && ops[i].kind < JAIL_OP_MAX_);
		walk_text(op_path(&state, &ops[i]), end);
		walk_range(op_data(&state, &ops[i]), ops[i].data_len, end);
		walk_text(op_data(&state, &ops[i]), end);
	}
}

static void read_plan(void)
{
	char *bytes = exact_copy(input.bytes, input.len);
	struct jail_ops ops;
	int r;

	reader = "plan_decode";
	r = plan_decode(bytes, input.len, &ops);
	must(r == 0 || r == -EBADMSG);
	if (r == 0) {
		accepted.plans++;
		must((const char *)(ops.exec + ops.exec_ops) == ops.data);
		walk_ops(ops.setup, ops.setup_ops, ops.data, bytes + input.len);
		walk_ops(ops.exec, ops.exec_ops, ops.data, bytes + input.len);
	}
	free(bytes);
}

/* The same bytes without their header, ops and data apart. */
static void read_ops(void)
{
	const unsigned char *body = input.bytes + sizeof(struct jail_plan);
	size_t len = input.len, count, ops_len;
	struct jail_plan plan;
	char *ops, *data;
	int r;

	if (len < sizeof(plan))
		return;
	len -= sizeof(plan);
	memcpy(&plan, input.bytes, sizeof(plan));
	count = (size_t)plan.setup_ops + plan.exec_ops;
	if (count > len / sizeof(struct jail_op))
		count = len / sizeof(struct jail_op);
	ops_len = count * sizeof(struct jail_op);
	ops = exact_copy(body, ops_len);
	data = exact_copy(body + ops_len, len - ops_len);

	reader = "plan_check";
	r = plan_check((const void *)ops, (uint32_t)count, data, (uint32_t)(len - ops_len));
	must(r == 0 || r == -EBADMSG);
	if (r == 0) {
		accepted.checks++;
		walk_ops((const void *)ops, (uint32_t)count, data, data + len - ops_len);
	}
	free(ops);
	free(data);
}

/* As exec.c goes through it. */
static void walk_exec(const struct jail_slot *slot, const struct jail_exec *exec)
{
	const char *end = slot->memory + slot->memory_len;
	const char *own_end = slot->own.data + exec->data_len;
	const char *text = walk_text(slot->directory, end);
	uint32_t argc = 0, envc = 0;

	must(slot->flags == exec->flags && slot->grace_ns == exec->grace_ns);
	must(slot->memory_max == exec->memory && slot->cpu_max_ns == exec->cpu_ns &&
	     slot->tasks_max == exec->tasks && slot->sample_ns == exec->sample_ns);
	must(own_end <= end && slot->own.exec_ops == exec->ops && !slot->own.setup_ops);
	walk_ops(slot->own.exec, slot->own.exec_ops, slot->own.data, own_end);
	must(text == slot->files);
	for (uint32_t i = 0; i < slot->n_files; i++)
		text = walk_text(text, end);
	for (; slot->argv[argc]; argc++)
		text = walk_text(slot->argv[argc], end);
	for (; slot->envp[envc]; envc++)
		text = walk_text(slot->envp[envc], end);
	must(argc == exec->argc && envc == exec->envc && argc > 0 && slot->n_files > 0);
	must(text == end);
}

static void read_request(uint32_t kind)
{
	struct jail_slot slot = { 0 };
	struct jail_exec exec = { 0 };
	struct jail_request request = { .kind = kind, .id = 1, .len = (uint32_t)input.len };
	int r;

	memcpy(&exec, input.bytes, input.len < sizeof(exec) ? input.len : sizeof(exec));
	request.n_fds = kind == JAIL_REQUEST_FILE || exec.flags & JAIL_EXEC_TERMINAL ? 1 : 4;
	if (kind == JAIL_REQUEST_EXEC && exec.flags & JAIL_EXEC_CGROUP)
		request.n_fds++;
	if (accepted.runs > n_seeds && !below(16)) /* not with what is sent as it is */
		request.n_fds = (int)below(FDS + 1);
	request.bytes = exact_copy(input.bytes, input.len);

	reader = kind == JAIL_REQUEST_FILE ? "request_parse of a FILE" : "request_parse of an EXEC";
	r = request_parse(&request, &slot);
	free(request.bytes);
	must(r == 0 || r == -EBADMSG);
	if (r == 0 && kind == JAIL_REQUEST_FILE) {
		accepted.files++;
		must(walk_text(slot.directory, slot.memory + slot.memory_len));
		walk_range((const char *)slot.file, sizeof(*slot.file), slot.directory);
	} else if (r == 0) {
		accepted.execs++;
		walk_exec(&slot, &exec);
	}
	request_free(&slot);
	must(!slot.memory);
}

/* The control socket. */

static int count_fds(void)
{
	DIR *directory = opendir("/proc/self/fd");
	int n = 0;

	must(directory);
	while (readdir(directory))
		n++;
	closedir(directory);
	return n;
}

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* The input, or its beginning, as packets of any length; descriptors with the first. */
static size_t cut(uint32_t kind)
{
	uint32_t total = (uint32_t)smaller(input.len, 100000);
	size_t offset = 0, n = 0;

	do {
		struct packet *packet = &sequence[n++];
		size_t len = smaller(total - offset, n == 3 ? total : 1 + below(60000));
		struct jail_packet header = { kind, 7, total, (uint32_t)offset };

		memcpy(packet->bytes, &header, sizeof(header));
		memcpy(packet->bytes + sizeof(header), input.bytes + offset, len);
		packet->len = sizeof(header) + len;
		packet->n_fds = n == 1 ? (int)below(FDS + 1) : 0;
		offset += len;
	} while (offset < total);
	return n;
}

static size_t change_sequence(size_t n)
{
	size_t at = below(n);
	struct packet *packet = &sequence[at];

	switch (below(7)) {
	case 0:
		packet->n_fds = (int)below(SENT_FDS + 1);
		break;
	case 1:
		packet->len = below(packet->len + 1);
		break;
	case 2:
		*packet = sequence[below(n)];
		break;
	case 3:
		if (n < PACKETS)
			sequence[n++] = *packet;
		break;
	case 4:
		*packet = sequence[--n];
		break;
	default:
		change_number(packet->bytes, smaller(packet->len, sizeof(struct jail_packet)));
	}
	return n;
}

/* Whether it was sent; what does not fit into the socket is not. */
static int send_packet(int fd, const struct packet *packet)
{
	union {
		char bytes[CMSG_SPACE(SENT_FDS * sizeof(int))];
		struct cmsghdr header;
	} control = { .header = { .cmsg_len = CMSG_LEN((size_t)packet->n_fds * sizeof(int)),
				  .cmsg_level = SOL_SOCKET,
				  .cmsg_type = SCM_RIGHTS } };
	struct iovec iov = { (void *)packet->bytes, packet->len };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

	for (int i = 0; i < packet->n_fds; i++)
		((int *)CMSG_DATA(&control.header))[i] = 2;
	if (packet->n_fds) {
		message.msg_control = &control;
		message.msg_controllen = control.header.cmsg_len;
	}
	return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

/*
 * What a request ought to be, by a second reading of boundary.h.  A socket that
 * makes no sense ends jail-init, and its descriptors with it: so a sixth one may
 * be left open by -EBADMSG, and those of an empty packet, which is an end of file.
 */
struct expected {
	int r;
	int lost_fds;
	struct jail_packet first;
	size_t len;
	int n_fds;
	size_t n_packets;
};

static struct expected expect(const struct packet *packets, size_t n)
{
	struct expected e = { .r = -EBADMSG };
	struct jail_packet header;
	size_t i;

	for (i = 0; i < n && packets[i].len; i++) {
		e.n_fds += packets[i].n_fds;
		e.lost_fds = e.n_fds > FDS ? e.n_fds - FDS : 0;
		if (packets[i].len < sizeof(header) || e.n_fds > FDS)
			return e;
		memcpy(&header, packets[i].bytes, sizeof(header));
		if (i == 0)
			e.first = header;
		if (header.offset != e.len || header.total > JAIL_REQUEST_BYTES)
			return e;
		header.offset = e.first.offset;
		if (memcmp(&header, &e.first, sizeof(header)))
			return e;
		e.len += packets[i].len - sizeof(header);
		if (e.len > header.total || (packets[i].len == sizeof(header) && header.total))
			return e;
		if (e.len == header.total) {
			e.r = 1;
			e.n_packets = i + 1;
			return e;
		}
	}
	e.r = 0;
	e.lost_fds = i < n ? packets[i].n_fds : 0;
	return e;
}

static void compare(const struct jail_request *request, const struct expected *e,
		    const struct packet *packets)
{
	const char *bytes = request->bytes;

	must(request->kind == e->first.kind && request->id == e->first.id);
	must(request->len == e->len && request->n_fds == e->n_fds);
	for (size_t i = 0; i < e->n_packets; i++) {
		size_t len = packets[i].len - sizeof(struct jail_packet);

		must(!memcmp(bytes, packets[i].bytes + sizeof(struct jail_packet), len));
		bytes += len;
	}
}

static int receive_whole(struct jail_request *request)
{
	int r = CONTROL_MORE;

	request->is_partial = 0;
	while (r == CONTROL_MORE)
		r = control_receive(request);
	return r;
}

/* All requests of a sequence, until the end.  Gives how many descriptors that may have left open. */
static int receive(struct jail_request *request, size_t n)
{
	const struct packet *packets = sequence;

	for (;;) {
		struct expected e = expect(packets, n);

		request->n_fds = 77;
		request->len = 77;
		must(receive_whole(request) == e.r);
		must(request->n_fds >= 0 && request->n_fds <= FDS);
		if (e.r == 1)
			compare(request, &e, packets);
		control_close_fds(request);
		must(request->n_fds == 0);
		if (e.r != 1)
			return e.lost_fds;
		accepted.received++;
		packets += e.n_packets;
		n -= e.n_packets;
	}
}

static void read_control(struct jail_request *request)
{
	size_t n = cut(JAIL_REQUEST_PLAN + (uint32_t)below(4)), sent = 0;
	int before = count_fds(), pair[2], lost, left;

	reader = "control_receive";
	for (size_t changes = below(4); changes && n; changes--)
		n = change_sequence(n);
	must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0 && pair[0] == JAIL_CONTROL_FD);
	for (size_t i = 0; i < n; i++)
		if (send_packet(pair[1], &sequence[i]))
			sequence[sent++] = sequence[i];
	shutdown(pair[1], SHUT_WR);
	lost = receive(request, sent);
	close(pair[0]);
	close(pair[1]);

	left = count_fds() - before;
	must(left >= 0 && left <= lost);
	for (int fd = JAIL_CONTROL_FD; left > 0; fd++)
		left -= close(fd) == 0;
}

/* Driving. */

static void read_all(void)
{
	accepted.runs++;
	read_plan();
	read_ops();
	read_request(JAIL_REQUEST_EXEC);
	read_request(JAIL_REQUEST_FILE);
}

static void load(const char *directory)
{
	struct dirent **names;
	int n = scandir(directory, &names, 0, alphasort);

	must(n > 0 && chdir(directory) == 0);
	for (int i = 0; i < n; i++) {
		FILE *file = names[i]->d_name[0] == '.' ? 0 : fopen(names[i]->d_name, "rb");

		if (file) {
			must(n_seeds < SEEDS);
			seeds[n_seeds].len = fread(seeds[n_seeds].bytes, 1, INPUT_BYTES, file);
			must(fgetc(file) == EOF);
			n_seeds++;
			fclose(file);
		}
		free(names[i]);
	}
	free(names);
	must(n_seeds);
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void fuzz_until(uint64_t end, struct jail_request *request)
{
	while (now_ms() < end) {
		input = seeds[below(n_seeds)];
		if (!below(8))
			read_control(request);
		for (size_t changes = 1 + below(6); changes; changes--) {
			change();
			read_all();
		}
	}
}

int main(int argc, char **argv)
{
	struct jail_request request = { .bytes = malloc(JAIL_REQUEST_BYTES) };
	uint64_t milliseconds;

	must(argc == 4 && request.bytes);
	first_seed = strtoull(argv[2], 0, 10);
	milliseconds = strtoull(argv[3], 0, 10);
	generator = first_seed * 2 + 1; /* never 0, where xorshift stays */
	__sanitizer_set_death_callback(say_where);
	alarm((unsigned int)(milliseconds / 1000 + 60)); /* whoever waits for what does not come */
	load(argv[1]);

	for (size_t i = 0; i < n_seeds; i++) {
		input = seeds[i];
		read_all();
	}
	fuzz_until(now_ms() + milliseconds, &request);
	printf("runs=%lu plans=%lu checks=%lu execs=%lu files=%lu received=%lu\n", accepted.runs,
	       accepted.plans, accepted.checks, accepted.execs, accepted.files, accepted.received);
	free(request.bytes);
	return 0;
}
