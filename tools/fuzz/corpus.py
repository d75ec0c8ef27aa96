"""Inputs to begin with: what a gateway and a controller really say to each other, cut into small pieces.

``python -m tools.fuzz.corpus`` listens in on an exchange over the loopback, and writes the corpus anew.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy
import orjson

from handshakes.deltas import (
    Beginning,
    PieceWant,
    Range,
    RemoveHead,
    decode_grown,
    decode_ranges,
    encode_grown,
    encode_ranges,
)
from handshakes.frames import Frame, FrameParser, pack_header
from handshakes.manifest import Entry, decode_page, digest, encode_file
from handshakes.messages import Kind
from handshakes.records import Key, KeyRange, Rows, block_of, row_type
from handshakes.survey import End, GoneRow, Row, read_rows
from handshakes.transfer import Code, Compressed, Want
from handshakes.tstorage import (
    PUT_END,
    Command,
    acq_answer,
    batches,
    failure,
    get_acq_request,
    get_answer_begin,
    get_answer_end,
    get_request,
    put_answer,
    put_request,
    records,
)
from handshakes.values import Form
from pynetwork.client import CallerOperation, Client
from pynetwork.controller import Controller
from pynetwork.files import download, upload
from pynetwork.gateway import Gateway
from tools.fuzz.targets import CODECS, PLACES, TARGETS, joined_value, written_row
from tools.proxy import DOWN, UP, Direction, Proxy

__all__ = ["FOLDER", "read", "write"]

FOLDER = Path(__file__).resolve().parent / "corpus"
_LARGEST = 1024
_MOST = 24
_KEY = "a key for the exchange"
_PATIENCE = 20.0
_ROUNDS = 1000


def read(target: str) -> list[bytes]:
    """The inputs that are kept for a target, in a fixed order."""
    return [path.read_bytes() for path in sorted((FOLDER / target).glob("*.bin"))]


def write(folder: Path = FOLDER) -> int:
    """Listen in, and put what was heard in place of what is in ``folder``; answers how many inputs that is."""
    found = _inputs(_overhear(key=None), _overhear(key=_KEY))
    count = 0
    for target in TARGETS:
        shutil.rmtree(folder / target, ignore_errors=True)
        (folder / target).mkdir(parents=True)
        for data in _few(found[target], _KINDS.get(target, lambda data: data[:1])):
            (folder / target / f"{hashlib.sha256(data).hexdigest()[:12]}.bin").write_bytes(data)
            count += 1
    return count


def _few(inputs: list[bytes], kind: Callable[[bytes], bytes]) -> list[bytes]:
    """So many of them at the most: one of each kind, then another of each, and so on."""
    kinds: dict[bytes, list[bytes]] = defaultdict(list)
    for data in dict.fromkeys(inputs):
        if len(data) <= _LARGEST:
            kinds[kind(data)].append(data)
    rounds = zip_longest(*kinds.values())
    return [data for turn in rounds for data in turn if data is not None][:_MOST]


_KINDS: dict[str, Callable[[bytes], bytes]] = {
    "parser": lambda data: data[1:2],
    "connection": lambda data: data[:1] + data[2:3],
    "chunks": lambda data: data,
}
"""What tells inputs apart: the kind of a frame, and the place where it comes; elsewhere the first byte."""


# The exchange


def _overhear(key: str | None) -> dict[Direction, bytes]:
    """What goes over the wire of one client that uses everything."""
    heard: dict[Direction, list[bytes]] = {UP: [], DOWN: []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        share, incoming = folder / "share", folder / "incoming"
        _fill(share)
        gateway = Gateway(0, name="gateway", key=key, rights="all", share={"share": share}, download_dir=incoming)
        gateway.add_subroutine("echo", lambda value: value)
        gateway.add_subroutine("items", lambda values: (yield from enumerate(values)))
        with gateway, Proxy(gateway.port, tap=lambda: lambda direction, data: heard[direction].append(data)) as proxy:
            controller = Controller(port=proxy.port, key=key)
            with controller.get_swarm(1) as swarm:
                _use(swarm.clients[0])
                # With smaller chunks than a swarm's own methods take.
                lanes = swarm._lanes
                download(lanes, "share", to=folder / "copy", progress=False, chunk_size=256)
                download(lanes, "share", files=["a/b.log", "none"], to=folder / "copy", progress=False, chunk_size=256)
                upload(lanes, [share], dirname="in", progress=False, chunk_size=256)
                _follow(swarm.clients[0], share)
                _hold(swarm.clients[0], share)
    return {direction: b"".join(pieces) for direction, pieces in heard.items()}


def _fill(folder: Path) -> None:
    for name, size in {
        "a/b.log": 30,
        "a/large.bin": 700,
        "c/\N{GREEK SMALL LETTER PI}": 0,
        "hole": 0,
        "d e/f": 300,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes(range(256)) * 3 if size == 700 else b"x" * size)
    with (folder / "hole").open("wb") as file:
        file.truncate(600)


def _follow(client: Client, share: Path) -> None:
    """A survey with everything that can come in one, and a round of changes."""
    (share / "link").symlink_to("a/b.log")
    os.mkfifo(share / "pipe")
    with client.open("files.survey", "share", 0.02) as operation:
        _round(operation)
        for name in ("pipe", "link"):
            (share / name).unlink()
        shutil.rmtree(share / "d e")
        for _ in range(_ROUNDS):
            if any(isinstance(row, GoneRow) for row in _round(operation)):
                break
        operation.send(Code.FINISH)


def _round(operation: CallerOperation) -> list[Row]:
    rows: list[Row] = []
    while not rows or not isinstance(rows[-1], End):
        message = operation.receive(_PATIENCE)
        assert message is not None
        operation.send(Code.MORE)
        rows += read_rows(message.body)
    return rows


def _hold(client: Client, share: Path) -> None:
    """What somebody asks who holds a part of the files already; in the end one of them is removed."""
    with client.open("files.list", "share", False) as operation:
        page = operation.receive(_PATIENCE)
        assert page is not None
        entries = {entry.path: entry for entry in decode_page(page.body).files}
    large, small = entries["a/large.bin"], entries["a/b.log"]
    data = (share / "a/large.bin").read_bytes()
    with client.open("files.fetch", "share", {"portable": False}) as operation:
        ranges = [Range(0, 256), Range(256, 100), Range(256, 256), Range(700, 3)]
        operation.send(Code.SUMS, Want(large, 256).encode(), encode_ranges(ranges))
        operation.send(Code.PIECE, PieceWant(Want(large, 256, 2, 1), 100).encode())
        beginnings = [Beginning(10, digest(b"x" * 10)), Beginning(5, bytes(16))]
        operation.send(Code.GROWN, b"", encode_grown([(small, beginnings), (large, []), (Entry("no", 5, 0, 0), [])]))
        for _ in range(3):
            operation.receive(_PATIENCE)
        operation.send(Code.FINISH)
        operation.result(_PATIENCE)
    with client.open("files.remove", "share") as operation:
        for held in (bytes(16), digest(data)):
            operation.send(Code.REMOVE, RemoveHead(large, held).encode())
            operation.receive(_PATIENCE)
        operation.send(Code.FINISH)
        operation.result(_PATIENCE)


_VALUES: list[Any] = [
    None,
    b"raw bytes",
    {"text": "t\N{SNOWMAN}", "list": [1, -2.5, True, None, {"deep": [[]]}]},
    float("nan"),
    [float("inf"), b"bytes", {"a": numpy.arange(3, dtype="<i2")}],
    numpy.arange(6, dtype="<f8").reshape(2, 3),
    numpy.asfortranarray(numpy.ones((2, 3), "<u4")),
    numpy.array([("ab", 1)], dtype=[("name", "<U2"), ("number", "<i8")]),
    numpy.array(["2020-01-01"], dtype="datetime64[D]"),
    numpy.array(5, dtype="|b1"),
    {"$": "a marked dict"},
]


def _use(client: Client) -> None:
    client.ping("hello")
    client.subroutines()
    for value in _VALUES:
        client.call("echo", value)
    for values in ([1, 2.5, "x"], [b"a", b"bc", b""], [{"x": 1}, {"x": 2}], [[b"tree", 1], [b"tree", 2]]):
        list(client.stream("items", values))
    list(client.stream("items", [numpy.arange(4, dtype="<i4")] * 3))
    with client.stream("items", list(range(20))) as stream:
        next(stream)
    for wrong in ("none", "echo"):
        try:
            client.call(wrong)
        except Exception as error:
            str(error)  # a fault travels, too


# From frames to inputs


def _frames(data: bytes) -> list[Frame]:
    parser, found, rest = FrameParser(limit=1 << 26), [], memoryview(data)
    while True:
        frame = parser.next_frame()
        if frame is not None:
            found.append(Frame(frame.kind, frame.flags, frame.operation, frame.head, bytes(frame.body), False))
        elif not rest:
            return found
        else:
            space = parser.buffer()
            count = min(len(space), len(rest))
            space[:count] = rest[:count]
            parser.advance(count)
            rest = rest[count:]


def _written(frame: Frame, operation: int | None = None) -> bytes:
    number = frame.operation if operation is None else operation
    header = pack_header(frame.kind, frame.flags, number, len(frame.head), len(frame.body))
    return header + frame.head + bytes(frame.body)


def _inputs(*exchanges: dict[Direction, bytes]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = defaultdict(list)
    for exchange in exchanges:
        up, down = _frames(exchange[UP]), _frames(exchange[DOWN])
        for number, frame in enumerate([*up, *down]):
            found["parser"].append(bytes([number % 50]) + _written(frame))
            if frame.kind in (Kind.OPEN, Kind.RESULT):
                found["values"].append(joined_value(frame.flags, frame.head, bytes(frame.body)))
            if frame.kind == Kind.ITEMS:
                found["items"].append(joined_value(frame.flags, frame.head, bytes(frame.body)))
        found["connection"] += _as_heard("GATEWAY", up)
        found["connection"] += _as_heard("CLIENT", down)
        for target, data in _of_files(up, down):
            found[target].append(data)
    for target, data in _of_series():
        found[target].append(data)
    found["chunks"] = [hashlib.sha256(bytes([number])).digest() * 3 for number in range(8)]
    return found


def _as_heard(role: str, frames: list[Frame]) -> Iterator[bytes]:
    """Frames where they may come: in the handshake, between operations, within one."""
    phases = {
        Kind.HELLO: "HELLO",
        Kind.PROOF: "PROOF",
        Kind.WELCOME: "WELCOME",
        Kind.OPEN: "IDLE",
        Kind.GOODBYE: "IDLE",
    }
    places = [(place.name, phase.name) for place, phase in PLACES]
    for number, frame in enumerate(frames):
        kind = Kind(frame.kind)
        place = places.index((role, phases.get(kind, "RUNNING")))
        yield bytes([place, number % 50]) + _written(frame, frame.operation if kind in phases else 1)
        if kind in (Kind.RESULT, Kind.CREDIT):
            # Late, when its operation is over for the one who hears it.
            yield bytes([places.index((role, "IDLE")), number % 50]) + _written(frame, 1)


_NUMBERS = {name: number for number, name in enumerate(CODECS)}


def _of_files(up: list[Frame], down: list[Frame]) -> Iterator[tuple[str, bytes]]:
    """Pages, paths, and the messages of transfers."""
    verbs = {frame.operation: _verb(frame) for frame in up if frame.kind == Kind.OPEN}
    counts: dict[int, list[int]] = defaultdict(list)
    for frame in up:
        if frame.kind == Kind.MESSAGE:
            yield from _asked(frame, verbs[frame.operation], counts)
    for frame in down:
        if frame.kind == Kind.MESSAGE:
            yield from _answered(frame, verbs[frame.operation], counts)
    yield from _never_said()


def _verb(frame: Frame) -> str:
    return str(orjson.loads(bytes(frame.body))[0]) if frame.flags == Form.JSON else ""


def _codec(name: str, data: bytes, count: int = 0) -> tuple[str, bytes]:
    return "transfer", bytes([_NUMBERS[name], count]) + data


def _asked(frame: Frame, verb: str, counts: dict[int, list[int]]) -> Iterator[tuple[str, bytes]]:
    """What a controller asks for or brings; notes in ``counts``, by code, of how many files or ranges the answer is."""
    code, body, storing = frame.flags, bytes(frame.body), verb == "files.store"
    if code == Code.PACK and not storing:
        yield "manifest", body
        counts[code].append(len(decode_page(body).files))
    elif code == Code.NAMES:
        yield _codec("names", body)
    elif code == Code.SUMS and not storing:
        yield _codec("ranges", body)
        counts[code].append(len(decode_ranges(body, 1 << 40)))
    elif code == Code.GROWN:
        yield _codec("grown", body)
        counts[code].append(len(decode_grown(body)))
    elif code in _ASKED:
        yield _codec("put" if storing else _ASKED[Code(code)], frame.head)


_ASKED = {Code.RUN: "want", Code.SEAL: "want", Code.CHUNK: "put", Code.PIECE: "piece", Code.REMOVE: "remove"}


def _answered(frame: Frame, verb: str, counts: dict[int, list[int]]) -> Iterator[tuple[str, bytes]]:
    code, body = frame.flags, bytes(frame.body)
    if code == Code.PAGE and verb == "files.list":
        yield "manifest", body
        yield from (("paths", entry.path.encode()) for entry in decode_page(body).files)
    elif code == Code.PAGE:
        yield "survey", body
        # Each row for itself as well: whole pages are too long for most mutations to matter.
        yield from (("survey", written_row(row)) for row in read_rows(body))
    elif code in (Code.CHUNK, Code.SEAL, Code.PIECE):
        yield _codec("chunk", frame.head)
    elif code == Code.PACK:
        yield _codec("rows", body, counts[code].pop(0))
    elif code == Code.GROWN:
        yield _codec("grown rows", body, counts[code].pop(0))
    elif code == Code.SUMS:
        yield _codec("sums", body, counts[code].pop(0))
    elif code == Code.RECEIPT:
        yield _codec("receipt", body, max(1, len(body)))


def _never_said() -> Iterator[tuple[str, bytes]]:
    """What is said only where it pays, or where much is there already."""
    files = [Entry("a", 3, 1, 0o640), Entry("b/c", 0, 0, 0)]
    table = b"".join(map(encode_file, files))
    yield _codec("compressed", Compressed(27, 1000).encode() + bytes(60))
    yield _codec("held", len(table).to_bytes(4, "little") + table + digest(b"abc") + digest(b""))
    yield _codec("offer", digest(b"one") + digest(b"two"), 5)


def _of_series() -> Iterator[tuple[str, bytes]]:
    """What a client of TStorage may say, and what it is answered."""
    alike = numpy.zeros(20, row_type(4))
    alike["mid"] = numpy.arange(20)
    alike["cid"][10:] = 7
    rows = Rows(alike)
    differing = block_of(rows.keys()[5:12], [bytes(number) for number in range(7)])
    box = KeyRange(Key(0, -5, -5, -5, -5), Key.max())
    puts = [
        b"".join([put_request(with_acq), *batches(block, with_acq, largest), PUT_END])
        for with_acq in (False, True)
        for block, largest in ((rows.take(slice(3)), 500), (rows, 100), (differing, 80), (rows.take(slice(0)), 100))
    ]
    asked = [get_request(box), get_acq_request(box), *puts, puts[0] + get_request(KeyRange.everything())]
    yield from (("tstorage_requests", bytes([number * 5]) + data) for number, data in enumerate(asked))
    begin, end = get_answer_begin(), get_answer_end(0, 5)
    answered = [
        *((Command.GET, begin + bytes(records(block)) + end) for block in (rows, differing, rows.take(slice(0)))),
        (Command.GET, begin + bytes(records(differing)) + get_answer_end(-1, -1)),
        (Command.PUT, put_answer(0, 5, 9)),
        (Command.PUTA, put_answer(0, -1, -1)),
        (Command.GETACQ, acq_answer(0, 7)),
        *((command, failure()) for command in Command),
    ]
    commands = list(Command)
    for number, (command, data) in enumerate(answered):
        yield "tstorage_answers", bytes([commands.index(command), number * 5]) + data


if __name__ == "__main__":
    print(f"{write()} inputs")
    sys.exit(0)
