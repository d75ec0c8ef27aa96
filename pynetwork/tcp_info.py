"""What the system tells of a TCP connection (TCP_INFO). Only Linux does; all else is answered as if nothing were known.

Offsets are those of ``struct tcp_info``, which has only ever grown at its end: an old kernel answers with less.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from typing import NamedTuple

if sys.platform == "linux":
    import fcntl
    import termios

__all__ = ["Flow", "flow_of", "handed_out", "round_trip_of", "unanswered_for"]

# tcpi_snd_mss, tcpi_rtt (us), tcpi_bytes_acked, tcpi_notsent_bytes.
_FLOW = struct.Struct("=16xI48xI48xQ16xI")


class Flow(NamedTuple):
    """How a connection's bytes get on: seconds that a round trip takes at present, bytes acknowledged so far, bytes
    that wait to be sent, and the size of a packet.
    """

    rtt: float
    acknowledged: int
    unsent: int
    packet: int


def flow_of(sock: socket.socket) -> Flow | None:
    """See `Flow`; None where it is not told."""
    info = _read(sock, _FLOW.size)
    if len(info) < _FLOW.size:
        return None
    packet, rtt, acknowledged, unsent = _FLOW.unpack(info)
    return Flow(rtt / 1e6, acknowledged, unsent, packet)


def round_trip_of(sock: socket.socket) -> float:
    """Seconds that a round trip takes, smoothed by the system; 0 where it is not told."""
    # tcpi_rtt (us) is the u32 at offset 68.
    return int.from_bytes(_read(sock, 72)[68:], sys.byteorder) / 1e6


def unanswered_for(sock: socket.socket) -> float:
    """For how many seconds the peer has answered nothing while bytes or probes were on their way.

    0 where none are, or where it is not told.
    """
    info = _read(sock, 60)
    if len(info) < 60:
        return 0.0
    # Retransmits and probes are bytes 2 and 3, tcpi_last_ack_recv (ms) is the u32 at offset 56.
    unanswered = info[2] or info[3]
    return int.from_bytes(info[56:], sys.byteorder) / 1000 if unanswered else 0.0


def handed_out(sock: socket.socket) -> int | None:
    """How many bytes of a connection have been taken from the system; None where it does not tell."""
    if sys.platform != "linux":
        return None
    # tcpi_bytes_received is the u64 at offset 128. More may arrive while this looks.
    with contextlib.suppress(OSError):
        for _ in range(10):
            arrived = _read(sock, 136)[128:]
            if not arrived:
                return None
            waiting = fcntl.ioctl(sock, termios.FIONREAD, bytes(4))
            if arrived == _read(sock, 136)[128:]:
                return int.from_bytes(arrived, sys.byteorder) - int.from_bytes(waiting, sys.byteorder)
    return None


def _read(sock: socket.socket, size: int) -> bytes:
    """The first ``size`` bytes, or fewer: none of a socket that is closed or of another kind, or of another system."""
    if not hasattr(socket, "TCP_INFO"):
        return b""
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
    except OSError:
        return b""
