"""From a log of events to series: each event becomes one record, once, however often the log is read.

A log that survives crashes gives its events at least once: after a restart it begins where its reader was last known to
be, and some come again. Here ``key`` derives the full key of a record from its event alone, with a time of acquisition
among it, such as the event's number in the log. So an event that comes again writes the same record in the same place,
and the series is as if each had come once.

::

    def key(event):
        return Key(1, event.stream, 0, from_unix_ns(event.time), event.number)

    connector = Connector(store, key, JsonPayloadType(), value=lambda event: event.body)
    connector.follow(log.read(from_number=position), done=remember_position)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar

from handshakes.errors import ConfigurationError
from handshakes.records import Block, Key
from pynetwork.series.conversions import block_from
from pynetwork.series.payloads import PayloadType
from pynetwork.series.record import Record

__all__ = ["Connector", "Target"]

Event = TypeVar("Event")


class Target(Protocol):
    """Where records go: a `SeriesStore`, or a connected `Channel`."""

    def puta(self, records: Block, /) -> Any:
        """Put records that have their times of acquisition; return when they are durable."""


class Connector(Generic[Event]):
    """Puts a record for each event into ``target``, in groups.

    - ``key``: the full key of an event's record: always the same for the same event, and never for two.
    - ``payload_type`` and ``value``: what of the event is stored, and how; by default the event itself.
    - ``group``: so many events are put at once, at the most.
    - ``interval``: seconds after which events that have come are put, if another one comes or the source says that
      there is none now.

    For one thread at a time.
    """

    def __init__(
        self,
        target: Target,
        key: Callable[[Event], Key],
        payload_type: PayloadType[Any],
        *,
        value: Callable[[Event], Any] = lambda event: event,
        group: int = 1024,
        interval: float = 0.2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if group < 1:
            raise ConfigurationError(f"group={group} would put nothing; it must be at least 1")
        self._target = target
        self._key = key
        self._payload_type = payload_type
        self._value = value
        self._group = group
        self._interval = interval
        self._clock = clock
        self._events: list[Event] = []
        self._records: list[Record[Any]] = []
        self._since = 0.0

    def follow(self, events: Iterable[Event | None], *, done: Callable[[Event], object] | None = None) -> int:
        """Put every event until ``events`` ends; answers how many.

        A source that waits for its next event should give None meanwhile: what has come is put then. ``done`` is called
        after each put with the last event of it: everything up to there is durable, and need not come again. Raises
        what putting raises, and what ``events`` raises after what came before is put.
        """
        count = 0
        try:
            for event in events:
                if event is None:
                    self._flush(done)
                    continue
                count += 1
                if self._take(event):
                    self._flush(done)
        finally:
            self._flush(done)
        return count

    def put(self, event: Event) -> None:
        """Take one event, for logs that call back; it is put with others. `flush` puts it at once."""
        if self._take(event):
            self._flush(None)

    def flush(self) -> None:
        """Put what has come; it is durable then. When this raises, nothing is forgotten: call it again."""
        self._flush(None)

    def _take(self, event: Event) -> bool:
        """Whether it is time to put what has come."""
        record = Record(self._key(event), self._value(event))
        if not self._events:
            self._since = self._clock()
        self._events.append(event)
        self._records.append(record)
        return len(self._events) >= self._group or self._clock() - self._since >= self._interval

    def _flush(self, done: Callable[[Event], object] | None) -> None:
        if not self._events:
            return
        answer = self._target.puta(block_from(self._records, self._payload_type, with_acq=True))
        # A channel answers what a store would raise.
        check = getattr(answer, "raise_for_status", None)
        if check is not None:
            check()
        last = self._events[-1]
        self._events.clear()
        self._records.clear()
        if done is not None:
            done(last)
