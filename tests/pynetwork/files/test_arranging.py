"""Folders, links and modes of an upload."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.errors import RemoteProtocolError
from handshakes.survey import (
    End,
    Facts,
    FolderRow,
    LinkRow,
    SkippedRow,
    encode_end,
    encode_file_row,
    encode_folder_row,
    encode_link_row,
    encode_skipped_row,
)
from handshakes.transfer import Receipt, Status
from pynetwork.files.arranging import arrange, leads_within
from pynetwork.files.folders import Folder
from tests.pynetwork.files.transferring import STAMP, write

FINE = Receipt(Status.OK)
NO_FACTS = Facts(0, 0, 0, 0, 0, 0)
LEADS_OUT = Receipt(Status.FAILED, "symbolic link that leads out of the folder")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def folder(root: Path) -> Iterator[Folder]:
    with Folder(root, portable=False) as opened:
        opened.mode = 0o700
        yield opened


def made(path: str, mode: int = 0o755, mtime_ns: int = STAMP) -> bytes:
    facts = Facts(mode, 0, 0, 0, mtime_ns, 0)
    return encode_folder_row(FolderRow(os.fsencode(path), facts, 0, 0, complete=True))


def link(name: str, target: str) -> bytes:
    return encode_link_row(LinkRow(os.fsencode(name), NO_FACTS, os.fsencode(target)))


def mode(name: str, path: Path, bits: int, **changes: int) -> bytes:
    status = path.stat()
    facts = Facts(bits, 0, 0, status.st_size, status.st_mtime_ns, 0)._replace(**changes)
    return encode_file_row(os.fsencode(name), facts)


def look(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_mode & 0o7777, status.st_mtime_ns


# Folders


def test_folders_are_made_and_get_their_mode_and_time(folder: Folder, root: Path) -> None:
    rows = made("a/b/c", 0o750, STAMP + 1) + made("a/b", 0o555, STAMP + 2) + made("a", 0o777, STAMP + 3)
    assert arrange(folder, "in/", rows) == [FINE] * 3
    assert look(root / "in/a/b/c") == (0o750, STAMP + 1)
    assert look(root / "in/a/b") == (0o755, STAMP + 2)
    assert look(root / "in/a") == (0o777, STAMP + 3)
    assert look(root / "in")[0] == 0o700


def test_a_folder_that_is_there_keeps_what_is_in_it(folder: Folder, root: Path) -> None:
    write(root / "in/a/file", b"x")
    assert arrange(folder, "in/", made("a", 0o700)) == [FINE]
    assert look(root / "in/a") == (0o700, STAMP)
    assert (root / "in/a/file").read_bytes() == b"x"


def test_the_folder_that_all_goes_into_gets_its_time_only(folder: Folder, root: Path) -> None:
    (root / "in").mkdir(mode=0o751)
    before = look(root)
    assert arrange(folder, "in/", made("", 0o700)) == [FINE]
    assert look(root / "in") == (0o751, STAMP)
    assert arrange(folder, "", made("", 0o700)) == [FINE]
    assert look(root) == before


def test_a_time_is_that_of_when_all_in_it_is_done(folder: Folder, root: Path) -> None:
    assert arrange(folder, "", made("a") + link("one", "x") + link("two", "x")) == [FINE] * 3
    assert look(root / "a")[1] == STAMP


def test_what_is_no_folder_is_not_replaced_by_one(folder: Folder, root: Path, tmp_path: Path) -> None:
    write(root / "file", b"x")
    (tmp_path / "outside").mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    receipts = arrange(folder, "", made("file") + link("x", "y") + made("link/sub") + made("good"))
    assert [receipt.status for receipt in receipts] == [Status.FAILED] * 3 + [Status.OK]
    assert {receipt.reason for receipt in receipts[:3]} == {"a folder on its way is a symbolic link or no folder"}
    assert sorted(os.listdir(root)) == ["file", "good", "link"]
    assert os.listdir(tmp_path / "outside") == []


def test_a_folder_that_does_not_take_a_mode_says_so(
    folder: Folder, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "no")

    monkeypatch.setattr(os, "fchmod", refuse)
    receipts = arrange(folder, "", made("a") + link("x", "y"))
    assert receipts == [Receipt(Status.FAILED, "permission denied"), FINE]


# Links


def test_links_are_made_in_place_of_files_and_links(folder: Folder, root: Path) -> None:
    write(root / "in/a/file", b"x")
    (root / "in/a/old").symlink_to("elsewhere")
    rows = made("a") + link("file", "../b") + link("old", "new") + link("third", "./x//y/")
    assert arrange(folder, "in/", rows) == [FINE] * 4
    assert {name: os.readlink(root / "in/a" / name) for name in os.listdir(root / "in/a")} == {
        "file": "../b",
        "old": "new",
        "third": "./x//y/",
    }


def test_a_link_takes_no_folders_place(folder: Folder, root: Path) -> None:
    write(root / "a/sub/file", b"x")
    receipts = arrange(folder, "", made("a") + link("sub", "elsewhere"))
    assert receipts == [FINE, Receipt(Status.FAILED, "folder")]
    assert os.listdir(root / "a") == ["sub"]


@pytest.mark.parametrize(
    ("depth", "target", "within"),
    [
        (0, "a", True),
        (0, "a/b/", True),
        (0, ".", True),
        (0, "..", False),
        (1, "..", True),
        (1, "./../a/b", True),
        (1, "../..", False),
        (2, "../../a", True),
        (2, "../../../a", False),
        (3, "a/../b", False),
        (0, "/a", False),
        (9, "//a", False),
    ],
)
def test_where_a_link_leads(folder: Folder, depth: int, target: str, within: bool) -> None:
    assert leads_within(depth, target) is within
    path = "/".join("abcdefghi"[:depth])
    # The folder that it is restored to is no way up.
    assert arrange(folder, "in/deep/", made(path) + link("x", target))[1] == (FINE if within else LEADS_OUT)


def test_links_through_links_do_not_lead_out(folder: Folder, root: Path, tmp_path: Path) -> None:
    """Each for itself looks as if it did not."""
    write(tmp_path / "secret", b"secret")
    rows = made("a") + link("up", "..") + made("") + link("out", "a/up/../secret")
    assert arrange(folder, "", rows)[3] == LEADS_OUT
    assert not (root / "out").exists()


# Modes


def test_a_file_gets_its_mode_only_as_the_one_that_is_meant(folder: Folder, root: Path) -> None:
    file = write(root / "in/a/file", b"12345")
    other = write(root / "in/a/other", b"12345")
    longer = write(root / "in/a/longer", b"12345")
    rows = made("a") + mode("file", file, 0o600)
    rows += mode("other", other, 0o600, mtime_ns=STAMP + 1) + mode("longer", longer, 0o600, size=6)
    changed = Receipt(Status.CHANGED, "it has changed meanwhile")
    assert arrange(folder, "in/", rows) == [FINE, FINE, changed, changed]
    assert [look(path) for path in (file, other, longer)] == [(0o600, STAMP), (0o644, STAMP), (0o644, STAMP)]


def test_no_name_leads_out(folder: Folder, root: Path, tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", b"x")
    (root / "link").symlink_to(outside)
    rows = made("") + mode("link", outside, 0o600) + mode("none", outside, 0o600) + link(".x.partial", "y")
    receipts = arrange(folder, "", rows)
    assert [receipt.reason for receipt in receipts] == [
        "",
        "symbolic link",
        "it is not there",
        "such names are kept for partial files",
    ]
    assert look(outside)[0] == 0o644


def test_portable_folders_take_portable_names(root: Path) -> None:
    with Folder(root) as folder:
        receipts = arrange(folder, "", made("a") + link("CON", "x") + made("back\\slash"))
    assert [receipt.status for receipt in receipts] == [Status.OK, Status.FAILED, Status.FAILED]


# Bad input


@pytest.mark.parametrize(
    "rows",
    [
        link("x", "y"),
        made("a") + encode_end(End(0, 0)),
        made("a") + encode_skipped_row(SkippedRow(b"x", "y")),
        made("a") + b"\xff",
        made("../up"),
        made("/a"),
        made("a")[:-1],
        made("a") + encode_file_row(b"x", Facts(0o7777, 0, 0, 0, 0, 0)),
        made("a") * 1025,
    ],
)
def test_rows_that_make_no_sense_are_refused(folder: Folder, rows: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        arrange(folder, "", rows)


def test_no_rows_are_no_work(folder: Folder) -> None:
    assert arrange(folder, "", b"") == []
