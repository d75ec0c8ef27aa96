from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pynetwork.aio import client as client_module
from pynetwork.client import CREDIT_ITEMS
from tests.pynetwork.aio.looping import (
    Blocker,
    Endless,
    a_turn,
    add,
    cancelled,
    controller_of,
    on_loop,
    paired,
    shared,
    until,
)
from tests.serving import serving


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
async def test_what_was_consumed_is_granted_again_once_it_is_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "CREDIT_ITEMS", 1000)
    async with paired(shared) as (_, client):
        credit = client.connection.credit
        grants: list[int] = []

        def note(items: int, size: int) -> Any:
            grants.append(items)
            return credit(items, size)

        monkeypatch.setattr(client.connection, "credit", note)
        assert [ident async for ident, _ in client.stream("shared", 10_000)] == list(range(10_000))
        assert grants[0] == 1000
        assert all(items >= 500 for items in grants)
        assert sum(grants) > 9000


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
async def test_a_stream_is_forgotten_on_another_thread() -> None:
    endless = Endless()
    async with paired(add, endless.function) as (_, client):
        held = [await client.stream("endless")]
        interrupt = client.link.interrupt
        left_on = []

        def note() -> None:
            left_on.append(threading.current_thread())
            interrupt()

        client.link.interrupt = note  # type: ignore[method-assign]
        await asyncio.to_thread(held.clear)
        await endless.ended()
        assert left_on == [threading.current_thread()]
        assert await client.call("add", 1) == 2


@on_loop
async def test_another_task_leaves_a_stream() -> None:
    blocker = Blocker()

    def pausing() -> Iterator[Any]:
        yield "a"
        yield blocker.function("b")

    async with paired(add, pausing) as (_, client):
        stream = client.stream("pausing")

        async def consume() -> list[Any]:
            return [item async for item in stream]

        assert await anext(stream) == (0, "a")
        consuming = asyncio.ensure_future(consume())
        await a_turn()
        assert client.link.waited_for
        stream.close()
        assert await consuming == []
        assert not stream.ended
        blocker.release.set()
        assert await client.call("add", 1) == 2


@on_loop
async def test_an_item_is_waited_for_only_so_long() -> None:
    """As with an asynchronous generator that is cancelled, the stream has ended then."""
    blocker = Blocker()

    def pausing() -> Iterator[Any]:
        yield "a"
        yield blocker.function("b")

    async with paired(add, pausing) as (_, client):
        stream = client.stream("pausing")
        assert await anext(stream) == (0, "a")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(stream), 0.05)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        assert not stream.ended
        blocker.release.set()
        assert await client.call("add", 1) == 2


@on_loop
async def test_many_streams_in_one_loop() -> None:
    with serving(shared, max_poolsize=10) as gateway:
        controller = controller_of(gateway)

        async def use(lane: int) -> list[int]:
            async with controller.get_client() as client:
                return [ident async for ident, _ in client.stream("shared", 20_000, lane=lane, lanes=10)]

        found = await asyncio.gather(*map(use, range(10)))
        assert found == [list(range(lane, 20_000, 10)) for lane in range(10)]


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
@pytest.mark.parametrize("kind", ["plain", "coroutine"])
async def test_a_callback_that_raises_leaves(kind: str) -> None:
    endless = Endless()

    def fail(ident: int, _payload: Any) -> None:
        if ident == 100:
            raise LookupError(ident)

    async def fail_later(ident: int, payload: Any) -> None:
        await a_turn()
        fail(ident, payload)

    async with paired(add, endless.function) as (_, client):
        with pytest.raises(LookupError, match="100"):
            await client.stream("endless", callback=fail if kind == "plain" else fail_later, eos_callback=pytest.fail)
        assert await client.call("add", 1) == 2
        await endless.ended()


@on_loop
async def test_a_callback_is_cancelled() -> None:
    endless = Endless()
    called = asyncio.Event()

    async def wait(_ident: int, _payload: Any) -> None:
        called.set()
        await asyncio.Event().wait()

    async def run() -> None:
        await client.stream("endless", callback=wait)

    async with paired(add, endless.function) as (_, client):
        running = asyncio.ensure_future(run())
        await called.wait()
        await cancelled(running)
        assert await client.call("add", 1) == 2
        await endless.ended()


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
