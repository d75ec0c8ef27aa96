"""From sensors to series: what functions yield or return goes into a store on its way to whoever asked for it.

Each item is stored with the time at which it was yielded. A function that knows the time of capture better yields a
`Captured` in place of its value; whoever called it is given the value alone. One thread of the `Recorder` stores what
has gathered from all sources, in one commit, so that a fast sensor is not slowed and a memory card not worn out. What
waits for it is bounded: a source that is ahead of the disk waits. When the store fails, the sources whose items it
refused fail with that error.

Without ``payload=``, the first item of a source says how all of its items are stored:

==================================  ============================================================
the first item                      the payload type
==================================  ============================================================
bytes, bytearray, memoryview        `BytesPayloadType`
an ndarray or a NumPy scalar        `NumpyPayloadType` of that type and shape
a bool                              ``StructPayloadType("<?")``
an int, a float                     ``StructPayloadType("<d")``: an int is stored as a double
an instance of a registered class   `RegisteredPayloadType` of that class
anything else                       `JsonPayloadType`
==================================  ============================================================
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy

from handshakes.errors import Closed, ConfigurationError, PynetworkError, ValueNotSupported
from handshakes.messages import registry
from handshakes.records import KEY, block_of
from pynetwork.outlet import numbered
from pynetwork.series.payloads import (
    BytesPayloadType,
    JsonPayloadType,
    NumpyPayloadType,
    PayloadType,
    RegisteredPayloadType,
    StructPayloadType,
)
from pynetwork.series.record import Moment, SeriesKey, nanoseconds
from pynetwork.series.timestamps import now_ns

if TYPE_CHECKING:
    from pynetwork.series.store import SeriesStore

__all__ = ["Captured", "Recorder", "Recording", "payload_type_for"]

logger = logging.getLogger("pynetwork.series")

_MOST_ITEMS = 65536
_MOST_BYTES = 4 * 1024 * 1024

Function = TypeVar("Function", bound=Callable[..., Any])


class Captured(NamedTuple):
    """A value and when it was captured, for a function that knows it better than the moment at which it yields."""

    cap: Moment
    value: Any


class Recorder:
    """Stores what sources yield into ``store``, in groups, on a thread of its own.

    ``interval``: seconds after which what was yielded is durable at the latest, as long as the disk keeps up.
    """

    def __init__(self, store: SeriesStore, *, interval: float = 0.2) -> None:
        self._store = store
        self._interval = interval
        self._tracks: list[_Track] = []
        self._recordings: list[Recording] = []
        self._lock = threading.Lock()
        self._some = threading.Event()
        self._urgent = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    def recorded(self, function: Function, series: Any, payload: Any = None) -> Function:
        """A function that does as ``function`` does and stores each item in ``series`` besides.

        What a generator yields is stored one by one, what any other function returns as one item. All of it is durable
        before the caller is told that the function has ended. Raises `ConfigurationError` for a series or a payload
        that can't be.
        """
        key = checked_series(series)
        kind = checked_payload(payload)

        @functools.wraps(function)
        def recording(*arguments: Any, **keywords: Any) -> Any:
            result = function(*arguments, **keywords)
            if hasattr(result, "__next__"):
                return self.items(result, key, kind)
            track = self.open(key, kind)
            try:
                result = track.put(result)
                track.finish()
            finally:
                track.leave()
            return result

        return recording  # type: ignore[return-value]

    def items(
        self, source: Iterator[Any], series: SeriesKey, payload: PayloadType[Any] | None
    ) -> Generator[tuple[int, Any], None, None]:
        """The items of ``source`` as ``(ident, value)``, each on its way to the store."""
        track = self.open(series, payload)
        try:
            try:
                for number, item in enumerate(source):
                    ident, value = numbered(item, number)
                    if value is None or ident < 0:
                        # That is how a stream may end.
                        break
                    yield ident, track.put(value)
            except GeneratorExit:
                raise
            except BaseException:
                # What came before the error is durable when it is told; of two errors the first is told.
                with contextlib.suppress(Exception):
                    track.finish()
                raise
            track.finish()
        finally:
            track.leave()
            close_source(source)

    def record(
        self,
        name: str,
        source: Callable[[], Iterable[Any]] | Iterable[Any],
        series: Any,
        payload: Any = None,
    ) -> Recording:
        """Store what ``source`` yields, a generator function without arguments or an iterable, on a thread of its own
        until it ends or is stopped. Nobody needs to call.
        """
        recording = Recording(self, name, source, checked_series(series), checked_payload(payload))
        with self._lock:
            self._check_open()
            self._recordings = [each for each in self._recordings if each.running] + [recording]
        recording.start()
        return recording

    def open(self, series: SeriesKey, payload: PayloadType[Any] | None) -> _Track:
        """A way into the store for one source."""
        track = _Track(self, series, payload)
        with self._lock:
            self._check_open()
            self._tracks.append(track)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="series recorder", daemon=True)
                self._thread.start()
        return track

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("this recorder is closed, as the gateway has stopped")

    def hurry(self, *, now: bool) -> None:
        """Something is there to be stored; ``now``: somebody waits for it."""
        if not self._some.is_set():
            self._some.set()
        if now:
            self._urgent.set()

    def close(self) -> None:
        """Stop all recordings and store what is there. Sources get a `Closed` for what they yield from now on."""
        for recording in self._recordings:
            recording.ask_to_stop()
        for recording in self._recordings:
            recording.wait(0.5)
        with self._lock:
            self._closed = True
            thread = self._thread
        self.hurry(now=True)
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    # Its thread

    def _run(self) -> None:
        while True:
            self._some.wait()
            if not self._closed:
                self._urgent.wait(self._interval)
            closing = self._closed
            # First these, then a look at what is there: what comes later sets them again.
            self._some.clear()
            self._urgent.clear()
            self._store_all()
            if closing:
                self._end()
                return

    def _store_all(self) -> None:
        with self._lock:
            tracks = list(self._tracks)
        waiting = [(track, len(track.payloads)) for track in tracks]
        waiting = [(track, count) for track, count in waiting if count]
        if waiting:
            puts = [(track.first(count), False) for track, count in waiting]
            try:
                outcomes: list[Any] = list(self._store.put_group(puts))
            except Exception as error:
                outcomes = [error] * len(puts)
            for (track, count), outcome in zip(waiting, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    logger.error("%d items for %s are lost: %s", count, track.series, outcome)
                track.stored(count, outcome if isinstance(outcome, Exception) else None)
        with self._lock:
            self._tracks = [track for track in self._tracks if track.payloads or not track.left]

    def _end(self) -> None:
        """Nobody stores anything more: whoever waits learns it."""
        with self._lock:
            tracks, self._tracks = self._tracks, []
        for track in tracks:
            track.stored(len(track.payloads), Closed("this recorder is closed, as the gateway has stopped"))


class _Track:
    """What one source has yielded and is not stored yet.

    One thread appends, the recorder's takes away. An item is there when its payload is, which is appended last.
    """

    def __init__(self, recorder: Recorder, series: SeriesKey, payload: PayloadType[Any] | None) -> None:
        self.series = series
        self.caps: list[int] = []
        self.payloads: list[bytes] = []
        self.left = False
        self._recorder = recorder
        self._payload = payload
        self._plain: tuple[Any, Any] | None = None
        self._came = 0
        self._gone = 0
        self._error: Exception | None = None
        self._changed = threading.Condition()

    def put(self, value: Any) -> Any:
        """Take a value to be stored; answers it as the caller is to have it.

        Raises `ValueNotSupported` when it does not fit the payload type, and what the store raised for those before.
        """
        cap = None
        if type(value) is Captured:
            cap, value = nanoseconds(value.cap), value.value
        payload = self._encoded(value)
        if self._error is not None:
            raise self._error
        self.caps.append(now_ns() if cap is None else cap)
        self.payloads.append(payload)
        self._came += len(payload)
        count, size = len(self.payloads), self._came - self._gone
        self._recorder.hurry(now=count > _MOST_ITEMS // 2 or size > _MOST_BYTES // 2)
        if count >= _MOST_ITEMS or size >= _MOST_BYTES:
            self._wait(lambda: len(self.payloads) < _MOST_ITEMS and self._came - self._gone < _MOST_BYTES)
        return value

    def _encoded(self, value: Any) -> bytes:
        if self._plain is not None and type(value) is numpy.ndarray and (value.dtype, value.shape) == self._plain:
            return value.tobytes()
        if self._payload is None:
            self._payload = payload_type_for(value)
            if type(value) is numpy.ndarray and value.dtype.isnative:
                self._plain = (value.dtype, value.shape)
        try:
            return bytes(self._payload.to_bytes(value))
        except Exception as error:
            raise ValueNotSupported(
                f"an item for {self.series} does not fit {self._payload}, which is how it is stored: {error}; "
                "give payload= for another way"
            ) from error

    def first(self, count: int) -> Any:
        """A block of the first that wait."""
        keys = numpy.zeros(count, KEY)
        keys["cid"], keys["mid"], keys["moid"] = self.series
        keys["cap"] = self.caps[:count]
        return block_of(keys, self.payloads[:count])

    def stored(self, count: int, error: Exception | None) -> None:
        """The first are in the store, or lost."""
        with self._changed:
            self._gone += sum(map(len, self.payloads[:count]))
            del self.payloads[:count]
            del self.caps[:count]
            self._error = self._error or error
            self._changed.notify_all()

    def _wait(self, condition: Callable[[], bool]) -> None:
        self._recorder.hurry(now=True)
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or condition())
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        """Return when everything is durable; raises why something is not."""
        self._wait(lambda: not self.payloads)

    def leave(self) -> None:
        """Nothing more comes; what is there is stored."""
        self.left = True
        self._recorder.hurry(now=False)


class Recording:
    """A source that is recorded without anybody calling it: made by `Recorder.record`.

    ``error`` is what ended it, if something did; ``count`` how many items have come.
    """

    def __init__(
        self,
        recorder: Recorder,
        name: str,
        source: Callable[[], Iterable[Any]] | Iterable[Any],
        series: SeriesKey,
        payload: PayloadType[Any] | None,
    ) -> None:
        self.name = name
        self.series = series
        self.count = 0
        self.error: BaseException | None = None
        self._recorder = recorder
        self._source = source
        self._payload = payload
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"recording {name}", daemon=True)

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _run(self) -> None:
        try:
            source = self._source() if callable(self._source) else self._source
            for _ in self._recorder.items(self._until_stopped(iter(source)), self.series, self._payload):
                self.count += 1
        except BaseException as error:
            self.error = error
            if isinstance(error, PynetworkError):
                logger.warning("the recording of %r has ended: %s", self.name, error)
            else:
                logger.exception("the recording of %r has ended", self.name)

    def _until_stopped(self, source: Iterator[Any]) -> Iterator[Any]:
        try:
            for item in source:
                yield item
                if self._stopping.is_set():
                    return
        finally:
            close_source(source)

    def ask_to_stop(self) -> None:
        """Let it end at its next item."""
        self._stopping.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end; False when it has not come within ``timeout`` seconds."""
        self._thread.join(timeout)
        return not self.running

    def stop(self, timeout: float | None = 1.0) -> bool:
        """End it at its next item, as Python can't interrupt a generator that waits for one; False when that did not
        come within ``timeout`` seconds. What was yielded is stored.
        """
        self.ask_to_stop()
        return self.wait(timeout)

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()


def close_source(source: Iterator[Any]) -> None:
    """Let a generator come to its ``finally``; any other iterator has none."""
    close = getattr(source, "close", None)
    if close is not None:
        close()


def payload_type_for(value: Any) -> PayloadType[Any]:
    """How items like ``value`` are stored when nothing else is said: see this module."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return BytesPayloadType()
    if isinstance(value, (numpy.ndarray, numpy.generic)):
        return NumpyPayloadType(numpy.dtype((value.dtype, value.shape)))
    if isinstance(value, bool):
        return StructPayloadType("<?")
    if isinstance(value, (int, float)):
        return StructPayloadType("<d")
    if registry.take_apart(value) is not None:
        return RegisteredPayloadType(type(value))
    return JsonPayloadType()


def checked_series(series: Any) -> SeriesKey:
    """Raises `ConfigurationError` for what is no series that can be asked for."""
    try:
        key = SeriesKey(*series)
        key.range()
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"series={series!r} must be a SeriesKey(cid, mid, moid): {error}") from error
    return key


def checked_payload(payload: Any) -> PayloadType[Any] | None:
    """Raises `ConfigurationError` for what is no payload type."""
    if payload is not None and not isinstance(payload, PayloadType):
        raise ConfigurationError(f"payload={payload!r} must be a PayloadType, such as StructPayloadType('<d')")
    return payload
