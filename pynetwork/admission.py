"""The gateway's doorway: accepts connections, and proves callers before they cost more than a few KiB.

One thread holds every connection that has not proved itself: it waits on all of them at once, so neither silent nor
slow callers take a handler's place. Each has a few KiB and a few seconds; when too many wait, the one that has
waited longest makes room. Who has proved itself goes to the pool, or is told at once that the pool is full.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable

from handshakes.connection import Connection
from handshakes.errors import PynetworkError, Refused
from pynetwork.transport import Stream, TcpStream, TlsStream, address_name, tune

__all__ = ["Admission"]

logger = logging.getLogger("pynetwork.gateway")

HELLO_TIMEOUT = 5.0
"""Seconds that a caller has to prove itself."""
MOST_WAITING = 256
"""Connections that may be in the doorway at once."""
_ACCEPTS_AT_ONCE = 64
_PAUSE = 0.1


class _Caller:
    """A connection in the doorway."""

    __slots__ = ("connection", "deadline", "handshaking", "peer", "sock")

    def __init__(self, sock: socket.socket, connection: Connection, deadline: float) -> None:
        self.sock = sock
        self.connection = connection
        self.deadline = deadline
        self.peer = address_name(sock)
        self.handshaking = isinstance(sock, ssl.SSLSocket)


class Admission:
    """Runs the doorway of one gateway on a thread of its own.

    ``make_connection`` gives the state machine for a new caller, ``serve`` takes one that has proved itself or raises
    a `Refused`. ``context`` is the gateway's TLS, ``certificate`` the SHA-256 of its certificate where that is known.
    """

    def __init__(
        self,
        listeners: list[socket.socket],
        make_connection: Callable[[], Connection],
        serve: Callable[[Stream, Connection], None],
        *,
        name: str,
        context: ssl.SSLContext | None = None,
        certificate: bytes = b"",
        hello_timeout: float = HELLO_TIMEOUT,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._listeners = listeners
        self._make_connection = make_connection
        self._serve = serve
        self._context = context
        self._certificate = certificate
        self._hello_timeout = hello_timeout
        self._most_waiting = most_waiting
        self._callers: dict[int, _Caller] = {}
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = socket.socketpair()
        self._stopping = False
        self._starved = False
        self._thread = threading.Thread(target=self._run, name=f"{name} admission", daemon=True)

    @property
    def waiting(self) -> int:
        """How many connections are in the doorway."""
        return len(self._callers)

    def start(self) -> None:
        """Begin to accept."""
        for listener in self._listeners:
            self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._wake_out, selectors.EVENT_READ)
        self._thread.start()

    def stop(self) -> None:
        """Accept nobody more and close everything in the doorway; the port is free when this returns."""
        self._stopping = True
        with contextlib.suppress(OSError):  # it has ended already
            self._wake_in.send(b"x")
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping:
                for key, _ in self._selector.select(self._patience()):
                    self._attend(key)
                self._dismiss_late()
        finally:
            self._close_all()

    def _patience(self) -> float | None:
        # Callers are held in the order in which they came, so the first is the first to be late.
        first = next(iter(self._callers.values()), None)
        return None if first is None else max(0.0, first.deadline - time.monotonic())

    def _attend(self, key: selectors.SelectorKey) -> None:
        if isinstance(key.data, _Caller):
            if self._callers.get(key.fd) is key.data:
                self._hear(key.data)
        elif key.fileobj in self._listeners:
            self._accept(key.fileobj)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            try:
                sock, _address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self._make_room(error)
                return
            self._starved = False
            self._admit(sock)

    def _make_room(self, error: OSError) -> None:
        """A connection can't be accepted: out of descriptors, most likely, so one in the doorway has to go."""
        if not self._starved:
            logger.error("a connection can't be accepted: %s", error.strerror)
        self._starved = True
        if self._callers:
            self._dismiss_oldest("to make room")
        else:
            # The listener stays readable, so without a pause this would be tried as fast as the machine can.
            time.sleep(_PAUSE)

    def _admit(self, sock: socket.socket) -> None:
        try:
            sock.setblocking(False)
            tune(sock)
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        except OSError as error:
            logger.info("a connection broke at once: %s", error)
            sock.close()
            return
        if len(self._callers) >= self._most_waiting:
            self._dismiss_oldest("to make room for others")
        caller = _Caller(sock, self._make_connection(), time.monotonic() + self._hello_timeout)
        self._callers[sock.fileno()] = caller
        self._selector.register(sock, selectors.EVENT_READ, caller)
        if not caller.handshaking:
            self._hear(caller)

    def _hear(self, caller: _Caller) -> None:
        try:
            if caller.handshaking:
                caller.sock.do_handshake()  # type: ignore[attr-defined]
                caller.handshaking = False
                self._selector.modify(caller.sock, selectors.EVENT_READ, caller)
            self._converse(caller)
        except BlockingIOError:
            pass
        except ssl.SSLWantReadError:
            self._selector.modify(caller.sock, selectors.EVENT_READ, caller)
        except ssl.SSLWantWriteError:
            self._selector.modify(caller.sock, selectors.EVENT_WRITE, caller)
        except ssl.SSLError as error:
            self._dismiss(caller, f"the TLS handshake failed: {error.reason or error}")
        except OSError as error:
            self._dismiss(caller, f"the connection broke: {error.strerror or error}")
        except PynetworkError as error:
            self._say(caller, caller.connection.data_to_send())
            self._dismiss(caller, str(error))

    def _converse(self, caller: _Caller) -> None:
        """Read until nothing more is there (BlockingIOError) or the caller has left the doorway."""
        connection = caller.connection
        while True:
            count = caller.sock.recv_into(connection.buffer())
            if count == 0:
                self._dismiss(caller, "it ended the connection before it had proved itself")
                return
            connection.received(count)
            event = connection.next_event()
            self._say(caller, connection.data_to_send())
            if event is not None:
                self._hand_over(caller)
                return

    def _say(self, caller: _Caller, words: list[bytes]) -> None:
        data = b"".join(words)
        if data:
            with contextlib.suppress(OSError):
                # A few hundred bytes always fit an empty socket buffer; who does not read them is late soon.
                caller.sock.send(data)

    def _hand_over(self, caller: _Caller) -> None:
        self._forget(caller)
        if isinstance(caller.sock, ssl.SSLSocket):
            stream: Stream = TlsStream(caller.sock, caller.peer, self._certificate)
        else:
            stream = TcpStream(caller.sock, caller.peer)
        try:
            self._serve(stream, caller.connection)
        except Refused as refusal:
            logger.warning("%s: refused: %s", caller.peer, refusal)
            with contextlib.suppress(PynetworkError):
                stream.send(caller.connection.refuse(refusal.status, refusal.message), 0.5)
            stream.close()
        except PynetworkError as error:
            logger.warning("%s: %s", caller.peer, error)
            stream.close()

    def _dismiss_late(self) -> None:
        now = time.monotonic()
        while self._callers and next(iter(self._callers.values())).deadline <= now:
            self._dismiss_oldest(f"it did not prove itself within {self._hello_timeout:g} s")

    def _dismiss_oldest(self, reason: str) -> None:
        oldest = next(iter(self._callers.values()), None)
        if oldest is not None:
            self._dismiss(oldest, reason)

    def _dismiss(self, caller: _Caller, reason: str) -> None:
        logger.warning("%s: closed: %s", caller.peer, reason)
        self._forget(caller)
        caller.sock.close()

    def _forget(self, caller: _Caller) -> None:
        self._callers.pop(caller.sock.fileno(), None)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(caller.sock)

    def _close_all(self) -> None:
        for caller in list(self._callers.values()):
            self._forget(caller)
            caller.sock.close()
        self._selector.close()
        for sock in (*self._listeners, self._wake_in, self._wake_out):
            sock.close()
