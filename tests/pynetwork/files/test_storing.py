from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.errors import BadRequest, Closed, ConnectionLost, RemoteProtocolError
from handshakes.manifest import Entry, digest, encode_file, hole_digest
from handshakes.messages import Message
from handshakes.paths import partial_name
from handshakes.transfer import Code, PutHead, Receipt, Status, encode_rows
from pynetwork.files import storing
from pynetwork.files.folders import Folder
from pynetwork.files.partials import PartialFile
from pynetwork.files.storing import StoringLane, Uploads
from tests.serving import Background
from tests.waiting import wait_until

CHUNK = 10
STAMP = 1_600_000_000_000_000_005
CONTENTS = b"0123456789abcdefghij!"
ENTRY = Entry("sub/file", len(CONTENTS), STAMP, 0o640)
FINE = [Receipt(Status.OK)]


@pytest.fixture
def uploads(tmp_path: Path) -> Iterator[Uploads]:
    opened = Uploads(tmp_path / "root", 3600)
    yield opened
    opened.close()


def part(number: int) -> bytes:
    return CONTENTS[number * CHUNK : (number + 1) * CHUNK]


def whole(contents: bytes = CONTENTS) -> bytes:
    return digest(b"".join(digest(contents[at : at + CHUNK]) for at in range(0, len(contents), CHUNK)))


def put(number: int, data: bytes | None = None, entry: Entry = ENTRY, generation: int = 0, **changes: Any) -> Message:
    body = part(number) if data is None else data
    head = PutHead(Status.OK, generation, entry, CHUNK, number, digest(body))._replace(**changes)
    return Message(Code.CHUNK, head.encode(), memoryview(bytearray(body)))


def seal(entry: Entry = ENTRY, generation: int = 0, found: bytes = b"") -> Message:
    return Message(Code.SEAL, PutHead(Status.OK, generation, entry, CHUNK, 0, found or whole()).encode(), b"")


def drop(entry: Entry = ENTRY, generation: int = 0) -> Message:
    return Message(Code.DROP, PutHead(Status.OK, generation, entry, CHUNK, 0, bytes(16)).encode(), b"")


def pack(*files: tuple[Entry, bytes], **changes: Any) -> Message:
    table = b"".join(encode_file(entry) for entry, _ in files)
    rows = [
        (changes.get("status", 0), entry.mode, len(data), entry.mtime_ns, changes.get("found", digest(data)))
        for entry, data in files
    ]
    data = b"".join(data for _, data in files)
    return Message(Code.PACK, len(table).to_bytes(4, "little"), table + encode_rows(rows) + data)


def files(uploads: Uploads) -> dict[str, bytes]:
    root = Path(uploads._root)
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


# Joining


def test_a_lane_needs_a_token_and_a_folder(uploads: Uploads, tmp_path: Path) -> None:
    for dirname, token in (("", ""), ("", "x" * 65), ("", None), ("../up", "t"), (None, "t"), ("a//b", "t")):
        with pytest.raises(BadRequest), uploads.join(dirname, token, False):  # type: ignore[arg-type]
            pass
    with (
        uploads.join("in", "t", False),
        pytest.raises(BadRequest, match="another folder"),
        uploads.join("out", "t", False),
    ):
        pass
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BadRequest, match="can't be opened"), Uploads(tmp_path / "file", 1).join("", "t", False):
        pass


def test_nobody_joins_what_has_ended(uploads: Uploads) -> None:
    uploads.close()
    with pytest.raises(Closed), uploads.join("", "t", False):
        pass


def test_what_the_folder_is_like(uploads: Uploads, tmp_path: Path) -> None:
    assert uploads.folds_case("") is False
    assert uploads.folds_case("new/sub") is False
    assert (tmp_path / "root" / "new" / "sub").is_dir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    with pytest.raises(BadRequest, match="can't be made: a folder on its way is a symbolic link"):
        uploads.folds_case("link")
    with pytest.raises(BadRequest, match="refused"):
        uploads.folds_case("..")


def test_folders_are_made(uploads: Uploads, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    skipped = uploads.make_folders("in", [Entry(path, 0, 0, 0o750) for path in ("a", "a/b", "../up", "nul")])
    assert [path for path, _ in skipped] == ["../up", "nul"]
    assert uploads.make_folders("link", [Entry("x", 0, 0, 0)])[0].path == "x"
    assert sorted(str(path.relative_to(tmp_path / "root")) for path in (tmp_path / "root").rglob("*")) == [
        "in",
        "in/a",
        "in/a/b",
        "link",
    ]
    assert (tmp_path / "root/in/a/b").stat().st_mode & 0o777 == 0o750
    assert not (tmp_path / "x").exists()


# Small files


def test_a_pack_is_stored_file_by_file(uploads: Uploads) -> None:
    good, second = Entry("a", 3, STAMP, 0o600), Entry("d/b", 0, STAMP, 0o600)
    for durable in (False, True):
        with uploads.join("in", "t", durable) as lane:
            receipts = lane.keep(pack((good, b"one"), (good._replace(path="../up"), b"x"), (second, b"")))
            lane.finished = True
        assert [receipt.status for receipt in receipts] == [Status.OK, Status.FAILED, Status.OK]
        assert "component '..'" in receipts[1].reason
    assert files(uploads) == {"in/a": b"one", "in/d/b": b""}
    status = (Path(uploads._root) / "in" / "a").stat()
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o600, STAMP)


def test_a_small_file_is_stored_only_with_its_digest(uploads: Uploads) -> None:
    entry = Entry("a", 3, STAMP, 0o600)
    with uploads.join("", "t", False) as lane:
        assert lane.keep(pack((entry, b"one"), found=b"x" * 16)) == [Receipt(Status.DAMAGED, "its digest is wrong")]
        assert lane.keep(pack((entry, b"why"), status=Status.FAILED)) == [Receipt(Status.FAILED, "why")]
    assert files(uploads) == {}


def test_a_small_file_that_another_is_writing_may_be_tried_again(uploads: Uploads) -> None:
    entry = Entry("a", 3, STAMP, 0o600)
    with Folder(uploads._root, create=True) as folder, uploads.join("", "t", False) as lane:
        partial = PartialFile(folder, entry)
        assert lane.keep(pack((entry, b"one"))) == [Receipt(Status.CHANGED, "another transfer is writing to it")]
        partial.discard()
        assert lane.keep(pack((entry, b"one"))) == FINE


@pytest.mark.parametrize("size", range(0, 56, 5))
def test_a_pack_cut_anywhere_is_refused(uploads: Uploads, size: int) -> None:
    message = pack((Entry("a", 3, STAMP, 0o600), b"one"))
    with uploads.join("", "t", False) as lane:
        with pytest.raises(RemoteProtocolError):
            lane.keep(Message(Code.PACK, message.head, message.body[:size]))
        with pytest.raises(RemoteProtocolError):
            lane.keep(Message(Code.PACK, (1 << 20).to_bytes(4, "little"), message.body))
    assert files(uploads) == {}


# Large files


def test_chunks_come_over_any_lane_in_any_order(uploads: Uploads) -> None:
    with uploads.join("in", "t", False) as one, uploads.join("in", "t", True) as other:
        assert one.keep(put(2)) == FINE
        assert other.keep(put(0)) == FINE
        assert one.keep(put(0)) == FINE
        assert files(uploads).keys() == {f"in/sub/{partial_name('file')}"}
        assert other.keep(put(1)) == FINE
        assert other.keep(seal()) == FINE
        assert one.keep(seal()) == FINE
        assert one.keep(put(1)) == FINE
    assert files(uploads) == {"in/sub/file": CONTENTS}
    status = (Path(uploads._root) / "in/sub/file").stat()
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o640, STAMP)


def test_a_hole_is_left(uploads: Uploads) -> None:
    with uploads.join("", "t", False) as lane:
        lane.keep(put(0))
        assert lane.keep(put(1, b"", status=Status.HOLE, digest=hole_digest(CHUNK))) == FINE
        assert lane.keep(put(2, b"", status=Status.HOLE, digest=b"x" * 16))[0].status is Status.DAMAGED
        lane.keep(put(2))
        contents = CONTENTS[:CHUNK] + bytes(CHUNK) + b"!"
        assert lane.keep(seal(found=whole(contents))) == FINE
    assert files(uploads) == {"sub/file": contents}


def test_a_damaged_chunk_is_not_written(uploads: Uploads) -> None:
    with uploads.join("", "t", False) as lane:
        assert lane.keep(put(0, digest=b"x" * 16)) == [Receipt(Status.DAMAGED, "its digest is wrong")]
        assert files(uploads) == {}
        for number in range(3):
            lane.keep(put(number))
        assert lane.keep(seal()) == FINE


def test_a_file_is_not_completed_with_chunks_missing_or_a_wrong_digest(uploads: Uploads) -> None:
    with uploads.join("", "t", False) as lane:
        lane.keep(put(0))
        assert lane.keep(seal()) == [Receipt(Status.CHANGED, "the gateway has lost a part of it")]
        lane.keep(put(1))
        lane.keep(put(2))
        wrong = [Receipt(Status.FAILED, "the digest of the whole file is wrong")]
        assert lane.keep(seal(found=b"x" * 16)) == wrong
        assert lane.keep(put(0)) == wrong
        assert lane.keep(seal()) == wrong
        assert files(uploads) == {}


def test_a_file_begun_anew_does_not_mix_with_what_came_before(uploads: Uploads) -> None:
    newer = ENTRY._replace(size=12, mtime_ns=STAMP + 1)
    with uploads.join("", "t", False) as lane:
        lane.keep(put(0))
        assert lane.keep(put(1, b"zz", newer, 1)) == FINE
        assert lane.keep(put(0)) == FINE
        assert lane.keep(seal()) == FINE
        assert lane.keep(drop()) == FINE
        assert lane.keep(put(0, b"y" * CHUNK, newer, 1)) == FINE
        assert lane.keep(seal(newer, 1, whole(b"y" * CHUNK + b"zz"))) == FINE
    assert files(uploads) == {"sub/file": b"y" * CHUNK + b"zz"}


def test_a_file_that_became_empty_is_stored_empty(uploads: Uploads) -> None:
    empty = ENTRY._replace(size=0)
    with uploads.join("", "t", False) as lane:
        lane.keep(put(0))
        assert lane.keep(seal(empty, 1, whole(b""))) == FINE
    assert files(uploads) == {"sub/file": b""}


def test_a_file_can_be_dropped(uploads: Uploads) -> None:
    with uploads.join("", "t", False) as lane:
        assert lane.keep(drop()) == FINE
        lane.keep(put(0))
        assert lane.keep(drop()) == FINE
        assert lane.keep(put(1)) == [Receipt(Status.FAILED, "its caller has dropped it")]
        assert files(uploads) == {}


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "nul", ".x.partial", "link/x"])
def test_no_chunk_leaves_the_folder(uploads: Uploads, tmp_path: Path, path: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "out")
    entry = ENTRY._replace(path=path)
    with uploads.join("", "t", False) as lane:
        for message in (put(0, entry=entry), seal(entry._replace(size=0)), pack((entry, b"x"))):
            assert [receipt.status for receipt in lane.keep(message)] == [Status.FAILED]
    assert files(uploads) == {}
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize(
    "message",
    [
        Message(Code.RUN, b"", b""),
        Message(Code.CHUNK, b"short", b""),
        put(0, b"too short"),
        put(0, b"x", status=Status.HOLE),
        put(0, b"x", entry=ENTRY._replace(size=0)),
        put(2, b"xx"),
    ],
)
def test_messages_that_make_no_sense_are_refused(uploads: Uploads, message: Message) -> None:
    with uploads.join("", "t", False) as lane, pytest.raises(RemoteProtocolError):
        lane.keep(message)
    assert files(uploads) == {}


def test_chunks_of_different_files_under_one_name_are_refused(uploads: Uploads) -> None:
    with uploads.join("", "t", False) as lane:
        lane.keep(put(0))
        with pytest.raises(RemoteProtocolError, match="different files"):
            lane.keep(put(1, entry=ENTRY._replace(size=25)))


def test_how_much_may_be_open_is_bounded(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "_MOST_FILES", 2)
    with uploads.join("", "t", False) as lane:
        for name in "ab":
            lane.keep(put(0, entry=ENTRY._replace(path=name)))
        with pytest.raises(RemoteProtocolError, match="2 large files"):
            lane.keep(put(0, entry=ENTRY._replace(path="c")))
        lane.keep(drop(ENTRY._replace(path="a")))
        assert lane.keep(put(0, entry=ENTRY._replace(path="c"))) == FINE
        lane.keep(drop(ENTRY._replace(path="c")))
        monkeypatch.setattr(storing, "_MOST_CHUNKS", 5)
        with pytest.raises(RemoteProtocolError, match="too many chunks"):
            lane.keep(put(0, entry=ENTRY._replace(path="d")))


def test_a_full_disk_ends_the_file_not_the_lane(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> bool:
        raise OSError(errno.ENOSPC, "full")

    with uploads.join("", "t", False) as lane:
        with monkeypatch.context() as patch:
            patch.setattr(PartialFile, "write", full)
            assert lane.keep(put(0)) == [Receipt(Status.FAILED, "no space is left")]
        assert lane.keep(put(1)) == [Receipt(Status.FAILED, "no space is left")]
        assert files(uploads) == {}
        other = ENTRY._replace(path="other")
        for number in range(3):
            lane.keep(put(number, entry=other))
        with monkeypatch.context() as patch:
            patch.setattr(PartialFile, "complete", full)
            assert lane.keep(seal(other)) == [Receipt(Status.FAILED, "no space is left")]
    assert files(uploads) == {}


def during_write(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    write = PartialFile.write

    def troubled(self: PartialFile, data: Any, offset: int) -> bool:
        monkeypatch.undo()
        action()
        return write(self, data, offset)

    monkeypatch.setattr(PartialFile, "write", troubled)


def test_a_file_that_ends_while_a_chunk_is_written(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    with uploads.join("", "t", False) as lane, uploads.join("", "t", False) as other:
        lane.keep(put(0))
        during_write(monkeypatch, lambda: other.keep(drop()))
        assert lane.keep(put(1)) == FINE
        assert lane.keep(put(2)) == [Receipt(Status.FAILED, "its caller has dropped it")]
    assert files(uploads) == {}


# The end of a transfer


def test_what_is_unfinished_goes_with_the_last_lane(uploads: Uploads) -> None:
    with uploads.join("", "t", False) as one:
        with uploads.join("", "t", False) as other:
            other.keep(put(0))
            other.finished = True
        assert len(files(uploads)) == 1
        one.finished = True
    assert files(uploads) == {}
    with uploads.join("other folder", "t", False):
        pass


def lose(uploads: Uploads, *messages: Message) -> None:
    """A lane that brings these and is lost."""
    with contextlib.suppress(ConnectionLost), uploads.join("", "t", False) as lane:
        for message in messages:
            lane.keep(message)
        raise ConnectionLost("lost")


def test_after_a_loss_a_lane_can_come_back(uploads: Uploads) -> None:
    lose(uploads, put(0), put(1))
    assert len(files(uploads)) == 1
    with uploads.join("", "t", False) as lane:
        assert lane.keep(put(2)) == FINE
        assert lane.keep(seal()) == FINE
        lane.finished = True
    assert files(uploads) == {"sub/file": CONTENTS}


def test_nothing_is_kept_for_a_lost_lane_that_had_nothing_open(uploads: Uploads) -> None:
    lose(uploads, put(0), drop())
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    with uploads.join("other folder", "t", False):
        pass


def test_when_nobody_comes_back_it_is_removed(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "root", 0.01)
    lose(uploads, put(0))
    wait_until(lambda: files(uploads) == {}, what="the orphaned upload to be removed")
    uploads.close()


def test_closing_removes_what_is_left(uploads: Uploads) -> None:
    lose(uploads, put(0))
    assert len(files(uploads)) == 1
    uploads.close()
    assert files(uploads) == {}
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_a_lane_that_is_running_when_all_is_closed_keeps_nothing(uploads: Uploads) -> None:
    with contextlib.suppress(ConnectionLost), uploads.join("", "t", False) as lane:
        lane.keep(put(0))
        uploads.close()
        assert files(uploads) == {}
        lane.keep(put(0))
        raise ConnectionLost("lost")
    assert files(uploads) == {}


def test_so_many_lost_transfers_are_kept(uploads: Uploads) -> None:
    for number in range(20):
        with contextlib.suppress(ConnectionLost), uploads.join("", f"t{number}", False) as lane:
            lane.keep(put(0, entry=ENTRY._replace(path=f"{number}")))
            raise ConnectionLost("lost")
    assert set(files(uploads)) == {partial_name(str(number)) for number in range(4, 20)}
    assert len(uploads._transfers) == len(uploads._timers) == 16


def test_what_is_open_is_counted_over_all_transfers(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "_MOST_FILES", 2)
    lose(uploads, put(0, entry=ENTRY._replace(path="lost")))
    with uploads.join("", "one", False) as one, uploads.join("", "two", False) as two:
        one.keep(put(0, entry=ENTRY._replace(path="a")))
        assert two.keep(put(0, entry=ENTRY._replace(path="b"))) == FINE
        assert set(files(uploads)) == {partial_name("a"), partial_name("b")}
        with pytest.raises(RemoteProtocolError, match="2 large files"):
            two.keep(put(0, entry=ENTRY._replace(path="c")))


def test_a_large_file_in_tiny_chunks_is_refused(uploads: Uploads) -> None:
    with uploads.join("", "t", False) as lane:
        assert lane.keep(put(0, entry=ENTRY._replace(size=CHUNK << 16), data=b"x" * CHUNK)) == FINE
        (receipt,) = lane.keep(put(0, entry=ENTRY._replace(path="b", size=(CHUNK << 16) + 1), data=b"x" * CHUNK))
        assert (receipt.status, "too small" in receipt.reason) == (Status.FAILED, True)
        assert len(files(uploads)) == 1


def test_without_another_thread_nothing_is_kept(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: threading.Timer) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Timer, "start", fail)
    lose(uploads, put(0))
    assert files(uploads) == {}
    assert uploads._transfers == uploads._timers == {}
    uploads.close()


def test_a_timer_that_comes_too_late_does_nothing(uploads: Uploads) -> None:
    lose(uploads, put(0))
    transfer = uploads._transfers["t"]
    with uploads.join("", "t", False) as lane:
        uploads._expire("t", transfer)
        assert lane.keep(put(1)) == FINE
        assert len(files(uploads)) == 1


def test_a_new_transfer_takes_a_lost_ones_target(uploads: Uploads) -> None:
    small = ENTRY._replace(path="small")
    lose(uploads, put(0), put(0, entry=small))
    with uploads.join("", "new", False) as lane:
        for number in range(3):
            assert lane.keep(put(number)) == FINE
        assert lane.keep(seal()) == FINE
        assert lane.keep(pack((small, b"x")))[0].status is Status.CHANGED
        assert lane.keep(pack((small, b"x"))) == FINE
        lane.finished = True
    assert files(uploads) == {"small": b"x", "sub/file": CONTENTS}
    with uploads.join("", "t", False) as lane:
        assert lane.keep(put(1)) == [Receipt(Status.FAILED, "another transfer has taken its target over")]


def test_of_a_lost_transfer_only_what_is_unfinished_is_taken(uploads: Uploads) -> None:
    with Folder(uploads._root, create=True) as folder:
        lose(uploads, put(0), put(0, entry=ENTRY._replace(path="other")), drop())
        partial = PartialFile(folder, ENTRY)
        assert not uploads.free_target(ENTRY.path)
        assert not uploads.free_target("unknown")
        partial.discard()


def test_a_running_transfers_target_is_not_taken(uploads: Uploads) -> None:
    with uploads.join("", "one", False) as one, uploads.join("", "two", False) as two:
        one.keep(put(0))
        assert two.keep(put(0)) == [Receipt(Status.FAILED, "another transfer is writing to it")]
        for number in (1, 2):
            one.keep(put(number))
        assert one.keep(seal()) == FINE


def test_many_lanes_at_once(uploads: Uploads) -> None:
    contents = os.urandom(CHUNK * 400)
    entry = ENTRY._replace(size=len(contents))

    def bring(lane: StoringLane, start: int) -> None:
        for number in range(start, 400, 4):
            assert lane.keep(put(number, contents[number * CHUNK : (number + 1) * CHUNK], entry)) == FINE

    def run(start: int) -> None:
        with uploads.join("", "t", False) as lane:
            bring(lane, start)

    with uploads.join("", "t", False) as last:
        for other in [Background(run, start) for start in range(4)]:
            other.result()
        assert last.keep(seal(entry, 0, whole(contents))) == FINE
    assert files(uploads) == {"sub/file": contents}
