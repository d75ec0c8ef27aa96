"""A restore brings what is not at the gateway yet and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.errors import BadRequest, ConfigurationError, Forbidden, UnsafePath
from handshakes.manifest import CHUNK_SIZE
from pynetwork.backup import DestinationBusy, RestoreReport, restoring
from pynetwork.backup.lock import DestinationLock
from pynetwork.files import storing
from tests.pynetwork.backup.mirroring import (
    LARGE,
    STAMP,
    Scene,
    lines,
    new,
    overwrite,
    scene,
    seen,
    settle_folders,
    write,
)
from tests.pynetwork.files.transferring import once
from tests.serving import controller_of, serving

ROOM = 1000
"""Bytes of tables around what a few files bring."""


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


def plant(at: Scene) -> None:
    """Files of all sizes, folders and links, backed up."""
    at.put("empty")
    at.put("small.log", lines(100))
    at.put("sub/deep/small.log", lines(50), mode=0o600)
    at.put("sub/large.log", new(LARGE))
    at.put("one chunk", new(CHUNK_SIZE))
    at.put("a byte more", new(CHUNK_SIZE + 1), mode=0o755)
    (at.share / "no files/in it").mkdir(parents=True)
    (at.share / "no files").chmod(0o750)
    (at.share / "link").symlink_to("sub/large.log")
    (at.share / "sub/deep/up").symlink_to("../../no files/")
    settle_folders(at.share)
    assert at.backup().complete


FILES = 8


def restore(at: Scene, source: Path | None = None, dirname: str = "in", **options: Any) -> RestoreReport:
    """Restore all over one lane, without a bar and without waiting for the disk, unless told otherwise."""
    settings = {"lanes": 1, "progress": False, "durable": False, **options}
    return at.controller.restore(source or at.to, dirname, **settings)


def there(at: Scene) -> Path:
    return at.share.parent / "incoming/in"


def figures(report: RestoreReport) -> dict[str, int]:
    """The figures that are not 0 and do not depend on time or luck."""
    return {name: getattr(report, name) for name in ("files", "unchanged", "new", "changed") if getattr(report, name)}


# What is brought


@pytest.mark.parametrize("lanes", [1, 3, None])
def test_what_is_restored_looks_like_its_source(at: Scene, lanes: int | None) -> None:
    plant(at)
    report = restore(at, lanes=lanes, durable=True)
    assert figures(report) == {"files": FILES, "new": FILES}
    assert report.complete
    assert report.bytes <= report.sent <= report.bytes + ROOM
    assert seen(there(at)) == seen(at.share)
    assert there(at).stat().st_mtime_ns == STAMP


def test_what_is_there_costs_nothing(at: Scene) -> None:
    plant(at)
    first = restore(at)
    before = {path: path.lstat().st_ino for path in there(at).rglob("*")}
    again = restore(at)
    assert figures(again) == {"files": FILES, "unchanged": FILES}
    assert (again.sent, again.bytes) == (0, first.bytes)
    assert {path: path.lstat().st_ino for path in there(at).rglob("*")} == before
    assert seen(there(at)) == seen(at.share)


def test_any_folder_can_be_restored(at: Scene) -> None:
    at.put("a%41b/file", b"x")
    at.put("back\\slash/CON", b"x")
    at.put("many/" + "n" * 255, b"x")
    settle_folders(at.share)
    assert restore(at, at.share).complete
    assert seen(there(at)) == seen(at.share)
    assert not (at.share / ".pynetwork").exists()


def test_the_folder_for_uploads_itself_can_be_the_target(at: Scene) -> None:
    plant(at)
    incoming = there(at).parent
    incoming.mkdir(mode=0o755)
    write(incoming / "other", b"not touched")
    for _ in range(2):
        restore(at, dirname="")
    found = seen(incoming)
    assert found.pop("other") == (b"not touched", 0o644, STAMP)
    assert found == seen(at.share)


def test_many_small_files(at: Scene) -> None:
    for number in range(700):
        at.put(f"{number % 5}/{number % 7}/log{number}", lines(number % 11))
    settle_folders(at.share)
    report = restore(at, at.share, lanes=2)
    assert figures(report) == {"files": 700, "new": 700}
    assert seen(there(at)) == seen(at.share)
    for number in range(0, 700, 100):
        overwrite(at.share / f"{number % 5}/{number % 7}/log{number}", b"more and more", 0)
    report = restore(at, at.share, lanes=2)
    assert figures(report) == {"files": 700, "unchanged": 693, "changed": 7}
    assert report.sent < 7 * 600 + ROOM
    assert seen(there(at)) == seen(at.share)


# What differs


def test_of_a_large_file_only_the_chunks_that_differ_are_sent(at: Scene) -> None:
    plant(at)
    restore(at)
    overwrite(there(at) / "sub/large.log", b"damaged", CHUNK_SIZE + 5)
    report = restore(at)
    assert figures(report) == {"files": FILES, "unchanged": FILES - 1, "changed": 1}
    assert CHUNK_SIZE <= report.sent <= CHUNK_SIZE + ROOM
    assert seen(there(at)) == seen(at.share)


@pytest.mark.parametrize("size", [CHUNK_SIZE // 2, CHUNK_SIZE, 2 * CHUNK_SIZE + 5, LARGE - 1, LARGE + 1, 2 * LARGE])
def test_a_large_file_of_another_size_gives_what_it_has(at: Scene, size: int) -> None:
    whole = new(2 * LARGE)
    at.put("large", whole[:LARGE])
    write(there(at) / "large", whole[:size])
    report = restore(at, at.share)
    assert figures(report) == {"files": 1, "changed": 1}
    same = min(LARGE, size)
    missing = LARGE - same // CHUNK_SIZE * CHUNK_SIZE if size != LARGE else 0
    if size > LARGE:
        missing = 0
    assert missing <= report.sent <= missing + ROOM
    assert (there(at) / "large").read_bytes() == whole[:LARGE]


def test_what_lacks_its_time_alone_is_not_sent(at: Scene) -> None:
    plant(at)
    restore(at)
    inodes = {}
    for path in there(at).rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.touch()
            inodes[path] = path.stat().st_ino
    report = restore(at)
    assert figures(report) == {"files": FILES, "unchanged": FILES}
    assert report.sent == 0
    assert seen(there(at)) == seen(at.share)
    assert {path: path.stat().st_ino for path in inodes} == inodes


def test_modes_are_put_right(at: Scene) -> None:
    plant(at)
    restore(at)
    for path in ("small.log", "sub/large.log", "no files"):
        (there(at) / path).chmod(0o711)
    report = restore(at)
    assert figures(report) == {"files": FILES, "unchanged": FILES}
    assert report.sent == 0
    assert seen(there(at)) == seen(at.share)


@pytest.mark.parametrize("path", ["small.log", "sub/large.log"])
def test_what_only_looks_right_is_found_when_contents_are_compared(at: Scene, path: str) -> None:
    plant(at)
    restore(at)
    overwrite(there(at) / path, b"?", 7, STAMP)
    settle_folders(there(at))
    assert figures(restore(at)) == {"files": FILES, "unchanged": FILES}
    report = restore(at, checksum=True)
    assert figures(report) == {"files": FILES, "unchanged": FILES - 1, "changed": 1}
    assert report.sent <= CHUNK_SIZE + ROOM
    assert seen(there(at)) == seen(at.share)
    assert restore(at, checksum=True).sent == 0


def test_a_small_file_of_the_same_size_is_compared_before_it_is_sent(at: Scene) -> None:
    for number in range(50):
        at.put(f"same{number}", lines(10))
        at.put(f"other{number}", lines(10))
    restore(at, at.share)
    for number in range(50):
        os.utime(there(at) / f"same{number}")
        overwrite(there(at) / f"other{number}", b"?", 0)
    size = (at.share / "other0").stat().st_size
    report = restore(at, at.share)
    assert figures(report) == {"files": 100, "unchanged": 50, "changed": 50}
    assert 50 * size <= report.sent <= 50 * (size + 100)
    assert seen(there(at), times=False) == seen(at.share, times=False)


def test_links_are_put_right(at: Scene) -> None:
    plant(at)
    restore(at)
    (there(at) / "link").unlink()
    (there(at) / "link").symlink_to("elsewhere")
    (there(at) / "sub/deep/up").unlink()
    write(there(at) / "sub/deep/up", b"a file")
    report = restore(at)
    assert figures(report) == {"files": FILES, "unchanged": FILES - 2, "new": 1, "changed": 1}
    assert seen(there(at)) == seen(at.share)


def test_links_that_lead_out_are_told(at: Scene) -> None:
    at.put("a/b/file", b"x")
    (at.share / "a/b/through").symlink_to("../b/../../a")
    (at.share / "a/b/out").symlink_to("../../../out")
    report = restore(at, at.share)
    assert dict(report.skipped) == {
        "a/b/out": "symbolic link that leads out of the folder",
        "a/b/through": "symbolic link that leads out of the folder",
    }
    assert sorted(os.listdir(there(at) / "a/b")) == ["file"]


def test_nothing_is_removed(at: Scene) -> None:
    at.put("sub/file", b"x")
    write(there(at) / "sub/other", b"y")
    write(there(at) / "other/file", b"z")
    restore(at, at.share)
    assert sorted(str(path.relative_to(there(at))) for path in there(at).rglob("*")) == [
        "other",
        "other/file",
        "sub",
        "sub/file",
        "sub/other",
    ]


def test_what_is_something_else_there_is_told(at: Scene, tmp_path: Path) -> None:
    for path in ("file", "large", "folder/x", "link/x", "good"):
        at.put(path, new(LARGE) if path == "large" else b"x")
    (there(at) / "file/in it").mkdir(parents=True)
    (there(at) / "large").mkdir()
    write(there(at) / "folder", b"a file")
    (tmp_path / "outside").mkdir()
    (there(at) / "link").symlink_to(tmp_path / "outside")
    report = restore(at, at.share)
    way = "a folder on its way is a symbolic link or no folder"
    assert dict(report.skipped) == {
        "file": "folder",
        "large": "folder",
        "folder": way,
        "folder/x": way,
        "link": way,
        "link/x": way,
    }
    assert os.listdir(tmp_path / "outside") == []
    assert (there(at) / "good").read_bytes() == b"x"


# What is chosen


def test_only_what_was_chosen_is_restored(at: Scene) -> None:
    plant(at)
    report = restore(at, glob="sub/*.log")
    assert figures(report) == {"files": 2, "new": 2}
    expected = seen(at.share)
    assert seen(there(at)) == {
        path: expected[path] for path in ("sub", "sub/large.log", "sub/deep", "sub/deep/small.log")
    }
    report = restore(at, pattern=r".*/large\.log|link")
    assert figures(report) == {"files": 2, "unchanged": 1, "new": 1}
    assert "no files" not in seen(there(at))


def test_what_has_gone_is_restored_if_that_is_wished(at: Scene) -> None:
    for path in ("stays", "goes", "all/goes"):
        at.put(path, b"x")
    at.backup()
    for path in ("goes", "all/goes"):
        (at.share / path).unlink()
    (at.share / "all").rmdir()
    at.backup()
    assert figures(restore(at)) == {"files": 1, "new": 1}
    assert seen(there(at)).keys() == {"stays"}
    assert figures(restore(at, include_gone=True)) == {"files": 3, "new": 2, "unchanged": 1}
    assert seen(there(at)).keys() == {"stays", "goes", "all", "all/goes"}


def test_a_dry_run_changes_nothing(at: Scene) -> None:
    plant(at)
    report = restore(at, dry_run=True)
    assert figures(report) == {"files": FILES, "new": FILES}
    assert len(report.planned) == FILES
    assert not report.complete
    assert not there(at).parent.exists()
    restore(at)
    overwrite(there(at) / "sub/large.log", b"?", 5)
    (there(at) / "link").unlink()
    (there(at) / "no files").chmod(0o700)
    before = seen(there(at))
    report = restore(at, dry_run=True)
    assert figures(report) == {"files": FILES, "unchanged": FILES - 2, "new": 1, "changed": 1}
    assert sorted(report.planned) == ["link", "sub/large.log"]
    assert (report.sent, seen(there(at))) == (0, before)
    with pytest.raises(ConfigurationError, match="dry run"):
        restore(at, dry_run=True, checksum=True)


def test_a_report_as_values(at: Scene) -> None:
    write(Path(os.fsdecode(os.fsencode(at.share) + b"/\xff")), b"x")
    (at.share / "out").symlink_to("/etc")
    report = restore(at, at.share, dry_run=True)
    values = report.to_dict()
    assert (values["planned"], values["files"], values["dry_run"]) == (["?"], 1, True)
    assert values["skipped"] == [{"path": "out", "reason": "symbolic link that leads out of the folder"}]


# Who restores


def test_a_running_backup_is_noticed(at: Scene) -> None:
    plant(at)
    with (
        DestinationLock(at.to, "backup"),
        pytest.raises(DestinationBusy, match=r"no restore on .* now: it is held by a backup"),
    ):
        restore(at)
    assert restore(at).complete


def test_a_backup_notices_a_restore(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(at)
    busy: list[BaseException] = []

    def back_up(take: Callable[..., Any], *arguments: Any) -> Any:
        try:
            at.backup()
        except DestinationBusy as error:
            busy.append(error)
        return take(*arguments)

    monkeypatch.setattr(restoring.RestoreJob, "_take_pages", once(back_up, restoring.RestoreJob._take_pages))
    assert restore(at).complete
    assert "held by a restore" in str(busy[0])


@pytest.mark.parametrize("error", [PermissionError(13, "no"), OSError(30, "read-only")])
def test_what_can_not_be_written_can_not_be_backed_up_into(
    at: Scene, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def refuse(_lock: DestinationLock) -> DestinationLock:
        raise error

    plant(at)
    monkeypatch.setattr(DestinationLock, "__enter__", refuse)
    if isinstance(error, PermissionError):
        with pytest.raises(PermissionError):
            restore(at)
    else:
        assert restore(at).complete


def test_arguments_that_can_not_be(at: Scene) -> None:
    with pytest.raises(ConfigurationError, match="0 lanes"):
        restore(at, at.share, lanes=0)
    with pytest.raises(ConfigurationError, match="regular expression"):
        restore(at, at.share, pattern="(")
    with pytest.raises(UnsafePath):
        restore(at, at.share, dirname="../up")
    with pytest.raises(FileNotFoundError):
        restore(at, at.share / "none")
    with pytest.raises(NotADirectoryError):
        restore(at, at.put("file"))


def test_who_may_not_write_is_told(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    write(tmp_path / "source/file", b"x")
    with serving(key={"key of a reader": "read"}, download_dir=tmp_path / "incoming") as gateway:
        controller = controller_of(gateway, key="key of a reader")
        for dry_run in (False, True):
            with pytest.raises(Forbidden):
                controller.restore(tmp_path / "source", "in", progress=False, dry_run=dry_run)


def test_a_target_that_is_none_is_told(at: Scene) -> None:
    at.put("file", b"x")
    write(there(at).parent / "in", b"a file")
    for dry_run in (False, True):
        with pytest.raises(BadRequest, match="'in' can't be"):
            restore(at, at.share, dry_run=dry_run)


def test_progress_is_told(at: Scene) -> None:
    plant(at)
    told: list[tuple[int, int, int, int]] = []
    report = restore(at, progress=lambda *figures: told.append(figures))
    # Links are no files that are moved.
    assert told[-1] == (report.bytes, report.bytes, FILES - 2, FILES - 2)
    restore(at, progress=lambda *figures: told.append(figures))
    assert told[-1] == (0, 0, 0, 0)


def test_there_is_a_limit(at: Scene) -> None:
    at.put("large", new(LARGE))
    for number in range(10):
        at.put(f"small{number}", new(50_000))
    limit = 4 << 20
    report = restore(at, at.share, limit=limit, lanes=2)
    assert report.complete
    # The last piece is paid for by nobody.
    assert report.seconds >= (report.bytes - 2 * CHUNK_SIZE) / limit
    assert seen(there(at), times=False) == seen(at.share, times=False)


def test_who_is_in_no_hurry_gives_way(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    at.put("large", new(LARGE))
    joined: list[object] = []
    join = restoring.RestorePlan.__init__.__globals__["Bottleneck"].join

    def noted(bottleneck: object, *arguments: Any) -> Any:
        joined.append(bottleneck)
        return join(bottleneck, *arguments)

    monkeypatch.setattr(restoring.RestorePlan.__init__.__globals__["Bottleneck"], "join", noted)
    restore(at, at.share, lanes=2)
    assert joined == []
    restore(at, at.share, lanes=2, low_priority=True)
    assert len(joined) == 2
    assert len(set(map(id, joined))) == 1


def test_an_error_of_the_caller_ends_the_restore(at: Scene) -> None:
    plant(at)

    def fail(*_: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        restore(at, progress=fail)
    assert restore(at).complete
    assert seen(there(at)) == seen(at.share)


# Names that differ in case only


def test_names_that_would_be_one_there_are_not_mixed_up(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "folds_case", lambda *_: True)
    for path in ("File", "fILE", "a/x", "A/x", "A/y/z", "a/y/z", "other"):
        at.put(path, path.encode())
    (at.share / "FILE").symlink_to("other")
    report = restore(at, at.share)
    assert {reason for _, reason in report.skipped} == {"another file that was restored has the same name there"}
    names = sorted(path for path, _ in report.skipped)
    assert names == ["FILE", "a", "a/y", "fILE"]
    assert seen(there(at)).keys() == {"A", "A/x", "A/y", "A/y/z", "File", "other"}
