"""What only the channel for event loops does; what both do is in tests/conformance/test_channels.py."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import tracemalloc
from typing import Any

import numpy
import pytest

from handshakes.errors import Busy, Closed
from handshakes.records import KEY
from handshakes.tstorage import Status
from pynetwork.series.aio_channel import AsyncChannel
from pynetwork.series.payloads import BytesPayloadType, NumpyPayloadType
from pynetwork.series.response import ResponseAcq
from tests.certificates import Certificates, certificates
from tests.conformance.channels import BOX, FLOATS, TWO, TWO_BYTES
from tests.playing import Heard, Server, endless, playing
from tests.pynetwork.aio.looping import a_turn, cancelled, happened, on_loop, until
from tests.serving import PATIENCE

__all__ = ["certificates"]

MIB = 1 << 20


def to(server: Server, **options: Any) -> AsyncChannel[Any]:
    return AsyncChannel("127.0.0.1", server.port, **{"timeout": PATIENCE, **options})


@on_loop
async def test_a_callback_is_awaited() -> None:
    seen: list[Any] = []

    async def callback(batch: Any) -> None:
        await a_turn()
        seen.extend(batch)

    with playing(lambda heard: heard.answer(TWO_BYTES)) as server:
        async with to(server) as channel:
            assert await channel.get_stream(*BOX, callback)
    assert seen == TWO


@on_loop
async def test_the_loop_runs_on_meanwhile() -> None:
    asked, done = threading.Event(), threading.Event()

    def play(heard: Heard) -> None:
        heard.hear(76)
        asked.set()
        assert done.wait(PATIENCE)
        heard.say(TWO_BYTES)

    with playing(play) as server:
        async with to(server) as channel:
            asking = asyncio.ensure_future(channel.get(*BOX))
            await happened(asked)
            with pytest.raises(Busy):
                await channel.get_acq(*BOX)
            done.set()
            assert list((await asking).data) == TWO


@on_loop
async def test_a_cancelled_request_closes_the_channel() -> None:
    asked = threading.Event()

    def play(heard: Heard) -> None:
        heard.hear(76)
        asked.set()
        heard.rest()

    with playing(play, lambda heard: heard.answer(TWO_BYTES)) as server:
        async with to(server) as channel:
            asking = asyncio.ensure_future(channel.get(*BOX))
            await happened(asked)
            await cancelled(asking)
            assert not channel.connected
            assert await channel.connect()
            assert list((await channel.get(*BOX)).data) == TWO


@on_loop
async def test_a_cancelled_put_closes_the_channel() -> None:
    done, begun = threading.Event(), threading.Event()

    def play(heard: Heard) -> None:
        heard.hear(12)
        begun.set()
        assert done.wait(PATIENCE)

    with playing(play) as server:
        async with to(server, payload_type=FLOATS) as channel:
            putting = asyncio.ensure_future(channel.put(numpy.zeros(400_000, [*KEY.descr, ("value", "<f8")])))
            await happened(begun)
            await cancelled(putting)
            assert not channel.connected
            done.set()


@on_loop
async def test_connecting_can_be_cancelled(certificates: Certificates) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        for options in ({"key": "a long enough key"}, {"tls": certificates.controller}):
            channel: AsyncChannel[bytes] = AsyncChannel("127.0.0.1", listener.getsockname()[1], **options)
            connecting = asyncio.ensure_future(channel.connect())
            accepted, _ = await asyncio.to_thread(listener.accept)
            with accepted:
                accepted.settimeout(PATIENCE)
                assert await asyncio.to_thread(accepted.recv, 1)
                await cancelled(connecting)
                assert not channel.connected
                await channel.close()


@on_loop
async def test_an_iteration_that_nobody_holds_any_more_closes_the_channel() -> None:
    with playing(lambda heard: heard.answer(TWO_BYTES[:-24]).rest()) as server:
        async with to(server) as channel:
            async for item in channel.get_iter(*BOX):
                assert item == TWO[0]
                break
            gc.collect()
            await until(lambda: not channel.connected)


@on_loop
async def test_an_iteration_as_a_context() -> None:
    with playing(lambda heard: heard.answer(TWO_BYTES[:-24]).rest(), lambda heard: heard.answer(TWO_BYTES)) as server:
        async with to(server) as channel:
            async with channel.get_iter(*BOX) as items:
                assert await anext(items) == TWO[0]
                assert items.response is None
            assert not channel.connected
            assert await channel.connect()
            async with channel.get_iter(*BOX) as items:
                assert [item async for item in items] == [*TWO, ResponseAcq(Status.OK, 7)]
                assert items.response
            assert channel.connected


# Over a transport of somebody else


@on_loop
async def test_a_transport_that_was_handed_over() -> None:
    near, far = socket.socketpair()
    closings: list[int] = []
    with far:
        far.settimeout(PATIENCE)
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=near)
        channel = AsyncChannel.over(
            transport, BytesPayloadType(), peer="the gateway", on_close=lambda: closings.append(1), timeout=PATIENCE
        )
        far.sendall(TWO_BYTES)
        assert list((await channel.get(*BOX)).data) == TWO
        assert not closings
        assert await channel.close()
        assert await channel.close()
        assert closings == [1]
        response = await channel.connect()
        assert (response.status, type(response.error)) == (Status.DISCONNECTED, Closed)


@on_loop
async def test_the_end_of_a_transport_that_was_handed_over() -> None:
    near, far = socket.socketpair()
    closings: list[int] = []
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=near)
    channel = AsyncChannel.over(transport, BytesPayloadType(), on_close=lambda: closings.append(1), timeout=PATIENCE)
    far.close()
    assert (await channel.get(*BOX)).status is Status.DISCONNECTED
    await channel.close()
    assert closings == [1]


# Memory

LIMIT = 8 * MIB
COUNT = 200
"""MiB of an answer."""


def test_a_stream_takes_little_more_memory_than_its_limit() -> None:
    seen: list[int] = []

    async def stream(server: Server) -> int:
        async with to(server, payload_type=NumpyPayloadType("f8,f8"), memory_limit=LIMIT) as channel:
            tracemalloc.start()
            try:
                assert await channel.get_stream(*BOX, lambda batch: seen.append(sum(map(len, batch))))
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    with playing(endless(COUNT)) as server:
        peak = asyncio.run(stream(server))
    assert sum(seen) == COUNT * (MIB // 52)
    assert 0.9 * LIMIT < peak < LIMIT + 6 * MIB
