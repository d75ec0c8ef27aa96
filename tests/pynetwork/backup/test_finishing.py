"""The end of a run: folders are dressed, partial files of nobody go, all comes to the disk, and the run is recorded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.manifest import CHUNK_SIZE, Entry
from pynetwork.backup import BackupReport, runs
from pynetwork.backup.catalogue import Catalogue
from pynetwork.backup.mirror import Mirror
from pynetwork.files.reading import Reader
from tests.pynetwork.backup.mirroring import LARGE, SECOND, STAMP, Scene, contents, new, scene, settle_folders, write


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        made.put("a/b/c/file", new(100))
        made.put("a/large", new(LARGE))
        (made.share / "a/b").chmod(0o750)
        settle_folders(made.share)
        yield made


def begun(at: Scene, *places: str) -> None:
    """Partial files that a run has left, and spoken of."""
    with at.catalogue() as opened:
        opened.begin_run("", "")
        for place in places:
            folder, _, name = place.rpartition("/")
            known = opened.folder(folder.encode())
            opened.begin_file(place, known.id if known else 1, name.encode(), 1, 12345)
            write((at.to / place).with_name(f".{name}.partial"), new(50))


def partials(at: Scene) -> list[str]:
    return sorted(str(path.relative_to(at.to)) for path in at.to.rglob(".*.partial"))


def without_the_last_chunk(at: Scene, monkeypatch: pytest.MonkeyPatch) -> BackupReport:
    """A backup in which the ends of large files can't be read."""
    read_chunk = Reader.read_chunk

    def refuse(reader: Reader, entry: Entry, chunk: int, index: int) -> Any:
        if index == 3:
            raise PermissionError(13, "Permission denied")
        return read_chunk(reader, entry, chunk, index)

    with monkeypatch.context() as patched:
        patched.setattr(Reader, "read_chunk", refuse)
        return at.backup()


def test_folders_look_as_at_the_source_however_deep(at: Scene) -> None:
    at.backup()
    assert not at.differences()
    # What is written in them, and what is removed, moves their times.
    at.put("a/b/c/new", b"x")
    (at.share / "a/b/c/file").unlink()
    os.utime(at.share / "a/b/c", ns=(STAMP, STAMP + SECOND))
    at.backup(mirror_deletes=True)
    assert not at.differences()
    os.utime(at.to / "a/b", ns=(0, 0))
    (at.to / "a").chmod(0o700)
    at.backup()
    assert not at.differences()


def test_partial_files_of_nobody_go(at: Scene) -> None:
    at.backup()
    begun(at, "a/gone", "a/b/gone too", "a/large")
    at.backup()
    assert partials(at) == []
    assert not at.differences()
    with at.catalogue() as opened:
        assert opened.unfinished() == []


def test_a_partial_file_that_nobody_speaks_of_is_not_ours(at: Scene) -> None:
    at.backup()
    write(at.to / ".somebody else's.partial", b"x")
    at.backup()
    assert partials(at) == [".somebody else's.partial"]


def test_where_a_file_failed_its_partial_file_stays(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    at.put("100%41", new(LARGE))
    report = without_the_last_chunk(at, monkeypatch)
    assert [path for path, _ in report.skipped] == ["100%41", "a/large"]
    assert partials(at) == [".100%2541.partial", "a/.large.partial"]
    report = at.backup()
    assert report.complete
    assert report.received < 2 * CHUNK_SIZE
    assert contents(at.to) == contents(at.share)


def test_what_was_not_chosen_goes_on_another_time(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    without_the_last_chunk(at, monkeypatch)
    at.backup(glob="*file")
    report = at.backup()
    assert report.received < CHUNK_SIZE
    assert partials(at) == []
    assert not at.differences()


@pytest.mark.parametrize("durable", [True, False])
def test_all_is_flushed_before_the_catalogue_says_so(at: Scene, monkeypatch: pytest.MonkeyPatch, durable: bool) -> None:
    order: list[str] = []
    flush = Mirror.flush
    monkeypatch.setattr(Mirror, "flush", lambda mirror: (order.append("data"), flush(mirror)))
    mark = Catalogue.flushed
    monkeypatch.setattr(Catalogue, "flushed", lambda catalogue: (order.append("catalogue"), mark(catalogue)))
    at.backup(durable=durable)
    assert order == (["data", "catalogue"] if durable else [])


def test_how_it_ended_is_recorded(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    at.backup()
    at.put("in the way", b"x")
    write(at.to / "in the way/mine", b"x")
    at.backup()
    with monkeypatch.context() as patched:
        patched.setattr("pynetwork.backup.finish", lambda *_: (_ for _ in ()).throw(OSError(5, "the disk broke")))
        with pytest.raises(OSError, match="the disk broke"):
            at.backup()
    outcomes = [run.outcome for run in runs(at.to)]
    assert outcomes == ["complete", "1 skipped", "[Errno 5] the disk broke"]
    figures = runs(at.to)[1].figures
    assert (figures["files"], figures["skipped"], figures["escaped"]) == (3, 1, 0)
