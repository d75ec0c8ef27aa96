"""How an item becomes one message of a tool that carries bytes, and an item again."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy
import orjson

__all__ = ["ARRAYS", "BYTES", "JSON", "Packing"]

_IDENT = struct.Struct("<q")
_write_ident = _IDENT.pack
_read_ident = _IDENT.unpack_from


@dataclass(frozen=True)
class Packing:
    """``unpack(pack(ident, payload))`` is the item."""

    pack: Callable[[int, Any], bytes]
    unpack: Callable[[bytes], tuple[int, Any]]


def _pack_bytes(ident: int, payload: bytes) -> bytes:
    return _write_ident(ident) + payload


def _unpack_bytes(message: bytes) -> tuple[int, bytes]:
    return _read_ident(message)[0], message[8:]


def _pack_json(ident: int, payload: Any) -> bytes:
    return orjson.dumps((ident, payload))


def _pack_array(ident: int, payload: Any) -> bytes:
    return b"".join((_write_ident(ident), payload))


def _unpack_array(message: bytes) -> tuple[int, Any]:
    return _read_ident(message)[0], numpy.frombuffer(message, numpy.float64, offset=8)


BYTES = Packing(_pack_bytes, _unpack_bytes)
JSON = Packing(_pack_json, orjson.loads)
"""The lists of two that JSON gives, as they are."""
ARRAYS = Packing(_pack_array, _unpack_array)
"""Of float64 in one dimension; the arrays that arrive lie in the message."""
