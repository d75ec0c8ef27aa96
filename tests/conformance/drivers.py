"""The drivers under test, each over one kind of stream."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from pynetwork.aio import AsyncController
from pynetwork.controller import Controller
from pynetwork.gateway import Gateway
from tests import serving
from tests.certificates import Certificates
from tests.conformance.doorway import MemoryController, SocketPairController
from tools.facade import ControllerFacade, LoopThread

__all__ = ["NAMES", "Driver"]

NAMES = [f"{driver} over {stream}" for driver in ("blocking", "asyncio") for stream in ("tcp", "tls", "memory")]


class Driver:
    """One of `NAMES`. Its controllers, clients, streams and swarms have the blocking driver's methods."""

    def __init__(self, name: str, certificates: Certificates) -> None:
        self._kind, _, self.stream = name.partition(" over ")
        self._certificates = certificates
        self._loop = LoopThread() if self._kind == "asyncio" else None

    def serving(self, *functions: Callable[..., Any], **options: Any) -> contextlib.AbstractContextManager[Gateway]:
        """A gateway that offers these functions under their own names."""
        if self.stream == "tls":
            options["tls"] = self._certificates.gateway
        return serving.serving(*functions, **options)

    def controller(self, gateway: Gateway, **options: Any) -> Any:
        """A controller of that gateway."""
        if self.stream == "tls":
            options["tls"] = self._certificates.controller
        if self._loop is None:
            return _CONTROLLERS[self.stream](gateway, **options)
        return ControllerFacade(self._loop, _ASYNC_CONTROLLERS[self.stream](gateway, **options))

    @contextlib.contextmanager
    def paired(self, *functions: Callable[..., Any], **options: Any) -> Iterator[tuple[Gateway, Any]]:
        """A gateway that offers these functions, and a client of it."""
        with self.serving(*functions, **options) as gateway, self.controller(gateway).get_client() as client:
            yield gateway, client

    @contextlib.contextmanager
    def swarming(self, lanes: int, *functions: Callable[..., Any], **options: Any) -> Iterator[tuple[Gateway, Any]]:
        """A gateway that offers these functions, with room for lost lanes, and a swarm of it."""
        with (
            self.serving(*functions, max_poolsize=2 * lanes, **options) as gateway,
            self.controller(gateway).get_swarm(lanes) as swarm,
        ):
            yield gateway, swarm

    def close(self) -> None:
        """End its event loop, if it has one."""
        if self._loop is not None:
            self._loop.close()


def _over_port(gateway: Gateway, **options: Any) -> Controller:
    return Controller(port=gateway.port, **options)


def _async_over_port(gateway: Gateway, **options: Any) -> AsyncController:
    return AsyncController(port=gateway.port, **options)


_CONTROLLERS: dict[str, Callable[..., Controller]] = {
    "tcp": _over_port,
    "tls": _over_port,
    "memory": MemoryController,
}
_ASYNC_CONTROLLERS: dict[str, Callable[..., AsyncController]] = {
    "tcp": _async_over_port,
    "tls": _async_over_port,
    "memory": SocketPairController,
}
