from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.pynetwork.cli.commands import Commands, address
from tests.serving import serving


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shared = tmp_path / "shared"
    (shared / "sub").mkdir(parents=True)
    (shared / "a.log").write_bytes(b"x" * 3_000_000)
    (shared / "sub" / "b.txt").write_bytes(b"hello")
    return shared


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_whole_share(command: Commands, folder: Path, tmp_path: Path) -> None:
    with serving(share={"logs": folder}) as gateway:
        outcome = command("get", address(gateway), "logs", tmp_path / "to")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("downloaded 2 files, 3 MB in ")
    assert names(tmp_path / "to") == ["a.log", "sub/b.txt"]
    assert (tmp_path / "to/a.log").read_bytes() == (folder / "a.log").read_bytes()


def test_parts_of_a_share_that_is_a_path(command: Commands, folder: Path, tmp_path: Path) -> None:
    with serving(share=[folder]) as gateway:
        to = address(gateway)
        outcome = command("get", to, folder, "--lanes", 2, tmp_path / "one", "--pattern", r".+\.log", "--json")
        summary = outcome.object("summary")
        assert (summary["files"], summary["bytes"], summary["skipped"]) == (1, 3_000_000, 0)
        assert names(tmp_path / "one") == ["a.log"]
        assert command("get", to, folder, tmp_path / "two", "--file", "sub/b.txt", "--durable").code == 0
        assert names(tmp_path / "two") == ["sub/b.txt"]


def test_without_destination(command: Commands, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with serving(share={"logs": folder}) as gateway:
        assert command("get", address(gateway), "logs").code == 0
    assert names(tmp_path / "Downloads") == ["a.log", "sub/b.txt"]


def test_what_goes_wrong(command: Commands, folder: Path, tmp_path: Path) -> None:
    with serving(share={"logs": folder}) as gateway:
        to = address(gateway)
        assert command("get", to, "nope", tmp_path / "to").code == 3
        assert command("get", to, "logs", tmp_path / "to", "--pattern", "(").code == 2
        assert command("get", to, "logs", tmp_path / "to", "--file", "../x").code == 2
        assert command("get", to, "logs", tmp_path / "to", "--pattern", "nothing").code == 9
        missing = command("get", to, "logs", tmp_path / "to", "--file", "none", "--json")
        assert (missing.code, missing.object("skipped")["path"]) == (4, "none")
        partly = command("get", to, "logs", tmp_path / "to", "--file", "none", "--file", "a.log")
        assert partly.code == 4
        assert "skipped none" in partly.err
        assert names(tmp_path / "to") == ["a.log"]
        (tmp_path / "file").touch()
        assert command("get", to, "logs", tmp_path / "file").code == 1


def test_a_link_is_left_out_and_said(command: Commands, folder: Path, tmp_path: Path) -> None:
    (folder / "link").symlink_to("a.log")
    with serving(share={"logs": folder}) as gateway:
        outcome = command("get", address(gateway), "logs", tmp_path / "to")
        asked = command("get", address(gateway), "logs", tmp_path / "to", "--file", "link")
    assert (outcome.code, asked.code) == (0, 1)
    assert "skipped link: symbolic link" in outcome.err
    assert names(tmp_path / "to") == ["a.log", "sub/b.txt"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_can_not_be_read_is_an_error(command: Commands, folder: Path, tmp_path: Path) -> None:
    (folder / "a.log").chmod(0)
    with serving(share={"logs": folder}) as gateway:
        outcome = command("get", address(gateway), "logs", tmp_path / "to")
    assert outcome.code == 1
    assert names(tmp_path / "to") == ["sub/b.txt"]
