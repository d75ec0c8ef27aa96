from __future__ import annotations

import argparse

import numpy
import pytest

from pynetwork.cli.series.moments import TIME_FORMS, iso, iso_column, moment, parse_all, parse_time, short_column, span
from pynetwork.cli.series.options import TIME_WORDS
from pynetwork.series.timestamps import EPOCH_NS, now_ns

SECOND = 10**9


@pytest.mark.parametrize(
    ("text", "form", "unix_ns"),
    [
        ("2026-11-21T08:30:00Z", "any", 1_795_249_800 * SECOND),
        ("2026-11-21T09:30:00.000000001+01:00", "any", 1_795_249_800 * SECOND + 1),
        ("2026-11-21 08:30", "iso", 1_795_249_800 * SECOND),
        ("1970-01-01", "any", 0),
        ("1795249800.25", "any", 1_795_249_800 * SECOND + SECOND // 4),
        ("1795249800.123456789", "unix", 1_795_249_800_123_456_789),
        ("-1.5", "unix", -3 * SECOND // 2),
        ("1795249800123", "unix-ms", 1_795_249_800_123_000_000),
        ("1795249800123456", "unix-us", 1_795_249_800_123_456_000),
        ("1795249800123456789", "unix-ns", 1_795_249_800_123_456_789),
        (str(9_007_199_254_740_993), "tstorage", EPOCH_NS + 9_007_199_254_740_993),
        ("816942600000000001", "any", EPOCH_NS + 816_942_600_000_000_001),
        (" 5 ", "tstorage", EPOCH_NS + 5),
    ],
)
def test_times(text: str, form: str, unix_ns: int) -> None:
    assert parse_time(text, form) == unix_ns - EPOCH_NS


@pytest.mark.parametrize(
    ("text", "form", "words"),
    [
        ("soon", "any", "is no time"),
        ("1.2.3", "any", "is no time"),
        ("5 x", "unix", "no number"),
        ("", "any", "is no time"),
        ("1795249800123", "any", "--times"),
        ("1e30", "unix", "1708 to 2293"),
        ("2026-11-21", "unix", "no number"),
        ("nan", "unix", "no number"),
        ("5.5", "tstorage", "whole number"),
        (str(2**63), "tstorage", "64 bits"),
        ("2026-13-21", "iso", "is no time"),
        ("12", "iso", "is no time"),
        ("2300-01-01T00:00:00Z", "any", "1708 to 2293"),
        ("0001-01-01T00:00:00+01:00", "iso", "1708 to 2293"),
    ],
)
def test_what_is_no_time(text: str, form: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_time(text, form)


def test_many_times_at_once() -> None:
    texts = ["2026-11-21T08:30:00Z", "1969-12-31T23:59:59.5Z", "2001-01-01T00:00:00.000000001Z"]
    assert parse_all(texts) == [parse_time(text) for text in texts]
    assert parse_all([]) == []


@pytest.mark.parametrize(
    "text", ["2026-11-21", "nowZ", "NaTZ", "5", "2026-02-30T00:00:00Z", "2290-01-01T00:00:00Z", "2300-01-01T00:00:00Z"]
)
def test_what_is_not_read_at_once(text: str) -> None:
    assert parse_all(["2026-11-21T08:30:00Z", text]) is None


def test_the_forms_are_those_of_the_command_line() -> None:
    assert tuple(TIME_FORMS) == TIME_WORDS


@pytest.mark.parametrize(("text", "ago"), [("now", 0), ("90s", 90), ("24h", 86_400), ("7d", 7 * 86_400)])
def test_moments_of_the_past(text: str, ago: int) -> None:
    before = now_ns()
    found = moment(text)
    assert before - ago * SECOND <= found <= now_ns() - ago * SECOND


def test_a_moment_that_is_none_says_what_one_is() -> None:
    assert moment("2001-01-01") == 0
    with pytest.raises(argparse.ArgumentTypeError, match="24h"):
        moment("yesterday")


def test_times_as_text() -> None:
    times = numpy.array([0, 1, -1, 123_456_789])
    assert iso_column(times) == [
        "2001-01-01T00:00:00.000000000Z",
        "2001-01-01T00:00:00.000000001Z",
        "2000-12-31T23:59:59.999999999Z",
        "2001-01-01T00:00:00.123456789Z",
    ]
    assert [parse_time(each) for each in iso_column(times)] == times.tolist()


def test_times_that_numpy_does_not_hold() -> None:
    # The greatest of a key; NumPy's times end in 2262.
    assert iso(2**63 - 1) == "2293-04-11T23:47:16.854775807Z"
    assert parse_time(iso(2**63 - 1)) == 2**63 - 1
    assert iso(-(2**63)).startswith("1708-")


@pytest.mark.parametrize(
    ("times", "ends"),
    [([0, SECOND], "00:00:00Z"), ([0, SECOND // 4], "00:00:00.000Z"), ([1000], "00.000001Z"), ([7], "00.000000007Z")],
)
def test_no_more_digits_than_needed(times: list[int], ends: str) -> None:
    assert short_column(numpy.array(times))[0].endswith(ends)


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [(0, "0 s"), (0.25, "0.25 s"), (119, "119 s"), (600, "10 min"), (9000, "2.5 h"), (1e6, "11.6 d")],
)
def test_lengths_of_time(seconds: float, wanted: str) -> None:
    assert span(round(seconds * SECOND)) == wanted
