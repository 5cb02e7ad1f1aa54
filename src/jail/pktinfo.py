"""
To which address a datagram was sent, and answering from that: on a socket that is bound to every address.

ip(7), IP_PKTINFO; ipv6(7), IPV6_RECVPKTINFO.
"""

from __future__ import annotations

import socket
import struct

__all__ = ["CONTROL_BYTES", "answer_from", "tell_where_sent", "where_sent"]

CONTROL_BYTES = 128

# linux/in.h, linux/in6.h; Python has names for some of them.
_IP_PKTINFO, _IPV6_RECVPKTINFO, _IPV6_PKTINFO, _IPV6_FREEBIND = 8, 49, 50, 78
_PKTINFO = struct.Struct("=i4s4s")
_PKTINFO_6 = struct.Struct("=16si")

# As recvmsg of the socket module gives it, and sendmsg takes it.
Control = list[tuple[int, int, bytes]]


def tell_where_sent(sock: socket.socket) -> None:
    """
    Have each datagram come with the address that it was sent to.
    """
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)  # to answer from what is only routed here


def where_sent(control: Control) -> bytes:
    """
    That address, in 4 or 16 bytes; none where the kernel did not say.
    """
    for level, kind, data in control:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            return bytes(_PKTINFO.unpack(data)[2])
        if (level, kind) == (socket.IPPROTO_IPV6, _IPV6_PKTINFO):
            return bytes(_PKTINFO_6.unpack(data)[0])
    return b""


def answer_from(address: bytes) -> Control:
    """
    The ancillary data with which a datagram goes out from an address.
    """
    if len(address) == 4:
        return [(socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO.pack(0, address, bytes(4)))]
    if len(address) == 16:
        return [(socket.IPPROTO_IPV6, _IPV6_PKTINFO, _PKTINFO_6.pack(address, 0))]
    return []
