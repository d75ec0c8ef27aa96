"""Connecting to a gateway on an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from typing import Any

from handshakes.errors import (
    DeadlineExceeded,
    PynetworkError,
)
from pynetwork.aio.link import AsyncLink, to_the_end
from pynetwork.endpoints import explained
from pynetwork.tls import TLS

__all__ = ["connect"]


async def connect(
    host: str, port: int, *, timeout: float | None = None, tls: ssl.SSLContext | TLS | None = None
) -> AsyncLink:
    """A link to ``host``, at any of its addresses, which is to be given its connection.

    Raises as `pynetwork.endpoints.connect`.
    """
    place = f"{host}:{port}"
    context = tls.client_context() if isinstance(tls, TLS) else tls
    opening = asyncio.ensure_future(_open(host, port, place, context))
    try:
        link = await _opened(opening, place, timeout)
        if isinstance(tls, TLS):
            tls.check_fingerprint(link.certificate)
    except BaseException as error:
        await to_the_end(asyncio.ensure_future(_give_up(opening)))
        if isinstance(error, (OSError, UnicodeError)) and not isinstance(error, PynetworkError):
            raise explained(error, host, place, secured=tls is not None) from error
        raise
    return link


async def _open(host: str, port: int, place: str, context: ssl.SSLContext | None) -> AsyncLink:
    loop = asyncio.get_running_loop()
    sock = await _reach(host, port)
    server = host if context else None
    making = asyncio.ensure_future(
        loop.create_connection(lambda: AsyncLink(place), sock=sock, ssl=context, server_hostname=server)
    )
    try:
        _, link = await asyncio.shield(making)
    except asyncio.CancelledError:
        # Cancelled itself, it would in some versions of Python go on with a TLS handshake that has begun.
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        await asyncio.wait([making])
        if making.exception() is None:
            await _close(making.result()[1])
        raise
    return link


async def _reach(host: str, port: int) -> socket.socket:
    """A socket that is connected to one of the host's addresses. Raises what the last one had against it.

    Not the event loop's own way: of several errors that makes one which tells neither kind nor number.
    """
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for family, kind, protocol, _, address in await _addresses(host, port):
        sock = None
        try:
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
        except BaseException as error:
            if sock is not None:
                sock.close()
            if not isinstance(error, OSError):
                raise
            failure = error
        else:
            return sock
    if failure is None:
        raise OSError("it has no address")
    raise OSError(failure.errno, os.strerror(failure.errno or 0)) from failure


async def _addresses(host: str, port: int) -> list[Any]:
    """As `socket.getaddrinfo`, which has a thread only for what really is a name."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def _opened(opening: asyncio.Task[AsyncLink], place: str, timeout: float | None) -> AsyncLink:
    # Not asyncio.wait_for: before Python 3.12 that may forget that it was cancelled.
    await asyncio.wait([opening], timeout=timeout)
    if not opening.done():
        raise DeadlineExceeded(f"{place} did not answer within {timeout} s")
    return opening.result()


async def _give_up(opening: asyncio.Task[AsyncLink]) -> None:
    """Whatever comes of it is closed."""
    opening.cancel()
    await asyncio.wait([opening])
    if not opening.cancelled() and opening.exception() is None:
        await _close(opening.result())


async def _close(link: AsyncLink) -> None:
    link.close()
    await link.wait_closed()
