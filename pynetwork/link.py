"""The blocking driver of one pair: a `Stream` joined to a `handshakes.Connection`.

There is no hidden thread: who waits for an event reads the socket itself.
"""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager

from handshakes.connection import Connection, Phase
from handshakes.errors import ConnectionLost, DeadlineExceeded, ProtocolError, PynetworkError
from handshakes.messages import Bytes, Event, Message, Rights
from pynetwork.pacing import Bottleneck
from pynetwork.transport import Deadline, Stream

__all__ = ["STALL_TIMEOUT", "Link", "Operation"]

STALL_TIMEOUT = 30.0
"""Seconds that a peer may take between two bytes of one frame."""


class Link:
    """Moves bytes between a stream and the state machine.

    One thread receives and one thread sends at a time; where those are two, ``lock`` makes them take turns.
    """

    def __init__(self, stream: Stream, connection: Connection) -> None:
        self.stream = stream
        self.connection = connection
        self.lock = threading.Lock()

    @property
    def peer(self) -> str:
        """The other side's address, for people."""
        return self.stream.peer

    def next_event(self, timeout: float | None = None) -> Event:
        """The next event, waiting for it.

        Raises `DeadlineExceeded` after ``timeout`` seconds, `ConnectionLost` when the link broke or a peer stopped in
        the middle of a frame, and what `Connection.next_event` raises.
        """
        connection = self.connection
        deadline: Deadline | None = None
        wait = timeout
        held = connection.mid_frame
        if held:
            event = connection.next_event()
            if event is not None:
                return event
            held = connection.mid_frame
        while True:
            count = self._receive_rest(wait) if held else self.stream.receive_into(connection.buffer(), wait)
            if count == 0:
                raise ConnectionLost(f"{self.peer} ended the connection") from ConnectionResetError("end of stream")
            connection.received(count)
            event = connection.next_event()
            if event is not None:
                return event
            if words := connection.data_to_send():
                self.stream.send(words)
            held = connection.mid_frame
            if timeout is not None:
                deadline = deadline or Deadline(timeout)
                if deadline.passed:
                    raise DeadlineExceeded(f"{self.peer} sent much, but not what was waited for, in time")
                wait = deadline.remaining()

    def _receive_rest(self, timeout: float | None) -> int:
        """Receive more of a frame that has begun, which must not stall."""
        stalling = timeout is None or timeout > STALL_TIMEOUT
        try:
            return self.stream.receive_into(self.connection.buffer(), STALL_TIMEOUT if stalling else timeout)
        except DeadlineExceeded as error:
            if not stalling:
                raise
            raise ConnectionLost(f"{self.peer} stopped in the middle of a message for {STALL_TIMEOUT:g} s") from error

    def settle(self, timeout: float | None) -> None:
        """Read until nothing more can arrive of operations that were left; raises as ``next_event``.

        Whoever sent much instead could wait for a peer that itself waits to be read.
        """
        connection, deadline = self.connection, Deadline(timeout)
        while True:
            if connection.next_event() is not None:
                raise ConnectionLost(f"{self.peer} ended the pair")
            if not connection.leaving:
                return
            if deadline.passed:
                raise DeadlineExceeded(f"{self.peer} has not ended the operation that was left before")
            count = self.stream.receive_into(connection.buffer(), deadline.remaining())
            if count == 0:
                raise ConnectionLost(f"{self.peer} ended the connection") from ConnectionResetError("end of stream")
            connection.received(count)

    def poll_event(self) -> Event | None:
        """An event if there is one without waiting, else None. Raises as ``next_event``."""
        event = self.connection.next_event()
        while event is None and self.connection.wants_data and self.stream.ready():
            try:
                count = self.stream.receive_into(self.connection.buffer(), 0.0)
            except DeadlineExceeded:
                # Part of a TLS record makes a socket readable, and yet there is nothing to read.
                return None
            if count == 0:
                raise ConnectionLost(f"{self.peer} ended the connection") from ConnectionResetError("end of stream")
            self.connection.received(count)
            event = self.connection.next_event()
        return event

    def send(self, buffers: Sequence[Bytes], timeout: float | None = None) -> None:
        """Hand these buffers to the system, waiting as long as the peer is alive."""
        self.stream.send(buffers, timeout)

    def break_off(self, error: ProtocolError) -> None:
        """End a pair whose peer broke the protocol; it is told so if that can be done without waiting long."""
        self.connection.break_off(error)
        with contextlib.suppress(PynetworkError):
            word = self.connection.data_to_send()
            if word:
                self.stream.send(word, 0.5)

    def close(self) -> None:
        """End the pair; the peer is told when the protocol allows it."""
        if self.connection.phase in (Phase.IDLE, Phase.RUNNING):
            with contextlib.suppress(PynetworkError):
                self.stream.send(self.connection.goodbye(), 0.5)
        self.stream.close()


class Operation(ABC):
    """One operation of a pair, as seen by the service on either side."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def peer(self) -> str:
        """The other side's address, for people."""
        return self._link.peer

    @property
    def rights(self) -> Rights:
        """What the caller's key grants."""
        return self._link.connection.rights

    @property
    def send_limit(self) -> int:
        """The largest body that the other side accepts, in bytes."""
        return self._link.connection.send_limit

    def send(self, code: int, head: bytes = b"", *buffers: Bytes) -> None:
        """Send one message: a code (0 to 255), a head of at most 64 KiB, and a body gathered from ``buffers``.

        Returns when the system has the bytes: the buffers may be used again.
        """
        self._link.send(self._link.connection.message(code, head, buffers))

    def giving_way(self, bottleneck: Bottleneck) -> AbstractContextManager[None]:
        """Within this context, what is sent leaves room for other traffic; see `Stream.giving_way`."""
        return self._link.stream.giving_way(bottleneck)

    @property
    def round_trip(self) -> float:
        """Seconds to the other side and back, as far as the system knows; else 0."""
        return self._link.stream.round_trip

    @property
    def received(self) -> int:
        """The bytes that have come over the pair so far."""
        return self._link.stream.received

    @abstractmethod
    def receive(self, timeout: float | None = None) -> Message | None:
        """The next message, or None when the operation has ended with its result. Raises what ended it otherwise."""

    def ready(self) -> bool:
        """Whether ``receive`` would find something without waiting for the network."""
        return self._link.connection.mid_frame or self._link.stream.ready()

    def recycle(self, body: Bytes) -> None:
        """The body of a message is done with: its memory may receive the next."""
        self._link.connection.recycle(body)
