"""Names that a destination can't hold, and names that it takes for one."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pynetwork.backup import mirror, repair
from pynetwork.backup.names import Limits, fold_key, limits_of
from pynetwork.backup.plan import Options
from pynetwork.files.folders import Folder
from tests.pynetwork.backup.folding import FoldingDirectory, fold_case
from tests.pynetwork.backup.mirroring import (
    LARGE,
    SECOND,
    SHARE,
    STAMP,
    Scene,
    contents,
    new,
    numbered,
    scene,
    seen,
    write,
)

UNDECODABLE = os.fsdecode(b"\xff\xfe")


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


def limited(monkeypatch: pytest.MonkeyPatch, **limits: bool) -> None:
    """From now on destinations have these limits."""
    found = Limits(**{"windows": False, "utf8": False, "folds": False, **limits})
    monkeypatch.setattr(mirror, "limits_of", lambda _folder: found)


def test_names_of_all_sorts(at: Scene) -> None:
    names = [
        "with\nnewline",
        UNDECODABLE,
        "100%41",
        "%2e",
        "a:b",
        "CON",
        "dot.",
        "back\\slash",
        "caf\N{LATIN SMALL LETTER E WITH ACUTE}",
        "cafe\N{COMBINING ACUTE ACCENT}",
        "n" * 255,
    ]
    for name in names:
        at.put(name, name.encode("utf-8", "surrogateescape"))
        at.put(f"{name[:200]} folder/{name}", new(10))
    at.put("large" + UNDECODABLE, new(LARGE))
    report = at.backup()
    assert report.complete
    assert contents(at.to) == contents(at.share)
    kept = [path for path in seen(at.share) if path.rpartition("/")[2].startswith(("100%41", "%2e"))]
    assert [path for path, _ in report.escaped] == sorted(kept)
    at.grow(UNDECODABLE, b"more")
    at.grow("100%41", b"more")
    assert numbered(at.backup()) == {"files": 23, "unchanged": 21, "grown": 2}
    assert not at.verify().bad
    (at.share / "100%41").unlink()
    assert numbered(at.backup(mirror_deletes=True)) == {"files": 22, "unchanged": 22, "gone": 1, "deleted": 1}
    assert contents(at.to) == contents(at.share)


def test_names_that_a_backup_keeps_for_itself(at: Scene) -> None:
    at.put(".pynetwork/catalogue.sqlite", b"not ours")
    at.put(".pynetwork/lock", b"nor this")
    at.put("sub/.pynetwork", b"here it may be")
    at.put(".PyNetwork", b"folds to ours")
    (at.share / ".pynetwork/held").mkdir()
    report = at.backup()
    assert report.complete
    assert contents(at.to) == contents(at.share)
    assert report.escaped == [(".PyNetwork", "%2EPyNetwork"), (".pynetwork", "%2Epynetwork")]
    assert numbered(at.backup()) == {"files": 4, "unchanged": 4}
    # What is a partial file by its name is some transfer's matter.
    at.put(".x.partial", b"half")
    at.put(".partial.partial/y", b"in a folder it is no such thing")
    assert numbered(at.backup()) == {"files": 5, "unchanged": 4, "new": 1}
    assert "%2Epartial.partial/y" in seen(at.to)


@pytest.mark.parametrize("limits", [{"windows": True}, {"utf8": True}, {"windows": True, "utf8": True, "folds": True}])
def test_destinations_that_can_not_hold_all_names(
    at: Scene, monkeypatch: pytest.MonkeyPatch, limits: dict[str, bool]
) -> None:
    limited(monkeypatch, **limits)
    names = ["a:b", "CON", "dot.", "what?", UNDECODABLE, "plain", "n" * 250 + ":", "n" * 250 + UNDECODABLE]
    for name in names:
        at.put(name, new(20))
        at.put(f"f{name[:100]}/{name}", new(20))
    report = at.backup()
    long = [path for path in contents(at.share) if path.rpartition("/")[2] in names[-2:]]
    refused = [path for path in long if (":" in path) is bool(limits.get("windows")) or limits.get("utf8")]
    assert {path for path, _ in report.skipped} <= set(refused)
    assert all("shorter name" in reason for _, reason in report.skipped)
    expected = {path: data for path, data in contents(at.share).items() if path not in dict(report.skipped)}
    assert contents(at.to) == expected
    for place in seen(at.to):
        assert not limits.get("windows") or not set(place) & set(':?"')
        assert not limits.get("utf8") or place.encode()
    again = at.backup()
    assert again.skipped == report.skipped
    assert (again.unchanged, again.escaped) == (len(expected), [])


def plant_twins(at: Scene) -> None:
    """Names that differ in case only, in each part of a path."""
    for folder in ("", "Logs/", "logs/", "LOGS/Sub/", "LOGS/sub/"):
        for name in ("App.log", "app.log", "APP.LOG", "other"):
            at.put(folder + name, (folder + name).encode())
    at.put("Straße", b"sharp s")
    at.put("STRASSE", b"two of them")
    at.put("thing", b"a file")
    at.put("Thing/file", b"in a folder")
    (at.share / "link").symlink_to("other")
    (at.share / "LINK").symlink_to("thing")


def places_are_apart(root: Path) -> bool:
    """Whether no two names in a folder would be one there."""
    names = list(seen(root))
    return len({fold_key(name) for name in names}) == len(names)


@pytest.mark.parametrize("how", ["limits", "folder"])
def test_names_that_differ_in_case_only(at: Scene, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "folder":
        fold_case(monkeypatch, at.to)
    else:
        limited(monkeypatch, folds=True)
    plant_twins(at)
    report = at.backup()
    assert report.complete
    assert contents(at.to) == contents(at.share)
    assert places_are_apart(at.to)
    assert ("app.log", "a%70p.log") not in report.escaped
    assert numbered(at.backup()) == {"files": report.files, "unchanged": report.files}
    assert not at.verify().bad
    # One that comes later, before or behind those that are there in the order of bytes, takes nobody's place.
    for name in ("aPP.LOG", "AA", "zz", "ZZ", "LOGs/x", "loGS/x", "lInK"):
        at.put(name, name.encode())
    at.grow("logs/app.log", b"more")
    at.grow("Logs/App.log", b"more")
    later = at.backup()
    assert (later.new, later.grown, later.unchanged) == (7, 2, report.files - 2)
    assert contents(at.to) == contents(at.share)
    assert places_are_apart(at.to)
    assert not at.verify().bad


def test_a_system_that_numbers_each_spelling(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """As some do that are programs themselves: a file has another number by each name that finds it."""
    fold_case(monkeypatch, at.to)
    status = FoldingDirectory.status

    def numbered_status(directory: FoldingDirectory, name: str) -> Any:
        found = status(directory, name)
        fields = {field: getattr(found, field) for field in dir(found) if field.startswith("st_")}
        return SimpleNamespace(**{**fields, "st_ino": found.st_ino + sum(name.encode("utf-8", "surrogateescape"))})

    with Folder(at.to, create=True, portable=False) as folder, monkeypatch.context() as patched:
        patched.setattr(FoldingDirectory, "status", numbered_status)
        assert limits_of(folder).folds
        write(at.to / "Some File", b"x")
        assert limits_of(folder).folds


@contextlib.contextmanager
def stick(where: Path) -> Iterator[None]:
    """A file system as sticks have it; the test is skipped where there is no program for that, or no right to it."""
    image = where.with_name("stick.img")
    where.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    with contextlib.ExitStack() as stack:
        try:
            subprocess.run(["mkfs.exfat", image], check=True, capture_output=True)
            made = subprocess.run(["losetup", "-f", "--show", image], check=True, capture_output=True, text=True)
            device = made.stdout.strip()
            stack.callback(subprocess.run, ["losetup", "-d", device], check=True)
            subprocess.run(["mount.exfat-fuse", device, where], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no such file system can be mounted: {error}")
        stack.callback(subprocess.run, ["umount", where], check=True)
        yield


def test_a_stick(at: Scene) -> None:
    """One that takes names for one that differ in case only, has no links of either kind, and no modes."""
    with stick(at.to):
        plant_twins(at)
        (at.share / "link").unlink()
        (at.share / "LINK").unlink()
        for name in ("a:b?", UNDECODABLE, "dot.", "large.log", "sub/new.log"):
            at.put(name, new(LARGE if name == "large.log" else 3000))
        report = at.backup()
        assert report.complete
        assert contents(at.to) == contents(at.share)
        assert places_are_apart(at.to)
        again = at.backup()
        assert (again.unchanged, again.received) == (report.files, 0)
        for name in ("large.log", "sub/new.log", "logs/app.log"):
            at.grow(name, b"more")
        assert at.backup().received < 2000
        for name in ("large.log", "sub/new.log"):
            (at.share / name).rename(at.share / f"{name}.1")
            at.put(name, b"a new one")
        rotated = at.backup(mirror_deletes=True)
        assert (rotated.moved, rotated.complete) == (2, True)
        assert rotated.received < 2000
        assert contents(at.to) == contents(at.share)
        assert not at.verify().bad


def test_a_name_that_changes_its_case(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    fold_case(monkeypatch, at.to)
    at.put("App.log", new(100))
    at.put("Folder/x", new(100))
    at.backup()
    (at.share / "App.log").rename(at.share / "app.log")
    (at.share / "Folder").rename(at.share / "folder")
    report = at.backup()
    assert (report.moved, report.gone) == (2, 2)
    assert report.received < 1000
    assert contents(at.to).items() >= contents(at.share).items()
    at.backup(mirror_deletes=True)
    assert contents(at.to) == contents(at.share)
    assert not at.verify().bad


def test_folders_of_one_name_keep_their_places_without_a_look_at_them(
    at: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold_case(monkeypatch, at.to)
    plant_twins(at)
    at.backup()
    before = contents(at.to)
    (place,) = [place for place, look in seen(at.to).items() if look[0] == b"Logs/other"]
    write(at.to / place, b"damaged", mtime_ns=STAMP)
    bad = at.verify().bad
    assert [each.path for each in bad] == ["Logs/other"]
    repaired = repair(at.controller.get_client, "", SHARE, at.to, bad, Options(durable=False), progress=False)
    assert repaired.complete
    assert contents(at.to) == before
    for folder in ("Logs", "LOGS/sub"):
        for path in sorted((at.share / folder).rglob("*")):
            path.unlink()
        (at.share / folder).rmdir()
    at.backup(mirror_deletes=True)
    assert contents(at.to) == contents(at.share)
    at.put("Logs/other", b"again", mtime_ns=STAMP + SECOND)
    assert numbered(at.backup())["new"] == 1
    assert contents(at.to) == contents(at.share)


def test_a_lost_catalogue_on_such_a_destination(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    fold_case(monkeypatch, at.to)
    plant_twins(at)
    first = at.backup()
    (at.to / ".pynetwork/catalogue.sqlite").unlink()
    report = at.backup()
    assert report.complete
    assert report.received < 1000 + report.files * 64
    assert report.unchanged == first.files
    assert contents(at.to) == contents(at.share)
