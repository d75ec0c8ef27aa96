"""Reading a mirror again: each kind of bad file is found and named, and only those."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from handshakes.chunks import Assembly
from handshakes.manifest import CHUNK_SIZE, chunk_count, digest
from pynetwork.backup import verify_destination
from pynetwork.backup.verifying import BadFile, VerifyReport, digest_of
from pynetwork.files.folders import Folder
from tests.pynetwork.backup.mirroring import LARGE, STAMP, Scene, new, overwrite, scene, write


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        made.put("small", new(100))
        made.put("sub/large", new(LARGE))
        made.put("sub/empty")
        made.put(os.fsdecode(b"sub/\xff"), new(10))
        made.put("100%41", new(10))
        (made.share / "link").symlink_to("small")
        made.backup()
        yield made


def flip(path: Path) -> None:
    overwrite(path, bytes([path.read_bytes()[50] ^ 1]), 50, mtime_ns=STAMP)


def flip_far(path: Path) -> None:
    overwrite(path, b"!!", CHUNK_SIZE - 1, mtime_ns=STAMP)


def cut(path: Path) -> None:
    os.truncate(path, 99)


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def lead_elsewhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("sub")


def fill(path: Path) -> None:
    path.write_bytes(b"x")


KINDS: list[tuple[str, Callable[[Path], None], str]] = [
    ("small", Path.unlink, "it is missing"),
    ("small", flip, "its content is not what was backed up"),
    ("sub/large", flip_far, "its content is not what was backed up"),
    ("small", cut, "it has 99 bytes in place of 100"),
    ("sub/large", cut, f"it has 99 bytes in place of {LARGE}"),
    ("sub/empty", fill, "it has 1 bytes in place of 0"),
    ("small", become_a_folder, "it is no regular file any more"),
    ("small", become_a_link, "it is no regular file any more"),
    ("link", lead_elsewhere, "it leads to 'sub'"),
    ("link", Path.unlink, "it is missing"),
]


def test_what_is_right(at: Scene) -> None:
    shown: list[tuple[int, int, int, int]] = []
    report = verify_destination(at.to, progress=lambda *figures: shown.append(figures))
    assert (report.files, report.bytes) == (6, LARGE + 120)
    assert report.bad == report.unfinished == []
    assert shown[-1] == (LARGE + 120, LARGE + 120, 6, 6)
    assert report.to_dict()["bad"] == []


@pytest.mark.parametrize(("path", "harm", "reason"), KINDS)
def test_each_kind_of_bad_file_is_named(at: Scene, path: str, harm: Callable[[Path], None], reason: str) -> None:
    harm(at.to / path)
    report = at.verify()
    assert [(bad.path, bad.reason) for bad in report.bad] == [(path, reason)]
    assert report.files == 6


def test_many_at_once_and_strange_names(at: Scene) -> None:
    (at.to / "100%2541").write_bytes(new(10))
    (at.to / os.fsdecode(b"sub/\xff")).unlink()
    (at.to / "small").unlink()
    report = at.verify()
    assert sorted(bad.path for bad in report.bad) == ["100%41", "small", "sub/\udcff"]
    assert report.to_dict()["bad"][-1] == {"path": "sub/?", "reason": "it is missing"}


def test_a_folder_that_is_missing(at: Scene) -> None:
    (at.to / "sub").rename(at.to / "other")
    assert {bad.reason for bad in at.verify().bad} == {"it is missing"}
    (at.to / "sub").symlink_to("other")
    assert {bad.path for bad in at.verify().bad} == {"sub/empty", "sub/large", "sub/\udcff"}


def test_what_nobody_backed_up_is_nobody_s_matter(at: Scene) -> None:
    write(at.to / "mine", b"x")
    assert at.verify().bad == []


def test_metadata_is_not_content(at: Scene) -> None:
    (at.to / "small").chmod(0o600)
    os.utime(at.to / "small", ns=(0, 0))
    assert at.verify().bad == []


def test_what_an_interrupted_run_was_still_adding_to(at: Scene) -> None:
    with at.catalogue() as opened:
        opened.begin_file("sub/large", 1, b"large", 1, 1)
    with (at.to / "sub/large").open("ab") as file:
        file.write(b"a part of what had been added")
    report = at.verify()
    assert ([path for path, _ in report.unfinished], report.bad) == (["sub/large"], [])
    flip(at.to / "sub/large")
    assert [bad.path for bad in at.verify().bad] == ["sub/large"]
    os.truncate(at.to / "sub/large", 10)
    assert [bad.path for bad in at.verify().bad] == ["sub/large"]


@pytest.mark.parametrize("size", [0, 1, CHUNK_SIZE, CHUNK_SIZE + 1, 3 * CHUNK_SIZE])
def test_digests_are_those_of_transfers(tmp_path: Path, size: int) -> None:
    data = write(tmp_path / "a", new(size + 10)).read_bytes()[:size]
    parts = [data[place : place + CHUNK_SIZE] for place in range(0, size, CHUNK_SIZE)]
    with Folder(tmp_path) as folder:
        found = digest_of(folder, "a", size)
        with pytest.raises(OSError, match="shorter"):
            digest_of(folder, "a", size + 100)
    if parts:
        assembly = Assembly(chunk_count(size, CHUNK_SIZE))
        for index, part in enumerate(parts):
            assembly.accept(index, digest(part))
        assert found == assembly.digest()
    else:
        assert found == digest(b"")


def test_reports_are_json() -> None:
    report = VerifyReport(1, 2, 0.5, [BadFile("a\udcff", "why", 1, b"a\xff")])
    assert report.to_dict() == {
        "files": 1, "bytes": 2, "seconds": 0.5, "bad": [{"path": "a?", "reason": "why"}], "unfinished": [],
    }  # fmt: skip
