"""Uploads that go on where an earlier one was interrupted, and say what is there already."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.errors import BadRequest, ConnectionLost, RemoteProtocolError
from handshakes.manifest import Entry, digest, encode_file
from handshakes.messages import Message
from handshakes.paths import partial_name
from handshakes.survey import Facts, FolderRow, encode_folder_row
from handshakes.transfer import Code, PutHead, Receipt, Status, encode_rows
from pynetwork.files.partials import PartialFile
from pynetwork.files.storing import StoringLane, Uploads
from tests.pynetwork.files.transferring import STAMP, write

CHUNK = 10
CONTENTS = b"0123456789abcdefghij!"
ENTRY = Entry("sub/file", len(CONTENTS), STAMP, 0o640)
FINE = Receipt(Status.OK)
MISSING = Receipt(Status.CHANGED)
KEEP: dict[str, Any] = {"portable": False, "keep": True}


@pytest.fixture
def uploads(tmp_path: Path) -> Iterator[Uploads]:
    opened = Uploads(tmp_path / "root", 3600)
    yield opened
    opened.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def part(number: int) -> bytes:
    return CONTENTS[number * CHUNK : (number + 1) * CHUNK]


def put(number: int, entry: Entry = ENTRY, generation: int = 0) -> Message:
    head = PutHead(Status.OK, generation, entry, CHUNK, number, digest(part(number)))
    return Message(Code.CHUNK, head.encode(), memoryview(bytearray(part(number))))


def seal(entry: Entry = ENTRY, generation: int = 0) -> Message:
    whole = digest(b"".join(digest(part(number)) for number in range(3)))
    return Message(Code.SEAL, PutHead(Status.OK, generation, entry, CHUNK, 0, whole).encode(), b"")


def drop() -> Message:
    return Message(Code.DROP, PutHead(Status.OK, 0, ENTRY, CHUNK, 0, bytes(16)).encode(), b"")


def sums(*numbers: int, entry: Entry = ENTRY, generation: int = 0) -> Message:
    head = PutHead(Status.OK, generation, entry, CHUNK, numbers[0], bytes(16))
    return Message(Code.SUMS, head.encode(), b"".join(digest(part(number)) for number in numbers))


def held(*files: tuple[Entry, bytes]) -> Message:
    table = b"".join(encode_file(entry) for entry, _ in files)
    return Message(Code.HELD, len(table).to_bytes(4, "little"), table + b"".join(digest(data) for _, data in files))


def pack(entry: Entry, data: bytes) -> Message:
    table = encode_file(entry)
    rows = encode_rows([(0, entry.mode, len(data), entry.mtime_ns, digest(data))])
    return Message(Code.PACK, len(table).to_bytes(4, "little"), table + rows + data)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def bring(lane: StoringLane, *messages: Message) -> None:
    for message in messages:
        assert lane.keep(message) == [FINE]


# What stays


def test_what_is_unfinished_stays_at_the_end(uploads: Uploads, root: Path) -> None:
    with uploads.join("in", "first", False, **KEEP) as lane:
        bring(lane, put(0), put(2))
        lane.finished = True
    assert files(root).keys() == {f"in/sub/{partial_name('file')}"}
    with uploads.join("in", "second", False, **KEEP) as lane:
        assert lane.keep(sums(0, 1, 2)) == [FINE, MISSING, FINE]
        bring(lane, put(1), seal())
        lane.finished = True
    assert files(root) == {"in/sub/file": CONTENTS}


def test_what_a_lost_caller_left_is_taken_over_by_the_next(uploads: Uploads, root: Path) -> None:
    with contextlib.suppress(ConnectionLost), uploads.join("in", "first", False, **KEEP) as lane:
        bring(lane, put(0), put(2))
        raise ConnectionLost
    with uploads.join("in", "second", False, **KEEP) as lane:
        assert lane.keep(sums(0, 1, 2)) == [FINE, MISSING, FINE]
    assert files(root).keys() == {f"in/sub/{partial_name('file')}"}


def test_what_a_stopped_gateway_has_stays(uploads: Uploads, root: Path) -> None:
    with uploads.join("in", "first", False, **KEEP) as lane:
        bring(lane, put(0), put(1))
        uploads.close()
    again = Uploads(root, 3600)
    with again.join("in", "second", False, **KEEP) as lane:
        assert lane.keep(sums(0, 1, 2)) == [FINE, FINE, MISSING]
        lane.finished = True
    again.close()


def test_what_a_full_disk_has_taken_stays(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> bool:
        raise OSError(errno.ENOSPC, "full")

    with uploads.join("", "first", False, **KEEP) as lane:
        bring(lane, put(0))
        with monkeypatch.context() as patch:
            patch.setattr(PartialFile, "write", full)
            assert lane.keep(put(1)) == [Receipt(Status.FAILED, "no space is left")]
        assert lane.keep(sums(0, 1)) == [Receipt(Status.FAILED, "no space is left")] * 2
    with uploads.join("", "second", False, **KEEP) as lane:
        assert lane.keep(sums(0, 1, 2)) == [FINE, MISSING, MISSING]


def test_a_file_that_is_begun_anew_loses_nothing(uploads: Uploads, root: Path) -> None:
    newer = ENTRY._replace(mtime_ns=STAMP + 1)
    with uploads.join("", "first", False, **KEEP) as lane:
        bring(lane, put(0), put(1))
        assert lane.keep(sums(0, 1, 2, entry=newer, generation=1)) == [FINE, FINE, MISSING]
        assert lane.keep(sums(0, 1, 2)) == [FINE] * 3
        bring(lane, put(2, newer, 1), seal(newer, 1))
        assert lane.keep(sums(0, 1, 2, entry=newer, generation=1)) == [FINE] * 3
    assert files(root) == {"sub/file": CONTENTS}


def test_what_is_dropped_does_not_stay(uploads: Uploads, root: Path) -> None:
    with uploads.join("", "first", False, **KEEP) as lane:
        bring(lane, put(0), drop())
    assert files(root) == {}


def test_a_plain_upload_keeps_nothing(uploads: Uploads, root: Path) -> None:
    with uploads.join("", "first", False) as lane:
        bring(lane, put(0))
        lane.finished = True
    assert files(root) == {}


def test_a_plain_upload_replaces_what_stayed(uploads: Uploads, root: Path) -> None:
    with uploads.join("", "first", False, **KEEP) as lane:
        bring(lane, put(0))
        lane.finished = True
    with uploads.join("", "second", False) as lane:
        bring(lane, put(0), put(1), put(2), seal())
    assert files(root) == {"sub/file": CONTENTS}


def test_a_token_is_of_one_kind_of_transfer(uploads: Uploads) -> None:
    with (
        uploads.join("in", "t", False, **KEEP),
        pytest.raises(BadRequest, match="another folder"),
        uploads.join("in", "t", False),
    ):
        pass


# Names and folders


def test_names_may_be_such_that_other_systems_can_not_have_them(uploads: Uploads, root: Path) -> None:
    odd = ENTRY._replace(path="back\\slash/CON")
    with uploads.join("", "portable", False) as lane:
        assert lane.keep(put(0, odd))[0].status is Status.FAILED
        assert [each.status for each in lane.keep(sums(0, 1, 2, entry=odd))] == [Status.FAILED] * 3
    with uploads.join("", "native", False, **KEEP) as lane:
        bring(lane, put(0, odd), put(1, odd), put(2, odd), seal(odd))
        for path in ("../up", "a//b", "/etc/x", "a/./b", "", ".x.partial"):
            assert lane.keep(put(0, ENTRY._replace(path=path)))[0].status is Status.FAILED
    assert files(root) == {"back\\slash/CON": CONTENTS}


def test_new_folders_are_private_until_they_are_arranged(uploads: Uploads, root: Path) -> None:
    row = FolderRow(b"sub", Facts(0o751, 0, 0, 0, STAMP, 0), 0, 0, complete=True)
    with uploads.join("", "t", False, **KEEP) as lane:
        bring(lane, put(0), pack(ENTRY._replace(path="other/file", size=1), b"x"))
        assert [(root / name).stat().st_mode & 0o777 for name in ("sub", "other")] == [0o700, 0o700]
        assert lane.keep(Message(Code.ARRANGE, b"", encode_folder_row(row))) == [FINE]
    status = (root / "sub").stat()
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o751, STAMP)


# Small files that are there


def test_small_files_are_looked_up(uploads: Uploads, root: Path) -> None:
    same = write(root / "in/same", b"12345", 0o600, STAMP + 5)
    other = write(root / "in/other", b"12345")
    longer = write(root / "in/longer", b"123456")
    (root / "in/link").symlink_to("same")
    (root / "in/folder").mkdir()
    names = ("same", "other", "longer", "none", "link", "folder", "../in/same")
    asked = [(Entry(name, 5, STAMP, 0o640), b"1234?" if name == "other" else b"12345") for name in names]
    with uploads.join("in", "t", False, **KEEP) as lane:
        assert lane.keep(held(*asked)) == [FINE] + [MISSING] * 6
    found = [(path.stat().st_mode & 0o777, path.stat().st_mtime_ns) for path in (same, other, longer)]
    assert found == [(0o640, STAMP), (0o644, STAMP), (0o644, STAMP)]


def test_an_empty_file_can_be_there(uploads: Uploads, root: Path) -> None:
    write(root / "empty", b"", mtime_ns=STAMP + 1)
    with uploads.join("", "t", False, **KEEP) as lane:
        assert lane.keep(held((Entry("empty", 0, STAMP, 0o644), b""))) == [FINE]
    assert (root / "empty").stat().st_mtime_ns == STAMP


def test_what_takes_no_time_is_sent(uploads: Uploads, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be somebody else's file: the one that replaces it is not."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, "no")

    write(root / "file", b"x", mtime_ns=STAMP + 1)
    monkeypatch.setattr(os, "utime", refuse)
    with uploads.join("", "t", False, **KEEP) as lane:
        assert lane.keep(held((Entry("file", 1, STAMP, 0o644), b"x"))) == [MISSING]


# Bad input


@pytest.mark.parametrize(
    "message",
    [
        sums(0, 1, 2, 2),
        Message(Code.SUMS, b"short", b""),
        Message(Code.SUMS, sums(0).head, b"x" * 15),
        Message(Code.HELD, b"\xff", b""),
        Message(Code.ARRANGE, b"", b"\xff"),
        Message(Code.PAGE, b"", b""),
    ],
)
def test_messages_that_make_no_sense_are_refused(uploads: Uploads, message: Message) -> None:
    with uploads.join("", "t", False, **KEEP) as lane, pytest.raises(RemoteProtocolError):
        lane.keep(message)


# The folder that uploads go to


def test_a_target_is_opened_where_it_is(uploads: Uploads, root: Path, tmp_path: Path) -> None:
    assert uploads.open_target("") is None
    (root / "in").mkdir(parents=True)
    assert uploads.open_target("in/none") is None
    for dirname, components in (("", ()), ("in", ("in",))):
        opened = uploads.open_target(dirname)
        assert opened is not None
        with opened[0] as folder:
            assert (folder.path, opened[1]) == (root, components)
    write(root / "file", b"x")
    (root / "link").symlink_to(tmp_path)
    for dirname in ("file", "link", "link/root"):
        with pytest.raises(BadRequest, match="can't be opened: a folder on its way is a symbolic link or no folder"):
            uploads.open_target(dirname)
    for dirname in ("..", "/etc", 5):
        with pytest.raises(BadRequest):
            uploads.open_target(dirname)  # type: ignore[arg-type]


def test_what_was_uploaded_is_brought_to_the_disk(uploads: Uploads, root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        uploads.flush()
    root.mkdir()
    uploads.flush()
