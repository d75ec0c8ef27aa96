"""Records in files that other programs read: CSV, Parquet and Arrow, block by block in bounded memory.

Columns are cid, mid, moid, cap, acq and those of the payload: its fields, or one column ``value`` where the payload
type knows no fields: its bytes, in CSV as text if they are JSON, else in hexadecimal. Times are UTC, in CSV as ISO 8601
with nine digits, or else plain nanoseconds since 2001. A file takes its name when it is complete and on the disk.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import importlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TextIO, TypeAlias

import numpy
import numpy.typing
import orjson

from handshakes.errors import ConfigurationError, PynetworkError, ValueNotSupported
from handshakes.records import FIELDS, Block, Rows, block_of, row_type
from pynetwork.series.conversions import array_from, block_from, table_from
from pynetwork.series.csvlines import CsvLines, Line, may_break
from pynetwork.series.payloads import BytesPayloadType, JsonPayloadType, PayloadType, UnitPayloadType
from pynetwork.series.timestamps import Tstoragedatetime, from_datetime64, to_datetime64

if TYPE_CHECKING:
    import pyarrow

__all__ = ["SUFFIXES", "read_blocks", "read_csv", "read_names", "write_blocks", "write_csv"]

Array: TypeAlias = "numpy.typing.NDArray[Any]"
Writer: TypeAlias = "Callable[[BinaryIO, Iterable[Block], PayloadType[Any], bool], int]"
Reader: TypeAlias = "Callable[[Path, PayloadType[Any]], Iterator[Block]]"

_ROWS_AT_ONCE: Final = 8192
_LETTERS_AT_ONCE: Final = 4 << 20
_LONGEST_QUOTED: Final = 200


def write_blocks(
    path: str | os.PathLike[str], blocks: Iterable[Block], payload_type: PayloadType[Any], *, times: bool = True
) -> int:
    """Write records to a file whose format its suffix names, in place of what is there; answers how many.

    ``times``: cap and acq as times, not as integers. Raises `ConfigurationError` for another suffix or an absent
    extra, `ValueNotSupported` for a payload that does not fit, `ValueError` for a time that the format does not hold
    (Parquet and Arrow: outside 1708 to 2262), `OSError`. The file is as before then, and so it is when ``blocks``
    raises anything. Of no records at all it becomes a file that holds none.
    """
    path = Path(path)
    write, _ = _format(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path.parent))
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with _Sink(str(unfinished), "wb") as raw, io.BufferedWriter(raw) as file:
            count = write(file, blocks, payload_type, times)
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        if error.filename not in {str(unfinished), unfinished}:
            # Of what the blocks come from.
            raise
        # Under the name that it was asked for by.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            unfinished.unlink()
    return count


class _Sink(io.FileIO):
    """A file whose errors name it when it is written, as they do when it is opened."""

    def write(self, data: Any, /) -> Any:
        try:
            return super().write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.name) from error


def read_blocks(path: str | os.PathLike[str], payload_type: PayloadType[Any]) -> Iterator[Block]:
    """The records of a file, in blocks; ``acq`` is 0 where the file has no such column.

    Raises `ConfigurationError` for another suffix or an absent extra, `ValueNotSupported` naming line and column of
    what does not fit, `OSError`.
    """
    path = Path(path)
    _, read = _format(path)
    return read(path, payload_type)


def _format(path: Path) -> tuple[Writer, Reader]:
    found = _FORMATS.get(path.suffix.lower())
    if found is None:
        raise ConfigurationError(f"{str(path)!r} names no format: its suffix must be {', '.join(SUFFIXES)}")
    return found


# Writing CSV


def _write_csv_file(file: BinaryIO, blocks: Iterable[Block], payload_type: PayloadType[Any], times: bool) -> int:
    with io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
        return write_csv(text, blocks, payload_type, times=times)


def write_csv(file: TextIO, blocks: Iterable[Block], payload_type: PayloadType[Any], *, times: bool = True) -> int:
    """Write records to an open CSV file, after a line of names; answers how many. Raises as `write_blocks`."""
    count = 0
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*FIELDS, *_columns(payload_type)])
    for block in blocks:
        for begin in range(0, len(block), _ROWS_AT_ONCE):
            writer.writerows(_lines(block.take(slice(begin, begin + _ROWS_AT_ONCE)), payload_type, times))
        count += len(block)
    return count


def _columns(payload_type: PayloadType[Any]) -> tuple[str, ...]:
    return ("value",) if payload_type.dtype is None else payload_type.dtype.names or ()


def _lines(block: Block, payload_type: PayloadType[Any], times: bool) -> Iterator[Sequence[Any]]:
    keys: list[Sequence[Any]] = [block.column(name).tolist() for name in FIELDS[:3]]
    keys += [_written_times(block.column(name)) if times else block.column(name).tolist() for name in FIELDS[3:]]
    if payload_type.dtype is None:
        text = bytes.decode if isinstance(payload_type, JsonPayloadType) else bytes.hex
        return zip(*keys, (text(bytes(payload)) for payload in _checked(block, payload_type).payloads()), strict=True)
    array = array_from(block, payload_type)
    values = [_written(array[name]) for name in payload_type.dtype.names or ()]
    return zip(*keys, *values, strict=True)


def _written(column: Array) -> Sequence[Any]:
    if column.ndim > 1 or column.dtype.names is not None:
        return [orjson.dumps(value, default=_plain).decode() for value in column.tolist()]
    if column.dtype.kind == "V":
        return [bytes(value).hex() for value in column.tolist()]
    if column.dtype.kind == "S":
        return [_text(value) for value in column.tolist()]
    if column.dtype.kind == "M":
        column = numpy.datetime_as_string(column)
    elif column.dtype.kind == "m":
        column = column.astype(numpy.int64)
    elif column.dtype in ("f2", "f4"):
        # A short float with its own digits, not with those of the double nearest to it.
        column = column.astype(str)
    values: list[Any] = column.tolist()
    return values


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else _text(value)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ValueNotSupported(f"{value!r} is no text in UTF-8, which CSV holds; use Parquet or Arrow") from None


def _written_times(times: Array) -> list[str]:
    try:
        return [f"{text}Z" for text in numpy.datetime_as_string(to_datetime64(times)).tolist()]
    except ValueError:
        # Beyond what that type holds, within what a key does.
        return [str(Tstoragedatetime.from_tstorage_ns(time)) for time in times.tolist()]


# Reading CSV


def _read_csv_file(path: Path, payload_type: PayloadType[Any]) -> Iterator[Block]:
    with _opened(path) as file:
        yield from read_csv(file, payload_type, str(path))


def _opened(path: Path) -> TextIO:
    # What is no text is noticed line by line, where it can be named.
    return open(path, encoding="utf-8-sig", errors="surrogateescape", newline="")


def read_names(path: str | os.PathLike[str]) -> list[str]:
    """The names of the columns of a CSV file. Raises `ValueNotSupported` for what is none, `OSError`."""
    with _opened(Path(path)) as file:
        return _header(CsvLines(file.readline), str(path))


def read_csv(file: TextIO, payload_type: PayloadType[Any], name: str = "CSV") -> Iterator[Block]:
    """The records of an open CSV file, in blocks; ``name`` is what errors call it. Raises as `read_blocks`.

    A cell may hold line breaks as `pynetwork.series.csvlines` has it; a record has the number of its first line.
    """
    try:
        lines = CsvLines(file.readline)
        header = _header(lines, name)
        wanted = [column for column in (*FIELDS, *_columns(payload_type)) if column != "acq" or "acq" in header]
        missing = [column for column in wanted if column not in header]
        if missing:
            raise ValueNotSupported(
                f"{name} has no column {missing[0]!r}; its first line must name {', '.join(wanted)} "
                "(acq may be left out)"
            )
        places = {column: header.index(column) for column in wanted}
        for batch in lines.batches(_breaking(header, places, payload_type), _ROWS_AT_ONCE, _LETTERS_AT_ONCE):
            for line in batch:
                if line.wrong:
                    raise ValueNotSupported(f"{name}, line {line.number}: {line.wrong}")
            if batch:
                yield _Lines(name, batch, places).block(payload_type)
    except UnicodeDecodeError as error:
        raise ValueNotSupported(f"{name} is no text: {error}") from error


def _header(lines: CsvLines, name: str) -> list[str]:
    if lines.header.wrong:
        raise ValueNotSupported(f"{name}, line 1: {lines.header.wrong}")
    return [column.strip() for column in lines.header.cells]


def _breaking(
    header: list[str], places: dict[str, int], payload_type: PayloadType[Any]
) -> dict[int, Callable[[str], Any]]:
    """What reads the cells that may hold line breaks, by their places; what is not asked for may hold anything."""
    breaking: dict[int, Callable[[str], Any]] = dict.fromkeys(set(range(len(header))) - set(places.values()), str)
    for column, breaks in zip(_columns(payload_type), may_break(payload_type), strict=True):
        if breaks:
            breaking[places[column]] = (
                str if payload_type.dtype is not None and payload_type.dtype[column].kind in "SU" else orjson.loads
            )
    return breaking


class _Lines:
    """Some lines of a CSV file, and at which place in them each column stands."""

    def __init__(self, name: str, lines: list[Line], places: dict[str, int]) -> None:
        self._name = name
        self._lines = lines
        self._places = places

    def block(self, payload_type: PayloadType[Any]) -> Block:
        """Their records."""
        columns: dict[str, Any] = {name: _integers(self._column(name, int)) for name in FIELDS[:3]}
        for name in FIELDS[3:]:
            if name in self._places:
                columns[name] = self._column(name, _read_time, _read_times)
        dtype = payload_type.dtype
        try:
            if dtype is None:
                return self._opaque(columns, payload_type)
            for name in dtype.names or ():
                columns[name] = _gathered(self._column(name, _parser(dtype[name])), dtype[name])
            return block_from(columns, payload_type, with_acq="acq" in columns)
        except ValueNotSupported as error:
            raise ValueNotSupported(f"{self._name}, line {self._lines[0].number} or after: {error}") from error

    def _opaque(self, columns: dict[str, Any], payload_type: PayloadType[Any]) -> Block:
        """Records whose payloads have no fields."""
        to_bytes = str.encode if isinstance(payload_type, JsonPayloadType) else bytes.fromhex

        def parse(text: str) -> bytes:
            payload = to_bytes(text)
            payload_type.read(payload)
            return payload

        keys = block_from(columns, UnitPayloadType(), with_acq="acq" in columns).keys()
        return block_of(keys, self._column("value", parse))

    def _column(
        self, name: str, parse: Callable[[str], Any], parse_all: Callable[[list[str]], Any] | None = None
    ) -> Any:
        """The column ``name``, read by ``parse``, or all at once by ``parse_all``."""
        place = self._places[name]
        try:
            texts = [line.cells[place] for line in self._lines]
            return parse_all(texts) if parse_all is not None else [parse(text) for text in texts]
        except (ValueError, TypeError, IndexError):
            self._point_out(name, place, parse)
            raise

    def _point_out(self, name: str, place: int, parse: Callable[[str], Any]) -> None:
        """Raise what names the first line that can't be read."""
        for number, cells, _ in self._lines:
            if place >= len(cells):
                raise ValueNotSupported(f"{self._name}, line {number}: it has no column {name!r}")
            try:
                parse(cells[place])
            except (ValueError, TypeError) as error:
                text, reason = (
                    each if len(each) <= _LONGEST_QUOTED else f"{each[:_LONGEST_QUOTED]}..."
                    for each in (cells[place], str(error))
                )
                raise ValueNotSupported(f"{self._name}, line {number}, {name}: {text!r}: {reason}") from None


def _read_time(text: str) -> int:
    """Nanoseconds since 2001, from themselves or ISO 8601."""
    try:
        return int(text)
    except ValueError:
        return Tstoragedatetime.fromisoformat(text.strip()).to_tstorage_ns()


def _read_times(texts: list[str]) -> Array:
    # Years that this type does not hold, of which it makes others, and ways to write a time that it does not know: one
    # by one.
    if all("1700-" <= text[:5] < "2262-" and text.endswith("Z") for text in texts):
        with contextlib.suppress(ValueError):
            return from_datetime64(numpy.array([text[:-1] for text in texts], "M8[ns]"))
    return numpy.array([_read_time(text) for text in texts])


def _read_bool(text: str) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}.get(text.strip().lower())
    if known is None:
        raise ValueError("neither True nor False")
    return known


def _parser(dtype: numpy.dtype[Any]) -> Callable[[str], Any]:
    if dtype.subdtype is not None or dtype.names is not None:
        return orjson.loads
    return _PARSERS.get(dtype.kind, str)


_PARSERS: Final[dict[str, Callable[[str], Any]]] = {
    "i": int,
    "u": int,
    "f": float,
    "c": complex,
    "b": _read_bool,
    "V": bytes.fromhex,
    "M": numpy.datetime64,
    "m": int,
}


def _gathered(values: list[Any], dtype: numpy.dtype[Any]) -> Array:
    if dtype.names is not None:
        return numpy.array([tuple(value) for value in values], dtype)
    if dtype.kind in "iu" and dtype.subdtype is None:
        return _integers(values)
    if dtype.kind in "Mm":
        return numpy.array(values, dtype)
    if dtype.kind == "V" and dtype.subdtype is None:
        column = numpy.empty(len(values), numpy.object_)
        column[:] = values
        return column
    return numpy.array(values)


def _integers(values: list[int]) -> Array:
    # NumPy itself would make floats of some that are below 0 and some that are beyond 2**63.
    for dtype in (numpy.int64, numpy.uint64):
        with contextlib.suppress(OverflowError):
            return numpy.array(values, dtype)
    return numpy.array(values, numpy.object_)


# Parquet and Arrow


def _write_parquet(file: BinaryIO, blocks: Iterable[Block], payload_type: PayloadType[Any], times: bool) -> int:
    parquet = _imported("pyarrow.parquet")
    return _write_tables(lambda schema: parquet.ParquetWriter(file, schema), blocks, payload_type, times)


def _write_arrow(file: BinaryIO, blocks: Iterable[Block], payload_type: PayloadType[Any], times: bool) -> int:
    ipc = _imported("pyarrow.ipc")
    return _write_tables(lambda schema: ipc.new_file(file, schema), blocks, payload_type, times)


def _write_tables(
    open_writer: Callable[[pyarrow.Schema], Any], blocks: Iterable[Block], payload_type: PayloadType[Any], times: bool
) -> int:
    stored = _as_stored(payload_type)
    # Of one record, since columns of texts have no type while they are empty.
    one = Rows(numpy.zeros(1, row_type(max(stored.width, 0))))
    count = 0
    with open_writer(table_from(one, stored, times=times).schema) as writer:
        for block in blocks:
            writer.write_table(table_from(_checked(block, payload_type), stored, times=times))
            count += len(block)
    return count


def _as_stored(payload_type: PayloadType[Any]) -> PayloadType[Any]:
    """What a column of Arrow holds: fields, or bytes where the type knows none."""
    return BytesPayloadType() if payload_type.dtype is None else payload_type


def _checked(block: Block, payload_type: PayloadType[Any]) -> Block:
    """The block itself, once its payloads have proved to be what they are said to be, if that is not plain to see."""
    if payload_type.dtype is None:
        payload_type.decode_all(block)
    return block


def _read_parquet(path: Path, payload_type: PayloadType[Any]) -> Iterator[Block]:
    parquet = _imported("pyarrow.parquet")
    with _named(path), parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
            yield _batch_block(batch, payload_type)


def _read_arrow(path: Path, payload_type: PayloadType[Any]) -> Iterator[Block]:
    ipc = _imported("pyarrow.ipc")
    with _named(path), open(path, "rb") as source, ipc.open_file(source) as file:
        for index in range(file.num_record_batches):
            batch = file.get_batch(index)
            yield _batch_block(batch, payload_type)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """What pyarrow finds wrong with a file, with the name of that."""
    try:
        yield
    except PynetworkError:
        raise
    except (ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueNotSupported(f"{str(path)!r} can't be read: {error}") from error


def _batch_block(batch: pyarrow.RecordBatch, payload_type: PayloadType[Any]) -> Block:
    block = block_from(batch, _as_stored(payload_type), with_acq="acq" in batch.schema.names)
    return _checked(block, payload_type)


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigurationError("Parquet and Arrow need pyarrow: pip install 'pynetwork[store]'") from error


_FORMATS: Final[dict[str, tuple[Writer, Reader]]] = {
    ".csv": (_write_csv_file, _read_csv_file),
    ".parquet": (_write_parquet, _read_parquet),
    ".arrow": (_write_arrow, _read_arrow),
}
SUFFIXES: Final = tuple(_FORMATS)
"""The suffixes of the formats that are known."""
