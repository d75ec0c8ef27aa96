"""The small words of a pair: frames that hold a few fields, built and strictly parsed.

A peer's JSON is believed to hold the types that belong there and no others: turning one into another may
raise anything. Whatever is wrong with a word is a `RemoteProtocolError`. What a hello holds beyond the fields
known here is passed over, so that a later version may say more.
"""

from __future__ import annotations

import struct
from typing import Any

import orjson

from handshakes.auth import NONCE_SIZE
from handshakes.errors import LocalProtocolError, RemoteProtocolError
from handshakes.frames import Frame, pack_header
from handshakes.messages import MAGIC, Credit, Fault, Hello, Kind
from handshakes.values import JSON

__all__ = [
    "SMALL",
    "credit_frame",
    "fault_frame",
    "hello_frame",
    "lone_item_frame",
    "parse_credit",
    "parse_fault",
    "parse_hello",
    "parse_refusal",
    "parse_welcome",
    "read_hello",
    "read_versions",
    "refusal_frame",
    "small_frame",
    "welcome_frame",
]

SMALL = 4096
"""Limit in bytes for everything that a peer sends before it has proved itself."""

_CREDIT = struct.Struct("<IQ")
# A frame's header, and the head of a frame of items.
_LONE_ITEM = struct.Struct("<BBHIIIBBqI")
_ITEMS = int(Kind.ITEMS)
_HELLO_FIELDS = {"versions": list, "limit": int, "nonce": str, "keyed": bool, "bound": bool, "agent": str}
_LONGEST_AGENT = 200
_LONGEST_REASON = 500  # characters: they fit into `SMALL` however they are escaped
_LONGEST_TYPE_NAME = 200
_LONGEST_TRACEBACK = 16384


def small_frame(kind: int, flags: int, head: bytes, body: bytes, operation: int = 0) -> bytes:
    """A frame as one piece of bytes."""
    return pack_header(kind, flags, operation, len(head), len(body)) + head + body


def lone_item_frame(form: int, value_head: bytes, ident: int, payload: bytes, operation: int) -> tuple[bytes, int]:
    """A frame of one item, as `handshakes.items` describes it, with the size of its body.

    The short way for items that come one by one: what a cold processor runs through is what such an item waits for.
    Raises `struct.error` for an ident that is no integer of 64 bits.
    """
    size = len(payload)
    if form == JSON:
        payload = b"[%b]" % payload
        fields = _LONE_ITEM.pack(_ITEMS, form, operation, 18 + len(value_head), size + 2, 1, 0, 0, ident, 0)
        return fields + value_head + payload, size + 2
    fields = _LONE_ITEM.pack(_ITEMS, form, operation, 18 + len(value_head), size, 1, 0, 0, ident, size)
    return fields + value_head + payload, size


# Hello


def hello_frame(hello: Hello) -> bytes:
    """Either side's first word."""
    body = {
        "versions": hello.versions,
        "limit": hello.limit,
        "nonce": hello.nonce.hex(),
        "keyed": hello.keyed,
        "bound": hello.bound,
        "agent": _cut(hello.agent, _LONGEST_AGENT),
    }
    return small_frame(Kind.HELLO, 0, MAGIC, orjson.dumps(body))


def parse_hello(frame: Frame) -> dict[str, Any]:
    """The fields of a hello of any version: look at `read_versions` before `read_hello`."""
    if frame.head != MAGIC:
        raise RemoteProtocolError("the other side does not speak pynetwork 3")
    fields = _parse(frame)
    if type(fields) is not dict:
        raise RemoteProtocolError("a hello arrived that is malformed")
    return fields


def read_versions(fields: dict[str, Any]) -> tuple[int, int]:
    """The lowest and the highest protocol version that the sender of a hello speaks."""
    versions = fields.get("versions")
    if type(versions) is not list or list(map(type, versions)) != [int, int]:
        raise RemoteProtocolError("a hello arrived without a range of versions")
    return versions[0], versions[1]


def read_hello(fields: dict[str, Any]) -> Hello:
    """A hello of a version that is spoken here."""
    versions = read_versions(fields)
    if any(type(fields.get(name)) is not kind for name, kind in _HELLO_FIELDS.items()):
        raise RemoteProtocolError("a hello arrived that is malformed")
    nonce = _parse_hex(fields["nonce"])
    if len(nonce) != NONCE_SIZE or fields["limit"] < SMALL:
        raise RemoteProtocolError("a hello arrived with a nonce or a limit that is too small")
    agent = fields["agent"][:_LONGEST_AGENT]
    return Hello(versions, fields["limit"], nonce, fields["keyed"], fields["bound"], agent)


# Welcome and refusal


def welcome_frame(rights: int, proof: bytes) -> bytes:
    """The gateway serves: the bits of what it grants, and its proof."""
    return small_frame(Kind.WELCOME, 0, b"", orjson.dumps([rights, proof.hex()]))


def parse_welcome(frame: Frame) -> tuple[int, bytes]:
    """The rights as 64 bits, some of which may have no meaning here, and the proof."""
    rights, proof = _parse_list(frame, int, str)
    if rights < 0:
        raise RemoteProtocolError("a WELCOME arrived that is malformed")
    return rights, _parse_hex(proof)


def refusal_frame(status: int, reason: str) -> bytes:
    """The gateway does not serve; a long reason is cut."""
    return small_frame(Kind.REFUSAL, 0, b"", orjson.dumps([status, _cut(reason, _LONGEST_REASON)]))


def parse_refusal(frame: Frame) -> tuple[int, str]:
    """Status and reason."""
    status, reason = _parse_list(frame, int, str)
    return status, reason


# Credit and fault


def credit_frame(items: int, size: int, operation: int) -> bytes:
    """So many further items, and bytes of them. Raises `LocalProtocolError` for what is no such number."""
    try:
        head = _CREDIT.pack(items, size)
    except struct.error as error:
        raise LocalProtocolError(f"{items} items and {size} bytes are no credit") from error
    return small_frame(Kind.CREDIT, 0, head, b"", operation)


def parse_credit(frame: Frame) -> Credit:
    """The credit that a head holds."""
    if len(frame.head) != _CREDIT.size:
        raise RemoteProtocolError("a credit arrived that is malformed")
    return Credit(*_CREDIT.unpack(frame.head))


def fault_frame(fault: Fault, operation: int, limit: int) -> bytes:
    """The end of an operation that failed; texts are cut until the body has at most ``limit`` bytes."""
    room = _LONGEST_TRACEBACK
    while True:
        texts = [
            _cut(fault.type_name, min(_LONGEST_TYPE_NAME, room)),
            _cut(fault.message, room // 2),
            _cut(fault.traceback[-room:], room),
        ]
        body = orjson.dumps([fault.status, *texts])
        if len(body) <= limit:
            return small_frame(Kind.FAULT, 0, b"", body, operation)
        room //= 2


def parse_fault(frame: Frame) -> Fault:
    """Status, type, message and traceback."""
    return Fault(*_parse_list(frame, int, str, str, str))


# Helpers


def _cut(text: str, size: int) -> str:
    """``text`` with at most ``size`` characters, and none that UTF-8 can't hold."""
    return text[:size].encode("utf-8", "replace").decode()


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
