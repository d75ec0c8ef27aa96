"""Which faults there are, what is promised of every operation under each, and trying one case of it."""

from __future__ import annotations

import contextlib
import enum
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from handshakes.errors import (
    Closed,
    ConnectionLost,
    DeadlineExceeded,
    ItemFailed,
    PynetworkError,
    Refused,
    RemoteFault,
    RemoteProtocolError,
)
from pynetwork.tls import TLS
from tests.faults.drivers import Caller, Dialling, Driver
from tests.faults.operations import Operation, Scene, intact
from tests.serving import KEY, PATIENCE, Background
from tests.waiting import wait_until
from tools.proxy import DOWN, UP, Direction, Fault, Kind, Proxy, Weather

__all__ = ["GRACE", "TROUBLES", "Outcome", "Trouble", "extent", "promise", "tried"]

GRACE = 0.25
"""Seconds after which silence is believed in these tests."""


class Outcome(enum.Enum):
    """What an operation can come to."""

    RIGHT = "the right result"
    WRONG = "a result that is not the right one"
    LOST = "`ConnectionLost`"
    LATE = "`DeadlineExceeded`"
    BROKEN = "`RemoteProtocolError`"
    REFUSED = "`Refused`"
    FAULT = "`RemoteFault`"
    CLOSED = "`Closed`"


RIGHT, LOST, LATE, BROKEN = Outcome.RIGHT, Outcome.LOST, Outcome.LATE, Outcome.BROKEN
REFUSED, CLOSED = Outcome.REFUSED, Outcome.CLOSED


@dataclass(frozen=True)
class Promise:
    """What a case may come to; ``word`` says it in the table. ``waits``: it has no deadline of its own, and ends when
    it is closed.
    """

    word: str
    outcomes: frozenset[Outcome]
    waits: bool = False


@dataclass(frozen=True)
class Trouble:
    """A fault of the network: ``text`` says what it is; ``kind`` befalls a connection at each of the places ``at``, as
    parts of all bytes that an operation takes in a direction.
    """

    name: str
    text: str
    weather: Weather | None = None
    kind: Kind | None = None
    at: tuple[float, ...] = ()
    seconds: float | None = None
    encrypted: bool = False
    timeout: float = PATIENCE

    def faults(self, extents: dict[Direction, int]) -> Iterator[Fault | None]:
        """One for every case."""
        if self.kind is None:
            yield None
            return
        for direction, (number, part) in itertools.product((UP, DOWN), enumerate(self.at)):
            place = int(part * extents[direction])
            yield Fault(self.kind, direction, place, bit=(3 * number + 1) % 8, seconds=self.seconds)


BEGINNING_MIDDLE_END = (0.0, 0.5, 0.9)
MANY_PLACES = (0.0, 0.02, 0.3, 0.6, 0.95)

TROUBLES = [
    Trouble("latency", "every byte takes 10 ms longer", Weather(latency=0.01)),
    Trouble("low rate", "400 kB a second pass", Weather(rate=400_000)),
    Trouble("single bytes", "every byte is sent by itself", Weather(piece=1)),
    Trouble("stall", "nothing passes for a moment", kind=Kind.STALL, at=BEGINNING_MIDDLE_END, seconds=0.05),
    Trouble("reset", "the connection breaks", kind=Kind.RESET, at=BEGINNING_MIDDLE_END),
    Trouble("end", "both sides see an orderly end (FIN)", kind=Kind.END, at=BEGINNING_MIDDLE_END),
    Trouble(
        "half-close", "one direction ends in order, the other goes on", kind=Kind.HALF_CLOSE, at=BEGINNING_MIDDLE_END
    ),
    Trouble("silence", "nothing passes any more, and nobody is told", kind=Kind.STALL, at=(0.0, 0.5), timeout=GRACE),
    Trouble("flipped bit", "one bit arrives changed", kind=Kind.FLIP, at=MANY_PLACES, timeout=GRACE),
    Trouble("flipped bit, TLS", "the same, with `tls=`", kind=Kind.FLIP, at=MANY_PLACES, encrypted=True, timeout=GRACE),
]


def promise(trouble: Trouble, operation: Operation) -> Promise:
    """What is promised of an operation in this trouble."""
    alone = operation.lanes == 1
    waits = not alone and "stream" in operation.name
    if trouble.kind is Kind.FLIP and not (trouble.encrypted or operation.keyed):
        word = "whole files" if operation.moves_files else "any"
        return Promise(word, frozenset(Outcome) - {CLOSED}, waits)
    if trouble.kind is Kind.FLIP:
        # A bit that nobody has a use for changes nothing.
        return Promise("noticed", frozenset([RIGHT, LOST, LATE, BROKEN, REFUSED]), waits)
    if trouble.kind is None or trouble.seconds is not None:
        return Promise("right", frozenset([RIGHT]))
    if trouble.kind is not Kind.STALL:
        if alone:
            return Promise("lost", frozenset([LOST]))
        return Promise("again" if operation.repeats else "right", frozenset([RIGHT]))
    if waits:
        return Promise("waits", frozenset([RIGHT]), waits)
    if operation.moves_files:
        return Promise("right or late", frozenset([RIGHT, LATE]))
    return Promise("late", frozenset([LATE]))


def extent(driver: Driver, operation: Operation, where: Scene, tls: TLS | None = None) -> dict[Direction, int]:
    """The bytes that an operation takes each way when all is well."""
    with Proxy(where.gateway.port) as proxy:
        attempt = _Attempt(driver, operation, where, proxy, Trouble("none", ""), tls)
        assert attempt.outcome(None) is RIGHT
        attempt.close()
        return attempt.taken


def tried(
    driver: Driver, operation: Operation, trouble: Trouble, fault: Fault | None, where: Scene, tls: TLS | None = None
) -> tuple[Outcome, bool]:
    """Try one case; answers what came of it, and whether the fault happened. Raises what no operation may raise."""
    promised = promise(trouble, operation)
    with Proxy(where.gateway.port, trouble.weather) as proxy:
        attempt = _Attempt(driver, operation, where, proxy, trouble, tls)
        try:
            found = attempt.outcome(fault, closing_it=promised.waits)
        finally:
            happened = proxy.happened
            proxy.cut()
            attempt.close()
    if operation.moves_files:
        assert intact(where.target), "a file that is not whole has its final name"
        assert intact(where.arrived), "a file that is not whole has its final name, on the gateway"
    return found, happened


class _Attempt:
    """An operation that is tried once, on a thread of its own."""

    def __init__(
        self, driver: Driver, operation: Operation, where: Scene, proxy: Proxy, trouble: Trouble, tls: TLS | None
    ) -> None:
        key = KEY if operation.keyed else None
        self.taken: dict[Direction, int] = {}
        self._how = Dialling(proxy.port, operation.lanes, trouble.timeout, key, tls)
        self._driver, self._operation, self._where, self._proxy = driver, operation, where, proxy
        self._caller: Caller | None = None

    def outcome(self, fault: Fault | None, *, closing_it: bool = False) -> Outcome:
        """Do it, and judge what came of it."""
        running = Background(self._run, fault)
        if closing_it:
            # It may wait for good; whoever loses patience closes it.
            wait_until(lambda: running.done or self._proxy.happened, PATIENCE)
            running.thread.join(2 * GRACE)
            if not running.done:
                self.close()
                _ended(running)
                return RIGHT
        return _judged(running.result, lambda found: self._operation.right(found, self._where))

    def _run(self, fault: Fault | None) -> Any:
        if self._operation.dials:
            self._proxy.inject(fault)
        self._caller = self._driver.dial(self._how)
        if not self._operation.dials:
            self._proxy.inject(fault)
        found = self._operation.run(self._caller, self._where)
        self.taken = {direction: self._proxy.count(direction) for direction in Direction}
        return found

    def close(self) -> None:
        if self._caller is not None:
            self._caller.close()


def _ended(running: Background) -> None:
    """Closing it ends it, and says so."""
    with contextlib.suppress(Closed, ConnectionLost):
        running.result()
        raise AssertionError("an operation that was closed answered as if nothing had been")


def _judged(result: Callable[[], Any], right: Callable[[Any], bool]) -> Outcome:
    try:
        return RIGHT if right(result()) else Outcome.WRONG
    except PynetworkError as error:
        reason: BaseException | None = error
        while isinstance(reason, ItemFailed):
            reason = reason.__cause__
        for kind, outcome in _ERRORS:
            if isinstance(reason, kind):
                return outcome
        raise


_ERRORS: Sequence[tuple[type[PynetworkError], Outcome]] = [
    (ConnectionLost, LOST),
    (DeadlineExceeded, LATE),
    (RemoteProtocolError, BROKEN),
    (Refused, REFUSED),
    (RemoteFault, Outcome.FAULT),
    (Closed, CLOSED),
]


def fresh(where: Scene, number: int) -> Scene:
    """The same gateway, with places for files of its own."""
    return replace(where, target=where.target / str(number), dirname=f"case{number}")
