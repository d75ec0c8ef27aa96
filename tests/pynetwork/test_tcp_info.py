from __future__ import annotations

import errno
import socket
import struct
import sys
from typing import Any

import pytest

from pynetwork import tcp_info
from pynetwork.tcp_info import Flow, flow_of, handed_out, round_trip_of, unanswered_for
from tests.waiting import wait_until

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs TCP_INFO")


class FakeSocket:
    """A socket that answers only what the kernel knows of its connection."""

    def __init__(self, info: bytes | OSError) -> None:
        self._info = info

    def getsockopt(self, _level: int, _option: int, size: int) -> bytes:
        if isinstance(self._info, OSError):
            raise self._info
        return self._info[:size]


def told(
    retransmits: int = 0,
    probes: int = 0,
    silent_ms: int = 0,
    packet: int = 0,
    rtt: int = 0,
    acked: int = 0,
    unsent: int = 0,
) -> bytes:
    info = bytearray(232)
    info[2], info[3] = retransmits, probes
    struct.pack_into("=I", info, 16, packet)
    struct.pack_into("=I", info, 56, silent_ms)
    struct.pack_into("=I", info, 68, rtt)
    struct.pack_into("=Q", info, 120, acked)
    struct.pack_into("=I", info, 144, unsent)
    return bytes(info)


NOTHING = [b"", b"short", OSError(errno.EBADF, "closed")]


@LINUX
@pytest.mark.parametrize(
    ("info", "seconds"),
    [
        (told(retransmits=3, silent_ms=60_000), 60.0),
        (told(probes=2, silent_ms=60_000), 60.0),
        (told(silent_ms=60_000), 0.0),  # idle, and nothing was asked
        (told(retransmits=1, silent_ms=1_000), 1.0),
        (told(retransmits=1, silent_ms=1_000)[:59], 0.0),
        *((nothing, 0.0) for nothing in NOTHING),
    ],
)
def test_how_long_a_peer_has_been_silent(info: bytes | OSError, seconds: float) -> None:
    fake: Any = FakeSocket(info)
    assert unanswered_for(fake) == seconds


@LINUX
def test_how_bytes_get_on() -> None:
    fake: Any = FakeSocket(told(packet=1448, rtt=20_500, acked=1 << 40, unsent=77))
    assert flow_of(fake) == Flow(0.0205, 1 << 40, 77, 1448)
    assert round_trip_of(fake) == 0.0205


@pytest.mark.parametrize("info", [*NOTHING, told()[:147]])
def test_an_old_kernel_tells_no_flow(info: bytes | OSError) -> None:
    fake: Any = FakeSocket(info)
    assert flow_of(fake) is None


@pytest.mark.parametrize("info", NOTHING)
def test_nothing_is_known(info: bytes | OSError) -> None:
    fake: Any = FakeSocket(info)
    assert round_trip_of(fake) == 0.0
    assert handed_out(fake) is None


def test_another_system_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(tcp_info.socket, "TCP_INFO", raising=False)
    monkeypatch.setattr(tcp_info.sys, "platform", "another")
    fake: Any = FakeSocket(told(retransmits=3, silent_ms=60_000, rtt=5))
    assert (unanswered_for(fake), round_trip_of(fake), flow_of(fake), handed_out(fake)) == (0.0, 0.0, None, None)


@LINUX
def test_a_real_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far = server.accept()[0]
    with near, far:
        near.sendall(bytes(5000))

        def all_are_acknowledged() -> bool:
            flow = flow_of(near)
            return flow is not None and flow.acknowledged >= 5000

        wait_until(all_are_acknowledged)
        flow = flow_of(near)
        assert flow is not None
        assert 0 < flow.rtt == pytest.approx(round_trip_of(near), rel=1)
        assert flow.packet > 500
        assert handed_out(far) == 0
        assert far.recv(1000)
        assert handed_out(far) == 1000


def test_a_socket_of_another_kind() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert flow_of(one) is None
        assert unanswered_for(one) == 0.0
