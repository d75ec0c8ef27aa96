"""What a generator yields, up to what its caller sees, and when."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import numpy
import pytest

from handshakes.errors import ConnectionLost, OperationAborted, RemoteFault
from handshakes.messages import Items, Result
from pynetwork.client import CREDIT_ITEMS, CREDIT_SIZE
from pynetwork.outlet import Outlet
from pynetwork.service import ServedOperation
from tests.serving import PATIENCE, Background, linked, paired
from tests.waiting import wait_until


def received(source: Any, *arguments: Any) -> list[tuple[int, Any]]:
    """What a caller sees of this generator function."""
    with paired(source) as (_, client):
        return list(client.stream(source.__name__, *arguments, timeout=PATIENCE))


# What arrives


def test_idents_and_payloads() -> None:
    def pairs() -> Iterator[Any]:
        yield 5, b"five"
        yield 3, "three"
        yield 2**62, {"a": [1, None]}

    assert received(pairs) == [(5, b"five"), (3, "three"), (2**62, {"a": [1, None]})]


def test_bare_payloads_are_numbered() -> None:
    def bare() -> Iterator[Any]:
        yield "a"
        yield (1.5, "no ident")
        yield (True, "no ident either")
        yield ("key", "value")
        yield (1, 2, 3)
        yield [7, "a list"]
        yield False
        yield 0
        yield b""

    assert received(bare) == list(
        enumerate(
            [
                "a",
                [1.5, "no ident"],
                [True, "no ident either"],
                ["key", "value"],
                [1, 2, 3],
                [7, "a list"],
                False,
                0,
                b"",
            ]
        )
    )


def test_numpy_integers_are_idents() -> None:
    def numbered() -> Iterator[Any]:
        for kind in (numpy.int8, numpy.uint16, numpy.int64):
            yield kind(7), b"x"
        yield numpy.float64(1), b"y"

    assert received(numbered) == [(7, b"x"), (7, b"x"), (7, b"x"), (3, [1.0, b"y"])]


@pytest.mark.parametrize("end", [(-1, b"never"), (numpy.int64(-3), 1), None, (4, None), (-1, None)])
@pytest.mark.parametrize("count", [0, 3, 5000])
def test_a_stream_ends_by_its_own_word(end: Any, count: int) -> None:
    closed = threading.Event()

    def ending() -> Iterator[Any]:
        try:
            for number in range(count):
                yield number, b"item"
            yield end
            yield 99, b"too late"
        finally:
            closed.set()

    assert received(ending) == [(number, b"item") for number in range(count)]
    assert closed.is_set()


def test_forms_may_change_from_item_to_item() -> None:
    kinds: list[Any] = [
        b"raw",
        {"k": 1},
        [float("nan")],
        "text",
        b"",
        7,
        {"part": b"bytes in a dict"},
        bytearray(b"array"),
    ]

    def mixed() -> Iterator[Any]:
        for number in range(4000):
            yield number, kinds[(number * number) % len(kinds)]

    found = received(mixed)
    assert [ident for ident, _ in found] == list(range(4000))
    for number, value in found:
        wanted = kinds[(number * number) % len(kinds)]
        assert repr(value) == repr(bytes(wanted) if isinstance(wanted, bytearray) else wanted)


def test_arrays_of_changing_shape_and_dtype() -> None:
    def arrays() -> Iterator[Any]:
        for number in range(300):
            yield numpy.full((number % 5, 3), number, ["<i4", "<f8", ">u2"][number // 7 % 3])

    for ident, value in received(arrays):
        assert value.shape == (ident % 5, 3)
        assert value.dtype == numpy.dtype(["<i4", "<f8", ">u2"][ident // 7 % 3])
        assert (value == ident).all()


@pytest.mark.parametrize("elements", [4, 1000, 100_000])
@pytest.mark.parametrize("kind", ["array", "bytearray", "list"])
def test_a_buffer_that_the_generator_fills_again(elements: int, kind: str) -> None:
    count = 2000 if elements < 100 else 60

    def refilling() -> Iterator[Any]:
        if kind == "array":
            memory = numpy.zeros(elements)
            for number in range(count):
                memory[:] = number
                yield number, memory
        elif kind == "bytearray":
            bytes_ = bytearray(elements)
            for number in range(count):
                bytes_[:] = bytes([number % 251]) * elements
                yield number, bytes_
        else:
            values = [0] * min(elements, 1000)
            for number in range(count):
                values[:] = [number] * len(values)
                yield number, values

    seen = 0
    with paired(refilling) as (_, client):
        for ident, value in client.stream("refilling", timeout=PATIENCE):
            wanted = ident % 251 if kind == "bytearray" else ident
            assert value[0] == value[-1] == wanted
            assert len(value) == (min(elements, 1000) if kind == "list" else elements)
            seen += 1
    assert seen == count


@pytest.mark.parametrize("size", [0, 1, 64, 5000, 70_000, 300_000])
def test_many_items_of_one_size_arrive_in_order(size: int) -> None:
    count = 50_000 if size < 100 else 40_000_000 // max(size, 20_000)

    def items() -> Iterator[Any]:
        for number in range(count):
            yield number, b"%08d" % number + b"x" * (size - 8) if size > 8 else b"x" * size

    with paired(items) as (_, client):
        for expected, (ident, value) in enumerate(client.stream("items", timeout=PATIENCE)):
            assert ident == expected
            assert len(value) == size
            assert size <= 8 or int(value[:8]) == ident
    assert expected == count - 1


# When it arrives


def test_a_lone_item_leaves_at_once() -> None:
    go_on = threading.Event()

    def slow() -> Iterator[Any]:
        for number in range(20):
            yield number
            assert go_on.wait(PATIENCE), "the caller never got the item"
            go_on.clear()

    with paired(slow) as (_, client):
        found = []
        for ident, value in client.stream("slow", timeout=PATIENCE):
            found.append((ident, value))
            go_on.set()
    assert found == [(number, number) for number in range(20)]


@pytest.mark.parametrize("payload", [b"x" * 64, {"value": 1.5}, numpy.zeros(16), numpy.zeros(5000), [float("inf")]])
def test_after_a_burst_nothing_waits_for_the_next_item(payload: Any) -> None:
    """The generator goes on only when everything that it yielded has arrived; thrice, as it changes its pace."""
    arrived = threading.Event()
    bursts = (1000, 3, 777)

    def burst() -> Iterator[Any]:
        for count in bursts:
            for _ in range(count):
                yield payload
            assert arrived.wait(PATIENCE), "items are kept back"
            arrived.clear()

    marks = set(itertools.accumulate(bursts))
    with paired(burst) as (_, client):
        for seen, _ in enumerate(client.stream("burst", timeout=PATIENCE), 1):
            if seen in marks:
                arrived.set()
    assert seen == sum(bursts)


def test_a_burst_beyond_the_credit_arrives_though_the_generator_stands_still() -> None:
    """What waits for credit is sent when that comes, by the second thread."""
    release = threading.Event()

    def burst() -> Iterator[Any]:
        for number in range(2000):
            yield number, b"x" * 1000
        release.wait(PATIENCE)

    with linked() as (near, far):
        near.send(near.connection.open("stream", []))
        far.next_event(PATIENCE)
        outlet = Background(Outlet(far).send_all, burst())
        got = 0
        while got < 2000:
            near.send(near.connection.credit(90, 1 << 20))
            credited = 90
            while credited and got < 2000:
                event = near.next_event(PATIENCE)
                assert type(event) is Items
                credited -= len(event.idents)
                got += len(event.idents)
        release.set()
        assert outlet.result() == 2000


def test_fast_items_share_frames() -> None:
    def fast() -> Iterator[Any]:
        for number in range(20_000):
            yield number, b"x"

    with paired(fast) as (_, client), client.stream("fast", timeout=PATIENCE) as stream:
        assert sum(1 for _ in stream.frames()) < 5000


# How much is on its way


@pytest.mark.parametrize(
    ("size", "most"), [(1, CREDIT_ITEMS), (10_000, CREDIT_SIZE // 10_000), (100_000, CREDIT_SIZE // 100_000)]
)
def test_credit_bounds_what_is_produced_ahead(size: int, most: int) -> None:
    produced = itertools.count()
    count = 0
    standing = threading.Event()

    def endless() -> Iterator[Any]:
        nonlocal count
        while True:
            count = next(produced)
            yield b"x" * size

    with paired(endless) as (_, client), client.stream("endless", timeout=PATIENCE) as stream:
        next(stream)
        seen = -1

        def stands_still() -> bool:
            nonlocal seen
            before, seen = seen, count
            return standing.wait(0.1) or before == seen

        wait_until(stands_still, PATIENCE)
        # Beyond the credit: the frame in hand, and the one that was sent on the last of the credit.
        assert count <= most + 2 * (320 * 1024 // size) + 10
        for _ in range(3 * most):
            next(stream)
        assert count >= 3 * most


def test_one_huge_item_passes_any_credit() -> None:
    def huge() -> Iterator[Any]:
        yield b"before"
        yield b"x" * (5 * CREDIT_SIZE)
        yield b"after"

    assert [len(value) for _, value in received(huge)] == [6, 5 * CREDIT_SIZE, 5]


def test_a_small_limit_of_the_caller_bounds_frames() -> None:
    with linked(client_options={"limit": 8192}) as (near, far):
        near.send(near.connection.open("stream", []))
        far.next_event(PATIENCE)
        near.send(near.connection.credit(10_000, 1 << 20))
        sending = Background(Outlet(far).send_all, ((number, b"x" * 500) for number in range(500)))
        got = 0
        while got < 500:
            event = near.next_event(PATIENCE)
            assert type(event) is Items
            got += len(event.idents)
        assert sending.result() == 500


# How it ends


@pytest.mark.parametrize("count", [0, 2, 3000])
def test_what_the_generator_raises_comes_after_its_items(count: int) -> None:
    def failing() -> Iterator[Any]:
        for number in range(count):
            yield number, b"item"
        raise LookupError("no more")

    found = []
    with paired(failing) as (_, client):
        with pytest.raises(RemoteFault) as caught:
            found.extend(client.stream("failing", timeout=PATIENCE))
        assert (caught.value.type_name, caught.value.message) == ("LookupError", "no more")
        assert [ident for ident, _ in found] == list(range(count))
        client.ping()


@pytest.mark.parametrize("bad", [object(), {1, 2}, 2**80, (2**70, b"ident"), numpy.array([object()])])
@pytest.mark.parametrize("count", [0, 3000])
def test_an_item_that_can_not_be_encoded(bad: Any, count: int) -> None:
    closed = threading.Event()

    def failing() -> Iterator[Any]:
        try:
            for number in range(count):
                yield number, b"item"
            yield bad
        finally:
            closed.set()

    found = []
    with paired(failing) as (_, client):
        with pytest.raises(RemoteFault) as caught:
            found.extend(client.stream("failing", timeout=PATIENCE))
        assert caught.value.type_name.endswith("ValueNotSupported")
        assert [ident for ident, _ in found] == list(range(count))
        assert closed.is_set()
        client.ping()


def test_an_item_that_is_larger_than_the_caller_accepts() -> None:
    def growing() -> Iterator[Any]:
        for number in range(1000):
            yield number, b"small"
        yield 1000, b"x" * 100_000

    with linked(client_options={"limit": 65536}) as (near, far):
        near.send(near.connection.open("stream", []))
        far.next_event(PATIENCE)
        near.send(near.connection.credit(10_000, 1 << 20))
        sending = Background(Outlet(far).send_all, growing())
        got = 0
        while got < 1000:
            event = near.next_event(PATIENCE)
            assert type(event) is Items
            got += len(event.idents)
        with pytest.raises(ValueError, match="100000 bytes"):
            sending.result()
        far.send(far.connection.result("over"))
        assert type(near.next_event(PATIENCE)) is Result


@pytest.mark.parametrize("leave", ["abort", "goodbye", "vanish"])
@pytest.mark.parametrize("pace", ["waits for credit", "fast", "lone items"])
def test_the_caller_leaves(leave: str, pace: str) -> None:
    """Whatever the outlet does at that moment, its producer learns of it and no thread stays."""
    step = threading.Event()

    def source() -> Iterator[Any]:
        for number in itertools.count():
            yield number, b"x" * 100
            if pace == "lone items":
                step.wait(PATIENCE)

    with linked() as (near, far):
        near.send(near.connection.open("stream", []))
        far.next_event(PATIENCE)
        near.send(near.connection.credit(500 if pace == "waits for credit" else 65536, 500_000))
        sending = Background(Outlet(far).send_all, source())
        assert type(near.next_event(PATIENCE)) is Items
        if leave == "abort":
            near.send(near.connection.abort())
        elif leave == "goodbye":
            near.send(near.connection.goodbye())
        else:
            near.stream.close()
        step.set()
        with pytest.raises(OperationAborted if leave == "abort" else ConnectionLost):
            sending.result()


def test_a_caller_that_leaves_while_a_fast_generator_stands_still() -> None:
    """The second thread hears it; the producer learns of it at its next item."""
    go_on = threading.Event()

    def source() -> Iterator[Any]:
        for number in range(500):
            yield number, b"x" * 100
        go_on.wait(PATIENCE)
        yield 501, b"more"
        pytest.fail("the outlet went on")

    with linked() as (near, far):
        near.send(near.connection.open("stream", []))
        far.next_event(PATIENCE)
        near.send(near.connection.credit(499, 1 << 24))  # so that something stays pending
        sending = Background(Outlet(far).send_all, source())
        got = 0
        while got < 499:
            event = near.next_event(PATIENCE)
            assert type(event) is Items
            got += len(event.idents)
        near.send(near.connection.abort())
        wait_until(lambda: not far.connection.wants_data, PATIENCE, "the second thread to hear of it")
        go_on.set()
        with pytest.raises(OperationAborted):
            sending.result()
        assert ServedOperation(far).rights
