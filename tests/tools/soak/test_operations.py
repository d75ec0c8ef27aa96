"""Every operation comes out right with a gateway that is, and each kind of lie is found."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest

from tests.serving import controller_of, serving
from tools.soak.operations import ALONE, OFFERED, SHARE, TOGETHER, Operation, Scene, Wrong, fill

BY_NAME = {each.name: each for each in (*ALONE, *TOGETHER)}


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    fill(tmp_path / "share", random.Random(1))
    return Scene(tmp_path / "share", tmp_path / "uploads", tmp_path / "scratch", "a name")


@pytest.fixture
def swarm(scene: Scene) -> Iterator[Any]:
    options = {"share": {SHARE: scene.share}, "download_dir": scene.uploads}
    with serving(*OFFERED, **options) as gateway, controller_of(gateway).get_swarm(2) as made:
        yield made


@pytest.mark.parametrize("operation", BY_NAME.values(), ids=lambda each: each.name)
def test_what_is_right_is_found_right(operation: Operation, swarm: Any, scene: Scene) -> None:
    for seed in range(6):
        operation.run(swarm if operation in TOGETHER else swarm.clients[0], random.Random(seed), scene)
    assert not list(scene.scratch.glob("*/*"))
    assert not list(scene.uploads.glob("*/*"))


class Liar:
    """A client or swarm that tells the truth, but for what comes of one method."""

    def __init__(self, honest: Any, method: str, lie: Callable[[Any], Any]) -> None:
        self._honest, self._method, self._lie = honest, method, lie

    def __getattr__(self, name: str) -> Any:
        honest = getattr(self._honest, name)
        if name != self._method:
            return honest
        return lambda *arguments, **options: self._lie(honest(*arguments, **options))


class Left(list[Any]):
    """What came of a job, and how."""

    report = SimpleNamespace(replaced=0)

    def __enter__(self) -> Left:
        return self

    def __exit__(self, *_exception: object) -> None: ...


def without_last(found: Any) -> Any:
    return Left([*found][:-1])


def last_twice(found: Any) -> Any:
    items = [*found]
    return Left([*items, *items[-1:]])


def backwards(found: Any) -> Any:
    return Left([*found][::-1])


def changed(found: Any) -> Any:
    items = [*found]
    ident, value = items[0] if items else (0, None)
    other = value[::-1] + b"!" if isinstance(value, bytes) else numpy.zeros(1)
    return Left([(ident, other), *items[1:]])


LIES: list[tuple[str, str, Callable[[Any], Any]]] = [
    ("call", "call", lambda value: {"another": value}),
    ("fault", "call", lambda value: value),
    ("send", "send", lambda value: value + 1),
    *[("stream", "stream", lie) for lie in (without_last, last_twice, backwards, changed)],
    *[("left stream", "stream", lie) for lie in (backwards, changed)],
    *[("swarm map", "map", lie) for lie in (without_last, last_twice, backwards)],
    *[("swarm stream", "stream", lie) for lie in (without_last, last_twice, changed)],
]


@pytest.mark.parametrize(("name", "method", "lie"), LIES)
def test_a_lie_is_found(name: str, method: str, lie: Callable[[Any], Any], swarm: Any, scene: Scene) -> None:
    operation = BY_NAME[name]
    caller = swarm if operation in TOGETHER else swarm.clients[0]
    if name == "fault":
        caller.call = lambda *_arguments: None
    with pytest.raises(Wrong):
        operation.run(Liar(caller, method, lie), random.Random(4), scene)


def test_what_a_lost_lane_had_brought_may_come_twice(swarm: Any, scene: Scene) -> None:
    def again(found: Any) -> Any:
        lying = last_twice(found)
        lying.report = SimpleNamespace(replaced=1)
        return lying

    accepted = 0
    for seed in range(20):
        try:
            BY_NAME["swarm stream"].run(Liar(swarm, "stream", again), random.Random(seed), scene)
            accepted += 1
        except Wrong:
            pass
    # Where order was asked for nothing may come twice.
    assert 0 < accepted < 20


def damage(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])


@pytest.mark.parametrize("name", ["download", "upload"])
@pytest.mark.parametrize("harm", [damage, Path.unlink, lambda path: path.with_suffix(".partial").touch()])
def test_a_bad_copy_is_found(name: str, harm: Callable[[Path], None], swarm: Any, scene: Scene) -> None:
    places = {"download": scene.scratch, "upload": scene.uploads}

    def spoil(report: Any) -> Any:
        harm(next(path for path in sorted(places[name].rglob("*")) if path.is_file() and path.stat().st_size))
        return report

    with pytest.raises(Wrong):
        BY_NAME[name].run(Liar(swarm, name, spoil), random.Random(1), scene)
