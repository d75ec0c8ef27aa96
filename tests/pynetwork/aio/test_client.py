from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from handshakes.errors import Busy, Closed, ConnectionLost, DeadlineExceeded, RemoteProtocolError
from handshakes.messages import Abort
from pynetwork.aio import AsyncClient
from pynetwork.aio import client as client_module
from tests.pynetwork.aio.looping import (
    LARGE,
    Blocker,
    Endless,
    a_turn,
    add,
    cancelled,
    controller_of,
    happened,
    linked,
    on_loop,
    operating,
    paired,
    until,
)
from tests.serving import PATIENCE, opening

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


@on_loop
async def test_a_second_task_that_waits_for_a_stream_is_refused() -> None:
    blocker = Blocker()

    def pausing() -> Iterator[Any]:
        yield from "ab"
        yield blocker.function("c")

    async with paired(add, pausing) as (_, client):
        stream = await client.stream("pausing")
        assert [await anext(stream), await anext(stream)] == [(0, "a"), (1, "b")]
        first = asyncio.ensure_future(anext(stream))
        await happened(blocker.entered)
        with pytest.raises(Busy, match="another task waits for what this operation brings next"):
            await anext(stream)
        blocker.release.set()
        assert await first == (2, "c")
        assert [item async for item in stream] == []
        assert stream.ended


@on_loop
async def test_a_client_that_is_closed_is_not_busy() -> None:
    endless = Endless()
    async with paired(endless.function) as (_, client):
        stream = await client.stream("endless")
        await client.close()
        with pytest.raises(Closed, match="this client is closed"):
            await client.ping()
        with pytest.raises(Closed):
            async for _ in stream:
                pass


# What a gateway does not do


@on_loop
async def test_a_gateway_that_reads_nothing_for_a_while() -> None:
    async with linked() as (link, served):
        client = AsyncClient(link, timeout=0.05)
        for _ in range(3):
            with pytest.raises(DeadlineExceeded):
                await client.send("swallow", LARGE)
        assert client.usable
        reading = asyncio.ensure_future(asyncio.to_thread(served.next_event, PATIENCE))
        assert (await reading).verb == "send"
        assert isinstance(await asyncio.to_thread(served.next_event, PATIENCE), Abort)
        served.send(served.connection.fault(499, "OperationAborted", "left", ""))
        calling = asyncio.ensure_future(client.call("add", 1, timeout=PATIENCE))
        assert (await asyncio.to_thread(served.next_event, PATIENCE)).verb == "call"
        served.send(served.connection.result(2))
        assert await calling == 2


@on_loop
@pytest.mark.parametrize("instead", ["goodbye", "nonsense", "end"])
async def test_a_gateway_that_ends_the_pair_in_place_of_what_was_left(instead: str) -> None:
    """While much is about to be sent, which waits for the end of what was left."""
    async with operating() as (client, operation, served):
        operation.abort()
        sending: asyncio.Future[Any] = asyncio.ensure_future(client.stream("swallow", LARGE).frame())
        await a_turn()
        assert client.link.waited_for
        if instead == "end":
            served.link.stream.close()
        else:
            served.link.stream.send(served.link.connection.goodbye() if instead == "goodbye" else [opening("verb")])
        with pytest.raises(RemoteProtocolError if instead == "nonsense" else ConnectionLost):
            await sending
        assert not client.usable
        with pytest.raises(ConnectionLost, match="was lost before"):
            await client.ping()


@on_loop
async def test_a_message_in_a_stream() -> None:
    async with linked() as (link, served_link):
        stream = await AsyncClient(link).stream("verb")
        for _ in range(2):
            served_link.next_event(PATIENCE)
        served_link.send(served_link.connection.message(1, b"", []))
        with pytest.raises(RemoteProtocolError, match="a stream brought something that is no item"):
            await anext(stream)


# Closing


@on_loop
async def test_closing_while_another_task_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the gateway then, which is busy."""
    monkeypatch.setattr(client_module, "_FAREWELL", 1000)
    blocker = Blocker()
    async with paired(blocker.function) as (_, client):
        calling = asyncio.ensure_future(client.call("block"))
        await happened(blocker.entered)
        await client.close()
        with pytest.raises(Closed, match="closed in the middle of an operation"):
            await calling
        blocker.release.set()


@on_loop
@pytest.mark.parametrize("what", ["a call", "a call after what was left", "a message"])
async def test_closing_while_another_task_sends(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(client_module, "_FAREWELL", 0.05)
    async with operating() as (client, operation, served):
        if what != "a message":
            operation.abort()
        if what == "a call":
            served.link.send(served.link.connection.result(None))
            await until(lambda: not client.connection.leaving)
        sending = asyncio.ensure_future(
            operation.send(1, b"", LARGE) if what == "a message" else client.send("swallow", LARGE)
        )
        await a_turn()
        assert not sending.done()
        await client.close()
        with pytest.raises(Closed):
            await sending
        assert operation.ended or what == "a message"


@on_loop
async def test_two_tasks_close_at_once() -> None:
    endless = Endless()
    async with paired(endless.function, max_poolsize=1) as (gateway, client):
        await client.stream("endless")
        await asyncio.gather(client.close(), client.close())
        assert client.closed
        with pytest.raises(Closed, match="this client is closed"):
            await client.ping()
        # Its handler, of which there is one, is free for another.
        async with controller_of(gateway).get_client() as other:
            assert await other.ping() > 0
            await endless.ended()
        assert (endless.began, endless.open) == (1, 0)


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
