"""Ways to use a gateway, for operations that are the same for all of them.

Its callers answer the same calls whichever driver it is: from a thread that may wait, as operations are written to be
read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from handshakes.messages import Rights
from pynetwork.aio import AsyncController
from pynetwork.aio import files as aio_files
from pynetwork.controller import Controller
from pynetwork.files import TransferReport, download, upload
from pynetwork.tls import TLS
from tools.facade import LoopThread, SwarmFacade

__all__ = ["Asynchronous", "Blocking", "Caller", "Dialling", "Driver"]

CHUNK = 4096


@dataclass(frozen=True)
class Dialling:
    """Whom to dial on the loopback, and how. ``timeout``: seconds that connecting, each call, and each wait for an item
    may take.
    """

    port: int
    lanes: int
    timeout: float
    key: str | None = None
    tls: TLS | None = None


class Caller:
    """A swarm, of either kind of controller, and the client of its first lane."""

    def __init__(
        self,
        swarm: Any,
        timeout: float,
        download: Callable[..., TransferReport],
        upload: Callable[..., TransferReport],
    ) -> None:
        self._timeout = timeout
        self._swarm = swarm
        self._download, self._upload = download, upload
        self._client = swarm.clients[0]
        self.rights: Rights = self._client.rights

    def ping(self, message: Any) -> float:
        took: float = self._client.ping(message)
        return took

    def call(self, name: str, *arguments: Any) -> Any:
        return self._client.call(name, *arguments)

    def send(self, name: str, buffer: bytes) -> int:
        answer: int = self._client.send(name, buffer)
        return answer

    def stream(self, name: str, *arguments: Any) -> list[tuple[int, Any]]:
        return list(self._client.stream(name, *arguments, timeout=self._timeout))

    def subroutines(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = self._client.subroutines()
        return found

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = self._client.stats()
        return found

    def map(self, name: str, items: Iterable[Any]) -> list[Any]:
        return list(self._swarm.map(name, items))

    def merged(self, name: str, *arguments: Any, ordered: bool) -> list[tuple[int, Any]]:
        return list(self._swarm.stream(name, *arguments, ordered=ordered))

    def download(self, share: str, to: Path) -> TransferReport:
        return self._download(share, to=to, progress=False)

    def upload(self, path: Path, dirname: str) -> TransferReport:
        return self._upload([path], dirname=dirname, progress=False)

    def close(self) -> None:
        self._swarm.close()


class Driver(Protocol):
    """Dials; ``name`` tells it from others."""

    name: str

    def dial(self, how: Dialling) -> Caller: ...
    def close(self) -> None: ...


class Blocking:
    """The controller of `pynetwork.controller`."""

    name = "blocking"

    def dial(self, how: Dialling) -> Caller:
        controller = Controller(port=how.port, key=how.key, tls=how.tls, timeout=how.timeout)
        swarm = controller.get_swarm(how.lanes)
        # With smaller chunks than a swarm's own methods take, so that few bytes are many chunks.
        move = partial(download, swarm._lanes, chunk_size=CHUNK), partial(upload, swarm._lanes, chunk_size=CHUNK)
        return Caller(swarm, how.timeout, *move)

    def close(self) -> None: ...


class Asynchronous:
    """That of `pynetwork.aio`, on an event loop that runs until it is closed."""

    name = "asyncio"

    def __init__(self) -> None:
        self._loop = LoopThread()

    def dial(self, how: Dialling) -> Caller:
        loop = self._loop
        controller = AsyncController(port=how.port, key=how.key, tls=how.tls, timeout=how.timeout)
        swarm = loop.run(lambda: controller.get_swarm(how.lanes))

        def on_loop(move: Callable[..., Awaitable[TransferReport]]) -> Callable[..., TransferReport]:
            return lambda *arguments, **options: loop.run(
                lambda: move(swarm._lanes, *arguments, chunk_size=CHUNK, **options)
            )

        return Caller(SwarmFacade(loop, swarm), how.timeout, on_loop(aio_files.download), on_loop(aio_files.upload))

    def close(self) -> None:
        self._loop.close()
