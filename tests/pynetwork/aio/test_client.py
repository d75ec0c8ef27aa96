from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from handshakes.errors import Busy, Closed, DeadlineExceeded, OperationAborted
from handshakes.messages import Abort
from pynetwork.aio import AsyncClient
from pynetwork.aio import client as client_module
from pynetwork.client import CREDIT_ITEMS
from tests.pynetwork.aio.looping import (
    Blocker,
    Endless,
    a_turn,
    add,
    happened,
    linked,
    on_loop,
    operating,
    paired,
    swallow,
    until,
)
from tests.serving import PATIENCE

LARGE = bytes(20_000_000)


async def cancelled(task: asyncio.Future[Any], times: int = 1) -> None:
    """Cancel it, and wait for that."""
    for _ in range(times):
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# Cancelling


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


@on_loop
async def test_a_large_call_is_cancelled_again_and_again() -> None:
    """Wherever it is by then, and be it at its end."""
    async with paired(add, swallow) as (_, client):
        for turns in range(20):
            sending = asyncio.ensure_future(client.send("swallow", LARGE))
            for _ in range(turns):
                await a_turn()
            sending.cancel()
            await asyncio.wait([sending])
            assert await client.call("add", turns) == turns + 1
        assert await client.send("swallow", LARGE) == len(LARGE)


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


# One operation at a time


@on_loop
async def test_a_second_operation_of_another_task_is_refused() -> None:
    blocker = Blocker()
    async with paired(add, blocker.function) as (_, client):
        calling = asyncio.ensure_future(client.call("block", 5))
        await happened(blocker.entered)
        with pytest.raises(Busy, match="still runs 'call'; let it end, or take another client for 'stream'"):
            await client.stream("endless")
        blocker.release.set()
        assert await calling == 5
        assert await client.call("add", 1) == 2


# Streams


@on_loop
async def test_what_a_fast_generator_produces_ahead_is_bounded() -> None:
    endless = Endless()
    async with paired(endless.function) as (_, client):
        stream = await client.stream("endless")
        await until(lambda: endless.produced >= CREDIT_ITEMS)
        received = client.link.received
        taken = 0
        async for _ in stream:
            taken += 1
            if taken == 100:
                break
        assert client.link.received - received < 1 << 20
        assert endless.produced <= CREDIT_ITEMS + CREDIT_ITEMS // 2
        stream.close()
        await endless.ended()


@on_loop
async def test_leaving_with_break_frees_the_client_at_once() -> None:
    endless = Endless()
    async with paired(add, endless.function) as (_, client):
        for _ in range(20):
            async for ident, _ in client.stream("endless"):
                if ident == 10:
                    break
            assert await client.call("add", 1) == 2
        await endless.ended()
        assert endless.began == 20


@on_loop
@pytest.mark.parametrize("kind", ["plain", "coroutine"])
async def test_callbacks(kind: str) -> None:
    def three() -> Iterator[Any]:
        yield from "abc"

    heard: list[Any] = []
    more = True

    def hear(*said: Any) -> bool | None:
        heard.append(said)
        return None if more else False

    async def hear_later(*said: Any) -> bool | None:
        await a_turn()
        return hear(*said)

    callback = hear if kind == "plain" else hear_later
    async with paired(three) as (_, client):
        stream = await client.stream("three", callback=callback, eos_callback=callback)
        assert heard == [(0, "a"), (1, "b"), (2, "c"), ()]
        assert stream.ended
        heard.clear()
        more = False
        stream = await client.stream("three", callback=callback, eos_callback=callback)
        assert heard == [(0, "a")]
        assert not stream.ended


@on_loop
async def test_a_stream_that_was_left_has_not_ended_by_itself() -> None:
    endless = Endless()
    heard: list[str] = []
    async with paired(add, endless.function) as (_, client):

        def leave(ident: int, _payload: Any) -> None:
            if ident == 100:
                stream.close()

        stream = client.stream("endless", callback=leave, eos_callback=lambda: heard.append("end"))
        await stream
        assert not heard
        assert not stream.ended
        assert await client.call("add", 1) == 2


# Closing


@on_loop
async def test_closing_while_another_task_waits() -> None:
    blocker = Blocker()
    async with paired(blocker.function) as (_, client):
        calling = asyncio.ensure_future(client.call("block"))
        await happened(blocker.entered)
        await client.close()
        with pytest.raises(Closed, match="closed in the middle of an operation"):
            await calling
        blocker.release.set()


@on_loop
@pytest.mark.parametrize("what", ["a call", "a message"])
async def test_closing_while_another_task_sends(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(client_module, "_FAREWELL", 0.05)
    async with operating() as (client, operation, _):
        if what == "a call":
            operation.abort()
        sending = asyncio.ensure_future(
            client.send("swallow", LARGE) if what == "a call" else operation.send(1, b"", LARGE)
        )
        await a_turn()
        assert not sending.done()
        await client.close()
        with pytest.raises(Closed):
            await sending


@on_loop
async def test_closing_is_cancelled() -> None:
    async with operating() as (client, _, _):
        closing = asyncio.ensure_future(client.close())
        await a_turn()
        await cancelled(closing)
        await client.close()
        assert not client.usable
        with pytest.raises(Closed, match="this client is closed"):
            await client.ping()


@on_loop
async def test_tasks_never_mix() -> None:
    """Each call either runs alone or is told Busy."""

    async def hammer(client: AsyncClient) -> int:
        served = 0
        for number in range(100):
            try:
                assert await client.call("add", number) == number + 1
            except Busy:
                await a_turn()
                continue
            served += 1
        return served

    async with paired(add) as (_, client):
        assert sum(await asyncio.gather(*(hammer(client) for _ in range(4)))) > 0
        assert await client.call("add", 1) == 2
