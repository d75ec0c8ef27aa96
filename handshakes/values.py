"""A Python value to bytes and back. Nothing is ever unpickled.

============  ===========================================  =====================================
form          values                                       arrives as
============  ===========================================  =====================================
``RAW``       bytes, bytearray, memoryview                 bytes
``JSON``      what JSON holds, written by orjson           dict, list, str, int, float, bool, None
``ARRAY``     numpy arrays of any dtype without objects    a writable array, a view on what was received
``TREE``      JSON with any of the above, numpy scalars,   the same, nested in the same way
              NaN and infinities or registered classes in
============  ===========================================  =====================================

A value is encoded to ``(form, head, buffers, size)``: a number, a small head that describes the buffers, and
the buffers themselves, ``size`` bytes together, which are the caller's own memory where that is possible (so
they must not change until they are sent). Tuples arrive as lists; what orjson writes natively beyond JSON
(datetime, UUID, Enum) arrives in its JSON form; integers have at most 64 bits. NaN and the infinities, which
JSON lacks, are kept.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy
import orjson

from handshakes.errors import RemoteProtocolError, ValueNotSupported
from handshakes.messages import Registry
from handshakes.messages import registry as default_registry

__all__ = ["Encoded", "Form", "array_head", "array_memory", "decode", "encode", "read_array_head"]

Buffer = bytes | bytearray | memoryview
Encoded = tuple[int, bytes, list[Buffer], int]
Array = numpy.ndarray[Any, Any]


class Form(enum.IntEnum):
    """How a value lies in its bytes."""

    RAW = 0
    JSON = 1
    ARRAY = 2
    TREE = 3


RAW, JSON, ARRAY, TREE = (int(form) for form in Form)

# Dataclasses go to the hook, so that only registered ones travel and they come back as what they were.
_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS
_MOST_DIMENSIONS = 64
# Types that are the same on every machine (a long double is not), and that have a size (of nothing there
# may be any number).
_PORTABLE = re.compile(
    r"[|<>](b1|[iu][1248]|f[248]|c8|c16|[mM]8(\[[0-9]*[A-Za-z]+\])?|[SUV][1-9][0-9]{0,9})", re.ASCII
).fullmatch


def encode(value: object, registry: Registry = default_registry) -> Encoded:
    """``value`` as ``(form, head, buffers, size in bytes)``. Raises `ValueNotSupported` when it has none."""
    kind = type(value)
    if kind is bytes:
        return RAW, b"", [value], len(value)  # type: ignore[list-item, arg-type]
    if kind is numpy.ndarray:
        return _encode_array(value)  # type: ignore[arg-type]
    try:
        text = orjson.dumps(value, None, _OPTIONS)
    except TypeError:
        if isinstance(value, (bytes, bytearray, memoryview)):
            memory = _flat(value)
            return RAW, b"", [memory], len(memory)
        if isinstance(value, numpy.ndarray):
            return _encode_array(value)
        return _TreeWriter(registry).encode(value)
    if text.find(b"null") >= 0 and _guarded(value) is not value:
        return _TreeWriter(registry).encode(value)
    return JSON, b"", [text], len(text)


def decode(form: int, head: bytes, body: Buffer, registry: Registry = default_registry, shared: bool = False) -> Any:
    """The value of an encoded form whose buffers were joined to ``body``.

    ``shared`` says that ``body`` will be overwritten soon: an array is then copied out of it, else it is a
    view on it, writable when ``body`` is. Raises `RemoteProtocolError` for malformed bytes and
    `ValueNotSupported` for an instance whose class is not registered here.
    """
    try:
        if form == JSON:
            return orjson.loads(body)
        if form == RAW:
            return bytes(body)
        if form == ARRAY:
            return read_array_head(head)(bytearray(body) if shared else body)
        if form == TREE:
            return _read_tree(head, body, registry, shared)
    except (orjson.JSONDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"a value arrived that is not well-formed JSON: {error}") from error
    raise RemoteProtocolError(f"a value arrived in the unknown form {form}")


# Arrays


def _encode_array(array: Array) -> Encoded:
    head = array_head(array)
    memory = array_memory(array)
    return ARRAY, head, [memory], len(memory)


def array_head(array: Array) -> bytes:
    """dtype, shape and memory order of ``array`` as JSON. Raises `ValueNotSupported` when it has no form."""
    if isinstance(array, numpy.ma.MaskedArray):
        raise ValueNotSupported("a masked array would lose its mask; send array.data and array.mask")
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    return _head(array.dtype, array.shape, fortran)


@lru_cache(maxsize=256)
def _head(dtype: numpy.dtype[Any], shape: tuple[int, ...], fortran: bool) -> bytes:
    try:
        description = None if dtype.hasobject else _description(dtype)
        head = orjson.dumps([description, shape, "F" if fortran else "C"])
        faithful = read_array_head(head).dtype == dtype
    except (TypeError, ValueError, RemoteProtocolError):
        faithful = False
    if not faithful:
        raise ValueNotSupported(f"an array of dtype {dtype} has no wire form; convert it to plain numbers or bytes")
    return head


def _description(dtype: numpy.dtype[Any]) -> Any:
    """As `numpy.lib.format.dtype_to_descr`, which warns of metadata: those stay behind, they are notes."""
    return dtype.str if dtype.names is None else _without_metadata(dtype.descr)


def _without_metadata(description: Any) -> Any:
    if isinstance(description, list):
        return [(name, _without_metadata(kind), *shape) for name, kind, *shape in description]
    if isinstance(description, tuple):
        # The kind of the elements and either a shape, for an array of arrays, or the metadata.
        kind, more = description
        return kind if isinstance(more, dict) else (_without_metadata(kind), more)
    return description


def array_memory(array: Array) -> memoryview:
    """The bytes of ``array`` in its memory order: its own memory, or a copy where that is not contiguous."""
    array = numpy.asarray(array)  # subclasses give reshape a meaning of their own
    if not array.flags.forc:
        array = numpy.ascontiguousarray(array)
    elif not array.flags.c_contiguous:
        array = array.T
    if not array.nbytes:
        return memoryview(b"")
    return array.reshape(-1).view(numpy.uint8).data


class _ArrayReader:
    """Makes arrays of one dtype and shape from bytes; kept, as a stream brings many alike."""

    def __init__(self, dtype: numpy.dtype[Any], shape: tuple[int, ...], order: Any) -> None:
        self.dtype, self.shape, self.order = dtype, shape, order
        self.size = dtype.itemsize * math.prod(shape)

    def __call__(self, body: Buffer) -> Array:
        if len(body) != self.size:
            raise RemoteProtocolError(f"an array of {self.size} bytes came with {len(body)}")
        return self._lay(self.shape, body)

    def rows(self, body: Buffer, count: int) -> Sequence[Array]:
        """``count`` arrays that lie one after the other in ``body``, as views on it."""
        if len(body) != self.size * count:
            raise RemoteProtocolError(f"{count} arrays of {self.size} bytes came with {len(body)}")
        if self.order == "C" and 0 < len(self.shape) < _MOST_DIMENSIONS:
            return list(self._lay((count, *self.shape), body))
        view = memoryview(body)
        return [self(view[index * self.size : (index + 1) * self.size]) for index in range(count)]

    def _lay(self, shape: tuple[int, ...], body: Buffer) -> Array:
        try:
            return numpy.ndarray(shape, self.dtype, body, order=self.order)
        except ValueError as error:
            # More dimensions than this numpy knows, or an empty array with extents beyond all memory.
            raise RemoteProtocolError(f"an array came in a shape that can't be made: {error}") from error


@lru_cache(maxsize=256)
def read_array_head(head: bytes) -> _ArrayReader:
    """The reader for arrays described by ``head``. Raises `RemoteProtocolError` for a malformed head."""
    try:
        description, shape, order = orjson.loads(head)
        dtype = numpy.lib.format.descr_to_dtype(_as_description(description))
        shape = tuple(shape)
        well_formed = (
            order in ("C", "F")
            and dtype.itemsize > 0
            and dtype.subdtype is None
            and len(shape) <= _MOST_DIMENSIONS
            and all(type(extent) is int and 0 <= extent < 2**63 for extent in shape)
        )
    except (ValueError, TypeError, KeyError, IndexError, SyntaxError, RecursionError) as error:
        raise RemoteProtocolError(f"an array came with a malformed description: {error}") from error
    if not well_formed:
        raise RemoteProtocolError("an array came with a description that is not allowed")
    return _ArrayReader(dtype, shape, order)


def _as_description(parsed: Any) -> Any:
    """A dtype description from JSON, with the tuples back that numpy wants for fields and sub-arrays.

    A list of lists is a structure of fields; a list whose first element is no list is a sub-array.
    """
    if isinstance(parsed, str):
        if not _PORTABLE(parsed):
            raise ValueError(f"{parsed[:40]!r} is no type of elements that may travel")
        return parsed
    if parsed and all(isinstance(each, list) for each in parsed):
        return [_as_field(field) for field in parsed]
    dtype, shape = parsed
    return _as_description(dtype), tuple(shape)


def _as_field(field: list[Any]) -> tuple[Any, ...]:
    name, dtype, *shape = field
    name = tuple(name) if isinstance(name, list) else name
    return (name, _as_description(dtype), *(tuple(extents) for extents in shape))


# Trees


class _NonFinite(float):
    """A NaN or an infinity on its way: orjson hands subclasses of float to the hook."""


_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def _guarded(value: Any) -> Any:
    """``value`` itself, or a copy in which every NaN and infinity is a `_NonFinite`."""
    if isinstance(value, enum.Enum):
        guarded = _guarded(value.value)
        return value if guarded is value.value else guarded
    if isinstance(value, float):
        return value if math.isfinite(value) else _NonFinite(value)
    if isinstance(value, dict):
        guarded = {key: _guarded(each) for key, each in value.items()}
        return value if all(guarded[key] is each for key, each in value.items()) else guarded
    if isinstance(value, (list, tuple)):
        elements = [_guarded(each) for each in value]
        return value if all(map(_same, elements, value)) else elements
    return value


def _same(one: object, other: object) -> bool:
    return one is other


def _flat(value: bytes | bytearray | memoryview) -> memoryview:
    memory = memoryview(value)
    # A view with an extent of 0 is contiguous, and yet can't be cast.
    return memory.cast("B") if memory.c_contiguous and memory.nbytes else memoryview(memory.tobytes())


class _TreeWriter:
    """JSON text in which ``{MARK: ...}`` stands for what JSON has no word for, and the parts it points to.

    The mark is a key that occurs nowhere else in the text: when the value uses it, the next is tried.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def encode(self, value: object) -> Encoded:
        attempt = ""
        while True:
            self._mark = "$" + attempt
            self._marks = 0
            self._parts: list[list[Any]] = []
            self._buffers: list[Buffer] = []
            text = self._write(value)
            if text.count(orjson.dumps(self._mark)) == self._marks:
                break
            # Only now, as next to no value needs it.
            import hashlib  # noqa: PLC0415

            # Nobody can write a text that contains its own digest.
            attempt = hashlib.blake2s(text, digest_size=12).hexdigest()
        head = orjson.dumps([self._mark, len(text), self._parts])
        return TREE, head, [text, *self._buffers], len(text) + sum(map(len, self._buffers))

    def _write(self, value: object) -> bytes:
        try:
            return orjson.dumps(_guarded(value), self._hook, _OPTIONS)
        except TypeError as error:
            if isinstance(error.__cause__, ValueNotSupported):
                raise error.__cause__ from None
            raise ValueNotSupported(f"a value has no wire form: {error}") from error
        except RecursionError as error:
            raise ValueNotSupported("a value is nested too deeply, or contains itself") from error

    def _hook(self, value: Any) -> Any:
        if isinstance(value, _NonFinite):
            return self._marked("nan" if math.isnan(value) else "inf" if value > 0 else "-inf")
        if isinstance(value, numpy.generic) and not value.dtype.hasobject and value.dtype.kind in "biuf":
            return _guarded(value.item())
        if isinstance(value, tuple):
            # A named tuple: orjson writes plain ones only.
            return _guarded(list(value))
        if isinstance(value, numpy.ndarray):
            return self._part(array_memory(value), array_head(value).decode())
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._part(_flat(value), None)
        taken = self._registry.take_apart(value)
        if taken is None:
            raise ValueNotSupported(
                f"{type(value).__name__} has no wire form; send JSON values, bytes or numpy arrays, "
                f"or register the class with pynetwork.register on both sides"
            )
        name, fields = taken
        return self._marked([name, _guarded(fields)])

    def _part(self, memory: memoryview, head: str | None) -> Any:
        self._buffers.append(memory)
        self._parts.append([len(memory), head])
        return self._marked(len(self._buffers) - 1)

    def _marked(self, content: Any) -> dict[str, Any]:
        self._marks += 1
        return {self._mark: content}


def _read_tree(head: bytes, body: Buffer, registry: Registry, shared: bool) -> Any:
    view = memoryview(body)
    try:
        mark, text_size, descriptions = orjson.loads(head)
        parts: list[Any] = []
        offset = text_size
        for size, array in descriptions:
            part = view[offset : offset + size]
            if not (type(size) is int and 0 <= size == len(part)):
                raise RemoteProtocolError("the parts of a value do not add up")
            if array is None:
                parts.append(bytes(part))
            else:
                parts.append(read_array_head(array.encode())(bytearray(part) if shared else part))
            offset += size
        if offset != len(view) or type(mark) is not str:
            raise RemoteProtocolError("the parts of a value do not add up")
        tree = orjson.loads(view[:text_size])
    except (ValueError, TypeError, AttributeError) as error:
        raise RemoteProtocolError(f"a value arrived that is malformed: {error}") from error
    return _grown(tree, mark, parts, registry)


def _grown(node: Any, mark: str, parts: list[Any], registry: Registry) -> Any:
    if isinstance(node, list):
        return [_grown(each, mark, parts, registry) for each in node]
    if not isinstance(node, dict):
        return node
    if len(node) == 1 and mark in node:
        content = node[mark]
        if type(content) is int and 0 <= content < len(parts):
            return parts[content]
        if type(content) is str and content in _NON_FINITE:
            return _NON_FINITE[content]
        if isinstance(content, list) and list(map(type, content)) == [str, dict]:
            name, fields = content
            return registry.build(name, {key: _grown(each, mark, parts, registry) for key, each in fields.items()})
        raise RemoteProtocolError("a value arrived with a mark that means nothing")
    return {name: _grown(each, mark, parts, registry) for name, each in node.items()}
