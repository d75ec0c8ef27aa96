"""What payloads hold, as it is said on the command line, and their values as columns."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import numpy
import numpy.typing

from handshakes.errors import ConfigurationError, PynetworkError
from handshakes.records import Block
from pynetwork.series.conversions import array_from
from pynetwork.series.payloads import (
    BytesPayloadType,
    JsonPayloadType,
    NumpyPayloadType,
    PayloadType,
    TuplePayloadType,
)

__all__ = ["Payload", "numbers_payload", "payload_of"]

Array: TypeAlias = "numpy.typing.NDArray[Any]"

# One that is not within the shape of an array, as in acc:(2,3)f4.
_COMMA: Final = re.compile(r",(?![^(]*\))")


class Payload:
    """Payloads of one type, as columns: one for each field, or ``value`` where they have none, as JSON and bytes."""

    def __init__(self, payload_type: PayloadType[Any]) -> None:
        self.type = payload_type

    @property
    def has_fields(self) -> bool:
        """Whether payloads are values side by side."""
        return self.type.dtype is not None

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return ["value"] if self.type.dtype is None else list(self.type.dtype.names or ())

    def fitting(self, block: Block) -> Block:
        """The records of ``block`` whose payloads are of this type."""
        misfits = self.type.misfits(block)
        return block if misfits is None else block.take(~misfits)

    def columns(self, block: Block) -> list[Array]:
        """The values of a block of which all payloads are of this type; of JSON and bytes as Python objects."""
        if self.type.dtype is None:
            return [_objects(list(self.type.decode_all(block)))]
        whole = array_from(block, self.type)
        return [whole[name] for name in self.names]

    def numbers(self, block: Block) -> dict[str, Array]:
        """What of these values are numbers and truths, by name: ``field``, ``field[2]`` of a field that is an array,
        and of JSON the members of objects.
        """
        found: dict[str, Array] = {}
        for name, column in zip(self.names, self.columns(block), strict=True):
            if column.dtype.kind == "O":
                found |= _numbers_of_json(name, column.tolist())
            elif column.dtype.kind in "biuf":
                for place in numpy.ndindex(column.shape[1:]):
                    found[name + "".join(f"[{index}]" for index in place)] = column[(slice(None), *place)]
        return found

    def __str__(self) -> str:
        return str(self.type)


def _objects(values: list[Any]) -> Array:
    column = numpy.empty(len(values), numpy.object_)
    column[:] = values
    return column


def _numbers_of_json(name: str, values: list[Any]) -> dict[str, Array]:
    rows = [value if isinstance(value, dict) else {name: value} for value in values]
    names = dict.fromkeys(each for row in rows for each, value in row.items() if isinstance(value, (int, float)))
    return {each: numpy.array([_number(row.get(each)) for row in rows]) for each in names}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else numpy.nan


def payload_of(text: str) -> Payload:
    """The payloads that ``text`` names, as ``if?``, ``f8,f8``, ``x:f8,y:f8``, json or bytes.

    Raises `argparse.ArgumentTypeError`.
    """
    try:
        return Payload(_type_of(text.strip()))
    except PynetworkError as error:
        raise argparse.ArgumentTypeError(f"{error}; write 'if?', 'f8,f8', 'x:f8,y:f8', json or bytes") from None


def _type_of(text: str) -> PayloadType[Any]:
    if text == "json":
        return JsonPayloadType()
    if text == "bytes":
        return BytesPayloadType()
    if not text:
        raise ConfigurationError("an empty text names no payload")
    if ":" in text:
        return NumpyPayloadType([_named(each) for each in _COMMA.split(text)])
    try:
        payload_type = TuplePayloadType(text)
    except ConfigurationError:
        return NumpyPayloadType(text)
    if payload_type.dtype is None:
        raise ConfigurationError(f"{text!r} has values that no column shows")
    return payload_type


def _named(text: str) -> tuple[str, str]:
    name, _, kind = text.partition(":")
    if not name.strip() or not kind.strip():
        raise ConfigurationError(f"{text!r} is no NAME:TYPE")
    return name.strip(), kind.strip()


def numbers_payload(names: Iterable[str]) -> Payload:
    """Payloads of one double for each name. Raises `ConfigurationError` for a name that no field can have."""
    return Payload(NumpyPayloadType([(name, "<f8") for name in names]))
