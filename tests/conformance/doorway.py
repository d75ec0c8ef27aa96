"""Reaching a gateway of this process without its port."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from handshakes.errors import ConnectionLost, PynetworkError, Refused
from pynetwork.aio import AsyncClient, AsyncController
from pynetwork.aio.link import AsyncLink
from pynetwork.controller import Controller
from pynetwork.gateway import Gateway
from pynetwork.link import Link
from pynetwork.names2x import Client
from pynetwork.transport import MemoryStream, Stream, TcpStream
from tests.serving import PATIENCE, Background

__all__ = ["MemoryController", "SocketPairController"]


def admit(gateway: Gateway, stream: Stream) -> None:
    """Prove a caller and give it a handler, or tell it why not, as the gateway's own doorway does."""
    connection = gateway._make_connection()
    try:
        Link(stream, connection).next_event(PATIENCE)
    except PynetworkError:
        stream.send(connection.data_to_send())
        stream.close()
        return
    stream.send(connection.data_to_send())
    try:
        gateway._pool.serve(stream, connection)
    except Refused as refusal:
        stream.send(connection.refuse(refusal.status, refusal.message))
        stream.close()
    except ConnectionLost:
        # The caller has turned away, as from a gateway that does not know its key.
        stream.close()


class MemoryController(Controller):
    """Dials through memory."""

    def __init__(self, gateway: Gateway, **options: Any) -> None:
        super().__init__(port=gateway.port, **options)
        self._gateway = gateway

    def _dial(self) -> Client:
        near, far = MemoryStream.pair()
        admitting = Background(admit, self._gateway, far)
        try:
            return self.join(near)
        except BaseException:
            near.close()
            raise
        finally:
            admitting.result()


class SocketPairController(AsyncController):
    """Dials through a pair of sockets that are connected to each other: an event loop needs something to watch."""

    def __init__(self, gateway: Gateway, **options: Any) -> None:
        super().__init__(port=gateway.port, **options)
        self._gateway = gateway

    async def _dial(self) -> AsyncClient:
        near, far = socket.socketpair()
        admitting = Background(admit, self._gateway, TcpStream(far, "a pair of sockets"))
        loop = asyncio.get_running_loop()
        _, link = await loop.create_connection(lambda: AsyncLink("a pair of sockets"), sock=near)
        try:
            return await self.join(link)
        except BaseException:
            link.close()
            await link.wait_closed()
            raise
        finally:
            admitting.result()
