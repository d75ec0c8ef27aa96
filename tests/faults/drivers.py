"""Ways to use a gateway, for operations that are the same for all of them.

A driver of another kind (an asyncio controller, say) is a `Driver` whose callers answer the same calls: from a thread
that may wait, as these operations are written to be read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from handshakes.messages import Rights
from pynetwork.controller import Controller
from pynetwork.endpoints import TLS
from pynetwork.files import TransferReport, download, upload

__all__ = ["Blocking", "Caller", "Dialling", "Driver"]

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


class Caller(Protocol):
    """One client (``lanes`` of 1) or one swarm."""

    rights: Rights

    def ping(self, message: Any) -> float: ...
    def call(self, name: str, *arguments: Any) -> Any: ...
    def send(self, name: str, buffer: bytes) -> int: ...
    def stream(self, name: str, *arguments: Any) -> list[tuple[int, Any]]: ...
    def subroutines(self) -> list[dict[str, str]]: ...
    def stats(self) -> dict[str, Any]: ...
    def map(self, name: str, items: Iterable[Any]) -> list[Any]: ...
    def merged(self, name: str, *arguments: Any, ordered: bool) -> list[tuple[int, Any]]: ...
    def download(self, share: str, to: Path) -> TransferReport: ...
    def upload(self, path: Path, dirname: str) -> TransferReport: ...
    def close(self) -> None: ...


class Driver(Protocol):
    """Dials; ``name`` tells it from others."""

    name: str

    def dial(self, how: Dialling) -> Caller: ...


class Blocking:
    """The controller of `pynetwork.controller`."""

    name = "blocking"

    def dial(self, how: Dialling) -> Caller:
        controller = Controller(port=how.port, key=how.key, tls=how.tls, timeout=how.timeout)
        return _BlockingCaller(controller, how)


class _BlockingCaller:
    def __init__(self, controller: Controller, how: Dialling) -> None:
        self._timeout = how.timeout
        self._swarm = controller.get_swarm(how.lanes)
        self._client = self._swarm.clients[0]
        self.rights = self._client.rights

    def ping(self, message: Any) -> float:
        return self._client.ping(message)

    def call(self, name: str, *arguments: Any) -> Any:
        return self._client.call(name, *arguments)

    def send(self, name: str, buffer: bytes) -> int:
        return self._client.send(name, buffer)

    def stream(self, name: str, *arguments: Any) -> list[tuple[int, Any]]:
        return list(self._client.stream(name, *arguments, timeout=self._timeout))

    def subroutines(self) -> list[dict[str, str]]:
        return self._client.subroutines()

    def stats(self) -> dict[str, Any]:
        return self._client.stats()

    def map(self, name: str, items: Iterable[Any]) -> list[Any]:
        return list(self._swarm.map(name, items))

    def merged(self, name: str, *arguments: Any, ordered: bool) -> list[tuple[int, Any]]:
        return list(self._swarm.stream(name, *arguments, ordered=ordered))

    # With smaller chunks than a swarm's own methods take, so that few bytes are many chunks.

    def download(self, share: str, to: Path) -> TransferReport:
        return download(self._swarm._lanes, share, to=to, progress=False, chunk_size=CHUNK)

    def upload(self, path: Path, dirname: str) -> TransferReport:
        return upload(self._swarm._lanes, [path], dirname=dirname, progress=False, chunk_size=CHUNK)

    def close(self) -> None:
        self._swarm.close()
