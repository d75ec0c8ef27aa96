"""What here may hold a part of a file that is wanted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from handshakes.deltas import MOST_BEGINNINGS
from handshakes.manifest import CHUNK_SIZE, Entry, digest
from pynetwork.backup.catalogue import Catalogue
from pynetwork.backup.finding import Finder, Wanted, identity_of, is_same_time
from pynetwork.backup.holding import Holdings
from pynetwork.backup.mirror import Base, Mirror
from pynetwork.backup.records import FileRecord, State
from pynetwork.files.folders import Folder, entry_of
from tests.pynetwork.backup.mirroring import LARGE, SECOND, STAMP, facts, new, record, write
from tests.pynetwork.backup.test_catalogue import folder_row


class Ground:
    """A mirror with a folder, what is recorded of it, and who looks."""

    def __init__(self, root: Path) -> None:
        self.mirror = Mirror(root)
        self.catalogue = Catalogue(self.mirror.catalogue_path)
        self.number, _ = self.catalogue.see_folder(folder_row(b"sub"))
        (root / "sub").mkdir()
        self.folder: Folder = self.mirror.open()
        self.holdings = Holdings(self.mirror, self.catalogue)
        self.finder = Finder(self.mirror, self.catalogue, self.holdings, self.folder)

    def put(self, name: str, data: bytes, *, inode: int = 1, **changes: object) -> FileRecord:
        """A file that is here and recorded."""
        write(self.mirror.root / "sub" / name, data)
        kept = record(os.fsencode(name), facts(len(data), inode=inode), digest(data), **changes)
        self.catalogue.record(self.number, kept)
        self.catalogue.commit()
        return kept

    def hold(self, kept: FileRecord) -> None:
        """Something that was replaced."""
        name = os.fsdecode(kept.name)
        write(self.mirror.root / name, new(kept.size))
        self.holdings.keep(self.folder, name, self.number, kept.name, kept)

    def find(self, name: str, size: int, *, inode: int = 1, before: FileRecord | None = None) -> Wanted:
        of = facts(size, STAMP + SECOND, inode=inode)
        wanted = Wanted(
            Entry(f"sub/{name}", size, of.mtime_ns, of.mode), f"sub/{name}", self.number, os.fsencode(name), None, of,
            1, settled=True, before=before,
        )  # fmt: skip
        self.finder.find(wanted, b"sub", self.folder.directory(("sub",)).again())
        return wanted


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path)
    yield made
    made.folder.close()
    made.catalogue.close()


@pytest.fixture(autouse=True)
def closing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Directories are looked at where they are held."""
    find = Finder.find

    def find_and_close(finder: Finder, wanted: Wanted, path: bytes, directory: object) -> None:
        try:
            find(finder, wanted, path, directory)  # type: ignore[arg-type]
        finally:
            directory.close()  # type: ignore[attr-defined]

    monkeypatch.setattr(Finder, "find", find_and_close)


def test_the_file_as_it_was(ground: Ground) -> None:
    data = new(100)
    kept = ground.put("a", data)
    own = Base("sub/a", 100, digest(data))
    assert ground.find("a", 150, before=kept).bases == [own]
    assert ground.find("a", 100, before=kept).bases == [own]
    # If it was cut, it may begin with a part of what it was.
    assert ground.find("a", 50, before=kept).bases == [Base("sub/a", 50, digest(data[:50]))]
    assert ground.find("a", 0, before=kept).bases == [Base("sub/a", 0, digest(b""))]


@pytest.mark.parametrize("doubt", ["unflushed", "size", "time", "unknown", "checksum"])
def test_a_digest_that_may_not_be_true_is_made_anew(ground: Ground, doubt: str) -> None:
    data = new(100)
    kept: FileRecord | None = ground.put("a", new(100))
    assert kept is not None
    write(ground.mirror.root / "sub/a", data)
    if doubt == "unflushed":
        kept = kept._replace(state=State.UNFLUSHED)
    elif doubt == "size":
        kept = kept._replace(size=99)
    elif doubt == "time":
        kept = kept._replace(mtime_ns=STAMP + 3 * SECOND)
    elif doubt == "unknown":
        kept = None
    else:
        ground.finder = Finder(ground.mirror, ground.catalogue, ground.holdings, ground.folder, checksum=True)
    assert ground.find("a", 150, before=kept).bases[0] == Base("sub/a", 100, digest(data))


def test_an_empty_file_is_what_it_was(ground: Ground) -> None:
    kept = ground.put("a", b"")
    assert ground.find("a", 0, before=kept).bases == [Base("sub/a", 0, digest(b""))]
    assert ground.find("a", 10, before=kept).bases == []


def test_what_is_no_file_holds_nothing(ground: Ground) -> None:
    (ground.mirror.root / "sub/folder").mkdir()
    (ground.mirror.root / "sub/link").symlink_to("folder")
    os.mkfifo(ground.mirror.root / "sub/pipe")
    for name in ("folder", "link", "pipe", "none"):
        assert ground.find(name, 5000).bases == []


def test_the_file_that_had_the_inode(ground: Ground) -> None:
    kept = ground.put("old name", new(100), inode=77)
    assert ground.find("new name", 120, inode=77).bases == [Base("sub/old name", 100, kept.digest)]
    assert ground.find("new name", 120, inode=78).bases == []
    # The same name and inode, and no smaller: it has only grown, and nothing else is looked for.
    own = ground.put("other", new(100), inode=77)
    assert [base.place for base in ground.find("other", 120, inode=77, before=own).bases] == ["sub/other"]


def test_the_family_of_a_log(ground: Ground) -> None:
    names = ["app.log", "app.log.1", "app.log.2", "app.log-20240101", "app.log.2.gz", "apple.log", "app.log.old"]
    for inode, name in enumerate(names, 100):
        ground.put(name, new(50 + inode), inode=inode)
    found = [base.place for base in ground.find("app.log.3", 500).bases]
    assert found[0] == "sub/app.log"
    assert set(found) == {"sub/app.log", "sub/app.log.1", "sub/app.log.2", "sub/app.log-20240101"}
    assert ground.find("app.log.3.gz", 500).bases == []
    assert [base.place for base in ground.find("app.log", 500, inode=9).bases] == ["sub/app.log"]
    assert ground.find("app\n.log.1", 500).bases == []


def test_what_is_held_belongs_to_its_family(ground: Ground) -> None:
    kept = record(b"app.log", facts(100, inode=5), b"1" * 16)
    ground.hold(kept)
    for number in range(2, 12):
        ground.hold(record(b"app.log.%d" % number, facts(10, inode=200), bytes([number]) * 16))
    wanted = ground.find("app.log.1", 5000)
    assert len(wanted.bases) == MOST_BEGINNINGS
    assert wanted.bases[0] == Base("", 100, b"1" * 16)
    assert ground.find("else", 5000, inode=5).bases == [Base("", 100, b"1" * 16)]
    assert ground.find("app.log.1.gz", 5000).bases == []


def test_where_nothing_was_ever_backed_up_nothing_is_asked(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    ground.put("app.log", new(100), inode=1)
    ground.finder.nothing_known = True
    monkeypatch.setattr(ground.catalogue, "by_identity", None)
    assert ground.find("app.log.1", 500, inode=1).bases == []


def test_of_large_files_each_chunk_is_compared(ground: Ground) -> None:
    data = new(LARGE)
    kept = ground.put("a", data, inode=3)
    wanted = ground.find("a", LARGE + 5, inode=3, before=kept)
    assert (wanted.bases, wanted.known) == ([Base("sub/a", LARGE, digest(data))], LARGE)
    # Of what is changed in the middle a part may still be right, even if it was larger.
    cut = ground.find("a", CHUNK_SIZE + 5, inode=4, before=kept)
    assert (cut.bases[0].size, cut.known) == (LARGE, LARGE)
    write(ground.mirror.root / "sub/.b.partial", new(50))
    assert ground.find("b", LARGE, inode=4).known == 50
    assert ground.find("a", 100, inode=4).bases == [Base("sub/a", 100, digest(data[:100]))]


def test_identities_are_those_that_the_gateway_makes(tmp_path: Path) -> None:
    status = write(tmp_path / "a", b"").stat()
    assert identity_of(status.st_dev, status.st_ino) == entry_of("a", status).identity
    for device, inode in [(-5, -1), (5, (1 << 63) - 1), (-(1 << 63), -(1 << 63))]:
        assert 0 <= identity_of(device, inode) < 1 << 32


def test_times_are_compared_as_well_as_the_system_keeps_them() -> None:
    assert is_same_time(STAMP, STAMP)
    assert not is_same_time(STAMP, STAMP + 1)
    assert is_same_time(10 * SECOND, 10 * SECOND + 999_999_999)
    assert is_same_time(10 * SECOND, 11 * SECOND + 5)
    assert not is_same_time(10 * SECOND, 12 * SECOND + 5)
    assert not is_same_time(10 * SECOND + 1, 10 * SECOND)
