from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy
import pytest

from handshakes.errors import Closed, ConfigurationError, ValueNotSupported
from handshakes.messages import register
from pynetwork.series import recording as recording_module
from pynetwork.series.payloads import (
    BytesPayloadType,
    JsonPayloadType,
    NumpyPayloadType,
    PayloadType,
    RegisteredPayloadType,
    StructPayloadType,
)
from pynetwork.series.record import SeriesKey
from pynetwork.series.recording import Captured, Recorder, payload_type_for
from pynetwork.series.timestamps import now_ns
from tests.pynetwork.series.memory_store import MemoryStore
from tests.serving import PATIENCE, Background
from tests.waiting import wait_until

IMU = SeriesKey(1, 2, 3)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def recorder(store: MemoryStore) -> Iterator[Recorder]:
    made = Recorder(store, interval=0.01)  # type: ignore[arg-type]
    yield made
    store.gate.set()
    made.close()


def values(store: MemoryStore, payload: PayloadType[Any]) -> list[Any]:
    return [payload.read(store.rows[key]) for key in sorted(store.rows, key=lambda key: (key[3], key[4]))]


def test_a_generator_gives_what_it_gave_before_and_all_is_stored_when_it_ends(
    recorder: Recorder, store: MemoryStore
) -> None:
    def read(count: int, *, scale: float = 1.0) -> Iterator[Any]:
        """Read it."""
        for number in range(count):
            yield 10 + number, scale * number

    recorded = recorder.recorded(read, IMU)
    before = now_ns()
    assert list(recorded(1000, scale=0.5)) == [(10 + number, number / 2) for number in range(1000)]
    assert values(store, StructPayloadType("<d")) == [number / 2 for number in range(1000)]
    assert {key[:3] for key in store.rows} == {(1, 2, 3)}
    assert all(before <= key[3] <= now_ns() for key in store.rows)
    assert recorded.__doc__ == "Read it."


def test_bare_values_are_numbered_and_an_end_is_not_stored(recorder: Recorder, store: MemoryStore) -> None:
    def read() -> Iterator[Any]:
        yield from (b"a", b"b")
        yield -1, b"end"
        yield b"never"

    assert list(recorder.recorded(read, IMU)()) == [(0, b"a"), (1, b"b")]
    assert values(store, BytesPayloadType()) == [b"a", b"b"]


def test_a_plain_function_and_one_that_returns_an_iterator(recorder: Recorder, store: MemoryStore) -> None:
    assert recorder.recorded(lambda: 7, IMU)() == 7
    assert values(store, StructPayloadType("<d")) == [7.0]
    assert list(recorder.recorded(lambda: iter([8.0]), IMU)()) == [(0, 8.0)]
    assert values(store, StructPayloadType("<d")) == [7.0, 8.0]


def test_a_function_may_know_the_time_of_capture_better(recorder: Recorder, store: MemoryStore) -> None:
    def read() -> Iterator[Any]:
        yield Captured(100, "a")
        yield 5, Captured(200, "b")

    assert list(recorder.recorded(read, IMU)()) == [(0, "a"), (5, "b")]
    assert sorted(key[3] for key in store.rows) == [100, 200]
    assert values(store, JsonPayloadType()) == ["a", "b"]


def test_items_are_stored_in_groups_and_while_the_source_goes_on(recorder: Recorder, store: MemoryStore) -> None:
    go_on = threading.Event()

    def read() -> Iterator[int]:
        yield from range(1000)
        assert go_on.wait(PATIENCE)

    items = recorder.recorded(read, IMU)()
    for _ in range(1000):
        next(items)
    wait_until(lambda: len(store.rows) == 1000)
    assert len(store.groups) < 500
    go_on.set()
    assert list(items) == []


def test_two_sources_share_a_commit(recorder: Recorder, store: MemoryStore) -> None:
    one = recorder.recorded(lambda: iter([1.0, 2.0]), IMU)()
    other = recorder.recorded(lambda: iter([3.0]), SeriesKey(4, 5, 6))()
    store.gate.clear()
    next(one)
    wait_until(lambda: store.asked == 1)
    next(one)
    next(other)
    store.gate.set()
    assert list(one) == list(other) == []
    assert max(store.groups) == 2
    assert {key[:3] for key in store.rows} == {(1, 2, 3), (4, 5, 6)}


@pytest.mark.parametrize(("most", "ahead"), [("_MOST_ITEMS", 80), ("_MOST_BYTES", 10)])
def test_a_source_that_is_ahead_of_the_disk_waits(
    recorder: Recorder, store: MemoryStore, most: str, ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording_module, most, 80)
    came = []

    def read() -> Iterator[bytes]:
        for number in range(500):
            came.append(number)
            yield b"12345678"

    store.gate.clear()
    reading = Background(lambda: list(recorder.recorded(read, IMU)()))
    wait_until(lambda: store.asked)
    wait_until(lambda: len(came) >= ahead)
    assert len(came) == ahead
    assert not reading.done
    store.gate.set()
    assert len(reading.result()) == 500
    assert len(store.rows) == 500


def test_when_the_store_fails_the_source_fails_with_that(recorder: Recorder, store: MemoryStore) -> None:
    closed = []

    def read() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    store.failure = OSError(28, "No space left on device")
    with pytest.raises(OSError, match="No space left"):
        for _ in recorder.recorded(read, IMU)():
            pass
    assert closed
    with pytest.raises(OSError, match="No space left"):
        recorder.recorded(lambda: 1, IMU)()
    store.failure = None
    assert recorder.recorded(lambda: 1, IMU)() == 1


def test_what_came_before_an_error_of_the_source_is_stored(recorder: Recorder, store: MemoryStore) -> None:
    def read() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("the sensor is gone")

    with pytest.raises(LookupError, match="the sensor is gone"):
        list(recorder.recorded(read, IMU)())
    assert values(store, StructPayloadType("<d")) == [1.0, 2.0]


def test_leaving_a_stream_closes_its_source_and_what_came_is_stored(recorder: Recorder, store: MemoryStore) -> None:
    closed = []

    def read() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(True)

    items = recorder.recorded(read, IMU)()
    next(items)
    next(items)
    items.close()
    assert closed
    wait_until(lambda: len(store.rows) == 2)


def test_an_item_that_does_not_fit_fails_and_says_what_to_do(recorder: Recorder, store: MemoryStore) -> None:
    recorded = recorder.recorded(lambda: iter([1.5, "text"]), IMU)
    with pytest.raises(ValueNotSupported, match=r"StructPayloadType.*give payload="):
        list(recorded())
    assert len(store.rows) == 1
    assert list(recorder.recorded(lambda: iter([1.5, "text"]), IMU, JsonPayloadType())()) == [(0, 1.5), (1, "text")]


def test_arrays_are_copied(recorder: Recorder, store: MemoryStore) -> None:
    def read() -> Iterator[Any]:
        buffer = numpy.zeros(3, "<i2")
        for number in range(5):
            buffer[:] = number
            yield buffer

    for _ in recorder.recorded(read, IMU)():
        pass
    payload = NumpyPayloadType(numpy.dtype(("<i2", (3,))))
    assert [each.tolist() for each in values(store, payload)] == [[number] * 3 for number in range(5)]


@register
class Pose:
    def __init__(self, x: float = 0.0) -> None:
        self.x = x


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (b"x", BytesPayloadType),
        (bytearray(b"x"), BytesPayloadType),
        (numpy.arange(4), NumpyPayloadType),
        (numpy.float32(1.5), NumpyPayloadType),
        (True, StructPayloadType),
        (3, StructPayloadType),
        (3.5, StructPayloadType),
        ({"x": 1}, JsonPayloadType),
        ([1, "a"], JsonPayloadType),
        ("text", JsonPayloadType),
        (Pose(2.0), RegisteredPayloadType),
    ],
)
def test_the_first_item_says_how_items_are_stored(value: Any, kind: type) -> None:
    payload = payload_type_for(value)
    assert type(payload) is kind
    assert isinstance(payload.to_bytes(value), bytes)


@pytest.mark.parametrize("series", [7, (1, 2), ("a", 1, 2), (-1, 2, 3), (2**31 - 1, 0, 0)])
def test_a_series_that_can_not_be(recorder: Recorder, series: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"must be a SeriesKey"):
        recorder.recorded(lambda: 1, series)


def test_a_payload_that_can_not_be(recorder: Recorder) -> None:
    with pytest.raises(ConfigurationError, match="must be a PayloadType"):
        recorder.recorded(lambda: 1, IMU, "<d")


# Without a caller


def test_a_recording_goes_on_until_it_is_stopped(recorder: Recorder, store: MemoryStore) -> None:
    def tick() -> Iterator[int]:
        number = 0
        while not recorder._urgent.wait(0.0005):
            yield number
            number += 1

    with recorder.record("tick", tick, IMU) as recording:
        wait_until(lambda: len(store.rows) > 10)
        assert recording.running
        assert recording.stop(PATIENCE)
    assert recording.error is None
    assert recording.count == len(store.rows)


def test_a_recording_of_an_iterable_ends_by_itself(recorder: Recorder, store: MemoryStore) -> None:
    recording = recorder.record("some", [1.0, 2.0, 3.0], IMU)
    assert recording.wait(PATIENCE)
    assert (recording.count, len(store.rows), recording.error) == (3, 3, None)


def failing() -> Iterable[int]:
    yield 1
    raise LookupError("the sensor is gone")


def test_what_ends_a_recording_is_kept_and_logged(
    recorder: Recorder, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    recording = recorder.record("failing", failing, IMU)
    assert recording.wait(PATIENCE)
    assert isinstance(recording.error, LookupError)
    assert len(store.rows) == 1
    assert "the recording of 'failing' has ended" in caplog.text


def test_closing_stores_what_is_there_and_ends_recordings(store: MemoryStore) -> None:
    recorder = Recorder(store, interval=1000)  # type: ignore[arg-type]
    items = recorder.recorded(lambda: iter(range(10)), IMU)()
    assert next(items) == (0, 0)
    assert next(items) == (1, 1)
    recorder.close()
    recorder.close()
    assert len(store.rows) == 2
    with pytest.raises(Closed):
        list(items)
    with pytest.raises(Closed):
        recorder.recorded(lambda: 1, IMU)()
    with pytest.raises(Closed):
        recorder.record("late", [1], IMU)
