"""What is fuzzed: functions that take any bytes, and raise only when something is wrong.

What a peer's bytes may lead to is an answer or one of the documented errors; those are caught here. Beyond that, each
target checks what must hold for whatever was read: in pieces as in whole, written again as read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from handshakes.connection import Connection, Phase, Role
from handshakes.deltas import (
    PieceWant,
    RemoveHead,
    decode_grown,
    decode_grown_rows,
    decode_held,
    decode_offer,
    decode_ranges,
    decode_sums,
    encode_grown,
    encode_grown_rows,
    encode_ranges,
)
from handshakes.errors import Refused, RemoteProtocolError, UnsafePath, ValueNotSupported
from handshakes.frames import FrameParser
from handshakes.items import read_items
from handshakes.manifest import Entry, decode_page, encode_file, encode_folder
from handshakes.messages import Items, Open, Registry, Rights
from handshakes.paths import check_path, from_bytes, is_partial, to_bytes
from handshakes.survey import (
    End,
    Facts,
    FileRow,
    FolderRow,
    LinkRow,
    Row,
    SkippedRow,
    encode_end,
    encode_file_row,
    encode_folder_row,
    encode_gone_row,
    encode_link_row,
    encode_skipped_row,
    read_rows,
)
from handshakes.transfer import (
    ChunkHead,
    Compressed,
    PutHead,
    Status,
    Want,
    decode_names,
    decode_receipt,
    decode_rows,
    encode_names,
    encode_receipt,
    encode_rows,
)
from handshakes.values import decode, encode
from tools.fuzz.checking import Wrong, check
from tools.fuzz.plan import chunks
from tools.fuzz.tstorage import tstorage_answers, tstorage_requests

__all__ = ["CODECS", "PLACES", "TARGETS", "joined_value", "written_row"]

_LIMIT = 1 << 16
_KEY = b"a derived key of 32 bytes, as is"
_DOCUMENTED = (RemoteProtocolError, ValueNotSupported)


# Frames


def parser(data: bytes) -> None:
    """Frames are the same however they are cut."""
    if not data:
        return
    step = data[0] + 1
    whole, pieces = _frames(data[1:], len(data)), _frames(data[1:], step)
    if whole != pieces:
        raise Wrong(f"in pieces of {step} bytes: {pieces}, in whole: {whole}")


def _frames(data: bytes, step: int) -> list[Any]:
    """What comes out of a parser that is fed ``step`` bytes at a time; the error at the end, if there is one."""
    found: list[Any] = []
    parser, rest = FrameParser(limit=_LIMIT, capacity=4096), memoryview(data)
    try:
        while True:
            frame = parser.next_frame()
            if frame is not None:
                found.append((frame.kind, frame.flags, frame.operation, frame.head, bytes(frame.body)))
                continue
            if not rest:
                return found
            space = parser.buffer()
            check(len(space) > 0, "an empty buffer, which a driver would take for the end")
            count = min(len(space), len(rest), step)
            space[:count] = rest[:count]
            parser.advance(count)
            rest = rest[count:]
    except RemoteProtocolError:
        return [*found, "error"]


# Values


class _Point:
    """A class as users register theirs."""

    def __init__(self) -> None:
        self.x: object = 0
        self.y: object = 0


def _registry() -> Registry:
    registry = Registry()
    registry.register(_Point)
    return registry


_REGISTRY = _registry()


def joined_value(form: int, head: bytes, body: bytes) -> bytes:
    """An input for `values` and `items`."""
    return bytes([form, len(head) & 255, len(head) >> 8]) + head + body


def _split_value(data: bytes) -> tuple[int, bytes, bytes]:
    size = int.from_bytes(data[1:3], "little")
    return data[0], data[3 : 3 + size], data[3 + size :]


def values(data: bytes) -> None:
    """What was read can be written, and is read again as the same."""
    if len(data) < 3:
        return
    form, head, body = _split_value(data)
    try:
        value = decode(form, head, body, _REGISTRY, shared=bool(form & 128))
    except _DOCUMENTED:
        return
    try:
        first = encode(value, _REGISTRY)
    except ValueNotSupported:
        # What only other writers would write: dates before the first, say.
        return
    again = decode(first[0], first[1], b"".join(first[2]), _REGISTRY)
    once, twice = _written(first), _written(encode(again, _REGISTRY))
    # Not the values themselves: text of numpy's that is none can't even be shown.
    if once != twice:
        raise Wrong(f"{once} was written again as {twice}")


def _written(encoded: tuple[int, bytes, Sequence[Any], int]) -> tuple[int, bytes, bytes]:
    form, head, buffers, _ = encoded
    return form, head, b"".join(buffers)


def items(data: bytes) -> None:
    """As many payloads as idents, and no more memory than there are bytes."""
    if len(data) < 3:
        return
    form, head, body = _split_value(data)
    try:
        found = read_items(form & 127, head, body, bool(form & 128), _REGISTRY)
    except _DOCUMENTED:
        return
    check(len(found.idents) == len(found.payloads), f"{len(found.idents)} idents, {len(found.payloads)} payloads")


# One side of a pair

PLACES = [
    (Role.GATEWAY, Phase.HELLO),
    (Role.GATEWAY, Phase.PROOF),
    (Role.GATEWAY, Phase.IDLE),
    (Role.GATEWAY, Phase.RUNNING),
    (Role.CLIENT, Phase.HELLO),
    (Role.CLIENT, Phase.WELCOME),
    (Role.CLIENT, Phase.IDLE),
    (Role.CLIENT, Phase.RUNNING),
]
"""Where a side stands when the bytes arrive; the first byte of an input for `connection` chooses."""


def _pass_on(buffers: Sequence[Any], to: Connection) -> None:
    to.receive_data(b"".join(buffers))
    while to.next_event() is not None:
        pass


def _side(role: Role, phase: Phase) -> Connection:
    """One side of a pair that has come to this phase."""
    keyed = phase in (Phase.PROOF, Phase.WELCOME)
    client = Connection(Role.CLIENT, nonce=b"c" * 32, key=_KEY if keyed else None, limit=_LIMIT, registry=_REGISTRY)
    gateway = Connection(
        Role.GATEWAY,
        nonce=b"g" * 32,
        keys={_KEY: Rights.DEFAULT} if keyed else None,
        rights=Rights.DEFAULT,
        limit=_LIMIT,
        registry=_REGISTRY,
    )
    side = client if role is Role.CLIENT else gateway
    steps: list[Callable[[], object]] = [
        lambda: _pass_on(client.start(), gateway),
        lambda: _pass_on(gateway.data_to_send(), client),
        lambda: _pass_on(gateway.welcome(), client),
        lambda: _pass_on(client.open("verb", [1]), gateway),
        lambda: client.credit(1000, 1 << 16),
    ]
    reached = {Phase.HELLO: 0, Phase.PROOF: 1, Phase.WELCOME: 2, Phase.IDLE: 3, Phase.RUNNING: 5}[phase]
    for step in steps[:reached]:
        step()
    if phase is Phase.HELLO and role is Role.CLIENT:
        client.start()
    side.data_to_send()
    return side


def connection(data: bytes) -> None:
    """Events or a documented error, after which nothing more is said; nobody gets in without a proof."""
    if len(data) < 2:
        return
    role, phase = PLACES[data[0] % len(PLACES)]
    side, step, rest = _side(role, phase), data[1] + 1, memoryview(data)[2:]
    try:
        while len(rest) and side.wants_data:
            count = min(len(side.buffer()), len(rest), step)
            check(count > 0, "an empty buffer, which a driver would take for the end")
            side.receive_data(rest[:count])
            rest = rest[count:]
            _hear(side)
    except (RemoteProtocolError, Refused):
        check(side.phase in (Phase.BROKEN, Phase.CLOSED), f"an error, and yet it is {side.phase.text}")
    check(sum(map(len, side.data_to_send())) <= 8192, "much is said to a peer that has not proved itself")
    if phase is Phase.PROOF:
        check(side.phase is not Phase.VERDICT, "a proof was made without the key")


def _hear(side: Connection) -> None:
    while True:
        try:
            event = side.next_event()
        except ValueNotSupported:
            continue
        if event is None:
            return
        if type(event) is Open and event.problem is None:
            check(type(event.verb) is str, "a verb that is no text")
        if type(event) is Items:
            check(len(event.idents) == len(event.payloads), "idents and payloads differ in number")


# Files


def manifest(data: bytes) -> None:
    """A page that was read is written as it was, but for bits without meaning."""
    try:
        page = decode_page(data)
    except RemoteProtocolError:
        return
    try:
        written = b"".join([*map(encode_file, page.files), *map(encode_folder, page.folders)])
    except UnsafePath:
        return
    again = decode_page(written)
    check((again.files, again.folders) == (page.files, page.folders), f"{page} was read again as {again}")


def paths(data: bytes) -> None:
    """A path that is let through stays below its folder, whatever reads it."""
    path = from_bytes(data)
    try:
        components = check_path(path)
    except UnsafePath:
        return
    check("/".join(components) == path, f"{path!r} became {components}")
    for name in components:
        plain = name not in ("", ".", "..") and not set(name) & set("/\\\0")
        drive = name[1:2] == ":" and name[0].isascii() and name[0].isalpha()
        check(plain and not drive, f"{path!r} was let through")
        is_partial(name)
    check(to_bytes(path) == data, f"{path!r} has other bytes than {data!r}")


def survey(data: bytes) -> None:
    """Rows that were read are written as they were, but for bits and reasons without meaning; names are names."""
    try:
        rows = list(read_rows(data))
        written = b"".join(map(written_row, rows))
    except RemoteProtocolError:
        return
    again = list(read_rows(written))
    check(again == rows or any(isinstance(row, SkippedRow) for row in rows), f"{rows} were read again as {again}")
    for row in rows:
        name = row.name if isinstance(row, (FileRow, LinkRow)) else b"a name"
        check(name not in (b"", b".", b"..") and not set(name) & set(b"/\0"), f"{name!r} was let through")


def written_row(row: Row) -> bytes:
    """A row of a survey as it is on the wire."""
    if isinstance(row, FileRow):
        return encode_file_row(row.name, Facts.decode(row.facts))
    if isinstance(row, FolderRow):
        return encode_folder_row(row)
    if isinstance(row, LinkRow):
        return encode_link_row(row)
    if isinstance(row, SkippedRow):
        return encode_skipped_row(row)
    return encode_end(row) if isinstance(row, End) else encode_gone_row(row)


def _rows(data: bytes, count: int) -> bytes | None:
    rows, rest = decode_rows(data, count)
    return encode_rows(rows) + bytes(rest)


def _names(data: bytes, _count: int) -> bytes | None:
    try:
        return encode_names(decode_names(data))
    except UnsafePath:
        return None


def _head(kind: type[Want | ChunkHead | PutHead | PieceWant | RemoveHead]) -> Callable[[bytes, int], bytes | None]:
    def again(data: bytes, _count: int) -> bytes | None:
        try:
            return kind.decode(data).encode()
        except UnsafePath:
            return None

    return again


def _receipts(data: bytes, count: int) -> bytes | None:
    receipts = decode_receipt(data, count)
    check(len(receipts) == count, f"{len(receipts)} receipts in place of {count}")
    # A long reason is cut and what is no text replaced, so only what is read again can be compared.
    check(len(decode_receipt(encode_receipt(receipts), count)) == count, "receipts are not read again")
    return None


def _ranges(data: bytes, _count: int) -> bytes:
    return encode_ranges(decode_ranges(data, 1 << 40))


def _sums(data: bytes, count: int) -> bytes:
    return b"".join(decode_sums(data, count))


def _grown(data: bytes, _count: int) -> bytes:
    return encode_grown(decode_grown(data))


def _grown_rows(data: bytes, count: int) -> bytes:
    rows, rest = decode_grown_rows(data, count)
    return encode_grown_rows(rows) + bytes(rest)


def _compressed(data: bytes, _count: int) -> bytes:
    return Compressed.decode(data[:8], data[8:]).encode() + data[8:]


def _held(data: bytes, _count: int) -> bytes:
    files = decode_held(data[:4], data[4:])
    table = b"".join(encode_file(entry) for entry, _ in files)
    return len(table).to_bytes(4, "little") + table + b"".join(digest for _, digest in files)


def _offer(data: bytes, count: int) -> bytes:
    head = PutHead(Status.OK, 0, Entry("name", 1 << 30, 0, 0), 1 << 20, count, bytes(16))
    return b"".join(decode_offer(head, data))


CODECS: dict[str, Callable[[bytes, int], bytes | None]] = {
    "want": _head(Want),
    "chunk": _head(ChunkHead),
    "put": _head(PutHead),
    "rows": _rows,
    "receipt": _receipts,
    "names": _names,
    "piece": _head(PieceWant),
    "remove": _head(RemoveHead),
    "ranges": _ranges,
    "sums": _sums,
    "grown": _grown,
    "grown rows": _grown_rows,
    "compressed": _compressed,
    "held": _held,
    "offer": _offer,
}
"""What an input for `transfer` is read as, and written again: its first byte chooses, the second is a count."""


def transfer(data: bytes) -> None:
    """What was read is written as it was."""
    if len(data) < 2:
        return
    codec = list(CODECS.values())[data[0] % len(CODECS)]
    try:
        again = codec(data[2:], data[1])
    except RemoteProtocolError:
        return
    check(again is None or again == data[2:], f"{data[2:]!r} was written again as {again!r}")


TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each
    for each in (
        parser,
        values,
        items,
        connection,
        manifest,
        survey,
        paths,
        transfer,
        chunks,
        tstorage_requests,
        tstorage_answers,
    )
}
