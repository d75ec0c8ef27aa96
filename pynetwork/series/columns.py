"""Columns of numbers made to be of the types that a record's fields have, without changing a value on the way.

Whole columns at a time. What does not fit is not cut off, wrapped around or rounded to an integer, but pointed out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy
import numpy.typing

from handshakes.errors import ValueNotSupported

__all__ = ["fitted"]

Array: TypeAlias = "numpy.typing.NDArray[Any]"
Fitted: TypeAlias = "tuple[Array, Array | None]"


def fitted(column: Array, dtype: numpy.dtype[Any]) -> Fitted:
    """``column`` as an array of type ``dtype``, and which of its rows do not fit that, None when all do.

    A sub-array type takes a column with as many further dimensions, or one of nested sequences; a structured type one
    with fields of the same names, or else as many fields in the same order. Numbers may have any width and byte order;
    floats lose digits in a narrower float. Raises `ValueNotSupported` for a column of another kind.
    """
    if dtype.subdtype is None and column.ndim != 1:
        raise ValueNotSupported(f"its elements have the shape {column.shape[1:]}, where {dtype} is one value each")
    if column.dtype == dtype:
        return column, None
    if not len(column):
        # Nothing is of every kind; what libraries call it then says little.
        return numpy.empty(0, dtype), None
    if dtype.subdtype is not None:
        return _sub_arrays(column, *dtype.subdtype)
    if dtype.names is not None:
        return _structures(column, dtype)
    if column.dtype.kind == "O":
        return _objects(column, dtype)
    rule = _RULES.get((dtype.kind, column.dtype.kind))
    if rule is None:
        raise ValueNotSupported(f"{column.dtype} is not of the same kind as {dtype}{_ADVICE.get(dtype.kind, '')}")
    return rule(column, dtype)


_ADVICE = {
    "i": ": make it integers (floats lose digits beyond 2**53)",
    "u": ": make it integers (floats lose digits beyond 2**53)",
    "b": ": make it booleans, for example by comparing with 0",
}


def _either(one: Array | None, other: Array | None) -> Array | None:
    return one if other is None else other if one is None else one | other


def _some(misfits: Array) -> Array | None:
    return misfits if misfits.any() else None


def _as_it_is(column: Array, dtype: numpy.dtype[Any]) -> Fitted:
    return column.astype(dtype), None


def _integers(column: Array, dtype: numpy.dtype[Any]) -> Fitted:
    if numpy.can_cast(column.dtype, dtype):
        return column.astype(dtype), None
    held, given = numpy.iinfo(dtype), numpy.iinfo(column.dtype)
    misfits = numpy.zeros(len(column), numpy.bool_)
    # A bound is compared only where the column's own type holds it, so that nothing is converted to compare.
    if given.min < held.min:
        misfits |= column < held.min
    if given.max > held.max:
        misfits |= column > held.max
    return column.astype(dtype), _some(misfits)


def _floats(column: Array, dtype: numpy.dtype[Any]) -> Fitted:
    with numpy.errstate(over="ignore"):
        converted = column.astype(dtype)
    if column.dtype.kind == "b" or numpy.can_cast(column.dtype, dtype):
        return converted, None
    return converted, _some(numpy.isinf(converted) & ~numpy.isinf(column))


def _texts(column: Array, dtype: numpy.dtype[Any]) -> Fitted:
    if dtype.kind == "S" and column.dtype.kind == "U":
        column = numpy.char.encode(column, "utf-8")
    misfits = numpy.char.str_len(column) > dtype.itemsize // (4 if dtype.kind == "U" else 1)
    return column.astype(dtype), _some(misfits)


def _times(column: Array, dtype: numpy.dtype[Any]) -> Fitted:
    converted = column.astype(dtype)
    return converted, _some((converted.astype(column.dtype) != column) & ~numpy.isnat(column))


def _raw(column: Array, dtype: numpy.dtype[Any]) -> Fitted:
    if column.dtype.itemsize != dtype.itemsize:
        raise ValueNotSupported(f"{column.dtype.itemsize} bytes are not {dtype.itemsize}")
    return numpy.ascontiguousarray(column).view(dtype), None


_RULES: dict[tuple[str, str], Callable[[Array, numpy.dtype[Any]], Fitted]] = {
    **{(to, of): _integers for to in "iu" for of in "iu"},
    **{(to, of): _floats for to in "fc" for of in "biuf"},
    ("c", "c"): _floats,
    ("b", "b"): _as_it_is,
    ("i", "b"): _as_it_is,
    ("u", "b"): _as_it_is,
    ("S", "S"): _texts,
    ("S", "U"): _texts,
    ("U", "U"): _texts,
    ("M", "M"): _times,
    ("m", "m"): _times,
    ("V", "S"): _raw,
    ("V", "V"): _raw,
}


def _sub_arrays(column: Array, base: numpy.dtype[Any], shape: tuple[int, ...]) -> Fitted:
    if column.dtype.kind == "O":
        try:
            column = numpy.array(_lists(column)).reshape(len(column), *shape)
        except ValueError:
            raise ValueNotSupported(f"its elements are not arrays of shape {shape}") from None
    if column.shape[1:] != shape:
        raise ValueNotSupported(f"its elements have the shape {column.shape[1:]}, not {shape}")
    converted, misfits = fitted(column.reshape(-1), base)
    if misfits is not None:
        misfits = numpy.any(misfits.reshape(len(column), math.prod(shape)), axis=1)
    return converted.reshape(column.shape), misfits


def _lists(values: Any) -> Any:
    """Arrays in arrays as lists in lists."""
    return [_lists(value) for value in values] if isinstance(values, (numpy.ndarray, list, tuple)) else values


def _structures(column: Array, dtype: numpy.dtype[Any]) -> Fitted:
    assert dtype.names is not None
    given = column.dtype.names or ()
    if len(given) != len(dtype.names):
        raise ValueNotSupported(f"{column.dtype} has not the fields {', '.join(dtype.names)}")
    if set(given) == set(dtype.names):
        given = dtype.names
    converted = numpy.empty(column.shape, dtype)
    misfits: Array | None = None
    for name, source in zip(dtype.names, given, strict=True):
        converted[name], more = fitted(column[source], dtype[name])
        misfits = _either(misfits, more)
    return converted, misfits


def _objects(column: Array, dtype: numpy.dtype[Any]) -> Fitted:
    """A column of Python objects: what NumPy makes of them all together, if that is a kind that fits."""
    values = column.tolist()
    if dtype.kind == "V":
        return _pieces(values, dtype)
    if dtype.kind in "iu" and all(isinstance(value, int) for value in values):
        # They may be beyond 64 bits, of which NumPy would make floats.
        held = numpy.iinfo(dtype)
        misfits = numpy.array([not held.min <= value <= held.max for value in values], numpy.bool_)
        fitting = [0 if bad else value for value, bad in zip(values, misfits, strict=True)]
        return numpy.array(fitting, dtype), _some(misfits)
    plain = numpy.array(values)
    if plain.shape == column.shape and plain.dtype.kind != "O":
        return fitted(plain, dtype)
    raise ValueNotSupported(f"its elements are not all of one kind that {dtype} holds")


def _pieces(values: list[Any], dtype: numpy.dtype[Any]) -> Fitted:
    try:
        lengths = numpy.array([memoryview(value).nbytes for value in values], numpy.int64)
    except TypeError:
        raise ValueNotSupported("its elements are not all bytes") from None
    misfits = lengths != dtype.itemsize
    blank = bytes(dtype.itemsize)
    whole = b"".join(blank if bad else bytes(value) for value, bad in zip(values, misfits, strict=True))
    return numpy.frombuffer(whole, dtype), _some(misfits)
