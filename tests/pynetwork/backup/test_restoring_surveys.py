"""What a restore makes of what a gateway tells, and of a survey that is cut off."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.errors import ConnectionLost, RemoteFault, RemoteProtocolError
from handshakes.survey import (
    End,
    Facts,
    FolderRow,
    GoneRow,
    encode_end,
    encode_file_row,
    encode_folder_row,
    encode_gone_row,
)
from handshakes.transfer import Code
from pynetwork.backup import RestoreReport, restoring
from pynetwork.files.storing import StoringLane, Uploads
from pynetwork.service import ServedOperation, Verb
from tests.pynetwork.backup.mirroring import LARGE, SECOND, STAMP, Scene, lines, new, scene, seen, settle_folders
from tests.pynetwork.files.transferring import once
from tests.serving import PATIENCE
from tests.waiting import wait_until


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


def plant(at: Scene) -> None:
    """A file that moves by chunk, one that does not, a link and an empty folder."""
    at.put("small.log", lines(100))
    at.put("sub/large.log", new(LARGE))
    (at.share / "no files/in it").mkdir(parents=True)
    (at.share / "link").symlink_to("sub/large.log")
    settle_folders(at.share)


FILES = 3


def restore(at: Scene, **options: Any) -> RestoreReport:
    return at.controller.restore(at.share, "in", **{"lanes": 1, "progress": False, "durable": False, **options})


def there(at: Scene) -> Path:
    return at.share.parent / "incoming/in"


# A survey that is cut off


def cut_at(at: Scene, monkeypatch: pytest.MonkeyPatch, name: str, *calls: int) -> None:
    """End the gateway's side of the pair when this method of `Uploads` is called for so many times."""
    method = getattr(Uploads, name)
    counted = [0]

    def cut(*arguments: Any) -> Any:
        counted[0] += 1
        if counted[0] in calls:
            for handler in at.gateway._pool.handlers():
                if handler.thread is threading.current_thread():
                    handler.link.stream.shutdown()
        return method(*arguments)

    monkeypatch.setattr(Uploads, name, cut)


@pytest.mark.parametrize("name", ["folds_case", "open_target"])
def test_a_survey_that_is_cut_off_is_made_again(at: Scene, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    plant(at)
    cut_at(at, monkeypatch, name, 1, 2)
    report = restore(at)
    assert (report.files, report.new) == (FILES, FILES)
    assert seen(there(at)) == seen(at.share)


def test_a_survey_that_is_always_cut_off_ends_the_restore(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(at)
    monkeypatch.setattr(restoring, "_SURVEY_TRIES", 3)
    cut_at(at, monkeypatch, "open_target", 1, 2, 3, 4)
    with pytest.raises(ConnectionLost):
        restore(at)


def test_a_survey_goes_on_in_the_middle(at: Scene) -> None:
    """What was met is not met again, so that nothing is counted twice."""
    for number in range(30):
        at.put(f"{number:02}/file", b"x")
    settle_folders(at.share)
    restore(at)
    survey = at.gateway._verbs["files.survey_target"]
    cut = [0]

    def torn(operation: ServedOperation, dirname: str) -> None:
        cut[0] += 1
        if cut[0] > 1:
            survey.function(operation, dirname)
            return
        row = encode_folder_row(FolderRow(b"15", Facts(0o755, 0, 0, 0, STAMP, 0), 0, 0, complete=True))
        operation.send(Code.PAGE, b"", row)
        operation.receive(PATIENCE)
        wait_until(lambda: len(met) >= 16)
        operation.link.stream.shutdown()

    at.gateway._verbs["files.survey_target"] = Verb(torn, survey.right)
    met: list[bytes] = []
    meet = restoring.RestoreJob._meet

    def noted(job: restoring.RestoreJob, folder: Any, found: Any) -> None:
        met.append(folder.path)
        meet(job, folder, found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restoring.RestoreJob, "_meet", noted)
        report = restore(at)
    assert cut[0] == 2
    assert met == [b"", *(b"%02d" % number for number in range(30))]
    assert report.files == 30


# A gateway that lies


def lying(at: Scene, verb: str, answer: Callable[..., Any]) -> None:
    at.gateway._verbs[verb] = Verb(answer)


def page(*rows: bytes) -> Callable[..., None]:
    def answer(operation: ServedOperation, *_: Any) -> None:
        operation.send(Code.PAGE, b"", b"".join(rows))
        operation.receive(PATIENCE)

    return answer


ROOT = encode_folder_row(FolderRow(b"", Facts(0o755, 0, 0, 0, STAMP, 0), 0, 0, complete=True))


@pytest.mark.parametrize(
    "answer",
    [
        page(b"\xff"),
        page(ROOT, ROOT),
        page(ROOT, encode_end(End(1, 1))),
        page(encode_file_row(b"x", Facts(0, 0, 0, 0, 0, 0))),
        page(ROOT, encode_gone_row(GoneRow(b"x"))),
        page(ROOT),
        lambda *_: None,
        lambda operation, *_: operation.send(Code.MORE),
    ],
)
def test_a_survey_that_must_not_be_ends_the_restore(at: Scene, answer: Callable[..., Any]) -> None:
    plant(at)
    lying(at, "files.survey_target", answer)
    with pytest.raises(RemoteProtocolError):
        restore(at)
    with pytest.raises(RemoteProtocolError):
        restore(at, dry_run=True)


@pytest.mark.parametrize("value", [1, {}, {"folds_case": 0}, None])
def test_a_gateway_that_does_not_tell_of_case_ends_the_restore(at: Scene, value: object) -> None:
    plant(at)
    lying(at, "files.target", lambda *_: value)
    with pytest.raises(RemoteProtocolError, match="does not tell"):
        restore(at)


def test_a_survey_that_lies_about_what_is_there_is_found_out(at: Scene) -> None:
    """It may keep a file from being restored, but no chunk counts that the gateway does not have."""
    at.put("large", new(LARGE))
    at.put("small", b"12345")
    rows = encode_file_row(b"large", Facts(0o644, 0, 0, 1 << 62, STAMP, 0))
    rows += encode_file_row(b"small", Facts(0o644, 0, 0, 5, STAMP + SECOND, 0))
    lying(at, "files.survey_target", page(ROOT, rows, encode_end(End(2, 1))))
    report = restore(at)
    assert report.complete
    assert seen(there(at), times=False) == seen(at.share, times=False)


def test_a_gateway_that_can_not_flush_says_so(at: Scene) -> None:
    plant(at)

    def broken(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    lying(at, "files.flush", broken)
    with pytest.raises(RemoteFault, match="Input/output error"):
        restore(at, durable=True)
    # Nothing was written: then there is nothing to flush.
    assert restore(at, durable=True).complete


def test_what_is_lost_before_all_is_on_the_disk_is_asked_again(at: Scene) -> None:
    plant(at)
    flush = at.gateway._verbs["files.flush"]
    asked = []

    def cut(operation: ServedOperation) -> None:
        asked.append(operation)
        if len(asked) == 1:
            operation.link.stream.shutdown()
        else:
            flush.function(operation)

    at.gateway._verbs["files.flush"] = Verb(cut, flush.right)
    assert restore(at, durable=True).complete
    assert len(asked) == 2


def test_lanes_that_are_lost_are_replaced(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(at)

    def cut(keep: Callable[..., Any], lane: StoringLane, *arguments: Any) -> Any:
        for handler in at.gateway._pool.handlers():
            if handler.thread is threading.current_thread():
                handler.link.stream.shutdown()
        return keep(lane, *arguments)

    monkeypatch.setattr(StoringLane, "keep", once(cut, StoringLane.keep, at=3))
    report = restore(at, lanes=2)
    assert (report.lanes_replaced, report.lanes_lost) == (1, 0)
    assert report.complete
    assert seen(there(at)) == seen(at.share)
