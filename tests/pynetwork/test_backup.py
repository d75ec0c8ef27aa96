"""A backup brings what is not here yet and nothing else; the package's own functions."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from handshakes.manifest import CHUNK_SIZE
from tests.pynetwork.backup.mirroring import (
    LARGE,
    SECOND,
    STAMP,
    Scene,
    new,
    numbered,
    overwrite,
    plant,
    scene,
    seen,
    settle_folders,
)

ROOM = 1000
"""Bytes of tables and digests around what a few files bring."""


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


# What is brought


def test_a_mirror_looks_like_its_source(at: Scene) -> None:
    plant(at.share)
    report = at.backup()
    assert numbered(report) == {"files": 8, "new": 8}
    assert report.complete
    assert report.bytes == sum(len(data) for data, *_ in seen(at.share).values() if isinstance(data, bytes))
    assert report.bytes <= report.received <= report.bytes + ROOM
    assert seen(at.to) == seen(at.share)
    assert at.to.stat().st_mtime_ns == STAMP
    assert not at.verify().bad


def test_unchanged_files_cost_nothing(at: Scene) -> None:
    plant(at.share)
    first = at.backup()
    again = at.backup()
    assert numbered(again) == {"files": 8, "unchanged": 8}
    assert again.received == 0
    assert again.bytes == first.bytes
    assert again.run == first.run + 1
    assert not at.differences()


@pytest.mark.parametrize("size", [100, LARGE])
def test_of_a_file_that_grew_only_the_tail_comes(at: Scene, size: int) -> None:
    at.put("app.log", new(size))
    at.backup()
    inode = (at.to / "app.log").stat().st_ino
    at.grow("app.log", new(5000))
    report = at.backup()
    assert numbered(report) == {"files": 1, "grown": 1}
    assert 5000 <= report.received <= 5000 + ROOM
    assert not at.differences()
    # Many gigabytes are not copied for a few new lines.
    assert ((at.to / "app.log").stat().st_ino == inode) is (size == LARGE)


@pytest.mark.parametrize("added", [CHUNK_SIZE, 2 * CHUNK_SIZE + 1])
@pytest.mark.parametrize("size", [CHUNK_SIZE // 2, CHUNK_SIZE, 2 * CHUNK_SIZE])
def test_growing_over_the_ends_of_chunks(at: Scene, size: int, added: int) -> None:
    at.put("app.log", new(size))
    at.backup()
    at.grow("app.log", new(added))
    report = at.backup()
    assert numbered(report) == {"files": 1, "grown": 1}
    assert added <= report.received <= added + ROOM
    assert not at.differences()


def test_of_a_file_that_changed_in_the_middle_only_those_chunks_come(at: Scene) -> None:
    at.put("disk.img", new(8 * CHUNK_SIZE + 1))
    at.backup()
    overwrite(at.share / "disk.img", new(10), 2 * CHUNK_SIZE - 5)
    overwrite(at.share / "disk.img", new(10), 8 * CHUNK_SIZE - 9)
    report = at.backup()
    assert numbered(report) == {"files": 1, "changed": 1}
    assert report.received <= 3 * CHUNK_SIZE + 1 + ROOM
    assert not at.differences()


def test_a_file_that_changed_in_the_middle_and_grew(at: Scene) -> None:
    at.put("app.log", new(LARGE))
    at.backup()
    overwrite(at.share / "app.log", new(10), 10)
    at.grow("app.log", new(10))
    report = at.backup()
    assert numbered(report) == {"files": 1, "changed": 1}
    assert report.received <= CHUNK_SIZE + 10 + ROOM
    assert not at.differences()


def test_a_file_that_was_cut(at: Scene) -> None:
    whole = new(LARGE)
    at.put("large", whole)
    at.put("small", whole[:1000])
    at.backup()
    at.put("large", whole[: CHUNK_SIZE + 7], mtime_ns=STAMP + SECOND)
    at.put("small", whole[:7], mtime_ns=STAMP + SECOND)
    report = at.backup()
    assert report.files == 2
    assert report.received <= ROOM
    assert not at.differences()
    at.put("large", whole[:7], mtime_ns=STAMP + 2 * SECOND)
    assert at.backup().received <= ROOM
    assert not at.differences()


@pytest.mark.parametrize("size", [0, 100, LARGE])
def test_what_was_only_touched_is_unchanged(at: Scene, size: int) -> None:
    path = at.put("app.log", new(size))
    at.backup()
    os.utime(path, ns=(STAMP + SECOND, STAMP + SECOND))
    touched = at.backup()
    path.chmod(0o640)
    changed = at.backup()
    for report in (touched, changed):
        assert numbered(report) == {"files": 1, "unchanged": 1}
        assert report.received <= ROOM
    assert not at.differences()
    assert at.backup().received == 0


@pytest.mark.parametrize("size", [100, LARGE])
def test_a_renamed_file_is_here_already(at: Scene, size: int) -> None:
    path = at.put("old/name", new(size))
    at.backup()
    (at.share / "new").mkdir()
    path.rename(at.share / "new/name")
    report = at.backup()
    assert numbered(report) == {"files": 1, "moved": 1, "gone": 1}
    assert report.received <= ROOM
    assert at.here("new/name") == at.here("old/name")
    assert numbered(at.backup(mirror_deletes=True)) == {"files": 1, "unchanged": 1, "deleted": 1}
    assert not at.differences()


def test_a_second_name_of_a_file_is_not_moved_again(at: Scene) -> None:
    at.put("a", new(LARGE))
    at.backup()
    os.link(at.share / "a", at.share / "b")
    report = at.backup()
    assert numbered(report) == {"files": 2, "unchanged": 1, "moved": 1}
    assert report.received <= ROOM
    assert not at.differences()


def test_holes_are_not_moved(at: Scene) -> None:
    path = at.put("sparse", b"x")
    overwrite(path, b"y" * 10, 20 * CHUNK_SIZE, STAMP)
    report = at.backup()
    assert report.received <= 2 * CHUNK_SIZE + ROOM
    assert (at.to / "sparse").stat().st_blocks * 512 <= 4 * CHUNK_SIZE
    overwrite(path, b"z", 10 * CHUNK_SIZE)
    assert at.backup().received <= CHUNK_SIZE + ROOM
    assert not at.differences()


def test_only_a_look_at_the_content_finds_what_facts_hide(at: Scene) -> None:
    small, large = at.put("small", new(100)), at.put("large", new(LARGE))
    at.backup()
    for path in (small, large):
        overwrite(path, b"!", 50, mtime_ns=STAMP)
    hidden = at.backup()
    assert (numbered(hidden), hidden.received) == ({"files": 2, "unchanged": 2}, 0)
    assert not at.is_same()
    found = at.backup(checksum=True)
    assert numbered(found) == {"files": 2, "changed": 2}
    assert found.received <= CHUNK_SIZE + 100 + ROOM
    assert not at.differences()
    assert numbered(at.backup(checksum=True)) == {"files": 2, "unchanged": 2}


def test_what_was_changed_here_is_brought_again(at: Scene) -> None:
    at.put("small", new(100))
    at.put("large", new(LARGE))
    at.put("removed", new(100))
    at.put("became a folder", new(100))
    at.backup()
    overwrite(at.to / "small", b"!", 5)
    overwrite(at.to / "large", b"!", 5)
    (at.to / "removed").unlink()
    (at.to / "became a folder").unlink()
    (at.to / "became a folder").symlink_to("small")
    report = at.backup()
    assert report.complete
    assert report.received <= CHUNK_SIZE + 300 + ROOM
    assert not at.differences()


def test_a_file_that_had_changed_just_before_is_looked_at_again(at: Scene) -> None:
    soon = time.time_ns() + 60 * SECOND
    path = at.put("app.log", new(100), mtime_ns=soon)
    at.backup()
    # Had it been the clock's last tick, nobody could see this.
    overwrite(path, b"!", 50, mtime_ns=soon)
    assert numbered(at.backup()) == {"files": 1, "changed": 1}
    assert not at.differences()


# Files, folders and links in each other's place


def test_what_changes_its_kind(at: Scene) -> None:
    at.put("file to folder", new(10))
    at.put("file to link", new(10))
    (at.share / "link to file").symlink_to("nowhere")
    (at.share / "link to folder").symlink_to("nowhere")
    at.backup()
    (at.share / "file to folder").unlink()
    at.put("file to folder/in it", new(10))
    (at.share / "file to link").unlink()
    (at.share / "file to link").symlink_to("file to folder/in it")
    (at.share / "link to file").unlink()
    at.put("link to file", new(10))
    (at.share / "link to folder").unlink()
    at.put("link to folder/in it", new(10))
    settle_folders(at.share)
    report = at.backup()
    assert report.complete
    assert seen(at.to) == seen(at.share)
    assert not at.verify().bad
    assert numbered(at.backup(mirror_deletes=True)) == {"files": 4, "unchanged": 4}


@pytest.mark.parametrize("kind", ["file", "large file", "link"])
def test_a_folder_gives_way_only_where_that_is_wished(at: Scene, kind: str) -> None:
    at.put("thing/one/file", new(10))
    at.put("thing/two", new(10))
    at.backup()
    (at.share / "thing").rename(at.share / "elsewhere")
    if kind == "link":
        (at.share / "thing").symlink_to("elsewhere")
    else:
        at.put("thing", new(LARGE if kind == "large file" else 10))
    kept = at.backup()
    assert [path for path, _ in kept.skipped] == ["thing"]
    assert "folder" in kept.skipped[0].reason
    assert at.here("thing/two") == at.here("elsewhere/two")
    report = at.backup(mirror_deletes=True)
    assert report.complete
    assert report.deleted == 2
    assert not at.differences()
    assert not at.verify().bad


def test_links_stay_inside(at: Scene) -> None:
    inside = {
        "to a file": "sub/file",
        "to itself": ".",
        "into nothing": "not/there",
        "loop": "loop",
        "a": "b",
        "b": "a",
    }
    outside = ["/etc/passwd", "..", "../share/sub", "sub/../../x", "../to/sub/file"]
    at.put("sub/file", b"x")
    for name, target in inside.items():
        (at.share / name).symlink_to(target)
    for number, target in enumerate(outside):
        (at.share / f"out {number}").symlink_to(target)
    (at.share / "sub/up").symlink_to("../to a file")
    (at.share / "sub/out").symlink_to("../../to a file")
    # Where the first of these leads, the second would come out of the folder.
    (at.share / "sub/way").symlink_to("..")
    (at.share / "sub/beyond").symlink_to("way/../../etc/passwd")
    report = at.backup()
    refused = [path for path, reason in report.skipped if reason.startswith("symbolic link")]
    assert refused == ["out 0", "out 1", "out 2", "out 3", "out 4", "sub/beyond", "sub/out"]
    assert report.skipped == sorted(report.skipped)
    assert len(report.skipped) == len(refused)
    for path in at.to.rglob("*"):
        assert not path.is_symlink() or os.path.realpath(path).startswith(os.path.realpath(at.to))
    (at.share / "to a file").unlink()
    (at.share / "to a file").symlink_to("sub")
    again = at.backup()
    assert again.skipped == report.skipped
    assert again.changed == 1
    assert os.readlink(at.to / "to a file") == "sub"


def test_what_is_no_file_is_skipped_and_said(at: Scene) -> None:
    os.mkfifo(at.share / "pipe")
    at.put("file", b"x")
    report = at.backup()
    assert report.skipped == [("pipe", "named pipe")]
    assert not (at.to / "pipe").exists()


# What is gone


def test_what_is_gone_stays_unless_told_otherwise(at: Scene) -> None:
    plant(at.share)
    at.backup()
    kept = seen(at.share, times=False)
    for path in ("small.log", "sub/large.log", "link"):
        (at.share / path).unlink()
    (at.share / "no files/in it").rmdir()
    for path in sorted((at.share / "sub").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    (at.share / "sub").rmdir()
    report = at.backup()
    assert numbered(report) == {"files": 3, "unchanged": 3, "gone": 5}
    assert seen(at.to, times=False) == kept
    assert not at.verify().bad
    assert numbered(at.backup()) == {"files": 3, "unchanged": 3}
    assert numbered(at.backup(mirror_deletes=True)) == {"files": 3, "unchanged": 3, "deleted": 5}
    assert not at.differences()
    assert at.verify().files == 3


def test_what_comes_back_is_here_already(at: Scene) -> None:
    path = at.put("app.log", new(LARGE))
    at.backup()
    path.rename(at.share.parent / "away")
    assert at.backup().gone == 1
    (at.share.parent / "away").rename(path)
    report = at.backup(mirror_deletes=True)
    assert numbered(report) == {"files": 1, "unchanged": 1}
    assert report.received <= ROOM
    assert not at.differences()


def test_only_what_was_backed_up_is_deleted(at: Scene) -> None:
    at.put("folder/file", b"x")
    at.backup()
    (at.to / "folder/my own").write_bytes(b"mine")
    (at.to / "mine").mkdir()
    (at.share / "folder/file").unlink()
    (at.share / "folder").rmdir()
    assert at.backup(mirror_deletes=True).deleted == 1
    assert sorted(seen(at.to)) == ["folder", "folder/my own", "mine"]
