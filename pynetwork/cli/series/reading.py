"""Records from files: CSV line by line, where a bad line is named and left out, and Parquet and Arrow."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, Final, TypeAlias

import numpy
import numpy.typing

from handshakes.errors import ConfigurationError
from handshakes.records import FIELDS, GREATEST, KEY, LEAST, Block, Rows, block_of, row_type
from pynetwork.cli.common import CommandFailed, Exit
from pynetwork.cli.series.cells import Reader, integer, readers_of
from pynetwork.cli.series.moments import parse_all, parse_time
from pynetwork.cli.series.payloads import Payload, numbers_payload
from pynetwork.series.csvlines import CsvLines, Line, may_break
from pynetwork.series.datafiles import read_blocks
from pynetwork.series.record import SeriesKey

__all__ = ["BATCH", "CsvRecords", "RecordsFile", "TableRecords", "opened_file"]

Array: TypeAlias = "numpy.typing.NDArray[Any]"

BATCH: Final = 8192
"""Records that are read at a time."""

_BATCH_SIZE: Final = 4 << 20
"""Bytes that are read at a time, about."""


class RecordsFile(ABC):
    """A file of records that is being read."""

    with_acq: bool
    """Whether the records have their times of acquisition."""
    total: int | None = None
    """Bytes of the file, where they are known."""
    read: int = 0
    """Bytes that were read so far, where ``total`` is known."""

    @abstractmethod
    def blocks(self) -> Iterator[Block]:
        """The records, some thousands at a time. Asked for once."""


class _Column:
    """What stands at one place of each line: ``read`` makes a value of a text, ``read_all`` of many at once."""

    def __init__(self, place: int, read: Reader, read_all: Callable[[list[str]], Sequence[Any]] | None = None) -> None:
        self.place = place
        self.read = read
        self.read_all = read_all or (lambda texts: list(map(read, texts)))


class CsvRecords(RecordsFile):
    """The records of a CSV file, whose first line names its columns.

    ``cid``, ``mid``, ``moid`` (these three may be missing where a ``series`` is given) and ``cap`` are the key, ``acq``
    too where there is one; all others are the payload's: by the names of its fields if they have these, else in their
    order. Without a ``payload`` each is a double. ``times`` is one of `TIME_FORMS`. ``complain(line, reason)`` is
    called for each line that is left out.

    Raises `CommandFailed` for a file whose first line does not fit.
    """

    def __init__(
        self,
        file: BinaryIO,
        total: int | None,
        payload: Payload | None,
        series: SeriesKey | None,
        times: str,
        complain: Callable[[int, str], object],
    ) -> None:
        self.total = total
        self._file = file
        self._complain = complain
        self._lines = CsvLines(self._readline)
        if self._lines.header.wrong:
            raise CommandFailed(f"its first line can't be read: {self._lines.header.wrong}", Exit.USAGE)
        self._series = series
        names = [name.strip() for name in self._lines.header.cells]
        others = [name for name in names if name not in FIELDS]
        _check_names(names, series)
        self.with_acq = "acq" in names
        self.payload = payload or numbers_payload(others)
        self._keys = [name for name in FIELDS if name in names]
        self._columns = [_key_column(name, names.index(name), times) for name in self._keys]
        for name, read in zip(_in_order(others, self.payload), readers_of(self.payload), strict=True):
            self._columns.append(_Column(names.index(name), read))
        self._width = len(names)

    def _readline(self, limit: int) -> str:
        line = self._file.readline(limit)
        # A mark of the byte order, as some programs write one.
        text = (line if self.read else line.removeprefix(b"\xef\xbb\xbf")).decode("utf-8", "surrogateescape")
        self.read += len(line)
        return text

    def blocks(self) -> Iterator[Block]:
        """As `RecordsFile.blocks`."""
        for lines in self._lines.batches(self._breaking(), BATCH, _BATCH_SIZE):
            yield from self._block(lines)

    def _breaking(self) -> dict[int, Reader]:
        """What reads the cells that may hold line breaks, by their places; in columns that are not read, any may."""
        read = self._columns[len(self._keys) :]
        unread = set(range(self._width)) - {column.place for column in self._columns}
        breaking: dict[int, Reader] = dict.fromkeys(unread, str)
        for column, breaks in zip(read, may_break(self.payload.type), strict=True):
            if breaks:
                breaking[column.place] = column.read
        return breaking

    def _block(self, lines: list[Line]) -> Iterator[Block]:
        """The records of some lines; nothing when none of them fits."""
        columns = self._read(lines)
        count = len(columns[0])
        if not count:
            return
        keys = numpy.zeros(count, KEY)
        if self._series is not None:
            for name, value in self._series._asdict().items():
                keys[name] = value
        for name, column in zip(self._keys, columns, strict=False):
            keys[name] = column
        yield self._with_payloads(keys, columns[len(self._keys) :])

    def _read(self, lines: list[Line]) -> list[Sequence[Any]]:
        """The columns of those lines that fit."""
        whole = [line.cells for line in lines if len(line.cells) == self._width and not line.wrong]
        try:
            columns = [column.read_all([cells[column.place] for cells in whole]) for column in self._columns]
        except ValueError:
            # Now one by one, to find out which.
            rows = [row for line in lines if (row := self._row(line)) is not None]
            return [[row[at] for row in rows] for at in range(len(self._columns))]
        if len(whole) < len(lines):
            for line in lines:
                if wrong := self._wrong(line):
                    self._complain(line.number, wrong)
        return columns

    def _wrong(self, line: Line) -> str:
        """Why this line can't be a record, as far as that is seen before its cells are read."""
        if line.wrong or len(line.cells) == self._width:
            return line.wrong
        return f"it has {len(line.cells)} columns, not {self._width}"

    def _row(self, line: Line) -> list[Any] | None:
        wrong = self._wrong(line)
        if not wrong:
            try:
                return [column.read(line.cells[column.place]) for column in self._columns]
            except ValueError as error:
                wrong = str(error)
        self._complain(line.number, wrong)
        return None

    def _with_payloads(self, keys: Array, columns: Sequence[Sequence[Any]]) -> Block:
        dtype = self.payload.type.dtype
        if dtype is None:
            return block_of(keys, [self.payload.type.to_bytes(value) for value in columns[0]])
        payloads = numpy.zeros(len(keys), dtype)
        for name, column in zip(self.payload.names, columns, strict=True):
            payloads[name] = column
        rows = numpy.zeros(len(keys), row_type(dtype.itemsize))
        for name in FIELDS:
            rows[name] = keys[name]
        if dtype.itemsize:
            rows["payload"] = payloads.view(f"V{dtype.itemsize}")
        return Rows(rows)


def _check_names(names: list[str], series: SeriesKey | None) -> None:
    missing = [name for name in FIELDS[:4] if name not in names and not (series and name != "cap")]
    named = [name for name in FIELDS[:3] if series and name in names]
    if named:
        raise CommandFailed(f"its first line names a column {named[0]!r}: --series is for a file without", Exit.USAGE)
    if missing or len(set(names)) != len(names):
        raise CommandFailed(
            f"its first line names no column {missing[0]!r}" if missing else "two of its columns have one name",
            Exit.USAGE,
            "It must name the columns: cid,mid,moid,cap and the payload's; --series CID/MID/MOID stands for the first "
            "three.",
        )


def _in_order(names: list[str], payload: Payload) -> list[str]:
    """The columns of the payload, in the order of its fields."""
    if set(payload.names) <= set(names):
        return payload.names
    if len(names) != len(payload.names):
        raise CommandFailed(
            f"its first line names {len(names)} columns beside the key's, but {payload} has {len(payload.names)}",
            Exit.USAGE,
            "--payload says what payloads hold.",
        )
    return names


def _key_column(name: str, place: int, times: str) -> _Column:
    least, most = getattr(LEAST, name), getattr(GREATEST, name)
    timed = name in {"cap", "acq"}
    convert = (lambda text: parse_time(text, times)) if timed else integer

    def read(text: str) -> int:
        try:
            value = convert(text)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        if not least <= value < most:
            raise ValueError(f"{name}: {text} is not {least} to {most - 1}")
        return value

    def read_all(texts: list[str]) -> Sequence[int]:
        found = parse_all(texts) if timed and times in {"any", "iso"} else None
        return list(map(read, texts)) if found is None else found

    return _Column(place, read, read_all)


class TableRecords(RecordsFile):
    """The records of a Parquet or Arrow file. Raises as `read_blocks`."""

    def __init__(self, path: str, payload: Payload) -> None:
        self.with_acq = "acq" in _column_names(path)
        self._blocks = read_blocks(path, payload.type)

    def blocks(self) -> Iterator[Block]:
        """As `RecordsFile.blocks`."""
        return self._blocks


def _column_names(path: str) -> list[str]:
    try:
        pyarrow = importlib.import_module("pyarrow")
    except ImportError:
        raise ConfigurationError(f"{path} needs the package pyarrow: pip install 'pynetwork[store]'") from None
    try:
        if path.lower().endswith(".parquet"):
            schema = importlib.import_module("pyarrow.parquet").read_schema(path)
        else:
            with pyarrow.memory_map(path) as source, pyarrow.ipc.open_file(source) as file:
                schema = file.schema
    except pyarrow.ArrowInvalid as error:
        raise CommandFailed(f"{path} can't be read: {error}") from None
    names: list[str] = schema.names
    return names


@contextlib.contextmanager
def opened_file(
    path: str,
    payload: Payload | None,
    series: SeriesKey | None,
    times: str,
    complain: Callable[[int, str], object],
) -> Iterator[RecordsFile]:
    """The records of a file by its suffix, or of CSV from standard input for ``-``. Raises `CommandFailed`."""
    if path == "-":
        yield _from_stdin(payload, series, times, complain)
        return
    try:
        file = open(path, "rb")  # noqa: SIM115 - below
    except FileNotFoundError:
        raise CommandFailed(f"there is no file {path!r}", Exit.FILE_NOT_FOUND) from None
    with file:
        if os.path.splitext(path)[1].lower() not in {".parquet", ".arrow"}:
            with _named(repr(path)):
                records = CsvRecords(file, os.fstat(file.fileno()).st_size, payload, series, times, complain)
            yield records
        elif payload is None or series is not None:
            reason = "needs --payload" if payload is None else "has its own columns cid, mid, moid: --series is for CSV"
            raise CommandFailed(f"{path} {reason}", Exit.USAGE)
        else:
            yield TableRecords(path, payload)


def _from_stdin(
    payload: Payload | None, series: SeriesKey | None, times: str, complain: Callable[[int, str], object]
) -> CsvRecords:
    if sys.stdin is None:
        raise CommandFailed("standard input is closed, and - means to read it", Exit.USAGE)
    with _named("standard input"):
        return CsvRecords(sys.stdin.buffer, None, payload, series, times, complain)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """What is wrong with a file, with the name of that."""
    try:
        yield
    except CommandFailed as error:
        raise CommandFailed(f"{name}: {error}", error.code, error.hint) from None
