from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pynetwork.series.record import SeriesKey
from pynetwork.series.timestamps import now_ns
from tests.pynetwork.cli.commands import Commands, interrupt, process, seen_enough
from tests.pynetwork.cli.series.stores import HALL, ROOM, SECOND, made, mounted, pairs, served, texts

PAYLOAD = ("--payload", "x:f8,n:i4")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return made(tmp_path / "data")


def numbers(out: str) -> list[int]:
    return [int(line.split()[-1]) for line in out.splitlines()[1:]]


def test_get_from_a_store(command: Commands, store: Path) -> None:
    outcome = command("series", "get", "--store", store, *PAYLOAD)
    assert (outcome.code, outcome.err) == (0, "")
    assert numbers(outcome.out) == [0, 1, 2, 0, 1]
    newest = command("series", "get", "--store", store, *PAYLOAD, "--newest", "--limit", 3)
    assert numbers(newest.out) == [1, 0, 2]
    some = command("series", "get", "--store", store, *PAYLOAD, "--series", "1/4/7", "--since", "2026-11-21T12:00:01Z")
    assert numbers(some.out) == [1, 2]


def test_get_from_a_server(command: Commands, tmp_path: Path) -> None:
    with served(tmp_path / "data") as address:
        assert numbers(command("series", "get", address, *PAYLOAD).out) == [0, 1, 2, 0, 1]
        assert numbers(command("series", "get", address, *PAYLOAD, "--limit", 1).out) == [0]
        refused = command("series", "get", address, *PAYLOAD, "--newest")
        assert (refused.code, "--limit" in refused.err) == (2, True)


def test_last(command: Commands, tmp_path: Path) -> None:
    with mounted(tmp_path / "data") as address:
        outcome = command("series", "last", address, "--gateway", *PAYLOAD)
        assert numbers(outcome.out) == [2, 1]
        told = command("series", "last", address, "--gateway", *PAYLOAD, "--json").objects()
        assert [each["payload"]["n"] for each in told] == [2, 1]


def test_records_of_the_last_hours(command: Commands, tmp_path: Path) -> None:
    now = now_ns()
    folder = made(tmp_path / "data", *(pairs(1, HALL, now - hours * 3600 * SECOND) for hours in (1, 23, 25, 200)))
    for since, wanted in (("24h", 2), ("30h", 3), ("52w", 4)):
        outcome = command("series", "get", "--store", folder, *PAYLOAD, "--since", since)
        assert len(numbers(outcome.out)) == wanted


def test_nothing_there(command: Commands, store: Path) -> None:
    for action in ("get", "last"):
        outcome = command("series", action, "--store", store, "--series", "9")
        assert (outcome.code, outcome.out) == (9, "")
        assert "no such records" in outcome.err


def test_payloads_of_another_type(command: Commands, store: Path) -> None:
    outcome = command("series", "get", "--store", store, "--payload", "f8")
    assert (outcome.code, outcome.out) == (9, "")
    assert "5 records were left out" in outcome.err
    assert "<12 bytes:" in command("series", "get", "--store", store).out


def test_a_chart(command: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "81")
    with served(tmp_path / "data", pairs(5000), pairs(100, HALL)) as address:
        outcome = command("series", "get", address, *PAYLOAD, "--plot")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].strip() == "x"
    assert "1/4/7" in outcome.out
    assert "1/4/8" in outcome.out
    assert "2499.5" in outcome.out
    assert any(letter >= "\u2801" for letter in outcome.out)


def test_a_chart_of_a_field(command: Commands, store: Path) -> None:
    assert command("series", "get", "--store", store, *PAYLOAD, "--plot", "n").out.splitlines()[0].strip() == "n"
    unknown = command("series", "get", "--store", store, *PAYLOAD, "--plot=y")
    assert (unknown.code, unknown.out) == (2, "")
    assert "They have: x, n." in unknown.err


def test_a_chart_of_json(command: Commands, tmp_path: Path) -> None:
    folder = made(tmp_path / "data", texts(ROOM, b'{"t":1}', b'{"u":5}', b'{"t":3}'))
    assert "3.0" in command("series", "get", "--store", folder, "--payload", "json", "--plot", "t").out
    unknown = command("series", "get", "--store", folder, "--payload", "json", "--plot", "v")
    assert (unknown.code, "no number 'v'" in unknown.err) == (2, True)


def test_no_chart(command: Commands, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = command("series", "get", "--store", store, "--plot")
    assert (plain.code, "--payload" in plain.err) == (2, True)
    assert command("series", "get", "--store", store, *PAYLOAD, "--plot", "--json").code == 2
    assert command("series", "get", "--store", store, *PAYLOAD, "--series", "9", "--plot").code == 9
    monkeypatch.setitem(sys.modules, "plotext", None)
    absent = command("series", "get", "--store", store, *PAYLOAD, "--plot")
    assert (absent.code, absent.out) == (2, "")
    assert "pip install 'pynetwork[plot]'" in absent.err


def test_no_more_lines_than_can_be_told_apart(command: Commands, tmp_path: Path) -> None:
    folder = made(tmp_path / "data", *(pairs(2, SeriesKey(1, at, 0)) for at in range(20)))
    outcome = command("series", "get", "--store", folder, *PAYLOAD, "--plot")
    assert outcome.code == 0
    assert "4 more series are not drawn" in outcome.err


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    folder = made(tmp_path / "data", pairs(50_000))
    with process("series", "get", "--store", folder, *PAYLOAD) as started:
        assert seen_enough(started) == (0, "")


def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    with (
        served(tmp_path / "data", pairs(100_000)) as address,
        process("series", "get", address, *PAYLOAD, "--json") as started,
    ):
        assert started.stdout is not None
        started.stdout.readline()
        code, seconds, err = interrupt(started)
    assert (code, err) == (130, "")
    assert seconds < 2.0
