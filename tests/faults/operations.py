"""What is done while the network fails, and how to tell that it was done right."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pynetwork.gateway import Gateway
from pynetwork.tls import TLS
from tests.faults.drivers import Caller
from tests.serving import serving

__all__ = ["OPERATIONS", "Operation", "Scene", "scene"]

BLOCK = bytes(range(256)) * 48
ITEMS = 60
PAYLOAD = 250
NUMBERS = range(30)
FILES = {"a/large.bin": 5 * 4096 + 17, "b/larger.bin": 9 * 4096, "c/whole.bin": 2 * 4096} | {
    f"small/{number}.log": 40 * number for number in range(12)
}


def contents(path: str) -> bytes:
    """What is in the shared file ``path``: each block of each file is another."""
    return b"".join(b"%-32s" % f"{path} {at}".encode() for at in range(0, FILES[path], 32))[: FILES[path]]


@dataclass(frozen=True)
class Scene:
    """A gateway with folders, and where one case puts its files."""

    gateway: Gateway
    share: Path
    uploads: Path
    target: Path
    dirname: str = ""

    @property
    def arrived(self) -> Path:
        """Where an upload of the shared folder arrives."""
        return self.uploads / self.dirname / self.share.name


def echo(value: Any) -> Any:
    return value


def total(*, buffer: bytes) -> int:
    return sum(buffer)


def double(item: int) -> bytes:
    return item.to_bytes(4, "little") * 100


def count(items: int, lane: int = 0, lanes: int = 1) -> Iterator[tuple[int, bytes]]:
    for ident in range(lane, items, lanes):
        yield item(ident)


def item(ident: int) -> tuple[int, bytes]:
    return ident, ident.to_bytes(2, "little") * (PAYLOAD // 2)


@contextlib.contextmanager
def scene(folder: Path, *, key: str | None = None, tls: TLS | None = None) -> Iterator[Scene]:
    """A gateway that serves what the operations need, for as many cases as there are."""
    share, uploads = folder / "shared", folder / "uploads"
    for path in FILES:
        (share / path).parent.mkdir(parents=True, exist_ok=True)
        (share / path).write_bytes(contents(path))
    options = {"share": {"shared": share}, "download_dir": uploads, "max_poolsize": 64}
    with serving(echo, total, double, count, key=key, tls=tls, **options) as gateway:
        yield Scene(gateway, share, uploads, folder / "downloads")


def files_in(folder: Path) -> dict[str, bytes]:
    """Everything below a folder that has a final name."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".partial")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def is_complete(folder: Path) -> bool:
    return files_in(folder) == {path: contents(path) for path in FILES} and not list(folder.rglob("*.partial"))


def intact(folder: Path) -> bool:
    """Whether whatever has a final name is complete: under its own name, or that of a listing that was garbled."""
    whole = {contents(path) for path in FILES}
    return all(found in whole for found in files_in(folder).values())


@dataclass(frozen=True)
class Operation:
    """``run`` does it, on ``lanes`` connections; ``right`` judges what it answered.

    ``dials``: connecting is what is tried, with a key if ``keyed``. ``repeats``: what a lost lane had brought may come
    twice.
    """

    name: str
    run: Callable[[Caller, Scene], Any]
    right: Callable[[Any, Scene], bool]
    lanes: int = 1
    dials: bool = False
    keyed: bool = False
    repeats: bool = False
    moves_files: bool = False


EXPECTED = [item(ident) for ident in range(ITEMS)]
STATS = {"name", "version", "handlers", "connections", "operations", "errors", "received", "sent", "process", "machine"}

OPERATIONS = [
    Operation("handshake", lambda caller, _: caller.rights, lambda found, _: bool(found), dials=True),
    Operation(
        "handshake with a key", lambda caller, _: caller.rights, lambda found, _: bool(found), dials=True, keyed=True
    ),
    Operation("ping", lambda caller, _: caller.ping(BLOCK), lambda found, _: 0 <= found < 1000),
    Operation(
        "call", lambda caller, _: caller.call("echo", [BLOCK, {"a": 1}]), lambda found, _: found == [BLOCK, {"a": 1}]
    ),
    Operation("send", lambda caller, _: caller.send("total", BLOCK), lambda found, _: found == sum(BLOCK)),
    Operation("stream", lambda caller, _: caller.stream("count", ITEMS), lambda found, _: found == EXPECTED),
    Operation(
        "subroutines",
        lambda caller, _: caller.subroutines(),
        lambda found, _: [each["name"] for each in found] == ["echo", "total", "double", "count"],
    ),
    Operation("stats", lambda caller, _: caller.stats(), lambda found, _: set(found) >= STATS),
    Operation(
        "swarm map",
        lambda caller, _: caller.map("double", NUMBERS),
        lambda found, _: found == [double(number) for number in NUMBERS],
        lanes=2,
    ),
    Operation(
        "swarm stream",
        lambda caller, _: caller.merged("count", ITEMS, ordered=False),
        lambda found, _: sorted(set(found)) == EXPECTED,
        lanes=2,
        repeats=True,
    ),
    Operation(
        "swarm stream, ordered",
        lambda caller, _: caller.merged("count", ITEMS, ordered=True),
        lambda found, _: found == EXPECTED,
        lanes=2,
    ),
    Operation(
        "download",
        lambda caller, where: caller.download("shared", where.target),
        lambda found, where: not found.skipped and is_complete(where.target),
        lanes=2,
        moves_files=True,
    ),
    Operation(
        "upload",
        lambda caller, where: caller.upload(where.share, where.dirname),
        lambda found, where: not found.skipped and is_complete(where.arrived),
        lanes=2,
        moves_files=True,
    ),
]
