"""Columns converted to the types of fields: exactly, or pointed out."""

from __future__ import annotations

import math
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from handshakes.errors import ValueNotSupported
from pynetwork.series.columns import fitted

INTEGERS = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i4", ">u8"]
integers = st.sampled_from(INTEGERS).map(numpy.dtype)


def misfits(found: Any) -> list[int]:
    return [] if found is None else numpy.flatnonzero(found).tolist()


@given(integers.flatmap(lambda dtype: arrays.arrays(dtype, st.integers(0, 6))), integers)
def test_integers_fit_or_are_pointed_out(column: Any, dtype: Any) -> None:
    found, bad = fitted(column, dtype)
    held = numpy.iinfo(dtype)
    expected = [index for index, value in enumerate(column.tolist()) if not held.min <= value <= held.max]
    assert misfits(bad) == expected
    assert found.dtype == dtype
    assert all(
        one == other
        for index, (one, other) in enumerate(zip(found.tolist(), column.tolist(), strict=True))
        if index not in expected
    )


@given(st.lists(st.integers(-(2**70), 2**70), max_size=5), integers)
def test_python_integers_fit_or_are_pointed_out(values: list[int], dtype: Any) -> None:
    found, bad = fitted(numpy.array(values, object), dtype)
    held = numpy.iinfo(dtype)
    expected = [index for index, value in enumerate(values) if not held.min <= value <= held.max]
    assert misfits(bad) == expected
    assert [value for index, value in enumerate(found.tolist()) if index not in expected] == [
        value for index, value in enumerate(values) if index not in expected
    ]


@given(arrays.arrays("f8", st.integers(0, 6)))
def test_floats_lose_digits_but_not_their_size(column: Any) -> None:
    found, bad = fitted(column, numpy.dtype("f4"))
    most = float(numpy.finfo("f4").max)
    for index, value in enumerate(column.tolist()):
        if index in misfits(bad):
            assert math.isfinite(value)
            assert abs(value) > most
        else:
            assert (
                math.isnan(value)
                or abs(float(found[index]) - value) <= abs(value) * 2**-20
                or abs(value) < 1e-30
                or value == found[index]
            )


@pytest.mark.parametrize(
    ("column", "dtype", "expected", "bad"),
    [
        (numpy.array([True, False]), "i4", [1, 0], []),
        (numpy.array([1, 2], "u8"), "f8", [1.0, 2.0], []),
        (numpy.array([True]), "f4", [1.0], []),
        (numpy.array([1e300, 1.0]), "f4", [math.inf, 1.0], [0]),
        (numpy.array([math.inf, -math.inf]), "f2", [math.inf, -math.inf], []),
        (numpy.array([1 + 2j]), "c8", [1 + 2j], []),
        (numpy.array([b"ab", b"abc"]), "S2", [b"ab", b"ab"], [1]),
        (numpy.array(["é", "ab"]), "S2", ["é".encode(), b"ab"], []),
        (numpy.array(["éé"]), "S2", ["é".encode()], [0]),
        (numpy.array(["ab", "abc"]), "U2", ["ab", "ab"], [1]),
        (numpy.array(["ab", b""], object), "V2", [b"ab"], None),
        (numpy.array([b"ab", b"abc"], object), "V2", [b"ab", b"\0\0"], [1]),
        (numpy.array([b"a\0"], "V2"), "V2", [b"a\0"], []),
        (numpy.array([b"a\0"], "S2"), "V2", [b"a\0"], []),
        (numpy.array(["2020-01-01"], "M8[D]"), "M8[s]", [1577836800], []),
        (numpy.array(["2020-01-01T01", "NaT"], "M8[h]"), "M8[D]", None, [0]),
        (numpy.array([1], "m8[s]"), "m8[ms]", [1000], []),
        (numpy.array([1, 2.5], object), "f8", [1.0, 2.5], []),
        (numpy.array(["x", "yz"], object), "U2", ["x", "yz"], []),
        (numpy.array([], object), "i4", [], []),
        (numpy.array([], object), "S3", [], []),
    ],
)
def test_kinds(column: Any, dtype: str, expected: list[Any] | None, bad: list[int] | None) -> None:
    if bad is None:
        with pytest.raises(ValueNotSupported):
            fitted(column, numpy.dtype(dtype))
        return
    found, which = fitted(column, numpy.dtype(dtype))
    assert misfits(which) == bad
    assert found.dtype == dtype
    if expected is not None:
        plain = found.astype(numpy.int64) if found.dtype.kind in "Mm" else found
        assert plain.tolist() == expected


@pytest.mark.parametrize(
    ("column", "dtype", "says"),
    [
        (numpy.array([1.0]), "i4", "make it integers"),
        (numpy.array([1.0]), "u8", "make it integers"),
        (numpy.array([1]), "?", "booleans"),
        (numpy.array(["1"]), "i4", "same kind"),
        (numpy.array([1]), "S4", "same kind"),
        (numpy.array([1j]), "f8", "same kind"),
        (numpy.array([1]), "M8[ns]", "same kind"),
        (numpy.array([1, None], object), "i4", "not all of one kind"),
        (numpy.array([1, "x"], object), "i4", "same kind"),
        (numpy.array([None], object), "V2", "not all bytes"),
        (numpy.array([b"abc"], "V3"), "V2", "3 bytes are not 2"),
        (numpy.array([[1], [1, 2]], object), "(2,)i4", "shape"),
        (numpy.ones((2, 3)), "(2,)f8", "shape"),
        (numpy.zeros(2, "i4,i4"), "i4,i4,i4", "fields f0, f1, f2"),
        (numpy.zeros(2), "i4,i4", "fields f0, f1"),
        (numpy.zeros((2, 1)), "f8", r"shape \(1,\), where float64 is one value each"),
        (numpy.zeros((2, 3), "i4"), "i2", "one value each"),
        (numpy.zeros((2, 2), "i4,i4"), "i4,i4", "one value each"),
    ],
)
def test_columns_of_another_kind(column: Any, dtype: str, says: str) -> None:
    with pytest.raises(ValueNotSupported, match=says):
        fitted(column, numpy.dtype(dtype))


def test_a_column_that_fits_is_not_copied() -> None:
    column = numpy.arange(4)
    assert fitted(column, numpy.dtype("i8"))[0] is column


def test_sub_arrays() -> None:
    dtype = numpy.dtype("(2,2)u1")
    found, bad = fitted(numpy.array([[[1, 2], [3, 4]], [[5, 6], [7, 256]]]), dtype)
    assert misfits(bad) == [1]
    assert found[0].tolist() == [[1, 2], [3, 4]]
    column = numpy.empty(2, object)
    column[:] = [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    found, bad = fitted(column, dtype)
    assert bad is None
    assert found.tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    assert fitted(numpy.zeros((0, 2, 2)), numpy.dtype("(2,2)f4"))[0].shape == (0, 2, 2)
    assert fitted(numpy.zeros((2, 0)), numpy.dtype("(0,)f4"))[0].shape == (2, 0)


def test_structures_by_name_and_by_order() -> None:
    given = numpy.array([(1, 2.0), (300, 4.0)], [("a", "i8"), ("b", "f8")])
    found, bad = fitted(given, numpy.dtype([("b", "f4"), ("a", "u1")]))
    assert misfits(bad) == [1]
    assert found[0].item() == (2.0, 1)
    found, bad = fitted(given, numpy.dtype([("x", "i8"), ("y", "f8")]))
    assert bad is None
    assert found.tolist() == [(1, 2.0), (300, 4.0)]
