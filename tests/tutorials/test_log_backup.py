"""The log backup moves what it should, and removes nothing that is not safe here."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pynetwork import Controller, Gateway
from tests.serving import PATIENCE
from tests.tutorials.programs import assert_shown, gateway, interrupt, load, run, started
from tests.waiting import wait_until

BACKUP = load("log_backup", "gateway")
CONTROLLER = load("log_backup", "controller")
DIGEST = load("log_backup", "digest")


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Three logs, the oldest is ``sub/app.log.3``."""
    folder = tmp_path / "logs"
    (folder / "sub").mkdir(parents=True)
    for age, name in enumerate(["app.log.1", "app.log.2", "sub/app.log.3"]):
        (folder / name).write_bytes(os.urandom(100_000 + age))
        os.utime(folder / name, (1_700_000_000 - age, 1_700_000_000 - age))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_as_its_page_says(tmp_path: Path, logs: Path) -> None:
    before = contents(logs)
    with gateway("log_backup", logs, cwd=tmp_path) as (process, port):
        idle = run("log_backup", "controller.py", "--port", port, "--limit", 100, cwd=tmp_path)
        assert idle.returncode == 0, idle.stderr
        assert contents(logs) == before
        moved = run("log_backup", "controller.py", "--port", port, "--limit", 0, cwd=tmp_path)
        assert moved.returncode == 0, moved.stderr
        assert contents(logs) == {}
        (folder,) = (tmp_path / "backup").iterdir()
        assert contents(folder) == before
        assert_shown("log-backup.md", idle.stdout + moved.stdout)
        assert interrupt(process)[0] == 0


def test_no_gateway_is_told_in_one_line(tmp_path: Path) -> None:
    with Gateway(0) as server:
        port = server.port
    ended = run("log_backup", "controller.py", "--port", port, cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("ConnectionLost: no gateway can be reached")
    assert ended.stderr.count("\n") == 1


def test_a_folder_that_can_not_be_is_told_in_one_line(tmp_path: Path, logs: Path) -> None:
    (tmp_path / "backup").touch()
    with gateway("log_backup", logs, cwd=tmp_path) as (_, port):
        ended = run("log_backup", "controller.py", "--port", port, "--limit", 0, cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("NotADirectoryError: ")
    assert ended.stderr.count("\n") == 1
    assert len(contents(logs)) == 3


def test_a_port_that_is_taken_is_told_in_one_line(tmp_path: Path, logs: Path) -> None:
    with Gateway(0) as server:
        ended = run("log_backup", "gateway.py", logs, "--port", server.port, cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("ConfigurationError: ")
    assert ended.stderr.count("\n") == 1


def test_the_oldest_are_chosen_until_it_is_enough() -> None:
    logs = [["c", 10], ["b", 20], ["a", 30]]
    assert CONTROLLER.choose(logs, 0) == []
    assert CONTROLLER.choose(logs, 1) == ["c"]
    assert CONTROLLER.choose(logs, 10) == ["c"]
    assert CONTROLLER.choose(logs, 10.5) == ["c", "b"]
    assert CONTROLLER.choose(logs, 1000) == ["c", "b", "a"]


def test_the_oldest_come_first_and_links_are_no_logs(logs: Path) -> None:
    (logs / "link").symlink_to(logs / "app.log.1")
    assert BACKUP.Logs(logs).oldest_first() == [
        ("sub/app.log.3", 100_002),
        ("app.log.2", 100_001),
        ("app.log.1", 100_000),
    ]


def test_only_what_is_the_same_is_removed(logs: Path) -> None:
    served = BACKUP.Logs(logs)
    digest = DIGEST.digest_of(logs / "app.log.1")
    assert served.remove(["app.log.2", digest]) == "it is not what was copied"
    assert (logs / "app.log.2").exists()
    assert served.remove(["app.log.1", digest]) == "removed"
    assert not (logs / "app.log.1").exists()
    assert served.remove(["app.log.1", digest]) == "it is gone already"


def test_what_can_not_be_removed_is_answered(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    digest = DIGEST.digest_of(logs / "app.log.1")
    monkeypatch.setattr(Path, "unlink", refuse)
    assert BACKUP.Logs(logs).remove(["app.log.1", digest]) == "it can't be removed: Permission denied"


@pytest.mark.parametrize("name", ["../outside", "{outside}", "sub/../app.log.1", "link", "away/outside", ".", ""])
def test_a_path_that_leads_elsewhere_is_refused(tmp_path: Path, logs: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    (logs / "link").symlink_to(outside)
    (logs / "away").symlink_to(tmp_path)
    served = BACKUP.Logs(logs)
    answer = served.remove([name.format(outside=outside), DIGEST.digest_of(outside)])
    assert answer in ("it is none of the logs", "it is gone already")
    assert outside.read_text() == "precious"
    assert len(contents(logs)) == 4  # the link is read through


class Unsteady(BACKUP.Logs):  # type: ignore[misc, name-defined]
    """One log is written to between download and removal; another is listed but never there."""

    def oldest_first(self) -> list[tuple[str, int]]:
        return [("ghost", 1), *super().oldest_first()]

    def remove(self, copied: list[str]) -> Any:
        if copied[0] == "app.log.2":
            with open(self.folder / copied[0], "ab") as file:
                file.write(b"one more line\n")
        return super().remove(copied)


def test_what_is_not_safe_stays_and_is_named(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with BACKUP.make_gateway(Unsteady(logs), 0) as server, Controller(port=server.port).get_swarm(2) as swarm:
        assert not CONTROLLER.back_up(swarm, 0.0, tmp_path / "copy")
    assert set(contents(logs)) == {"app.log.2"}
    output = capsys.readouterr().out
    assert "downloaded 3 of 4 logs" in output
    assert "not downloaded: ghost: " in output
    assert "removed 2 of 3 logs" in output
    assert "not removed: app.log.2: it is not what was copied" in output


@pytest.fixture
def stuck() -> Iterator[tuple[Gateway, threading.Event]]:
    """A gateway that thinks about its disk for as long as the test runs; the event tells that it was asked."""
    asked, over = threading.Event(), threading.Event()

    def disk_usage() -> dict[str, int]:
        asked.set()
        over.wait(PATIENCE)
        return {"total": 1, "used": 1}

    with Gateway(0) as server:
        server.add_subroutine("disk_usage", disk_usage)
        yield server, asked
        over.set()


def test_ctrl_c_ends_the_controller(tmp_path: Path, stuck: tuple[Gateway, threading.Event]) -> None:
    server, asked = stuck
    with started("log_backup", "controller.py", "--port", server.port, cwd=tmp_path) as process:
        wait_until(asked.is_set, PATIENCE)
        code, output, _ = interrupt(process)
    assert (code, output) == (130, "")
