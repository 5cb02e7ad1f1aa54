/*
 * net.c - the network namespace's own interface, and what listens there.
 * network_namespaces(7), netdevice(7), rtnetlink(7)
 *
 * With a route of type local for everything, each address is one of this
 * namespace's own: whatever a program connects to, a listening socket here
 * accepts, and its local address says whom the program meant.  A socket keeps
 * the namespace that it was made in, so the harness can have it.
 */
#define __KERNEL_STRICT_NAMES
#include "core.h"
#include <sys/socket.h>
#include <linux/if.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/netlink.h>
#include <linux/poll.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>

#define LO_INDEX 1   /* the first interface of every namespace; net/core/dev.c */
#define BACKLOG 4096 /* or net.core.somaxconn, if that is less */

int room_net_loopback(struct jail_state *state, const struct jail_op *op)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	auto_close fd = (int)sys(socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	(void)state, (void)op;
	return fd < 0 ? fd : (int)sys(ioctl, fd, SIOCSIFFLAGS, &request);
}

/* A kernel without IPv6, or with it switched off: what the op names is absent. */
static int absent(int r, uint64_t family)
{
	return family == AF_INET6 && (r == -EAFNOSUPPORT || r == -EACCES || r == -EADDRNOTAVAIL) ?
		       -ENOENT :
		       r;
}

int room_net_local_route(struct jail_state *state, const struct jail_op *op)
{
	struct {
		struct nlmsghdr header;
		struct rtmsg route;
		struct rtattr attribute;
		int lo;
	} request = {
		.header = { .nlmsg_len = sizeof(request),
			    .nlmsg_type = RTM_NEWROUTE,
			    .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE },
		.route = { .rtm_family = (uint8_t)op->args[0],
			   .rtm_table = RT_TABLE_LOCAL,
			   .rtm_protocol = RTPROT_STATIC,
			   .rtm_scope = RT_SCOPE_HOST,
			   .rtm_type = RTN_LOCAL },
		.attribute = { .rta_len = RTA_LENGTH(sizeof(int)), .rta_type = RTA_OIF },
		.lo = LO_INDEX,
	};
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
	} answer = { 0 };
	auto_close fd = (int)sys(socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	long n = fd < 0 ? fd : sys(sendto, fd, &request, sizeof(request), 0, 0, 0);

	(void)state;
	if (n >= 0)
		n = sys(recvfrom, fd, &answer, sizeof(answer), 0, 0, 0);
	if (n >= 0 && (n < (long)sizeof(answer) || answer.header.nlmsg_type != NLMSG_ERROR))
		n = -EBADMSG;
	return absent(n < 0 ? (int)n : answer.error.error, op->args[0]);
}

/* On every address of the family, which of IPv6 does not mean IPv4 too. */
static int bind_everywhere(int fd, uint64_t family, uint16_t port)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = __builtin_bswap16(port) };
	struct sockaddr_in6 any6 = { .sin6_family = AF_INET6,
				     .sin6_port = __builtin_bswap16(port) };
	int on = 1;
	int r;

	if (family == AF_INET)
		return (int)sys(bind, fd, &any, sizeof(any));
	r = (int)sys(setsockopt, fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	return r < 0 ? r : (int)sys(bind, fd, &any6, sizeof(any6));
}

/* The harness takes them as they come; it may be late, and a socket's buffer is no promise. */
int room_net_hand_over(int to, int fd)
{
	struct jail_event event = { .kind = JAIL_EVENT_SOCKET, .op = JAIL_NO_OP };
	struct pollfd room = { .fd = to, .events = POLLOUT };
	int r;

	for (;;) {
		r = control_send_fds(to, &event, &fd, 1);
		if (r != -EAGAIN)
			return r;
		sys(ppoll, &room, 1, 0, 0, 0);
	}
}

int room_net_listen(struct jail_state *state, const struct jail_op *op)
{
	uint64_t family = op->args[0], type = op->args[1];
	auto_close fd = (int)sys(socket, family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r = fd < 0 ? fd : bind_everywhere(fd, family, (uint16_t)op->args[2]);

	if (r == 0 && type == SOCK_STREAM)
		r = (int)sys(listen, fd, BACKLOG);
	return r < 0 ? absent(r, family) : room_net_hand_over(state->sockets, fd);
}
