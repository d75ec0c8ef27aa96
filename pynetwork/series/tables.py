"""Columns out of what people keep them in, and into it: structured arrays, pandas, Arrow.

pandas and pyarrow are imported only where something is made of theirs.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy
import numpy.typing

from handshakes.errors import ConfigurationError, ValueNotSupported

__all__ = ["Columns", "columns_of", "frame_of", "table_of"]

Array: TypeAlias = "numpy.typing.NDArray[Any]"
Columns: TypeAlias = "dict[str, Array]"
"""Columns by their names: arrays of as many rows, whose elements may be arrays in turn or Python objects."""


def columns_of(records: object) -> Columns | None:
    """The columns of a structured array, a mapping of arrays, a DataFrame, or an Arrow table or record batch.

    None for anything else. Raises `ValueNotSupported` for an array without fields, for columns of different lengths,
    and for a value that is missing.
    """
    library = type(records).__module__.partition(".")[0]
    if isinstance(records, numpy.ma.MaskedArray):
        raise ValueNotSupported("a masked array would lose its mask; put its rows that are not masked")
    if isinstance(records, numpy.ndarray):
        if records.dtype.names is None or records.ndim != 1:
            raise ValueNotSupported(
                f"an array of type {records.dtype} and shape {records.shape} holds no records: give a structured array "
                "of one dimension with the fields cid, mid, moid, cap and those of the payload"
            )
        return {name: records[name] for name in records.dtype.names}
    if isinstance(records, Mapping):
        return _even({str(name): numpy.asarray(column) for name, column in records.items()})
    if library == "pandas" and hasattr(records, "columns"):
        return {str(name): _of_series(str(name), column) for name, column in records.items()}  # type: ignore[attr-defined]
    if library == "pyarrow" and hasattr(records, "column_names"):
        return _of_arrow(records)
    return None


def _even(columns: Columns) -> Columns:
    lengths = {name: len(column) if column.ndim else -1 for name, column in columns.items()}
    if len(set(lengths.values())) > 1 or -1 in lengths.values():
        raise ValueNotSupported(f"columns must be arrays of one length; these have {lengths}")
    return columns


def _of_series(name: str, column: Any) -> Array:
    if getattr(column.dtype, "tz", None) is not None:
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    missing = column.isna()
    if column.dtype.kind != "f" and missing.any():
        _refuse_missing(name, missing.to_numpy())
    array: Array = column.to_numpy()
    # Integers and booleans that might have been missing are objects by now.
    return array.astype(column.dtype.type) if array.dtype.kind == "O" and column.dtype.kind in "iub" else array


def _of_arrow(records: Any) -> Columns:
    pyarrow = _imported("pyarrow")
    columns: Columns = {}
    for name, column in zip(records.column_names, records.columns, strict=True):
        shape = [len(column)]
        _check_nulls(name, column)
        while pyarrow.types.is_fixed_size_list(column.type):
            shape.append(column.type.list_size)
            column = pyarrow.chunked_array(
                [column] if isinstance(column, pyarrow.Array) else column.chunks, column.type
            )
            column = pyarrow.chunked_array([chunk.flatten() for chunk in column.chunks], column.type.value_type)
            _check_nulls(name, column)
        columns[name] = column.to_numpy(zero_copy_only=False).reshape(shape)
    return columns


def _check_nulls(name: str, column: Any) -> None:
    if column.null_count:
        _refuse_missing(name, numpy.array(column.is_null().to_pylist()))


def _refuse_missing(name: str, missing: Array) -> None:
    raise ValueNotSupported(f"column {name}, row {int(missing.argmax())}: there is no value; fill it, or drop the row")


def frame_of(columns: Columns) -> Any:
    """A pandas DataFrame of ``columns``; times are in UTC. Raises `ConfigurationError` without pandas."""
    pandas = _imported("pandas")
    return pandas.DataFrame({name: _series(pandas, column) for name, column in columns.items()})


def _series(pandas: Any, column: Array) -> Any:
    if column.dtype.kind == "M":
        return pandas.Series(column).dt.tz_localize("UTC")
    return _plain(column)


def table_of(columns: Columns) -> Any:
    """An Arrow table of ``columns``; times are in UTC. Raises `ConfigurationError` without pyarrow, and
    `ValueNotSupported` for values that Arrow has no type for.
    """
    pyarrow = _imported("pyarrow")
    return pyarrow.table({name: _arrow(pyarrow, name, column) for name, column in columns.items()})


def _arrow(pyarrow: Any, name: str, column: Array) -> Any:
    try:
        if column.dtype.kind == "M":
            unit = numpy.datetime_data(column.dtype)[0]
            return pyarrow.array(column, pyarrow.timestamp(unit, "UTC") if unit in {"s", "ms", "us", "ns"} else None)
        if column.ndim == 1:
            return pyarrow.array(_plain(column))
        nested = pyarrow.array(_plain(column.reshape(-1)))
        for extent in reversed(column.shape[1:]):
            nested = pyarrow.FixedSizeListArray.from_arrays(nested, extent)
        return nested
    except pyarrow.ArrowException as error:
        raise ValueNotSupported(f"column {name} has no form in Arrow: {error}") from error


def _plain(column: Array) -> Any:
    """``column`` as these libraries take it: native numbers, and Python objects for all else."""
    if column.ndim > 1 or column.dtype.kind in "SUV":
        return column.tolist()
    return numpy.ascontiguousarray(column.astype(column.dtype.newbyteorder("="), copy=False))


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigurationError(f"this needs the package {name}: pip install 'pynetwork[store]'") from error
