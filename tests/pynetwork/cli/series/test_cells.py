from __future__ import annotations

import math
from typing import Any

import numpy
import pytest

from pynetwork.cli.series.cells import integer, plain_values, readers_of, table_cells
from pynetwork.cli.series.payloads import payload_of


def read(payload: str, text: str) -> Any:
    (reader,) = readers_of(payload_of(payload))
    return reader(text)


@pytest.mark.parametrize(
    ("payload", "text", "wanted"),
    [
        ("i2", "-5", -5),
        ("f8", " 1e3", 1000.0),
        ("f4", "inf", math.inf),
        ("?", "True", True),
        ("?", " 0 ", False),
        ("c16", "1+2j", 1 + 2j),
        ("S4", " hé", b" h\xc3\xa9"),
        ("U3", "日本", "日本"),
        ("V2", "00ff", b"\x00\xff"),
        ("M8[s]", "2026-11-21T08:30:00Z", numpy.datetime64("2026-11-21T08:30:00", "s")),
        ("m8[ms]", "250", numpy.timedelta64(250, "ms")),
        ("json", '{"a": [1, null]}', {"a": [1, None]}),
        ("bytes", "CAFE", b"\xca\xfe"),
        ("bytes", "", b""),
    ],
)
def test_values_from_text(payload: str, text: str, wanted: Any) -> None:
    assert read(payload, text) == wanted


def test_no_text_is_no_number() -> None:
    assert math.isnan(read("f8", ""))
    with pytest.raises(ValueError, match="no whole number"):
        read("i4", "")


def test_arrays_within_a_payload_are_json() -> None:
    first, second = readers_of(payload_of("(2,2)i2,f8"))
    assert first("[[1, 2], [3, 4]]").tolist() == [[1, 2], [3, 4]]
    assert second("5") == 5.0
    for text in ("[1]", "x", '{"a": 1}', "[[1, 2], [3, 99999]]", "[[1, 2], [3, 0.5]]"):
        with pytest.raises(ValueError, match=r"JSON|does not"):
            first(text)


@pytest.mark.parametrize(
    ("payload", "text", "words"),
    [
        ("i2", "40000", "-32768 to 32767"),
        ("u1", "-1", "0 to 255"),
        ("i4", "1.0", "no whole number"),
        ("f8", "1,5", "no number"),
        ("f4", "1e39", "too large for float32"),
        ("?", "yes", "neither true nor false"),
        ("c16", "x", "no complex number"),
        ("S2", "abc", "longer than 2"),
        ("U2", "abc", "longer than 2"),
        ("V2", "00", "has not 2 bytes"),
        ("V2", "zz", "hex"),
        ("M8[s]", "soon", "no time"),
        ("m8[s]", "1.5", "no time"),
        ("json", "{", "no JSON"),
        ("json", "\udcff", "no JSON"),
        ("bytes", "abc", "hex"),
    ],
)
def test_what_is_no_value(payload: str, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read(payload, text)


def test_a_long_text_is_cut_short_when_it_is_told() -> None:
    with pytest.raises(ValueError, match=r"xxx\.\.\.' is no whole number") as caught:
        integer("x" * 10**6)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        (numpy.array([0.1, 2], "f4"), [0.1, 2.0]),
        (numpy.array([0.1, 1 / 3]), [0.1, 1 / 3]),
        (numpy.array([b"ab", b"\xff"]), ["ab", "\ufffd"]),
        (numpy.array(["2026-11-21"], "M8[D]"), ["2026-11-21"]),
        (numpy.array([5], "m8[s]"), [5]),
        (numpy.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (numpy.array([True]), [True]),
        (numpy.array([1 + 2j]), [1 + 2j]),
    ],
)
def test_plain_values(column: Any, wanted: list[Any]) -> None:
    assert plain_values(column) == wanted
    assert all(type(each) in {float, str, int, list, bool, complex} for each in plain_values(column))


def test_cells_for_people() -> None:
    assert table_cells(numpy.array([0.1, 1 / 3], "f4")) == ["0.1", "0.33333334"]
    assert table_cells(numpy.array([1 / 3, 1e12])) == ["0.3333333333", "1e+12"]
    assert table_cells(numpy.array([True])) == ["true"]
    assert table_cells(numpy.array(["two\nlines"])) == ["two\\nlines"]
    assert table_cells(numpy.array([[1.5, 2]])) == ["[1.5,2.0]"]
