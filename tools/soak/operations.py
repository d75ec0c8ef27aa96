"""What controllers do in a soak: each operation knows what the right result is, and says so when it came out wrong."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from handshakes.errors import RemoteFault

__all__ = ["ALONE", "OFFERED", "SHARE", "TOGETHER", "Operation", "Scene", "Wrong", "fill"]

SHARE = "shared"
_FILES = {"a/large.bin": 1_500_000, "a/b/middle.bin": 70_000, "empty": 0} | {
    f"small/{number}.log": 37 * number for number in range(40)
}


class Wrong(Exception):
    """A result is not what it should be."""


@dataclass(frozen=True)
class Scene:
    """Where files are: the folder ``share``, below ``uploads`` what the gateway receives, below ``scratch`` what is
    downloaded. ``name`` is whose scene it is.
    """

    share: Path
    uploads: Path
    scratch: Path
    name: str


def fill(share: Path, chance: random.Random) -> None:
    """Make the files that are shared."""
    for path, size in _FILES.items():
        (share / path).parent.mkdir(parents=True, exist_ok=True)
        (share / path).write_bytes(chance.randbytes(size))


# What the gateway offers


def echo(value: Any) -> Any:
    """What it was given."""
    return value


def total(*, buffer: Any) -> int:
    """The sum of all bytes."""
    return sum(bytes(buffer))


def fail(number: int) -> None:
    """Raise."""
    raise ValueError(f"on purpose, {number}")


def double(item: int) -> dict[str, Any]:
    """Twice a number, and something that takes room."""
    return {"twice": 2 * item, "room": _payload("bytes", item, 500)}


def numbers(kind: str, count: int, size: int, pause: float) -> Iterator[Any]:
    """So many payloads of a kind."""
    for ident in range(count):
        yield ident, _payload(kind, ident, size)
        if pause:
            time.sleep(pause)


def share_of(kind: str, count: int, size: int, *, lane: int = 0, lanes: int = 1) -> Iterator[Any]:
    """The payloads that are a lane's own."""
    for ident in range(lane, count, lanes):
        yield ident, _payload(kind, ident, size)


OFFERED: tuple[Callable[..., Any], ...] = (echo, total, fail, double, numbers, share_of)
"""The subroutines of the gateway, under their own names."""

_KINDS: dict[str, Callable[[int, int], Any]] = {
    "bytes": lambda ident, size: ident.to_bytes(4, "little") * (size // 4),
    "json": lambda ident, size: {"ident": ident, "text": "x" * size, "rest": [None, True, ident / 3]},
    "array": lambda ident, size: numpy.full(max(1, size // 8), ident, "<i8"),
}


def _payload(kind: str, ident: int, size: int) -> Any:
    return _KINDS[kind](ident, size)


def _same(found: Any, expected: Any) -> bool:
    if isinstance(expected, numpy.ndarray):
        return isinstance(found, numpy.ndarray) and found.dtype == expected.dtype and numpy.array_equal(found, expected)
    if isinstance(expected, bytes):
        return isinstance(found, (bytes, bytearray, memoryview)) and bytes(found) == expected
    if isinstance(expected, dict):
        return (
            isinstance(found, dict) and found.keys() == expected.keys() and all(map(_same, *_values(found, expected)))
        )
    return bool(type(found) is type(expected) and found == expected)


def _values(found: dict[str, Any], expected: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    return [found[key] for key in expected], list(expected.values())


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise Wrong(what)


# What controllers do


def _call(client: Any, chance: random.Random, _scene: Scene) -> None:
    value = _payload(chance.choice([*_KINDS]), chance.randrange(1 << 31), chance.choice((8, 900, 60_000)))
    _check(_same(client.call("echo", value), value), "an echo is not what was called")


def _fault(client: Any, chance: random.Random, _scene: Scene) -> None:
    number = chance.randrange(1000)
    try:
        client.call("fail", number)
    except RemoteFault as fault:
        _check(
            (fault.type_name, fault.message) == ("ValueError", f"on purpose, {number}"), f"another fault came: {fault}"
        )
    else:
        raise Wrong("what raises on the gateway returned here")


def _send(client: Any, chance: random.Random, _scene: Scene) -> None:
    buffer = chance.randbytes(chance.randrange(100_000))
    _check(client.send("total", buffer) == sum(buffer), "a sum is wrong")


def _choice(chance: random.Random) -> tuple[str, int, int]:
    return chance.choice([*_KINDS]), chance.randrange(1500), chance.choice((8, 100, 3000))


def _stream(client: Any, chance: random.Random, _scene: Scene) -> None:
    kind, count, size = _choice(chance)
    slow = not chance.randrange(4)
    if slow:
        count = min(count, 100)
    found = list(client.stream("numbers", kind, count, size, 0.001 if slow else 0))
    _check([ident for ident, _ in found] == list(range(count)), f"of {count} idents these arrived: {_idents(found)}")
    _check(all(_same(value, _payload(kind, ident, size)) for ident, value in found), "an item is another")


def _left(client: Any, chance: random.Random, _scene: Scene) -> None:
    kind, count, size = _choice(chance)
    leave = chance.randrange(count + 1)
    with client.stream("numbers", kind, count, size, 0) as stream:
        for expected, (ident, value) in enumerate(stream):
            _check(ident == expected and _same(value, _payload(kind, ident, size)), f"item {expected} is another")
            if ident == leave:
                break


def _map(swarm: Any, chance: random.Random, _scene: Scene) -> None:
    items = [chance.randrange(1 << 30) for _ in range(chance.randrange(100))]
    found = list(swarm.map("double", items))
    right = len(found) == len(items) and all(_same(each, double(item)) for each, item in zip(found, items, strict=True))
    _check(right, f"a map of {len(items)} items brought {len(found)} others")


def _merge(swarm: Any, chance: random.Random, _scene: Scene) -> None:
    kind, count, size = _choice(chance)
    ordered = chance.random() < 0.5
    stream = swarm.stream("share_of", kind, count, size, ordered=ordered)
    found = list(stream)
    idents = [ident for ident, _ in found]
    # What a lost lane had brought may come twice, where nobody asked for order.
    again = stream.report.replaced and not ordered
    _check(sorted(set(idents) if again else idents) == list(range(count)), f"of {count}, these: {_idents(found)}")
    _check(not ordered or idents == sorted(idents), "items are not in order")
    _check(all(_same(value, _payload(kind, ident, size)) for ident, value in found), "an item is another")


def _idents(found: list[tuple[int, Any]]) -> str:
    idents = [ident for ident, _ in found]
    return f"{len(idents)}, from {idents[:3]} to {idents[-3:]}"


def _download(swarm: Any, chance: random.Random, scene: Scene) -> None:
    target = scene.scratch / scene.name
    shutil.rmtree(target, ignore_errors=True)
    asked = chance.sample(sorted(_FILES), chance.randrange(1, len(_FILES))) if chance.random() < 0.7 else None
    report = swarm.download(SHARE, files=asked, to=target, progress=False)
    _check(not report.skipped, f"skipped: {report.skipped}")
    _compare(scene.share, target, sorted(asked or _FILES))
    shutil.rmtree(target)


def _upload(swarm: Any, chance: random.Random, scene: Scene) -> None:
    # Another folder each time: what is left of an upload that failed belongs to the gateway for a while.
    dirname = f"{scene.name} {chance.getrandbits(64):x}"
    report = swarm.upload([scene.share], dirname, progress=False)
    _check(not report.skipped, f"skipped: {report.skipped}")
    _compare(scene.share, scene.uploads / dirname / scene.share.name, sorted(_FILES))
    shutil.rmtree(scene.uploads / dirname)


def _compare(source: Path, copy: Path, paths: list[str]) -> None:
    found = sorted(path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file())
    _check(found == paths, f"{len(found)} files in place of {len(paths)}: {sorted(set(found) ^ set(paths))[:5]}")
    for path in paths:
        _check((copy / path).read_bytes() == (source / path).read_bytes(), f"{path} is not what it was")


@dataclass(frozen=True)
class Operation:
    """``run`` does it with a client or swarm, and raises `Wrong` for a wrong result, or what the operation raises."""

    name: str
    run: Callable[[Any, random.Random, Scene], None]


ALONE = (
    Operation("call", _call),
    Operation("fault", _fault),
    Operation("send", _send),
    Operation("stream", _stream),
    Operation("left stream", _left),
)
"""What a client does."""

TOGETHER = (
    Operation("swarm map", _map),
    Operation("swarm stream", _merge),
    Operation("download", _download),
    Operation("upload", _upload),
)
"""What a swarm does."""
