from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from handshakes.errors import ConfigurationError, LocalProtocolError, RemoteProtocolError
from handshakes.messages import Message
from handshakes.records import Key
from handshakes.tstorage import Status
from pynetwork.controller import Controller
from pynetwork.series.channel import Channel
from pynetwork.series.server import SeriesServer
from tests.certificates import Certificates
from tests.pynetwork.series.memory_store import MemoryStore
from tests.pynetwork.series.raw import (
    FAILURE,
    GET,
    GETACQ,
    RawClient,
    box,
    put_records,
)
from tests.pynetwork.series.served import ours, serving
from tests.serving import KEY, PATIENCE
from tests.waiting import wait_until

# Its life


def test_a_server_starts_once_and_stops_even_if_it_never_started() -> None:
    with serving() as (server, _), pytest.raises(LocalProtocolError, match="started before"):
        server.start()
    SeriesServer(MemoryStore()).stop()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"host": "0.0.0.0"}, "would let anyone"),
        ({"max_connections": 0}, "max_connections=0"),
        ({"memory": 1000}, "memory=1000"),
        ({"port": 70000}, "70000"),
        ({"port": "x"}, "'x' is no port"),
        ({"key": {}}, "names no key"),
    ],
)
def test_options_that_can_not_be(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        SeriesServer(MemoryStore(), **options)


def test_a_port_that_is_taken() -> None:
    with serving() as (server, _), pytest.raises(ConfigurationError, match=f"port {server.port}"):
        SeriesServer(MemoryStore(), "127.0.0.1", server.port).start()


def test_figures() -> None:
    with serving(name="figures") as (server, _):
        with RawClient(server.port) as client:
            client.say(put_records(((1, 2, 3, 4, 5), b""), ((1, 2, 3, 5, 5), b""))).put_answer()
            client.say(box(GET)).get_answer()
            client.say(box(GETACQ)).acq_answer()
            client.say(b"x" * 12)
            assert client.rest() == FAILURE
        wait_until(lambda: server.stats()["connections"] == 0)
        stats = server.stats()
        found = {name: stats[name] for name in ("name", "requests", "failures", "records_put", "records_got")}
        assert found == {"name": "figures", "requests": 3, "failures": 1, "records_put": 2, "records_got": 2}


# TLS and keys


def test_tls(certificates: Certificates) -> None:
    context = ssl.create_default_context(cafile=str(certificates.ca))
    with serving(tls=certificates.gateway) as (server, _):
        plain = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as sock, RawClient(0, sock=sock) as client:
            client.say(put_records(((1, 2, 3, 4, 5), b"x" * 100_000), with_acq=True)).put_answer()
            assert client.say(box(GET)).get_answer()[0] == [((1, 2, 3, 4, 5), b"x" * 100_000)]
        with RawClient(server.port) as client:
            client.say(box(GETACQ))
            assert client.rest()[:1] in (b"", b"\x15")  # nothing, or an alert of TLS


def joined_pair(server: SeriesServer, key: str = KEY) -> Any:
    return Controller("127.0.0.1", server.port, key=key).get_client()


@contextlib.contextmanager
def taken_over(server: SeriesServer, key: str = KEY) -> Iterator[RawClient]:
    """A raw client on a pair that was given over to TStorage."""
    with joined_pair(server, key) as client:
        operation = client.open("series")
        go = operation.next_event(PATIENCE)
        assert type(go) is Message
        assert (go.code, bytes(go.head), bytes(go.body)) == (0, b"", b"")
        sock = client.link.stream._sock.dup()
        with RawClient(0, sock=sock) as raw:
            yield raw
        client.lose(ConnectionError())


def test_with_a_key_a_connection_begins_with_the_handshake() -> None:
    with serving(key=KEY) as (server, _):
        with taken_over(server) as client:
            client.say(put_records(((1, 2, 3, 4, 5), b"x"), with_acq=True))
            assert client.put_answer() == (-1, -1)
            assert client.say(box(GET)).get_answer()[0] == [((1, 2, 3, 4, 5), b"x")]
            client.say(b"x" * 12)
            assert client.rest() == FAILURE
        with RawClient(server.port) as client:
            client.say(box(GETACQ))
            assert FAILURE not in client.rest()


def test_a_key_for_a_server_without_one_is_refused_at_once() -> None:
    with serving() as (server, _):
        # A wait for more than this one has would take longer.
        channel = Channel("127.0.0.1", server.port, key=KEY, timeout=PATIENCE)
        response = channel.connect()
        assert response.status is Status.UNPARSEABLE_ENTITY
        assert str(response.error).endswith("a server without key= needs none here, either")
        with pytest.raises(RemoteProtocolError):
            Controller(port=server.port, key=KEY, timeout=PATIENCE).get_client()


def test_no_key_for_a_server_with_one_is_refused_at_once() -> None:
    with serving(key=KEY) as (server, _), Channel("127.0.0.1", server.port, timeout=PATIENCE) as channel:
        response = channel.get(Key.min(), Key.max())
        assert response.status is Status.UNPARSEABLE_ENTITY
        assert str(response.error).endswith("a server with key= needs the key here, too")


def test_what_a_key_does_not_grant_fails() -> None:
    keys = {"key of a reader": "read", "key of a writer": "write", "key of a caller": "call"}
    with serving(key=keys) as (server, store):
        with taken_over(server, "key of a writer") as client:
            client.say(put_records(((1, 2, 3, 4, 5), b"x"), with_acq=True)).put_answer()
            client.say(box(GET))
            assert client.rest() == FAILURE
        with taken_over(server, "key of a reader") as client:
            assert len(client.say(box(GET)).get_answer()[0]) == 1
            client.say(put_records(((2, 2, 3, 4, 5), b"x"), with_acq=True))
            assert client.rest() == FAILURE
        assert len(store.rows) == 1
        with joined_pair(server, "key of a caller") as pair:
            with pytest.raises(Exception, match="needs the right 'read' or 'write'"):
                pair.request("series")
            assert pair.ping() > 0


def test_a_server_with_a_key_stops_at_once_while_connections_are_idle() -> None:
    server = SeriesServer(MemoryStore(), key=KEY, name="keyed").start()
    with taken_over(server) as client:
        client.say(box(GETACQ)).acq_answer()
        server.stop()
        server.stop()
        assert client.rest() == b""
    assert not ours(server)
