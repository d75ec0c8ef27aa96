"""Payload types: how the value of a record lies in its payload, which is opaque bytes to the database.

====================  =====================  ==================================================
type                  values                 bytes
====================  =====================  ==================================================
StructPayloadType     one                    as `struct` packs it, e.g. ``"<d"``
TuplePayloadType      tuples                 as `struct` packs them, e.g. ``"if?"``
NumpyPayloadType      numpy.void, scalars    as a packed NumPy type lies in memory
UnitPayloadType       ``()``                 none
BytesPayloadType      bytes                  themselves
JsonPayloadType       what JSON holds        JSON text, without NaN and infinities
RegisteredPayloadType instances of a class   its head and body as `handshakes.values` writes them
====================  =====================  ==================================================

A `struct` format without a byte-order mark means what it means to TStorage's own client on a 64-bit machine, here on
every machine: little-endian and aligned as in C, so that ``"if?"`` has 9 bytes and ``"?d"`` has 16, 7 of them padding.
With ``"<"`` nothing is padded.

A type of one's own derives from `PayloadType` and needs ``to_bytes`` and ``from_bytes`` only.
"""

from __future__ import annotations

import itertools
import struct
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Final, Generic, TypeAlias, TypeVar

import numpy
import numpy.lib.recfunctions
import numpy.typing
import orjson

from handshakes.errors import ConfigurationError, PynetworkError, ValueNotSupported
from handshakes.messages import Bytes, Registry, registry
from handshakes.records import FIELDS, KEY, Block, Key, Ragged, Rows
from handshakes.values import Form, decode, encode
from pynetwork.series.columns import fitted
from pynetwork.series.formats import parse_format

__all__ = [
    "BytesPayloadType",
    "JsonPayloadType",
    "NumpyPayloadType",
    "PayloadType",
    "RegisteredPayloadType",
    "StructPayloadType",
    "TuplePayloadType",
    "UnitPayloadType",
]

T = TypeVar("T")
Array: TypeAlias = "numpy.typing.NDArray[Any]"
DType: TypeAlias = "numpy.dtype[Any]"


class PayloadType(ABC, Generic[T]):
    """Turns the values of records into payloads and back.

    ``width``: bytes of every payload, -1 where they may differ. ``dtype``: the structured NumPy type that payloads
    are in memory, None where they are none.
    """

    width: int = -1
    dtype: DType | None = None

    @abstractmethod
    def to_bytes(self, value: T) -> bytes:
        """The payload of a value."""

    @abstractmethod
    def from_bytes(self, buffer: bytes) -> T | None:
        """The value of a payload, None when these bytes are of no such type."""

    def read(self, buffer: Bytes) -> T:
        """The value of a payload. Raises `ValueNotSupported` when these bytes are of no such type."""
        try:
            value = self.from_bytes(bytes(buffer))
        except Exception as error:
            raise ValueNotSupported(f"{len(buffer)} bytes are no {self}: {error!r}") from error
        if value is None:
            raise ValueNotSupported(f"{len(buffer)} bytes are no {self}")
        return value

    def encode_all(self, values: Sequence[T], keys: Sequence[Key] = ()) -> tuple[Bytes, int | Array]:
        """The payloads of ``values`` one after another, and the bytes of each, or where each ends if they differ.

        Raises `ValueNotSupported` for the first that does not fit, naming its key when ``keys`` are given.
        """
        pieces = [self._piece(index, value, keys) for index, value in enumerate(values)]
        sizes = numpy.fromiter(map(len, pieces), numpy.int64, len(pieces))
        alike = len(sizes) and (sizes == sizes[0]).all()
        return b"".join(pieces), int(sizes[0]) if alike else max(self.width, 0) if not pieces else numpy.cumsum(sizes)

    def _piece(self, index: int, value: T, keys: Sequence[Key]) -> Bytes:
        try:
            piece = self.to_bytes(value)
            return piece if isinstance(piece, bytes) else memoryview(piece).cast("B")
        except Exception as error:
            why = error if isinstance(error, ValueNotSupported) else self._refused(value, error)
            whose = keys[index] if index < len(keys) else index
            raise ValueNotSupported(f"record {whose} can't be put: {why}") from error

    def _refused(self, value: object, why: object) -> ValueNotSupported:
        return ValueNotSupported(f"{_short(value)} does not fit {self}: {why}")

    def decode_all(self, block: Block) -> Sequence[T]:
        """The values of all records of ``block``. Raises `ValueNotSupported` naming the key of the first misfit."""
        values = []
        for index, payload in enumerate(block.payloads()):
            try:
                values.append(self.read(payload))
            except ValueNotSupported as error:
                raise ValueNotSupported(f"the payload of {block.key(index)} does not fit: {error}") from error
        return values

    def misfits(self, block: Block) -> Array | None:
        """Which payloads of ``block`` are not of this type, as booleans; None when all are."""
        found = numpy.zeros(len(block), numpy.bool_)
        for index, payload in enumerate(block.payloads()):
            try:
                self.read(payload)
            except ValueNotSupported:
                found[index] = True
        return found if found.any() else None

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


class _Reading(PayloadType[T]):
    """A type that says why bytes are not of it."""

    def from_bytes(self, buffer: bytes) -> T | None:
        try:
            return self.read(buffer)
        except ValueNotSupported:
            return None

    @abstractmethod
    def read(self, buffer: Bytes) -> T: ...


class _Fixed(_Reading[T]):
    """A type whose payloads all have ``width`` bytes, and any such bytes are one."""

    def misfits(self, block: Block) -> Array | None:
        if block.width == self.width:
            return None
        found = block.sizes() != self.width
        return found if found.any() else None

    def decode_all(self, block: Block) -> Sequence[T]:
        misfits = self.misfits(block)
        if misfits is not None:
            index = int(misfits.argmax())
            raise ValueNotSupported(
                f"the payload of {block.key(index)} has {block.sizes()[index]} bytes; {self} has {self.width}"
            )
        return self._values(_joined_payloads(block), len(block))

    def _sized(self, buffer: Bytes) -> Bytes:
        if len(buffer) != self.width:
            raise ValueNotSupported(f"{len(buffer)} bytes are no {self}, which has {self.width}")
        return buffer

    @abstractmethod
    def _values(self, data: Array, count: int) -> Sequence[T]:
        """The values of ``count`` payloads that lie one after another in ``data``."""


def _joined_payloads(block: Block) -> Array:
    if isinstance(block, Ragged):
        return block.data
    assert isinstance(block, Rows)
    return numpy.ascontiguousarray(block.matrix()[:, KEY.itemsize :]).reshape(-1)


# Formats of struct


class _Packed(_Fixed[T]):
    """Values that `struct` packs."""

    def __init__(self, format: str) -> None:  # noqa: A002 - the vendor's word
        self._text = format
        self._format = parse_format(format)
        self._packer = self._format.packer
        self.width = self._packer.size
        self.dtype = self._format.structure(self._names(self._format.count))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._text!r})"

    def _names(self, count: int) -> list[str]:
        return [f"f{index}" for index in range(count)]

    def _pack(self, values: Sequence[Any], value: object) -> bytes:
        try:
            packed = self._packer.pack(*values)
        except (struct.error, TypeError, OverflowError) as error:
            raise self._refused(value, error) from error
        for index, room in self._format.texts.items():
            if len(values[index]) > room:
                raise self._refused(value, f"{_short(values[index])} would be cut off to {room} bytes")
        return packed

    def _pack_all(self, values: Iterable[Sequence[Any]]) -> bytes | None:
        """All packed, fast; None when one of them does not fit, or that is not seen in this way."""
        if self._format.texts:
            return None
        try:
            return b"".join(itertools.starmap(self._packer.pack, values))
        except (struct.error, TypeError, OverflowError):
            return None


class TuplePayloadType(_Packed[tuple[Any, ...]]):
    """Tuples as `struct` packs them: ``TuplePayloadType("if?")`` for an int, a float and a bool.

    See the module about formats without a byte-order mark. In arrays, fields are named f0, f1, and so on. A text
    (``"8s"``) that is shorter is filled with zeros. Raises `ConfigurationError` for what is no format.
    """

    def to_bytes(self, value: tuple[Any, ...]) -> bytes:
        """The payload of a tuple. Raises `ValueNotSupported` when it does not fit the format."""
        return self._pack(value, value)

    def read(self, buffer: Bytes) -> tuple[Any, ...]:
        """The tuple in a payload. Raises `ValueNotSupported` when it has another size."""
        return self._packer.unpack(self._sized(buffer))

    def encode_all(self, values: Sequence[tuple[Any, ...]], keys: Sequence[Key] = ()) -> tuple[Bytes, int | Array]:
        """As `PayloadType.encode_all`."""
        packed = self._pack_all(values)
        return super().encode_all(values, keys) if packed is None else (packed, self.width)

    def _values(self, data: Array, count: int) -> Sequence[tuple[Any, ...]]:
        return list(self._packer.iter_unpack(data.data)) if self.width else [()] * count


class StructPayloadType(_Packed[T]):
    """One value as `struct` packs it: ``StructPayloadType[float]("<d")``. In arrays, its field is named value.

    Raises `ConfigurationError` for what is no format, or one of several values.
    """

    def __init__(self, format: str) -> None:  # noqa: A002 - the vendor's word
        super().__init__(format)
        if self._format.count != 1:
            raise ConfigurationError(f"{format!r} holds {self._format.count} values, not one; use TuplePayloadType")

    def _names(self, count: int) -> list[str]:
        return ["value"] if count == 1 else super()._names(count)

    def to_bytes(self, value: T) -> bytes:
        """The payload of a value. Raises `ValueNotSupported` when it does not fit the format."""
        return self._pack((value,), value)

    def read(self, buffer: Bytes) -> T:
        """The value in a payload. Raises `ValueNotSupported` when it has another size."""
        return self._packer.unpack(self._sized(buffer))[0]  # type: ignore[no-any-return]

    def encode_all(self, values: Sequence[T], keys: Sequence[Key] = ()) -> tuple[Bytes, int | Array]:
        """As `PayloadType.encode_all`."""
        packed = self._pack_all(zip(values))
        return super().encode_all(values, keys) if packed is None else (packed, self.width)

    def _values(self, data: Array, count: int) -> Sequence[T]:
        return [value for (value,) in self._packer.iter_unpack(data.data)] if self.width else [self.read(b"")] * count


# NumPy


class NumpyPayloadType(_Fixed[Any]):
    """Values as NumPy keeps them in memory, for whole structured arrays in and out.

    ``dtype``: anything that NumPy takes for one, such as ``"i,i,d"`` (fields f0, f1, f2), a list of names and types,
    a scalar (its field is named v0) or a sub-array; None for no payload. Padding between fields is left out, and
    numbers are little-endian unless the type says ``>``. Raises `ConfigurationError` for Python objects and for fields
    with the name of a key's.
    """

    dtype: DType

    def __init__(self, dtype: Any) -> None:
        given = numpy.dtype([]) if dtype is None else _as_dtype(dtype)
        if given.names is not None:
            given = numpy.dtype(numpy.lib.recfunctions.repack_fields(given))
        if sys.byteorder == "big":
            given = given.newbyteorder("<")
        self._type = given
        self.dtype = given if given.names is not None else numpy.dtype([("v0", given)])
        self.width = given.itemsize
        taken = {*FIELDS, "_size"} & set(self.dtype.names or ())
        if given.hasobject or taken:
            raise ConfigurationError(
                f"dtype={dtype!r} can't be a payload's: "
                + (f"{taken.pop()!r} is a field of the key; rename it" if taken else "it holds Python objects")
            )

    def __repr__(self) -> str:
        base, shape = self._type.subdtype or (self._type, "")
        shown = base.str if base.names is None else base.descr
        return f"{type(self).__name__}({shape}{shown})"

    def to_bytes(self, value: Any) -> bytes:
        """The payload of a value. Raises `ValueNotSupported` when it does not fit the type."""
        if isinstance(value, (numpy.ndarray, numpy.generic)) and value.dtype == self._type and value.ndim == 0:
            return value.tobytes()
        try:
            return _element(value, self._type).tobytes()
        except ValueNotSupported as error:
            raise self._refused(value, error) from error

    def read(self, buffer: Bytes) -> Any:
        """The value in a payload, as a NumPy scalar. Raises `ValueNotSupported` when it has another size."""
        return self._values(numpy.frombuffer(self._sized(buffer), numpy.uint8), 1)[0]

    def _values(self, data: Array, count: int) -> Sequence[Any]:
        if not self.width:
            return list(numpy.zeros(count, self._type))
        base, shape = self._type.subdtype or (self._type, ())
        return list(data.view(base).reshape(count, *shape))


def _as_dtype(dtype: Any) -> DType:
    try:
        known: DType = numpy.dtype(dtype)
        return known
    except (TypeError, ValueError, SyntaxError) as error:
        raise ConfigurationError(f"dtype={dtype!r} is no type that NumPy knows: {error}") from error


def _element(value: Any, dtype: DType) -> Array:
    """One value as an array of one element of ``dtype``."""
    if dtype.names is not None:
        if isinstance(value, numpy.void):
            value = tuple(value[name] for name in value.dtype.names or ())
        if not isinstance(value, (tuple, list)) or len(value) != len(dtype.names):
            raise ValueNotSupported(f"it takes a tuple of {len(dtype.names)} values ({', '.join(dtype.names)})")
        whole = numpy.empty(1, dtype)
        for name, part in zip(dtype.names, value, strict=True):
            whole[name] = _element(part, dtype[name])
        return whole
    if dtype.kind == "V" and dtype.subdtype is None:
        column = numpy.empty(1, object)
        column[0] = value
    else:
        column = numpy.asarray(value)[None]
    converted, misfits = fitted(column, dtype)
    if misfits is not None:
        raise ValueNotSupported(f"{dtype} does not hold it")
    return converted


# Without a structure


class UnitPayloadType(PayloadType[tuple[()]]):
    """No payload: all that matters is in the key. Whatever bytes a payload has, it is read as ``()``."""

    width = 0
    dtype = numpy.dtype([])

    def to_bytes(self, value: object) -> bytes:  # noqa: ARG002
        """No bytes."""
        return b""

    def from_bytes(self, buffer: Bytes) -> tuple[()]:  # noqa: ARG002
        """The empty tuple."""
        return ()

    def decode_all(self, block: Block) -> Sequence[tuple[()]]:
        """As `PayloadType.decode_all`."""
        return [()] * len(block)

    def misfits(self, block: Block) -> None:
        """None: all fit."""


class BytesPayloadType(PayloadType[bytes]):
    """The payload as it is. Takes bytes, bytearray, memoryview and arrays in one piece; gives bytes."""

    def to_bytes(self, value: bytes) -> bytes:
        """The same bytes."""
        if isinstance(value, bytes):
            return value
        if isinstance(value, (bytearray, memoryview, numpy.ndarray)):
            return value.tobytes() if isinstance(value, numpy.ndarray) else bytes(value)
        raise self._refused(value, f"{type(value).__name__} is not bytes")

    def from_bytes(self, buffer: Bytes) -> bytes:
        """The same bytes."""
        return bytes(buffer)

    def decode_all(self, block: Block) -> Sequence[bytes]:
        """As `PayloadType.decode_all`."""
        return list(map(bytes, block.payloads()))

    def misfits(self, block: Block) -> None:
        """None: all fit."""


class JsonPayloadType(_Reading[Any]):
    """JSON text: None is no value here, and neither are NaN and infinities, which JSON lacks."""

    def to_bytes(self, value: Any) -> bytes:
        """JSON text of ``value``. Raises `ValueNotSupported` when JSON has none."""
        try:
            form, _, buffers, _ = encode(value, _NO_CLASSES)
        except ValueNotSupported as error:
            raise self._refused(value, error) from error
        if form != Form.JSON or value is None:
            raise self._refused(value, "it is not JSON")
        return bytes(buffers[0])

    def read(self, buffer: Bytes) -> Any:
        """What the text says. Raises `ValueNotSupported` for what is no JSON, and for ``null``."""
        try:
            value = orjson.loads(buffer)
        except orjson.JSONDecodeError as error:
            raise ValueNotSupported(f"{len(buffer)} bytes are no JSON: {error}") from error
        if value is None:
            raise ValueNotSupported("null is no value")
        return value


_NO_CLASSES: Final = Registry()
_HEAD: Final = struct.Struct("<I")


class RegisteredPayloadType(_Reading[T]):
    """Instances of a class that is registered with `pynetwork.register`, with arrays and bytes in their fields.

    The payload is a 4-byte little-endian length, the head and the body of the value as `handshakes.values` writes
    them: nothing is ever unpickled.
    """

    def __init__(self, cls: type[T], registry: Registry = registry) -> None:
        if not isinstance(cls, type):
            raise ConfigurationError(f"{cls!r} is no class; give one that is registered with pynetwork.register")
        self._cls = cls
        self._registry = registry

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._cls.__name__})"

    def to_bytes(self, value: T) -> bytes:
        """The payload of an instance. Raises `ValueNotSupported` when it is none, or the class is not registered."""
        if type(value) is not self._cls:
            raise self._refused(value, f"it is no {self._cls.__name__}")
        try:
            _, head, buffers, _ = encode(value, self._registry)
        except ValueNotSupported as error:
            raise self._refused(value, error) from error
        return b"".join([_HEAD.pack(len(head)), head, *buffers])

    def read(self, buffer: Bytes) -> T:
        """The instance in a payload. Raises `ValueNotSupported` when it is none of this class."""
        view = memoryview(buffer)
        end = _HEAD.size + (_HEAD.unpack_from(view)[0] if len(view) >= _HEAD.size else len(view))
        if end > len(view):
            raise ValueNotSupported(f"{len(buffer)} bytes are no {self}")
        try:
            # A copy, on which arrays may be views as long as they like.
            value: Any = decode(Form.TREE, bytes(view[_HEAD.size : end]), bytearray(view[end:]), self._registry)
        except PynetworkError as error:
            raise ValueNotSupported(f"{len(buffer)} bytes are no {self}: {error}") from error
        if type(value) is not self._cls:
            raise ValueNotSupported(f"an instance of {type(value).__name__} is no {self._cls.__name__}")
        return value
