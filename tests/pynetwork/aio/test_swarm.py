from __future__ import annotations

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from handshakes.errors import Closed
from pynetwork.aio import AsyncClient
from pynetwork.aio import client as client_module
from pynetwork.aio.swarm import _AHEAD
from pynetwork.client import CREDIT_SIZE
from pynetwork.lanes import LanesReport
from tests.conformance.breaking import break_mine
from tests.pynetwork.aio.looping import (
    Blocker,
    Endless,
    a_turn,
    add,
    cancelling,
    controller_of,
    happened,
    on_loop,
    shared,
    swarming,
    until,
)
from tests.serving import serving

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


@on_loop
async def test_an_item_of_a_lost_lane_is_called_again_not_asked_for_again() -> None:
    async with swarming(2) as (gateway, swarm):
        lost = threading.Event()

        def fragile(number: int) -> int:
            if number == 3 and not lost.is_set():
                lost.set()
                break_mine(gateway)
            return number

        gateway.add_subroutine("fragile", fragile)
        results = swarm.map("fragile", numbers(20))
        assert [result async for result in results] == list(range(20))
        assert results.report == LanesReport(lost=0, replaced=1)


@on_loop
@pytest.mark.parametrize("times", [1, 2])
async def test_cancelled_wherever_it_waits(times: int) -> None:
    """And the next job runs at once."""
    endless = Endless()
    async with swarming(2, add, shared, endless.function) as (_, swarm):

        async def some() -> list[Any]:
            found = []
            async with swarm.stream("endless", ordered=True) as stream:
                async for item in stream:
                    found.append(item)
                    if len(found) == 500:
                        return found
            return []

        async def results() -> list[Any]:
            return [result async for result in swarm.map("add", numbers(6), 5)]

        async def items() -> list[Any]:
            return sorted([item async for item in swarm.stream("shared", 100)])

        for use in (results, items, some):
            found: list[Any] = []
            async for result in cancelling(use, times):
                found.append(result)
                assert [result async for result in swarm.map("add", [1, 2])] == [2, 3]
            assert len(found) > 1
            assert found[-1] == await use()
        await endless.ended()
        assert all([await client.ping() > 0 for client in swarm.clients])


@on_loop
async def test_several_tasks_share_the_results() -> None:
    async with swarming(3, add) as (_, swarm):
        results = swarm.map("add", numbers(100))

        async def take() -> list[int]:
            return [result async for result in results]

        shares = await asyncio.gather(take(), take())
        assert sorted(itertools.chain(*shares)) == list(range(1, 101))


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


@on_loop
async def test_a_stream_is_forgotten_on_another_thread() -> None:
    endless = Endless()
    async with swarming(2, add, endless.function) as (_, swarm):
        held = [swarm.stream("endless")]
        await anext(held[0])
        await asyncio.to_thread(held.clear)
        await endless.ended()
        assert [result async for result in swarm.map("add", [1])] == [2]


@on_loop
async def test_what_fast_generators_produce_ahead_is_bounded() -> None:
    size, taken = 10_000, 0
    endless = Endless(size)
    async with swarming(2, endless.function) as (_, swarm):
        async with swarm.stream("endless") as stream:
            async for _ in stream:
                taken += 1
                if taken == 3000:
                    break
            await until(unchanging(lambda: endless.produced))
            # What a lane was granted, and what waits in the inboxes and was granted again for that.
            assert endless.produced < taken + 2 * (3 * CREDIT_SIZE // size)
        await endless.ended()


def unchanging(value: Callable[[], int], looks: int = 20) -> Callable[[], bool]:
    """The condition that it was the same so often in a row."""
    seen: deque[int] = deque(maxlen=looks)

    def is_unchanging() -> bool:
        seen.append(value())
        return len(seen) == looks and len(set(seen)) == 1

    return is_unchanging


# Closing


@on_loop
@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("times", [1, 2])
async def test_cancelled_wherever_it_waits_from_dialling_to_closing(times: int, busy: bool) -> None:
    """Every pair is closed."""
    endless = Endless()
    with serving(endless.function, max_poolsize=2) as gateway:
        clients: list[AsyncClient] = []

        async def use() -> None:
            async with controller_of(gateway).get_swarm(2) as swarm:
                clients[:] = swarm.clients
                if busy:
                    stream = swarm.stream("endless")
                    await anext(stream)

        async for _ in cancelling(use, times):
            assert not any(client.usable for client in clients)
            await until(lambda: not gateway._pool.handlers())
        assert clients


@on_loop
async def test_closing_while_another_task_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_FAREWELL", 0.05)
    blocker = Blocker()
    async with swarming(2, blocker.function) as (_, swarm):
        waiting = asyncio.ensure_future(anext(swarm.map("block", range(5))))
        await happened(blocker.entered, 2)
        await swarm.close()
        with pytest.raises(Closed):
            await waiting
        blocker.release.set()
