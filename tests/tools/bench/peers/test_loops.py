"""Loops of asyncio for servers and for plain iterators."""

from __future__ import annotations

import asyncio
import contextlib
from itertools import islice

import pytest

from tools.bench.peers.loops import Arrivals, held


def test_a_context_is_held_open_until_it_is_left():
    seen = []

    @contextlib.asynccontextmanager
    async def serving():
        seen.append("begun")
        yield "address"
        seen.append("ended")

    with held(serving) as answer:
        assert (answer, seen) == ("address", ["begun"])
    assert seen == ["begun", "ended"]


def test_a_context_that_does_not_open():
    @contextlib.asynccontextmanager
    async def serving():
        raise OSError("no port")
        yield

    with pytest.raises(OSError, match="no port"), held(serving):
        pass


def test_what_arrives_is_handed_out_in_order():
    left = []

    async def receive(put):
        try:
            for number in range(10_000):
                put(number)
                if number % 100 == 0:
                    await asyncio.sleep(0)
        finally:
            left.append(True)

    with Arrivals(receive) as arrivals:
        assert list(islice(arrivals, 5000)) == list(range(5000))
    assert left == [True]


def test_the_end_is_an_error_and_an_error_is_raised():
    async def end(put):
        put(1)

    async def fail(put):
        put(1)
        raise ValueError("broken")

    for receive, error, said in (end, ConnectionResetError, "has left"), (fail, ValueError, "broken"):
        with Arrivals(receive) as arrivals:
            items = iter(arrivals)
            assert next(items) == 1
            with pytest.raises(error, match=said):
                next(items)


def test_leaving_lets_the_receiver_end_in_order():
    seen = []

    async def receive(put):
        try:
            put(1)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            put(2)
            await asyncio.sleep(0)
            seen.append("ended")

    with Arrivals(receive) as arrivals:
        assert next(iter(arrivals)) == 1
    assert seen == ["ended"]
