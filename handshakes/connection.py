"""The state machine of one pair: bytes in, events out; calls in, bytes out.

Strategy: a driver receives into ``buffer()``, says so with ``received()``, and takes events with
``next_event()`` until that answers None. What it wants to say it says by calling a method, which checks that
the protocol allows it now and answers the buffers to send. Nothing here waits, knows the time, or touches a
socket.

A pair begins with the handshake, drawn in `handshakes.handshake`. Then the client opens one operation at a
time. Both sides may say `Message`; a gateway that streams sends `Items` as far as the client's `Credit`
reaches; the gateway ends the operation with `Result` or `Fault`. A client that leaves early sends `Abort` and
may go on at once: what still arrives for an operation it left is dropped up to its end, and a gateway that
was told to abort reads nothing more before it has ended the operation. `_RECEIVES` says what may arrive when;
anything else is a `RemoteProtocolError`, after which the connection is of no more use.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from handshakes import words
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
from handshakes.handshake import PROTOCOL_VERSIONS, Handshake
from handshakes.items import LARGEST_BODY, read_items, write_items
from handshakes.messages import (
    Abort,
    Bytes,
    Event,
    Fault,
    Goodbye,
    Kind,
    Message,
    Open,
    Registry,
    Result,
    Rights,
)
from handshakes.messages import registry as default_registry
from handshakes.values import decode, encode
from handshakes.words import SMALL

__all__ = ["LIMIT", "PROTOCOL_VERSIONS", "Connection", "Phase", "Role"]

LIMIT = 64 * 1024 * 1024
"""Largest frame body that a side accepts unless it says otherwise, in bytes."""

_RECEIVE_CAPACITY = 64 * 1024

HELLO, PROOF, WELCOME, REFUSAL, GOODBYE, OPEN, MESSAGE, ITEMS, CREDIT, ABORT, RESULT, FAULT = map(int, Kind)


class Role(enum.Enum):
    """Which end of the pair this is."""

    CLIENT = "client"
    GATEWAY = "gateway"


class Phase(enum.IntEnum):
    """Where the pair stands, seen from one side; ``text`` says it in words, as part of a sentence."""

    text: str

    START = 0, "not started"
    HELLO = 1, "waiting for a hello"
    PROOF = 2, "waiting for a proof"
    VERDICT = 3, "deciding whether to serve"
    WELCOME = 4, "waiting for a welcome"
    IDLE = 5, "idle"
    RUNNING = 6, "running an operation"
    CLOSED = 7, "closed"
    BROKEN = 8, "broken"

    def __new__(cls, value: int, text: str) -> Phase:
        """A member, which is a number, with its text."""
        phase = int.__new__(cls, value)
        phase._value_ = value
        phase.text = text
        return phase


# To look a member up in its class takes longer than anything else that is done with it for every message.
_IDLE, _RUNNING = Phase.IDLE, Phase.RUNNING
_CLIENT, _GATEWAY = Role.CLIENT, Role.GATEWAY


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
        if not SMALL <= limit <= LARGEST_BODY:
            raise ConfigurationError(f"limit={limit} is not between {SMALL} and {LARGEST_BODY} bytes")
        if key if role is _GATEWAY else keys:
            raise LocalProtocolError("a client has one key=, a gateway has keys= and asks for one of them")
        self.role = role
        self.rights = rights
        self.peer_agent = ""
        self.send_limit = SMALL
        self.operation = 0
        self.credit_items = 0
        self.credit_size = 0
        self.registry = registry
        self._handshake = Handshake(nonce=nonce, limit=limit, key=key, keys=keys, certificate=certificate, agent=agent)
        self._limit = limit
        self._outbox: list[bytes] = []
        self._left: set[int] = set()
        self._aborting = False
        self._parser = FrameParser(limit=SMALL, largest_head=SMALL, capacity=SMALL)
        # The parser's own: memory to receive into; and telling that so many bytes were received into it.
        self.buffer = self._parser.buffer
        self.received = self._parser.advance
        self._table = _RECEIVES[role]
        self.phase = Phase.HELLO if role is _GATEWAY else Phase.START

    # Bytes in

    def receive_data(self, data: Bytes) -> None:
        """As ``received``, for bytes that lie elsewhere: they are copied; at most as many as fit ``buffer()``."""
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

    @property
    def leaving(self) -> bool:
        """Whether something may still arrive of operations that were left."""
        return bool(self._left)

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
                reader = self._table[self.phase].get(frame.kind)
                event = self._unexpected(frame) if reader is None else reader(self, frame)
                if event is not None:
                    return event
            return None
        except (RemoteProtocolError, AuthenticationFailed, VersionMismatch) as error:
            self.break_off(error)
            raise

    def data_to_send(self) -> list[bytes]:
        """What the handshake wants to say now; the caller sends it."""
        outbox, self._outbox = self._outbox, []
        return outbox

    def break_off(self, error: Exception) -> None:
        """The peer broke the protocol, be it within a message, as a service found: the connection is at its end.

        A gateway has a last word for the peer then, which ``data_to_send`` gives.
        """
        if self.phase is Phase.CLOSED:
            return
        if self.role is _GATEWAY and self.phase is not Phase.BROKEN:
            self._outbox.append(words.refusal_frame(getattr(error, "status", 400), str(error)))
        self.phase = Phase.BROKEN

    def _unexpected(self, frame: Frame) -> Event | None:
        """A frame that has no reader now: it is late, and dropped, or it breaks the protocol."""
        if frame.operation in self._left:
            if frame.kind in (RESULT, FAULT):
                self._left.discard(frame.operation)
            if frame.kind in (MESSAGE, ITEMS, RESULT, FAULT):
                return None
        late = self.role is _GATEWAY and self.phase is _IDLE and frame.operation == self.operation
        if late and frame.kind in (MESSAGE, CREDIT, ABORT):
            return None
        raise RemoteProtocolError(f"{Kind(frame.kind).name} arrived while {self.phase.text}")

    # The handshake

    def start(self) -> list[bytes]:
        """The client's first bytes."""
        self._expect(Phase.START)
        self.phase = Phase.HELLO
        return [self._handshake.say_hello()]

    def _read_hello(self, frame: Frame) -> Event | None:
        peer = self._handshake.hear_hello(frame)
        self.peer_agent = peer.agent
        self.send_limit = min(peer.limit, LARGEST_BODY)
        if self.role is _CLIENT:
            self._outbox += self._handshake.say_proof()
            self.phase = Phase.WELCOME
            return None
        self._outbox.append(self._handshake.say_hello())
        if self._handshake.asks_for_proof():
            self.phase = Phase.PROOF
            return None
        self.phase = Phase.VERDICT
        return peer

    def _read_proof(self, frame: Frame) -> Event:
        self.rights = self._handshake.hear_proof(frame)
        self.phase = Phase.VERDICT
        return self._handshake.peer

    def welcome(self) -> list[bytes]:
        """The gateway serves this pair: its last word of the handshake."""
        self._expect(Phase.VERDICT)
        said = self._handshake.say_welcome(self.rights)
        self._open_up()
        return [said]

    def refuse(self, status: int, message: str) -> list[bytes]:
        """The gateway does not serve this pair; allowed at any time of the handshake."""
        if self.role is not _GATEWAY or self.phase not in (Phase.HELLO, Phase.PROOF, Phase.VERDICT):
            raise LocalProtocolError(f"a connection that is {self.phase.text} can't be refused")
        self.phase = Phase.CLOSED
        return [words.refusal_frame(status, message)]

    def _read_welcome(self, frame: Frame) -> Event:
        event = self._handshake.hear_welcome(frame)
        self.rights = event.rights
        self._open_up()
        return event

    def _read_refusal(self, frame: Frame) -> Event:
        status, message = words.parse_refusal(frame)
        self.phase = Phase.CLOSED
        raise refusal(status, message)

    def _open_up(self) -> None:
        self._parser.resize(limit=self._limit, largest_head=LARGEST_HEAD, capacity=_RECEIVE_CAPACITY)
        self.phase = _IDLE

    # The client's words

    def open(self, verb: str, parameters: Sequence[Any]) -> list[Bytes]:
        """Begin an operation. Raises `Busy` while another runs, `ValueNotSupported` and `ValueTooLarge`."""
        if self.phase is not _IDLE or self.role is not _CLIENT:
            if self.phase is _RUNNING:
                raise Busy("this pair runs another operation; let it end, or take another client for this one")
            self._expect(_IDLE, _CLIENT)
        operation = (self.operation + 1) & 0xFFFF
        if operation in self._left:
            raise Busy("this pair left so many operations that the gateway has to end some first")
        form, head, buffers, size = encode([verb, *parameters], self.registry)
        frame = self._value_frame(OPEN, form, head, buffers, size, operation)
        self.operation = operation
        self.credit_items = self.credit_size = 0
        self.phase = _RUNNING
        return frame

    def withdraw(self) -> None:
        """Take back an opening of which nothing was sent."""
        self._expect(_RUNNING, _CLIENT)
        self.operation = (self.operation - 1) & 0xFFFF
        self.phase = _IDLE

    def credit(self, items: int, size: int) -> list[Bytes]:
        """Allow the gateway so many further items, and bytes of them."""
        self._expect(_RUNNING, _CLIENT)
        said = words.credit_frame(items, size, self.operation)
        self.credit_items += items
        self.credit_size += size
        return [said]

    def abort(self) -> list[Bytes]:
        """Leave the running operation; the next may be opened at once."""
        self._expect(_RUNNING, _CLIENT)
        self._left.add(self.operation)
        self.phase = _IDLE
        return [words.small_frame(ABORT, 0, b"", b"", self.operation)]

    def goodbye(self) -> list[Bytes]:
        """End the pair. Allowed once the handshake is over."""
        if self.phase not in (_IDLE, _RUNNING):
            raise LocalProtocolError(f"there is nobody to say goodbye to on a connection that is {self.phase.text}")
        self.phase = Phase.CLOSED
        return [words.small_frame(GOODBYE, 0, b"", b"")]

    # Words of both

    def message(self, code: int, head: bytes, buffers: Sequence[Bytes]) -> list[Bytes]:
        """Say ``code`` (0 to 255) with a head of at most 64 KiB and a body of these buffers, within the
        operation.
        """
        if self.phase is not _RUNNING:
            self._expect(_RUNNING)
        if len(head) > LARGEST_HEAD:
            raise ValueTooLarge(f"the head of a message has at most {LARGEST_HEAD} bytes, not {len(head)}")
        if not 0 <= code <= 255:
            raise LocalProtocolError(f"the code of a message is 0 to 255, not {code}")
        # The length of a view is not its size in bytes when its elements are larger.
        buffers = [each.cast("B") if isinstance(each, memoryview) and each.itemsize > 1 else each for each in buffers]
        size = sum(map(len, buffers))
        return self._value_frame(MESSAGE, code, head, buffers, size, self.operation)

    # The gateway's words

    def items(
        self, form: int, value_head: bytes, idents: Sequence[int], payloads: Sequence[Bytes] | memoryview
    ) -> list[Bytes]:
        """Send items with encoded payloads of one form (see `handshakes.items`).

        Raises `LocalProtocolError` when the credit does not reach: it must cover every item, and be above 0
        in bytes.
        """
        self._expect(_RUNNING, _GATEWAY)
        if len(idents) > self.credit_items or self.credit_size <= 0:
            raise LocalProtocolError(f"credit for {self.credit_items} items can't carry {len(idents)}")
        head, buffers, size = write_items(form, value_head, idents, payloads)
        frame = self._value_frame(ITEMS, form, head, buffers, size, self.operation)
        self.credit_items -= len(idents)
        self.credit_size -= size
        return frame

    def lone_item(self, form: int, value_head: bytes, ident: int, payload: bytes) -> bytes | None:
        """The same for one small item, the short way; None when the credit does not reach."""
        if self.phase is not _RUNNING or self.credit_items <= 0 or self.credit_size <= 0:
            return None
        frame, size = words.lone_item_frame(form, value_head, ident, payload, self.operation)
        self.credit_items -= 1
        self.credit_size -= size
        return frame

    def result(self, value: Any) -> list[Bytes]:
        """End the operation with a value. When that can't be encoded this raises, and it still runs."""
        if self.phase is not _RUNNING or self.role is not _GATEWAY:
            self._expect(_RUNNING, _GATEWAY)
        form, head, buffers, size = encode(value, self.registry)
        frame = self._value_frame(RESULT, form, head, buffers, size, self.operation)
        self._end_operation()
        return frame

    def fault(self, status: int, type_name: str, message: str, traceback: str = "") -> list[Bytes]:
        """End the operation with an error; texts are cut so that they always fit."""
        self._expect(_RUNNING, _GATEWAY)
        said = words.fault_frame(Fault(status, type_name, message, traceback), self.operation, self.send_limit)
        self._end_operation()
        return [said]

    def _end_operation(self) -> None:
        self._aborting = False
        self.credit_items = self.credit_size = 0
        self.phase = _IDLE

    # Readers of a pair at work

    def _read_open(self, frame: Frame) -> Event:
        self.operation = frame.operation
        self.phase = _RUNNING
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
        credit = words.parse_credit(frame)
        if frame.operation != self.operation:
            raise RemoteProtocolError("a credit arrived that belongs to no operation")
        self.credit_items += credit.items
        self.credit_size += credit.size
        return credit

    def _read_abort(self, frame: Frame) -> Event:
        if frame.operation != self.operation:
            raise RemoteProtocolError("an abort arrived that belongs to no operation")
        self._aborting = True
        return Abort()

    def _read_result(self, frame: Frame) -> Event | None:
        if frame.operation != self.operation:
            return self._unexpected(frame)
        self.phase = _IDLE
        return Result(decode(frame.flags, frame.head, frame.body, self.registry, frame.shared))

    def _read_fault(self, frame: Frame) -> Event | None:
        if frame.operation != self.operation:
            return self._unexpected(frame)
        event = words.parse_fault(frame)
        self.phase = _IDLE
        return event

    def _read_goodbye(self, _frame: Frame) -> Event:
        self.phase = Phase.CLOSED
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
        if size < SMALL:
            return [header + head + buffers[0]] if len(buffers) == 1 else [b"".join((header, head, *buffers))]
        return [header + head, *buffers]


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
