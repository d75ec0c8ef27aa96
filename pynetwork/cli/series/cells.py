"""The cells of a table of text: values from their text, and columns of values as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy
import numpy.typing
import orjson

from handshakes.errors import ValueNotSupported
from pynetwork.cli.display import inline
from pynetwork.cli.series.payloads import Payload
from pynetwork.series.columns import fitted
from pynetwork.series.payloads import JsonPayloadType

__all__ = ["Reader", "integer", "plain_values", "readers_of", "table_cells"]

Array: TypeAlias = "numpy.typing.NDArray[Any]"
DType: TypeAlias = "numpy.dtype[Any]"
Reader: TypeAlias = "Callable[[str], Any]"

# From text


def readers_of(payload: Payload) -> list[Reader]:
    """For each column of ``payload`` what makes a value of a cell's text, or raises `ValueError`."""
    dtype = payload.type.dtype
    if dtype is None:
        return [_json if isinstance(payload.type, JsonPayloadType) else _hex]
    return [_reader_of(dtype[name]) for name in payload.names]


def _reader_of(dtype: DType) -> Reader:
    return _READERS[dtype.kind](dtype) if dtype.subdtype is None else _array_of(dtype)


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{_short(text)} is no JSON: {error}") from None


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ValueError(f"{_short(text)} are no bytes in hex") from None


def _truth(text: str) -> bool:
    found = {"true": True, "1": True, "false": False, "0": False}.get(text.strip().lower())
    if found is None:
        raise ValueError(f"{_short(text)} is neither true nor false")
    return found


def _float_of(dtype: DType) -> Reader:
    greatest = float(numpy.finfo(dtype).max)

    def read(text: str) -> float:
        if not text.strip():
            return math.nan
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{_short(text)} is no number") from None
        if abs(value) > greatest and not (math.isinf(value) and "inf" in text.lower()):
            raise ValueError(f"{_short(text)} is too large for {dtype}")
        return value

    return read


def integer(text: str) -> int:
    """A whole number. Raises `ValueError`."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{_short(text)} is no whole number") from None


def _integer_of(dtype: DType) -> Reader:
    held = numpy.iinfo(dtype)

    def read(text: str) -> int:
        value = integer(text)
        if not held.min <= value <= held.max:
            raise ValueError(f"{_short(text)} is not {held.min} to {held.max}")
        return value

    return read


def _complex(text: str) -> complex:
    try:
        return complex(text)
    except ValueError:
        raise ValueError(f"{_short(text)} is no complex number") from None


def _letters_of(dtype: DType) -> Reader:
    encoded = dtype.kind == "S"
    room = dtype.itemsize if encoded else dtype.itemsize // 4

    def read(text: str) -> str | bytes:
        value = text.encode() if encoded else text
        if len(value) > room:
            raise ValueError(f"{_short(text)} is longer than {room}")
        return value

    return read


def _raw_of(dtype: DType) -> Reader:
    def read(text: str) -> bytes:
        value = _hex(text)
        if len(value) != dtype.itemsize:
            raise ValueError(f"{_short(text)} has not {dtype.itemsize} bytes")
        return value

    return read


def _time_of(dtype: DType) -> Reader:
    # As NumPy writes it: a moment in ISO 8601, and a length as a number of the type's units.
    make: Callable[..., Any] = numpy.datetime64 if dtype.kind == "M" else numpy.timedelta64
    unit = numpy.datetime_data(dtype)

    def read(text: str) -> Any:
        try:
            return make(text.strip().removesuffix("Z") if dtype.kind == "M" else int(text), unit)
        except ValueError:
            raise ValueError(f"{_short(text)} is no time of type {dtype}") from None

    return read


def _array_of(dtype: DType) -> Reader:
    def read(text: str) -> Any:
        try:
            found, misfits = fitted(numpy.array([_json(text)]), dtype)
        except (ValueError, ValueNotSupported):
            raise ValueError(f"{_short(text)} is no array of type {dtype} in JSON") from None
        if misfits is not None:
            raise ValueError(f"{_short(text)} holds something that {dtype} does not")
        return found[0]

    return read


_READERS: Final[dict[str, Callable[[DType], Reader]]] = {
    "b": lambda _: _truth,
    "i": _integer_of,
    "u": _integer_of,
    "f": _float_of,
    "c": lambda _: _complex,
    "S": _letters_of,
    "U": _letters_of,
    "V": _raw_of,
    "M": _time_of,
    "m": _time_of,
}


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


# To text


def plain_values(column: Array) -> Sequence[Any]:
    """The values of a column as Python's, for JSON: numbers with no more digits than they have."""
    kind = column.dtype.kind
    if kind == "f" and column.dtype.itemsize < 8:
        # Through their own text: as doubles they would show digits that they do not have.
        column = column.astype(str).astype(numpy.float64)
    elif kind == "S":
        return [each.decode("utf-8", "replace") for each in column.tolist()]
    elif kind == "M":
        column = column.astype(str)
    elif kind == "m":
        column = column.astype(numpy.int64)
    result: list[Any] = column.tolist()
    return result


def table_cells(column: Array) -> list[str]:
    """The values as people read them; numbers with ten digits at the most."""
    return [f"{each:.10g}" if isinstance(each, float) else inline(each) for each in plain_values(column)]
