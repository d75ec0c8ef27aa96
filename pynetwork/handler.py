"""Handlers: the threads of a gateway that each serve one pair, one operation at a time, and their bounded pool."""

from __future__ import annotations

import itertools
import logging
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from handshakes.connection import Connection
from handshakes.errors import (
    BadRequest,
    Closed,
    ConnectionLost,
    Forbidden,
    NotFound,
    OperationAborted,
    PoolFull,
    ProtocolError,
    PynetworkError,
    Refused,
    RemoteProtocolError,
    ValueNotSupported,
    ValueTooLarge,
)
from handshakes.messages import Abort, Bytes, Credit, Goodbye, Message, Open, Rights
from pynetwork.link import Link
from pynetwork.service import ServedOperation, SubroutineFailed, Verb
from pynetwork.transport import Deadline, Stream

__all__ = ["Counters", "Handler", "Pool"]

logger = logging.getLogger("pynetwork.gateway")

_SINGLE_RIGHTS = [each for each in Rights.__members__.values() if each.value.bit_count() == 1]


@dataclass
class Counters:
    """What handlers have done: connections and operations served, operations that failed, bytes of the wire."""

    connections: int = 0
    operations: int = 0
    errors: int = 0
    received: int = 0
    sent: int = 0

    def add(self, other: Counters) -> None:
        """Add another's figures to these."""
        self.connections += other.connections
        self.operations += other.operations
        self.errors += other.errors
        self.received += other.received
        self.sent += other.sent


class Handler:
    """Serves one pair on a thread of its own until it ends."""

    def __init__(
        self,
        link: Link,
        verbs: Mapping[str, Verb],
        name: str,
        done: Callable[[Handler], None],
        has_company: Callable[[Handler], bool] = lambda _handler: False,
    ) -> None:
        self.link = link
        self.running: str | None = None
        self._verbs = verbs
        self._done = done
        self._operation = ServedOperation(link, lambda: has_company(self))
        self._granted: dict[str, Callable[..., object]] = {}
        self._operations = 0
        self._errors = 0
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def counters(self) -> Counters:
        """This pair's figures so far."""
        stream = self.link.stream
        return Counters(1, self._operations, self._errors, stream.received, stream.sent)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is lost when its pair is ended now."""
        return self.running is None or self._operation.resting

    @property
    def is_live(self) -> bool:
        """Whether it runs an operation that is not about bulk data."""
        running = self.running
        verb = self._verbs.get(running) if running is not None else None
        return verb is not None and not verb.bulk

    def describe(self) -> dict[str, object]:
        """Peer, current operation and figures, for people."""
        counters = self.counters
        return {
            "peer": self.link.peer,
            "agent": self.link.connection.peer_agent,
            "running": self.running,
            "operations": counters.operations,
            "errors": counters.errors,
            "received": counters.received,
            "sent": counters.sent,
        }

    def _run(self) -> None:
        try:
            self._serve()
        except (ConnectionLost, Closed) as error:
            log = logger.info if self.running is None else logger.warning
            log("%s", error)
        except ProtocolError as error:
            logger.warning("%s: closed, as it broke the protocol: %s", self.link.peer, error)
            self.link.break_off(error)
        except Exception:
            logger.exception("%s: closed after an error in the gateway itself", self.link.peer)
        finally:
            self._done(self)
            self.link.stream.close()

    def _serve(self) -> None:
        while True:
            event = self.link.next_event()
            if type(event) is Open:
                verb = self._verbs.get(event.verb)
                if verb is None or not verb.takes_over:
                    self._operate(event)
                elif self._hand_over(event):
                    return
            elif type(event) is Goodbye:
                return
            elif type(event) not in (Credit, Message, Abort):
                raise RemoteProtocolError(f"{type(event).__name__} is no way to begin")

    def _operate(self, event: Open) -> None:
        self.running = event.verb
        self._operations += 1
        connection = self.link.connection
        try:
            buffers = connection.result(self._answer(event))
        except (OperationAborted, SubroutineFailed, Refused, ValueNotSupported, ValueTooLarge) as error:
            buffers = self._fault(error, event)
        except PynetworkError:
            raise
        except Exception as error:
            buffers = self._fault(error, event)
        self.link.send(buffers)
        self.running = None

    def _hand_over(self, event: Open) -> bool:
        """Give the pair's stream to a verb that takes it over, until it has done; False when the caller is refused."""
        connection = self.link.connection
        self.running = event.verb
        self._operations += 1
        try:
            if event.problem is not None or event.parameters or connection.mid_frame:
                raise BadRequest(f"{event.verb!r} takes no parameters, and nothing before its answer")
            function = self._granted.get(event.verb) or self._grant(event.verb)
        except Refused as error:
            self.link.send(self._fault(error, event))
            self.running = None
            return False
        self.link.send(connection.message(0, b"", ()))
        function(self._operation)
        return True

    def _answer(self, event: Open) -> object:
        if event.problem is not None:
            raise BadRequest(str(event.problem))
        function = self._granted.get(event.verb) or self._grant(event.verb)
        try:
            return function(self._operation, *event.parameters)
        except TypeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is None:
                raise BadRequest(f"{event.verb!r} came with parameters that do not fit: {error}") from error
            raise

    def _grant(self, name: str) -> Callable[..., object]:
        """The function behind a verb, if the caller has the right to it; asked once for each verb of a pair."""
        verb = self._verbs.get(name)
        if verb is None:
            raise NotFound(f"this gateway does not know how to {name!r}")
        if verb.right is not None and not verb.right & self.link.connection.rights:
            raise Forbidden(
                f"{name!r} needs the right {_words(verb.right)}, which you were not granted; on the "
                "gateway, rights= grants it to all, key={KEY: RIGHTS} to those who know that key"
            )
        self._granted[name] = verb.function
        return verb.function

    def _fault(self, error: BaseException, event: Open) -> list[Bytes]:
        fault = self.link.connection.fault
        if isinstance(error, OperationAborted):
            return fault(499, "OperationAborted", str(error))
        self._errors += 1
        if isinstance(error, Refused):
            return fault(error.status, type(error).__name__, error.message)
        if isinstance(error, SubroutineFailed) and error.__cause__ is not None:
            error = error.__cause__
        name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
        text, trace = _text(error), _trace(error)
        what = f"{event.verb}({', '.join(map(repr, event.parameters[:1])):.99})"
        logger.warning("%s: %s failed with %s: %s", self.link.peer, what, name, text)
        logger.debug("%s", trace)
        return fault(0, name, text, trace)


def _words(rights: Rights) -> str:
    """The rights of which one is needed, for people."""
    return " or ".join(repr(str(each.name).lower()) for each in _SINGLE_RIGHTS if each & rights)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:
        return f"(its text can't be had: {type(second).__name__})"


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == "pynetwork"


def _trace(error: BaseException) -> str:
    """The traceback without the gateway's own frames at its beginning."""
    trail = error.__traceback__
    while trail is not None and trail.tb_next is not None and _is_ours(trail.tb_frame.f_globals.get("__name__", "")):
        trail = trail.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, trail))
    except Exception as second:
        return f"(no traceback: {type(second).__name__})"


class Pool:
    """At most ``size`` handlers at a time."""

    def __init__(self, size: int, verbs: Mapping[str, Verb], name: str) -> None:
        self.size = size
        self._verbs = verbs
        self._name = name
        self._numbers = itertools.count(1)
        self._handlers: set[Handler] = set()
        self._past = Counters()
        self._changed = threading.Condition()
        self._stopping = False

    def serve(self, stream: Stream, connection: Connection) -> None:
        """Welcome the caller and give it a handler. Raises `PoolFull` when none is free."""
        with self._changed:
            if self._stopping:
                raise PoolFull("this gateway is stopping")
            if len(self._handlers) >= self.size:
                raise PoolFull(
                    f"all {self.size} handlers of this gateway are taken; wait for one (get_client(wait=SECONDS)), "
                    "close a client, or raise max_poolsize on the gateway"
                )
            name = f"{self._name} handler {next(self._numbers)}"
            handler = Handler(Link(stream, connection), self._verbs, name, self._release, self._has_company)
            self._handlers.add(handler)
        try:
            stream.send(connection.welcome(), 5.0)
            handler.thread.start()
        except PynetworkError:
            self._release(handler)
            raise
        except RuntimeError as error:
            # The system gives no further thread; the admission, which is asking, must survive that.
            self._release(handler)
            raise ConnectionLost(f"no handler can be started: {error}") from error

    def _release(self, handler: Handler) -> None:
        with self._changed:
            self._handlers.discard(handler)
            self._past.add(handler.counters)
            self._changed.notify_all()

    def _has_company(self, handler: Handler) -> bool:
        return any(other.is_live for other in self.handlers() if other is not handler)

    def handlers(self) -> list[Handler]:
        """Those at work now."""
        with self._changed:
            return list(self._handlers)

    def counters(self) -> Counters:
        """Figures of all handlers, past and present."""
        with self._changed:
            total = Counters()
            for counters in (self._past, *(handler.counters for handler in self._handlers)):
                total.add(counters)
            return total

    def stop(self, drain: float) -> None:
        """End every pair: idle ones now, running operations when they are done or after ``drain`` seconds."""
        deadline = Deadline(drain)
        with self._changed:
            self._stopping = True
        handlers = self.handlers()
        while (left := self.handlers()) and not deadline.passed:
            for handler in left:
                if handler.is_idle:
                    handler.link.stream.shutdown()
            with self._changed:
                self._changed.wait_for(lambda: not self._handlers, min(0.02, deadline.remaining() or 0))
        for handler in self.handlers():
            handler.link.stream.shutdown()
        # A handler whose subroutine is blocked can't be ended; its thread is a daemon and its connection is gone.
        grace = Deadline(0.5)
        for handler in handlers:
            if handler.thread.is_alive() and handler.thread is not threading.current_thread():
                handler.thread.join(grace.remaining())
