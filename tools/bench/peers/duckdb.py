"""DuckDB: a table of the six columns, filled from Arrow by INSERT ... SELECT, read back as Arrow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy
import pyarrow

from handshakes.records import FIELDS, Key, KeyRange, row_type
from tools.bench.peers.rows import conditions
from tools.bench.sensors import WIDTH, Array
from tools.bench.workloads.series_store import Store, StoreSides

__all__ = ["Table"]


class Table(StoreSides):
    """In one file, without an index: they slow it down, and its own minima and maxima serve boxes."""

    @contextlib.contextmanager
    def opened(self, folder: Path) -> Iterator[Store]:
        """With as many threads as there are processors, as it likes it."""
        with duckdb.connect(str(folder / "records.duckdb")) as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS records "
                "(cid INTEGER, mid BIGINT, moid INTEGER, cap BIGINT, acq BIGINT, payload BLOB)"
            )
            yield _Records(database)


class _Records(Store):
    """Each statement is a transaction, durable at its end."""

    def __init__(self, database: Any) -> None:
        self._database = database

    def put(self, rows: Array) -> None:
        """The columns are copied side by side, and then not again before DuckDB has them."""
        columns: dict[str, Any] = {name: numpy.ascontiguousarray(rows[name]) for name in FIELDS}
        payloads = pyarrow.py_buffer(numpy.ascontiguousarray(rows["payload"]))
        columns["payload"] = pyarrow.Array.from_buffers(pyarrow.binary(WIDTH), len(rows), [None, payloads])
        self._database.register("added", pyarrow.table(columns))
        self._database.execute("INSERT INTO records SELECT * FROM added")
        self._database.unregister("added")

    def put_one(self, key: Key, payload: bytes) -> None:
        """A statement that is prepared once, as the text does not change."""
        self._database.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)", (*key, payload))

    def get(self, box: KeyRange) -> Array:
        """From columns to rows."""
        where, values = conditions(box)
        found = self._database.sql(f"SELECT * FROM records{where}", params=values).to_arrow_table()  # noqa: S608  names of fields alone
        rows = numpy.empty(len(found), row_type(WIDTH))
        filled = 0
        for batch in found.to_batches():
            part = rows[filled : filled + len(batch)]
            filled += len(batch)
            for place, name in enumerate(FIELDS):
                part[name] = batch.column(place).to_numpy()
            payloads = batch.column(len(FIELDS))
            _, offsets, data = payloads.buffers()
            first = numpy.frombuffer(offsets, numpy.int32)[payloads.offset]
            part["payload"] = numpy.frombuffer(data, part["payload"].dtype, len(batch), first)
        return rows
