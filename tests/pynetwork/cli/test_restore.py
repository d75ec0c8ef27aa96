from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pynetwork.backup.lock import DestinationLock
from pynetwork.controller import Controller
from pynetwork.gateway import Gateway
from tests.pynetwork.backup.mirroring import seen, write
from tests.pynetwork.cli.commands import Commands, address, process
from tests.serving import KEY, PATIENCE, serving
from tests.waiting import wait_until


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    share = tmp_path / "share"
    write(share / "app.log", b"line\n" * 100)
    write(share / "nginx/access.log", b"line\n" * 10)
    write(share / "nginx/large.log", os.urandom(2_000_000))
    with serving(share={"logs": share}, download_dir=tmp_path / "in") as served:
        yield served


@pytest.fixture
def mirror(gateway: Gateway, tmp_path: Path) -> Path:
    Controller(port=gateway.port).backup("logs", tmp_path / "mirror", progress=False, durable=False)
    return tmp_path / "mirror"


def test_a_backup_is_brought_to_a_gateway(command: Commands, gateway: Gateway, mirror: Path, tmp_path: Path) -> None:
    target = f"{address(gateway)}:new"
    outcome = command("restore", mirror, target)
    assert outcome.code == 0
    assert outcome.out.startswith("restored 3 files of 2 MB: 3 new, 0 unchanged; 2 MB went in ")
    assert outcome.err == ""
    assert seen(tmp_path / "in/new") == seen(tmp_path / "share")
    outcome = command("restore", mirror, target, "--json", "--lanes", 1, "--limit", "8M", "--checksum", "--not-durable")
    assert (outcome.code, outcome.object("summary")["unchanged"], outcome.object("summary")["sent"]) == (0, 3, 0)
    assert command("restore", mirror, f"{address(gateway)}:.", "--high-priority").code == 0
    assert (tmp_path / "in/app.log").read_bytes() == b"line\n" * 100


def test_only_what_is_chosen(command: Commands, gateway: Gateway, mirror: Path, tmp_path: Path) -> None:
    target = f"{address(gateway)}:new"
    assert command("restore", mirror, target, "--glob", "nginx/*", "--pattern", r".*access.*").code == 0
    assert [path.name for path in (tmp_path / "in/new").rglob("*.log")] == ["access.log"]
    assert command("restore", mirror, target, "--glob", "none").code == 9
    (tmp_path / "share/app.log").unlink()
    Controller(port=gateway.port).backup("logs", mirror, progress=False, durable=False)
    assert command("restore", mirror, target, "--json").object("summary")["files"] == 2
    assert command("restore", mirror, target, "--json", "--include-gone").object("summary")["files"] == 3


def test_a_dry_run_tells_what_would_be_done(command: Commands, gateway: Gateway, mirror: Path, tmp_path: Path) -> None:
    target = f"{address(gateway)}:new"
    command("restore", mirror, target, "--glob", "app.log")
    outcome = command("restore", mirror, target, "--dry-run")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert sorted(lines[:2]) == ["would restore nginx/access.log", "would restore nginx/large.log"]
    assert lines[2:] == ["would restore 2 of 3 files of 2 MB: 2 new, 1 unchanged"]
    outcome = command("restore", mirror, target, "--dry-run", "--json")
    assert [each["message_type"] for each in outcome.objects()] == ["would_restore"] * 2 + ["summary"]
    assert outcome.object("summary")["dry_run"] is True
    assert not (tmp_path / "in/new/nginx").exists()


def test_what_is_left_out_is_told(command: Commands, gateway: Gateway, tmp_path: Path) -> None:
    write(tmp_path / "source/file", b"x")
    (tmp_path / "source/out").symlink_to("/etc/passwd")
    target = f"{address(gateway)}:new"
    outcome = command("restore", tmp_path / "source", target)
    assert outcome.code == 0
    assert outcome.err == "pynetwork: skipped out: symbolic link that leads out of the folder\n"
    (tmp_path / "in/new/file").unlink()
    (tmp_path / "in/new/file").mkdir()
    outcome = command("restore", tmp_path / "source", target, "--json")
    assert outcome.code == 1
    skipped = [each for each in outcome.objects() if each["message_type"] == "skipped"]
    assert [(each["path"], each["reason"]) for each in skipped] == [
        ("file", "folder"),
        ("out", "symbolic link that leads out of the folder"),
    ]


def test_what_goes_wrong(command: Commands, gateway: Gateway, mirror: Path, tmp_path: Path) -> None:
    target = f"{address(gateway)}:new"
    outcome = command("restore", tmp_path / "none", target)
    assert (outcome.code, "there is no folder" in outcome.err) == (4, True)
    assert command("restore", mirror, f"{address(gateway)}:../out").code == 2
    assert command("restore", mirror, target, "--pattern", "(").code == 2
    assert command("restore", mirror, target, "--dry-run", "--checksum").code == 2
    assert command("restore", mirror, "127.0.0.1").code == 2
    with DestinationLock(mirror, "backup"):
        outcome = command("restore", mirror, target)
    assert (outcome.code, "it is held by a backup" in outcome.err) == (5, True)
    (mirror / ".pynetwork/catalogue.sqlite").write_bytes(b"nothing of the kind" * 300)
    outcome = command("restore", mirror, target)
    assert (outcome.code, "those that had gone" in outcome.err) == (1, True)
    assert command("restore", mirror, target, "--include-gone").code == 0


def test_without_the_right(command: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "source/file", b"x")
    monkeypatch.setenv("PYNETWORK_KEY", KEY)
    with serving(download_dir=tmp_path / "in", key={KEY: "read"}) as gateway:
        assert command("restore", tmp_path / "source", f"{address(gateway)}:new").code == 7


def test_it_can_be_interrupted_and_goes_on(command: Commands, gateway: Gateway, tmp_path: Path) -> None:
    write(tmp_path / "source/large", os.urandom(20 << 20))
    target = f"{address(gateway)}:new"
    partial = tmp_path / "in/new/.large.partial"
    with process("restore", tmp_path / "source", target, "--limit", "8M", "--lanes", 1, "--not-durable") as started:
        wait_until(lambda: partial.exists() and partial.stat().st_blocks * 512 > 4 << 20, PATIENCE)
        started.send_signal(signal.SIGINT)
        _, err = started.communicate(timeout=PATIENCE)
        assert started.returncode == 130
    assert "the next restore goes on from here" in err
    wait_until(lambda: not gateway._pool.handlers(), PATIENCE)
    outcome = command("restore", tmp_path / "source", target, "--json")
    assert outcome.code == 0
    assert outcome.object("summary")["sent"] <= 16 << 20
    assert (tmp_path / "in/new/large").read_bytes() == (tmp_path / "source/large").read_bytes()
