"""What goes from a mirror, and what must not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pynetwork.backup.catalogue import Catalogue
from pynetwork.backup.deleting import Deleted, delete_gone, put_aside
from pynetwork.backup.mirror import Mirror
from pynetwork.backup.records import PRUNED
from pynetwork.files.folders import Folder
from tests.pynetwork.backup.mirroring import SECOND, facts, record, seen
from tests.pynetwork.backup.test_catalogue import folder_row


class Ground:
    """A mirror with files that are recorded."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mirror = Mirror(root)
        self.catalogue = Catalogue(self.mirror.catalogue_path)
        self.catalogue.begin_run("", "")
        self.folder: Folder = self.mirror.open()
        self.numbers: dict[bytes, int] = {}

    def put(self, path: str, **changes: object) -> None:
        above, _, name = os.fsencode(path).rpartition(b"/")
        self.numbers[above], _ = self.catalogue.see_folder(folder_row(above))
        self.catalogue.record(self.numbers[above], record(name, facts(5), **changes))
        self.catalogue.commit()
        if name == b"..":
            return
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"12345")

    def delete(self, **options: object) -> Deleted:
        self.catalogue.commit()
        return delete_gone(self.mirror, self.catalogue, self.folder, **options)

    def places(self) -> list[str]:
        return sorted(place for place, look in seen(self.root).items() if look[0] != "folder")

    def close(self) -> None:
        self.folder.close()
        self.catalogue.close()


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path / "to")
    yield made
    made.close()


def test_files_go_and_folders_that_are_empty_then(ground: Ground) -> None:
    for path in ("a", "b", "sub/c", "sub/deep/d", "kept/e", "kept/f"):
        ground.put(path)
    ground.put("other")
    (ground.root / "kept/mine").write_bytes(b"x")
    for folder in (b"sub", b"kept"):
        ground.catalogue.mark_folder_gone(folder)
    ground.catalogue.mark_gone(ground.numbers[b""], [b"b"])
    deleted = ground.delete()
    assert deleted.files == 5
    assert ground.numbers[b""] in deleted.folders
    assert ground.places() == ["a", "kept/mine", "other"]
    assert not (ground.root / "sub").exists()
    assert [path for path, *_ in ground.catalogue.all_files()] == [b"", b""]
    assert ground.delete() == Deleted(0, set())


def test_only_below_a_folder_and_only_what_is_chosen(ground: Ground) -> None:
    for path in ("sub/a.log", "sub/b.txt", "sub2/a.log", "sub/deep/a.log"):
        ground.put(path)
    for folder in (b"sub", b"sub2"):
        ground.catalogue.mark_folder_gone(folder)
    assert ground.delete(below=b"sub", chosen=lambda path, _: path.endswith(".log")).files == 2
    assert ground.places() == ["sub/b.txt", "sub2/a.log"]
    assert ground.delete().files == 2
    assert ground.places() == []


def test_what_was_pruned_or_can_not_be_removed_stays(ground: Ground) -> None:
    ground.put("pruned")
    ground.put("folder by now")
    ground.put("away by now")
    ground.put("..", place=b"..")
    ground.catalogue.set_pruned([(ground.numbers[b""], b"pruned")])
    ground.catalogue.mark_gone(ground.numbers[b""], [b"folder by now", b"away by now", b".."])
    (ground.root / "folder by now").unlink()
    (ground.root / "folder by now").mkdir()
    (ground.root / "away by now").unlink()
    assert ground.delete().files == 1
    assert ground.places() == ["pruned"]
    assert {kept.name for _, _, kept in ground.catalogue.all_files()} == {b"pruned", b"folder by now", b".."}


@pytest.mark.parametrize("name", ["app.log.3", "n" * 255, os.fsdecode(b"\xff.gz")])
def test_what_was_pruned_is_put_aside(ground: Ground, name: str) -> None:
    when = facts(5, 1_700_000_000 * SECOND).mtime_ns
    number = 0
    for _ in range(3):
        ground.put(name, gone=PRUNED, mtime_ns=when)
        number = ground.numbers[b""]
        kept = ground.catalogue.file(number, os.fsencode(name))
        assert kept is not None
        put_aside(ground.folder.directory(()), name, ground.catalogue, number, kept)
    stem = name[:200]
    assert ground.places() == sorted(f"{stem}.pruned-20231114T221320{suffix}" for suffix in ("", "-1", "-2"))
    assert sorted(os.fsdecode(kept.name) for kept in ground.catalogue.files(number)) == ground.places()
    assert all(kept.gone == PRUNED for kept in ground.catalogue.files(number))


def test_times_that_no_calendar_has(ground: Ground) -> None:
    for number, when in enumerate((-(1 << 62), (1 << 63) - 1)):
        ground.put(f"{number}", gone=PRUNED, mtime_ns=when)
        kept = ground.catalogue.file(ground.numbers[b""], b"%d" % number)
        assert kept is not None
        put_aside(ground.folder.directory(()), f"{number}", ground.catalogue, ground.numbers[b""], kept)
    assert len(ground.places()) == 2
