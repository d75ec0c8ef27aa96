"""NATS: request and reply, publish and subscribe, with a nats-server between the two.

Publish and subscribe have no flow control: a subscriber that falls behind loses messages. So the subscriber
tells the publisher how far it has read, as those do who may not lose any.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import nats
import orjson

from tools.bench.peers import NATS_SERVER
from tools.bench.peers.loops import Arrivals, held
from tools.bench.peers.packing import ARRAYS, BYTES, JSON, Packing
from tools.bench.peers.programs import free_port, path_of, serving
from tools.bench.workloads.call import AsyncCallSides, Functions
from tools.bench.workloads.streams import AsyncSource, AsyncStreamSides

__all__ = ["ArrayItems", "Call", "JsonItems", "SmallItems"]

_AHEAD = 1 << 20
"""Bytes that the publisher may be ahead of the subscriber, who tells eight times on the way."""
_SECONDS = 10.0


class Call(AsyncCallSides):
    """A subject for each function."""

    @contextlib.contextmanager
    def serve(self, functions: Functions) -> Iterator[str]:
        """One connection answers all."""

        @contextlib.asynccontextmanager
        async def answering(address: str) -> AsyncIterator[str]:
            async with _connected(address) as connection:
                for name, function in functions.items():
                    await connection.subscribe(name, cb=partial(_answer, function))
                await connection.flush()
                yield address

        with _server() as address, held(partial(answering, address)):
            yield address

    @contextlib.asynccontextmanager
    async def connect(self, address: str) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
        """One connection."""
        async with _connected(address) as connection:

            async def call(name: str, *arguments: Any, **keywords: Any) -> Any:
                reply = await connection.request(name, orjson.dumps((arguments, keywords)), timeout=_SECONDS)
                return orjson.loads(reply.data)

            yield call


async def _answer(function: Callable[..., Any], message: Any) -> None:
    arguments, keywords = orjson.loads(message.data)
    await message.respond(orjson.dumps(function(*arguments, **keywords)))


class _Stream(AsyncStreamSides):
    """A message for each item."""

    def __init__(self, packing: Packing) -> None:
        self._packing = packing

    @contextlib.contextmanager
    def serve_async(self, source: AsyncSource) -> Iterator[str]:
        """A subscriber asks for items by naming the subject that it listens to."""

        @contextlib.asynccontextmanager
        async def publishing(address: str) -> AsyncIterator[None]:
            tasks: set[asyncio.Task[None]] = set()
            async with _connected(address) as connection:

                async def begin(message: Any) -> None:
                    tasks.add(asyncio.create_task(self._publish(connection, message.reply, source)))

                await connection.subscribe("items", cb=begin)
                await connection.flush()
                yield
                for task in tasks:
                    task.cancel()

        with _server() as address, held(partial(publishing, address)):
            yield address

    async def _publish(self, connection: Any, subject: str, source: AsyncSource) -> None:
        """Never too far ahead of the reader, until it has told that it leaves."""
        read = _Read()
        told = await connection.subscribe(f"{subject}.read", cb=read.told)
        publish, pack = connection.publish, self._packing.pack
        sent = 0
        async for ident, payload in source():
            while sent >= read.size + _AHEAD and not read.ended:
                await read.more()
            if read.ended:
                break
            message = pack(ident, payload)
            await publish(subject, message)
            sent += len(message)
        await told.unsubscribe()

    @contextlib.contextmanager
    def items(self, address: str) -> Iterator[Iterator[tuple[int, Any]]]:
        """One connection."""
        with Arrivals(partial(self._subscribe, address)) as messages:
            yield map(self._packing.unpack, messages)

    async def _subscribe(self, address: str, put: Callable[[Any], None]) -> None:
        async with _connected(address) as connection:
            subject = connection.new_inbox()
            read = told = 0

            async def arrived(message: Any) -> None:
                nonlocal read, told
                put(message.data)
                read += len(message.data)
                if read >= told + _AHEAD // 8:
                    told = read
                    await connection.publish(f"{subject}.read", b"%d" % read)

            subscription = await connection.subscribe(subject, cb=arrived)
            await connection.publish("items", reply=subject)
            try:
                await asyncio.Event().wait()
            finally:
                await subscription.unsubscribe()
                await connection.publish(f"{subject}.read", b"end")


SmallItems = partial(_Stream, BYTES)
JsonItems = partial(_Stream, JSON)
ArrayItems = partial(_Stream, ARRAYS)


class _Read:
    """How far a reader is."""

    def __init__(self) -> None:
        self.size = 0
        self.ended = False
        self._news = asyncio.Event()

    async def told(self, message: Any) -> None:
        """What it says."""
        if message.data == b"end":
            self.ended = True
        else:
            self.size = int(message.data)
        self._news.set()

    async def more(self) -> None:
        """Wait for it to say something."""
        self._news.clear()
        await self._news.wait()


@contextlib.contextmanager
def _server() -> Iterator[str]:
    port = free_port()
    with serving([path_of(NATS_SERVER), "--addr", "127.0.0.1", "--port", str(port)], port):
        yield f"nats://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def _connected(address: str) -> AsyncIterator[Any]:
    connection = await nats.connect(address, allow_reconnect=False, skip_subject_validation=True)
    try:
        yield connection
    finally:
        await connection.close()
