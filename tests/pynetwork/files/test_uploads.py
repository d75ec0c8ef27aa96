"""What an upload does when things go wrong, and when the gateway lies."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.errors import BadRequest, ConnectionLost, RemoteProtocolError
from handshakes.manifest import Skipped
from handshakes.paths import partial_name
from handshakes.transfer import Code, Receipt, Status, encode_receipt
from pynetwork.files import storing, uploads
from pynetwork.files.conversation import Conversation
from pynetwork.files.folders import Folder
from pynetwork.files.partials import PartialFile, TargetBusy
from pynetwork.files.reading import Reader
from pynetwork.files.storing import StoringLane
from pynetwork.files.uploads import Upload, UploadLane
from pynetwork.gateway import Gateway
from pynetwork.service import ServedOperation, Verb
from tests.pynetwork.files.transferring import CHUNK, STAMP, Site, once, site, tree, write

LARGE = 10 * CHUNK


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


def expected(here: Site) -> dict[str, tuple[bytes, int, int]]:
    return {f"share/{path}": file for path, file in tree(here.share).items()}


def damaged(read: Callable[..., Any], *arguments: Any) -> Any:
    head, data = read(*arguments)
    data[0] ^= 1
    return head, data


# Damage


def test_a_damaged_chunk_is_sent_again(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here.share / "large", os.urandom(LARGE))
    monkeypatch.setattr(Reader, "read_chunk", once(damaged, Reader.read_chunk, at=3))
    report = here.upload(here.share)
    assert tree(here.uploads) == expected(here)
    assert (report.chunks, report.chunks_again, report.skipped) == (10, 1, [])


def test_a_damaged_small_file_is_sent_again(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        write(here.share / name, name.encode() * 100)
    monkeypatch.setattr(Reader, "read_pack", once(damaged, Reader.read_pack))
    report = here.upload(here.share)
    assert tree(here.uploads) == expected(here)
    assert (report.files, report.chunks_again) == (3, 1)


def test_what_is_always_damaged_is_skipped(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here.share / "large", b"x" * LARGE)
    write(here.share / "small", b"z")
    for name in ("read_chunk", "read_pack"):
        read = getattr(Reader, name)
        monkeypatch.setattr(Reader, name, lambda *arguments, read=read: damaged(read, *arguments))
    report = here.upload(here.share)
    assert dict(report.skipped).keys() == {"share/large", "share/small"}
    assert all("damaged" in reason or "digest is wrong" in reason for _, reason in report.skipped)
    assert tree(here.uploads) == {}


# Files that change


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, LARGE + CHUNK // 2])
def test_a_file_that_is_replaced_meanwhile_is_sent_as_it_was_or_as_it_is(
    here: Site, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path = write(here.share / "file", b"a" * LARGE)
    before = expected(here)

    def replace(read: Callable[..., Any], *arguments: Any) -> Any:
        write(path.parent.parent / "new", b"b" * size, 0o600, STAMP + 9).replace(path)
        return read(*arguments)

    monkeypatch.setattr(Reader, "read_chunk", once(replace, Reader.read_chunk))
    report = here.upload(here.share)
    assert tree(here.uploads) in (expected(here), before)
    assert (report.files, report.skipped) == (1, [])


def test_a_file_that_is_cut_meanwhile_is_sent_as_it_is_then(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(here.share / "file", b"a" * LARGE)

    def cut(read: Callable[..., Any], *arguments: Any) -> Any:
        os.truncate(path, CHUNK + 5)
        return read(*arguments)

    monkeypatch.setattr(Reader, "read_chunk", once(cut, Reader.read_chunk, at=4))
    report = here.upload(here.share)
    assert {path: contents for path, (contents, _, _) in tree(here.uploads).items()} == {
        "share/file": b"a" * (CHUNK + 5)
    }
    assert (report.files, report.bytes, report.skipped) == (1, CHUNK + 5, [])


def changing(path: Path, read: Callable[..., Any], change: Callable[[Path, int], object]) -> Callable[..., Any]:
    numbers = itertools.count(1)
    lock = threading.Lock()

    def changed(*arguments: Any) -> Any:
        answer = read(*arguments)
        with lock:
            change(path, next(numbers))
        return answer

    return changed


def fill(path: Path, number: int) -> None:
    with path.open("r+b") as file:
        file.write(bytes([number % 256]) * LARGE)


def shrink(path: Path, number: int) -> None:
    os.truncate(path, LARGE - number)


@pytest.mark.parametrize("change", [fill, shrink])
def test_a_file_that_changes_all_the_time_is_skipped(
    here: Site, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path, int], object]
) -> None:
    path = write(here.share / "file", b"a" * LARGE)
    write(here.share / "good", b"good")
    monkeypatch.setattr(Reader, "read_chunk", changing(path, Reader.read_chunk, change))
    report = here.upload(here.share)
    assert report.skipped == [Skipped("share/file", "it changed while it was read")]
    assert list(tree(here.uploads)) == ["share/good"]


def before_seal(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    def troubled(seal: Callable[..., Any], *arguments: Any) -> Any:
        action()
        return seal(*arguments)

    monkeypatch.setattr(Reader, "seal", once(troubled, Reader.seal))


def test_a_file_that_goes_away_after_it_was_read_has_been_read(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(here.share / "file", b"a" * LARGE)
    before = expected(here)
    before_seal(monkeypatch, path.unlink)
    assert here.upload(here.share).skipped == []
    assert tree(here.uploads) == before


def test_a_file_that_changed_and_went_away_is_skipped(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(here.share / "file", b"a" * LARGE)

    def touch(read: Callable[..., Any], *arguments: Any) -> Any:
        os.utime(path, ns=(0, STAMP + 5))
        return read(*arguments)

    monkeypatch.setattr(Reader, "read_chunk", once(touch, Reader.read_chunk, at=2))
    before_seal(monkeypatch, path.unlink)
    assert here.upload(here.share).skipped == [Skipped("share/file", "it is not there")]
    assert tree(here.uploads) == {}


def test_a_small_file_that_a_larger_one_replaces_is_sent_whole(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("log", "other", "state"):
        write(here.share / name, b"begin")
    prepare = Upload.prepare

    def rotate(*arguments: Any) -> Conversation:
        yield from prepare(*arguments)
        write(here.share.parent / "new", b"r" * (CHUNK - 1), mtime_ns=STAMP + 1).replace(here.share / "log")
        write(here.share.parent / "new", b"s" * LARGE, mtime_ns=STAMP + 2).replace(here.share / "state")

    monkeypatch.setattr(Upload, "prepare", rotate)
    report = here.upload(here.share)
    assert tree(here.uploads) == expected(here)
    assert (report.files, report.skipped) == (3, [])


def test_files_and_folders_that_vanish_after_they_were_found_are_skipped(
    here: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(here.share / "good", b"good")
    write(here.share / "large", b"x" * LARGE)
    write(here.share / "small", b"x")
    write(tmp_path / "gone/small", b"x")
    write(tmp_path / "gone/large", b"x" * LARGE)
    prepare = Upload.prepare

    def vanish(*arguments: Any) -> Conversation:
        yield from prepare(*arguments)
        (here.share / "small").unlink()
        (here.share / "large").unlink()
        (tmp_path / "gone").rename(tmp_path / "elsewhere")

    monkeypatch.setattr(Upload, "prepare", vanish)
    report = here.upload(here.share, tmp_path / "gone/small", tmp_path / "gone/large")
    reason = "it is not there"
    assert report.skipped == [Skipped(path, reason) for path in ("large", "share/large", "share/small", "small")]
    assert list(tree(here.uploads)) == ["share/good"]


def test_files_from_many_folders(here: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_KEPT_READERS", 2)
    paths = [
        write(tmp_path / f"from{number}/file{number}", os.urandom(LARGE * (number % 2) + 1)) for number in range(9)
    ]
    assert here.upload(*paths).files == 9
    assert {path: contents for path, (contents, _, _) in tree(here.uploads).items()} == {
        path.name: path.read_bytes() for path in paths
    }


# Trouble at the gateway


def test_what_can_not_be_written_is_skipped(here: Site, tmp_path: Path) -> None:
    for name in ("a", "a.large", "dir/a", "dir/a.large", "link/a", "z"):
        write(here.share / name, b"x" * (LARGE if name.endswith("large") else 1))
    (here.uploads / "share/a").mkdir(parents=True)
    (here.uploads / "share/a.large").mkdir()
    write(here.uploads / "share/dir", b"a file")
    (tmp_path / "outside").mkdir()
    (here.uploads / "share/link").symlink_to(tmp_path / "outside")
    report = here.upload(here.share)
    way = "a folder on its way is a symbolic link or no folder"
    assert dict(report.skipped) == {
        "share/a": "folder",
        "share/a.large": "folder",
        "share/dir": way,
        "share/dir/a": way,
        "share/dir/a.large": way,
        "share/link": way,
        "share/link/a": way,
    }
    assert sorted(tree(here.uploads)) == ["share/dir", "share/z"]
    assert os.listdir(tmp_path / "outside") == []


def test_a_folder_that_can_not_be_made_is_an_error(here: Site, tmp_path: Path) -> None:
    here.uploads.mkdir()
    (here.uploads / "link").symlink_to(tmp_path)
    with pytest.raises(BadRequest, match="'link' can't be made"):
        here.upload(here.share, dirname="link")


def test_a_full_disk_skips_what_does_not_fit(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> bool:
        raise OSError(errno.ENOSPC, "full")

    write(here.share / "large", b"x" * LARGE)
    write(here.share / "small", b"x")
    monkeypatch.setattr(PartialFile, "write", full)
    report = here.upload(here.share)
    assert report.skipped == [Skipped("share/large", "no space is left")]
    assert list(tree(here.uploads)) == ["share/small"]


def test_a_seal_that_the_gateway_does_not_accept_gives_the_file_up(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here.share / "large", b"x" * LARGE)
    monkeypatch.setattr(StoringLane, "_seal", lambda *_: Receipt(Status.FAILED, "no"))
    assert here.upload(here.share).skipped == [Skipped("share/large", "no")]
    assert tree(here.uploads) == {}


def test_what_the_gateway_has_lost_is_sent_again(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here.share / "large", os.urandom(LARGE))
    lost = Receipt(Status.CHANGED, "the gateway has lost a part of it")
    monkeypatch.setattr(StoringLane, "_seal", once(lambda *_: lost, StoringLane._seal))
    report = here.upload(here.share)
    assert tree(here.uploads) == expected(here)
    assert (report.chunks_again, report.skipped) == (10, [])


def test_a_target_that_another_transfer_writes(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here.share / "large", b"x" * LARGE)
    write(here.share / "small", b"x")
    with Folder(here.uploads, create=True) as folder:
        other = PartialFile(folder, uploads.Entry("share/large", 5, 0, 0))
        report = here.upload(here.share)
        assert report.skipped == [Skipped("share/large", "another transfer is writing to it")]
        other.discard()

    def busy(*_: Any, **__: Any) -> None:
        raise TargetBusy

    with monkeypatch.context() as patch:
        patch.setattr(storing, "write_file", once(busy, storing.write_file))
        assert here.upload(here.share).skipped == []
    monkeypatch.setattr(storing, "write_file", busy)
    assert here.upload(here.share).skipped == [Skipped("share/small", "another transfer is writing to it")]


def test_names_that_differ_in_case_only_are_not_mixed_up(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "folds_case", lambda *_: True)
    for name in ("a/File", "A/fILE", "other"):
        write(here.share / name, name.encode())
    report = here.upload(here.share)
    assert [reason for _, reason in report.skipped] == ["another file of this upload has the same name"]
    assert len(tree(here.uploads)) == 2


def test_what_a_killed_upload_left_is_taken_over(here: Site) -> None:
    write(here.share / "large", os.urandom(LARGE))
    write(here.uploads / "share" / partial_name("large"), b"left behind" * LARGE)
    here.upload(here.share)
    assert tree(here.uploads) == expected(here)


# Links that break


def cut_here(here: Site) -> None:
    """End the gateway's side of the pair that this thread, a handler, serves."""
    for handler in here.gateway._pool.handlers():
        if handler.thread is threading.current_thread():
            handler.link.stream.shutdown()


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("at", [1, 5, 11, 12])
def test_a_lost_lane_is_replaced_and_its_chunks_sent_again(
    here: Site, monkeypatch: pytest.MonkeyPatch, at: int, late: bool
) -> None:
    """The link breaks before or after something was stored, and before its receipt is sent: a chunk, a pack, a seal."""
    write(here.share / "large", os.urandom(LARGE))
    for number in range(50):
        write(here.share / f"small/{number}", os.urandom(number))

    def cut(keep: Callable[..., Any], *arguments: Any) -> Any:
        if not late:
            cut_here(here)
        receipts = keep(*arguments)
        cut_here(here)
        return receipts

    monkeypatch.setattr(StoringLane, "keep", once(cut, StoringLane.keep, at=at))
    report = here.upload(here.share)
    assert tree(here.uploads) == expected(here)
    assert (report.lanes_replaced, report.lanes_lost, report.skipped) == (1, 0, [])


def test_a_link_that_breaks_while_chunks_are_sent(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here.share / "large", os.urandom(LARGE))

    def cut(send: Callable[..., Any], lane: UploadLane, *arguments: Any) -> Any:
        lane._outgoing._operation._link.stream.shutdown()  # type: ignore[attr-defined]
        return send(lane, *arguments)

    monkeypatch.setattr(UploadLane, "_send_chunk", once(cut, UploadLane._send_chunk, at=3))
    report = here.upload(here.share)
    assert tree(here.uploads) == expected(here)
    assert report.lanes_replaced == 1


def test_when_no_lane_is_left_that_is_said(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here.share / "large", b"x" * LARGE)

    def leave(keep: Callable[..., Any], *arguments: Any) -> Any:
        here.gateway._admission.stop()  # type: ignore[union-attr]
        for handler in here.gateway._pool.handlers():
            handler.link.stream.shutdown()
        return keep(*arguments)

    monkeypatch.setattr(StoringLane, "keep", once(leave, StoringLane.keep, at=3))
    with pytest.raises(ConnectionLost):
        here.upload(here.share)
    here.gateway.stop()
    assert tree(here.uploads) == {}


def test_an_error_of_the_caller_ends_the_upload(here: Site) -> None:
    write(here.share / "large", b"x" * LARGE)

    def fail(*_: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        here.upload(here.share, progress=fail)
    here.gateway.stop()
    assert tree(here.uploads) == {}


# A gateway that lies


def lying(gateway: Gateway, code: int, body: bytes) -> None:
    """Let the gateway answer everything that is to be stored like that."""

    def answer(operation: ServedOperation, *_: Any) -> None:
        while operation.receive().code != Code.FINISH:
            operation.send(code, b"", body)

    gateway._verbs["files.store"] = Verb(answer)


@pytest.mark.parametrize("size", [5, LARGE])
@pytest.mark.parametrize(
    ("code", "body"),
    [
        (Code.CHUNK, b""),
        (Code.RECEIPT, b""),
        (Code.RECEIPT, encode_receipt([Receipt(Status.OK)] * 3)),
        (Code.RECEIPT, b"\xff"),
    ],
    ids=itertools.count(),
)
def test_a_receipt_that_must_not_be_ends_the_job(here: Site, size: int, code: int, body: bytes) -> None:
    write(here.share / "file", b"x" * size)
    lying(here.gateway, code, body)
    with pytest.raises(RemoteProtocolError):
        here.upload(here.share)


@pytest.mark.parametrize(
    ("verb", "value"),
    [
        ("files.target", 1),
        ("files.target", {}),
        ("files.target", {"folds_case": 0}),
        ("files.folders", 1 << 40),
        ("files.folders", ""),
    ],
)
def test_an_answer_of_another_type_ends_the_job(here: Site, verb: str, value: object) -> None:
    (here.share / "empty").mkdir()
    here.gateway._verbs[verb] = Verb(lambda *_: value)
    with pytest.raises(RemoteProtocolError, match="does not tell"):
        here.upload(here.share)


def test_a_file_that_is_always_lost_is_skipped(here: Site) -> None:
    write(here.share / "large", b"x" * LARGE)
    write(here.share / "small", b"x")
    lying(here.gateway, Code.RECEIPT, encode_receipt([Receipt(Status.CHANGED, "lost")]))
    report = here.upload(here.share)
    assert [path for path, _ in report.skipped] == ["share/large", "share/small"]


def test_news_of_a_file_that_was_begun_again_are_old(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another lane begins again what this one is just busy with."""
    write(here.share / "a", os.urandom(LARGE))

    def begin_again(function: Callable[..., Any], lane: UploadLane, run: uploads.Run, *arguments: Any) -> Any:
        with lane.job.changed:
            lane.job.begin_again(uploads.Run(run.file, run.generation, 0, 0), run.file.entry)
        return function(lane, run, *arguments)

    monkeypatch.setattr(UploadLane, "_send_chunk", once(begin_again, UploadLane._send_chunk, at=4))
    monkeypatch.setattr(UploadLane, "_send_seal", once(begin_again, UploadLane._send_seal))
    report = here.upload(here.share)
    assert tree(here.uploads) == expected(here)
    assert (report.files, report.skipped) == (1, [])
