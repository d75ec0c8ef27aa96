"""Both channels: connecting, with TLS and keys, and two who use one channel."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest

from handshakes.auth import derive_key
from handshakes.connection import Connection, Role
from handshakes.errors import (
    AuthenticationFailed,
    Busy,
    Closed,
    ConfigurationError,
    ConnectionLost,
    Forbidden,
    PynetworkError,
    RemoteProtocolError,
)
from handshakes.messages import Rights
from handshakes.tstorage import Status
from pynetwork.link import Link
from pynetwork.series.response import ResponseAcq
from pynetwork.tls import TLS
from pynetwork.transport import TcpStream
from tests.certificates import Certificates
from tests.conformance.channels import (
    BOX,
    FAILURE,
    REQUESTS,
    TWO,
    TWO_BYTES,
    Channels,
    asked,
    assert_failed,
)
from tests.playing import (
    Heard,
    header,
)
from tests.serving import KEY as SECRET
from tests.serving import PATIENCE, Background

# Connecting


def test_nobody_is_there(channels: Channels) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    channel = channels.to(port)
    assert_failed(
        channel.connect(), Status.DISCONNECTED, ConnectionLost, f"no server can be reached at 127.0.0.1:{port}"
    )
    with pytest.raises(ConnectionLost), channel:
        pass
    assert channel.close()


def test_no_such_host(channels: Channels) -> None:
    channel = channels.to(1)
    inner = getattr(channel, "_channel", channel)
    again = type(inner)("no such host.invalid", 1, timeout=PATIENCE)
    if inner is not channel:
        again = type(channel)(channel._loop, again)
    assert_failed(again.connect(), Status.DISCONNECTED, ConnectionLost, "no known host")


@pytest.mark.parametrize("name", REQUESTS)
def test_a_channel_that_was_never_connected(channels: Channels, name: str) -> None:
    channel = channels.to(1)
    assert_failed(asked(channel, name), Status.DISCONNECTED, ConnectionLost, r"call connect\(\)")
    assert channel.close()


def test_it_is_connected_again_after_a_failure(channels: Channels) -> None:
    with channels.playing(
        lambda heard: heard.answer(header(0, 0) + b"xx"), lambda heard: heard.answer(TWO_BYTES)
    ) as server:
        channel = channels.to(server.port)
        assert channel.connect()
        assert channel.connect()
        assert not channel.get(*BOX)
        assert channel.connect()
        assert list(channel.get(*BOX).data) == TWO
        assert channel.close()
        assert channel.close()
        assert not channel.connected
    assert len(server.heard) == 2


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"payload_type": "if?"}, "must be a PayloadType"),
        ({"timeout": 0}, "timeout=0"),
        ({"memory_limit": 0}, "memory_limit=0"),
        ({"memory_limit": 1.5}, "memory_limit=1.5"),
        ({"tls": 5}, "tls=5"),
        ({"ssl_context": 5}, "=5"),
        ({"tls": TLS(), "ssl_context": ssl.create_default_context()}, "say the same"),
    ],
)
def test_options_that_can_not_be_honoured(channels: Channels, options: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigurationError, match=what):
        channels.to(1, **options)


@pytest.mark.parametrize("port", [0, 65536, "1"])
def test_ports_that_are_none(channels: Channels, port: Any) -> None:
    with pytest.raises(ConfigurationError, match="no port"):
        channels.to(port)


# TLS


@pytest.fixture
def secured(channels: Channels) -> Channels:
    """Those over TLS only."""
    if channels.stream != "tls":
        pytest.skip("about TLS")
    return channels


@pytest.mark.parametrize("kind", ["context", "tls", "fingerprint"])
def test_kinds_of_trust(secured: Channels, certificates: Certificates, kind: str) -> None:
    options: dict[str, dict[str, Any]] = {
        "context": {"ssl_context": ssl.create_default_context(cafile=certificates.ca)},
        "tls": {"tls": TLS(ca=certificates.ca)},
        "fingerprint": {"tls": TLS(fingerprint=certificates.fingerprint)},
    }
    with secured.talking(lambda heard: heard.answer(TWO_BYTES), **options[kind]) as (_, channel):
        assert list(channel.get(*BOX).data) == TWO


@pytest.mark.parametrize("kind", ["ca", "fingerprint"])
def test_servers_that_are_not_trusted(secured: Channels, certificates: Certificates, kind: str) -> None:
    tls = TLS(ca=certificates.other_ca) if kind == "ca" else TLS(fingerprint="00" * 32)
    with secured.playing(lambda heard: heard.rest()) as server:
        channel = secured.to(server.port, tls=tls)
        assert_failed(channel.connect(), Status.DISCONNECTED, AuthenticationFailed)
        assert not channel.connected


def test_a_server_without_tls(secured: Channels, certificates: Certificates) -> None:
    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            sock.sendall(b"this is no TLS at all\r\n")
            Heard(sock).rest()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = Background(serve)
        channel = secured.to(listener.getsockname()[1], tls=certificates.controller)
        assert_failed(channel.connect(), Status.UNPARSEABLE_ENTITY, RemoteProtocolError, "does not speak TLS")
        serving.result()


# Servers with a key


def keyed(answer: Callable[[Heard, Link], None], keys: dict[str, Rights] | None = None) -> Callable[[Heard], None]:
    """Goes through the handshake as a server with a key, up to the opening of an operation, and answers that."""

    def play(heard: Heard) -> None:
        given = {derive_key(key): rights for key, rights in (keys or {SECRET: Rights.DEFAULT}).items()}
        connection = Connection(Role.GATEWAY, nonce=b"g" * 32, keys=given)
        link = Link(TcpStream(heard.sock.dup() if type(heard.sock) is socket.socket else heard.sock), connection)
        try:
            while True:
                event = connection.next_event()
                if words := connection.data_to_send():
                    link.send(words)
                if event is not None:
                    break
                connection.receive_data(heard.sock.recv(4096))
            link.send(connection.welcome())
            opened = link.next_event(PATIENCE)
            assert (opened.verb, opened.parameters) == ("series", [])  # type: ignore[union-attr]
            answer(heard, link)
        except PynetworkError:
            if words := connection.data_to_send():
                link.send(words)
        finally:
            link.stream.close()

    return play


def go(heard: Heard, link: Link) -> None:
    link.send(link.connection.message(0, b"", []))
    heard.sock.settimeout(PATIENCE)
    heard.answer(TWO_BYTES)


@pytest.fixture
def plain(channels: Channels) -> Channels:
    """Those without TLS only."""
    if channels.stream != "tcp":
        pytest.skip("the same over TLS")
    return channels


def test_a_server_with_a_key(plain: Channels) -> None:
    with plain.talking(keyed(go), key=SECRET) as (_, channel):
        assert list(channel.get(*BOX).data) == TWO


def test_a_wrong_key(plain: Channels) -> None:
    with plain.playing(keyed(go)) as server:
        channel = plain.to(server.port, key="another key")
        assert_failed(channel.connect(), Status.DISCONNECTED, AuthenticationFailed)
        assert not channel.connected


def test_a_key_that_does_not_grant_it(plain: Channels) -> None:
    def refuse(_heard: Heard, link: Link) -> None:
        link.send(link.connection.fault(403, "Forbidden", "not with this key"))

    with plain.playing(keyed(refuse)) as server:
        channel = plain.to(server.port, key=SECRET)
        assert_failed(channel.connect(), Status.DISCONNECTED, Forbidden, "not with this key")


def test_a_server_that_knows_no_key(plain: Channels) -> None:
    with plain.playing(lambda heard: heard.say(FAILURE).rest()) as server:
        channel = plain.to(server.port, key=SECRET)
        says = "a server without key= needs none here, either"
        assert_failed(channel.connect(), Status.UNPARSEABLE_ENTITY, RemoteProtocolError, says)


def test_a_server_that_hangs_up_in_the_handshake(plain: Channels) -> None:
    with plain.playing(lambda heard: heard.hear(10)) as server:
        channel = plain.to(server.port, key=SECRET)
        assert_failed(channel.connect(), Status.DISCONNECTED, ConnectionLost)


def test_a_server_that_answers_the_opening_with_something_else(plain: Channels) -> None:
    def result(_heard: Heard, link: Link) -> None:
        link.send(link.connection.result(None))

    with plain.playing(keyed(result)) as server:
        channel = plain.to(server.port, key=SECRET)
        assert_failed(channel.connect(), Status.UNPARSEABLE_ENTITY, RemoteProtocolError, "Result arrived")


# Two at once


def test_a_second_request(channels: Channels) -> None:
    def play(heard: Heard) -> None:
        heard.answer(TWO_BYTES[:-24])
        heard.say(TWO_BYTES[-24:])

    with channels.talking(play) as (_, channel):
        items = channel.get_iter(*BOX)
        next(items)
        with pytest.raises(Busy, match="another channel"):
            channel.get(*BOX)
        with pytest.raises(Busy):
            channel.connect()
        assert [type(each) for each in items][-1] is ResponseAcq
        assert channel.connected


def test_closing_in_the_middle_of_a_request(channels: Channels) -> None:
    asked_for = threading.Event()

    def play(heard: Heard) -> None:
        heard.hear(76)
        asked_for.set()
        heard.rest()

    with channels.talking(play, timeout=None) as (_, channel):
        asking = Background(channel.get, *BOX)
        assert asked_for.wait(PATIENCE)
        assert channel.close()
        assert_failed(asking.result(), Status.DISCONNECTED, Closed, "in the middle of a request")
        assert not channel.connected


def test_closing_in_the_middle_of_an_iteration(channels: Channels) -> None:
    with channels.talking(lambda heard: heard.answer(TWO_BYTES[:-24]).rest()) as (_, channel):
        items = channel.get_iter(*BOX)
        assert next(items) == TWO[0]
        assert channel.close()
        assert next(items) == TWO[1]
        last = next(items)
        assert (last.status, type(last.error)) == (Status.DISCONNECTED, Closed)
