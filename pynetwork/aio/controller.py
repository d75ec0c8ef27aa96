"""The caller's side on an event loop: knows one gateway, and dials clients."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl

from handshakes.connection import LIMIT
from handshakes.errors import ConnectionLost, DeadlineExceeded, PoolFull, RemoteProtocolError
from handshakes.messages import Registry, Welcome
from handshakes.messages import registry as default_registry
from pynetwork.aio.client import AsyncClient
from pynetwork.aio.dialling import Dialled
from pynetwork.aio.endpoints import connect
from pynetwork.aio.link import AsyncLink
from pynetwork.aio.swarm import AsyncSwarm
from pynetwork.controller import Controller
from pynetwork.tls import TLS
from pynetwork.transport import Deadline, backoff

__all__ = ["AsyncController"]


class AsyncController:
    """Dials the gateway at ``host``:``port``, for tasks of an event loop. Options and errors are those of
    `pynetwork.Controller`.

    ::

        async with controller.get_client() as client:
            print(await client.call("mount_usage", 123))
            async for ident, value in client.stream("imu"):
                ...
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 1857,
        download_dir: str | os.PathLike[str] = "Downloads",
        key: str | bytes | None = None,
        tls: TLS | ssl.SSLContext | None = None,
        timeout: float | None = 10.0,
        verbose: bool = False,
        *,
        limit: int = LIMIT,
        registry: Registry = default_registry,
    ) -> None:
        # It checks the options, and makes the state machines.
        self._options = Controller(host, port, download_dir, key, tls, timeout, verbose, limit=limit, registry=registry)

    def get_client(self, wait: float | None = None) -> Dialled[AsyncClient]:
        """A new pair, to be awaited or entered; raises as `pynetwork.Controller.get_client`."""
        return Dialled(lambda: self._get_client(wait))

    def get_swarm(self, count: int, wait: float | None = None) -> Dialled[AsyncSwarm]:
        """``count`` pairs, dialled at once; all or none. To be awaited or entered; raises as ``get_client``."""
        return Dialled(lambda: AsyncSwarm.dial(lambda: self._get_client(wait), count, self._options.download_dir))

    async def stop_gateway(self) -> None:
        """Stop the gateway. Raises `Forbidden` unless this controller's key grants the right ``stop``."""
        async with self.get_client() as client:
            await client.request("stop")
        self._options.say("the gateway stops")

    async def _get_client(self, wait: float | None) -> AsyncClient:
        deadline = Deadline(wait or 0)
        pauses = backoff()
        while True:
            try:
                return await self._dial()
            except PoolFull:
                remaining = deadline.remaining() or 0
                if not remaining:
                    raise
                await asyncio.sleep(min(next(pauses), remaining))

    async def _dial(self) -> AsyncClient:
        options = self._options
        deadline = Deadline(options.timeout)
        link = await connect(options.host, options.port, timeout=options.timeout, tls=options.tls)
        try:
            client = await self.join(link, deadline)
        except BaseException as error:
            link.close()
            await link.wait_closed()
            if isinstance(error, ConnectionLost):
                raise options.explain(error, silent=not link.received) from error
            raise
        options.say(f"connected to {client.connection.peer_agent} at {client.peer}")
        return client

    async def join(self, link: AsyncLink, deadline: Deadline | None = None) -> AsyncClient:
        """A client over a link that leads to a gateway already. Raises as ``get_client``."""
        await link.live()
        deadline = deadline or Deadline(self._options.timeout)
        certificate = link.certificate
        connection = self._options.new_connection(hashlib.sha256(certificate).digest() if certificate else b"")
        link.attach(connection)
        link.write(connection.start())
        try:
            event = await link.next_event(deadline.remaining())
        except DeadlineExceeded as error:
            raise DeadlineExceeded(f"{link.peer} did not answer within {self._options.timeout} s") from error
        if type(event) is not Welcome:
            raise RemoteProtocolError(f"{type(event).__name__} arrived in the handshake")
        return AsyncClient(link, self._options.timeout)
