from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from pynetwork.cli import make_parser
from pynetwork.cli.series.options import series_name
from tests.pynetwork.cli.commands import ROOT, Commands

ACTIONS = ("serve", "put", "get", "last", "stats", "export")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1/4/7", (1, 4, 7)),
        ("1/-4/-7", (1, -4, -7)),
        ("1/4", (1, 4, None)),
        ("1", (1, None, None)),
        ("*/*/7", (None, None, 7)),
        ("*", (None, None, None)),
        (f"0/{-(2**63)}/{-(2**31)}", (0, -(2**63), -(2**31))),
    ],
)
def test_series(text: str, wanted: tuple[int | None, ...]) -> None:
    assert series_name(text) == wanted


@pytest.mark.parametrize("text", ["", "x", "1/", "1/2/3/4", "-1/2/3", "1/2/2147483647", f"1/{2**63}/3", "1.5/2/3"])
def test_what_is_no_series(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"CID/MID/MOID|is not"):
        series_name(text)


@pytest.mark.parametrize("action", ACTIONS)
def test_help(command: Commands, action: str) -> None:
    outcome = command("series", action, "-h")
    assert (outcome.code, outcome.err) == (0, "")
    assert "--json" in outcome.out


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nothing"],
        ["put"],
        ["get", "--payload", "nothing"],
        ["get", "--since", "yesterday"],
        ["get", "--series", "x"],
        ["get", "pi", "--csv", "--plot"],
        ["put", "--times", "moon", "f.csv"],
        ["serve", "d", "--port", "70000"],
        ["serve", "d", "--max-age", "old"],
        ["serve", "d", "--max-size", "20"],
    ],
)
def test_usage(command: Commands, words: list[str]) -> None:
    outcome = command("series", *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert "usage:" in outcome.err


@pytest.mark.parametrize("action", ["put", "export"])
def test_a_file_that_was_forgotten(command: Commands, action: str) -> None:
    outcome = command("series", action, "--store", "power.csv")
    assert outcome.code == 2
    assert f"usage: pynetwork series {action} [-h] [OPTION ...] (--store DIR | HOST[:PORT]) FILE" in outcome.err
    assert "the following arguments are required: FILE" in outcome.err


def test_a_number_that_is_too_great_is_told_the_greatest(command: Commands) -> None:
    assert "is no number of 1 to 999999999" in command("series", "get", "pi", "--limit", "9" * 23).err


def test_help_promises_what_is_printed(command: Commands) -> None:
    assert "their bytes" not in command("series", "stats", "-h").out


def test_options_may_stand_anywhere() -> None:
    for words in (["pi", "f.csv", "--times", "iso"], ["--times", "iso", "pi", "f.csv"]):
        arguments = make_parser().parse_args(["series", "put", *words])
        assert (arguments.words, arguments.times, arguments.payload) == (["pi", "f.csv"], "iso", None)
    arguments = make_parser().parse_args(["series", "get", "--payload", "d", "pi", "--plot=f0"])
    assert (arguments.address, arguments.plot, arguments.payload.names) == ("pi", "f0", ["f0"])


def test_other_commands_do_not_wait_for_what_series_need() -> None:
    code = "import sys, pynetwork.cli; print([each for each in sys.modules if each.startswith('pynetwork.series.')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
