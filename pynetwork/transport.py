"""Streams of bytes: TCP, TLS and memory, behind one contract.

A `Stream` moves bytes and knows nothing of messages. Waiting is bounded by a ``timeout`` in seconds (None: as long as
the peer is alive). Every failure of the system is translated here, once, and chained: `ConnectionLost` when the link
broke, `DeadlineExceeded` when the time was up, `Closed` when this side had closed the stream.

A dead peer is noticed without traffic. An idle connection is probed by TCP keepalive: first after 10 s, then every
5 s, given up after 3 unanswered probes, so after about 25 s. While bytes wait to be acknowledged keepalive is silent,
so whoever waits looks every 5 s whether the peer still acknowledges (TCP_INFO), and gives up after the same 25 s. A
peer that is alive but does not read is never taken for dead: it is slow, and flow control holds it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from handshakes.errors import (
    Closed,
    ConnectionLost,
    DeadlineExceeded,
)
from handshakes.messages import Bytes
from pynetwork.forking import HoldsSockets
from pynetwork.pacing import Bottleneck, Lane
from pynetwork.tcp_info import handed_out, round_trip_of, unanswered_for

if TYPE_CHECKING:
    import ssl

__all__ = [
    "Deadline",
    "MemoryStream",
    "Stream",
    "TcpStream",
    "TlsStream",
    "address_name",
    "backoff",
    "peer_is_silent",
    "tune",
]

KEEPALIVE_IDLE = 10
KEEPALIVE_INTERVAL = 5
KEEPALIVE_PROBES = 3
DEAD_AFTER = KEEPALIVE_IDLE + KEEPALIVE_PROBES * KEEPALIVE_INTERVAL
_MOST_BUFFERS = 1024
_TIMEVAL = struct.Struct("@ll")
_KERNEL_TIMEOUTS = sys.platform in ("linux", "darwin")


class Deadline:
    """A moment by which something has to happen, ``seconds`` from now; None means never."""

    __slots__ = ("_end",)

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    def remaining(self) -> float | None:
        """Seconds left, at least 0; None when there is no end."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether the moment is over."""
        return self._end is not None and time.monotonic() >= self._end


def backoff(first: float = 0.05, most: float = 2.0) -> Iterator[float]:
    """Pauses in seconds between tries: doubling from ``first`` to ``most``, each with full jitter."""
    # Only now, as it takes a while and the first try mostly succeeds.
    import random  # noqa: PLC0415

    pause = first
    while True:
        yield random.uniform(pause / 2, pause)
        pause = min(most, pause * 2)


class Stream(ABC):
    """Both directions of one connection.

    One thread may receive while another sends. ``peer`` names the other side; ``received`` and ``sent`` count bytes;
    ``certificate`` is the SHA-256 of the server's TLS certificate where this side knows it, else empty.
    """

    peer = ""
    received = 0
    sent = 0
    certificate = b""

    @abstractmethod
    def receive_into(self, buffer: memoryview, timeout: float | None = None) -> int:
        """Receive at least one byte and answer how many; 0 when the peer has ended the stream."""

    @abstractmethod
    def send(self, buffers: Sequence[Bytes], timeout: float | None = None) -> None:
        """Hand all buffers to the system. When this raises, some, all or none of them may have been sent."""

    def giving_way(self, bottleneck: Bottleneck) -> AbstractContextManager[None]:  # noqa: ARG002 - most can't
        """Within this context, what is sent leaves room for other traffic, as `pynetwork.pacing` says.

        ``bottleneck`` is that of all streams to the peer. Nothing changes where there is no network in between.
        """
        return contextlib.nullcontext()

    @abstractmethod
    def ready(self) -> bool:
        """Whether ``receive_into`` would answer without waiting."""

    @abstractmethod
    def shutdown(self) -> None:
        """End both directions; safe from any thread, and wakes the one that waits. The stream is still to be closed."""

    @abstractmethod
    def close(self) -> None:
        """Give everything back to the system. Closing twice is fine."""

    @property
    def round_trip(self) -> float:
        """Seconds to the other side and back, as the system measures it; 0 where it does not tell."""
        return 0.0

    def spared_by(self, _interrupt: BaseException) -> bool:
        """Whether this Ctrl-C left ``receive_into`` before anything was received: the connection is as it was."""
        return False


class TcpStream(Stream, HoldsSockets):
    """A connected TCP socket in blocking mode; waiting is bounded by the kernel, without a further system call.

    In a forked child it is closed: there, it raises `Closed`.
    """

    def __init__(self, sock: socket.socket, peer: str = "") -> None:
        self._sock = sock
        self.peer = peer or address_name(sock)
        self._closed = False
        self._receive_timeout: float | None = -1.0
        self._send_timeout: float | None = -1.0
        self._poll = _Poller(sock)
        self._interrupt: BaseException | None = None
        self._lane: Lane | None = None
        sock.settimeout(None)
        tune(sock)
        self._process = os.getpid()
        self.watch_forks()

    @property
    def round_trip(self) -> float:
        return round_trip_of(self._sock)

    def receive_into(self, buffer: memoryview, timeout: float | None = None) -> int:
        deadline: Deadline | None = None
        while True:
            try:
                if timeout != self._receive_timeout:
                    self._bound_receive(timeout)
                count = self._sock.recv_into(buffer)
                self.received += count
                return count
            except (BlockingIOError, TimeoutError):
                deadline, timeout = self._after_wait(deadline, timeout)
            except (OSError, ValueError) as error:
                raise self._failure(error) from error
            except KeyboardInterrupt as interrupt:
                # It may have come when bytes were already taken from the system, and then those are gone.
                if handed_out(self._sock) == self.received:
                    self._interrupt = interrupt
                raise

    def spared_by(self, interrupt: BaseException) -> bool:
        spared, self._interrupt = self._interrupt is interrupt, None
        return spared

    def send(self, buffers: Sequence[Bytes], timeout: float | None = None) -> None:
        size = len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
        if self._lane is None:
            self._send_all(buffers, size, timeout)
        else:
            self._send_in_pieces(self._lane, buffers, size, timeout)

    def _send_in_pieces(self, lane: Lane, buffers: Sequence[Bytes], size: int, timeout: float | None) -> None:
        deadline = Deadline(timeout)
        while size:
            lane.steer()
            piece = _first(buffers, lane.piece)
            count = sum(map(len, piece))
            self._send_all(piece, count, deadline.remaining())
            size -= count
            if size:
                buffers = _without(buffers, count)

    def _send_all(self, buffers: Sequence[Bytes], size: int, timeout: float | None) -> None:
        deadline: Deadline | None = None
        while size:
            try:
                if timeout != self._send_timeout:
                    self._bound_send(timeout)
                sent = self._sock.send(buffers[0]) if len(buffers) == 1 else self._send_many(buffers)
            except (BlockingIOError, TimeoutError):
                deadline, timeout = self._after_wait(deadline, timeout)
                continue
            except (OSError, ValueError) as error:
                raise self._failure(error) from error
            self.sent += sent
            size -= sent
            if size:
                buffers = _without(buffers, sent)

    def _send_many(self, buffers: Sequence[Bytes]) -> int:
        return self._sock.sendmsg(buffers[:_MOST_BUFFERS])

    @contextlib.contextmanager
    def giving_way(self, bottleneck: Bottleneck) -> Iterator[None]:
        lane = bottleneck.join(self._sock)
        if lane.steered:
            self._lane = lane
        try:
            yield
        finally:
            self._lane = None
            lane.leave()

    def _bound_receive(self, timeout: float | None) -> None:
        """Let receiving wait for ``timeout`` seconds at most, or until the next look at the peer's health."""
        before, self._receive_timeout = self._receive_timeout, timeout
        if _slice(before) != _slice(timeout):
            self._bound(socket.SO_RCVTIMEO, timeout)

    def _bound_send(self, timeout: float | None) -> None:
        before, self._send_timeout = self._send_timeout, timeout
        if _slice(before) != _slice(timeout):
            self._bound(socket.SO_SNDTIMEO, timeout)

    def _bound(self, option: int, timeout: float | None) -> None:
        if _KERNEL_TIMEOUTS:
            micros = max(1, round(_slice(timeout) * 1e6))
            self._sock.setsockopt(socket.SOL_SOCKET, option, _TIMEVAL.pack(*divmod(micros, 1_000_000)))
        else:
            self._bound_socket(timeout)

    def _bound_socket(self, timeout: float | None) -> None:
        """The same by the socket's own time-out, which is one for both directions."""
        self._receive_timeout = self._send_timeout = timeout
        self._sock.settimeout(max(_slice(timeout), 1e-6))

    def _after_wait(self, deadline: Deadline | None, timeout: float | None) -> tuple[Deadline, float | None]:
        """One bounded wait was in vain: go on waiting, or raise."""
        if deadline is None:
            deadline = Deadline(None if timeout is None else timeout - _slice(timeout))
        if peer_is_silent(self._sock):
            raise ConnectionLost(f"{self.peer} has not acknowledged anything for {DEAD_AFTER} s") from TimeoutError(
                errno.ETIMEDOUT, "no acknowledgement"
            )
        if deadline.passed:
            raise DeadlineExceeded(f"{self.peer} did not answer in time")
        return deadline, deadline.remaining()

    def ready(self) -> bool:
        return self._closed or self._poll()

    def shutdown(self) -> None:
        with contextlib.suppress(OSError):
            # Not that of SSLSocket, which forgets its keys: who waits in it would then be handed the bare ciphertext.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        self._closed = True
        self._sock.close()

    def let_go(self) -> None:
        self.close()

    def _failure(self, error: Exception) -> Exception:
        if self._closed:
            if self._process != os.getpid():
                return Closed(
                    f"the connection to {self.peer} belongs to process {self._process}, of which this is a fork; "
                    "dial another one here"
                )
            return Closed(f"the connection to {self.peer} is closed")
        if isinstance(error, OSError):
            return ConnectionLost(f"the connection to {self.peer} was lost: {error.strerror or error}")
        return error


class TlsStream(TcpStream):
    """A TLS connection whose handshake is done.

    OpenSSL allows one thread at a time on a connection: whoever sends and receives from two must make them take turns.
    """

    _sock: ssl.SSLSocket

    def __init__(self, sock: ssl.SSLSocket, peer: str = "", certificate: bytes = b"") -> None:
        super().__init__(sock, peer)
        self.certificate = certificate

    def _bound(self, _option: int, timeout: float | None) -> None:
        # OpenSSL waits in its own loop, which only the socket's own time-out can end.
        self._bound_socket(timeout)

    def _send_many(self, buffers: Sequence[Bytes]) -> int:
        # One record holds 16 KiB: joining small buffers saves records, copying large ones saves nothing.
        small, size = 0, 0
        while small < len(buffers) and size + len(buffers[small]) <= 65536:
            size += len(buffers[small])
            small += 1
        return self._sock.send(b"".join(buffers[:small]) if small > 1 else buffers[0])

    def ready(self) -> bool:
        return self._closed or self._sock.pending() > 0 or self._poll()


class MemoryStream(Stream):
    """One end of a connection within this process: the transport of tests, and of a gateway beside its controller."""

    _CAPACITY = 1 << 20

    def __init__(self, peer: str, inbox: _Pipe, outbox: _Pipe) -> None:
        self.peer = peer
        self._inbox, self._outbox = inbox, outbox
        self._closed = False

    @classmethod
    def pair(cls) -> tuple[MemoryStream, MemoryStream]:
        """Two ends that are connected to each other."""
        one, other = _Pipe(cls._CAPACITY), _Pipe(cls._CAPACITY)
        return cls("memory:a", one, other), cls("memory:b", other, one)

    def receive_into(self, buffer: memoryview, timeout: float | None = None) -> int:
        if self._closed:
            raise Closed(f"the connection to {self.peer} is closed")
        count = self._inbox.read(buffer, timeout)
        if count < 0:
            raise DeadlineExceeded(f"{self.peer} did not answer in time")
        self.received += count
        return count

    def send(self, buffers: Sequence[Bytes], timeout: float | None = None) -> None:
        if self._closed:
            raise Closed(f"the connection to {self.peer} is closed")
        deadline = Deadline(timeout)
        for buffer in buffers:
            if not self._outbox.write(bytes(buffer), deadline):
                raise DeadlineExceeded(f"{self.peer} did not answer in time")
            self.sent += len(buffer)

    def ready(self) -> bool:
        return self._closed or self._inbox.readable()

    def shutdown(self) -> None:
        self._inbox.end()
        self._outbox.end()

    def close(self) -> None:
        self._closed = True
        self.shutdown()


class _Pipe:
    """One direction of a memory connection: a bounded queue of bytes with an end."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._chunks: deque[memoryview] = deque()
        self._size = 0
        self._ended = False
        self._changed = threading.Condition()

    def readable(self) -> bool:
        with self._changed:
            return bool(self._chunks) or self._ended

    def read(self, buffer: memoryview, timeout: float | None) -> int:
        with self._changed:
            if not self._changed.wait_for(lambda: self._chunks or self._ended, timeout):
                return -1
            if not self._chunks:
                return 0
            chunk = self._chunks.popleft()
            count = min(len(chunk), len(buffer))
            buffer[:count] = chunk[:count]
            if count < len(chunk):
                self._chunks.appendleft(chunk[count:])
            self._size -= count
            self._changed.notify_all()
            return count

    def write(self, data: bytes, deadline: Deadline) -> bool:
        with self._changed:
            if not self._changed.wait_for(lambda: self._size < self._capacity or self._ended, deadline.remaining()):
                return False
            if self._ended:
                raise ConnectionLost("the memory connection was lost") from BrokenPipeError(errno.EPIPE, "ended")
            if data:
                self._chunks.append(memoryview(data))
                self._size += len(data)
                self._changed.notify_all()
            return True

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def tune(sock: socket.socket) -> None:
    """No delay for small messages, and keepalive as this module's docstring says."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        idle = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))
        if idle is not None:
            sock.setsockopt(socket.IPPROTO_TCP, idle, KEEPALIVE_IDLE)
        if hasattr(socket, "TCP_KEEPINTVL"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)


def address_name(sock: socket.socket) -> str:
    """The peer of a connected socket, as people write it."""
    try:
        name = sock.getpeername()
    except OSError:
        return "a peer that has gone"
    if isinstance(name, tuple):
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
    return str(name) or "a local socket"


def peer_is_silent(sock: socket.socket) -> bool:
    """Whether bytes or probes have been on their way unanswered for `DEAD_AFTER` seconds (Linux: TCP_INFO)."""
    return unanswered_for(sock) >= DEAD_AFTER


def _slice(timeout: float | None) -> float:
    """How long one system call may wait, in seconds: until the next look at the peer's health at most."""
    return KEEPALIVE_INTERVAL if timeout is None else min(timeout, KEEPALIVE_INTERVAL)


def _first(buffers: Sequence[Bytes], most: int) -> list[Bytes]:
    """The first ``most`` bytes of the buffers, or all that there are."""
    piece: list[Bytes] = []
    for buffer in buffers:
        if len(buffer) >= most:
            piece.append(memoryview(buffer)[:most])
            break
        piece.append(buffer)
        most -= len(buffer)
    return piece


def _without(buffers: Sequence[Bytes], sent: int) -> list[Bytes]:
    """The buffers without their first ``sent`` bytes."""
    index = 0
    while sent >= len(buffers[index]):
        sent -= len(buffers[index])
        index += 1
    return [memoryview(buffers[index])[sent:], *buffers[index + 1 :]]


class _Poller:
    """Asks whether a socket has something to read, without waiting."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._poll: select.poll | None = None
        if hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(sock, select.POLLIN)

    def __call__(self) -> bool:
        if self._poll is not None:
            return bool(self._poll.poll(0))
        return bool(select.select([self._sock], [], [], 0)[0])
