"""Inputs to begin with: what a gateway and a controller really say to each other, cut into small pieces.

``python -m tools.fuzz.corpus`` listens in on an exchange over the loopback, and writes the corpus anew.
"""

from __future__ import annotations

import hashlib
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

from handshakes.frames import Frame, FrameParser, pack_header
from handshakes.manifest import decode_page
from handshakes.messages import Kind
from handshakes.transfer import Code
from handshakes.values import Form
from pynetwork.client import Client
from pynetwork.controller import Controller
from pynetwork.files import download, upload
from pynetwork.gateway import Gateway
from tools.fuzz.targets import CODECS, PLACES, TARGETS, joined_value
from tools.proxy import DOWN, UP, Direction, Proxy

__all__ = ["FOLDER", "read", "write"]

FOLDER = Path(__file__).resolve().parent / "corpus"
_LARGEST = 1024
_MOST = 24
_KEY = "a key for the exchange"


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
        gateway = Gateway(0, name="gateway", key=key, share={"share": share}, download_dir=incoming)
        gateway.add_subroutine("echo", lambda value: value)
        gateway.add_subroutine("items", lambda values: (yield from enumerate(values)))
        with gateway, Proxy(gateway.port, tap=lambda direction, data: heard[direction].append(data)) as proxy:
            controller = Controller(port=proxy.port, key=key)
            with controller.get_swarm(1) as swarm:
                _use(swarm.clients[0])
                # With smaller chunks than a swarm's own methods take.
                lanes = swarm._lanes
                download(lanes, "share", to=folder / "copy", progress=False, chunk_size=256)
                download(lanes, "share", files=["a/b.log", "none"], to=folder / "copy", progress=False, chunk_size=256)
                upload(lanes, [share], dirname="in", progress=False, chunk_size=256)
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
    counts: list[int] = []
    yield from _asked(up, counts)
    yield from _answered(down, counts)


def _asked(frames: list[Frame], counts: list[int]) -> Iterator[tuple[str, bytes]]:
    """What a controller asks for or brings; notes how many files each pack that it asks for has."""
    storing = False
    for frame in frames:
        code, body = frame.flags, bytes(frame.body)
        if frame.kind == Kind.OPEN:
            storing = code == Form.JSON and orjson.loads(body)[0] == "files.store"
        elif frame.kind != Kind.MESSAGE:
            continue
        elif code == Code.PACK and not storing:
            yield "manifest", body
            counts.append(len(decode_page(body).files))
        elif code == Code.NAMES:
            yield "transfer", bytes([_NUMBERS["names"], 0]) + body
        elif code in (Code.RUN, Code.SEAL, Code.CHUNK):
            yield "transfer", bytes([_NUMBERS["put" if storing else "want"], 0]) + frame.head


def _answered(frames: list[Frame], counts: list[int]) -> Iterator[tuple[str, bytes]]:
    for frame in frames:
        code, body = frame.flags, bytes(frame.body)
        if frame.kind != Kind.MESSAGE:
            continue
        if code == Code.PAGE:
            yield "manifest", body
            yield from (("paths", entry.path.encode()) for entry in decode_page(body).files)
        elif code in (Code.CHUNK, Code.SEAL):
            yield "transfer", bytes([_NUMBERS["chunk"], 0]) + frame.head
        elif code == Code.PACK:
            yield "transfer", bytes([_NUMBERS["rows"], counts.pop(0)]) + body
        elif code == Code.RECEIPT:
            yield "transfer", bytes([_NUMBERS["receipt"], max(1, len(body))]) + body


if __name__ == "__main__":
    print(f"{write()} inputs")
    sys.exit(0)
