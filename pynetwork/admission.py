"""The gateway's doorway: accepts connections, and proves callers before they cost more than a few KiB.

One thread holds every connection that has not proved itself: it waits on all of them at once, so neither silent nor
slow callers take a handler's place. Each has a few KiB and a few seconds. Who has proved itself goes to the pool, or is
told at once that the pool is full.

When too many wait, one has to make room: of the machine that most of them come from, the one that has waited longest,
and sooner one that has not even said hello though half of the others came later. So a crowd from one place crowds out
itself, and whoever has just come has time to speak. It is complained about in the log, but not so often that the log
would be what breaks.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from handshakes.auth import derive_key
from handshakes.connection import Connection, Phase
from handshakes.errors import ConfigurationError, PynetworkError, Refused
from handshakes.messages import Rights
from pynetwork.forking import HoldsSockets
from pynetwork.transport import Stream, TcpStream, address_name, tune

if TYPE_CHECKING:
    from pynetwork.tls import GatewayTLS

try:
    import resource
except ImportError:  # Windows knows no such limit
    resource = None  # type: ignore[assignment]

__all__ = ["Admission", "Keys", "granted"]

logger = logging.getLogger("pynetwork.gateway")

Keys = str | bytes | Mapping[str | bytes, Rights | str]
"""A key, or several and what each grants."""

HELLO_TIMEOUT = 5.0
"""Seconds that a caller has to prove itself."""
MOST_WAITING = 256
"""Connections that may be in the doorway at once, where the system gives four times as many descriptors."""
_ACCEPTS_AT_ONCE = 64
_PAUSE = 0.1
_COMPLAINTS_AT_ONCE = 500
_COMPLAINTS_PER_SECOND = 5.0


class _Caller:
    """A connection in the doorway."""

    __slots__ = ("connection", "deadline", "handshaking", "origin", "peer", "sock")

    def __init__(self, sock: socket.socket, connection: Connection, deadline: float, handshaking: bool) -> None:
        self.sock = sock
        self.connection = connection
        self.deadline = deadline
        self.peer = address_name(sock)
        self.origin = _origin(sock)
        self.handshaking = handshaking

    @property
    def has_greeted(self) -> bool:
        """Whether its hello has come."""
        return self.connection.phase is not Phase.HELLO


class _Complaints:
    """Warnings about callers: many at once, but only a few a second for long. What is left out is counted."""

    def __init__(self) -> None:
        self._room = float(_COMPLAINTS_AT_ONCE)
        self._since = time.monotonic()
        self._left_out = 0

    def add(self, peer: str, reason: str) -> None:
        """Say why a caller is turned away, if that can be said now."""
        now = time.monotonic()
        self._room = min(_COMPLAINTS_AT_ONCE, self._room + (now - self._since) * _COMPLAINTS_PER_SECOND)
        self._since = now
        if self._room < 1:
            self._left_out += 1
            return
        self._room -= 1
        self.tell_rest()
        logger.warning("%s: %s", peer, reason)

    def tell_rest(self) -> None:
        """Say how many were left out."""
        if self._left_out:
            logger.warning("%d more connections were closed, too many to name each", self._left_out)
        self._left_out = 0


class Admission(HoldsSockets):
    """Runs the doorway of one gateway on a thread of its own.

    ``make_connection`` gives the state machine for a new caller, ``serve`` takes one that has proved itself or raises
    a `Refused`.
    """

    def __init__(
        self,
        listeners: list[socket.socket],
        make_connection: Callable[[], Connection],
        serve: Callable[[Stream, Connection], None],
        *,
        name: str,
        tls: GatewayTLS | None = None,
        hello_timeout: float = HELLO_TIMEOUT,
        most_waiting: int | None = None,
    ) -> None:
        self._listeners = listeners
        self._make_connection = make_connection
        self._serve = serve
        self._tls = tls
        self._hello_timeout = hello_timeout
        self._most_waiting = most_waiting or _room_for_callers()
        self._callers: dict[int, _Caller] = {}
        self._origins: Counter[str] = Counter()
        self._complaints = _Complaints()
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
        self.watch_forks()
        self._thread.start()

    def stop(self) -> None:
        """Accept nobody more and close everything in the doorway; the port is free when this returns."""
        self._stopping = True
        with contextlib.suppress(OSError):  # it has ended already
            self._wake_in.send(b"x")
        self._thread.join()

    def let_go(self) -> None:
        """Close the listeners and callers in a forked child, where nobody attends to them."""
        for sock in (*self._listeners, *(caller.sock for caller in self._callers.values())):
            sock.close()
        for each in (self._selector, self._wake_in, self._wake_out):
            each.close()

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
            self._dismiss_from_crowd()
        else:
            # The listener stays readable, so without a pause this would be tried as fast as the machine can.
            time.sleep(_PAUSE)

    def _admit(self, sock: socket.socket) -> None:
        try:
            sock.setblocking(False)
            tune(sock)
            if self._tls is not None:
                sock = self._tls.wrap(sock)
        except OSError as error:
            logger.info("a connection broke at once: %s", error)
            sock.close()
            return
        if len(self._callers) >= self._most_waiting:
            self._dismiss_from_crowd()
        deadline = time.monotonic() + self._hello_timeout
        caller = _Caller(sock, self._make_connection(), deadline, handshaking=self._tls is not None)
        self._callers[sock.fileno()] = caller
        self._origins[caller.origin] += 1
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
        except OSError as error:
            self._after_error(caller, error)
        except PynetworkError as error:
            self._say(caller, caller.connection.data_to_send())
            self._dismiss(caller, str(error))

    def _after_error(self, caller: _Caller, error: OSError) -> None:
        """Wait for what TLS waits for, or dismiss a caller whose connection broke."""
        events = 0 if self._tls is None else self._tls.awaited(error)
        if events:
            self._selector.modify(caller.sock, events, caller)
            return
        reason = getattr(error, "reason", None) or error.strerror or error
        what = "the TLS handshake failed" if caller.handshaking else "the connection broke"
        self._dismiss(caller, f"{what}: {reason}")

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
        make = TcpStream if self._tls is None else self._tls.stream
        stream = make(caller.sock, caller.peer)
        try:
            self._serve(stream, caller.connection)
        except Refused as refusal:
            self._complaints.add(caller.peer, f"refused: {refusal}")
            with contextlib.suppress(PynetworkError):
                stream.send(caller.connection.refuse(refusal.status, refusal.message), 0.5)
            stream.close()
        except PynetworkError as error:
            self._complaints.add(caller.peer, str(error))
            stream.close()

    def _dismiss_late(self) -> None:
        now = time.monotonic()
        while self._callers and (oldest := next(iter(self._callers.values()))).deadline <= now:
            self._dismiss(oldest, f"it did not prove itself within {self._hello_timeout:g} s")

    def _dismiss_from_crowd(self) -> None:
        """Dismiss one of those from where most come: of the older half the first that has not said hello, or else the
        oldest.

        The younger half may be about to say it. Without that grace, a crowd that does say hello would crowd out
        whoever is accepted a moment before its own hello arrives.
        """
        ((crowd, count),) = self._origins.most_common(1)
        theirs = [caller for caller in self._callers.values() if caller.origin == crowd]
        silent = (caller for caller in theirs[: (count + 1) // 2] if not caller.has_greeted)
        self._dismiss(next(silent, theirs[0]), "to make room for others")

    def _dismiss(self, caller: _Caller, reason: str) -> None:
        self._complaints.add(caller.peer, f"closed: {reason}")
        self._forget(caller)
        caller.sock.close()

    def _forget(self, caller: _Caller) -> None:
        if self._callers.pop(caller.sock.fileno(), None) is None:
            return
        self._origins[caller.origin] -= 1
        if not self._origins[caller.origin]:
            del self._origins[caller.origin]
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(caller.sock)

    def _close_all(self) -> None:
        for caller in list(self._callers.values()):
            self._forget(caller)
            caller.sock.close()
        self._selector.close()
        for sock in (*self._listeners, self._wake_in, self._wake_out):
            sock.close()
        self._complaints.tell_rest()


def granted(key: Keys | None, rights: Rights) -> dict[bytes, Rights]:
    """Derived keys and what each grants; ``rights``, where ``key`` does not say it. Raises `ConfigurationError`."""
    if key is None:
        return {}
    if isinstance(key, (str, bytes)):
        return {derive_key(key): rights}
    if not isinstance(key, Mapping):
        raise ConfigurationError("key= is text, bytes, or a mapping of keys to the rights that each grants")
    if not key:
        raise ConfigurationError("key={} names no key: nobody could connect; leave it out, or name one")
    return {derive_key(each): Rights.of(theirs) for each, theirs in key.items()}


def _origin(sock: socket.socket) -> str:
    """Where a caller comes from: its address, of an IPv6 address the network, as one machine has a whole one."""
    try:
        address = ipaddress.ip_address(sock.getpeername()[0].partition("%")[0])
    except (OSError, ValueError, IndexError):
        return ""
    return str(address) if address.version == 4 else address.exploded[:19]


def _room_for_callers() -> int:
    """How many may wait without taking the descriptors that handlers need."""
    if resource is None:
        return MOST_WAITING
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_WAITING if most == resource.RLIM_INFINITY else max(1, min(MOST_WAITING, most // 4))
