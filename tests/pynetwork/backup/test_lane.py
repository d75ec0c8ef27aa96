"""One lane of a backup, where it meets trouble; what it brings otherwise is tried with whole backups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.manifest import CHUNK_SIZE
from handshakes.transfer import Code
from pynetwork.backup import gathering
from pynetwork.backup.lane import BackupLane
from pynetwork.files.folders import entry_of
from pynetwork.files.partials import PartialFile
from pynetwork.service import ServedOperation
from tests.pynetwork.backup.mirroring import LARGE, STAMP, Scene, lines, new, numbered, overwrite, scene
from tests.pynetwork.files.transferring import once

ROOM = 2000


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        made.put("app.log", new(LARGE))
        made.backup()
        yield made


def before(monkeypatch: pytest.MonkeyPatch, method: str, trouble: Callable[..., object], call: int = 1) -> None:
    """Let ``trouble`` happen before a lane does something for this many times; it is told with what."""

    def troubled(function: Callable[..., Any], *arguments: Any) -> Any:
        trouble(*arguments)
        return function(*arguments)

    monkeypatch.setattr(BackupLane, method, once(troubled, getattr(BackupLane, method), call))


def spoil(at: Scene) -> None:
    """A bit of the first chunk flips where the file stands."""
    overwrite(at.to / "app.log", b"!!!", 100, mtime_ns=STAMP)


def test_what_stands_under_the_name_changes_before_it_is_completed(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    overwrite(at.share / "app.log", b"!", 2 * CHUNK_SIZE)
    before(monkeypatch, "_seal", lambda *_: spoil(at))
    report = at.backup()
    assert report.complete
    assert report.received <= 3 * CHUNK_SIZE + ROOM
    assert not at.differences()


@pytest.mark.parametrize("trouble", ["appended", "cut", "removed", "a folder"])
def test_what_is_to_be_appended_to_is_another_file_by_then(
    at: Scene, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    at.grow("app.log", lines(10))
    path = at.to / "app.log"

    def harm(*_arguments: object) -> None:
        if trouble == "appended":
            path.write_bytes(path.read_bytes() + b"somebody's own line")
        elif trouble == "cut":
            path.write_bytes(b"")
        else:
            path.unlink()
        if trouble == "a folder":
            path.mkdir()

    before(monkeypatch, "_seal", harm)
    report = at.backup()
    if trouble == "a folder":
        assert [path for path, _ in report.skipped] == ["app.log"]
        path.rmdir()
        report = at.backup()
    assert report.complete
    assert not at.differences()


def test_a_disk_that_refuses_to_append(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    at.grow("app.log", lines(10))
    monkeypatch.setattr(PartialFile, "complete_by_appending", lambda *_: False)
    assert numbered(at.backup()) == {"files": 1, "grown": 1}
    assert not at.differences()


def test_the_file_begins_anew_while_it_is_compared(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found out about the content that it had must not become a part of the one that it has."""
    overwrite(at.share / "app.log", b"!", 2 * CHUNK_SIZE)
    read_into = gathering.read_into
    lanes: list[tuple[BackupLane, Any]] = []
    over: list[bool] = []
    before(monkeypatch, "_compare_chunk", lambda lane, compare, *_: lanes.append((lane, compare)))

    def reading(handle: int, view: memoryview, offset: int) -> int:
        got = read_into(handle, view, offset)
        if lanes and not over:
            over.append(True)
            overwrite(at.share / "app.log", b"?", 5)
            lane, compare = lanes[0]
            with lane.job.changed:
                assert lane.job.begin_again(compare, entry_of("app.log", (at.share / "app.log").stat()))
        return got

    monkeypatch.setattr(gathering, "read_into", reading)
    report = at.backup()
    assert over
    assert report.complete
    assert not at.differences()
    assert not at.verify().bad


def test_the_file_begins_anew_before_its_tail_is_asked_for(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    at.grow("app.log", lines(10))

    def anew(lane: BackupLane, compare: Any, *_: object) -> None:
        with lane.job.changed:
            lane.job.begin_again(compare, compare.file.entry)

    before(monkeypatch, "_take_beginning", anew)
    report = at.backup()
    assert report.complete
    assert report.received <= 1000 + ROOM
    assert not at.differences()


@pytest.mark.parametrize("harm", ["wire", "here", "there"])
def test_a_tail_that_does_not_fit(at: Scene, monkeypatch: pytest.MonkeyPatch, harm: str) -> None:
    at.grow("app.log", lines(10))
    send = ServedOperation.send
    tries: list[int] = []

    def sending(operation: ServedOperation, code: int, head: bytes = b"", *buffers: Any) -> None:
        if code == Code.PIECE:
            tries.append(len(tries))
            if harm == "wire":
                data = bytearray(b"".join(buffers))
                data[7] ^= 1
                buffers = (bytes(data),)
            elif harm == "here":
                overwrite(at.to / "app.log", b"!", LARGE - 5, mtime_ns=STAMP)
            else:
                overwrite(at.share / "app.log", b"!", LARGE + 5)
                with (at.share / "app.log").open("rb") as file:
                    file.seek(LARGE)
                    buffers = (file.read(),)
        send(operation, code, head, *buffers)

    monkeypatch.setattr(ServedOperation, "send", sending)
    report = at.backup()
    assert tries == [0]
    assert report.chunks_again >= 1
    monkeypatch.undo()
    assert report.complete
    at.backup()
    assert not at.differences()


def test_a_chunk_that_was_brought_before_is_not_compared_again(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    at.grow("app.log", lines(10))
    compare_chunk = BackupLane._compare_chunk
    compared: list[int] = []

    def twice(lane: BackupLane, compare: Any, index: int, *rest: Any) -> None:
        compare_chunk(lane, compare, index, *rest)
        if compare.file.assembly.has(index):
            reading = gathering.read_into
            monkeypatch.setattr(gathering, "read_into", None)
            compare_chunk(lane, compare, index, *rest)
            monkeypatch.setattr(gathering, "read_into", reading)
            compared.append(index)

    monkeypatch.setattr(BackupLane, "_compare_chunk", twice)
    report = at.backup()
    assert compared == [0, 1, 2]
    assert numbered(report) == {"files": 1, "grown": 1}
    assert not at.differences()


@pytest.mark.parametrize("size", [100, LARGE])
def test_what_is_held_is_lost_meanwhile(at: Scene, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """As when somebody clears it away: then what it was for is moved."""
    at.put("app.log", new(size))
    at.backup()
    (at.share / "app.log").rename(at.share / "app.log.1")
    at.put("app.log", new(size))

    def clear(*_arguments: object) -> None:
        for path in (at.to / ".pynetwork/held").iterdir():
            path.unlink()

    before(monkeypatch, "_write_joined" if size == 100 else "_ask_sums", clear)
    assert at.backup(lanes=1).complete
    clear()
    assert at.backup().complete
    assert not at.differences()
