from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from handshakes.errors import Closed
from pynetwork.aio.swarm import _AHEAD
from tests.pynetwork.aio.looping import Blocker, Endless, a_turn, add, happened, on_loop, shared, swarming

pytestmark = pytest.mark.usefixtures("impatient")


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await a_turn()
        yield number


# map


@on_loop
async def test_items_may_come_one_by_one() -> None:
    async with swarming(3, add) as (_, swarm):
        assert [result async for result in swarm.map("add", numbers(100))] == list(range(1, 101))
        assert [result async for result in swarm.map("add", numbers(0))] == []


@on_loop
async def test_items_are_taken_only_a_little_ahead() -> None:
    taken = 0

    async def items() -> AsyncIterator[int]:
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield number

    async with swarming(2, add) as (_, swarm):
        consumed = 0
        async for _ in swarm.map("add", items()):
            consumed += 1
            assert taken <= consumed + 2 * _AHEAD + 2
            if consumed == 50:
                break


@on_loop
async def test_what_the_source_raises_comes_out() -> None:
    async def items() -> AsyncIterator[int]:
        yield 1
        raise LookupError("the source")

    async with swarming(2, add) as (_, swarm):
        with pytest.raises(LookupError, match="the source"):
            async for _ in swarm.map("add", items()):
                pass
        assert [result async for result in swarm.map("add", [1])] == [2]


@on_loop
@pytest.mark.parametrize("times", [1, 2])
async def test_a_map_is_cancelled(times: int) -> None:
    blocker = Blocker()
    async with swarming(2, add, blocker.function) as (_, swarm):

        async def consume() -> list[Any]:
            return [result async for result in swarm.map("block", itertools.count())]

        consuming = asyncio.ensure_future(consume())
        await happened(blocker.entered, 2)
        for _ in range(times):
            consuming.cancel()
            await a_turn()
        with pytest.raises(asyncio.CancelledError):
            await consuming
        blocker.release.set()
        assert [result async for result in swarm.map("add", range(9))] == list(range(1, 10))


@on_loop
async def test_a_map_waits_for_its_source_and_is_cancelled() -> None:
    closed = asyncio.Event()

    async def items() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.set()

    async with swarming(2, add) as (_, swarm):
        results = swarm.map("add", items())
        assert await anext(results) == 2
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(results), 0.05)
        assert closed.is_set()
        assert [result async for result in swarm.map("add", [1])] == [2]


# stream


@on_loop
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("times", [1, 2])
async def test_a_stream_is_cancelled(ordered: bool, times: int) -> None:
    endless = Endless()
    async with swarming(3, shared, endless.function) as (_, swarm):
        taken = 0

        async def consume() -> None:
            nonlocal taken
            async for _ in swarm.stream("endless", ordered=ordered):
                taken += 1

        consuming = asyncio.ensure_future(consume())
        while taken < 1000:
            await a_turn()
        for _ in range(times):
            consuming.cancel()
            await a_turn()
        with pytest.raises(asyncio.CancelledError):
            await consuming
        await endless.ended()
        assert endless.began == 3
        assert [ident async for ident, _ in swarm.stream("shared", 50, ordered=True)] == list(range(50))


@on_loop
async def test_leaving_with_break_frees_the_swarm_at_once() -> None:
    endless = Endless()
    async with swarming(2, add, endless.function) as (_, swarm):
        for _ in range(10):
            async for ident, _ in swarm.stream("endless"):
                if ident > 100:
                    break
            assert [result async for result in swarm.map("add", [1, 2])] == [2, 3]
        await endless.ended()


# Closing


@on_loop
async def test_closing_while_another_task_waits() -> None:
    blocker = Blocker()
    async with swarming(2, blocker.function) as (_, swarm):
        waiting = asyncio.ensure_future(anext(swarm.map("block", range(5))))
        await happened(blocker.entered, 2)
        await swarm.close()
        with pytest.raises(Closed):
            await waiting
        blocker.release.set()
