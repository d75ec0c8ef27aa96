"""The asyncio driver with the blocking one's methods, so that who uses it need not know which of them it is.

An event loop runs on a thread of its own; whoever asks, from any other thread, waits for what comes of it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeVar

from handshakes.messages import Items, Rights
from pynetwork.aio import AsyncClient, AsyncController, AsyncSwarm
from pynetwork.aio.client import AsyncStream
from pynetwork.aio.swarm import AsyncYield
from pynetwork.files import TransferReport
from pynetwork.lanes import LanesReport

__all__ = ["ClientFacade", "ControllerFacade", "LoopThread", "SwarmFacade"]

Answer = TypeVar("Answer")

_PATIENCE = 20.0


class LoopThread:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), name="event loop", daemon=True)
        self._thread.start()
        assert self._started.wait(_PATIENCE)

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self._started.set()
        await self._end.wait()

    def run(self, make: Callable[[], Awaitable[Answer]]) -> Answer:
        """Await what ``make`` makes on the loop, and wait for what comes of it."""

        async def run() -> Answer:
            return await make()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def close(self) -> None:
        """End the loop, and with it what was left open."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(_PATIENCE)
        assert not self._thread.is_alive()


class ControllerFacade:
    """An `AsyncController` that looks like a `pynetwork.Controller`."""

    def __init__(self, loop: LoopThread, controller: AsyncController) -> None:
        self._loop = loop
        self._controller = controller

    def get_client(self, wait: float | None = None) -> ClientFacade:
        return ClientFacade(self._loop, self._loop.run(lambda: self._controller.get_client(wait)))

    def get_swarm(self, count: int, wait: float | None = None) -> SwarmFacade:
        return SwarmFacade(self._loop, self._loop.run(lambda: self._controller.get_swarm(count, wait)))

    def stop_gateway(self) -> None:
        self._loop.run(self._controller.stop_gateway)


class ClientFacade:
    """An `AsyncClient` that looks like a `pynetwork.Client`."""

    def __init__(self, loop: LoopThread, client: AsyncClient) -> None:
        self._loop = loop
        self._client = client

    @property
    def peer(self) -> str:
        return self._client.peer

    @property
    def rights(self) -> Rights:
        return self._client.rights

    @property
    def usable(self) -> bool:
        return self._client.usable

    def ping(self, message: Any = None) -> float:
        return self._loop.run(lambda: self._client.ping(message))

    def call(self, name: str, /, *arguments: Any, **keywords: Any) -> Any:
        return self._loop.run(lambda: self._client.call(name, *arguments, **keywords))

    def send(self, name: str, buffer: Any, /, *arguments: Any, **keywords: Any) -> int:
        return self._loop.run(lambda: self._client.send(name, buffer, *arguments, **keywords))

    def request(self, verb: str, *parameters: Any, **options: Any) -> Any:
        return self._loop.run(lambda: self._client.request(verb, *parameters, **options))

    def stream(self, name: str, /, *arguments: Any, **keywords: Any) -> StreamFacade:
        return StreamFacade(self._loop, self._loop.run(lambda: self._client.stream(name, *arguments, **keywords)))

    def subroutines(self) -> list[dict[str, str]]:
        return self._loop.run(self._client.subroutines)

    def stats(self) -> dict[str, Any]:
        return self._loop.run(self._client.stats)

    def close(self) -> None:
        self._loop.run(self._client.close)

    def __enter__(self) -> ClientFacade:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class StreamFacade:
    """An `AsyncStream`, for a plain `for`."""

    def __init__(self, loop: LoopThread, stream: AsyncStream) -> None:
        self._loop = loop
        self._stream = stream

    @property
    def ended(self) -> bool:
        return self._stream.ended

    def frames(self) -> Iterator[Items]:
        while (frame := self._loop.run(self._stream.frame)) is not None:
            yield frame

    def __iter__(self) -> StreamFacade:
        return self

    def __next__(self) -> tuple[int, Any]:
        try:
            return self._loop.run(self._stream.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        async def close() -> None:
            self._stream.close()

        self._loop.run(close)

    def __enter__(self) -> StreamFacade:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class SwarmFacade:
    """An `AsyncSwarm` that looks like a `pynetwork.Swarm`."""

    def __init__(self, loop: LoopThread, swarm: AsyncSwarm) -> None:
        self._loop = loop
        self._swarm = swarm

    @property
    def clients(self) -> list[ClientFacade]:
        return [ClientFacade(self._loop, client) for client in self._swarm.clients]

    def __len__(self) -> int:
        return len(self._swarm)

    def map(self, name: str, items: Iterable[Any], /, *arguments: Any, **keywords: Any) -> YieldFacade:
        return YieldFacade(self._loop, self._swarm.map(name, items, *arguments, **keywords))

    def stream(self, name: str, /, *arguments: Any, **keywords: Any) -> YieldFacade:
        return YieldFacade(self._loop, self._swarm.stream(name, *arguments, **keywords))

    def download(self, *arguments: Any, **options: Any) -> TransferReport:
        return self._loop.run(lambda: self._swarm.download(*arguments, **options))

    def upload(self, *arguments: Any, **options: Any) -> TransferReport:
        return self._loop.run(lambda: self._swarm.upload(*arguments, **options))

    def close(self) -> None:
        self._loop.run(self._swarm.close)

    def __enter__(self) -> SwarmFacade:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class YieldFacade:
    """What a swarm's job brings, for a plain `for`."""

    def __init__(self, loop: LoopThread, results: AsyncYield) -> None:
        self._loop = loop
        self._results = results

    @property
    def report(self) -> LanesReport:
        return self._results.report

    def __iter__(self) -> YieldFacade:
        return self

    def __next__(self) -> Any:
        try:
            return self._loop.run(self._results.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        self._loop.run(self._results.close)

    def __enter__(self) -> YieldFacade:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
