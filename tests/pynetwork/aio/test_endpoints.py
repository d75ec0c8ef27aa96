from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from handshakes.errors import AuthenticationFailed, Closed, ConnectionLost, DeadlineExceeded, RemoteProtocolError
from pynetwork.aio import endpoints
from pynetwork.aio.endpoints import connect
from pynetwork.aio.link import AsyncLink
from pynetwork.tls import TLS
from tests.certificates import Certificates
from tests.pynetwork.aio.looping import add, cancelling, controller_of, on_loop, until
from tests.serving import PATIENCE, serving


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A listener that says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        yield listener


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


async def ended(listener: socket.socket) -> bool:
    """Whether the connection that was made here is ended from afar, after whatever was said."""
    accepted, _ = await asyncio.to_thread(listener.accept)
    with accepted:
        accepted.settimeout(PATIENCE)
        while await asyncio.to_thread(accepted.recv, 65536):
            pass
    return True


# Nobody there


@on_loop
async def test_nobody_listens() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = port_of(bound)
        with pytest.raises(ConnectionLost, match=f"no gateway can be reached at 127.0.0.1:{port}: [^;]*$") as caught:
            await connect("127.0.0.1", port, timeout=PATIENCE)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


@on_loop
async def test_whoever_is_refused_by_another_machine_is_told_why_that_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_sock: socket.socket, address: Any) -> None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, f"Connect call failed {address}")

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "sock_connect", refuse)
    hint = "; a gateway without key= and tls= serves only the machine it runs on"
    addresses = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, 1857)) for host in ("192.0.2.1", "192.0.2.2")]
    monkeypatch.setattr(loop, "getaddrinfo", lambda *_arguments, **_options: a_result(addresses))
    for host, told in [("192.0.2.1", hint), ("2001:db8::1", hint), ("robot", hint), ("127.0.0.2", ""), ("::1", "")]:
        with pytest.raises(ConnectionLost, match=f"reached at {host}:1857: Connection refused{told}$"):
            await connect(host, 1857)


@on_loop
async def test_a_machine_that_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    async def wait(_sock: socket.socket, address: Any) -> None:
        raise TimeoutError(errno.ETIMEDOUT, f"Connect call failed {address}")

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", wait)
    with pytest.raises(DeadlineExceeded, match=r"192\.0\.2\.1:1857 did not answer in time"):
        await connect("192.0.2.1", 1857)


@on_loop
async def test_every_address_of_a_host_is_tried(monkeypatch: pytest.MonkeyPatch, silent: socket.socket) -> None:
    addresses = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", silent.getsockname())]
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "getaddrinfo", lambda *_arguments, **_options: a_result(addresses))
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        addresses.insert(0, (socket.AF_INET, socket.SOCK_STREAM, 0, "", dead.getsockname()))
        addresses.insert(1, (99, socket.SOCK_STREAM, 0, "", ("an unknown kind of network", 0)))
        link = await connect("manifold", 7, timeout=PATIENCE)
    assert link.peer == "manifold:7"
    link.close()
    await link.wait_closed()
    addresses.clear()
    with pytest.raises(ConnectionLost, match="no gateway can be reached at nowhere:7: it has no address"):
        await connect("nowhere", 7)


async def a_result(value: Any) -> Any:
    return value


@on_loop
async def test_an_unknown_host_is_named() -> None:
    for host, hint in [("no.such.host.invalid", ""), ("raspberrypi.local:1857", "; a port is given by itself")]:
        with pytest.raises(ConnectionLost, match=f"'{host}' is no known host: [^;]*{hint}$"):
            await connect(host, 1, timeout=PATIENCE)


@on_loop
async def test_a_host_that_does_not_answer(certificates: Certificates, silent: socket.socket) -> None:
    """Here to the TLS handshake."""
    with pytest.raises(DeadlineExceeded, match=r"did not answer within 0\.1 s"):
        await connect("127.0.0.1", port_of(silent), timeout=0.1, tls=certificates.controller)
    assert await ended(silent)


# Cancelling


@on_loop
@pytest.mark.parametrize("secured", [False, True])
@pytest.mark.parametrize("times", [1, 2])
async def test_cancelled_wherever_it_waits(certificates: Certificates, secured: bool, times: int) -> None:
    with serving(add, max_poolsize=1, tls=certificates.gateway if secured else None) as gateway:
        attempts = 0

        async def use() -> AsyncLink:
            return await connect("127.0.0.1", gateway.port, tls=certificates.controller if secured else None)

        async for link in cancelling(use, times):
            attempts += 1
            if link is not None:
                link.close()
                await link.wait_closed()
        assert attempts > 1
        await until(lambda: not gateway._pool.handlers())


@on_loop
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_cancelled_in_the_moment_in_which_it_is_connected(
    monkeypatch: pytest.MonkeyPatch, silent: socket.socket, times: int
) -> None:
    loop = asyncio.get_running_loop()
    links: list[AsyncLink] = []
    open_ = endpoints._open

    async def open_and_cancel(*arguments: Any) -> AsyncLink:
        links.append(await open_(*arguments))
        cancel(times)
        return links[-1]

    def cancel(more: int) -> None:
        connecting.cancel()
        if more > 1:
            loop.call_soon(cancel, more - 1)

    monkeypatch.setattr(endpoints, "_open", open_and_cancel)
    connecting = asyncio.ensure_future(connect("127.0.0.1", port_of(silent)))
    with pytest.raises(asyncio.CancelledError):
        await connecting
    assert [isinstance(link.lost, Closed) for link in links] == [True]


@on_loop
@pytest.mark.parametrize("times", [1, 2])
async def test_cancelled_in_the_tls_handshake(certificates: Certificates, silent: socket.socket, times: int) -> None:
    connecting = asyncio.ensure_future(connect("127.0.0.1", port_of(silent), tls=certificates.controller))
    accepted, _ = await asyncio.to_thread(silent.accept)
    with accepted:
        accepted.settimeout(PATIENCE)
        assert await asyncio.to_thread(accepted.recv, 65536)
        for _ in range(times):
            connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        assert await asyncio.to_thread(accepted.recv, 65536) == b""


# TLS


@on_loop
async def test_trusted_by_an_authority_or_its_fingerprint(certificates: Certificates) -> None:
    with serving(add, tls=certificates.gateway) as gateway:
        own = ssl.create_default_context(cafile=certificates.ca)
        for tls in (certificates.controller, TLS(fingerprint=certificates.fingerprint), own):
            async with controller_of(gateway, tls=tls).get_client() as client:
                assert await client.call("add", 1) == 2


@on_loop
async def test_an_authority_that_did_not_sign(certificates: Certificates) -> None:
    with serving(tls=certificates.gateway) as gateway:
        for tls in (TLS(ca=certificates.other_ca), TLS()):
            with pytest.raises(AuthenticationFailed, match="is not trusted"):
                await connect("127.0.0.1", gateway.port, timeout=PATIENCE, tls=tls)


@on_loop
async def test_another_fingerprint_than_the_pinned(certificates: Certificates) -> None:
    shown = f"has the fingerprint {certificates.fingerprint}, pinned is 00"
    with serving(tls=certificates.gateway) as gateway, pytest.raises(AuthenticationFailed, match=shown):
        await connect("127.0.0.1", gateway.port, timeout=PATIENCE, tls=TLS(fingerprint="00" * 32))


@on_loop
async def test_tls_at_the_gateway_only(certificates: Certificates) -> None:
    told = "if that gateway has tls=, it is needed here too"
    with serving(tls=certificates.gateway) as gateway, pytest.raises(ConnectionLost, match=told):
        await controller_of(gateway).get_client()


@on_loop
async def test_tls_at_the_caller_only(certificates: Certificates) -> None:
    told = "does that gateway have tls="
    with serving() as gateway, pytest.raises((ConnectionLost, RemoteProtocolError), match=told):
        await controller_of(gateway, tls=certificates.controller).get_client()


@on_loop
@pytest.mark.parametrize("answer", [b"220 this is something else\r\n", b""])
async def test_a_server_that_does_not_go_through_with_tls(
    certificates: Certificates, silent: socket.socket, answer: bytes
) -> None:
    connecting = asyncio.ensure_future(connect("127.0.0.1", port_of(silent), tls=certificates.controller))
    accepted, _ = await asyncio.to_thread(silent.accept)
    with accepted:
        await asyncio.to_thread(accepted.recv, 1)
        accepted.sendall(answer)
        if not answer:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            accepted.close()
        error, told = (
            (RemoteProtocolError, "does not speak TLS as expected") if answer else (ConnectionLost, "in the TLS handsh")
        )
        with pytest.raises(error, match=f"{told}.*; does that gateway have tls="):
            await connecting
