"""The thread of a series server that holds all connections which are idle or about something small.

It reads puts of a few records and questions for the time, and commits all puts that came in one turn together.
Whatever may take long or has to wait moves to a thread of its own with its connection: every get, every put that grows,
whoever does not read its answers. From there the connection comes back when it has been idle for a moment. With TLS, a
connection has a thread from the start.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from handshakes.errors import Closed, ConnectionLost, PynetworkError, RemoteProtocolError
from handshakes.records import Block, joined
from handshakes.tstorage import (
    GetAcq,
    PutBegin,
    PutEnd,
    PutRecords,
    Request,
    RequestReader,
    Status,
    acq_answer,
    failure,
    put_answer,
)
from pynetwork.forking import HoldsSockets
from pynetwork.series.memory import Budget
from pynetwork.series.session import (
    IDLE_CAPACITY,
    STALL_TIMEOUT,
    Figures,
    Ledger,
    RequestFailed,
    Session,
    check_box,
    reason_of,
    weight,
)
from pynetwork.transport import Deadline, Stream, TcpStream, address_name, tune

if TYPE_CHECKING:
    from pynetwork.series.store import SeriesStore
    from pynetwork.tls import GatewayTLS

__all__ = ["Attendant"]

logger = logging.getLogger("pynetwork.series")

LINGER = 0.1
"""Seconds that a connection stays with its thread after a request."""
HANDSHAKE_TIMEOUT = 5.0
"""Seconds that a TLS handshake may take."""
_ACCEPTS_AT_ONCE = 64
_PAUSE = 0.2
_LOOK = 1.0
_GRACE = 0.5
_NO_TIMES = put_answer(Status.OK, -1, -1)

Work = Callable[[Session], bool]
"""What a thread does for a connection; answers whether that goes on."""


class _Caller:
    """A connection, and what has come of its request."""

    __slots__ = ("blocks", "figures", "heard_at", "peer", "reader", "resting", "size", "sock", "stream", "with_acq")

    def __init__(self, sock: socket.socket, figures: Figures) -> None:
        self.sock = sock
        self.peer = address_name(sock)
        self.figures = figures
        self.reader = RequestReader(IDLE_CAPACITY)
        self.blocks: list[Block] = []
        self.size = 0
        self.with_acq = False
        self.heard_at = 0.0
        self.stream: Stream | None = None
        self.resting = False

    def rest(self, resting: bool) -> None:
        """It begins or ends to wait for a next request, with a thread."""
        self.resting = resting


class Attendant(HoldsSockets):
    """Serves the connections of one server.

    A connection beyond ``max_connections`` is answered with a failure.
    """

    def __init__(
        self,
        listeners: list[socket.socket],
        store: SeriesStore,
        budget: Budget,
        ledger: Ledger,
        *,
        name: str,
        tls: GatewayTLS | None,
        max_connections: int,
    ) -> None:
        self._listeners = listeners
        self._store = store
        self._budget = budget
        self._ledger = ledger
        self._name = name
        self._tls = tls
        self._most = max_connections
        self._small = budget.small
        self._lock = threading.Lock()
        self._callers: set[_Caller] = set()
        self._threads: dict[_Caller, threading.Thread] = {}
        self._returned: list[_Caller] = []
        # Of the attendant's own thread: puts that are complete, and callers in the middle of a request.
        self._puts: list[_Caller] = []
        self._partial: set[_Caller] = set()
        self._look_at = 0.0
        self._full = False
        self._paused = False
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = socket.socketpair()
        self._stopping = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"{name} attendant", daemon=True)

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._callers)

    def start(self) -> None:
        """Begin to accept."""
        for listener in self._listeners:
            self._selector.register(listener, selectors.EVENT_READ)
        self._wake_out.setblocking(False)
        self._selector.register(self._wake_out, selectors.EVENT_READ)
        self.watch_forks()
        self._thread.start()

    def stop(self, drain: float) -> bool:
        """Accept nobody more and end every connection, those in the middle of a request after ``drain`` seconds.

        Answers False when it was stopped before.
        """
        if self._stopping:
            return False
        self._stopping = True
        self._wake()
        self._thread.join()
        deadline = Deadline(drain)
        while (left := self._at_work()) and not deadline.passed:
            self._end([caller for caller in left if caller.resting])
            next(iter(left.values())).join(0.01)
        left = self._at_work()
        self._end(left)
        grace = Deadline(_GRACE)
        for thread in left.values():
            thread.join(grace.remaining())
        self._wake_in.close()
        return True

    def _at_work(self) -> dict[_Caller, threading.Thread]:
        with self._lock:
            return dict(self._threads)

    @staticmethod
    def _end(callers: Iterable[_Caller]) -> None:
        for caller in callers:
            if caller.stream is not None:
                caller.stream.shutdown()
            else:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(caller.sock, socket.SHUT_RDWR)

    def let_go(self) -> None:
        """Close listeners and connections in a forked child, where nobody attends to them."""
        for sock in (*self._listeners, *(caller.sock for caller in self._callers)):
            sock.close()
        for each in (self._selector, self._wake_in, self._wake_out):
            each.close()

    # Its thread

    def _run(self) -> None:
        try:
            while not self._stopping:
                for key, _ in self._selector.select(self._patience()):
                    if type(key.data) is _Caller:
                        self._hear(key.data)
                    elif key.fileobj is self._wake_out:
                        self._wake_out.recv(4096)
                    else:
                        self._accept(key.fileobj)  # type: ignore[arg-type]
                while self._puts:
                    self._commit()
                if self._returned:
                    self._take_back()
                self._look_after()
        finally:
            self._close_all()

    def _patience(self) -> float | None:
        if self._paused:
            return _PAUSE
        return _LOOK if self._partial else None

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # it has ended already
            self._wake_in.send(b"x")

    def _hear(self, caller: _Caller) -> None:
        try:
            count = caller.sock.recv_into(caller.reader.buffer())
        except BlockingIOError:
            return
        except OSError as error:
            self._dismiss(caller, f"the connection broke: {error.strerror}")
            return
        if not count:
            self._dismiss(caller, "it ended the connection")
            return
        caller.reader.received(count)
        self._read(caller)

    def _read(self, caller: _Caller) -> None:
        """Take in what has come of requests, up to the end of a put or to what takes long."""
        reader = caller.reader
        try:
            while (event := reader.next_event()) is not None:
                if type(event) is PutRecords:
                    caller.blocks.append(event.block)
                    caller.size += weight(event.block)
                elif type(event) is PutEnd:
                    self._partial.discard(caller)
                    self._puts.append(caller)
                    return
                elif type(event) is PutBegin:
                    caller.with_acq = event.with_acq
                elif type(event) is GetAcq:
                    check_box(event.box, may_be_empty=True)
                    caller.figures.requests += 1
                    if not self._reply(caller, acq_answer(Status.OK, self._store.horizon(event.box.max.acq))):
                        return
                else:
                    self._move(caller, event)
                    return
        except (RemoteProtocolError, RequestFailed) as error:
            self._fail(caller, str(error))
        except Exception as error:
            self._fail(caller, reason_of(error))
        else:
            self._leave_for_more(caller)

    def _leave_for_more(self, caller: _Caller) -> None:
        """Everything that came is read; more is needed, unless it was whole requests."""
        if not caller.reader.mid_request:
            self._partial.discard(caller)
        elif caller.size > self._small or caller.reader.wanted > IDLE_CAPACITY:
            self._move(caller, PutBegin(caller.with_acq))
        else:
            caller.heard_at = time.monotonic()
            self._partial.add(caller)

    def _commit(self) -> None:
        """Make all puts durable that are complete, and answer them."""
        callers, self._puts = self._puts, []
        outcomes: list[Any]
        try:
            outcomes = self._store.put_group([(joined(caller.blocks), caller.with_acq) for caller in callers])
        except Exception as error:
            outcomes = [error] * len(callers)
        for caller, outcome in zip(callers, outcomes, strict=True):
            count = sum(map(len, caller.blocks))
            caller.blocks.clear()
            caller.size = 0
            if isinstance(outcome, Exception):
                self._fail(caller, reason_of(outcome))
                continue
            caller.figures.requests += 1
            caller.figures.records_put += count
            answer = _NO_TIMES if caller.with_acq else put_answer(Status.OK, outcome[0], outcome[1])
            if self._reply(caller, answer) and caller.reader.mid_request:
                # It sent its next request before it had this answer.
                self._read(caller)

    def _reply(self, caller: _Caller, answer: bytes) -> bool:
        """Send it; False when the caller is not with this thread any more."""
        try:
            sent = caller.sock.send(answer)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._dismiss(caller, f"the connection broke: {error.strerror}")
            return False
        if sent == len(answer):
            return True
        self._move(caller, None, answer[sent:])
        return False

    def _look_after(self) -> None:
        """Drop who stands still in the middle of a request; accept again after a pause."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + (_PAUSE if self._paused else _LOOK)
        for caller in [each for each in self._partial if each.heard_at < now - STALL_TIMEOUT]:
            self._fail(caller, f"it stopped in the middle for {STALL_TIMEOUT:g} s")
        if self._paused:
            self._paused = False
            for listener in self._listeners:
                self._selector.register(listener, selectors.EVENT_READ)

    # Coming and going

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            try:
                sock, _address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            sock.setblocking(False)
            if len(self._callers) >= self._most:
                self._turn_away(sock)
            else:
                self._admit(sock)

    def _pause(self, error: OSError) -> None:
        """No connection can be accepted: out of descriptors, most likely. Those that there are go on meanwhile."""
        logger.error("a connection can't be accepted: %s", error.strerror)
        self._paused = True
        self._look_at = time.monotonic() + _PAUSE
        for listener in self._listeners:
            self._selector.unregister(listener)

    def _turn_away(self, sock: socket.socket) -> None:
        if not self._full:
            logger.warning("all %d connections are taken; raise max_connections= to serve more", self._most)
        self._full = True
        with contextlib.suppress(OSError):
            if self._tls is None:
                sock.send(failure())
        sock.close()

    def _admit(self, sock: socket.socket) -> None:
        self._full = False
        tune(sock)
        caller = _Caller(sock, self._ledger.open())
        with self._lock:
            self._callers.add(caller)
        if self._tls is None:
            self._selector.register(sock, selectors.EVENT_READ, caller)
        else:
            self._begin(caller, lambda session: session.serve())

    def _dismiss(self, caller: _Caller, reason: str) -> None:
        """End a connection that is with this thread."""
        log = logger.warning if caller.reader.mid_request else logger.debug
        log("%s: closed: %s", caller.peer, reason)
        self._selector.unregister(caller.sock)
        self._partial.discard(caller)
        self._forget(caller)

    def _forget(self, caller: _Caller) -> None:
        caller.sock.close()
        self._ledger.close(caller.figures)
        with self._lock:
            self._callers.discard(caller)
            self._threads.pop(caller, None)

    def _close_all(self) -> None:
        for sock in (*self._listeners, self._wake_out):
            sock.close()
        with self._lock:
            self._closed = True
            mine = self._callers - self._threads.keys()
        for caller in mine:
            self._forget(caller)
        self._selector.close()

    # Threads of their own

    def _fail(self, caller: _Caller, reason: str) -> None:
        def work(session: Session) -> bool:
            session.fail(reason)
            return False

        self._leave_selector(caller)
        self._begin(caller, work)

    def _move(self, caller: _Caller, first: Request | None, owed: bytes = b"") -> None:
        """Let a thread go on with what has begun, and come back when the caller has been idle."""
        blocks, caller.blocks, caller.size = caller.blocks, [], 0

        def work(session: Session) -> bool:
            return session.serve(LINGER, first=first, blocks=blocks, owed=owed)

        self._leave_selector(caller)
        self._begin(caller, work)

    def _leave_selector(self, caller: _Caller) -> None:
        self._selector.unregister(caller.sock)
        self._partial.discard(caller)

    def _begin(self, caller: _Caller, work: Work) -> None:
        thread = threading.Thread(
            target=self._work, args=(caller, work), name=f"{self._name} {caller.peer}", daemon=True
        )
        with self._lock:
            self._threads[caller] = thread
        try:
            thread.start()
        except RuntimeError as error:
            # The system gives no further thread; the others go on.
            logger.warning("%s: closed: no thread can be started: %s", caller.peer, error)
            self._forget(caller)

    def _work(self, caller: _Caller, work: Work) -> None:
        """One thread's life."""
        goes_on = False
        try:
            stream = caller.stream = self._stream_of(caller)
            session = Session(
                self._store,
                stream,
                self._budget,
                reader=caller.reader,
                figures=caller.figures,
                on_rest=caller.rest,
            )
            goes_on = work(session)
        except (ConnectionLost, Closed) as error:
            logger.warning("%s", error)
        except PynetworkError as error:
            logger.warning("%s: closed: %s", caller.peer, error)
        except OSError as error:
            logger.warning("%s: closed: the TLS handshake failed: %s", caller.peer, error)
        except Exception:
            logger.exception("%s: closed after an error in the server itself", caller.peer)
        finally:
            if not goes_on or not self._return(caller):
                self._forget(caller)

    def _stream_of(self, caller: _Caller) -> Stream:
        if self._tls is None:
            return TcpStream(caller.sock, caller.peer)
        sock = caller.sock
        sock.settimeout(HANDSHAKE_TIMEOUT)
        secured = caller.sock = self._tls.wrap(sock)
        secured.do_handshake()
        return self._tls.stream(secured, caller.peer)

    def _return(self, caller: _Caller) -> bool:
        """Give an idle connection back to the attendant's own thread; False when that has ended."""
        caller.stream = None
        with self._lock:
            if self._closed:
                return False
            del self._threads[caller]
            self._returned.append(caller)
        self._wake()
        return True

    def _take_back(self) -> None:
        with self._lock:
            returned, self._returned = self._returned, []
        for caller in returned:
            caller.sock.setblocking(False)
            self._selector.register(caller.sock, selectors.EVENT_READ, caller)
