from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pynetwork.cli.commands import Commands, address
from tests.serving import KEY, serving


def imu(rate: int = 10) -> Iterator[int]:
    """Read it.

    At length.
    """
    yield rate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shared = tmp_path / "shared"
    (shared / "sub").mkdir(parents=True)
    (shared / "a.log").write_bytes(b"x" * 1500)
    (shared / "sub" / "b.txt").write_bytes(b"")
    return shared


def test_offers(command: Commands, folder: Path) -> None:
    with serving(imu, share={"logs": folder, str(folder): folder}) as gateway:
        lines = command("ls", address(gateway)).out.splitlines()
        assert "  imu(rate: 'int' = 10)  stream  Read it." in "\n".join(lines).replace(" -> 'Iterator[int]'", "")
        assert "  logs" in lines
        assert f"  {folder}" in lines
        outcome = command("ls", address(gateway), "--json")
        assert outcome.object("gateway")["rights"] == ["call", "stream", "read", "write", "stats"]
        assert outcome.object("subroutine")["name"] == "imu"
        assert [each["name"] for each in outcome.objects() if each["message_type"] == "share"] == ["logs", str(folder)]


def test_files(command: Commands, folder: Path) -> None:
    with serving(share=[folder]) as gateway:
        outcome = command("ls", address(gateway), folder)
        assert (outcome.code, outcome.err) == (0, "")
        assert [line.split()[-1] for line in outcome.out.splitlines()] == ["a.log", "sub/b.txt"]
        assert outcome.out.startswith("  1.5 kB  ")
        found = command("ls", address(gateway), folder, "--json", "--pattern", r".+\.log").object("file")
        assert (found["path"], found["size"]) == ("a.log", 1500)


def test_a_long_list_comes_in_pages(command: Commands, folder: Path) -> None:
    for number in range(6000):
        (folder / f"{number:06}{'x' * 80}").touch()
    with serving(share={"many": folder}) as gateway:
        assert len(command("ls", address(gateway), "many").out.splitlines()) == 6002


def test_what_can_not_be_listed(command: Commands, folder: Path) -> None:
    with serving(share={"logs": folder}) as gateway:
        assert command("ls", address(gateway), "nope").code == 3
        assert command("ls", address(gateway), "logs", "--pattern", "(").code == 2
        assert command("ls", address(gateway), "--pattern", "x").code == 2


def test_links_and_strange_names(command: Commands, folder: Path) -> None:
    (folder / "out").symlink_to("/etc/passwd")
    (folder / "esc\x1b[2J").touch()
    with serving(share={"logs": folder}) as gateway:
        outcome = command("ls", address(gateway), "logs")
        assert "\x1b" not in outcome.out + outcome.err
        assert "symbolic link" in outcome.err
        told = command("ls", address(gateway), "logs", "--json").objects()
        assert {"message_type": "unreadable", "path": "out", "reason": "symbolic link"} in told


def test_a_key_without_the_right_to_read(command: Commands, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYNETWORK_KEY", KEY)
    with serving(imu, share={"logs": folder}, key={KEY: "stream"}) as gateway:
        outcome = command("ls", address(gateway))
        assert "logs" not in outcome.out
        assert "you may: stream" in outcome.out
        assert command("ls", address(gateway), "logs").code == 7
