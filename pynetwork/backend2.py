"""The helpers of pynetwork 2.x: values to bytes and back, and printing from several threads.

New programs need none of them: a payload may be any value, see `handshakes.values`. They are for scripts that use them,
and for bytes that such scripts have stored. Two families do the same: ``int_to_bytes`` and its kin, from 2.0 on, write
unsigned big-endian integers; ``to_bytes`` and ``from_bytes``, from 2.2 on, take a `DataType` and write little-endian.

What 2.x spoke on its sockets is gone, and so are the helpers for that.
"""

from __future__ import annotations

import enum
import json
import struct
import threading
from typing import Any

from handshakes.errors import PynetworkError, RemoteProtocolError
from handshakes.messages import Bytes, register, registry

__all__ = [
    "DataType",
    "RemoteException",
    "SignallingError",
    "bytes_to_int",
    "bytes_to_str",
    "de_serialize_obj",
    "from_bytes",
    "int_to_bytes",
    "long_to_bytes",
    "register_class_for_serialization",
    "safe_print",
    "serialize_obj",
    "str_to_bytes",
    "to_bytes",
]

RemoteException = PynetworkError
"""What 2.x raised when the gateway said no or a subroutine failed; now each has a class of its own."""
SignallingError = RemoteProtocolError
"""What 2.x raised when the peer said something else than what was expected."""

register_class_for_serialization = register
"""Let instances of a class travel, and be built by ``de_serialize_obj``; see `handshakes.messages.Registry`."""


class DataType(enum.Enum):
    """What ``to_bytes`` writes: a character or number of this form of `struct`, text, or JSON."""

    char = "c"
    bool = "?"
    int = "i"
    int_unsigned = "I"
    long = "q"
    long_unsigned = "Q"
    float = "f"
    double = "d"
    string = "s"
    list = "list"
    tuple = "tuple"
    dict = "dict"
    none = "none"


_JSON = (DataType.list, DataType.tuple, DataType.dict, DataType.none)


def to_bytes(data_type: DataType, value: Any) -> bytes:
    """``value`` as bytes: numbers little-endian in 1 (bool), 4 (int, float) or 8 bytes (long, double), text as UTF-8,
    the others as JSON.

    Raises `struct.error` or `TypeError` for a value of another type.
    """
    if data_type is DataType.string:
        return str_to_bytes(value)
    if data_type in _JSON:
        return json.dumps(value).encode()
    return struct.pack(f"<{data_type.value}", value)


def from_bytes(data_type: DataType, bytes: Bytes) -> Any:  # noqa: A002 - its name in 2.x
    """The value that ``to_bytes`` wrote. Raises `struct.error` or `ValueError` for bytes that are none such."""
    if data_type is DataType.string:
        return bytes_to_str(bytes)
    if data_type in _JSON:
        value = json.loads(bytes_to_str(bytes))
        return tuple(value) if data_type is DataType.tuple else value
    return struct.unpack(f"<{data_type.value}", bytes)[0]


def int_to_bytes(i: int, header_size: int = 4) -> bytes:
    """``i``, at least 0, in ``header_size`` bytes, big-endian. Raises `OverflowError` when it does not fit."""
    return i.to_bytes(header_size, "big")


def long_to_bytes(i: int, header_size: int = 8) -> bytes:
    """As ``int_to_bytes``, in 8 bytes."""
    return i.to_bytes(header_size, "big")


def bytes_to_int(b: Bytes) -> int:
    """The integer that ``int_to_bytes`` or ``long_to_bytes`` wrote."""
    return int.from_bytes(b, "big")


def str_to_bytes(message: str) -> bytes:
    """Text as UTF-8."""
    return message.encode()


def bytes_to_str(_bytes: Bytes) -> str:
    """Text from UTF-8. Raises `UnicodeDecodeError`."""
    return str(_bytes, "utf-8")


def serialize_obj(obj: object) -> str:
    """The name of an object's class, a colon, and its attributes as JSON. Raises `TypeError` for others than JSON's."""
    return f"{type(obj).__name__}:{json.dumps(vars(obj), indent=1)}"


def de_serialize_obj(string: str) -> Any:
    """The object that ``serialize_obj`` wrote, if its class is registered here and can be made without arguments.

    Raises `ValueNotSupported` when it is not, and `ValueError` for text that is none such.
    """
    name, _, text = string.partition(":")
    fields = json.loads(text)
    if not isinstance(fields, dict):
        raise ValueError(  # noqa: TRY004 - the text is wrong, no argument's type
            f"{string[:80]!r} is no object that serialize_obj wrote"
        )
    instance = registry.build(name, {})
    vars(instance).update(fields)
    return instance


_print_lock = threading.Lock()


def safe_print(*args: Any, **kwargs: Any) -> None:
    """`print`, one thread at a time, so that the lines of several handlers do not mix."""
    with _print_lock:
        print(*args, **kwargs)
