from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.records import Block, KeyRange
from pynetwork.cli.series import putting
from pynetwork.series.datafiles import write_blocks
from pynetwork.series.store import SeriesStore
from tests.pynetwork.cli.commands import ROOT, Commands, process
from tests.pynetwork.cli.series.stores import NOON, PAIRS, ROOM, SECOND, made, pairs, served

LINES = """cid,mid,moid,cap,x,n
1,4,7,2026-11-21T12:00:00Z,0.5,1
1,4,7,2026-11-21T12:00:01Z,1.5,2
"""


def content(folder: Path) -> list[tuple[Any, ...]]:
    with SeriesStore(folder) as store:
        rows: list[tuple[Any, ...]] = store.array(KeyRange.everything(), PAIRS).tolist()
        return rows


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "records.csv"
    path.write_text(LINES)
    return path


def test_into_a_new_store(command: Commands, tmp_path: Path, file: Path) -> None:
    outcome = command("series", "put", "--store", tmp_path / "data", file, "--payload", "x:f8,n:i4")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("put 2 records in ")
    rows = content(tmp_path / "data")
    assert [(row[3], *row[5:]) for row in rows] == [(NOON, 0.5, 1), (NOON + SECOND, 1.5, 2)]
    assert rows[0][4] < rows[1][4]


def test_to_a_server(command: Commands, tmp_path: Path, file: Path) -> None:
    with served(tmp_path / "data", pairs(1)) as address:
        outcome = command("series", "put", address, file, "--payload", "x:f8,n:i4", "--json")
        assert outcome.object("summary")["records"] == 2
    assert len(content(tmp_path / "data")) == 3


def test_times_of_acquisition_are_kept_and_replace(command: Commands, tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"
    write_blocks(path, [pairs(3).with_acq(5)], PAIRS)
    for _ in range(2):
        assert command("series", "put", "--store", tmp_path / "data", path, "--payload", "x:f8,n:i4").code == 0
    assert [row[4] for row in content(tmp_path / "data")] == [5, 5, 5]


def test_what_was_printed_can_be_put_again(command: Commands, tmp_path: Path) -> None:
    made(tmp_path / "data")
    printed = command("series", "get", "--store", tmp_path / "data", "--payload", "x:f8,n:i4", "--csv").out
    (tmp_path / "again.csv").write_text(printed)
    words = ("series", "put", "--store", tmp_path / "copy", tmp_path / "again.csv", "--payload", "x:f8,n:i4")
    assert command(*words).code == 0
    assert content(tmp_path / "copy") == content(tmp_path / "data")


def test_bad_lines_are_named(command: Commands, tmp_path: Path, file: Path) -> None:
    file.write_text(LINES + "1,4,7,soon,1,2\n" + "1,4,7\n" * 30)
    words = ("series", "put", "--store", tmp_path / "data", file, "--payload", "x:f8,n:i4")
    outcome = command(*words)
    assert outcome.code == 1
    assert "line 4 is left out: cap: 'soon' is no time" in outcome.err
    assert "line 23 is left out" in outcome.err
    assert "line 24" not in outcome.err
    assert outcome.err.endswith("more lines are left out\n")
    assert "put 2 records" in outcome.out
    assert "31 lines were left out" in outcome.out
    told = command(*words, "--json").objects()
    assert [each["line"] for each in told if each["message_type"] == "bad_line"] == list(range(4, 35))


def test_a_series_and_a_form_of_times(command: Commands, tmp_path: Path, file: Path) -> None:
    file.write_text("cap,x\n1795262400000,0.5\n")
    words = ("series", "put", "--store", tmp_path / "data", file, "--series", "1/4/7")
    assert command(*words).code == 1
    assert command(*words, "--times", "unix-ms").code == 0
    with SeriesStore(tmp_path / "data") as store:
        assert store.array()["cap"].tolist() == [NOON]
        assert [tuple(block.key(0))[:3] for block in store.blocks()] == [ROOM]
    assert command("series", "put", "--store", tmp_path / "data", file, "--series", "1/4").code == 2


def test_standard_input(tmp_path: Path) -> None:
    with process("series", "put", "--store", tmp_path / "data", "-", "--payload", "x:f8,n:i4") as started:
        out, err = started.communicate(LINES, timeout=20)
    assert (started.returncode, err) == (0, "")
    assert out.startswith("put 2 records")


def test_what_can_not_be_put(command: Commands, tmp_path: Path, file: Path) -> None:
    data = tmp_path / "data"
    assert command("series", "put", "--store", data, tmp_path / "none.csv").code == 4
    assert not data.exists()
    assert command("series", "put", file).code == 2
    file.write_text("cid,mid,moid,cap,x\n")
    assert command("series", "put", "--store", data, file).code == 9
    file.write_text("nothing of that kind\n")
    outcome = command("series", "put", "--store", data, file)
    assert (outcome.code, "cid,mid,moid,cap" in outcome.err) == (2, True)


class Full:
    """A source that takes one block."""

    name = "full"

    def __init__(self) -> None:
        self.blocks: list[Block] = []

    def put(self, block: Block, *, with_acq: bool) -> None:
        if self.blocks:
            raise OSError(28, "No space left on device")
        self.blocks.append(block)


def test_what_was_put_before_a_failure_is_told(command: Commands, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def opened(*_arguments: Any, **_options: Any) -> Iterator[Full]:
        yield Full()

    monkeypatch.setattr(putting, "opened", opened)
    monkeypatch.setattr("pynetwork.cli.series.reading.BATCH", 1)
    outcome = command("series", "put", "--store", "x", file)
    assert outcome.code == 1
    assert "1 record was put before that" in outcome.err
    assert "No space left" in outcome.err


def test_progress(
    command: Commands, tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pynetwork.cli.series.reading.BATCH", 1)
    monkeypatch.setattr(putting, "_EVERY", 0.0)
    told = command("series", "put", "--store", tmp_path / "data", file, "--json").objects()
    steps = [each for each in told if each["message_type"] == "progress"]
    assert [each["records"] for each in steps] == [1, 2]
    assert steps[-1]["bytes_done"] == steps[-1]["bytes_total"] == len(LINES)
    monkeypatch.setattr(putting, "on_terminal", lambda: True)
    shown = command("series", "put", "--store", tmp_path / "data", file).err
    assert "put: 100%" in shown


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize(("bad", "code"), [(40, 1), (0, 0)])
def test_nobody_has_to_listen(tmp_path: Path, options: tuple[str, ...], bad: int, code: int) -> None:
    head, *lines = LINES.splitlines()
    file = tmp_path / "records.csv"
    file.write_text("\n".join([head, *["1,4,7,soon,1,2"] * bad, *lines]) + "\n")
    reading, nobody = os.pipe()
    os.close(reading)
    words = ("series", "put", "--store", tmp_path / "data", file, "--payload", "x:f8,n:i4", *options)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pynetwork", *map(str, words)],
            cwd=ROOT,
            stdout=nobody,
            stderr=nobody,
            timeout=20,
            check=False,
        )
    finally:
        os.close(nobody)
    assert done.returncode == code
    assert len(content(tmp_path / "data")) == 2
