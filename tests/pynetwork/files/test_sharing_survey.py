from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.errors import BadRequest, NotFound
from handshakes.survey import End, FileRow, FolderRow, GoneRow, Row, read_rows
from handshakes.transfer import PAGE_WINDOW, Code
from pynetwork.client import CallerOperation, Client
from pynetwork.files import sharing
from pynetwork.gateway import Gateway
from tests.pynetwork.files.surveys import facts, names, settle, write
from tests.serving import PATIENCE, controller_of, paired
from tests.waiting import wait_until

QUICK = 0.02


@pytest.fixture
def share(tmp_path: Path) -> Path:
    path = tmp_path / "share"
    path.mkdir()
    return path


@pytest.fixture
def pair(tmp_path: Path, share: Path) -> Iterator[tuple[Gateway, Client]]:
    with paired(share={"logs": share, "gone": tmp_path / "gone"}, download_dir=tmp_path / "uploads") as both:
        yield both


@pytest.fixture
def client(pair: tuple[Gateway, Client]) -> Client:
    return pair[1]


def take(operation: CallerOperation) -> list[Row]:
    """The rows of the next page, which is asked to be followed by another."""
    message = operation.receive(PATIENCE)
    assert message is not None
    assert message.code == Code.PAGE
    operation.send(Code.MORE)
    return list(read_rows(message.body))


def take_round(operation: CallerOperation) -> list[Row]:
    rows: list[Row] = []
    while not rows or not isinstance(rows[-1], End):
        rows += take(operation)
    return rows


def await_change(operation: CallerOperation) -> list[Row]:
    """The rows of the next round in which anything has changed."""
    return wait_until(lambda: rows if len(rows := take_round(operation)) > 1 else None, PATIENCE, "a change")


@pytest.fixture
def long_survey(share: Path) -> int:
    """Files for many pages; how many."""
    for number in range(20):
        (share / f"{number:02}").mkdir()
        for name in range(100):
            os.close(os.open(share / f"{number:02}" / ("f" * 200 + f"{name}"), os.O_CREAT))
    return 2000


def test_all_rows_come_and_it_ends(client: Client, share: Path) -> None:
    write(share / "sub" / "CON", b"12345")
    write(share / "a.log")
    with client.open("files.survey", "logs") as operation:
        rows = take_round(operation)
        assert operation.result(PATIENCE) is None
    assert names(rows) == [b"", b"a.log", b"sub", b"CON"]
    assert rows[-1] == End(2, 2)
    assert rows[3] == FileRow(b"CON", facts(share / "sub" / "CON").encode())
    with client.open("files.survey", "logs", None) as operation:
        assert names(take_round(operation)) == names(rows)


def test_a_survey_of_a_share_that_is_not_there(client: Client) -> None:
    with pytest.raises(NotFound, match="no folder 'data'"):
        client.request("files.survey", "data")
    with pytest.raises(NotFound, match="can't be opened: it is not there"):
        client.request("files.survey", "gone")


def test_a_gateway_does_not_run_ahead_of_who_reads_a_survey(client: Client, long_survey: int) -> None:
    with client.open("files.survey", "logs") as operation:
        pages = [operation.receive(PATIENCE) for _ in range(PAGE_WINDOW)]
        assert not operation.ready()
        operation.send(Code.MORE)
        pages.append(operation.receive(PATIENCE))
        assert not operation.ready()
        operation.send(Code.MORE)
        while (message := operation.receive(PATIENCE)) is not None:
            pages.append(message)
            operation.send(Code.MORE)
    bodies = [bytes(page.body) for page in pages if page is not None]
    rows = list(read_rows(b"".join(bodies)))
    assert sum(isinstance(row, FileRow) for row in rows) == long_survey
    assert rows[-1] == End(long_survey, 21)
    assert max(map(len, bodies)) < 300_000


def test_a_folder_is_followed(client: Client, share: Path) -> None:
    write(share / "log", b"begin")
    write(share / "old" / "file")
    settle(share)
    with client.open("files.survey", "logs", QUICK) as operation:
        assert names(take_round(operation)) == [b"", b"log", b"old", b"file"]
        write(share / "new" / "file")
        rows = await_change(operation)
        assert b"new" in names(rows)
        shutil.rmtree(share / "old")
        rows = await_change(operation)
        while not any(isinstance(row, GoneRow) for row in rows):
            rows = await_change(operation)
        assert GoneRow(b"old") in rows
        os.utime(share / "log")
        with (share / "log").open("ab") as file:
            file.write(b"more")
        os.utime(share)
        expected = FileRow(b"log", facts(share / "log").encode())
        while expected not in rows:
            rows = await_change(operation)
        operation.send(Code.FINISH)
        assert ended(operation)


def ended(operation: CallerOperation) -> bool:
    """Whether it ends with its result; pages that were on their way come before."""
    while (message := operation.receive(PATIENCE)) is not None:
        assert message.code == Code.PAGE
    return True


def test_rounds_wait_for_who_reads_them(client: Client, share: Path) -> None:
    with client.open("files.survey", "logs", QUICK) as operation:
        for _ in range(PAGE_WINDOW):
            message = operation.receive(PATIENCE)
            assert message is not None
        with pytest.raises(TimeoutError):
            operation.receive(10 * QUICK)
        for _ in range(PAGE_WINDOW):
            operation.send(Code.MORE)
        assert take_round(operation) == [End(0, 0)]
        operation.send(Code.FINISH)
        assert ended(operation)


def test_who_follows_may_just_leave(pair: tuple[Gateway, Client], share: Path) -> None:
    gateway, client = pair
    with client.open("files.survey", "logs", QUICK) as operation:
        take_round(operation)
    assert client.request("files.shares") == ["logs", "gone"]
    other = controller_of(gateway).get_client()
    other.open("files.survey", "logs", QUICK)
    wait_until(lambda: any(each["running"] == "files.survey" for each in gateway.stats()["handlers"]))
    other.link.stream.shutdown()
    wait_until(lambda: len(gateway.stats()["handlers"]) == 1, what="the handler to notice")
    other.close()


def test_a_shared_folder_that_goes_away_ends_the_survey(client: Client, share: Path) -> None:
    with client.open("files.survey", "logs", QUICK) as operation:
        take_round(operation)
        shutil.rmtree(share)
        with pytest.raises(NotFound, match="can't be surveyed any more"):
            wait_until(lambda: take_round(operation) and False, PATIENCE)


@pytest.mark.parametrize("interval", ["fast", [1], {}, b"1", 0, -1, 0.019, 30.1, 1 << 60, float("nan"), float("inf")])
def test_nobody_is_followed_all_the_time(client: Client, interval: float) -> None:
    with pytest.raises(BadRequest, match=r"every 0.02 to 30.0 seconds"):
        client.request("files.survey", "logs", interval)


@pytest.mark.parametrize("code", [Code.NAMES, Code.PAGE, 99])
@pytest.mark.parametrize("interval", [None, QUICK])
def test_a_message_out_of_place_ends_the_pair(
    client: Client, long_survey: int, code: int, interval: float | None
) -> None:
    with client.open("files.survey", "logs", interval) as operation:
        operation.send(code)
        for _ in range(PAGE_WINDOW):
            operation.receive(PATIENCE)
        with pytest.raises(BadRequest, match="something else than MORE"):
            operation.receive(PATIENCE)


def test_a_message_out_of_place_between_rounds_ends_the_pair(client: Client) -> None:
    with client.open("files.survey", "logs", 30.0) as operation:
        take_round(operation)
        operation.send(Code.NAMES)
        with pytest.raises(BadRequest, match="something else than MORE"):
            operation.receive(PATIENCE)


def test_finish_ends_a_pause_at_once(client: Client) -> None:
    with client.open("files.survey", "logs", 30.0) as operation:
        take_round(operation)
        operation.send(Code.FINISH)
        assert ended(operation)


@pytest.mark.parametrize("interval", [None, QUICK])
def test_finish_ends_a_survey_before_its_end(client: Client, long_survey: int, interval: float | None) -> None:
    with client.open("files.survey", "logs", interval) as operation:
        for _ in range(PAGE_WINDOW):
            assert operation.receive(PATIENCE) is not None
        operation.send(Code.FINISH)
        assert operation.result(PATIENCE) is None


def test_nobody_asks_for_more_pages_than_came(client: Client) -> None:
    with client.open("files.survey", "logs", 30.0) as operation:
        take_round(operation)
        operation.send(Code.MORE)
        with pytest.raises(BadRequest, match="than were sent"):
            operation.receive(PATIENCE)


def test_a_survey_that_is_broken_off_leaves_no_folder_open(
    pair: tuple[Gateway, Client], long_survey: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever keeps the error, as some loggers do, keeps the frames that it passed."""
    kept: list[BaseException] = []
    original = sharing._Window._take

    def take(self: Any, message: Any) -> bool:
        try:
            return original(self, message)
        except BaseException as error:
            kept.append(error)
            raise

    monkeypatch.setattr(sharing._Window, "_take", take)
    gateway, client = pair
    before = open_folders()
    with client.open("files.survey", "logs") as operation:
        operation.send(Code.NAMES)
        for _ in range(PAGE_WINDOW):
            operation.receive(PATIENCE)
        with pytest.raises(BadRequest):
            operation.receive(PATIENCE)
    wait_until(lambda: gateway.stats()["handlers"] == [], what="the handler to end")
    assert kept
    assert open_folders() == before


def open_folders() -> int:
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.path.isdir(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return found


def test_the_rows_of_a_folder_follow_it(client: Client, long_survey: int) -> None:
    with client.open("files.survey", "logs") as operation:
        rows = take_round(operation)
    folder, last = b"", b""
    for row in rows:
        if isinstance(row, FolderRow):
            folder, last = row.path, b""
        elif isinstance(row, FileRow):
            assert folder
            assert row.name > last
            last = row.name
