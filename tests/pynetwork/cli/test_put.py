from __future__ import annotations

from pathlib import Path

from tests.pynetwork.cli.commands import Commands, address
from tests.serving import KEY, serving


def test_files_and_folders(command: Commands, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m.bin").write_bytes(b"m" * 2_000_000)
    (tmp_path / "one.txt").write_bytes(b"1")
    with serving(download_dir=tmp_path / "in") as gateway:
        paths = (tmp_path / "one.txt", tmp_path / "models")
        outcome = command("put", address(gateway), *paths, "--into", "new", "--json")
        assert (outcome.code, outcome.object("summary")["files"]) == (0, 2)
        assert command("put", address(gateway), tmp_path / "one.txt", "--lanes", 1, tmp_path / "models").code == 0
    assert (tmp_path / "in/new/models/m.bin").read_bytes() == b"m" * 2_000_000
    assert (tmp_path / "in/one.txt").read_bytes() == b"1"


def test_what_goes_wrong(command: Commands, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_bytes(b"1")
    (tmp_path / "empty").mkdir()
    with serving(download_dir=tmp_path / "in") as gateway:
        to = address(gateway)
        assert command("put", to, tmp_path / "none").code == 4
        assert command("put", to, tmp_path / "one.txt", "--into", "../out").code == 2
        assert command("put", to, tmp_path / "empty").code == 9
    assert not (tmp_path / "out").exists()


def test_without_the_right(command: Commands, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "one.txt").write_bytes(b"1")
    monkeypatch.setenv("PYNETWORK_KEY", KEY)
    with serving(download_dir=tmp_path / "in", key={KEY: "read"}) as gateway:
        assert command("put", address(gateway), tmp_path / "one.txt").code == 7
