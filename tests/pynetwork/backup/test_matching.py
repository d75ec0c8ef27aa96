"""Rows of a survey and records of the catalogue, both by name: who belongs to whom."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from handshakes.errors import RemoteProtocolError
from handshakes.survey import FileRow
from pynetwork.backup.matching import Matcher, Passed, status_as_recorded
from pynetwork.backup.records import PRUNED, FileRecord, State
from pynetwork.files.directories import Directory
from pynetwork.files.folders import Folder
from tests.pynetwork.backup.mirroring import SECOND, STAMP, facts, record, write

NAMES = [b"a", b"b", b"c", b"d"]
RUN = 5
"""The one that goes on; what is recorded was brought by run 1, unless told otherwise."""


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    with Folder(tmp_path) as opened:
        yield opened.directory(())


def matching(*records: FileRecord) -> Matcher:
    return Matcher(iter(records))


def known(name: bytes, size: int = 3, **changes: object) -> FileRecord:
    return record(name, facts(size), **changes)


def row(name: bytes, size: int = 3) -> FileRow:
    return FileRow(name, facts(size).encode())


def test_one_pass_over_both() -> None:
    matcher = matching(*map(known, NAMES))
    assert matcher.match(b"b") == known(b"b")
    assert matcher.match(b"bb") is None
    assert matcher.match(b"c") == known(b"c")
    assert matcher.end() == [b"a", b"d"]
    assert matcher.match(b"e") is None
    assert matcher.end() == [b"a", b"d"]


def test_what_vanished_before_or_does_not_matter() -> None:
    records = [known(b"a"), known(b"b", gone=3), known(b"c", gone=PRUNED), known(b"d")]
    assert Matcher(iter(records)).end() == [b"a", b"d"]
    assert Matcher(iter(records), chosen=lambda each: each.name > b"a").end() == [b"d"]


@pytest.mark.parametrize("second", [b"b", b"a"])
def test_rows_out_of_order(second: bytes) -> None:
    matcher = matching()
    matcher.match(b"b")
    with pytest.raises(RemoteProtocolError, match=r"has b'[ab]' after b'b'"):
        matcher.match(second)


def test_where_rows_may_be_missing_nothing_vanishes() -> None:
    matcher = Matcher(iter(()), {b"b": known(b"b")}.get)
    assert [matcher.match(name) for name in NAMES] == [None, known(b"b"), None, None]
    assert matcher.end() == []
    with pytest.raises(RemoteProtocolError):
        matcher.match(b"b")


def test_what_is_unchanged_is_passed(tmp_path: Path, directory: Directory) -> None:
    for name in NAMES:
        write(tmp_path / os.fsdecode(name), b"123")
    matcher = matching(known(b"a"), known(b"b", run=RUN), known(b"c"), known(b"d"))
    rows = iter([row(b"a"), row(b"b"), row(b"c", 4), row(b"d")])
    assert matcher.pass_unchanged(rows, directory, RUN) == Passed(row(b"c", 4), 2, 6, 1)
    assert matcher.match(b"c") == known(b"c")
    assert matcher.pass_unchanged(rows, directory, RUN) == Passed(None, 1, 3, 1)
    assert matcher.pass_unchanged(rows, directory, RUN) == Passed(None, 0, 0, 0)
    assert matcher.end() == []
    with pytest.raises(RemoteProtocolError):
        matcher.match(b"d")


@pytest.mark.parametrize(
    "changes",
    [
        {"state": State.UNSETTLED},
        {"gone": 3},
        {"gone": PRUNED},
        {"size": 4},
        {"mtime_ns": STAMP + SECOND},
        {"place": b"elsewhere"},
        {"name": b"b"},
        {"facts": facts(3, inode=2).encode()},
    ],
)
def test_what_shows_a_change_is_not(tmp_path: Path, directory: Directory, changes: dict[str, object]) -> None:
    write(tmp_path / "a", b"123")
    rows = [row(b"a")]
    matcher = matching(known(b"a")._replace(**changes))
    assert matcher.pass_unchanged(iter(rows), directory, RUN) == Passed(row(b"a"), 0, 0, 0)
    assert matching(known(b"a")).pass_unchanged(iter(rows), directory, RUN).files == 1


def test_a_row_out_of_order_is_not_passed(tmp_path: Path, directory: Directory) -> None:
    """That its record comes out of order, too, does not help."""
    for name in NAMES:
        write(tmp_path / os.fsdecode(name), b"123")
    matcher = matching(known(b"b"), known(b"a"))
    passed = matcher.pass_unchanged(iter([row(b"b"), row(b"a")]), directory, RUN)
    assert (passed.row, passed.files) == (row(b"a"), 1)


def test_what_stands_at_another_place(tmp_path: Path, directory: Directory) -> None:
    write(tmp_path / "elsewhere", b"123")
    found = status_as_recorded(directory, known(b"a", place=b"elsewhere"))
    assert found is not None
    assert found.st_ino == (tmp_path / "elsewhere").stat().st_ino
    assert status_as_recorded(directory, known(b"a")) is None
