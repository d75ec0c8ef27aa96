from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from handshakes.errors import DeadlineExceeded, OperationAborted
from handshakes.messages import Abort
from pynetwork.aio import AsyncClient
from pynetwork.aio.link import AsyncLink
from tests.pynetwork.aio.looping import (
    LARGE,
    Blocker,
    Endless,
    a_turn,
    add,
    cancelled,
    cancelling,
    happened,
    linked,
    on_loop,
    operating,
    paired,
    swallow,
    until,
)
from tests.serving import PATIENCE, Background


@on_loop
async def test_a_call_is_cancelled_before_its_first_step() -> None:
    async with paired(add) as (_, client):
        await cancelled(asyncio.ensure_future(client.call("add", 1)))
        assert await client.call("add", 1) == 2


@on_loop
@pytest.mark.parametrize("times", [1, 2])
async def test_a_call_is_cancelled_while_it_waits(times: int) -> None:
    blocker = Blocker()
    async with paired(add, blocker.function) as (_, client):
        calling = asyncio.ensure_future(client.call("block", 5))
        await happened(blocker.entered)
        await cancelled(calling, times)
        blocker.release.set()
        # The late answer is dropped, it is not taken for this one's.
        assert [await client.call("add", number) for number in range(5)] == [1, 2, 3, 4, 5]


@on_loop
async def test_a_call_is_waited_for_only_so_long() -> None:
    blocker = Blocker()
    async with paired(add, blocker.function) as (_, client):
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.call("block", 5), 0.05)
        blocker.release.set()
        assert await client.call("add", 1) == 2


@on_loop
@pytest.mark.parametrize("times", [1, 2])
async def test_a_large_call_is_cancelled_while_it_leaves(times: int) -> None:
    """It has begun, so it is sent to its end, and its abort behind it."""
    async with linked() as (link, served):
        client = AsyncClient(link)
        sending = asyncio.ensure_future(client.send("swallow", LARGE))
        await a_turn()
        await cancelled(sending, times)
        calling = asyncio.ensure_future(client.call("add", 1))
        await a_turn()
        opened = await asyncio.to_thread(served.next_event, PATIENCE)
        assert (opened.verb, len(opened.parameters[1])) == ("send", len(LARGE))
        assert isinstance(await asyncio.to_thread(served.next_event, PATIENCE), Abort)
        served.send(served.connection.fault(499, "OperationAborted", "left", ""))
        assert (await asyncio.to_thread(served.next_event, PATIENCE)).parameters[0] == "add"
        served.send(served.connection.result(2))
        assert await calling == 2


@on_loop
async def test_a_large_call_is_cancelled_before_it_leaves() -> None:
    """The gateway has to end first what was left."""
    blocker = Blocker()
    async with paired(swallow, blocker.function) as (_, client):
        with pytest.raises(DeadlineExceeded):
            await client.call("block", timeout=0.05)
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.send("swallow", LARGE), 0.05)
        blocker.release.set()
        assert await client.send("swallow", LARGE) == len(LARGE)


async def consume(client: AsyncClient, count: int) -> int:
    """So many items of ``endless``, of which many are on their way when it is left."""
    taken = 0
    async with client.stream("endless") as stream:
        async for _ in stream:
            taken += 1
            if taken == count:
                break
    return taken


@on_loop
@pytest.mark.parametrize("times", [1, 2])
async def test_cancelled_wherever_it_waits(times: int) -> None:
    endless = Endless()
    async with paired(add, swallow, endless.function) as (_, client):
        uses: list[Callable[[], Coroutine[Any, Any, Any]]] = [
            lambda: client.call("add", 1),
            lambda: client.send("swallow", LARGE),
            lambda: consume(client, 10_000),
            client.subroutines,
        ]
        for use in uses:
            results = [result async for result in cancelled_everywhere(client, use, times)]
            assert len(results) > 1
            assert results[-1] == await use()
        await endless.ended()


async def cancelled_everywhere(
    client: AsyncClient, use: Callable[[], Coroutine[Any, Any, Any]], times: int
) -> AsyncIterator[Any]:
    """What came of each attempt, after each of which the client is as good as new."""
    number = 0
    async for result in cancelling(use, times):
        number += 1
        assert await client.call("add", number) == number + 1
        yield result


@on_loop
async def test_waiting_for_a_message_is_cancelled() -> None:
    async with operating() as (client, operation, served):
        receiving = asyncio.ensure_future(operation.receive())
        await a_turn()
        await cancelled(receiving)
        assert operation.ended
        with pytest.raises(OperationAborted):
            served.receive(PATIENCE)
        assert client.usable


@on_loop
async def test_a_large_message_is_cancelled_in_the_middle() -> None:
    async with operating() as (client, operation, served):
        async with operation:
            sending = asyncio.ensure_future(operation.send(1, b"", LARGE))
            await a_turn()
            await cancelled(sending)
        message = await asyncio.to_thread(served.receive, PATIENCE)
        assert len(message.body) == len(LARGE)
        with pytest.raises(OperationAborted):
            await asyncio.to_thread(served.receive, PATIENCE)
        assert client.usable


@on_loop
@pytest.mark.parametrize("times", [1, 2])
async def test_a_stream_is_cancelled(times: int) -> None:
    endless = Endless()
    async with paired(add, endless.function) as (_, client):

        async def consume() -> None:
            async for _ in client.stream("endless"):
                pass

        consuming = asyncio.ensure_future(consume())
        await until(lambda: endless.produced > 1000)
        await cancelled(consuming, times)
        assert await client.call("add", 1) == 2
        await endless.ended()


@on_loop
async def test_what_was_left_is_read_on_when_the_next_is_cancelled() -> None:
    """Also when that happens in the very moment in which something arrives."""
    async with operating() as (client, operation, served):
        operation.abort()
        sending = asyncio.ensure_future(client.send("swallow", LARGE))
        await a_turn()
        assert client.link.waited_for

        def cancel(nbytes: int) -> None:
            AsyncLink.buffer_updated(client.link, nbytes)
            sending.cancel()

        client.link.buffer_updated = cancel  # type: ignore[method-assign]
        connection = served.link.connection
        late = Background(served.link.send, [*connection.message(1, b"", [LARGE]), *connection.result(None)])
        with pytest.raises(asyncio.CancelledError):
            await sending
        await until(lambda: not client.connection.leaving)
        late.result()
        assert client.usable
