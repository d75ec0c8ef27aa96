"""Whatever arrives at a gateway's port: it says so in one line, gives everything back and serves others."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import random
import socket
import struct
import tracemalloc
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from handshakes.errors import ConnectionLost, RemoteProtocolError
from pynetwork import admission, link, transport
from pynetwork import gateway as gateway_module
from pynetwork.client import Client
from pynetwork.controller import Controller
from pynetwork.gateway import Gateway
from tests.certificates import Certificates
from tests.serving import (
    ABORT,
    CREDIT,
    FAULT,
    HELLO,
    ITEMS,
    KEY,
    MESSAGE,
    OPEN,
    PATIENCE,
    PROOF,
    REFUSAL,
    RESULT,
    WELCOME,
    RawPeer,
    controller_of,
    frame,
    hello,
    opening,
    refusals,
    serving,
)
from tests.waiting import wait_until

pytestmark = pytest.mark.system


def add(first: int, second: int = 1) -> int:
    return first + second


class Watched:
    """A gateway, a client that it serves all the while, and what it logs."""

    def __init__(self, gateway: Gateway, client: Client, caplog: pytest.LogCaptureFixture) -> None:
        self.gateway = gateway
        self.client = client
        self._caplog = caplog
        self._descriptors = self.descriptors()

    @staticmethod
    def descriptors() -> int:
        return psutil.Process().num_fds() if hasattr(psutil.Process, "num_fds") else 0

    def lines(self, peer: str) -> list[str]:
        found = [each for each in self._caplog.records if each.levelno >= logging.WARNING]
        return [each.getMessage() for each in found if each.getMessage().startswith(f"{peer}: ")]

    def is_as_before(self) -> None:
        """Nothing of the visitor is left, and others are served."""
        assert self.client.call("add", 41) == 42
        admitted = self.gateway._admission
        assert admitted is not None
        wait_until(lambda: admitted.waiting == 0, PATIENCE, "an empty doorway")
        wait_until(lambda: len(self.gateway._pool.handlers()) == 1, PATIENCE, "a free handler")
        wait_until(lambda: self.descriptors() == self._descriptors, PATIENCE, "all descriptors given back")
        controller_of(self.gateway).get_client().close()

    def one_line(self, peer: str, *words: str) -> str:
        wait_until(lambda: self.lines(peer), PATIENCE, f"a line about {peer}")
        (line,) = self.lines(peer)
        for word in words:
            assert word in line
        return line


@contextlib.contextmanager
def watching(caplog: pytest.LogCaptureFixture, **options: Any) -> Iterator[Watched]:
    with serving(add, **options) as gateway, controller_of(gateway).get_client() as client:
        yield Watched(gateway, client, caplog)


@pytest.fixture
def watched(caplog: pytest.LogCaptureFixture) -> Iterator[Watched]:
    with watching(caplog) as made:
        yield made


# Before the handshake


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"GET / HTTP/1.1\r\nHost: pi\r\n\r\n", "HTTP arrived"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH arrived"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), "TLS (one side uses tls="),
        (b"\xff" * 200, "unknown kind"),
        (bytes(200), "unknown kind"),
        (frame(HELLO, head=b"pynetwork", body=b"{" * 100), "no JSON"),
        (frame(HELLO, head=b"something", body=b"{}"), "does not speak pynetwork 3"),
        (hello(versions=[1, 2]), "protocol version 3 is spoken here"),
        (hello(versions=[4, 9]), "install the same major version"),
        (hello(nonce="00"), "too small"),
        (hello(limit=-1), "too small"),
        (struct.pack("<BBHII", HELLO, 0, 0, 9, 0xFFFFFFFF), "was announced; at most 4096"),
        (struct.pack("<BBHII", HELLO, 0, 0, 0xFFFFFFFF, 9), "was announced; at most 4096"),
        *[(frame(kind), "arrived while waiting for a hello") for kind in range(PROOF, FAULT + 1)],
    ],
)
def test_what_is_no_hello(watched: Watched, said: bytes, words: str) -> None:
    with RawPeer(watched.gateway.port) as peer:
        peer.say(said)
        answered = refusals(peer.rest())
        assert len(answered) <= 1
        for status, message in answered:
            assert status in (400, 505)
            assert words in message
        watched.one_line(peer.name, words)
    watched.is_as_before()


def test_random_bytes(watched: Watched) -> None:
    chance = random.Random(7)
    for _ in range(150):
        with RawPeer(watched.gateway.port) as peer:
            peer.say(chance.randbytes(chance.randrange(1, 3000)))
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_WR)
            peer.rest()
            watched.one_line(peer.name)
    watched.is_as_before()


def test_a_hello_that_ends_at_every_byte(watched: Watched) -> None:
    whole = hello()
    for size in range(len(whole)):
        with RawPeer(watched.gateway.port) as peer:
            peer.say(whole[:size])
            peer.sock.shutdown(socket.SHUT_WR)
            assert peer.rest() == b""
            watched.one_line(peer.name, "ended the connection before it had proved itself")
    watched.is_as_before()


def test_a_hello_with_one_byte_wrong(watched: Watched) -> None:
    whole = hello()
    chance = random.Random(3)
    for place in range(0, len(whole), 2):
        changed = bytearray(whole)
        changed[place] ^= 1 << chance.randrange(8)
        with RawPeer(watched.gateway.port) as peer:
            peer.say(bytes(changed))
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_WR)
            peer.rest()
    watched.is_as_before()


@pytest.mark.parametrize(
    "proof", [b"", bytes(32), os.urandom(32), os.urandom(4000)], ids=["empty", "zeros", "random", "long"]
)
def test_a_false_proof(caplog: pytest.LogCaptureFixture, proof: bytes) -> None:
    with serving(add, key=KEY) as gateway, controller_of(gateway, key=KEY).get_client() as client:
        watched = Watched(gateway, client, caplog)
        with RawPeer(gateway.port) as peer:
            peer.say(hello(keyed=True))
            assert peer.hear()[0] == HELLO
            peer.say(frame(PROOF, body=proof))
            assert refusals(peer.rest()) == [[401, "wrong key"]]
            watched.one_line(peer.name, "wrong key")
        with RawPeer(gateway.port) as peer:
            peer.say(hello(keyed=True) + opening("call", "add", [1], {}))
            assert refusals(peer.rest())[0][0] == 400
            watched.one_line(peer.name, "OPEN arrived while waiting for a proof")
        assert client.call("add", 1) == 2


def test_a_stall_before_the_proof(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "Admission", functools.partial(admission.Admission, hello_timeout=0.2))
    with watching(caplog) as watched:
        with RawPeer(watched.gateway.port) as peer:
            peer.say(hello()[:30])
            assert peer.rest() == b""
            watched.one_line(peer.name, "did not prove itself within 0.2 s")
        watched.is_as_before()


def test_hundreds_of_silent_connections_keep_nobody_out(watched: Watched) -> None:
    with contextlib.ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", watched.gateway.port), PATIENCE))
            for _ in range(400)
        ]
        with controller_of(watched.gateway).get_client() as client:
            assert client.call("add", 1) == 2
        admitted = watched.gateway._admission
        assert admitted is not None
        assert admitted.waiting <= admission.MOST_WAITING
        silent[0].settimeout(PATIENCE)
        assert silent[0].recv(1) == b""  # the oldest made room
    watched.is_as_before()


def test_a_connection_costs_little_before_its_proof(watched: Watched) -> None:
    admitted = watched.gateway._admission
    assert admitted is not None
    count = 200
    with contextlib.ExitStack() as stack:
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(count):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", watched.gateway.port), PATIENCE))
            sock.sendall(hello()[:40])
            # A frame as long as may be is announced.
        wait_until(lambda: admitted.waiting == count, PATIENCE)
        each = (tracemalloc.get_traced_memory()[0] - before) / count
    assert each < 12 * 1024  # both ends are in this process, and lists of tests are paid too
    watched.is_as_before()


# Within a pair


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"\xff" * 100, "unknown kind"),
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP"),
        (hello(), "HELLO arrived while idle"),
        (frame(PROOF), "PROOF arrived while idle"),
        (frame(WELCOME), "WELCOME arrived while idle"),
        (frame(REFUSAL), "REFUSAL arrived while idle"),
        (frame(ITEMS, operation=1), "ITEMS arrived while idle"),
        (frame(RESULT, operation=1), "RESULT arrived while idle"),
        (frame(FAULT, operation=1), "FAULT arrived while idle"),
        (frame(MESSAGE, operation=9), "MESSAGE arrived while idle"),
        (frame(CREDIT, operation=9), "CREDIT arrived while idle"),
        (frame(ABORT, operation=9), "ABORT arrived while idle"),
        (frame(OPEN, 1, 1, b"", b"[]"), "without a verb"),
        (frame(OPEN, 1, 1, b"", b"{}"), "without a verb"),
        (frame(OPEN, 1, 1, b"", b"[7]"), "without a verb"),
        (frame(OPEN, 1, 1, b"", b"["), "not well-formed"),
        (frame(OPEN, 1, 1, b"", b"[" * 100_000), "not well-formed"),
        (frame(OPEN, 77, 1, b"", b"[]"), "unknown form"),
        (frame(OPEN, 2, 1, b"no json", b""), "malformed description"),
        (frame(OPEN, 3, 1, b'["$",9999,[]]', b"[]"), "malformed|add up"),
        (struct.pack("<BBHII", OPEN, 1, 1, 0, 0xFFFFFFFF), "at most 67108864 are accepted"),
        (struct.pack("<BBHII", OPEN, 1, 1, 0xFFFFFFFF, 0), "at most 65536 are accepted"),
    ],
)
def test_a_pair_that_breaks_the_protocol(watched: Watched, said: bytes, words: str) -> None:
    with RawPeer(watched.gateway.port).greet() as peer:
        peer.say(said)
        answered = refusals(peer.rest())
        assert len(answered) <= 1
        line = watched.one_line(peer.name, "broke the protocol")
        assert any(word in line for word in words.split("|")), line
    watched.is_as_before()


@pytest.mark.parametrize(
    "said",
    [
        opening("call", "add", [1], {}, operation=2),
        frame(CREDIT, operation=1, head=b"short"),
        frame(CREDIT, operation=5, head=bytes(12)),
        frame(ABORT, operation=5),
        frame(ITEMS, operation=1),
        hello(),
        b"\xee" * 64,
    ],
)
def test_a_stream_whose_caller_breaks_the_protocol(watched: Watched, said: bytes) -> None:
    closed: list[int] = []

    def endless() -> Iterator[Any]:
        try:
            while True:
                yield b"x"
        finally:
            closed.append(1)

    watched.gateway.add_subroutine("endless", endless)
    with RawPeer(watched.gateway.port).greet() as peer:
        peer.say(opening("stream", "endless", [], {}) + frame(CREDIT, operation=1, head=struct.pack("<IQ", 50, 500)))
        assert peer.hear()[0] == ITEMS
        peer.say(said)
        peer.rest()
        watched.one_line(peer.name, "broke the protocol")
        assert closed
    watched.is_as_before()


def test_a_call_that_ends_at_every_byte(watched: Watched) -> None:
    whole = opening("call", "add", [1], {})
    for size in range(len(whole)):
        with RawPeer(watched.gateway.port).greet() as peer:
            peer.say(whole[:size])
            peer.sock.shutdown(socket.SHUT_WR)
            assert peer.rest() == b""
    watched.is_as_before()


def test_random_bytes_within_a_pair(watched: Watched) -> None:
    chance = random.Random(11)
    for number in range(150):
        with RawPeer(watched.gateway.port).greet() as peer:
            body = chance.randbytes(chance.randrange(200))
            head = chance.randbytes(chance.randrange(30))
            if number % 3 == 0:
                peer.say(chance.randbytes(500))
            else:
                peer.say(frame(OPEN, chance.randrange(6), 1, head, body))
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_WR)
            peer.rest()
        wait_until(lambda: len(watched.gateway._pool.handlers()) == 1, PATIENCE)
    watched.is_as_before()
    assert not [each for each in watched._caplog.records if each.levelno >= logging.ERROR]


def test_verbs_with_any_parameters(watched: Watched) -> None:
    """Well-formed, and still nonsense: each ends with an answer, or with the reason why the pair was closed."""
    things: list[Any] = [None, 7, -1, "text", [], {}, [1], {"a": 1}, True, 1e300]
    chance = random.Random(5)
    for verb in sorted(set(watched.gateway._verbs) - {"stop"}):
        for _ in range(8):
            parameters = [chance.choice(things) for _ in range(chance.randrange(5))]
            with RawPeer(watched.gateway.port).greet() as peer:
                # A service may wait for messages: the caller leaves.
                peer.say(opening(verb, *parameters) + frame(ABORT, operation=1))
                peer.sock.shutdown(socket.SHUT_WR)
                found = peer.rest()
                assert found[0] in (RESULT, FAULT, REFUSAL)
            wait_until(lambda: len(watched.gateway._pool.handlers()) == 1, PATIENCE)
    watched.is_as_before()
    assert not [each for each in watched._caplog.records if each.levelno >= logging.ERROR]


def test_a_stall_in_the_middle_of_a_message(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "STALL_TIMEOUT", 0.2)
    with RawPeer(watched.gateway.port).greet() as peer:
        peer.say(opening("call", "add", [1], {})[:20])
        assert peer.rest() == b""
        wait_until(lambda: len(watched.gateway._pool.handlers()) == 1, PATIENCE)
    watched.is_as_before()


def test_a_large_message_that_is_announced_and_never_comes(watched: Watched) -> None:
    """Only what has come in takes memory for long: the announced body is not touched before."""
    before = psutil.Process().memory_info().rss
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            peer = stack.enter_context(RawPeer(watched.gateway.port)).greet()
            peer.say(struct.pack("<BBHII", OPEN, 0, 1, 0, 60 << 20) + bytes(70_000))
        wait_until(lambda: watched.gateway.stats()["received"] > 4 * 70_000, PATIENCE)
        assert psutil.Process().memory_info().rss - before < 40 << 20
    watched.is_as_before()


def test_a_peer_that_only_listens_no_more(watched: Watched) -> None:
    """Half closed: it says nothing more, and may still be answered."""
    with RawPeer(watched.gateway.port).greet() as peer:
        peer.say(opening("call", "add", [1], {}))
        peer.sock.shutdown(socket.SHUT_WR)
        kind, _, _, _, body = peer.hear()
        assert (kind, body) == (RESULT, b"2")
        assert peer.rest() == b""
    watched.is_as_before()


def test_a_pair_that_vanishes(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half open: the caller's machine has forgotten the connection (Linux, CAP_NET_ADMIN)."""
    monkeypatch.setattr(transport, "KEEPALIVE_IDLE", 1)
    monkeypatch.setattr(transport, "KEEPALIVE_INTERVAL", 1)
    with RawPeer(watched.gateway.port).greet() as peer:
        try:
            peer.sock.setsockopt(socket.IPPROTO_TCP, 19, 1)  # TCP_REPAIR
        except OSError:
            pytest.skip("a connection can't be made to vanish here")
    wait_until(lambda: len(watched.gateway._pool.handlers()) == 1, PATIENCE, "the handler to be free")
    watched.is_as_before()


# The wrong side of TLS


def test_a_tls_caller_at_a_plain_gateway(watched: Watched, certificates: Certificates) -> None:
    with pytest.raises(RemoteProtocolError, match="does that gateway have tls="):
        controller_of(watched.gateway, tls=certificates.controller).get_client()
    wait_until(lambda: "TLS (one side uses tls=" in watched._caplog.text, PATIENCE)
    assert watched._caplog.text.count("TLS (one side") == 1
    watched.is_as_before()


def test_a_plain_caller_at_a_tls_gateway(caplog: pytest.LogCaptureFixture, certificates: Certificates) -> None:
    with serving(add, tls=certificates.gateway) as gateway:
        with pytest.raises((RemoteProtocolError, ConnectionLost)):
            Controller(port=gateway.port).get_client()
        wait_until(lambda: "the TLS handshake failed" in caplog.text, PATIENCE)
        assert len([each for each in caplog.records if each.levelno >= logging.WARNING]) == 1
        with controller_of(gateway, tls=certificates.controller).get_client() as client:
            assert client.call("add", 1) == 2
