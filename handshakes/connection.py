"""The state machine of one pair: bytes in, events out; calls in, bytes out.

Strategy: a driver receives into ``buffer()``, says so with ``received()``, and takes events with
``next_event()`` until that answers None. What it wants to say it says by calling a method, which checks that
the protocol allows it now and answers the buffers to send. Nothing here waits, knows the time, or touches a
socket.

A pair begins with the handshake::

    client                         gateway
    HELLO (nonce, limits)    ->
                             <-    HELLO (nonce, limits)
    PROOF                    ->                             when the gateway asks for a key
                             <-    WELCOME (rights, proof)  or REFUSAL (status, reason)

Then the client opens one operation at a time. Both sides may say `Message`; a gateway that streams sends
`Items` as far as the client's `Credit` reaches; the gateway ends the operation with `Result` or `Fault`. A
client that leaves early sends `Abort` and may go on at once: what still arrives for an operation it left is
dropped up to its end, and a gateway that was told to abort reads nothing more before it has ended the
operation. `_RECEIVES` says what may arrive when; anything else is a `RemoteProtocolError`, after which the
connection is of no more use.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from handshakes.auth import NONCE_SIZE, prove, verify
from handshakes.errors import (
    AuthenticationFailed,
    Busy,
    Closed,
    ConfigurationError,
    LocalProtocolError,
    RemoteProtocolError,
    ValueNotSupported,
    ValueTooLarge,
    VersionMismatch,
    refusal,
)
from handshakes.frames import LARGEST_HEAD, Frame, FrameParser, pack_header
from handshakes.items import LARGEST_BODY, read_items, write_items
from handshakes.messages import (
    Abort,
    Bytes,
    Credit,
    Event,
    Fault,
    Goodbye,
    Hello,
    Kind,
    Message,
    Open,
    Registry,
    Result,
    Rights,
    Welcome,
)
from handshakes.messages import registry as default_registry
from handshakes.values import decode, encode

__all__ = ["LIMIT", "PROTOCOL_VERSIONS", "Connection", "Phase", "Role"]

PROTOCOL_VERSIONS = (3, 3)
LIMIT = 64 * 1024 * 1024
"""Largest frame body that a side accepts unless it says otherwise, in bytes."""

_MAGIC = b"pynetwork"
_CREDIT = struct.Struct("<IQ")
_SMALL = 4096
"""Limit in bytes for everything that a peer sends before it has proved itself."""
_RECEIVE_CAPACITY = 64 * 1024

HELLO, PROOF, WELCOME, REFUSAL, GOODBYE, OPEN, MESSAGE, ITEMS, CREDIT, ABORT, RESULT, FAULT = map(int, Kind)


class Role(enum.Enum):
    """Which end of the pair this is."""

    CLIENT = "client"
    GATEWAY = "gateway"


class Phase(enum.IntEnum):
    """Where the pair stands, seen from one side."""

    START = 0
    HELLO = 1
    PROOF = 2
    VERDICT = 3
    WELCOME = 4
    IDLE = 5
    RUNNING = 6
    CLOSED = 7
    BROKEN = 8

    @property
    def text(self) -> str:
        """The phase in words, as part of a sentence."""
        return _PHASE_TEXTS[self]


_PHASE_TEXTS = (
    "not started",
    "waiting for a hello",
    "waiting for a proof",
    "deciding whether to serve",
    "waiting for a welcome",
    "idle",
    "running an operation",
    "closed",
    "broken",
)


class Connection:
    """One side of a pair.

    ``nonce`` is 32 fresh random bytes. A client has ``key``, derived by `handshakes.auth.derive_key`, or
    None. A gateway has ``keys``: derived keys and the rights each grants; with none, whoever connects has
    ``rights``. ``limit`` is the largest frame body accepted here, in bytes. ``certificate`` is the SHA-256 of
    the gateway's TLS certificate where this side knows it, else empty. ``agent`` is a name for the other
    side's logs.
    """

    def __init__(
        self,
        role: Role,
        *,
        nonce: bytes,
        key: bytes | None = None,
        keys: Mapping[bytes, Rights] | None = None,
        rights: Rights = Rights.NONE,
        limit: int = LIMIT,
        certificate: bytes = b"",
        agent: str = "",
        registry: Registry = default_registry,
    ) -> None:
        if len(nonce) != NONCE_SIZE:
            raise LocalProtocolError(f"a nonce has {NONCE_SIZE} bytes, not {len(nonce)}")
        if not _SMALL <= limit <= LARGEST_BODY:
            raise ConfigurationError(f"limit={limit} is not between {_SMALL} and {LARGEST_BODY} bytes")
        if key if role is Role.GATEWAY else keys:
            raise LocalProtocolError("a client has one key=, a gateway has keys= and asks for one of them")
        self.role = role
        self.rights = rights
        self.peer_agent = ""
        self.send_limit = _SMALL
        self.operation = 0
        self.credit_items = 0
        self.credit_size = 0
        self.registry = registry
        self._key = key
        self._keys = dict(keys or {})
        self._limit = limit
        self._certificate = certificate
        self._hello = Hello(PROTOCOL_VERSIONS, limit, nonce, bool(key or keys), bool(certificate), agent)
        self._peer = self._hello
        self._transcript = b""
        self._outbox: list[bytes] = []
        self._left: set[int] = set()
        self._aborting = False
        self._parser = FrameParser(limit=_SMALL, largest_head=_SMALL, capacity=_SMALL)
        self._table = _RECEIVES[role]
        self._enter(Phase.HELLO if role is Role.GATEWAY else Phase.START)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._readers = self._table[phase]

    # Bytes in

    def buffer(self) -> memoryview:
        """Memory to receive into."""
        return self._parser.buffer()

    def received(self, count: int) -> None:
        """``count`` bytes were received into ``buffer()``."""
        self._parser.advance(count)

    def receive_data(self, data: Bytes) -> None:
        """The same for bytes that lie elsewhere: they are copied; at most as many as fit ``buffer()``."""
        space = self._parser.buffer()
        space[: len(data)] = data
        self._parser.advance(len(data))

    @property
    def mid_frame(self) -> bool:
        """Whether a frame has begun to arrive and is not complete."""
        return self._parser.pending

    @property
    def wants_data(self) -> bool:
        """Whether more bytes could become an event now: not while an abort waits for the operation's end."""
        return not self._aborting

    def recycle(self, body: Bytes) -> None:
        """The body of a `Message` is done with: its memory may receive the next."""
        self._parser.recycle(body)

    # Events out

    def next_event(self) -> Event | None:
        """The next event, or None when more bytes are needed.

        Raises `RemoteProtocolError` when the peer broke the protocol, `AuthenticationFailed` when it could
        not prove itself, and on a client the `Refused` that the gateway answered. After each of them,
        `data_to_send` may hold a last word for the peer, and the connection is at its end.
        `ValueNotSupported` comes from a value whose class is not registered here; the connection goes on.
        """
        try:
            while not self._aborting:
                frame = self._parser.next_frame()
                if frame is None:
                    return None
                reader = self._readers.get(frame.kind)
                event = self._unexpected(frame) if reader is None else reader(self, frame)
                if event is not None:
                    return event
            return None
        except (RemoteProtocolError, AuthenticationFailed, VersionMismatch) as error:
            self._break(error)
            raise

    def data_to_send(self) -> list[bytes]:
        """What the handshake wants to say now; the caller sends it."""
        outbox, self._outbox = self._outbox, []
        return outbox

    def _break(self, error: Exception) -> None:
        if self.phase is Phase.CLOSED:
            return
        if self.role is Role.GATEWAY and self.phase is not Phase.BROKEN:
            self._outbox.append(_refusal_frame(getattr(error, "status", 400), str(error)))
        self._enter(Phase.BROKEN)

    def _unexpected(self, frame: Frame) -> Event | None:
        """A frame that has no reader now: it is late, and dropped, or it breaks the protocol."""
        if frame.operation in self._left:
            if frame.kind in (RESULT, FAULT):
                self._left.discard(frame.operation)
            if frame.kind in (MESSAGE, ITEMS, RESULT, FAULT):
                return None
        late = self.role is Role.GATEWAY and self.phase is Phase.IDLE and frame.operation == self.operation
        if late and frame.kind in (MESSAGE, CREDIT, ABORT):
            return None
        raise RemoteProtocolError(f"{Kind(frame.kind).name} arrived while {self.phase.text}")

    # The handshake

    def start(self) -> list[bytes]:
        """The client's first bytes."""
        self._expect(Phase.START)
        self._enter(Phase.HELLO)
        return [self._say_hello()]

    def _say_hello(self) -> bytes:
        hello = self._hello
        body = {
            "versions": hello.versions,
            "limit": hello.limit,
            "nonce": hello.nonce.hex(),
            "keyed": hello.keyed,
            "bound": hello.bound,
            "agent": _cut(hello.agent, 200),
        }
        frame = _frame(HELLO, 0, _MAGIC, orjson.dumps(body))
        self._transcript += frame
        return frame

    def _read_hello(self, frame: Frame) -> Event | None:
        peer = _parse_hello(frame)
        self._transcript += _frame(HELLO, frame.flags, frame.head, bytes(frame.body), frame.operation)
        low, high = PROTOCOL_VERSIONS
        if peer.versions[0] > high or peer.versions[1] < low:
            raise VersionMismatch(
                f"protocol version {low} is spoken here, the other side speaks {peer.versions[0]} to "
                f"{peer.versions[1]}; install the same major version of pynetwork on both"
            )
        self._peer = peer
        self.peer_agent = peer.agent
        self.send_limit = min(peer.limit, LARGEST_BODY)
        if self.role is Role.CLIENT:
            self._answer_hello(peer)
            return None
        self._outbox.append(self._say_hello())
        self._bind(peer)
        if not self._keys:
            self._enter(Phase.VERDICT)
            return peer
        if not peer.keyed:
            raise AuthenticationFailed(
                "this gateway asks for a key and the caller has none; give key= to the controller"
            )
        self._enter(Phase.PROOF)
        return None

    def _bind(self, peer: Hello) -> None:
        if peer.bound and self._certificate:
            self._transcript += self._certificate

    def _answer_hello(self, peer: Hello) -> None:
        self._bind(peer)
        if peer.keyed and self._key:
            self._outbox.append(_frame(PROOF, 0, b"", prove(self._key, "client", self._transcript)))
        elif self._key:
            raise AuthenticationFailed(
                "this controller has a key, but the gateway does not ask for one, so it can't prove that it "
                "is the right one; leave key= out if that is meant"
            )
        self._enter(Phase.WELCOME)

    def _read_proof(self, frame: Frame) -> Event:
        proven = Rights.NONE
        found = False
        for key, rights in self._keys.items():
            if verify(key, "client", self._transcript, bytes(frame.body)):
                proven, found, self._key = rights, True, key
        if not found:
            raise AuthenticationFailed("wrong key")
        self.rights = proven
        self._enter(Phase.VERDICT)
        return self._peer

    def welcome(self) -> list[bytes]:
        """The gateway serves this pair: its last word of the handshake."""
        self._expect(Phase.VERDICT)
        proof = prove(self._key, "gateway", self._transcript) if self._key else b""
        self._open_up()
        return [_frame(WELCOME, 0, b"", orjson.dumps([self.rights.value, proof.hex()]))]

    def refuse(self, status: int, message: str) -> list[bytes]:
        """The gateway does not serve this pair; allowed at any time of the handshake."""
        if self.role is not Role.GATEWAY or self.phase not in (Phase.HELLO, Phase.PROOF, Phase.VERDICT):
            raise LocalProtocolError(f"a connection that is {self.phase.text} can't be refused")
        self._enter(Phase.CLOSED)
        return [_refusal_frame(status, message)]

    def _read_welcome(self, frame: Frame) -> Event:
        rights, proof = _parse_list(frame, int, str)
        event = Welcome(Rights(rights & Rights.ALL.value), _parse_hex(proof))
        if self._key and not verify(self._key, "gateway", self._transcript, event.proof):
            raise AuthenticationFailed(
                "the gateway did not prove that it knows the key; it may be another than you mean"
            )
        self.rights = event.rights
        self._open_up()
        return event

    def _read_refusal(self, frame: Frame) -> Event:
        status, message = _parse_list(frame, int, str)
        self._enter(Phase.CLOSED)
        raise refusal(status, message)

    def _open_up(self) -> None:
        self._parser.resize(limit=self._limit, largest_head=LARGEST_HEAD, capacity=_RECEIVE_CAPACITY)
        self._transcript = b""
        self._enter(Phase.IDLE)

    # The client's words

    def open(self, verb: str, parameters: Sequence[Any]) -> list[Bytes]:
        """Begin an operation. Raises `Busy` while another runs, `ValueNotSupported` and `ValueTooLarge`."""
        if self.phase is not Phase.IDLE or self.role is not Role.CLIENT:
            if self.phase is Phase.RUNNING:
                raise Busy(
                    "this pair runs another operation; let it end, or take another client for this one"
                )
            self._expect(Phase.IDLE, Role.CLIENT)
        operation = (self.operation + 1) & 0xFFFF
        if operation in self._left:
            raise Busy("this pair left so many operations that the gateway has to end some first")
        form, head, buffers, size = encode([verb, *parameters], self.registry)
        frame = self._value_frame(OPEN, form, head, buffers, size, operation)
        self.operation = operation
        self.credit_items = self.credit_size = 0
        self._enter(Phase.RUNNING)
        return frame

    def credit(self, items: int, size: int) -> list[Bytes]:
        """Allow the gateway so many further items, and bytes of them."""
        self._expect(Phase.RUNNING, Role.CLIENT)
        try:
            head = _CREDIT.pack(items, size)
        except struct.error as error:
            raise LocalProtocolError(f"{items} items and {size} bytes are no credit") from error
        self.credit_items += items
        self.credit_size += size
        return [_frame(CREDIT, 0, head, b"", self.operation)]

    def abort(self) -> list[Bytes]:
        """Leave the running operation; the next may be opened at once."""
        self._expect(Phase.RUNNING, Role.CLIENT)
        self._left.add(self.operation)
        self._enter(Phase.IDLE)
        return [_frame(ABORT, 0, b"", b"", self.operation)]

    def goodbye(self) -> list[Bytes]:
        """End the pair. Allowed once the handshake is over."""
        if self.phase not in (Phase.IDLE, Phase.RUNNING):
            raise LocalProtocolError(
                f"there is nobody to say goodbye to on a connection that is {self.phase.text}"
            )
        self._enter(Phase.CLOSED)
        return [_frame(GOODBYE, 0, b"", b"")]

    # Words of both

    def message(self, code: int, head: bytes, buffers: Sequence[Bytes]) -> list[Bytes]:
        """Say ``code`` (0 to 255) with a head of at most 64 KiB and a body of these buffers, within the
        operation.
        """
        if self.phase is not Phase.RUNNING:
            self._expect(Phase.RUNNING)
        if len(head) > LARGEST_HEAD:
            raise ValueTooLarge(f"the head of a message has at most {LARGEST_HEAD} bytes, not {len(head)}")
        if not 0 <= code <= 255:
            raise LocalProtocolError(f"the code of a message is 0 to 255, not {code}")
        # The length of a view is not its size in bytes when its elements are larger.
        size = sum([each.nbytes if isinstance(each, memoryview) else len(each) for each in buffers])
        return self._value_frame(MESSAGE, code, head, buffers, size, self.operation)

    # The gateway's words

    def items(
        self, form: int, value_head: bytes, idents: Sequence[int], payloads: Sequence[Bytes]
    ) -> list[Bytes]:
        """Send items with encoded payloads of one form (see `handshakes.items`).

        Raises `LocalProtocolError` when the credit does not reach: it must cover every item, and be above 0
        in bytes.
        """
        self._expect(Phase.RUNNING, Role.GATEWAY)
        if len(idents) > self.credit_items or self.credit_size <= 0:
            raise LocalProtocolError(f"credit for {self.credit_items} items can't carry {len(idents)}")
        head, buffers, size = write_items(form, value_head, idents, payloads)
        frame = self._value_frame(ITEMS, form, head, buffers, size, self.operation)
        self.credit_items -= len(idents)
        self.credit_size -= size
        return frame

    def result(self, value: Any) -> list[Bytes]:
        """End the operation with a value. When that can't be encoded this raises, and it still runs."""
        if self.phase is not Phase.RUNNING or self.role is not Role.GATEWAY:
            self._expect(Phase.RUNNING, Role.GATEWAY)
        form, head, buffers, size = encode(value, self.registry)
        frame = self._value_frame(RESULT, form, head, buffers, size, self.operation)
        self._end_operation()
        return frame

    def fault(self, status: int, type_name: str, message: str, traceback: str = "") -> list[Bytes]:
        """End the operation with an error; texts are cut so that they always fit."""
        self._expect(Phase.RUNNING, Role.GATEWAY)
        room = 16384
        while True:
            texts = [_cut(type_name, min(200, room)), _cut(message, room // 2), _cut(traceback[-room:], room)]
            body = orjson.dumps([status, *texts])
            if len(body) <= self.send_limit:
                break
            room //= 2
        self._end_operation()
        return [_frame(FAULT, 0, b"", body, self.operation)]

    def _end_operation(self) -> None:
        self._aborting = False
        self.credit_items = self.credit_size = 0
        self._enter(Phase.IDLE)

    # Readers of a pair at work

    def _read_open(self, frame: Frame) -> Event:
        self.operation = frame.operation
        self._enter(Phase.RUNNING)
        try:
            parameters = decode(frame.flags, frame.head, frame.body, self.registry, frame.shared)
        except ValueNotSupported as problem:
            return Open(frame.operation, "", [], problem)
        if type(parameters) is not list or not parameters or type(parameters[0]) is not str:
            raise RemoteProtocolError("an operation was opened without a verb")
        return Open(frame.operation, parameters[0], parameters[1:])

    def _read_message(self, frame: Frame) -> Event | None:
        if frame.operation != self.operation:
            return self._unexpected(frame)
        return Message(frame.flags, frame.head, bytes(frame.body) if frame.shared else frame.body)

    def _read_items(self, frame: Frame) -> Event | None:
        if frame.operation != self.operation:
            return self._unexpected(frame)
        items = read_items(frame.flags, frame.head, frame.body, frame.shared, self.registry)
        if len(items.idents) > self.credit_items or self.credit_size <= 0:
            raise RemoteProtocolError("more items arrived than credit was given for")
        self.credit_items -= len(items.idents)
        self.credit_size -= items.size
        return items

    def _read_credit(self, frame: Frame) -> Event | None:
        if len(frame.head) != _CREDIT.size or frame.operation != self.operation:
            raise RemoteProtocolError("a credit arrived that belongs to no operation")
        items, size = _CREDIT.unpack(frame.head)
        self.credit_items += items
        self.credit_size += size
        return Credit(items, size)

    def _read_abort(self, frame: Frame) -> Event:
        if frame.operation != self.operation:
            raise RemoteProtocolError("an abort arrived that belongs to no operation")
        self._aborting = True
        return Abort()

    def _read_result(self, frame: Frame) -> Event | None:
        if frame.operation != self.operation:
            return self._unexpected(frame)
        self._enter(Phase.IDLE)
        return Result(decode(frame.flags, frame.head, frame.body, self.registry, frame.shared))

    def _read_fault(self, frame: Frame) -> Event | None:
        if frame.operation != self.operation:
            return self._unexpected(frame)
        event = Fault(*_parse_list(frame, int, str, str, str))
        self._enter(Phase.IDLE)
        return event

    def _read_goodbye(self, _frame: Frame) -> Event:
        self._enter(Phase.CLOSED)
        return Goodbye()

    # Helpers

    def _expect(self, phase: Phase, role: Role | None = None) -> None:
        if self.phase is Phase.CLOSED:
            raise Closed("this connection is closed")
        if self.phase is not phase or (role is not None and self.role is not role):
            raise LocalProtocolError(
                f"this {self.role.value}'s connection is {self.phase.text}; only that of a "
                f"{(role or self.role).value}, {phase.text}, may say this"
            )

    def _value_frame(
        self, kind: int, flags: int, head: bytes, buffers: Sequence[Bytes], size: int, operation: int
    ) -> list[Bytes]:
        if size > self.send_limit or len(head) > LARGEST_HEAD:
            raise ValueTooLarge(
                f"{max(size, len(head))} bytes are more than the other side accepts at once "
                f"({self.send_limit}); send it in parts, as a stream or as a file, or raise limit= there"
            )
        header = pack_header(kind, flags, operation, len(head), size)
        if size < _SMALL:
            return [header + head + buffers[0]] if len(buffers) == 1 else [b"".join((header, head, *buffers))]
        return [header + head, *buffers]


def _frame(kind: int, flags: int, head: bytes, body: bytes, operation: int = 0) -> bytes:
    return pack_header(kind, flags, operation, len(head), len(body)) + head + body


def _refusal_frame(status: int, message: str) -> bytes:
    # 500 characters fit into `_SMALL` however they are escaped.
    return _frame(REFUSAL, 0, b"", orjson.dumps([status, _cut(message, 500)]))


def _cut(text: str, size: int) -> str:
    """``text`` with at most ``size`` characters, and none that UTF-8 can't hold."""
    return text[:size].encode("utf-8", "replace").decode()


# A peer's JSON is believed to hold these types and no others: turning one into another may raise anything.


def _parse(frame: Frame) -> Any:
    try:
        return orjson.loads(frame.body)
    except orjson.JSONDecodeError as error:
        raise RemoteProtocolError(f"a {Kind(frame.kind).name} arrived that is no JSON: {error}") from error


def _parse_list(frame: Frame, *kinds: type) -> list[Any]:
    """The elements of a body that is a JSON array of exactly these types."""
    parsed = _parse(frame)
    if type(parsed) is not list or tuple(map(type, parsed)) != kinds:
        raise RemoteProtocolError(f"a {Kind(frame.kind).name} arrived that is malformed")
    return parsed


def _parse_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise RemoteProtocolError("a nonce or proof arrived that is not hexadecimal") from error


_HELLO_FIELDS = {"versions": list, "limit": int, "nonce": str, "keyed": bool, "bound": bool, "agent": str}


def _parse_hello(frame: Frame) -> Hello:
    if frame.head != _MAGIC:
        raise RemoteProtocolError("the other side does not speak pynetwork 3")
    body = _parse(frame)
    if type(body) is not dict or any(
        type(body.get(name)) is not kind for name, kind in _HELLO_FIELDS.items()
    ):
        raise RemoteProtocolError("a hello arrived that is malformed")
    versions = body["versions"]
    if list(map(type, versions)) != [int, int]:
        raise RemoteProtocolError("a hello arrived without a range of versions")
    hello = Hello(
        (versions[0], versions[1]),
        body["limit"],
        _parse_hex(body["nonce"]),
        body["keyed"],
        body["bound"],
        body["agent"][:200],
    )
    if len(hello.nonce) != NONCE_SIZE or hello.limit < _SMALL:
        raise RemoteProtocolError("a hello arrived with a nonce or a limit that is too small")
    return hello


_Reader = Callable[[Connection, Frame], "Event | None"]

_GATEWAY_RECEIVES: dict[Phase, dict[int, _Reader]] = {
    Phase.HELLO: {HELLO: Connection._read_hello},
    Phase.PROOF: {PROOF: Connection._read_proof},
    Phase.IDLE: {OPEN: Connection._read_open, GOODBYE: Connection._read_goodbye},
    Phase.RUNNING: {
        MESSAGE: Connection._read_message,
        CREDIT: Connection._read_credit,
        ABORT: Connection._read_abort,
        GOODBYE: Connection._read_goodbye,
    },
}
_CLIENT_RECEIVES: dict[Phase, dict[int, _Reader]] = {
    Phase.HELLO: {HELLO: Connection._read_hello, REFUSAL: Connection._read_refusal},
    Phase.WELCOME: {WELCOME: Connection._read_welcome, REFUSAL: Connection._read_refusal},
    Phase.IDLE: {GOODBYE: Connection._read_goodbye, REFUSAL: Connection._read_refusal},
    Phase.RUNNING: {
        MESSAGE: Connection._read_message,
        ITEMS: Connection._read_items,
        RESULT: Connection._read_result,
        FAULT: Connection._read_fault,
        GOODBYE: Connection._read_goodbye,
        REFUSAL: Connection._read_refusal,
    },
}
_RECEIVES = {
    role: {phase: table.get(phase, {}) for phase in Phase}
    for role, table in ((Role.GATEWAY, _GATEWAY_RECEIVES), (Role.CLIENT, _CLIENT_RECEIVES))
}
