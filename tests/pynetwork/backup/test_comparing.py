"""Surveys meet the catalogue: what is unchanged, gone or wanted, without having either in memory."""

from __future__ import annotations

import gc
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from handshakes.errors import NotFound, RemoteProtocolError
from handshakes.manifest import Skipped, digest
from handshakes.survey import (
    End,
    Facts,
    FileRow,
    FolderRow,
    GoneRow,
    LinkRow,
    Row,
    SkippedRow,
    encode_end,
    encode_folder_row,
    encode_gone_row,
    encode_link_row,
    encode_skipped_row,
)
from pynetwork.backup.catalogue import Catalogue
from pynetwork.backup.comparing import Comparer, Counts
from pynetwork.backup.finding import Wanted, identity_of
from pynetwork.backup.holding import Holdings
from pynetwork.backup.mirror import Mirror
from pynetwork.backup.records import State
from pynetwork.files.arranging import leads_within
from tests.pynetwork.backup.mirroring import SECOND, STAMP, facts, record, seen, write

LONG = bool(os.environ.get("PYNETWORK_LONG"))
FOLDER = Facts(0o755, 0, 0, 4096, STAMP, 7)
NOW = STAMP + 100 * SECOND


class Ground:
    """A mirror, its catalogue, and what a comparison came to."""

    def __init__(self, root: Path) -> None:
        self.mirror = Mirror(root)
        self.catalogue = Catalogue(self.mirror.catalogue_path)
        self.catalogue.begin_run("", "")
        self.wanted: dict[str, Wanted] = {}
        self.skipped: list[Skipped] = []
        self.touched: set[int] = set()
        self.comparer: Comparer | None = None

    def make(self, **options: object) -> Comparer:
        """A comparer; the one before is closed."""
        self.close_comparer()
        self.wanted.clear()
        self.skipped.clear()
        self.touched.clear()
        self.catalogue.begin_run("", "")
        self.comparer = Comparer(
            self.mirror, self.catalogue, Holdings(self.mirror, self.catalogue),
            want=lambda wanted: self.wanted.__setitem__(wanted.path, wanted),
            skip=self.skipped.append, touched=self.touched, **options,
        )  # fmt: skip
        return self.comparer

    def compare(self, *rows: Row, **options: object) -> Counts:
        """Compare a whole survey of these rows."""
        comparer = self.make(**options)
        files = sum(isinstance(row, FileRow) for row in rows)
        folders = sum(isinstance(row, FolderRow) for row in rows)
        assert comparer.take_page(page(*rows, End(files, folders)))
        self.catalogue.commit()
        return comparer.counts

    def keep(self) -> None:
        """What is wanted is brought."""
        for wanted in self.wanted.values():
            write(self.mirror.root / wanted.place, b"x" * wanted.facts.size, mtime_ns=wanted.facts.mtime_ns)
            state = State.SETTLED if wanted.settled else State.UNSETTLED
            kept = record(
                wanted.name, wanted.facts, digest(b"x" * wanted.facts.size),
                state=state, place=wanted.own_place, run=self.catalogue.run,
            )  # fmt: skip
            self.catalogue.record(wanted.folder, kept)
        self.catalogue.commit()

    def close_comparer(self) -> None:
        if self.comparer is not None:
            self.comparer.close()

    def close(self) -> None:
        self.close_comparer()
        self.catalogue.close()


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path / "to")
    yield made
    made.close()


def page(*rows: Row) -> bytes:
    """The rows as they come."""
    return b"".join(_ENCODERS[type(row)](row) for row in rows)


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    FileRow: lambda row: struct.pack("<BB", 0, len(row.name)) + row.facts + row.name,
    FolderRow: encode_folder_row,
    LinkRow: encode_link_row,
    SkippedRow: encode_skipped_row,
    GoneRow: encode_gone_row,
    End: encode_end,
}


def folder(path: bytes = b"", of: Facts = FOLDER, *, complete: bool = True, clock: int = NOW) -> FolderRow:
    return FolderRow(path, of, 1, clock, complete)


def file(name: bytes, size: int = 5, **changes: int) -> FileRow:
    return FileRow(name, facts(size, **changes).encode())


def link(name: bytes, target: bytes, **changes: int) -> LinkRow:
    return LinkRow(name, facts(len(target), **changes), target)


ROWS: tuple[Row, ...] = (folder(), file(b"a"), file(b"b", 7), folder(b"sub"), file(b"a", 9), link(b"l", b"a"))


def test_all_is_wanted_at_first_and_nothing_then(ground: Ground) -> None:
    counts = ground.compare(*ROWS)
    assert counts == Counts(files=4, bytes=21, new=1)
    assert list(ground.wanted) == ["a", "b", "sub/a"]
    wanted = ground.wanted["sub/a"]
    assert (wanted.place, wanted.name, wanted.own_place, wanted.device) == ("sub/a", b"a", None, 1)
    assert (wanted.entry.size, wanted.entry.identity) == (9, identity_of(1, 1))
    assert wanted.settled
    ground.keep()
    assert ground.compare(*ROWS) == Counts(files=4, bytes=21, unchanged=4)
    assert not ground.wanted
    assert not ground.skipped


@pytest.mark.parametrize(
    "change",
    [
        lambda row: file(row.name, 6),
        lambda row: file(row.name, mtime_ns=STAMP + 1),
        lambda row: file(row.name, inode=2),
        lambda row: file(row.name, mode=0o600),
        lambda row: file(row.name, owner=5),
    ],
)
def test_what_differs_in_any_fact_is_wanted(ground: Ground, change: Callable[[FileRow], FileRow]) -> None:
    ground.compare(folder(), file(b"a"), file(b"b"))
    ground.keep()
    counts = ground.compare(folder(), change(file(b"a")), file(b"b"))
    assert counts.unchanged == 1
    (wanted,) = ground.wanted.values()
    assert wanted.before is not None
    assert (wanted.path, wanted.before.name) == ("a", b"a")


def test_what_is_not_here_as_it_was_is_wanted(ground: Ground) -> None:
    rows = [folder(), *(file(b"%d" % number) for number in range(4))]
    ground.compare(*rows)
    ground.keep()
    (ground.mirror.root / "0").unlink()
    write(ground.mirror.root / "1", b"longer")
    os.utime(ground.mirror.root / "2", ns=(STAMP, STAMP + SECOND))
    ground.compare(*rows)
    assert list(ground.wanted) == ["0", "1", "2"]
    ground.compare(*rows, checksum=True)
    assert list(ground.wanted) == ["0", "1", "2", "3"]


def test_what_may_have_changed_unseen_is_wanted_again(ground: Ground) -> None:
    ground.compare(folder(clock=STAMP + 1000), file(b"a"))
    assert not ground.wanted["a"].settled
    ground.keep()
    ground.compare(folder(), file(b"a"))
    assert list(ground.wanted) == ["a"]


# Gone


def test_what_is_gone(ground: Ground) -> None:
    ground.compare(*ROWS, folder(b"sub/deep"), file(b"c"), folder(b"sub2"), file(b"d"))
    ground.keep()
    counts = ground.compare(folder(), file(b"b", 7), folder(b"sub2"))
    assert counts == Counts(files=1, bytes=7, unchanged=1, gone=5)
    assert ground.compare(folder(), file(b"b", 7), folder(b"sub2")).gone == 0
    gone = sorted((path, kept.name) for path, _, kept in ground.catalogue.gone_files())
    assert gone == [(b"", b"a"), (b"sub", b"a"), (b"sub", b"l"), (b"sub/deep", b"c"), (b"sub2", b"d")]
    # What comes back is looked at.
    ground.compare(*ROWS)
    assert sorted(ground.wanted) == ["a", "sub/a"]
    assert [wanted.bases[0].place for wanted in ground.wanted.values()] == ["a", "sub/a"]


def test_what_could_not_be_read_is_not_gone(ground: Ground) -> None:
    ground.compare(*ROWS, folder(b"sub/deep"), file(b"c"), folder(b"sub2"), file(b"d"))
    ground.keep()
    counts = ground.compare(
        folder(), file(b"a"), file(b"b", 7), folder(b"sub", complete=False), SkippedRow(b"", "permission denied")
    )
    assert counts.gone == 1  # what is in the folder that was read, or not there
    assert ground.skipped == [("sub", "permission denied")]
    assert [path for path, *_ in ground.catalogue.gone_files()] == [b"sub2"]
    assert ground.compare(folder(complete=False), SkippedRow(b"", "why")).gone == 0


def test_what_is_skipped_is_not_gone(ground: Ground) -> None:
    ground.compare(*ROWS)
    ground.keep()
    counts = ground.compare(folder(), SkippedRow(b"a", "socket"), file(b"b", 7), *ROWS[3:])
    assert (counts.gone, counts.unchanged) == (0, 3)
    assert ground.skipped == [("a", "socket")]


def test_only_what_is_chosen_counts(ground: Ground) -> None:
    ground.compare(*ROWS)
    ground.keep()

    def chosen(path: str, of: Facts) -> bool:
        return path != "b" and of.size < 9

    assert ground.compare(*ROWS, chosen=chosen) == Counts(files=2, bytes=5, unchanged=2)
    assert ground.compare(folder(), chosen=chosen).gone == 2
    assert ground.compare(folder()).gone == 2
    assert ground.compare(folder(), file(b"b", 8), file(b"c"), chosen=lambda *_: False) == Counts()
    assert not ground.wanted


def test_changes_after_the_first_round(ground: Ground) -> None:
    comparer = ground.make()
    comparer.take_page(page(*ROWS, End(3, 2)))
    ground.keep()
    ground.wanted.clear()
    # Of a folder that is not complete nothing is gone.
    assert comparer.take_page(page(folder(complete=False), file(b"b", 8), End(1, 1)))
    assert list(ground.wanted) == ["b"]
    assert not comparer.take_page(page(folder(), file(b"b", 8), GoneRow(b"sub"), GoneRow(b"never")))
    assert comparer.take_page(page(End(1, 1)))
    assert comparer.counts.gone == 3
    assert comparer.counts.files == 4
    with pytest.raises(NotFound, match="not there any more"):
        comparer.take_page(page(GoneRow(b"")))


def test_a_survey_that_begins_anew(ground: Ground) -> None:
    comparer = ground.make()
    comparer.take_page(page(*ROWS[:5]))
    comparer.begin_anew()
    ground.keep()
    comparer.take_page(page(*ROWS, End(3, 2)))
    # What was brought meanwhile is not unchanged for that.
    assert comparer.counts == Counts(files=4, bytes=21, new=1)


def test_what_is_wanted_anew(ground: Ground) -> None:
    comparer = ground.make()
    comparer.take_page(page(folder(), folder(b"sub"), file(b"a", 9), End(1, 2)))
    wanted = ground.wanted.pop("sub/a")
    assert wanted.bases == []
    write(ground.mirror.root / "sub/a", b"x" * 5, mtime_ns=STAMP)
    ground.catalogue.record(wanted.folder, record(b"a", facts(5), digest(b"x" * 5)))
    ground.catalogue.commit()
    comparer.renew(wanted)
    again = ground.wanted["sub/a"]
    assert again.before is not None
    assert [(base.place, base.size) for base in again.bases] == [("sub/a", 5)]


# Links


def test_links(ground: Ground) -> None:
    rows = (folder(), link(b"bad", b"../x"), link(b"l", b"a"), link(b"m", b"sub/\xff"))
    assert ground.compare(*rows) == Counts(files=2, new=2)
    assert ground.skipped == [("bad", "symbolic link that leads out of the folder")]
    assert os.readlink(ground.mirror.root / "m") == "sub/\udcff"
    assert ground.compare(*rows) == Counts(files=2, unchanged=2)
    changed = ground.compare(folder(), link(b"l", b"b"), file(b"m"))
    assert changed == Counts(files=2, bytes=5, changed=1)
    assert os.readlink(ground.mirror.root / "l") == "b"
    assert list(ground.wanted) == ["m"]
    # A link that is here but not recorded, as after the catalogue was lost.
    (ground.mirror.root / "n").symlink_to("b")
    assert ground.compare(folder(), link(b"n", b"b")).unchanged == 1
    assert ground.compare(folder(), file(b"n")).files == 1


@pytest.mark.parametrize(
    ("path", "target", "within"),
    [
        ("l", "a", True), ("l", ".", True), ("l", "", True), ("l", "a/b/./c//d", True), ("l", "..", False),
        ("l", "../a", False), ("sub/l", "..", True), ("sub/l", "../a", True), ("sub/l", "../../a", False),
        ("a/b/l", "../../x", True), ("a/b/l", "../../../x", False), ("l", "/", False), ("l", "/a", False),
        ("a/l", "b/..", False), ("a/b/l", "../c/../..", False), ("a/l", "./../b", True),
    ],
)  # fmt: skip
def test_where_links_lead(path: str, target: str, within: bool) -> None:
    assert leads_within(path.count("/"), target) is within


# One thing in another's place


def test_a_folder_in_place_of_a_file(ground: Ground) -> None:
    ground.compare(folder(), file(b"a"), link(b"l", b"a"))
    ground.keep()
    counts = ground.compare(folder(), folder(b"a"), file(b"x"), folder(b"l"))
    assert counts.gone == 2
    ground.keep()
    assert sorted(seen(ground.mirror.root)) == ["a", "a/x", "l"]
    assert [kept.name for _, _, kept in ground.catalogue.all_files()] == [b"x"]


def test_a_folder_in_place_of_what_was_pruned(ground: Ground) -> None:
    ground.compare(folder(), file(b"a"))
    ground.keep()
    (number,) = {folder for _, folder, _ in ground.catalogue.all_files()}
    ground.catalogue.set_pruned([(number, b"a")])
    ground.compare(folder(), folder(b"a"))
    assert len(seen(ground.mirror.root)) == 2
    (kept,) = [kept for _, _, kept in ground.catalogue.all_files()]
    assert kept.name.startswith(b"a.pruned-")
    assert (ground.mirror.root / os.fsdecode(kept.name)).read_bytes() == b"x" * 5


@pytest.mark.parametrize("row", [file(b"a"), link(b"a", b"b")])
def test_a_file_or_link_in_place_of_a_folder(ground: Ground, row: Row) -> None:
    ground.compare(folder(), folder(b"a"), file(b"x"), folder(b"a/b"), file(b"y"))
    ground.keep()
    counts = ground.compare(folder(), row)
    assert (counts.gone, counts.deleted, counts.files) == (2, 0, isinstance(row, FileRow))
    assert [path for path, _ in ground.skipped] == ["a"]
    assert not ground.wanted
    counts = ground.compare(folder(), row, mirror_deletes=True)
    assert (counts.gone, counts.deleted) == (0, 2)
    assert not ground.skipped
    assert not (ground.mirror.root / "a").is_dir()


def test_somebody_else_s_files_stay_where_they_are(ground: Ground) -> None:
    ground.compare(folder(), folder(b"a"), file(b"x"))
    ground.keep()
    write(ground.mirror.root / "a/mine", b"1")
    ground.compare(folder(), file(b"a"), mirror_deletes=True)
    assert [path for path, _ in ground.skipped] == ["a"]
    assert (ground.mirror.root / "a/mine").exists()


# Folders


def test_folders_that_look_otherwise_are_touched(ground: Ground) -> None:
    rows = (folder(), folder(b"sub"), folder(b"sub/deep"))
    ground.compare(*rows)
    numbers = {each.path: each.id for each in ground.catalogue.folders()}
    assert ground.touched == set(numbers.values())
    for place in ("sub/deep", "sub", "."):
        (ground.mirror.root / place).chmod(0o755)
        os.utime(ground.mirror.root / place, ns=(STAMP, STAMP))
    ground.compare(*rows)
    assert ground.touched == set()
    (ground.mirror.root / "sub/deep").chmod(0o700)
    ground.compare(folder(), folder(b"sub", FOLDER._replace(mtime_ns=STAMP + 1)), folder(b"sub/deep"))
    assert ground.touched == {numbers[b"sub"], numbers[b"sub/deep"]}
    ground.touched.clear()
    ground.compare(*rows[:2], folder(b"sub/deep", Facts(0, 0, 0, 0, 0, 0), complete=False))
    assert numbers[b"sub/deep"] not in ground.touched


def test_what_can_not_be_here_is_skipped(ground: Ground) -> None:
    write(ground.mirror.root / "in the way", b"")
    long = b"x" * 253 + b"%41"
    ground.compare(folder(), file(long[:255]), folder(b"y" * 250 + b"%4%41"), file(b"below"))
    assert all("shorter name" in reason for _, reason in ground.skipped)
    assert (len(ground.skipped), len(ground.wanted)) == (1, 1)


# What breaks the protocol


@pytest.mark.parametrize(
    "rows",
    [
        [file(b"a")],
        [link(b"a", b"b")],
        [SkippedRow(b"a", "why")],
        [folder(), file(b"b"), file(b"a")],
        [folder(), file(b"a"), link(b"a", b"b")],
        [folder(), folder()],
        [folder(), FileRow(b"a", facts(-1).encode())],
        [folder(), file(b"a"), End(2, 1)],
        [folder(), file(b"a"), End(1, 2)],
    ],
)
def test_rows_that_make_no_sense(ground: Ground, rows: list[Row]) -> None:
    comparer = ground.make()
    with pytest.raises(RemoteProtocolError, match="survey"):
        comparer.take_page(page(*rows))


# Memory


@pytest.mark.parametrize("kind", ["new", "unchanged", "gone"])
@pytest.mark.timeout(600)
def test_memory_does_not_grow_with_the_survey(ground: Ground, kind: str) -> None:
    """However many files there are, with names as long as they can be."""
    in_folder = 2000
    folders = (500 if kind == "new" else 100) if LONG else (100 if kind == "new" else 20)
    process = psutil.Process()
    names = [b"%06d" % number + b"n" * 240 for number in range(in_folder)]
    rows = page(*(file(name, 7) for name in names))
    if kind != "new":
        for number in range(folders):
            at, _ = ground.catalogue.see_folder(folder(b"%04d" % number))
            for name in names:
                ground.catalogue.record(at, record(name, facts(7)))
    comparer = ground.make()
    comparer._want = lambda _wanted: None
    comparer.take_page(page(folder()))
    sizes = []
    for number in range(folders):
        comparer.take_page(page(folder(b"%04d" % number)))
        if kind != "gone":
            comparer.take_page(rows)
        if number >= folders // 4:
            gc.collect(0)
            sizes.append(process.memory_info().rss)
    comparer.take_page(page(End(0 if kind == "gone" else folders * in_folder, folders + 1)))
    # Of each file that came since, less than its name.
    assert max(sizes) - sizes[0] < len(sizes) * in_folder * 40
