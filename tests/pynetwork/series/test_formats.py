"""Formats of struct: the same as the C of this machine where no byte order is given, and so on every machine."""

from __future__ import annotations

import struct
import sys
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handshakes.errors import ConfigurationError
from pynetwork.series.formats import parse_format

NUMBERS = "cbB?hHeiIfqQd"
counts = st.sampled_from(["", "1", "2", "3", "0"])
pieces = st.builds(lambda count, code: count + code, counts, st.sampled_from([*NUMBERS, "l", "L", "s", "p", "x"]))
bare = st.lists(pieces.filter(lambda piece: piece != "0p"), max_size=8).map(" ".join)
NATIVE_IS_64_BIT = sys.byteorder == "little" and struct.calcsize("l") == 8 == struct.calcsize("P")


def values(text: str) -> tuple[Any, ...]:
    """Values of a format, none of them with all bits the same."""
    packer = struct.Struct(text)
    return packer.unpack(bytes(1 + index % 100 for index in range(packer.size)))


@pytest.mark.skipif(not NATIVE_IS_64_BIT, reason="the formats mean those of another machine")
@given(bare)
def test_without_a_mark_it_is_as_c_has_it(text: str) -> None:
    found = parse_format(text)
    assert found.packer.size == struct.calcsize(text)
    assert found.packer.pack(*values(text)) == struct.pack(text, *values(text))
    assert found.count == len(values(text))


@given(bare, st.sampled_from("<>!="))
def test_with_a_mark_it_is_as_struct_has_it(text: str, mark: str) -> None:
    ours, theirs = parse_format(mark + text), struct.Struct(("<" if mark == "=" else mark) + text)
    assert ours.packer.size == theirs.size
    assert ours.packer.pack(*values(theirs.format)) == theirs.pack(*values(theirs.format))


@given(
    st.lists(st.builds(str.__add__, counts, st.sampled_from(NUMBERS)), max_size=8).map("".join),
    st.sampled_from(["", "<", ">"]),
)
def test_the_structure_has_the_same_values(text: str, mark: str) -> None:
    found = parse_format(mark + text)
    names = [f"f{index}" for index in range(found.count)]
    structure = found.structure(names)
    assert structure is not None
    assert structure.itemsize == found.packer.size
    if not structure.itemsize:
        return
    data = bytes(1 + index % 60 for index in range(structure.itemsize))
    read = numpy.frombuffer(data, structure)[0]
    assert [read[name].item() for name in names] == list(found.packer.unpack(data))


@pytest.mark.parametrize(
    ("text", "size", "offsets"),
    [
        ("if?", 9, [0, 4, 8]),
        ("?d", 16, [0, 8]),
        ("<?d", 9, [0, 1]),
        ("@?d", 16, [0, 8]),
        ("b0q", 8, [0]),
        ("bl", 16, [0, 8]),
        ("<bl", 5, [0, 1]),
        ("bnNP", 32, [0, 8, 16, 24]),
        ("4sh3x", 9, [0, 4]),
        ("", 0, []),
    ],
)
def test_where_values_lie(text: str, size: int, offsets: list[int]) -> None:
    found = parse_format(text)
    assert found.packer.size == size
    assert found.types is not None
    assert [offset for _, offset in found.types] == offsets


def test_texts_and_how_long_they_may_be() -> None:
    found = parse_format("i4s3p s")
    assert found.texts == {1: 4, 2: 2, 3: 1}
    assert found.types is None
    assert found.structure([]) is None
    assert parse_format("0s").texts == {0: 0}
    assert parse_format("0s").types is None


@pytest.mark.parametrize("text", ["k", "i,f", "<n", "<P", "4", "i<", "é", "33554433i", "9" * 5000 + "i", "<<i", "0p"])
def test_what_is_no_format(text: str) -> None:
    with pytest.raises(ConfigurationError, match="no format of struct"):
        parse_format(text)
