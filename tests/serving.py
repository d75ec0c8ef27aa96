"""What tests of gateways share: a gateway with a caller, a thread whose outcome is asked for, raw peers."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import orjson

from handshakes.connection import Connection, Role
from handshakes.messages import Rights
from pynetwork.client import Client
from pynetwork.controller import Controller
from pynetwork.gateway import Gateway
from pynetwork.link import Link
from pynetwork.service import ServedOperation
from pynetwork.transport import MemoryStream

PATIENCE = 20.0
"""Seconds for what takes milliseconds on a quiet machine."""

KEY = "a key for the tests"
HELLO, PROOF, WELCOME, REFUSAL, GOODBYE, OPEN, MESSAGE, ITEMS, CREDIT, ABORT, RESULT, FAULT = range(1, 13)


class Background:
    """A function on a thread of its own; `result` waits for it and gives what it returned or raised."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._value: Any = None
        self._error: BaseException | None = None
        self._function = function
        self._arguments = arguments
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._value = self._function(*self._arguments)
        except BaseException as error:
            self._error = error

    @property
    def done(self) -> bool:
        return not self.thread.is_alive()

    def result(self, timeout: float = PATIENCE) -> Any:
        self.thread.join(timeout)
        assert not self.thread.is_alive(), f"{self._function} still runs after {timeout} s"
        if self._error is not None:
            raise self._error
        return self._value


@contextlib.contextmanager
def serving(*functions: Callable[..., Any], **options: Any) -> Iterator[Gateway]:
    """A gateway on a free port that offers these functions under their own names."""
    gateway = Gateway(0, **options)
    for function in functions:
        gateway.add_subroutine(function.__name__, function)
    with gateway:
        yield gateway


def controller_of(gateway: Gateway, **options: Any) -> Controller:
    """A controller of a gateway on this machine."""
    return Controller("127.0.0.1", gateway.port, **options)


@contextlib.contextmanager
def paired(*functions: Callable[..., Any], **options: Any) -> Iterator[tuple[Gateway, Client]]:
    """A gateway that offers these functions, and a client of it."""
    with serving(*functions, **options) as gateway, controller_of(gateway).get_client() as client:
        yield gateway, client


@contextlib.contextmanager
def linked(
    rights: Rights = Rights.DEFAULT, *, client_options: dict[str, Any] | None = None, **gateway_options: Any
) -> Iterator[tuple[Link, Link]]:
    """Two links joined in memory, (client's, gateway's), whose handshake is done; nobody serves them."""
    near, far = MemoryStream.pair()
    client = Connection(Role.CLIENT, nonce=b"c" * 32, **(client_options or {}))
    gateway = Connection(Role.GATEWAY, nonce=b"g" * 32, rights=rights, **gateway_options)
    caller, served = Link(near, client), Link(far, gateway)
    try:
        caller.send(client.start())
        served.next_event(PATIENCE)
        served.send(gateway.data_to_send())
        served.send(gateway.welcome())
        caller.next_event(PATIENCE)
        yield caller, served
    finally:
        near.close()
        far.close()


@contextlib.contextmanager
def operating(verb: str = "verb", *parameters: Any) -> Iterator[tuple[Client, Any, ServedOperation]]:
    """A client, its running operation, and the gateway's side of that; nobody serves it."""
    with linked() as (near, far):
        client = Client(near)
        operation = client.open(verb, *parameters)
        far.next_event(PATIENCE)
        yield client, operation, ServedOperation(far)


# Raw peers, written with nothing of the code under test


def frame(kind: int, flags: int = 0, operation: int = 0, head: bytes = b"", body: bytes = b"") -> bytes:
    """A frame as it lies on the wire."""
    return struct.pack("<BBHII", kind, flags, operation, len(head), len(body)) + head + body


def hello(**changes: Any) -> bytes:
    """A client's first frame."""
    body = {"versions": [3, 3], "limit": 1 << 20, "nonce": "00" * 32, "keyed": False, "bound": False, "agent": "raw"}
    return frame(HELLO, head=b"pynetwork", body=orjson.dumps({**body, **changes}))


def opening(verb: str, *parameters: Any, operation: int = 1) -> bytes:
    """The frame that opens an operation, with JSON parameters."""
    return frame(OPEN, 1, operation, b"", orjson.dumps([verb, *parameters]))


Raw = TypeVar("Raw", bound="RawSocket")


class RawSocket:
    """A socket that hears whatever comes; a context manager. Kinds of it say and hear more."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._file = sock.makefile("rb")

    def rest(self) -> bytes:
        """Everything up to the end of the connection, however that comes."""
        found = b""
        try:
            while piece := self._file.read1(65536):
                found += piece
        except ConnectionError:
            pass
        return found

    def close(self) -> None:
        self._file.close()
        self.sock.close()

    def __enter__(self: Raw) -> Raw:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class RawPeer(RawSocket):
    """A socket that says what it is told to."""

    def __init__(self, port: int, timeout: float = PATIENCE) -> None:
        super().__init__(socket.create_connection(("127.0.0.1", port), timeout))
        name = self.sock.getsockname()
        self.name = f"{name[0]}:{name[1]}"

    def say(self, data: bytes) -> None:
        """Send bytes; a gateway that has hung up meanwhile is no failure here."""
        with contextlib.suppress(ConnectionError):
            self.sock.sendall(data)

    def hear(self) -> tuple[int, int, int, bytes, bytes]:
        """The next frame: kind, flags, operation, head, body."""
        header = self._file.read(12)
        if len(header) < 12:
            raise EOFError(header)
        kind, flags, operation, head, body = struct.unpack("<BBHII", header)
        return kind, flags, operation, self._file.read(head), self._file.read(body)

    def greet(self) -> RawPeer:
        """Go through the handshake with a gateway that asks for no key."""
        self.say(hello())
        assert self.hear()[0] == HELLO
        assert self.hear()[0] == WELCOME
        return self


def refusals(data: bytes) -> list[list[Any]]:
    """The ``[status, message]`` of every refusal among these frames."""
    found = []
    while len(data) >= 12:
        kind, _, _, head, body = struct.unpack_from("<BBHII", data)
        if kind == REFUSAL:
            found.append(orjson.loads(data[12 + head : 12 + head + body]))
        data = data[12 + head + body :]
    return found
