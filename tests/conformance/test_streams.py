from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from handshakes.errors import Busy, DeadlineExceeded, RemoteFault
from tests.conformance.drivers import Driver
from tests.serving import PATIENCE
from tests.waiting import wait_until


def add(first: int, second: int = 1) -> int:
    return first + second


def three() -> Iterator[str]:
    yield from "abc"


def test_idents_and_payloads(driver: Driver) -> None:
    def pairs(last: int, step: int = 1) -> Iterator[Any]:
        for number in range(0, last, step):
            yield 7 * number, {"number": number}

    with driver.paired(pairs) as (_, client):
        stream = client.stream("pairs", 10, step=3)
        assert list(stream) == [(0, {"number": 0}), (21, {"number": 3}), (42, {"number": 6}), (63, {"number": 9})]
        assert stream.ended
        assert list(stream) == []


def test_bare_payloads_are_numbered(driver: Driver) -> None:
    with driver.paired(three) as (_, client):
        assert list(client.stream("three")) == [(0, "a"), (1, "b"), (2, "c")]


@pytest.mark.parametrize("end", ["return", "negative ident", "payload of None"])
def test_ways_to_end(driver: Driver, end: str) -> None:
    def ends(how: str) -> Iterator[Any]:
        yield 5, "last"
        if how == "return":
            return
        yield (-1, "never") if how == "negative ident" else (6, None)
        yield 7, "nor this"

    with driver.paired(ends) as (_, client):
        stream = client.stream("ends", end)
        assert list(stream) == [(5, "last")]
        assert stream.ended


def test_a_stream_without_items(driver: Driver) -> None:
    def nothing() -> Iterator[Any]:
        yield from ()

    with driver.paired(nothing) as (_, client):
        stream = client.stream("nothing")
        assert list(stream) == []
        assert stream.ended


def test_many_small_items_in_order(driver: Driver) -> None:
    def many() -> Iterator[Any]:
        for number in range(200_000):
            yield number, b"%d" % number

    with driver.paired(many) as (_, client), client.stream("many") as stream:
        found = [item for frame in stream.frames() for item in zip(frame.idents, frame.payloads, strict=True)]
        assert found == [(number, b"%d" % number) for number in range(200_000)]
        assert stream.ended


def test_large_items_beyond_the_credit(driver: Driver) -> None:
    def large() -> Iterator[Any]:
        for number in range(4):
            yield number, bytes([number]) * (3_000_000 + number)

    with driver.paired(large) as (_, client):
        found = [(ident, bytes(payload)) for ident, payload in client.stream("large")]
        assert found == [(number, bytes([number]) * (3_000_000 + number)) for number in range(4)]


def test_a_lone_item_does_not_wait_for_the_next(driver: Driver) -> None:
    seen = threading.Event()

    def waits() -> Iterator[Any]:
        yield "first"
        assert seen.wait(PATIENCE), "the first item was kept back"
        yield "second"

    with driver.paired(waits) as (_, client):
        stream = client.stream("waits", timeout=PATIENCE)
        assert next(stream) == (0, "first")
        seen.set()
        assert list(stream) == [(1, "second")]


def test_a_generator_that_pauses_too_long(driver: Driver) -> None:
    release, closed = threading.Event(), threading.Event()

    def pausing() -> Iterator[Any]:
        try:
            yield "first"
            release.wait(PATIENCE)
            yield "late"
        finally:
            closed.set()

    with driver.paired(pausing, add) as (_, client):
        found = []
        stream = client.stream("pausing", timeout=0.1)
        with pytest.raises(DeadlineExceeded):
            found.extend(stream)
        assert found == [(0, "first")]
        assert not stream.ended
        release.set()
        # The late item is dropped, it is not taken for this one's answer.
        assert client.call("add", 4) == 5
        assert closed.is_set()


def test_the_timeout_is_not_that_of_the_whole_stream(driver: Driver) -> None:
    with driver.paired(three) as (_, client):
        stream = client.stream("three", timeout=0.4)
        assert next(stream) == (0, "a")
        later = time.monotonic() + 0.45
        wait_until(lambda: time.monotonic() > later)
        assert list(stream) == [(1, "b"), (2, "c")]


# Callbacks


def test_callbacks_get_every_item_then_the_end(driver: Driver) -> None:
    with driver.paired(three) as (_, client):
        heard: list[Any] = []
        stream = client.stream(
            "three",
            callback=lambda ident, value: heard.append((ident, value)),
            eos_callback=lambda: heard.append("end"),
        )
        assert heard == [(0, "a"), (1, "b"), (2, "c"), "end"]
        assert stream.ended


def test_a_callback_that_answers_false_leaves(driver: Driver) -> None:
    with driver.paired(three) as (_, client):
        heard: list[Any] = []
        stream = client.stream("three", callback=lambda *_item: False, eos_callback=lambda: heard.append("end"))
        assert heard == []
        assert not stream.ended
        assert client.ping() > 0


def test_a_callback_that_raises_leaves(driver: Driver) -> None:
    with driver.paired(three) as (_, client):
        with pytest.raises(ZeroDivisionError):
            client.stream("three", callback=lambda *_item: 1 / 0)
        assert client.ping() > 0


# Leaving early


@pytest.mark.parametrize("left_by", ["break", "close", "with", "exception", "forgotten", "callback"])
def test_leaving_closes_the_generator(driver: Driver, left_by: str) -> None:
    closed = threading.Event()

    def endless() -> Iterator[Any]:
        try:
            yield from itertools.count()
        finally:
            closed.set()

    with driver.paired(endless, add) as (_, client):
        if left_by == "break":
            for _, value in client.stream("endless"):
                if value == 10:
                    break
        elif left_by == "close":
            stream = client.stream("endless")
            next(stream)
            stream.close()
            stream.close()
            assert list(stream) == []
            assert not stream.ended
        elif left_by == "with":
            with client.stream("endless") as stream:
                next(stream)
        elif left_by == "exception":
            with pytest.raises(KeyError):  # noqa: PT012 - the loop is what is tested
                for _, value in client.stream("endless"):
                    if value == 10:
                        raise KeyError(value)
        elif left_by == "forgotten":
            client.stream("endless")
        else:
            seen = []
            client.stream("endless", callback=lambda ident, value: seen.append(ident) if ident < 10 else False)
            assert seen == list(range(10))
        assert client.call("add", 1) == 2
        assert closed.wait(PATIENCE)


def test_leaving_again_and_again(driver: Driver) -> None:
    """What is still on its way for one operation is never taken for another's."""

    def endless(start: int) -> Iterator[Any]:
        for number in itertools.count(start):
            yield number, b"x" * 100

    with driver.paired(endless, add) as (_, client):
        for round_ in range(30):
            stream = client.stream("endless", 1000 * round_)
            assert next(stream) == (1000 * round_, b"x" * 100)
            stream.close()
            assert client.call("add", round_) == round_ + 1


def test_much_may_be_sent_after_much_was_left(driver: Driver) -> None:
    def large() -> Iterator[Any]:
        yield 0, bytes(1_000_000)
        yield 1, bytes(20_000_000)

    def swallow(*, buffer: bytes) -> int:
        return len(buffer)

    with driver.paired(large, swallow) as (_, client):
        for _item in client.stream("large"):
            break
        assert client.send("swallow", bytes(20_000_000), timeout=PATIENCE) == 20_000_000


def test_much_is_not_sent_to_one_who_has_not_ended_what_was_left(driver: Driver) -> None:
    going_on = threading.Event()

    def wait() -> None:
        going_on.wait(PATIENCE)

    def swallow(*, buffer: bytes) -> int:
        return len(buffer)

    with driver.paired(wait, swallow) as (_, client):
        with pytest.raises(DeadlineExceeded):
            client.call("wait", timeout=0.01)
        with pytest.raises(DeadlineExceeded, match="left before"):
            client.send("swallow", bytes(1_000_000), timeout=0.01)
        going_on.set()
        assert client.send("swallow", bytes(1_000_000), timeout=PATIENCE) == 1_000_000


def test_one_operation_at_a_time(driver: Driver) -> None:
    with driver.paired(three, add) as (_, client):
        stream = client.stream("three")
        assert next(stream) == (0, "a")
        with pytest.raises(Busy, match=r"still runs 'stream'.*another client for 'call'"):
            client.call("add", 1)
        with pytest.raises(Busy, match="another client for 'stream'"):
            client.stream("three")
        assert list(stream) == [(1, "b"), (2, "c")]
        assert client.call("add", 1) == 2


# What the generator raises


def test_an_error_of_the_generator_comes_after_its_items(driver: Driver) -> None:
    def failing(count: int) -> Iterator[Any]:
        for number in range(count):
            yield number, b"item"
        raise LookupError("out of items")

    with driver.paired(failing, add) as (_, client):
        for count in (0, 1, 2000):
            stream = client.stream("failing", count)
            found = []
            with pytest.raises(RemoteFault, match="LookupError: out of items") as caught:
                found.extend(ident for ident, _ in stream)
            assert found == list(range(count))
            assert "in failing" in caught.value.traceback
            assert not stream.ended
            assert client.call("add", 1) == 2
