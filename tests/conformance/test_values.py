from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import numpy
import pytest

from handshakes.errors import BadRequest, RemoteFault, ValueNotSupported, ValueTooLarge
from handshakes.messages import Registry
from tests.conformance.drivers import Driver
from tests.serving import PATIENCE

PLAIN = [
    None,
    True,
    -1,
    2**53,
    0.1,
    "",
    "text \N{GRINNING FACE}",
    [],
    {},
    [1, ["two", {"three": None}]],
    {"a": {"b": [1.5, False]}},
]
ARRAYS = [
    numpy.arange(5),
    numpy.zeros((0, 3), numpy.float32),
    numpy.array(7, numpy.int8),
    numpy.arange(24, dtype=numpy.float64).reshape(2, 3, 4),
    numpy.arange(24, dtype=numpy.float64).reshape(2, 3, 4)[:, ::2],
    numpy.asfortranarray(numpy.arange(12, dtype=numpy.int16).reshape(3, 4)),
    numpy.array([1 + 2j, 3 - 4j]),
    numpy.array([True, False, True]),
    numpy.array(["ab", "c"]),
    numpy.array([b"ab", b"c"]),
    numpy.arange(4, dtype=">i4"),
    numpy.array(["2024-01-01", "2024-06-30"], "datetime64[D]"),
    numpy.array([(1, 2.5), (3, 4.5)], [("count", "<i4"), ("mean", "<f8")]),
    numpy.random.default_rng(7).random((200, 300)),
]


def echo(value: Any) -> Any:
    return value


def repeat(value: Any, times: int) -> Iterator[Any]:
    for number in range(times):
        yield number, value


@dataclasses.dataclass
class Point:
    x: int
    y: Any = None


def same(one: Any, other: Any) -> bool:
    """Equal, and of one kind: 1 is not True, and an array is not a list."""
    if isinstance(one, numpy.ndarray):
        return isinstance(other, numpy.ndarray) and one.dtype == other.dtype and numpy.array_equal(one, other)
    if isinstance(one, (bytes, bytearray, memoryview)):
        return isinstance(other, (bytes, bytearray, memoryview)) and bytes(one) == bytes(other)
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    return bool(one == other)


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    made.register(Point)
    return made


def test_calls_bring_every_value_back_as_it_was(driver: Driver, registry: Registry) -> None:
    values = [
        *PLAIN,
        b"",
        b"bytes",
        bytearray(b"array"),
        *ARRAYS,
        {"nested": [b"raw", ARRAYS[3], {"deep": ARRAYS[-1]}]},
    ]
    with (
        driver.serving(echo, registry=registry) as gateway,
        driver.controller(gateway, registry=registry).get_client() as client,
    ):
        for value in values:
            assert same(value, client.call("echo", value)), value
        for value in (Point(1, "two"), Point(3, ARRAYS[4]), [Point(1), {"p": Point(2, b"raw")}]):
            assert repr(client.call("echo", value)) == repr(value)


@pytest.mark.parametrize("times", [1, 50])
def test_streams_bring_every_value(driver: Driver, registry: Registry, times: int) -> None:
    values = [*PLAIN[1:], b"", b"bytes", *ARRAYS, {"nested": [b"raw", ARRAYS[3]]}, Point(1, [2, ARRAYS[0]])]
    with (
        driver.serving(repeat, registry=registry) as gateway,
        driver.controller(gateway, registry=registry).get_client() as client,
    ):
        for value in values:
            with client.stream("repeat", value, times) as stream:
                found = [item for frame in stream.frames() for item in zip(frame.idents, frame.payloads, strict=True)]
            assert [ident for ident, _ in found] == list(range(times))
            if isinstance(value, Point):
                assert all(repr(payload) == repr(value) for _, payload in found)
            else:
                assert all(same(value, payload) for _, payload in found), value


def test_items_are_not_overwritten_by_those_after_them(driver: Driver) -> None:
    def rows() -> Iterator[Any]:
        row = numpy.zeros(700)
        for number in range(1000):
            row[:] = number
            yield number, row

    with driver.paired(rows) as (_, client), client.stream("rows") as stream:
        kept = [payload for frame in stream.frames() for payload in frame.payloads]
        assert [(row[0], row[-1]) for row in kept] == [(number, number) for number in range(1000)]


# What can't be sent


def test_what_the_caller_can_not_send(driver: Driver) -> None:
    with driver.serving(echo, limit=1 << 20) as gateway, driver.controller(gateway).get_client() as client:
        with pytest.raises(ValueNotSupported, match="object has no wire form"):
            client.call("echo", object())
        with pytest.raises(ValueTooLarge, match="more than the other side accepts"):
            client.call("echo", b"x" * (2 << 20))
        with pytest.raises(ValueNotSupported):
            client.stream("echo", object())
        assert client.call("echo", 1) == 1


def test_what_the_gateway_can_not_send(driver: Driver) -> None:
    def odd() -> Any:
        return object()

    def odd_item() -> Iterator[Any]:
        yield "fine"
        yield threading.Lock()

    with driver.paired(odd, odd_item, echo) as (_, client):
        with pytest.raises(RemoteFault, match=r"ValueNotSupported: .*object"):
            client.call("odd")
        found = []
        with pytest.raises(RemoteFault, match=r"ValueNotSupported: .*lock"):
            found.extend(item for _, item in client.stream("odd_item"))
        assert found == ["fine"]
        assert client.call("echo", 1) == 1


def test_what_is_too_large_for_the_caller(driver: Driver) -> None:
    def large(size: int) -> bytes:
        return b"x" * size

    def growing() -> Iterator[Any]:
        for size in (10, 40_000, 60_000):
            yield size, b"x" * size

    with driver.serving(large, growing) as gateway, driver.controller(gateway, limit=50_000).get_client() as client:
        with pytest.raises(RemoteFault, match="ValueTooLarge"):
            client.call("large", 60_000)
        assert len(client.call("large", 49_000)) == 49_000
        found = []
        with pytest.raises(RemoteFault, match="ValueTooLarge: item 60000"):
            found.extend(ident for ident, _ in client.stream("growing"))
        assert found == [10, 40_000]
        assert client.ping() > 0


def test_a_class_that_is_registered_on_one_side_only(driver: Driver, registry: Registry) -> None:
    def point() -> Point:
        return Point(1)

    def points() -> Iterator[Any]:
        yield 1, "plain"
        yield 2, Point(2)

    with (
        driver.serving(point, points, echo, registry=registry) as gateway,
        driver.controller(gateway, registry=Registry()).get_client() as client,
    ):
        with pytest.raises(ValueNotSupported, match="'Point' arrived, but no class is registered here"):
            client.call("point")
        with pytest.raises(ValueNotSupported, match="'Point' arrived"):
            list(client.stream("points", timeout=PATIENCE))
        assert client.call("echo", 1) == 1
    with (
        driver.serving(echo, registry=Registry()) as gateway,
        driver.controller(gateway, registry=registry).get_client() as client,
    ):
        with pytest.raises(BadRequest, match="'Point' arrived, but no class is registered here"):
            client.call("echo", Point(1))
        assert client.call("echo", 1) == 1
