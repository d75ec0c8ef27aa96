from __future__ import annotations

from pathlib import Path

from tests.pynetwork.cli.commands import Commands
from tests.pynetwork.cli.series.stores import made, served

ROWS = [
    "  series  records  first                 last                  spans",
    "  1/4/7   3        2026-11-21T12:00:00Z  2026-11-21T12:00:02Z  2 s",
    "  1/4/8   2        2026-11-21T12:00:10Z  2026-11-21T12:00:11Z  1 s",
]


def test_of_a_store(command: Commands, tmp_path: Path) -> None:
    made(tmp_path / "data")
    outcome = command("series", "stats", "--store", tmp_path / "data")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[:-1] == ROWS
    assert lines[-1].startswith("2 series, 5 records; the store takes ")


def test_of_a_server(command: Commands, tmp_path: Path) -> None:
    with served(tmp_path / "data") as address:
        assert command("series", "stats", address).out.splitlines() == [*ROWS, "2 series, 5 records"]
        some = command("series", "stats", address, "--since", "2026-11-21T12:00:11Z").out.splitlines()
    assert some[1].split()[:2] == ["1/4/8", "1"]
    assert some[-1] == "1 series, 1 record"


def test_json(command: Commands, tmp_path: Path) -> None:
    made(tmp_path / "data")
    outcome = command("series", "stats", "--store", tmp_path / "data", "--json")
    series = [each for each in outcome.objects() if each["message_type"] == "series"]
    assert [each["records"] for each in series] == [3, 2]
    assert series[0]["first"] == "2026-11-21T12:00:00.000000000Z"
    summary = outcome.object("summary")
    assert (summary["series"], summary["records"]) == (2, 5)
    assert summary["file_bytes"] > 0
    assert summary["horizon"].endswith("Z")


def test_of_nothing(command: Commands, tmp_path: Path) -> None:
    made(tmp_path / "data")
    outcome = command("series", "stats", "--store", tmp_path / "data", "--series", "9")
    assert outcome.code == 9
    assert outcome.out.startswith("0 series, 0 records")
