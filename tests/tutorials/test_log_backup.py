"""The log backup brings what is new, goes on after an interruption, and lets go of nothing that is not safe here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pynetwork import Controller, Gateway
from tests.serving import PATIENCE
from tests.tutorials.programs import assert_shown, gateway, interrupt, load, run, started
from tests.waiting import wait_until

BACKUP = load("log_backup", "gateway")
CONTROLLER = load("log_backup", "controller")
LONG_AGO = 1_700_000_000
CHUNK = 1 << 20


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A large log that was not written to for long."""
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "old.log").write_bytes(os.urandom(6 * CHUNK))
    os.utime(folder / "old.log", (LONG_AGO, LONG_AGO))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """What the files of a folder hold; the backup's own are left out."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".pynetwork" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def chunks_in(partial: Path, whole: bytes) -> int:
    """How many chunks of a file are in its partial file."""
    found = partial.read_bytes() if partial.exists() else b""
    return sum(found[at : at + CHUNK] == whole[at : at + CHUNK] for at in range(0, len(found), CHUNK))


def received(output: str) -> float:
    """The bytes that came, as the controller tells it."""
    return 1e6 * float(output.partition("; ")[2].partition(" MB")[0])


def damage(file: Path) -> None:
    """Let a byte in the middle be another one."""
    content = bytearray(file.read_bytes())
    content[1_000_000] ^= 1
    file.write_bytes(content)


def verify(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command that the page shows."""
    command = [sys.executable, "-m", "pynetwork", "verify", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def controlled(port: int, *arguments: object, cwd: Path) -> str:
    """Run the controller, which must succeed; answers what it printed."""
    ended = run("log_backup", "controller.py", "--port", port, *arguments, cwd=cwd)
    assert ended.returncode == 0, ended.stderr
    assert_shown("log-backup.md", ended.stdout)
    return ended.stdout


def test_what_an_interrupted_backup_brought_does_not_come_again(tmp_path: Path, logs: Path) -> None:
    partial, whole = tmp_path / "backup" / ".old.log.partial", (logs / "old.log").read_bytes()
    with gateway("log_backup", logs, cwd=tmp_path) as (server, port):
        with started("log_backup", "controller.py", "--port", port, "--limit", 1, cwd=tmp_path) as process:
            wait_until(lambda: chunks_in(partial, whole) >= 2, PATIENCE)
            code, output, _ = interrupt(process)
        assert code == 130
        assert_shown("log-backup.md", output)
        assert received(controlled(port, cwd=tmp_path)) < len(whole) - 1.9 * CHUNK
        assert contents(tmp_path / "backup") == contents(logs)
        assert interrupt(server)[0] == 0


def test_what_the_station_adds_and_renames_comes_once(tmp_path: Path, logs: Path) -> None:
    log = logs / "station.log"

    def lines() -> int:
        return log.read_bytes().count(b"\n") if log.exists() else 0

    def more_lines() -> Callable[[], bool]:
        before = lines()
        return lambda: lines() > before

    with gateway("log_backup", logs, cwd=tmp_path) as (_, port):
        with started("log_backup", "station.py", logs, "--rotate", 3600, cwd=tmp_path) as station:
            wait_until(more_lines(), PATIENCE)
            assert " 2 new, " in controlled(port, cwd=tmp_path)
            wait_until(more_lines(), PATIENCE)
            grown = controlled(port, cwd=tmp_path)
            assert interrupt(station)[0] == 0
        assert " 0 new, 1 grown, " in grown
        assert received(grown) < CHUNK
        controlled(port, cwd=tmp_path)
        log.rename(logs / "station.log.2026-11-21_12-00-00")
        log.write_text("the first line of a new log\n")
        renamed = controlled(port, cwd=tmp_path)
        assert " 1 renamed, 1 changed, 1 unchanged" in renamed
        assert contents(tmp_path / "backup") == contents(logs)


def test_the_station_begins_a_new_file(tmp_path: Path) -> None:
    with started("log_backup", "station.py", "logs", "--rotate", 1, cwd=tmp_path) as station:
        wait_until(lambda: len(list(tmp_path.glob("logs/station.log.*"))) >= 1, PATIENCE)
        assert interrupt(station)[0] == 0


def test_damage_is_found_and_mended(tmp_path: Path, logs: Path) -> None:
    with gateway("log_backup", logs, cwd=tmp_path) as (_, port):
        controlled(port, cwd=tmp_path)
        checks = [verify("backup", cwd=tmp_path)]
        damage(tmp_path / "backup" / "old.log")
        checks += [verify("backup", cwd=tmp_path), verify("backup", "--repair", cwd=tmp_path)]
    assert [check.returncode for check in checks] == [0, 1, 0], checks
    assert contents(tmp_path / "backup") == contents(logs)
    printed = "".join(each.stdout for each in checks)
    # One file is read here, three on the page.
    assert_shown("log-backup.md", re.sub(r"^1 file of", "3 files of", printed, flags=re.MULTILINE))


def test_what_is_backed_up_makes_room(tmp_path: Path, logs: Path) -> None:
    (logs / "new.log").write_text("a line of now\n")
    before = contents(logs)
    with gateway("log_backup", logs, cwd=tmp_path) as (_, port):
        controlled(port, "--full", 100, cwd=tmp_path)
        assert "1 logs of 6.3 MB would be removed" in controlled(port, "--full", 0, cwd=tmp_path)
        assert contents(logs) == before
        assert "1 logs of 6.3 MB were removed" in controlled(port, "--full", 0, cwd=tmp_path)
        assert set(contents(logs)) == {"new.log"}
        controlled(port, cwd=tmp_path)
    assert contents(tmp_path / "backup") == before


def test_what_is_not_safe_stays_and_is_named(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy"
    with BACKUP.make_gateway(logs, 0) as server:
        controller = Controller(port=server.port)
        assert CONTROLLER.back_up(controller, copy, None)
        assert CONTROLLER.make_room(controller, copy, -1, 0)
        damage(copy / "old.log")
        assert not CONTROLLER.make_room(controller, copy, -1, 0)
    assert (logs / "old.log").exists()
    output = capsys.readouterr().out
    assert "0 logs of 0.0 MB were removed from there" in output
    assert "  not removed: old.log: " in output


def test_without_the_right_nothing_is_removed(logs: Path, tmp_path: Path) -> None:
    with Gateway(0, share={"logs": logs}) as server:
        server.add_subroutine("disk_usage", lambda: 50.0)
        ended = run("log_backup", "controller.py", "--port", server.port, "--full", 0, cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("Forbidden: ")
    assert (logs / "old.log").exists()


def test_what_can_not_be_read_is_named(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(logs / "pipe")
    with BACKUP.make_gateway(logs, 0) as server:
        # What is no file is not missed, but told.
        assert CONTROLLER.back_up(Controller(port=server.port), tmp_path / "copy", None)
    assert "  not backed up: pipe: named pipe" in capsys.readouterr().out


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
        ended = run("log_backup", "controller.py", "--port", port, cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("NotADirectoryError: ")
    assert ended.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_told_in_one_line(tmp_path: Path, logs: Path) -> None:
    with Gateway(0) as server:
        ended = run("log_backup", "gateway.py", logs, "--port", server.port, cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("ConfigurationError: ")
    assert ended.stderr.count("\n") == 1
