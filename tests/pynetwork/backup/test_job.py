"""A run as a whole: the survey and the lanes, and what becomes of one when the other fails."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.errors import ConnectionLost, RemoteProtocolError
from handshakes.manifest import Skipped
from handshakes.survey import End, encode_end
from handshakes.transfer import Code
from pynetwork.backup import job as module
from pynetwork.backup.comparing import Comparer
from pynetwork.backup.job import BackupJob, BackupReport
from pynetwork.backup.lane import BackupLane
from pynetwork.files.surveying import Surveyor
from pynetwork.service import ServedOperation
from tests.pynetwork.backup.mirroring import (
    LARGE,
    PATIENCE,
    SECOND,
    Scene,
    append,
    new,
    numbered,
    overwrite,
    scene,
    write,
)
from tests.pynetwork.files.transferring import once
from tests.serving import Background
from tests.waiting import wait_until


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        for number in range(20):
            made.put(f"{number}.log", new(100))
        made.put("sub/large", new(LARGE))
        yield made


def test_reports_are_json() -> None:
    report = BackupReport(files=2, new=2, skipped=[Skipped("a\udcff", "why")], escaped=[("b\udcff", "b%FF")])
    values = report.to_dict()
    assert values["skipped"] == [{"path": "a?", "reason": "why"}]
    assert values["escaped"] == [{"path": "b?", "place": "b%FF"}]
    assert (values["files"], values["new"], values["catalogue_aside"]) == (2, 2, "")
    assert not report.complete
    assert BackupReport(skipped=[Skipped("pipe", "named pipe"), Skipped("l", "symbolic link that leads")]).complete


def test_what_fails_before_the_survey_ends_the_run(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the lanes would wait for work that nobody finds."""

    def fail(*_arguments: object) -> bool:
        raise OSError(5, "the disk broke")

    monkeypatch.setattr("pynetwork.backup.catalogue.Catalogue.is_empty", fail)
    with pytest.raises(OSError, match="the disk broke"):
        at.backup()
    monkeypatch.undo()
    assert at.backup().complete


@pytest.mark.parametrize("error", [ValueError("odd"), sqlite3.OperationalError("disk I/O error"), MemoryError()])
def test_what_fails_in_the_survey_ends_the_run(at: Scene, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_arguments: object) -> bool:
        raise error

    monkeypatch.setattr(Comparer, "take_page", fail)
    with pytest.raises((type(error), OSError)):
        at.backup(lanes=2)
    monkeypatch.undo()
    assert at.backup().complete
    assert not at.differences()


def test_what_fails_in_a_lane_ends_the_run(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise ValueError("odd")

    monkeypatch.setattr(BackupLane, "answered", fail)
    with pytest.raises(ValueError, match="odd"):
        at.backup(lanes=2)
    monkeypatch.undo()
    assert at.backup().complete
    assert not at.differences()


def test_a_lane_that_has_no_folder(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_function: object, *_arguments: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(BackupJob, "make_lane", once(fail, BackupJob.make_lane))
    with pytest.raises(OSError, match="Too many open files"):
        at.backup()


def change(monkeypatch: pytest.MonkeyPatch, code: Code, into: Code | None) -> None:
    """Let the gateway say something else in place of its pages; None: nothing."""
    send = ServedOperation.send

    def sending(operation: ServedOperation, said: int, *rest: Any) -> None:
        if said == code and into is not None:
            send(operation, into, *rest)
        elif said != code:
            send(operation, said, *rest)

    monkeypatch.setattr(ServedOperation, "send", sending)


def test_a_survey_of_something_else(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, Code.PAGE, Code.NAMES)
    with pytest.raises(RemoteProtocolError, match="in place of a page of a survey"):
        at.backup()


def test_a_survey_without_pages(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, Code.PAGE, None)
    with pytest.raises(RemoteProtocolError, match="before its end"):
        at.backup()


def test_a_survey_whose_link_breaks_again_and_again(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    surveys: list[int] = []
    send = ServedOperation.send

    def sending(operation: ServedOperation, said: int, *rest: Any) -> None:
        if said == Code.PAGE:
            surveys.append(1)
            operation._link.stream.shutdown()
        send(operation, said, *rest)

    monkeypatch.setattr(ServedOperation, "send", sending)
    monkeypatch.setattr(module, "backoff", lambda: iter([0.0] * 10))
    with pytest.raises(ConnectionLost):
        at.backup()
    assert len(surveys) == module._SURVEY_TRIES


def test_an_empty_share(tmp_path: Path) -> None:
    with scene(tmp_path) as at:
        assert numbered(at.backup()) == {}
        assert not at.differences()


def test_a_survey_of_nothing_but_its_end(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    at.backup()
    monkeypatch.setattr(Surveyor, "survey", lambda _surveyor: (row for row in [encode_end(End(0, 0))]))
    assert numbered(at.backup()) == {"gone": 21}


def test_files_that_are_replaced_meanwhile_are_surveyed_again(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads to another file is backed up in the same run, with what the new survey knows."""
    at.backup()
    at.grow("sub/large", new(100))
    surveys: list[int] = []
    survey, ask = Surveyor.survey, BackupLane.ask

    def counted(surveyor: Surveyor) -> Any:
        surveys.append(1)
        return survey(surveyor)

    def replace(function: Any, lane: BackupLane, work: Any) -> None:
        (at.share / "sub/large").rename(at.share / "sub/large.1")
        write(at.share / "sub/large", new(LARGE // 2))
        function(lane, work)

    monkeypatch.setattr(Surveyor, "survey", counted)
    monkeypatch.setattr(BackupLane, "ask", once(replace, ask))
    report = at.backup()
    assert report.complete
    assert len(surveys) == 2
    assert report.received <= LARGE // 2 + 5000
    assert (at.to / "sub/large.1").read_bytes() == (at.share / "sub/large.1").read_bytes()
    assert (at.to / "sub/large").read_bytes() == (at.share / "sub/large").read_bytes()


def test_one_that_is_replaced_again_and_again_is_taken_as_it_is(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    surveys: list[int] = []
    survey, ask = Surveyor.survey, BackupLane.ask

    def counted(surveyor: Surveyor) -> Any:
        surveys.append(1)
        return survey(surveyor)

    def replacing(lane: BackupLane, work: Any) -> None:
        if len(surveys) < 5:
            write(at.share / "other", new(LARGE)).replace(at.share / "sub/large")
        ask(lane, work)

    monkeypatch.setattr(Surveyor, "survey", counted)
    monkeypatch.setattr(BackupLane, "ask", replacing)
    at.backup()
    assert 1 < len(surveys) <= module._SURVEYS
    monkeypatch.undo()
    assert at.backup().complete
    assert not at.differences()


def test_stopping_lets_what_is_planned_be_done(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stops a run that follows has all that was found by then."""
    stop = threading.Event()
    entered, release = threading.Event(), threading.Event()
    answered = BackupLane.answered

    def slowly(lane: BackupLane, *rest: Any) -> int:
        entered.set()
        assert release.wait(PATIENCE)
        return answered(lane, *rest)

    monkeypatch.setattr(BackupLane, "answered", slowly)
    running = Background(lambda: at.backup(follow=True, stop=stop))
    assert entered.wait(PATIENCE)
    stop.set()
    release.set()
    report = running.result()
    assert report.complete
    assert report.new > 0
    assert not list(at.to.rglob("*.partial"))


def test_each_file_that_changes_while_it_is_brought_is_looked_at_again(
    at: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Following: what changes again before the first change is here waits for that."""
    stop = threading.Event()
    entered, release = threading.Event(), threading.Event()
    answered = BackupLane.answered
    at.backup()

    def slowly(lane: BackupLane, *rest: Any) -> int:
        entered.set()
        assert release.wait(PATIENCE)
        return answered(lane, *rest)

    monkeypatch.setattr(BackupLane, "answered", slowly)
    path = write(at.share / "live", b"1", mtime_ns=Path(at.share).stat().st_mtime_ns)
    running = Background(lambda: at.backup(follow=True, stop=stop))
    assert entered.wait(PATIENCE)
    for number in range(5):
        append(path, b"%d" % number)
        overwrite(path, b"x", 0, mtime_ns=path.stat().st_mtime_ns + SECOND)
    release.set()
    wait_until(lambda: (at.to / "live").exists() and (at.to / "live").read_bytes() == b"x01234", PATIENCE)
    stop.set()
    assert running.result().complete
