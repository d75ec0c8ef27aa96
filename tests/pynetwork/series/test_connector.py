from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from handshakes.errors import ConfigurationError, PynetworkError, ValueNotSupported
from handshakes.records import Key
from pynetwork.series.channel import Channel
from pynetwork.series.connector import Connector
from pynetwork.series.payloads import JsonPayloadType
from tests.pynetwork.series.memory_store import MemoryStore
from tests.pynetwork.series.served import serving


class Event(NamedTuple):
    number: int
    body: object


def key(event: Event) -> Key:
    return Key(1, 2, 3, 1000 * event.number, event.number)


def body(event: Event) -> object:
    return event.body


def events(first: int, last: int) -> Iterator[Event]:
    return (Event(number, {"n": number}) for number in range(first, last))


def numbers(store: MemoryStore) -> list[int]:
    return [JsonPayloadType().read(store.rows[each])["n"] for each in sorted(store.rows)]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def connector_of(store: MemoryStore, **options: float) -> Connector[Event]:
    return Connector(store, key, JsonPayloadType(), value=body, clock=lambda: 0.0, **options)  # type: ignore[arg-type]


def test_every_event_is_there_once_however_often_it_comes(store: MemoryStore) -> None:
    assert connector_of(store, group=7).follow(events(0, 100)) == 100
    assert connector_of(store, group=10).follow(events(40, 150)) == 110
    assert numbers(store) == list(range(150))
    assert sorted(store.rows) == [(1, 2, 3, 1000 * number, number) for number in range(150)]


def test_they_are_put_in_groups_and_what_is_durable_is_told(store: MemoryStore) -> None:
    told: list[tuple[int, int]] = []
    connector = connector_of(store, group=4)
    connector.follow(events(0, 10), done=lambda event: told.append((event.number, len(store.rows))))
    assert told == [(3, 4), (7, 8), (9, 10)]


def test_a_source_that_waits_lets_what_came_be_put(store: MemoryStore) -> None:
    seen = []

    def source() -> Iterator[Event | None]:
        yield None
        yield from events(0, 3)
        yield None
        seen.append(len(store.rows))
        yield from events(3, 4)

    assert connector_of(store).follow(source()) == 4
    assert seen == [3]
    assert len(store.rows) == 4


def test_what_came_long_ago_is_put_with_the_next(store: MemoryStore) -> None:
    now = [0.0]
    connector = Connector(store, key, JsonPayloadType(), value=body, interval=5.0, clock=lambda: now[0])
    connector.put(Event(1, 1))
    now[0] = 4.9
    connector.put(Event(2, 2))
    assert not store.rows
    now[0] = 5.0
    connector.put(Event(3, 3))
    assert len(store.rows) == 3
    connector.put(Event(4, 4))
    connector.flush()
    connector.flush()
    assert (len(store.rows), len(store.groups)) == (4, 2)


def test_what_came_before_an_error_of_the_source_is_put(store: MemoryStore) -> None:
    def source() -> Iterator[Event]:
        yield from events(0, 3)
        raise LookupError("the log is gone")

    with pytest.raises(LookupError, match="the log is gone"):
        connector_of(store).follow(source())
    assert len(store.rows) == 3


def test_when_the_store_fails_nothing_is_forgotten(store: MemoryStore) -> None:
    connector = connector_of(store)
    connector.put(Event(1, 1))
    store.failure = OSError(28, "No space left on device")
    with pytest.raises(OSError, match="No space left"):
        connector.flush()
    store.failure = None
    connector.flush()
    assert len(store.rows) == 1


def test_by_a_channel(store: MemoryStore) -> None:
    with serving(store) as (server, _):
        with Channel("127.0.0.1", server.port) as channel:
            connector = Connector(channel, key, JsonPayloadType(), value=body)
            assert connector.follow(events(0, 50)) == 50
            assert connector.follow(events(25, 60)) == 35
        assert numbers(store) == list(range(60))
        with pytest.raises(PynetworkError, match="not connected"):
            connector.follow(events(60, 61))


def test_a_value_that_does_not_fit_is_told(store: MemoryStore) -> None:
    connector = connector_of(store)
    connector.put(Event(1, object()))
    with pytest.raises(ValueNotSupported, match="does not fit"):
        connector.flush()


def test_a_group_of_nothing() -> None:
    with pytest.raises(ConfigurationError, match="group=0"):
        connector_of(MemoryStore(), group=0)
