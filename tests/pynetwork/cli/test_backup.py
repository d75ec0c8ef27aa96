from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from pynetwork.backup import runs
from pynetwork.backup.lock import DestinationLock
from pynetwork.gateway import Gateway
from tests.pynetwork.backup.mirroring import LARGE, STAMP, append, contents, lines, new, wait_for, write
from tests.pynetwork.cli.commands import Commands, address, process
from tests.serving import KEY, serving
from tests.waiting import wait_until


@pytest.fixture
def share(tmp_path: Path) -> Path:
    shared = tmp_path / "shared"
    write(shared / "a.log", lines(20))
    write(shared / "sub/b.log", new(LARGE))
    write(shared / "sub/c.txt", b"hello")
    return shared


@pytest.fixture
def gateway(share: Path) -> Iterator[Gateway]:
    with serving(share={"logs": share}) as serving_gateway:
        yield serving_gateway


@pytest.fixture
def source(gateway: Gateway) -> str:
    return f"{address(gateway)}:logs"


def test_a_backup_and_another(command: Commands, source: str, share: Path, tmp_path: Path) -> None:
    first = command("backup", source, tmp_path / "to")
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith("backed up 3 files of 3.16 MB: 3 new, 0 unchanged; 3.16 MB came in ")
    assert contents(tmp_path / "to") == contents(share)
    append(share / "a.log", b"more\n")
    append(share / "sub/b.log", b"more\n")
    (share / "sub/c.txt").rename(share / "d.txt")
    second = command("backup", source, tmp_path / "to")
    assert second.out.startswith("backed up 3 files of 3.16 MB: 2 grown, 1 moved, 0 unchanged, 1 gone at the source; ")
    third = command("backup", source, tmp_path / "to", "--mirror-deletes")
    assert ": 3 unchanged, 1 removed here; 0 B came in " in third.out
    assert contents(tmp_path / "to") == contents(share)


def test_as_json(command: Commands, source: str, share: Path, tmp_path: Path) -> None:
    write(share / "100%41", b"x")
    os.mkfifo(share / "pipe")
    outcome = command("backup", source, tmp_path / "to", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.object("skipped") == {"message_type": "skipped", "path": "pipe", "reason": "named pipe"}
    assert outcome.object("escaped") == {"message_type": "escaped", "path": "100%41", "place": "100%2541"}
    summary = outcome.object("summary")
    assert (summary["files"], summary["new"], summary["skipped"], summary["escaped"]) == (4, 4, 1, 1)
    assert summary["received"] >= LARGE
    again = command("backup", source, tmp_path / "to", "--json").object("summary")
    assert (again["unchanged"], again["received"], again["run"]) == (4, 0, 2)


def test_choosing(command: Commands, source: str, share: Path, tmp_path: Path) -> None:
    os.utime(share / "a.log")
    for number, (options, expected) in enumerate(
        [
            (["--glob", "*.log"], ["a.log", "sub/b.log"]),
            (["--pattern", "sub/.+"], ["sub/b.log", "sub/c.txt"]),
            (["--min-size", "1k"], ["a.log", "sub/b.log"][(share / "a.log").stat().st_size < 1000 :]),
            (["--max-size", "2M"], ["a.log", "sub/c.txt"]),
            (["--changed-within", "1h"], ["a.log"]),
            (["--changed-before", "1h", "--glob", "sub*"], ["sub/b.log", "sub/c.txt"]),
        ]
    ):
        assert command("backup", source, tmp_path / f"to{number}", *options).code == 0
        assert sorted(contents(tmp_path / f"to{number}")) == expected


def test_other_ways(command: Commands, source: str, share: Path, tmp_path: Path) -> None:
    to = tmp_path / "to"
    options = ["--not-durable", "--no-compress", "--high-priority", "--lanes", 1, "--limit", "100M", "--owner"]
    assert command("backup", source, to, *options).code == 0
    write(share / "a.log", (share / "a.log").read_bytes()[:-1] + b"!", mtime_ns=STAMP)
    assert "3 unchanged" in command("backup", source, to, "--low-priority").out
    assert "1 changed" in command("backup", source, to, "--checksum").out
    assert contents(to) == contents(share)


def test_what_goes_wrong(command: Commands, source: str, gateway: Gateway, tmp_path: Path) -> None:
    to = tmp_path / "to"
    for words, code in [
        (["backup", "nowhere", to], 2),
        (["backup", source], 2),
        (["backup", source, to, "--limit", "0"], 2),
        (["backup", source, to, "--lanes", "0"], 2),
        (["backup", source, to, "--pattern", "("], 2),
        (["backup", source, to, "--min-size", "much"], 2),
        (["backup", source, to, "--changed-within", "soon"], 2),
        (["backup", source, to, "--delete-after-verify"], 2),
        (["backup", source, to, "--low-priority", "--high-priority"], 2),
        (["backup", f"{address(gateway)}:nope", to], 3),
        (["backup", "127.0.0.1:1:logs", to, "--timeout", "1"], 5),
    ]:
        outcome = command(*words)
        assert outcome.code == code, (words, outcome.err)
        assert outcome.err
    (tmp_path / "file").touch()
    assert command("backup", source, tmp_path / "file").code == 1
    with DestinationLock(to, "prune"):
        busy = command("backup", source, to)
    assert busy.code == 5
    assert "held by a prune since " in busy.err


def test_what_is_skipped_is_said(command: Commands, source: str, share: Path, tmp_path: Path) -> None:
    (share / "out").symlink_to("/etc/passwd")
    outcome = command("backup", source, tmp_path / "to")
    assert outcome.code == 0
    assert "skipped out: symbolic link that leads out of the folder" in outcome.err
    (tmp_path / "to/sub").rename(tmp_path / "to/elsewhere")
    (tmp_path / "to/sub").symlink_to("elsewhere")
    (share / "sub").rename(share / "sub2")
    (share / "sub2/c.txt").rename(share / "sub")
    (tmp_path / "to/sub").unlink()
    (tmp_path / "to/sub/mine").mkdir(parents=True)
    blocked = command("backup", source, tmp_path / "to")
    assert blocked.code == 1
    assert "skipped sub: a folder that was backed up has its name here" in blocked.err


def test_a_damaged_catalogue_is_told(command: Commands, source: str, tmp_path: Path) -> None:
    to = tmp_path / "to"
    assert command("backup", source, to).code == 0
    (to / ".pynetwork/catalogue.sqlite").write_bytes(b"junk")
    outcome = command("backup", source, to)
    assert outcome.code == 0
    assert "the catalogue was damaged: it is " in outcome.err
    assert "3 unchanged" in outcome.out
    connection = sqlite3.connect(to / ".pynetwork/catalogue.sqlite")
    connection.execute("PRAGMA user_version=99")
    connection.close()
    later = command("backup", source, to)
    assert later.code == 1
    assert "later version of pynetwork" in later.err


# Removing


def test_removing_what_is_backed_up(command: Commands, share: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)
    os.utime(share / "a.log")
    with serving(share={"logs": share}, key={KEY: "read, remove"}) as gateway:
        words = ["backup", f"{address(gateway)}:logs", tmp_path / "to", "--key-file", tmp_path / "key"]
        words += ["--delete-after-verify", "--older-than", "7d"]
        shown = command(*words)
        assert shown.code == 0
        assert "would remove sub/b.log\nwould remove sub/c.txt\n" in shown.out
        assert "2 files of 3.16 MB would be removed; run it again to remove them" in shown.out
        assert len(contents(share)) == 3
        again = command(*words, "--dry-run", "--json")
        assert [each["path"] for each in again.objects() if each["message_type"] == "would_remove"] == [
            "sub/b.log", "sub/c.txt",
        ]  # fmt: skip
        assert again.object("pruned")["dry_run"] is True
        done = command(*words, "--json")
        assert done.code == 0
        assert {each["path"] for each in done.objects() if each["message_type"] == "removed"} == {
            "sub/b.log", "sub/c.txt",
        }  # fmt: skip
        assert list(contents(share)) == ["a.log"]
        assert "nothing" not in command(*words, "--mirror-deletes").out
    assert len(contents(tmp_path / "to")) == 3


def test_what_is_kept_is_an_error(
    command: Commands, share: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pynetwork.cli import backup as module  # noqa: PLC0415

    prune = module.prune_share

    def growing(*arguments: object, **options: object) -> object:
        append(share / "sub/c.txt", b"more")
        return prune(*arguments, **options)  # type: ignore[arg-type]

    with serving(share={"logs": share}, key={KEY: "read, remove"}) as gateway:
        monkeypatch.setenv("PYNETWORK_KEY", KEY)
        words = ["backup", f"{address(gateway)}:logs", tmp_path / "to", "--delete-after-verify", "--older-than", "1d"]
        command(*words)
        monkeypatch.setattr(module, "prune_share", growing)
        outcome = command(*words)
    assert outcome.code == 1
    assert "kept sub/c.txt: it has changed since it was backed up" in outcome.out
    assert "removed 2 files" in outcome.out


def test_without_the_right_to_remove(command: Commands, source: str, share: Path, tmp_path: Path) -> None:
    outcome = command("backup", source, tmp_path / "to", "--delete-after-verify", "--older-than", "1d")
    assert outcome.code == 7
    assert "remove" in outcome.err
    assert len(contents(tmp_path / "to")) == len(contents(share)) == 3


# Following


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_following_until_a_signal(source: str, share: Path, tmp_path: Path, number: int) -> None:
    to = tmp_path / "to"
    with process("backup", source, to, "--follow", "--json") as running:
        wait_for(to / "sub/c.txt", b"hello")
        write(share / "new.log", b"1", mtime_ns=(share / "a.log").stat().st_ctime_ns)
        wait_for(to / "new.log", b"1")
        append(share / "new.log", b"2")
        wait_for(to / "new.log", b"12")
        running.send_signal(number)
        out, err = running.communicate(timeout=20)
    assert (running.returncode, err) == (0, "")
    summary = json.loads(out.splitlines()[-1])
    assert summary["message_type"] == "summary"
    assert runs(to)[-1].outcome == "complete"


def test_ctrl_c(source: str, share: Path, tmp_path: Path) -> None:
    to = tmp_path / "to"
    write(share / "huge", new(20 << 20))
    with process("backup", source, to, "--limit", "4M", "--lanes", "1") as running:
        wait_until(lambda: list(to.glob(".huge.partial")), 20)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=20)
    assert (running.returncode, out) == (130, "")
    assert "what has arrived is kept" in err
    assert runs(to)[-1].outcome == "interrupted"
