/*
 * net.c - the network namespace's own interface.  network_namespaces(7), netdevice(7)
 */
#include "core.h"
#include <sys/socket.h>
#include <linux/if.h>
#include <linux/sockios.h>

int room_net_loopback(struct jail_state *state, const struct jail_op *op)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	auto_close fd = (int)sys(socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	(void)state, (void)op;
	return fd < 0 ? fd : (int)sys(ioctl, fd, SIOCSIFFLAGS, &request);
}
