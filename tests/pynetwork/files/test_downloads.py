"""What a download does when things go wrong, and when the gateway lies."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.errors import BadRequest, ConnectionLost, RemoteProtocolError
from handshakes.manifest import Entry, Skipped, encode_file
from handshakes.messages import Message
from handshakes.paths import partial_name
from handshakes.transfer import ChunkHead, Code, Status, Want, encode_rows
from pynetwork.files import answering, downloads, partials, progress, sharing
from pynetwork.files.answering import Answerer
from pynetwork.files.conversation import Conversation
from pynetwork.files.folders import Folder
from pynetwork.files.partials import PartialFile
from pynetwork.files.reading import Reader
from pynetwork.service import ServedOperation, Verb
from tests.pynetwork.files.transferring import CHUNK, STAMP, Site, once, site, tree, write

LARGE = 10 * CHUNK


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


def partial_files(root: Path) -> list[str]:
    return [path for path in tree(root) if path.endswith(".partial")]


# Damage


def damaged(read: Callable[..., Any], *arguments: Any) -> Any:
    head, data = read(*arguments)
    data[0] ^= 1
    return head, data


def test_a_damaged_chunk_is_fetched_again(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here.share / "large", os.urandom(LARGE))
    monkeypatch.setattr(Reader, "read_chunk", once(damaged, Reader.read_chunk, at=3))
    report = here.download()
    assert tree(here.target) == tree(here.share)
    assert (report.chunks, report.chunks_again, report.skipped) == (10, 1, [])


def test_a_damaged_small_file_is_fetched_again(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        write(here.share / name, name.encode() * 100)
    monkeypatch.setattr(Reader, "read_pack", once(damaged, Reader.read_pack))
    report = here.download()
    assert tree(here.target) == tree(here.share)
    assert (report.files, report.chunks_again, report.skipped) == (3, 1, [])


def test_what_is_always_damaged_is_skipped_and_the_rest_arrives(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here.share / "bad", b"x" * LARGE)
    write(here.share / "good", b"y" * (LARGE - 1))
    write(here.share / "small", b"z")
    read_chunk, read_pack = Reader.read_chunk, Reader.read_pack

    def chunk(self: Reader, entry: Entry, *rest: int) -> Any:
        head, data = read_chunk(self, entry, *rest)
        if entry.path == "bad" and head.number == 4:
            data[0] ^= 1
        return head, data

    monkeypatch.setattr(Reader, "read_chunk", chunk)
    monkeypatch.setattr(Reader, "read_pack", lambda *arguments: damaged(read_pack, *arguments))
    report = here.download()
    reason = "it arrived damaged several times"
    assert report.skipped == [Skipped("bad", reason), Skipped("small", reason)]
    assert report.chunks_again == 4
    assert list(tree(here.target)) == ["good"]


# Files that change


@pytest.mark.parametrize("chunk", [0, 9])
def test_a_file_that_is_replaced_meanwhile_is_fetched_as_it_was_or_as_it_is(
    here: Site, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    path = write(here.share / "file", b"a" * LARGE)
    before = tree(here.share)

    def replace(read: Callable[..., Any], *arguments: Any) -> Any:
        write(path.with_name("new"), b"b" * (LARGE + CHUNK // 2), 0o600, STAMP + 9)
        path.with_name("new").replace(path)
        return read(*arguments)

    monkeypatch.setattr(Reader, "read_chunk", once(replace, Reader.read_chunk, at=chunk + 1))
    report = here.download()
    arrived = tree(here.target)
    assert arrived == tree(here.share) or (chunk and arrived == before)
    assert (report.files, report.bytes, report.skipped) == (1, len(arrived["file"][0]), [])


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1])
def test_a_file_that_shrinks_meanwhile_is_fetched_as_it_is_then(
    here: Site, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path = write(here.share / "file", b"a" * LARGE)

    def cut(read: Callable[..., Any], *arguments: Any) -> Any:
        shrunk = write(path.parent / "other", b"b" * size, mtime_ns=STAMP + 9).read_bytes()
        with path.open("r+b") as file:
            file.write(shrunk)
            file.truncate()
        (path.parent / "other").unlink()
        return read(*arguments)

    monkeypatch.setattr(Reader, "read_chunk", once(cut, Reader.read_chunk, at=3))
    report = here.download()
    assert tree(here.target) == tree(here.share)
    assert (report.files, report.bytes) == (1, size)


def test_a_file_that_changes_all_the_time_is_skipped(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(here.share / "file", b"a" * LARGE)
    write(here.share / "good", b"good")
    read = Reader.read_chunk
    numbers = itertools.count(1)
    lock = threading.Lock()

    def rewrite(*arguments: Any) -> Any:
        answer = read(*arguments)
        with lock:
            number = next(numbers)
            with path.open("r+b") as file:
                file.write(bytes([number % 256]) * LARGE)
        return answer

    monkeypatch.setattr(Reader, "read_chunk", rewrite)
    report = here.download()
    assert report.skipped == [Skipped("file", "it changed while it was read")]
    assert list(tree(here.target)) == ["good"]


def before_seal(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    def troubled(seal: Callable[..., Any], *arguments: Any) -> Any:
        action()
        return seal(*arguments)

    monkeypatch.setattr(Reader, "seal", once(troubled, Reader.seal))


def test_a_file_that_goes_away_after_it_was_read_has_been_read(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(here.share / "file", b"a" * LARGE)
    expected = tree(here.share)
    before_seal(monkeypatch, path.unlink)
    report = here.download()
    assert tree(here.target) == expected
    assert report.skipped == []


def test_a_file_that_is_cut_after_it_was_read_has_been_read(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(here.share / "file", b"a" * LARGE)
    expected = tree(here.share)
    before_seal(monkeypatch, lambda: os.truncate(path, 5))
    here.download()
    assert tree(here.target) == expected


def test_a_file_that_changed_and_went_away_is_skipped(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(here.share / "file", b"a" * LARGE)

    def touch(read: Callable[..., Any], *arguments: Any) -> Any:
        os.utime(path, ns=(0, STAMP + 5))
        return read(*arguments)

    monkeypatch.setattr(Reader, "read_chunk", once(touch, Reader.read_chunk, at=2))
    before_seal(monkeypatch, path.unlink)
    assert here.download().skipped == [Skipped("file", "it is not there")]
    assert tree(here.target) == {}


def test_a_small_log_that_was_rotated_comes_whole(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("log", "other", "state"):
        write(here.share / name, b"begin")
    prepare = downloads.Download.prepare

    def rotate(*arguments: Any) -> Conversation:
        yield from prepare(*arguments)
        write(here.share.parent / "new", b"r" * (CHUNK - 1), mtime_ns=STAMP + 1).replace(here.share / "log")
        write(here.share.parent / "new", b"s" * LARGE, mtime_ns=STAMP + 2).replace(here.share / "state")

    monkeypatch.setattr(downloads.Download, "prepare", rotate)
    report = here.download()
    assert tree(here.target) == tree(here.share)
    assert (report.files, report.chunks_again, report.skipped) == (3, 2, [])
    assert report.bytes == 5 + CHUNK - 1 + LARGE


def test_files_that_vanish_after_they_were_listed_are_skipped(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("small", 5), ("large", LARGE), ("good", 5)):
        write(here.share / name, b"x" * size)
    prepare = downloads.Download.prepare

    def vanish(*arguments: Any) -> Conversation:
        yield from prepare(*arguments)
        (here.share / "small").unlink()
        (here.share / "large").unlink()

    monkeypatch.setattr(downloads.Download, "prepare", vanish)
    report = here.download()
    assert report.skipped == [Skipped("large", "it is not there"), Skipped("small", "it is not there")]
    assert list(tree(here.target)) == ["good"]


# Trouble at the target


def test_what_can_not_be_written_is_skipped(here: Site) -> None:
    for name in ("a", "dir/a", "link/a", "z"):
        write(here.share / name, b"x")
        write(here.share / f"{name}.large", b"x" * LARGE)
    (here.target / "a").mkdir(parents=True)
    (here.target / "a.large").mkdir()
    write(here.target / "dir", b"a file")
    outside = here.target.parent / "outside"
    outside.mkdir()
    (here.target / "link").symlink_to(outside)
    report = here.download()
    way = "a folder on its way is a symbolic link or no folder"
    assert dict(report.skipped) == {
        "a": "folder",
        "a.large": "folder",
        "dir": way,
        "dir/a": way,
        "dir/a.large": way,
        "link": way,
        "link/a": way,
        "link/a.large": way,
    }
    assert sorted(tree(here.target)) == ["dir", "z", "z.large"]
    assert os.listdir(outside) == []


@pytest.mark.parametrize("sparse", [False, True])
def test_a_full_disk_skips_what_does_not_fit(here: Site, monkeypatch: pytest.MonkeyPatch, sparse: bool) -> None:
    def full(*_: Any) -> bool:
        raise OSError(errno.ENOSPC, "full")

    if sparse:
        with (here.share / "large").open("wb") as file:
            file.truncate(1 << 20)
        monkeypatch.setattr(PartialFile, "write_hole", full)
    else:
        write(here.share / "large", b"x" * LARGE)
        monkeypatch.setattr(PartialFile, "write", full)
    write(here.share / "small", b"x")
    report = here.download(chunk_size=1 << 16 if sparse else CHUNK)
    assert report.skipped == [Skipped("large", "no space is left")]
    assert list(tree(here.target)) == ["small"]


def test_a_target_that_another_transfer_writes_is_skipped(here: Site) -> None:
    write(here.share / "large", b"x" * LARGE)
    write(here.share / "small", b"x")
    with Folder(here.target, create=True) as folder:
        others = [PartialFile(folder, Entry(name, 5, 0, 0)) for name in ("large", "small")]
        report = here.download()
        reason = "another transfer is writing to it"
        assert report.skipped == [Skipped("large", reason), Skipped("small", reason)]
        for other in others:
            other.discard()
    assert here.download().skipped == []


def test_names_that_differ_in_case_only_are_not_mixed_up(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "folds_case", lambda _: True)
    for name in ("a/File", "A/fILE", "other"):
        write(here.share / name, name.encode())
    report = here.download(files=["a/File", "A/fILE", "other"])
    assert [path for path, _ in report.skipped] == ["A/fILE"]
    assert sorted(tree(here.target)) == ["a/File", "other"]


def test_what_a_killed_download_left_is_taken_over(here: Site) -> None:
    write(here.share / "sub/large", os.urandom(LARGE))
    write(here.target / "sub" / partial_name("large"), b"left behind" * LARGE)
    here.download()
    assert tree(here.target) == tree(here.share)


def test_an_error_at_the_last_moment_leaves_nothing(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "broken disk")

    write(here.share / "large", b"x" * LARGE)
    monkeypatch.setattr(partials._Claim, "complete", fail)
    assert here.download().skipped == [Skipped("large", "broken disk")]
    assert tree(here.target) == {}


# Links that break


def cutting(here: Site, at: int) -> Callable[..., Any]:
    """Reads a chunk, but the gateway's side of one pair ends before that is sent."""

    def cut(read: Callable[..., Any], *arguments: Any) -> Any:
        handlers = here.gateway._pool.handlers()
        mine = [handler for handler in handlers if handler.thread is threading.current_thread()]
        mine[0].link.stream.shutdown()
        return read(*arguments)

    return once(cut, Reader.read_chunk, at=at)


@pytest.mark.parametrize("at", [1, 5, 10])
def test_a_lost_lane_is_replaced_and_its_chunks_fetched_again(
    here: Site, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    write(here.share / "large", os.urandom(LARGE))
    for number in range(50):
        write(here.share / f"small/{number}", os.urandom(number))
    monkeypatch.setattr(Reader, "read_chunk", cutting(here, at))
    report = here.download()
    assert tree(here.target) == tree(here.share)
    assert (report.lanes_replaced, report.lanes_lost, report.skipped) == (1, 0, [])
    assert report.chunks_again > 0


def test_when_no_lane_is_left_that_is_said_and_nothing_is_left(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here.share / "large", b"x" * LARGE)

    def leave(read: Callable[..., Any], *arguments: Any) -> Any:
        here.gateway._admission.stop()  # type: ignore[union-attr]
        for handler in here.gateway._pool.handlers():
            handler.link.stream.shutdown()
        return read(*arguments)

    monkeypatch.setattr(Reader, "read_chunk", once(leave, Reader.read_chunk, at=3))
    with pytest.raises(ConnectionLost):
        here.download()
    assert tree(here.target) == {}


def test_lanes_that_are_lost_in_vain_are_not_replaced_for_ever(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(answerer: Answerer, _message: Message) -> None:
        answerer._operation.link.stream.shutdown()

    write(here.share / "large", b"x" * LARGE)
    monkeypatch.setattr(Answerer, "answer", cut)
    with pytest.raises(RemoteProtocolError, match="while nothing moved"):
        here.download()
    assert tree(here.target) == {}


def test_a_gateway_that_does_not_know_the_messages_says_so(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here.share / "large", b"x" * LARGE)
    monkeypatch.setattr(answering, "_CODES", frozenset())
    with pytest.raises(BadRequest, match="is no part of fetching files"):
        here.download()
    assert tree(here.target) == {}


def test_a_listing_that_is_cut_off_is_made_again(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here.share / "file", b"x")

    def cut(function: Callable[..., Any], window: sharing._Window, *rest: Any) -> None:
        window._operation.link.stream.shutdown()
        function(window, *rest)

    monkeypatch.setattr(sharing._Window, "send_pages", once(cut, sharing._Window.send_pages))
    report = here.download()
    assert (report.files, report.lanes_replaced) == (1, 1)


def test_ctrl_c_leaves_nothing_unfinished(here: Site) -> None:
    write(here.share / "small", b"x")
    write(here.share / "large", b"x" * LARGE)
    pressed = threading.Event()

    def press(done: int, *_: int) -> None:
        if done and not pressed.is_set():
            pressed.set()
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            raise OSError("this lane ends here, so that the job can't")

    with pytest.raises((KeyboardInterrupt, OSError)):
        here.download(progress=press)
    assert partial_files(here.target) == []


def test_an_error_in_the_callers_own_code_ends_the_job(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here.share / "large", b"x" * LARGE)

    def fail(done: int, *_: int) -> None:
        if done:
            raise ZeroDivisionError

    monkeypatch.setattr(progress, "_REFRESH", 0)
    with pytest.raises(ZeroDivisionError):
        here.download(progress=fail)
    assert tree(here.target) == {}


# A gateway that lies


def lying(here: Site, verb: str, answer: Callable[[ServedOperation], Any]) -> None:
    """Let the gateway answer a verb like that."""
    here.gateway._verbs[verb] = Verb(lambda operation, *_: answer(operation))


ENTRY = Entry("file", LARGE, STAMP, 0o644)
HEAD = ChunkHead(Status.OK, 0, b"d" * 16, LARGE, STAMP, 0o644)


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (Code.CHUNK, b""),
        (Code.PAGE, b"torn"),
        *[
            (Code.PAGE, encode_file(ENTRY._replace(path=path)))
            for path in ("../up", "/etc/passwd", "a/../../b", "a\\b", "C:x", "nul", "x\0y", ".x.partial", "a//b")
        ],
    ],
    ids=itertools.count(),
)
def test_a_listing_that_must_not_be_ends_the_job(tmp_path: Path, code: int, body: bytes) -> None:
    with site(tmp_path) as here:
        lying(here, "files.list", lambda operation: operation.send(code, b"", body))
        with pytest.raises(RemoteProtocolError):
            here.download()
        assert tree(here.target) == {}
        assert sorted(os.listdir(tmp_path)) in (["share"], ["share", "target"])


def test_folders_that_must_not_be_are_not_made(here: Site) -> None:
    body = sharing.encode_folder(ENTRY._replace(path="../outside"))
    lying(here, "files.list", lambda operation: operation.send(Code.PAGE, b"", body))
    report = here.download()
    assert report.skipped[0].path == "../outside"
    assert not (here.target.parent / "outside").exists()


def test_names_that_are_not_all_looked_up_end_the_job(here: Site) -> None:
    lying(here, "files.list", lambda _: None)
    with pytest.raises(RemoteProtocolError, match="did not look up"):
        here.download(files=["a"])


@pytest.mark.parametrize("body", [encode_file(ENTRY), sharing.encode_folder(ENTRY._replace(path="asked"))])
def test_what_was_not_asked_for_ends_the_job(here: Site, body: bytes) -> None:
    def answer(operation: ServedOperation) -> None:
        operation.receive()
        operation.send(Code.PAGE, b"", body)
        operation.receive()

    write(here.share / "file", b"x")
    write(here.target / "file", b"mine")
    lying(here, "files.list", answer)
    with pytest.raises(RemoteProtocolError, match="not asked for"):
        here.download(files=["asked"])
    assert tree(here.target) == {"file": (b"mine", 0o644, STAMP)}


OTHER = encode_file(ENTRY._replace(path="other"))
CHUNK_LIES = [
    (Code.PACK, HEAD.encode(), b""),
    (Code.SEAL, HEAD.encode(), b""),
    (Code.CHUNK, b"short", b""),
    (Code.CHUNK, HEAD._replace(number=5).encode(), b"x" * CHUNK),
    (Code.CHUNK, HEAD.encode(), b"x" * (CHUNK - 1)),
    (Code.CHUNK, HEAD.encode(), b"x" * (CHUNK + 1)),
    (Code.CHUNK, HEAD._replace(status=Status.HOLE).encode(), b"x"),
    (Code.CHUNK, HEAD._replace(status=Status.DAMAGED).encode(), b""),
    (Code.CHUNK, HEAD._replace(status=Status.CHANGED, size=1 << 62).encode(), b""),
    (Code.PAGE, b"", b""),
]
PACK_LIES = [
    (Code.CHUNK, HEAD.encode(), b""),
    (Code.PACK, b"", b""),
    (Code.PACK, b"", encode_rows([(0, 0, 5, 0, b"d" * 16)] * 2) + b"x" * 10),
    (Code.PACK, b"", encode_rows([(0, 0, 5, 0, b"d" * 16)]) + b"xxxx"),
    (Code.PACK, b"", encode_rows([(0, 0, 6, 0, b"d" * 16)]) + b"xxxxxx"),
    (Code.PACK, b"", encode_rows([(Status.CHANGED, 0, 5, 0, b"d" * 16)]) + b"xxxxx"),
    (Code.PACK, b"", encode_rows([(Status.CHANGED, 0, 0, 0, b"d" * 16)])),
    (Code.PACK, b"", encode_rows([(Status.CHANGED, 0, len(OTHER), 0, b"d" * 16)]) + OTHER),
    (Code.PACK, b"", encode_rows([(Status.DAMAGED, 0, 5, 0, b"d" * 16)]) + b"xxxxx"),
]


@pytest.mark.parametrize(
    ("size", "code", "head", "body"),
    [*[(LARGE, *lie) for lie in CHUNK_LIES], *[(5, *lie) for lie in PACK_LIES]],
    ids=itertools.count(),
)
def test_an_answer_that_must_not_be_ends_the_job(
    tmp_path: Path, size: int, code: int, head: bytes, body: bytes
) -> None:
    def answer(operation: ServedOperation) -> None:
        operation.receive()
        operation.send(code, head, body)
        while operation.receive().code != Code.FINISH:
            pass

    with site(tmp_path, 1) as here:
        write(here.share / "file", b"x" * size)
        lying(here, "files.fetch", answer)
        with pytest.raises(RemoteProtocolError):
            here.download()
        assert tree(here.target) == {}


def test_an_end_before_the_end_ends_the_job(here: Site) -> None:
    write(here.share / "file", b"x")
    lying(here, "files.fetch", lambda operation: operation.receive() and None)
    with pytest.raises(RemoteProtocolError, match="before its end"):
        here.download()


def test_a_seal_that_never_fits_ends_with_a_skipped_file(monkeypatch: pytest.MonkeyPatch, here: Site) -> None:
    write(here.share / "file", b"x" * LARGE)
    seal = Reader.seal
    monkeypatch.setattr(Reader, "seal", lambda *arguments: seal(*arguments)._replace(digest=b"d" * 16))
    report = here.download()
    assert report.skipped == [Skipped("file", "it changed while it was read")]
    assert tree(here.target) == {}


def test_news_of_a_file_that_is_settled_or_begun_again_are_old(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another lane settles, or begins again, what this one is just busy with."""
    write(here.share / "a", os.urandom(LARGE))
    job: list[downloads.Download] = []
    opening = downloads.Download.make_lane

    def note(self: downloads.Download, *arguments: Any) -> Any:
        job.append(self)
        return opening(self, *arguments)

    def begin_again(function: Callable[..., Any], partial: PartialFile, *arguments: Any, **keywords: Any) -> Any:
        with job[0].changed:
            (file,) = job[0]._open_files
            work = downloads.Run(file, file.generation, 0, 0)
            job[0].begin_again(work, file.entry)
        return function(partial, *arguments, **keywords)

    monkeypatch.setattr(downloads.Download, "make_lane", note)
    monkeypatch.setattr(PartialFile, "write", once(begin_again, PartialFile.write, at=4))
    monkeypatch.setattr(PartialFile, "complete", once(begin_again, PartialFile.complete))
    report = here.download()
    assert tree(here.target) == tree(here.share)
    assert (report.files, report.skipped) == (1, [])


def test_a_run_of_a_file_that_shrank_just_now_is_not_asked_for(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another lane begins the file again between the taking of a run and the asking for it."""
    path = write(here.share / "a", os.urandom(LARGE))

    def shrink(ask: Callable[..., Any], lane: downloads.DownloadLane, work: downloads.Run) -> Any:
        # At once, size and time: the gateway may look at it at any moment.
        os.replace(write(path.parent.parent / "shrunk", b"x"), path)
        with lane.job.changed:
            lane.job.begin_again(work, work.file.entry._replace(size=1))
        return ask(lane, work)

    def sensible(*arguments: Any) -> Want:
        return Want.decode(Want(*arguments).encode())

    monkeypatch.setattr(downloads, "Want", sensible)
    monkeypatch.setattr(downloads.DownloadLane, "ask", once(shrink, downloads.DownloadLane.ask, at=2))
    report = here.download()
    assert tree(here.target) == tree(here.share)
    assert (report.files, report.bytes, report.skipped, report.lanes_replaced) == (1, 1, [], 0)
