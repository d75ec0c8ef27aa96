"""Blocks of records out of what people have, and back: arrays, tables, records.

Whole columns are converted at once; a Python loop runs only over records that are Python objects anyway.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias, TypeVar

import numpy
import numpy.typing

from handshakes.errors import ConfigurationError, ValueNotSupported, ValueTooLarge
from handshakes.records import FIELDS, GREATEST, KEY, LEAST, Block, Key, Ragged, Rows, row_type, rows_of
from pynetwork.series.columns import fitted
from pynetwork.series.payloads import BytesPayloadType, PayloadType
from pynetwork.series.record import DecodedRecords
from pynetwork.series.tables import Columns, columns_of, frame_of, table_of
from pynetwork.series.timestamps import from_datetime64, to_datetime64

__all__ = ["array_from", "array_type", "block_from", "frame_from", "records_from", "table_from"]

T = TypeVar("T")
Array: TypeAlias = "numpy.typing.NDArray[Any]"
DType: TypeAlias = "numpy.dtype[Any]"

_KEY: Final = struct.Struct("<iqiqq")
_ACQ: Final = slice(24, 32)
_PIECE: Final = 16384
"""Rows that are converted at a time."""

_VALUE: Final = "value"
"""The column of values that are Python objects."""


def block_from(
    records: object, payload_type: PayloadType[Any], *, with_acq: bool = False, skip_invalid: bool = False
) -> Block:
    """``records`` as a block, in memory of its own.

    ``records``: records in any iterable; or columns, in a structured array, a mapping of arrays, a pandas DataFrame, an
    Arrow table or record batch. Columns are cid, mid, moid, cap, with ``with_acq`` also acq, and the fields of the
    payload by their names; if names differ, in their order. Values that are Python objects are in the column value.
    Times may be ``datetime64``. Columns may be in any order, integers of any width and byte order; a column ``_size``
    is ignored. Without ``with_acq`` all acq are 0 in the block.

    Raises `ValueNotSupported` for a record that can't be put, naming it: a key out of range, a negative cid, a value
    that is not of ``payload_type``. With ``skip_invalid`` such records are left out. A block is returned as it is.
    """
    if isinstance(records, Block):
        return records
    columns = columns_of(records)
    if columns is not None:
        if isinstance(records, numpy.ndarray) and _are_rows(records, payload_type):
            return _from_rows(records, with_acq, skip_invalid)
        return _from_columns(columns, payload_type, with_acq, skip_invalid)
    if not isinstance(records, Iterable):
        raise ValueNotSupported(
            f"{type(records).__name__} holds no records: give a list of Record, or an array of them"
        )
    return _from_records(list(records), payload_type, with_acq, skip_invalid)


# Columns


class _Rows:
    """Rows that are filled column by column; rows that do not fit are refused, or noted to be left out."""

    def __init__(self, rows: Array, skip: bool) -> None:
        self.rows = rows
        self._left_out = numpy.zeros(len(rows), numpy.bool_) if skip else None

    @classmethod
    def empty(cls, count: int, dtype: DType, skip: bool) -> _Rows:
        # Padding is written too, so it must not show what was in this memory before.
        padded = sum(dtype[name].itemsize for name in dtype.names or ()) != dtype.itemsize
        return cls(numpy.zeros(count, dtype) if padded else numpy.empty(count, dtype), skip)

    def fill(self, columns: Columns) -> None:
        """Write these columns, piece by piece: rows that are in the cache get all their fields there."""
        times = {name for name, column in columns.items() if name in {"cap", "acq"} and column.dtype.kind == "M"}
        columns = {**columns, **{name: _nanoseconds(name, columns[name]) for name in times}}
        for begin in range(0, len(self.rows), _PIECE):
            for name, column in columns.items():
                self._fill(name, column, slice(begin, begin + _PIECE))

    def _fill(self, name: str, column: Array, piece: slice) -> None:
        dtype = self.rows.dtype[name]
        try:
            converted, misfits = fitted(column[piece], dtype)
        except ValueNotSupported as error:
            raise ValueNotSupported(f"column {name} can't be converted to {dtype}: {error}") from error
        self.rows[name][piece] = converted
        if misfits is not None:
            whole = numpy.zeros(len(self.rows), numpy.bool_)
            whole[piece] = misfits
            self.leave_out(whole, f"column {name}", f"is outside what {dtype} holds", column)

    def check_cids(self) -> None:
        cids = self.rows["cid"]
        if len(cids) and int(cids.min()) < 0:
            self.leave_out(cids < 0, "column cid", "is negative, which no cid may be", cids)

    def leave_out(self, misfits: Array, where: str, why: str, column: Array) -> None:
        if self._left_out is None:
            row = int(misfits.argmax())
            raise ValueNotSupported(f"{where}, row {row}: {column[row]} {why}")
        self._left_out |= misfits

    def block(self) -> Rows:
        block = Rows(self.rows.view(row_type(self.rows.dtype.itemsize - KEY.itemsize)))
        if self._left_out is None or not self._left_out.any():
            return block
        return block.take(~self._left_out)

    def keep(self, values: Sequence[Any]) -> list[Any]:
        if self._left_out is None:
            return list(values)
        return list(itertools.compress(values, ~self._left_out))


def _nanoseconds(name: str, times: Array) -> Array:
    try:
        return from_datetime64(times)
    except ValueError as error:
        raise ValueNotSupported(f"column {name}: {error}") from error


def _are_rows(array: Array, payload_type: PayloadType[Any]) -> bool:
    return payload_type.dtype is not None and array.dtype == _row_dtype(payload_type.dtype)


def _from_rows(array: Array, with_acq: bool, skip: bool) -> Block:
    """A block of rows that lie as they are to."""
    plain = numpy.ascontiguousarray(array).view(f"V{array.dtype.itemsize}")
    into = _Rows(plain.copy().view(array.dtype), skip)
    if not with_acq:
        into.rows["acq"] = 0
    into.check_cids()
    return into.block()


def _from_columns(columns: Columns, payload_type: PayloadType[Any], with_acq: bool, skip: bool) -> Block:
    wanted = FIELDS if with_acq else FIELDS[:4]
    for name in wanted:
        if name not in columns:
            raise ValueNotSupported(f"there is no column {name}; there are {', '.join(columns) or 'none'}")
    rest = {name: column for name, column in columns.items() if name not in FIELDS and name != "_size"}
    structure = _structure(payload_type, rest)
    into = _Rows.empty(len(columns["cid"]), KEY if structure is None else _row_dtype(structure), skip)
    filling = {name: columns[name] for name in wanted}
    if structure is not None:
        filling.update(_matched(rest, structure, payload_type))
    if not with_acq:
        filling["acq"] = numpy.broadcast_to(numpy.int64(0), len(into.rows))
    into.fill(filling)
    into.check_cids()
    if structure is not None:
        return into.block()
    values = into.keep(_objects(rest, payload_type))
    return _encoded(into.block().rows, values, payload_type, skip)


def _structure(payload_type: PayloadType[Any], columns: Columns) -> DType | None:
    """The fields of the payload, None where it is made of Python objects."""
    if isinstance(payload_type, BytesPayloadType) and len(columns) < 2:
        kinds = [column.dtype for column in columns.values() if column.ndim == 1]
        if len(kinds) == len(columns) and all(kind.kind in "SV" and kind.names is None for kind in kinds):
            return numpy.dtype([("payload", f"V{kind.itemsize}") for kind in kinds])
    return payload_type.dtype


def _matched(columns: Columns, structure: DType, payload_type: PayloadType[Any]) -> Columns:
    """The column of each field of the payload."""
    names = structure.names or ()
    if set(names) <= set(columns):
        return {name: columns[name] for name in names}
    nested = {name: _nested(name, structure[name], columns) for name in names}
    if all(column is not None for column in nested.values()):
        return {name: column for name, column in nested.items() if column is not None}
    if len(columns) == len(names):
        return dict(zip(names, columns.values(), strict=True))
    raise ValueNotSupported(
        f"the columns {', '.join(columns) or '(none)'} are not those of {payload_type}: {', '.join(names) or '(none)'}"
    )


def _nested(name: str, dtype: DType, columns: Columns) -> Array | None:
    """The column ``name``, or made of those of its fields, which are called as ``name.field``."""
    if dtype.names is None or name in columns:
        return columns.get(name)
    parts = {field: _nested(f"{name}.{field}", dtype[field], columns) for field in dtype.names}
    found = {field: column for field, column in parts.items() if column is not None}
    if not found or len(found) < len(parts):
        return None
    count = len(next(iter(found.values())))
    structure = [(field, column.dtype, column.shape[1:]) for field, column in found.items()]
    joined = numpy.empty(count, numpy.dtype(structure))
    for field, column in found.items():
        joined[field] = column
    return joined


def _objects(columns: Columns, payload_type: PayloadType[Any]) -> list[Any]:
    """The values in the one column that is left."""
    if _VALUE in columns:
        column = columns[_VALUE]
    elif len(columns) == 1:
        (column,) = columns.values()
    else:
        raise ValueNotSupported(
            f"the values of {payload_type} must be in a column {_VALUE}; there are {', '.join(columns) or 'none'}"
        )
    values: list[Any] = column.tolist()
    return values


# Records


def _from_records(records: list[Any], payload_type: PayloadType[Any], with_acq: bool, skip: bool) -> Block:
    lone = _lone(records[0], payload_type, with_acq) if len(records) == 1 else None
    if lone is not None:
        return lone
    try:
        keys = [record.key for record in records]
        values = [record.value for record in records]
    except AttributeError:
        index, odd = next(
            (index, each) for index, each in enumerate(records) if not (hasattr(each, "key") and hasattr(each, "value"))
        )
        raise ValueNotSupported(f"record {index} is {type(odd).__name__}; give Record(Key(...), value)") from None
    head = _packed(keys)
    if head is None:
        valid = [_complaint(key) is None for key in keys]
        if not skip:
            index = valid.index(False)
            raise ValueNotSupported(f"record {index} can't be put: {_complaint(keys[index])}")
        keys, values = list(itertools.compress(keys, valid)), list(itertools.compress(values, valid))
        head = _packed(keys)
        assert head is not None
    if not with_acq and head["acq"].any():
        head = head.copy()
        head["acq"] = 0
    return _encoded(head, values, payload_type, skip, keys)


def _lone(record: Any, payload_type: PayloadType[Any], with_acq: bool) -> Block | None:
    """One record, as sensors put them, without NumPy's detours. None where it does not fit: the other way tells why."""
    try:
        cid, mid, moid, cap, acq = record.key
        head = _KEY.pack(cid, mid, moid, cap, acq)
        payload = payload_type.to_bytes(record.value)
    except Exception:
        return None
    if cid < 0 or type(payload) is not bytes:
        return None
    row = bytearray(head + payload)
    if not with_acq:
        row[_ACQ] = bytes(8)
    return Rows(numpy.frombuffer(row, row_type(len(payload))))


def _packed(keys: Sequence[Key]) -> Array | None:
    """``keys`` as an array, None when one of them is not valid."""
    try:
        head = numpy.frombuffer(b"".join(itertools.starmap(_KEY.pack, keys)), KEY)
    except (struct.error, TypeError, OverflowError):
        return None
    return None if len(head) and int(head["cid"].min()) < 0 else head


def _complaint(key: Any) -> str | None:
    """What is wrong with ``key``."""
    if not isinstance(key, tuple) or len(key) != len(FIELDS):
        return f"{key!r} is no Key"
    for name, value, least, most in zip(FIELDS, key, LEAST, GREATEST, strict=True):
        if not hasattr(value, "__index__"):
            return f"{name} of {key} is {type(value).__name__}, not an integer"
        if not least <= value <= most:
            return f"{name}={value} of {key} must be {least} to {most}"
    return None


def _encoded(
    head: Array, values: list[Any], payload_type: PayloadType[Any], skip: bool, keys: Sequence[Key] | None = None
) -> Block:
    """A block of these keys and values; ``keys`` are those in ``head``."""
    if keys is None:
        keys = _Keys(head)
    try:
        data, sizes = payload_type.encode_all(values, keys)
    except ValueNotSupported:
        if not skip:
            raise
        valid = [_encodes(value, payload_type) for value in values]
        head = head[numpy.array(valid, numpy.bool_)]
        data, sizes = payload_type.encode_all(list(itertools.compress(values, valid)))
    if isinstance(sizes, int):
        return rows_of(head, data, sizes)
    return Ragged(head, numpy.frombuffer(data, numpy.uint8), sizes)


class _Keys(Sequence[Key]):
    """The keys in an array, made when an error names one."""

    def __init__(self, head: Array) -> None:
        self._head = head

    def __len__(self) -> int:
        return len(self._head)

    def __getitem__(self, index: Any) -> Any:
        return Key(*self._head[index].item())


def _encodes(value: Any, payload_type: PayloadType[Any]) -> bool:
    try:
        payload_type.encode_all([value])
    except ValueNotSupported:
        return False
    return True


# Back


@lru_cache(maxsize=256)
def _row_dtype(structure: DType) -> DType:
    """The fields of a key, then those of a payload, where they lie in a row."""
    names = [*FIELDS, *(structure.names or ())]
    formats = [KEY[name] for name in FIELDS] + [structure[name] for name in structure.names or ()]
    offsets = [KEY.fields[name][1] for name in FIELDS] if KEY.fields else []
    offsets += [KEY.itemsize + field[1] for field in (structure.fields or {}).values()]
    return numpy.dtype(
        {"names": names, "formats": formats, "offsets": offsets, "itemsize": KEY.itemsize + structure.itemsize}
    )


def array_type(payload_type: PayloadType[Any]) -> DType:
    """The type of the arrays that `array_from` makes: cid, mid, moid, cap, acq and the fields of the payload.

    Raises `ConfigurationError` for a payload type whose values are no numbers side by side.
    """
    if payload_type.dtype is None:
        raise ConfigurationError(
            f"records of {payload_type} have no array; take them as records or as a table, "
            "or open the channel with NumpyPayloadType"
        )
    return _row_dtype(payload_type.dtype)


def array_from(
    block: Block, payload_type: PayloadType[Any], out: Array | None = None, *, skip_invalid: bool = False
) -> Array:
    """The records of ``block`` as one structured array of `array_type`: a view where they lie so, which they do if
    their payloads have one size.

    ``out``: an array of that type to be filled from its beginning; the filled part is returned. Payloads that are plain
    bytes, all of one size, are a field ``payload``.

    Raises `ValueNotSupported` for a payload that is not of ``payload_type``, naming its key; with ``skip_invalid`` such
    records are left out. Raises `ConfigurationError` for a type without arrays or another one in ``out``, and
    `ValueTooLarge` when ``out`` is too short.
    """
    block = _fitting(block, payload_type, skip_invalid)
    raw = isinstance(payload_type, BytesPayloadType)
    width = _even_width(block) if raw else payload_type.width
    dtype = row_type(width) if raw else array_type(payload_type)
    if isinstance(block, Ragged):
        # All have one size, as they fit.
        data = block.data if width else b""
        array = rows_of(block.head, data, width).rows.view(dtype)
    elif isinstance(block, Rows) and block.width == width:
        array = block.rows.view(dtype)
    else:
        array = block.keys()  # whatever their payloads are, they say nothing
    return array if out is None else _copied(array, out)


def _even_width(block: Block) -> int:
    sizes = block.sizes()
    if len(sizes) and (sizes != sizes[0]).any():
        row = int((sizes != sizes[0]).argmax())
        raise ValueNotSupported(
            f"payloads of different sizes have no array: that of {block.key(0)} has {sizes[0]} bytes, that of "
            f"{block.key(row)} has {sizes[row]}; take them as records"
        )
    return int(sizes[0]) if len(sizes) else 0


def _copied(array: Array, out: Array) -> Array:
    if out.dtype != array.dtype or out.ndim != 1:
        raise ConfigurationError(f"out= must be an array of one dimension and of type {array.dtype}")
    if len(out) < len(array):
        raise ValueTooLarge(f"{len(array)} records do not fit out=, which has room for {len(out)}")
    part = out[: len(array)]
    if part.flags.c_contiguous:
        # As plain bytes, since the fields of a structured type are copied one by one.
        part.view(f"V{part.dtype.itemsize}")[:] = array.view(f"V{part.dtype.itemsize}")
    else:
        part[:] = array
    return part


def _fitting(block: Block, payload_type: PayloadType[Any], skip: bool) -> Block:
    misfits = payload_type.misfits(block)
    if misfits is None:
        return block
    if skip:
        return block.take(~misfits)
    # Reading them says what is wrong.
    payload_type.decode_all(block.take(misfits))
    raise ValueNotSupported(f"a payload is not of {payload_type}")


def records_from(
    blocks: Block | Iterable[Block], payload_type: PayloadType[T], *, skip_invalid: bool = False
) -> DecodedRecords[T]:
    """The records of a block, or of several, to be iterated, indexed and sliced; decoded when they are asked for.

    Raises `ValueNotSupported` for a payload that is not of ``payload_type``, naming its key; with ``skip_invalid`` such
    records are left out and counted in ``skipped``.
    """
    given = [blocks] if isinstance(blocks, Block) else list(blocks)
    kept = [_fitting(block, payload_type, skip_invalid) for block in given]
    return DecodedRecords(kept, payload_type.decode_all, sum(map(len, given)) - sum(map(len, kept)))


def frame_from(block: Block, payload_type: PayloadType[Any], *, times: bool = False, skip_invalid: bool = False) -> Any:
    """The records of ``block`` as a pandas DataFrame: a column for each field of the key and of the payload.

    Fields within fields are columns such as outer.inner; values without fields are in the column value. With ``times``
    cap and acq are times in UTC, which pandas has for the years 1708 to 2262. Raises as `array_from`, `ValueError` for
    a time beyond those, `ConfigurationError` without pandas.
    """
    return frame_of(_columns(block, payload_type, times, skip_invalid))


def table_from(block: Block, payload_type: PayloadType[Any], *, times: bool = False, skip_invalid: bool = False) -> Any:
    """The records of ``block`` as an Arrow table, with the columns that `frame_from` has."""
    return table_of(_columns(block, payload_type, times, skip_invalid))


def _columns(block: Block, payload_type: PayloadType[Any], times: bool, skip: bool) -> Columns:
    if payload_type.dtype is None:
        block = _fitting(block, payload_type, skip)
        columns = {name: block.column(name) for name in FIELDS}
        columns[_VALUE] = numpy.empty(len(block), object)
        columns[_VALUE][:] = payload_type.decode_all(block)
    else:
        columns = _leaves(array_from(block, payload_type, skip_invalid=skip))
    if times:
        columns.update({name: to_datetime64(columns[name]) for name in ("cap", "acq")})
    return columns


def _leaves(array: Array, prefix: str = "") -> Columns:
    """The fields of ``array``, those within fields too."""
    found: Columns = {}
    for name in array.dtype.names or ():
        column = array[name]
        found.update({prefix + name: column} if column.dtype.names is None else _leaves(column, f"{prefix}{name}."))
    return found
