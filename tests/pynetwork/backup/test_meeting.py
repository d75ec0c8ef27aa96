"""A survey meets what is to be restored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from handshakes.errors import RemoteProtocolError
from handshakes.manifest import CHUNK_SIZE
from handshakes.survey import End, Facts, FileRow, FolderRow, GoneRow, LinkRow, Row, SkippedRow
from pynetwork.backup.meeting import Meeting, TargetFolder
from pynetwork.backup.source import Source, SourceFolder
from tests.pynetwork.backup.mirroring import facts, write

FACTS = facts(1)


def folder(path: bytes, of: Facts = FACTS) -> FolderRow:
    return FolderRow(path, of, 0, 0, complete=True)


def file(name: bytes, of: Facts = FACTS) -> FileRow:
    return FileRow(name, of.encode())


class Scene:
    """A source, and what became of its folders."""

    def __init__(self, root: Path) -> None:
        self.source = Source(root)
        self.met: list[tuple[bytes, TargetFolder | None]] = []

    def meeting(self, after: tuple[bytes, ...] | None = None) -> Meeting:
        def meet(met: SourceFolder, found: TargetFolder | None) -> None:
            self.met.append((met.path, found))

        return Meeting(self.source.folders(), meet, after)

    def take(self, *rows: Row, end: bool = True) -> Meeting:
        """Take these rows, and the end that belongs to them."""
        meeting = self.meeting()
        for row in rows:
            assert not meeting.take(row)
        if end:
            kinds = [type(row) for row in rows]
            assert meeting.take(End(kinds.count(FileRow), kinds.count(FolderRow)))
        return meeting


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    for name in ("a/x/1", "a/x/2", "b/1", "c/x/1"):
        write(tmp_path / name, b"x")
    write(tmp_path / "b/large", bytes(CHUNK_SIZE + 1))
    (tmp_path / "b/link").symlink_to("1")
    made = Scene(tmp_path)
    yield made
    made.source.close()


ALL = [b"", b"a", b"a/x", b"b", b"c", b"c/x"]


def test_where_nothing_is_there_all_is_met_at_the_end(scene: Scene) -> None:
    scene.take()
    assert scene.met == [(path, None) for path in ALL]


def test_what_is_there_is_met_with_what_has_use_for_it(scene: Scene) -> None:
    rows = [
        folder(b""),
        file(b"no use"),
        folder(b"a"),
        folder(b"a/gone"),
        file(b"1"),
        folder(b"b"),
        file(b".large.partial", facts(500)),
        file(b".other.partial"),
        file(b"1", facts(7)),
        file(b"large", facts(9)),
        LinkRow(b"link", FACTS, b"1"),
        LinkRow(b"other", FACTS, b"1"),
        SkippedRow(b"x", "why"),
        folder(b"d"),
        file(b"1"),
    ]
    scene.take(*rows)
    assert [path for path, _ in scene.met] == ALL
    found = dict(scene.met)
    assert {path for path in ALL if found[path] is None} == {b"a/x", b"c", b"c/x"}
    assert found[b""] == TargetFolder(FACTS)
    assert found[b"b"] == TargetFolder(
        FACTS,
        files={b"1": facts(7), b"large": facts(9)},
        links={b"link": b"1"},
        partials={b".large.partial": 500},
    )


def test_folders_are_met_as_soon_as_they_can_be(scene: Scene) -> None:
    scene.take(folder(b""), folder(b"b"), file(b"1"), end=False)
    assert [path for path, _ in scene.met] == [b"", b"a", b"a/x"]


def test_a_survey_that_was_cut_off_goes_on_where_it_was(scene: Scene) -> None:
    cut = scene.take(folder(b""), folder(b"a"), folder(b"b"), file(b"1"), end=False)
    assert cut.after == (b"a", b"x")
    again = scene.meeting(cut.after)
    for row in (folder(b""), folder(b"a"), folder(b"b"), file(b"1"), file(b"2"), End(2, 3)):
        again.take(row)
    assert [path for path, _ in scene.met] == ALL
    assert dict(scene.met)[b"b"] == TargetFolder(FACTS, files={b"1": FACTS})


@pytest.mark.parametrize(
    "rows",
    [
        [file(b"1")],
        [folder(b"a"), folder(b"a")],
        [folder(b"b"), folder(b"a")],
        [folder(b"a/x"), folder(b"a")],
        [folder(b""), GoneRow(b"a")],
        [folder(b""), End(0, 2)],
        [folder(b""), file(b"1"), End(0, 1)],
        [folder(b"b"), FileRow(b"1", facts()._replace(size=-1).encode())],
        [folder(b"b"), FileRow(b".large.partial", facts()._replace(size=-1).encode())],
    ],
)
def test_a_survey_that_makes_no_sense_is_refused(scene: Scene, rows: list[Row]) -> None:
    meeting = scene.meeting()
    *before, last = rows
    for row in before:
        meeting.take(row)
    with pytest.raises(RemoteProtocolError):
        meeting.take(last)


def test_what_is_told_without_end_takes_no_room(scene: Scene) -> None:
    meeting = scene.take(folder(b"b"), end=False)
    for number in range(1000):
        meeting.take(file(b"%d" % (number + 10)))
        meeting.take(file(b".%d.partial" % number))
        meeting.take(LinkRow(b"%d" % number, FACTS, b"x"))
    assert meeting._now == TargetFolder(FACTS)
