/*
 * control.c - the socket to the harness.  unix(7), SOCK_SEQPACKET
 *
 * Packets keep their borders, so there is no framing to get wrong.  A request
 * may take several; they come in order and belong to one request at a time.
 * Anything else is -EBADMSG, which ends the sandbox.  End of file: the harness
 * has closed it, or is dead.
 */
#include "core.h"
#include <linux/socket.h>
#include <linux/uio.h>

#define MSG_NOSIGNAL 0x4000
#define MSG_DONTWAIT 0x40
#define MSG_CTRUNC 8
#define MSG_TRUNC 0x20
#define MSG_CMSG_CLOEXEC 0x40000000
#define SOL_SOCKET 1
#define SCM_RIGHTS 1

/* struct msghdr and cmsghdr as the kernel has them; no uapi header declares them. */
struct message {
	void *name;
	int name_len;
	struct iovec *iov;
	size_t iov_len;
	void *control;
	size_t control_len;
	unsigned int flags;
};

struct rights {
	size_t len;
	int level;
	int type;
	int fds[6];
};

static int take_rights(struct jail_request *request, const struct message *message,
		       const struct rights *rights)
{
	int n;

	if (message->control_len < offsetof(struct rights, fds))
		return 0;
	n = (int)((rights->len - offsetof(struct rights, fds)) / sizeof(int));
	if (rights->level != SOL_SOCKET || rights->type != SCM_RIGHTS)
		return -EBADMSG;
	for (int i = 0; i < n; i++) {
		if (request->n_fds < 5)
			request->fds[request->n_fds++] = rights->fds[i];
		else
			return -EBADMSG;
	}
	return 0;
}

static int receive_packet(struct jail_request *request, struct jail_packet *packet)
{
	struct rights rights = { 0 };
	struct iovec iov[2] = {
		{ .iov_base = packet, .iov_len = sizeof(*packet) },
		{ .iov_base = request->bytes + request->len,
		  .iov_len = JAIL_REQUEST_BYTES - request->len },
	};
	struct message message = {
		.iov = iov,
		.iov_len = 2,
		.control = &rights,
		.control_len = sizeof(rights),
	};
	long n;

	do
		n = sys(recvmsg, JAIL_CONTROL_FD, &message, MSG_CMSG_CLOEXEC);
	while (n == -EINTR);
	if (n <= 0)
		return (int)n;
	if (take_rights(request, &message, &rights) < 0 || n < (long)sizeof(*packet) ||
	    message.flags & (MSG_TRUNC | MSG_CTRUNC))
		return -EBADMSG;
	return (int)n;
}

/*
 * Takes one packet.  1: that makes a whole request; CONTROL_MORE: the request
 * goes on, and its sender may take its time; 0: end of file; or -errno.
 */
int control_receive(struct jail_request *request)
{
	struct jail_packet packet, first;
	int n;

	if (!request->is_partial)
		request->len = request->n_fds = 0;
	n = receive_packet(request, &packet);
	if (n <= 0)
		return n;
	if (!request->is_partial)
		request->first = packet;
	first = request->first;
	if (packet.kind != first.kind || packet.id != first.id || packet.total != first.total ||
	    packet.offset != request->len || packet.total > JAIL_REQUEST_BYTES)
		return -EBADMSG;
	request->len += (uint32_t)n - (uint32_t)sizeof(packet);
	if (request->len > packet.total || (request->len < packet.total && n == sizeof(packet)))
		return -EBADMSG;
	request->is_partial = request->len < packet.total;
	request->kind = first.kind;
	request->id = first.id;
	return request->is_partial ? CONTROL_MORE : 1;
}

void control_close_fds(struct jail_request *request)
{
	while (request->n_fds)
		sys(close, request->fds[--request->n_fds]);
}

int control_send(int fd, const struct jail_event *event)
{
	return control_send_fds(fd, event, 0, 0);
}

/* n_fds is at most 4. */
int control_send_fds(int fd, const struct jail_event *event, const int *fds, int n_fds)
{
	struct iovec iov = { .iov_base = (void *)event, .iov_len = sizeof(*event) };
	struct rights rights = {
		.len = offsetof(struct rights, fds) + (size_t)n_fds * sizeof(int),
		.level = SOL_SOCKET,
		.type = SCM_RIGHTS,
	};
	struct message message = { .iov = &iov, .iov_len = 1 };
	long n;

	for (int i = 0; i < n_fds; i++)
		rights.fds[i] = fds[i];
	if (n_fds) {
		message.control = &rights;
		message.control_len = rights.len;
	}

	do
		n = sys(sendmsg, fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n == -EINTR);
	return n < 0 ? (int)n : 0;
}
