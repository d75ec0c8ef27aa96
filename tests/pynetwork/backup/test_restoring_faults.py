"""What a restore does when processes die, links break, disks are full and gateways lie: it loses no finished chunk."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.errors import ConnectionLost, PynetworkError, RemoteProtocolError
from handshakes.manifest import CHUNK_SIZE, Skipped
from handshakes.transfer import Code, Receipt, Status, encode_receipt
from pynetwork.backup import RestoreReport, restoring, sending
from pynetwork.controller import Controller
from pynetwork.files.incoming import IncomingFile
from pynetwork.files.reading import Reader
from pynetwork.files.uploads import UploadLane
from pynetwork.service import ServedOperation, Verb
from tests.pynetwork.backup.mirroring import LARGE, STAMP, Scene, lines, new, overwrite, scene, seen, write
from tests.pynetwork.files.transferring import once
from tests.serving import PATIENCE
from tests.system.processes import gateway_process, running
from tests.waiting import wait_until
from tools.proxy import DOWN, UP, Direction, Fault, Kind, Proxy

ROOM = 2000
"""Bytes of tables around what a few files bring."""
CHUNKS = 12
HUGE = CHUNKS * CHUNK_SIZE + 77


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


def restore(controller: Controller, source: Path, **options: Any) -> RestoreReport:
    return controller.restore(source, "in", **{"lanes": 2, "progress": False, "durable": False, **options})


def there(root: Path) -> Path:
    return root / "incoming/in"


def plant(share: Path) -> None:
    """Two files that take a while, and some that do not."""
    for name in ("one", "two"):
        write(share / name, new(HUGE))
    for number in range(20):
        write(share / f"sub/small{number}", lines(number))


def unfinished(root: Path) -> list[Path]:
    return sorted(there(root).rglob(".*.partial"))


def held(root: Path, share: Path) -> int:
    """Bytes of whole chunks of the large files that are there, under whatever name."""
    found = 0
    for name in ("one", "two"):
        whole = (share / name).read_bytes()
        for path in (there(root) / name, there(root) / f".{name}.partial"):
            if path.exists():
                data = path.read_bytes()
                pieces = range(0, len(whole), CHUNK_SIZE)
                found += sum(
                    len(whole[at : at + CHUNK_SIZE])
                    for at in pieces
                    if data[at : at + CHUNK_SIZE] == whole[at : at + CHUNK_SIZE]
                )
    return found


def names(root: Path) -> set[str]:
    return {path.name for path in there(root).rglob("*") if path.is_file()}


# Processes that die

CALLER = """
import sys
from pynetwork import Controller
Controller(port=int(sys.argv[1])).restore(sys.argv[2], "in", lanes=2, limit=16 << 20, durable=False, progress=False)
"""


def test_after_a_kill_of_the_caller_only_the_rest_is_sent(tmp_path: Path) -> None:
    plant(tmp_path / "source")
    with scene(tmp_path) as at:
        with running(CALLER, at.gateway.port, tmp_path / "source") as process:
            wait_until(lambda: held(tmp_path, tmp_path / "source") > 4 * CHUNK_SIZE, PATIENCE)
            process.kill()
            process.wait()
        # The gateway has to see that its lanes are lost.
        wait_until(lambda: not at.gateway._pool.handlers(), PATIENCE)
        finished = held(tmp_path, tmp_path / "source")
        assert not {"one", "two"} <= names(tmp_path)
        report = restore(at.controller, tmp_path / "source")
        assert report.complete
        assert report.sent <= 2 * HUGE - finished + 20 * 1000 + ROOM
        assert seen(there(tmp_path)) == seen(tmp_path / "source")
        assert unfinished(tmp_path) == []


def test_after_a_kill_of_the_gateway_only_the_rest_is_sent(tmp_path: Path) -> None:
    source = tmp_path / "source"
    plant(source)
    with gateway_process(tmp_path) as (process, port):
        killed: list[int] = []

        def kill(done: int, *_: int) -> None:
            if done > 5 * CHUNK_SIZE and not killed:
                process.kill()
                process.wait()
                killed.append(held(tmp_path, source))

        with pytest.raises(ConnectionLost):
            restore(Controller(port=port), source, progress=kill)
    assert killed
    assert killed[0] >= 5 * CHUNK_SIZE
    with gateway_process(tmp_path) as (_, port):
        report = restore(Controller(port=port), source)
        assert report.complete
        assert report.sent <= 2 * HUGE - killed[0] + 20 * 1000 + ROOM
    assert seen(there(tmp_path)) == seen(source)
    assert unfinished(tmp_path) == []


def test_a_gateway_that_comes_back_in_the_middle_gets_only_the_rest(tmp_path: Path) -> None:
    """Its lanes are dialled again, and it is asked what it still has."""
    source = tmp_path / "source"
    plant(source)
    with contextlib.ExitStack() as stack:
        process, port = stack.enter_context(gateway_process(tmp_path))
        proxy = stack.enter_context(Proxy(port))
        restarted: list[int] = []

        def restart(done: int, *_: int) -> None:
            if done > 16 * CHUNK_SIZE and not restarted:
                process.kill()
                process.wait()
                restarted.append(held(tmp_path, source))
                _, again = stack.enter_context(gateway_process(tmp_path))
                proxy._target = ("127.0.0.1", again)

        report = restore(Controller(port=proxy.port), source, progress=restart)
        assert report.complete
        assert restarted[0] > 16 * CHUNK_SIZE
        # What was on its way is sent again, but no more than the window of a lane.
        assert report.sent <= 2 * HUGE + 9 * CHUNK_SIZE
        assert seen(there(tmp_path)) == seen(source)


# Links that break


@pytest.mark.parametrize("kind", [Kind.RESET, Kind.END, Kind.HALF_CLOSE, Kind.FLIP])
@pytest.mark.parametrize(
    ("direction", "place"), [(UP, 0.0), (UP, 0.01), (UP, 0.3), (UP, 0.7), (UP, 0.999), (DOWN, 0.1), (DOWN, 0.9)]
)
def test_a_link_that_breaks_anywhere(at: Scene, tmp_path: Path, kind: Kind, direction: Direction, place: float) -> None:
    """Or on which a bit flips: nothing wrong has a name in the end, and the next restore sends only what is missing."""
    source = tmp_path / "source"
    write(source / "large", new(LARGE))
    for number in range(20):
        write(source / f"small{number}", lines(number))
    with Proxy(at.gateway.port) as proxy:
        controller = Controller(port=proxy.port)
        proxy.inject(None)
        controller.restore(source, "measured", lanes=2, progress=False, durable=False)
        size = proxy.count(direction)
        proxy.inject(Fault(kind, direction, int(place * size), bit=3))
        report = None
        with contextlib.suppress(PynetworkError):
            report = restore(controller, source)
        # The gateway may still be at what came before that.
        wait_until(lambda: not at.gateway._pool.handlers(), PATIENCE)
        expected = seen(source)
        for path, look in seen(there(tmp_path)).items() if there(tmp_path).exists() else ():
            if not path.endswith(".partial"):
                assert look == expected[path]
        again = restore(controller, source)
        assert again.complete
        if report is not None and report.complete:
            assert again.sent == 0
        assert seen(there(tmp_path)) == expected


# Full disks


@contextlib.contextmanager
def small_disk(where: Path, size: int) -> Iterator[Callable[[int], None]]:
    """A file system of ``size`` bytes; what is given can make it larger."""
    where.mkdir(parents=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", where], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield lambda larger: subprocess.run(["mount", "-o", f"remount,size={larger}", where], check=True) and None
    finally:
        subprocess.run(["umount", where], check=True)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root may mount file systems")
def test_a_full_disk_loses_nothing_that_has_come(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write(source / "large", new(LARGE))
    for number in range(20):
        write(source / f"small{number}", new(10_000))
    with small_disk(tmp_path / "incoming", 2 * CHUNK_SIZE + 400_000) as enlarge, scene(tmp_path) as at:
        report = restore(at.controller, source, lanes=1)
        assert dict(report.skipped).get("large") == "no space is left"
        assert {reason for _, reason in report.skipped} == {"no space is left"}
        assert "large" not in names(tmp_path)
        assert [path.name for path in unfinished(tmp_path)] == [".large.partial"]
        enlarge(8 * CHUNK_SIZE)
        again = restore(at.controller, source, lanes=1)
        assert again.complete
        assert again.sent <= LARGE - 2 * CHUNK_SIZE + len(report.skipped) * 10_100 + ROOM
        assert seen(there(tmp_path)) == seen(source)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root may mount file systems")
def test_a_mirror_on_a_full_disk_can_be_restored(tmp_path: Path) -> None:
    with small_disk(tmp_path / "to", 2 * CHUNK_SIZE), scene(tmp_path) as at:
        at.put("sub/file", lines(1000))
        at.backup()
        with contextlib.suppress(OSError):
            (at.to / "filler").write_bytes(bytes(4 * CHUNK_SIZE))
        (at.to / "filler").rename(at.to / ".pynetwork/filler")
        assert restore(at.controller, at.to).complete
        assert seen(there(tmp_path), times=False) == seen(at.share, times=False)


# Sources that change, and that are not what they were


def test_a_mirror_that_is_not_what_was_backed_up_is_not_restored(at: Scene, tmp_path: Path) -> None:
    at.put("good", lines(10))
    at.put("small", lines(10))
    at.put("large", new(LARGE))
    at.put("alike", lines(10))
    write(there(tmp_path) / "alike", lines(10), mtime_ns=STAMP + 5)
    at.backup()
    for path, place in (("small", 5), ("large", CHUNK_SIZE + 5), ("alike", 5)):
        overwrite(at.to / path, b"?", place, STAMP)
    report = restore(at.controller, at.to)
    rotten = "it is not what was backed up; pynetwork verify tells more"
    assert set(report.skipped) == {Skipped(path, rotten) for path in ("small", "large", "alike")}
    assert names(tmp_path) == {"good", "alike"}
    assert {bad.path for bad in at.verify().bad} == {"small", "large", "alike"}


def test_what_is_changed_by_hand_is_restored_as_it_is(at: Scene, tmp_path: Path) -> None:
    at.put("small", lines(10))
    at.put("large", new(LARGE))
    at.backup()
    for path in ("small", "large"):
        overwrite(at.to / path, b"changed", 5)
    assert restore(at.controller, at.to).complete
    assert seen(there(tmp_path), times=False) == seen(at.to, times=False)


@pytest.mark.parametrize("size", [100, CHUNK_SIZE, LARGE + 5])
def test_a_file_that_is_replaced_meanwhile_is_sent_as_it_was_or_as_it_is(
    at: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path = at.put("file", new(LARGE))
    write(there(tmp_path) / "file", new(LARGE), mtime_ns=STAMP + 5)
    before = seen(at.share, times=False)

    def replace(read: Callable[..., Any], *arguments: Any) -> Any:
        write(tmp_path / "new", new(size), 0o600, STAMP + 9).replace(path)
        return read(*arguments)

    for at_call in (1, 5):
        monkeypatch.setattr(Reader, "read_chunk", once(replace, Reader.read_chunk, at=at_call))
        assert restore(at.controller, at.share).complete
        assert seen(there(tmp_path), times=False) in (before, seen(at.share, times=False))


def test_small_files_that_change_meanwhile_are_sent_as_they_are(
    at: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        at.put(name, b"12345")
        write(there(tmp_path) / name, b"12345", mtime_ns=STAMP + 5)
    read_pack = Reader.read_pack

    def change(_function: Callable[..., Any], reader: Reader, entries: Any) -> Any:
        write(at.share / "a", b"54321", mtime_ns=STAMP + 9)
        write(tmp_path / "new", new(LARGE), mtime_ns=STAMP + 9).replace(at.share / "b")
        (at.share / "c").unlink()
        return read_pack(reader, entries)

    monkeypatch.setattr(Reader, "read_pack", once(change, read_pack))
    report = restore(at.controller, at.share)
    assert report.skipped == [Skipped("c", "it is not there")]
    assert (there(tmp_path) / "a").read_bytes() == b"54321"
    assert (there(tmp_path) / "b").read_bytes() == (at.share / "b").read_bytes()
    assert (there(tmp_path) / "c").read_bytes() == b"12345"


def test_what_can_not_be_read_is_skipped(at: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at.put("large", new(LARGE))
    at.put("good", b"x")
    write(there(tmp_path) / "large", new(LARGE), mtime_ns=STAMP + 5)

    def broken(*_: Any) -> Any:
        raise OSError(5, "broken")

    monkeypatch.setattr(Reader, "read_chunk", broken)
    report = restore(at.controller, at.share)
    assert report.skipped == [Skipped("large", "broken")]
    assert names(tmp_path) == {"large", "good"}


# Gateways in trouble


def test_a_gateway_that_takes_its_time_is_asked_again(
    at: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = new(LARGE)
    at.put("large", whole)
    write(there(tmp_path) / "large", whole[:-1] + b"?", mtime_ns=STAMP + 5)
    seal = IncomingFile.seal
    asked: list[int] = []

    def wait(*arguments: Any, **options: Any) -> Receipt:
        asked.append(1)
        return Receipt(Status.WAIT) if len(asked) < 4 else seal(*arguments, **options)

    monkeypatch.setattr(IncomingFile, "seal", wait)
    assert restore(at.controller, at.share).complete
    assert len(asked) == 4
    assert (there(tmp_path) / "large").read_bytes() == whole


def test_a_gateway_that_has_lost_a_part_is_asked_what_it_has(
    at: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at.put("large", new(LARGE))
    lost = Receipt(Status.CHANGED, "the gateway has lost a part of it")
    monkeypatch.setattr(IncomingFile, "seal", once(lambda *_, **__: lost, IncomingFile.seal))
    report = restore(at.controller, at.share)
    assert report.complete
    assert report.sent <= LARGE + ROOM
    assert seen(there(tmp_path)) == seen(at.share)


class Liar:
    """The gateway's side of an operation that answers messages with this code like that, and others as it should."""

    def __init__(self, operation: ServedOperation, code: int, answer: int, body: bytes) -> None:
        self.recycle = operation.recycle
        self.send: Callable[..., None] = operation.send
        self._operation = operation
        self._code = code
        self._answer = (answer, b"", body)

    def receive(self, timeout: float | None = None) -> Any:
        """The next message; what is sent until then is its answer."""
        message = self._operation.receive(timeout)
        lies = message.code == self._code
        self.send = (lambda *_: self._operation.send(*self._answer)) if lies else self._operation.send
        return message


def lying(at: Scene, code: int, answer: int, body: bytes) -> None:
    """Let the gateway lie."""
    store = at.gateway._verbs["files.store"]

    def serve(operation: ServedOperation, *parameters: Any) -> Any:
        return store.function(Liar(operation, code, answer, body), *parameters)

    at.gateway._verbs["files.store"] = Verb(serve, store.right)


@pytest.mark.parametrize("code", [Code.SUMS, Code.HELD, Code.ARRANGE, Code.SEAL])
@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (Code.CHUNK, b""),
        (Code.RECEIPT, b""),
        (Code.RECEIPT, b"\xff" * 4),
        (Code.RECEIPT, encode_receipt([Receipt(Status.OK)] * 9)),
    ],
    ids=itertools.count(),
)
def test_a_receipt_that_must_not_be_ends_the_restore(
    at: Scene, tmp_path: Path, code: int, answer: int, body: bytes
) -> None:
    at.put("large", new(LARGE))
    at.put("small", b"12345")
    (at.share / "empty").mkdir()
    write(there(tmp_path) / "large", new(LARGE), mtime_ns=STAMP + 5)
    write(there(tmp_path) / "small", b"12345", mtime_ns=STAMP + 5)
    lying(at, code, answer, body)
    with pytest.raises(RemoteProtocolError):
        restore(at.controller, at.share, lanes=1)


def test_a_file_that_is_always_lost_is_given_up(at: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at.put("large", new(LARGE))
    at.put("good", b"x")
    monkeypatch.setattr(IncomingFile, "seal", lambda *_, **__: Receipt(Status.CHANGED, "lost"))
    report = restore(at.controller, at.share)
    assert [path for path, _ in report.skipped] == ["large"]
    assert names(tmp_path) - {".large.partial"} == {"good"}


def test_what_is_damaged_on_its_way_is_sent_again(at: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at.put("large", new(LARGE))
    for name in "abc":
        at.put(name, lines(10))

    def damaged(read: Callable[..., Any], *arguments: Any) -> Any:
        head, data = read(*arguments)
        data[0] ^= 1
        return head, data

    monkeypatch.setattr(Reader, "read_chunk", once(damaged, Reader.read_chunk, at=2))
    monkeypatch.setattr(Reader, "read_pack", once(damaged, Reader.read_pack))
    report = restore(at.controller, at.share)
    assert report.complete
    assert report.chunks_again == 2
    assert seen(there(tmp_path)) == seen(at.share)


def test_news_of_a_file_that_was_begun_again_are_old(
    at: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another lane begins again what this one is just busy with."""
    at.put("large", new(LARGE))
    write(there(tmp_path) / "large", new(LARGE), mtime_ns=STAMP + 5)

    def begin_again(function: Callable[..., Any], lane: Any, work: Any, *arguments: Any) -> Any:
        with lane.job.changed:
            lane.job.begin_again(sending.Run(work.file, work.generation, 0, 0), work.file.entry)
        return function(lane, work, *arguments)

    for lane, name in (
        (sending.RestoreLane, "_send_sums"),
        (sending.RestoreLane, "_settle_sums"),
        (UploadLane, "_read_chunk"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(lane, name, once(begin_again, getattr(lane, name)))
            report = restore(at.controller, at.share)
        assert report.complete
        assert seen(there(tmp_path)) == seen(at.share)
        overwrite(there(tmp_path) / "large", b"?", 5)


def test_rows_that_fail_are_told(at: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at.put("sub/file", b"12345")
    (at.share / "sub/link").symlink_to("file")
    restore(at.controller, at.share)
    (there(tmp_path) / "sub/file").chmod(0o600)
    (there(tmp_path) / "sub/link").unlink()
    (there(tmp_path) / "sub/link").mkdir()
    meet = restoring.RestoreJob._meet

    def change(*arguments: Any) -> None:
        os.utime(there(tmp_path) / "sub/file", ns=(0, 0))
        meet(*arguments)

    monkeypatch.setattr(restoring.RestoreJob, "_meet", change)
    report = restore(at.controller, at.share)
    assert dict(report.skipped) == {"sub/file": "it has changed meanwhile", "sub/link": "folder"}
