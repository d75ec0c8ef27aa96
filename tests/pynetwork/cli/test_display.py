from __future__ import annotations

import json
from typing import Any

import numpy
import pytest

from pynetwork.cli.display import dumps, inline, long_form, size, table, visible


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ({"a": [1, None, True]}, {"a": [1, None, True]}),
        (float("nan"), None),
        (b"\x00\xff", {"base64": "AP8="}),
        (3 + 4j, [3.0, 4.0]),
        (numpy.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        (numpy.array([1 + 2j]), [[1.0, 2.0]]),
        (numpy.array(["2026-01-01"], "datetime64[D]"), ["2026-01-01"]),
        (numpy.array([(1, b"x")], [("a", "i4"), ("b", "S1")]), [[1, {"base64": "eA=="}]]),
        (numpy.float32(0.5), 0.5),
        ("caf\udcc3\udca9", "café"),
        ({"bad\udcff": ["\ud800"]}, {"bad�": ["?"]}),
    ],
)
def test_json(value: Any, wanted: Any) -> None:
    assert json.loads(dumps(value)) == wanted


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("text", "text"),
        ("two\nlines\x1b", "two\\nlines\\x1b"),
        (b"text", "text"),
        (b"\x00" * 20, "<20 bytes: " + "00 " * 16 + "...>"),
        ({"a": 1}, '{"a":1}'),
        ({"a": b"x", "b": [numpy.zeros(2)]}, "{a: x, b: [float64[2] 0 0]}"),
        (numpy.arange(10), "int64[10] min 0 mean 4.5 max 9"),
        (numpy.zeros(0), "float64[0]"),
        (numpy.array(["x"]), "<U1[1]"),
        (None, "null"),
    ],
)
def test_one_line(value: Any, wanted: str) -> None:
    assert inline(value) == wanted


def test_many_lines() -> None:
    assert long_form("a\nb\x07") == "a\nb\\x07"
    assert long_form({"a": [1]}).splitlines() == ["{", '  "a": [', "    1", "  ]", "}"]
    assert long_form(numpy.eye(2)).splitlines() == ["float64[2, 2] 1 0 0 1", "[[1. 0.]", " [0. 1.]]"]
    assert long_form(5) == "5"


@pytest.mark.parametrize(
    ("count", "wanted"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1536, "1.54 kB"),
        (999_600, "1 MB"),
        (2.5e9, "2.5 GB"),
        (5e15, "5e+03 TB"),
    ],
)
def test_sizes(count: float, wanted: str) -> None:
    assert size(count) == wanted


def test_visible_keeps_letters_of_all_languages() -> None:
    assert visible("grüße 日本\n\x1b", keep="\n") == "grüße 日本\n\\x1b"


def test_tables() -> None:
    assert table([("a", "long"), ("word", "")]) == "  a     long\n  word"
