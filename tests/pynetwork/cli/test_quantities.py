from __future__ import annotations

import argparse

import pytest

from pynetwork.cli.quantities import age, byte_count, positive, room, time_span


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0", 0), ("500", 500), ("64k", 64_000), ("64K", 64_000), ("64KiB", 65_536), ("64ki", 65_536),
        ("2M", 2_000_000), ("1.5G", 1_500_000_000), ("1.5Gi", 1_610_612_736), ("2T", 2 * 10**12),
        ("10 MB", 10_000_000), (" 5b ", 5),
    ],
)  # fmt: skip
def test_numbers_of_bytes(text: str, wanted: int) -> None:
    assert byte_count(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "k", "-1", "1e3", "5x", "1,5M", "1.M", "M5", "9" * 20, "99999999T", "2Ti", "\u0665"]
)
def test_what_is_no_number_of_bytes(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no number of bytes"):
        byte_count(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0", 0),
        ("90", 90),
        ("90s", 90),
        ("1.5m", 90),
        ("12h", 43_200),
        ("7d", 604_800),
        ("2W", 1_209_600),
        (" 5 m ", 300),
    ],
)
def test_spans_of_time(text: str, wanted: float) -> None:
    assert time_span(text) == wanted


@pytest.mark.parametrize("text", ["", "d", "-1d", "soon", "5y", "1h30m", "9" * 12, "1e3"])
def test_what_is_no_span_of_time(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no span of time"):
        time_span(text)


def test_an_age_has_a_unit() -> None:
    assert age("90d") == 90 * 86400
    for text in ("90", "1.5", "0"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' has no unit; write {text}d for days"):
            age(text)
    with pytest.raises(argparse.ArgumentTypeError, match="is no span of time"):
        age("soon")


def test_a_size_has_a_unit() -> None:
    assert (room("20G"), room("500 MB"), room("20b")) == (20 * 10**9, 500 * 10**6, 20)
    for text in ("20", "1.5", "0"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' has no unit; write {text}G for gigabytes"):
            room(text)
    with pytest.raises(argparse.ArgumentTypeError, match="is no number of bytes"):
        room("much")


def test_numbers_of_at_least_one() -> None:
    assert (positive("1"), positive("007"), positive("999999999")) == (1, 7, 999_999_999)


@pytest.mark.parametrize("text", ["", "0", "00", "-1", "+1", "1.5", "x", "1000000000", "9" * 5000, "\u0665"])
def test_what_is_no_such_number(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"is no number of 1 to 999999999$"):
        positive(text)
