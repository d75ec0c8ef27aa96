"""What is fuzzed: functions that take any bytes, and raise only when something is wrong.

What a peer's bytes may lead to is an answer or one of the documented errors; those are caught here. Beyond that, each
target checks what must hold for whatever was read: in pieces as in whole, written again as read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from handshakes.chunks import TRIES, ChunkPlan, LargeFile, Pack, Run, Seal, Work
from handshakes.connection import Connection, Phase, Role
from handshakes.errors import Refused, RemoteProtocolError, UnsafePath, ValueNotSupported
from handshakes.frames import FrameParser
from handshakes.items import read_items
from handshakes.manifest import Entry, decode_page, encode_file, encode_folder
from handshakes.messages import Items, Open, Registry, Rights
from handshakes.paths import check_path, from_bytes, is_partial, to_bytes
from handshakes.transfer import (
    ChunkHead,
    PutHead,
    Want,
    decode_names,
    decode_receipt,
    decode_rows,
    encode_names,
    encode_receipt,
    encode_rows,
)
from handshakes.values import decode, encode

__all__ = ["CODECS", "PLACES", "TARGETS", "joined_value"]

_LIMIT = 1 << 16
_KEY = b"a derived key of 32 bytes, as is"
_DOCUMENTED = (RemoteProtocolError, ValueNotSupported)


class _Wrong(AssertionError):
    """Something that must hold does not."""


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise _Wrong(what)


# Frames


def parser(data: bytes) -> None:
    """Frames are the same however they are cut."""
    if not data:
        return
    step = data[0] + 1
    whole, pieces = _frames(data[1:], len(data)), _frames(data[1:], step)
    if whole != pieces:
        raise _Wrong(f"in pieces of {step} bytes: {pieces}, in whole: {whole}")


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
            _check(len(space) > 0, "an empty buffer, which a driver would take for the end")
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
        raise _Wrong(f"{once} was written again as {twice}")


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
    _check(len(found.idents) == len(found.payloads), f"{len(found.idents)} idents, {len(found.payloads)} payloads")


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
            _check(count > 0, "an empty buffer, which a driver would take for the end")
            side.receive_data(rest[:count])
            rest = rest[count:]
            _hear(side)
    except (RemoteProtocolError, Refused):
        _check(side.phase in (Phase.BROKEN, Phase.CLOSED), f"an error, and yet it is {side.phase.text}")
    _check(sum(map(len, side.data_to_send())) <= 8192, "much is said to a peer that has not proved itself")
    if phase is Phase.PROOF:
        _check(side.phase is not Phase.VERDICT, "a proof was made without the key")


def _hear(side: Connection) -> None:
    while True:
        try:
            event = side.next_event()
        except ValueNotSupported:
            continue
        if event is None:
            return
        if type(event) is Open and event.problem is None:
            _check(type(event.verb) is str, "a verb that is no text")
        if type(event) is Items:
            _check(len(event.idents) == len(event.payloads), "idents and payloads differ in number")


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
    _check((again.files, again.folders) == (page.files, page.folders), f"{page} was read again as {again}")


def paths(data: bytes) -> None:
    """A path that is let through stays below its folder, whatever reads it."""
    path = from_bytes(data)
    try:
        components = check_path(path)
    except UnsafePath:
        return
    _check("/".join(components) == path, f"{path!r} became {components}")
    for name in components:
        plain = name not in ("", ".", "..") and not set(name) & set("/\\\0")
        drive = name[1:2] == ":" and name[0].isascii() and name[0].isalpha()
        _check(plain and not drive, f"{path!r} was let through")
        is_partial(name)
    _check(to_bytes(path) == data, f"{path!r} has other bytes than {data!r}")


def _rows(data: bytes, count: int) -> bytes | None:
    rows, rest = decode_rows(data, count)
    return encode_rows(rows) + bytes(rest)


def _names(data: bytes, _count: int) -> bytes | None:
    try:
        return encode_names(decode_names(data))
    except UnsafePath:
        return None


def _head(kind: type[Want | ChunkHead | PutHead]) -> Callable[[bytes, int], bytes | None]:
    def again(data: bytes, _count: int) -> bytes | None:
        try:
            return kind.decode(data).encode()
        except UnsafePath:
            return None

    return again


def _receipts(data: bytes, count: int) -> bytes | None:
    receipts = decode_receipt(data, count)
    _check(len(receipts) == count, f"{len(receipts)} receipts in place of {count}")
    # A long reason is cut and what is no text replaced, so only what is read again can be compared.
    _check(len(decode_receipt(encode_receipt(receipts), count)) == count, "receipts are not read again")
    return None


CODECS: dict[str, Callable[[bytes, int], bytes | None]] = {
    "want": _head(Want),
    "chunk": _head(ChunkHead),
    "put": _head(PutHead),
    "rows": _rows,
    "receipt": _receipts,
    "names": _names,
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
    _check(again is None or again == data[2:], f"{data[2:]!r} was written again as {again!r}")


# The plan of a transfer


def chunks(data: bytes) -> None:
    """However lanes take, bring, damage, lose and begin again: every file is settled once, and the figures add up."""
    plan = _Plan(data)
    plan.stir()
    plan.drain()
    figures = (plan.plan.files_done, plan.plan.files_total, plan.plan.bytes_done, plan.plan.bytes_total)
    _check(plan.plan.finished, f"everything was brought, and the plan is not finished: {figures}")
    _check(plan.plan.files_done == plan.plan.files_total == plan.done, f"{plan.done} files done, figures: {figures}")
    _check(plan.plan.bytes_done == plan.plan.bytes_total == plan.size, f"{plan.size} bytes done, figures: {figures}")


class _Plan:
    """A plan, lanes that work at random, and what they should come to."""

    _MOST_STEPS = 20_000

    def __init__(self, data: bytes) -> None:
        self._choices = iter(data)
        self.plan = ChunkPlan(1 + self._next() % 4)
        self.done = self.size = 0
        self._held: list[Work] = []
        for number in range(self._next() % 6):
            self.plan.add_file(LargeFile(Entry(str(number), 1 + self._next() * 5, 0, 0), 1 + self._next() % 64))
        for _ in range(self._next() % 4):
            count = 1 + self._next() % 5
            self.plan.add_pack(Pack(b"", count, 10 * count))

    def _next(self) -> int:
        return next(self._choices, 0)

    def stir(self) -> None:
        """Do what the bytes say."""
        for choice in self._choices:
            if choice < 80 or not self._held:
                work = self.plan.take(1 + self._next() * 4)
                if work is not None:
                    self._held.append(work)
            else:
                work = self._held.pop(choice % len(self._held))
                (self._bring, self._lose, self._damage, self._change)[choice % 4](work)

    def drain(self) -> None:
        """Bring all that is left."""
        for _ in range(self._MOST_STEPS):
            work = self._held.pop() if self._held else self.plan.take(1 << 20)
            if work is None:
                return
            self._bring(work)
        raise _Wrong("the plan never comes to an end")

    def _bring(self, work: Work) -> None:
        if isinstance(work, Pack):
            self.plan.settle_pack(work, work.count, work.size)
            self.done, self.size = self.done + work.count, self.size + work.size
        elif isinstance(work, Run):
            for index in range(work.first, work.first + work.count):
                self.plan.chunk_arrived(work, index, bytes(16))
        elif not work.void:
            self._settle(work, done=True)

    def _settle(self, work: Run | Seal, *, done: bool) -> None:
        size = work.file.entry.size
        if self.plan.settle_file(work.file, done=done) and done:
            self.done, self.size = self.done + 1, self.size + size

    def _lose(self, work: Work) -> None:
        if isinstance(work, Run):
            brought = self._next() % (work.count + 1)
            for index in range(work.first, work.first + brought):
                self.plan.chunk_arrived(work, index, bytes(16))
            work = Run(work.file, work.generation, work.first + brought, work.count - brought)
        self.plan.give_back(work)

    def _damage(self, work: Work) -> None:
        if not isinstance(work, Run):
            self.plan.give_back(work)
            return
        for index in range(work.first, work.first + work.count):
            if self._next() % 3:
                self.plan.chunk_arrived(work, index, bytes(16))
            elif not self.plan.chunk_damaged(work, index):
                self._settle(work, done=False)

    def _change(self, work: Work) -> None:
        if isinstance(work, Pack):
            self.plan.give_back(work)
        elif not work.void:
            entry = work.file.entry._replace(size=self._next() * 5)
            if not self.plan.begin_again(work, entry):
                _check(work.file.generation == TRIES - 1, "a file was given up too early")
                self._settle(work, done=False)


TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each for each in (parser, values, items, connection, manifest, paths, transfer, chunks)
}
