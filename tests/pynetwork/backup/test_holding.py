"""What is held: replaced content and partial files, for as long as they may be wanted under another name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from handshakes.manifest import digest
from handshakes.paths import partial_name
from pynetwork.backup import holding
from pynetwork.backup.catalogue import Catalogue
from pynetwork.backup.holding import Holdings
from pynetwork.backup.mirror import OWN, Base, Mirror
from pynetwork.backup.records import UnfinishedRecord
from pynetwork.files.folders import Folder
from tests.pynetwork.backup.mirroring import facts, record, write
from tests.pynetwork.backup.test_catalogue import folder_row

ONE, TWO = b"some content", b"another one"


class Ground:
    """A mirror, its catalogue, and what it holds."""

    def __init__(self, root: Path) -> None:
        self.mirror = Mirror(root)
        self.catalogue = Catalogue(self.mirror.catalogue_path)
        self.number, _ = self.catalogue.see_folder(folder_row(b""))
        self.folder: Folder = self.mirror.open()
        self.holdings = Holdings(self.mirror, self.catalogue)

    def again(self) -> Holdings:
        """As the next run finds it."""
        return Holdings(self.mirror, self.catalogue)

    def keep(self, name: str, data: bytes, *, inode: int, known: bool = True) -> bytes:
        """Have something replaced, and answer its digest."""
        write(self.mirror.root / name, data)
        before = record(os.fsencode(name), facts(len(data), inode=inode), digest(data)) if known else None
        self.holdings.keep(self.folder, name, self.number, os.fsencode(name), before)
        os.unlink(self.mirror.root / name)
        return digest(data)

    def unfinished(self, name: str, data: bytes, *, inode: int) -> UnfinishedRecord:
        """A partial file that a run has left."""
        write(self.mirror.root / partial_name(name), data)
        found = UnfinishedRecord(name, 0, self.number, os.fsencode(name), 1, inode)
        self.catalogue.begin_file(name, *found[2:])
        return found

    @property
    def held(self) -> set[bytes]:
        return {path.read_bytes() for path in (self.mirror.root / OWN / "held").iterdir()}


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path)
    yield made
    made.folder.close()
    made.catalogue.close()


def test_what_is_replaced_is_found_by_what_it_was(ground: Ground) -> None:
    assert not ground.holdings
    one, two = ground.keep("a", ONE, inode=7), ground.keep("b", TWO, inode=8)
    # The next run of a process that was killed knows them too.
    for each in (ground.holdings, ground.again()):
        assert each
        assert one in each
        assert [held.digest for held in each.by_identity(1, 7)] == [one]
        assert each.by_identity(2, 7) == each.by_identity(1, 9) == each.in_folder(ground.number + 1) == []
        assert {held.digest for held in each.in_folder(ground.number)} == {one, two}
    assert ground.held == {ONE, TWO}
    assert ground.mirror.read_base(ground.folder, Base("", len(ONE), one), "a") == ONE


def test_what_nobody_recorded_is_held_too(ground: Ground) -> None:
    ground.keep("a", ONE, inode=7, known=False)
    (held,) = ground.holdings.in_folder(ground.number)
    assert (held.size, held.device, held.inode, held.name) == (len(ONE), 0, 0, b"a")
    assert ground.held == {ONE}


def test_nothing_is_held_of_what_is_not_there(ground: Ground) -> None:
    ground.holdings.keep(ground.folder, "none", ground.number, b"none", None)
    ground.keep("empty", b"", inode=7)
    (ground.mirror.root / "folder").mkdir()
    ground.holdings.keep(ground.folder, "folder", ground.number, b"folder", None)
    assert not ground.holdings


def test_it_stays_for_one_run_more(ground: Ground) -> None:
    ground.keep("a", ONE, inode=7)
    ground.holdings.forget(ground.folder)
    assert ground.held == {ONE}
    later = ground.again()
    later.forget(ground.folder)
    assert ground.held == set()
    assert not later
    assert not ground.again()
    later.forget(ground.folder)


def test_it_goes_at_once_when_the_file_has_a_place_again(ground: Ground) -> None:
    ground.keep("app.log", ONE, inode=7)
    ground.catalogue.record(ground.number, record(b"app.log.1", facts(len(ONE), inode=7), digest(ONE)))
    ground.catalogue.commit()
    ground.holdings.forget(ground.folder)
    assert ground.held == set()


def test_it_stays_when_the_file_has_been_cut_since(ground: Ground) -> None:
    ground.keep("app.log", ONE, inode=7)
    ground.catalogue.record(ground.number, record(b"app.log", facts(3, inode=7), digest(ONE[:3])))
    ground.catalogue.commit()
    ground.holdings.forget(ground.folder)
    assert ground.held == {ONE}


def test_partial_files_of_earlier_runs_are_held_by_what_they_are_of(ground: Ground) -> None:
    ground.unfinished("app.log", ONE, inode=7)
    ground.unfinished("gone", b"", inode=9)
    ground.holdings.set_left_aside()
    assert ground.held == {ONE}
    assert not (ground.mirror.root / partial_name("app.log")).exists()
    (held,) = ground.holdings.by_identity(1, 7)
    assert (held.size, held.name) == (len(ONE), b"app.log")


def test_a_large_partial_file_is_gone_on_with_if_it_is_of_this_very_file(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "_WORTH_IT", 1 << 20)
    large = bytes(range(256)) * (4 << 13)
    for name, inode in (("same", 7), ("other", 8), ("cut", 9), ("small", 10)):
        ground.unfinished(name, ONE if name == "small" else large, inode=inode)
    ground.holdings.set_left_aside()
    size = len(large) + 1
    ground.holdings.take_back(ground.folder, "same", 1, 7, size)
    ground.holdings.take_back(ground.folder, "other", 1, 88, size)
    ground.holdings.take_back(ground.folder, "cut", 1, 9, 5)
    ground.holdings.take_back(ground.folder, "small", 1, 10, size)
    ground.holdings.take_back(ground.folder, "never", 1, 7, size)
    names = ("same", "other", "cut", "small")
    assert [name for name in names if (ground.mirror.root / partial_name(name)).exists()] == ["same"]
    assert (ground.mirror.root / partial_name("same")).read_bytes() == large
    assert ground.holdings.by_identity(1, 7) == []
    assert len(ground.again().in_folder(ground.number)) == 3
