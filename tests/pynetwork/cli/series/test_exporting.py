from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from handshakes.records import KeyRange, joined
from pynetwork.cli.series import exporting
from pynetwork.series.datafiles import read_blocks
from pynetwork.series.store import SeriesStore
from tests.pynetwork.cli.commands import Commands, process
from tests.pynetwork.cli.series.stores import PAIRS, ROOM, filled, made, mounted, pairs, served, texts
from tests.waiting import wait_until

PAYLOAD = ("--payload", "x:f8,n:i4")


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".arrow"])
def test_of_a_store(command: Commands, tmp_path: Path, suffix: str) -> None:
    made(tmp_path / "data")
    path = tmp_path / f"out{suffix}"
    outcome = command("series", "export", "--store", tmp_path / "data", path, *PAYLOAD)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"wrote 5 records into {path} in ")
    with SeriesStore(tmp_path / "data") as store:
        wanted = store.array(KeyRange.everything(), PAIRS)
    found = joined(list(read_blocks(path, PAIRS)))
    assert found.keys().tolist() == [row[:5] for row in wanted.tolist()]


def test_of_servers(command: Commands, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with served(tmp_path / "one") as address:
        told = command("series", "export", address, path, "--series", "1/4/8", *PAYLOAD, "--json").object("summary")
        assert (told["records"], told["left_out"], told["file"]) == (2, 0, str(path))
    with mounted(tmp_path / "two") as address:
        assert command("series", "export", address, "--gateway", path, *PAYLOAD).code == 0
    assert len(path.read_text().splitlines()) == 6


def test_what_does_not_fit_is_left_out(command: Commands, tmp_path: Path) -> None:
    made(tmp_path / "data", texts(ROOM, b"1"), pairs(2))
    path = tmp_path / "out.csv"
    outcome = command("series", "export", "--store", tmp_path / "data", path, *PAYLOAD)
    assert outcome.code == 0
    assert "1 record was left out" in outcome.err
    assert len(path.read_text().splitlines()) == 3


def test_what_can_not_be_exported(command: Commands, tmp_path: Path) -> None:
    made(tmp_path / "data")
    unknown = command("series", "export", "--store", tmp_path / "data", tmp_path / "out.txt")
    assert (unknown.code, ".parquet" in unknown.err) == (2, True)
    absent = command("series", "export", "--store", tmp_path / "data", tmp_path / "none" / "out.csv")
    assert absent.code == 4
    empty = command("series", "export", "--store", tmp_path / "data", tmp_path / "out.csv", "--series", "9")
    assert empty.code == 9
    assert command("series", "export", tmp_path / "out.csv").code == 2


def test_the_bar(command: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "on_terminal", lambda: True)
    with filled(tmp_path / "data"):
        pass
    shown = command("series", "export", "--store", tmp_path / "data", tmp_path / "out.csv", *PAYLOAD).err
    assert "export: 5" in shown


@pytest.mark.parametrize("words", [("--series", "9"), ("--payload", "i4")])
def test_nothing_does_not_replace_a_file(command: Commands, tmp_path: Path, words: tuple[str, ...]) -> None:
    made(tmp_path / "data")
    path, new = tmp_path / "out.csv", tmp_path / "new.csv"
    path.write_text("what was there")
    for each in (path, new):
        outcome = command("series", "export", "--store", tmp_path / "data", each, *words)
        assert (outcome.code, outcome.out) == (9, "")
        assert f"there are no such records: {each} was not written" in outcome.err
        assert ("5 records were left out" in outcome.err) == ("--payload" in words)
    assert path.read_text() == "what was there"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["data", "out.csv"]
    told = command("series", "export", "--store", tmp_path / "data", path, *words, "--json").object("summary")
    assert (told["records"], told["file"]) == (0, None)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_nothing_unfinished_stays_after_sigterm(tmp_path: Path) -> None:
    made(tmp_path / "data", pairs(400_000))
    folder = tmp_path / "out"
    folder.mkdir()
    words = ("series", "export", "--store", tmp_path / "data", folder / "out.csv", *PAYLOAD)
    with process(*words) as started:
        wait_until(lambda: any(folder.iterdir()))
        started.send_signal(signal.SIGSTOP)
        assert [each.name for each in folder.iterdir()] == [f".out.csv.{started.pid}.partial"]
        started.send_signal(signal.SIGTERM)
        started.send_signal(signal.SIGCONT)
        _, err = started.communicate(timeout=20)
    assert (started.returncode, err) == (143, "")
    assert list(folder.iterdir()) == []
