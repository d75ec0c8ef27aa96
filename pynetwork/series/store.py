"""A store of time series in a folder: embedded, safe against crashes, for up to a billion records on a laptop."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import math
import numbers
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, TypeAlias, TypeVar

import numpy

from handshakes.errors import ConfigurationError, ValueNotSupported, ValueTooLarge
from handshakes.records import FIELDS, GREATEST, KEY, Array, Block, KeyRange, Rows, block_of, row_type
from pynetwork.series.conversions import array_from, array_type, block_from, records_from, table_from
from pynetwork.series.datafiles import read_blocks, write_blocks
from pynetwork.series.engine.backup import BackedUp, back_up
from pynetwork.series.engine.compaction import Compaction
from pynetwork.series.engine.core import Core
from pynetwork.series.engine.lock import StoreBusy
from pynetwork.series.engine.putting import NOTHING, Acquired, Put, Putter
from pynetwork.series.engine.retention import Retained, expire, held, shrink
from pynetwork.series.engine.schema import PAGE, StoreDamaged
from pynetwork.series.engine.snapshots import Snapshot
from pynetwork.series.engine.staging import Staging
from pynetwork.series.engine.summaries import downsampled, last_of_each, spans
from pynetwork.series.engine.timewise import by_time
from pynetwork.series.engine.upkeep import Chore, Upkeep
from pynetwork.series.payloads import BytesPayloadType, PayloadType
from pynetwork.series.record import Record
from pynetwork.series.timestamps import now_ns

__all__ = ["Acquired", "BackedUp", "Retained", "SeriesStore", "Snapshot", "Staging", "StoreBusy", "StoreDamaged"]

T = TypeVar("T")
Order: TypeAlias = Literal["stored", "oldest", "newest"]

EVERYTHING: Final = KeyRange.everything()
PLAIN: Final[PayloadType[Any]] = BytesPayloadType()


class SeriesStore:
    """The store in the folder ``path``, which is made if need be; a context manager. Safe in many threads.

    What was put when a method returns is on the disk, all of it, and is there after a crash of the process or the
    machine. ``clock`` answers the time now, in nanoseconds since 2001; acquisition times follow it, and never fall.

    Raises `StoreBusy` when it is open elsewhere, `ConfigurationError` when it was written by a later version or is
    none, `StoreDamaged`, and `OSError`.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Callable[[], int] = now_ns) -> None:
        self.path = Path(path)
        self._clock = clock
        self._core = Core(self.path, clock)
        self._putter = Putter(self._core)
        self._compaction = Compaction(self._core, lambda: self._upkeep.stopping)
        database, versions = self._core.database, self._core.versions
        self._upkeep = Upkeep(
            [
                Chore(lambda: self._putter.fold_due, self._fold),
                Chore(lambda: database.checkpoint_due, database.checkpoint),
                Chore(lambda: versions.leaving, self._core.remove_unneeded, urgent=False),
                Chore(self._compaction.due, self._compaction.step, urgent=False),
            ]
        )

    def close(self) -> None:
        """Close the store; others may open it. Everything else raises `Closed` from now on."""
        self._upkeep.stop()
        self._core.close()

    def __enter__(self) -> SeriesStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Putting

    def put(self, records: Any, payload_type: PayloadType[Any] = PLAIN) -> Acquired:
        """Put ``records``: a block, or what `pynetwork.series.conversions.block_from` takes: a structured array with
        the fields of a key and of ``payload_type``, an iterable of `Record`, columns, a table.

        Each gets a time of acquisition: they are unique, and rise in the order of the records. Returns what they are
        when all is durable. Raises `ValueNotSupported` for what can't be put, such as a negative cid, `ValueTooLarge`
        for a payload of more than 32 MiB, `OSError` when the disk is full or fails, and `Closed`; then nothing of it
        is kept.
        """
        return self._put(records, payload_type, with_acq=False)

    def puta(self, records: Any, payload_type: PayloadType[Any] = PLAIN) -> Acquired:
        """As `put`, of records that have their times of acquisition. One whose full key is there already replaces
        what is there; of those with the same in ``records``, the last is kept.
        """
        return self._put(records, payload_type, with_acq=True)

    def put_group(self, puts: Sequence[tuple[Block, bool]]) -> list[Acquired | Exception]:
        """Many small puts at once, each a block and whether it has its times of acquisition; what came of each."""
        found: list[Put | Exception] = []
        for block, with_acq in puts:
            try:
                found.append(Put(block, with_acq=with_acq))
            except (ValueNotSupported, ValueTooLarge) as error:
                found.append(error)
        self._putter.put([put for put in found if isinstance(put, Put)])
        self._upkeep.look()
        return [put.outcome if isinstance(put, Put) else put for put in found]

    def stage(self, with_acq: bool = False) -> Staging:
        """A put of more than fits into memory, block by block; see `Staging`."""
        return Staging(self._core, self._putter, with_acq=with_acq)

    def _put(self, records: Any, payload_type: PayloadType[Any], *, with_acq: bool) -> Acquired:
        put = Put(_block(records, payload_type, with_acq=with_acq), with_acq=with_acq)
        self._putter.put([put])
        self._upkeep.look()
        return put.result()

    # Reading

    def snapshot(self, box: KeyRange = EVERYTHING) -> Snapshot:
        """What is in ``box`` as it is now, whatever comes and goes meanwhile: see `Snapshot`. To be closed."""
        return Snapshot(self._core, box)

    def blocks(
        self, box: KeyRange = EVERYTHING, *, order: Order = "stored", limit: int | None = None
    ) -> Iterator[Block]:
        """What is in ``box`` when the first block is asked for, block by block, in bounded memory: as it is stored, or
        the ``"oldest"`` or ``"newest"`` first, by cap; at most ``limit`` records.
        """
        if limit is not None and limit < 0:
            raise ConfigurationError(f"limit={limit} must be 0 or greater")
        if order not in {"stored", "oldest", "newest"}:
            raise ConfigurationError(f'order={order!r} is none: give "stored", "oldest" or "newest"')
        with self.snapshot(box) as snapshot:
            found = snapshot.blocks() if order == "stored" else by_time(snapshot, newest=order == "newest")
            yield from found if limit is None else _first(found, limit)

    def array(self, box: KeyRange = EVERYTHING, payload_type: PayloadType[Any] = PLAIN) -> Array:
        """All records in ``box`` as one structured array, in the order in which they are stored: the fields of the key
        and those of ``payload_type``. Raises as `pynetwork.series.conversions.array_from`.
        """
        with self.snapshot(box) as snapshot:
            return array_from(snapshot.together(), payload_type)

    def records(self, box: KeyRange = EVERYTHING, payload_type: PayloadType[T] = PLAIN) -> Iterator[Record[T]]:
        """All records in ``box`` one by one, in the order in which they are stored."""
        for block in self.blocks(box):
            yield from records_from(block, payload_type)

    def count(self, box: KeyRange = EVERYTHING) -> int:
        """How many records are in ``box``."""
        with self.snapshot(box) as snapshot:
            return snapshot.count()

    def last(self, box: KeyRange = EVERYTHING) -> Block:
        """Of each series in ``box`` the record with the greatest cap, in the order of the series."""
        with self.snapshot(box) as snapshot:
            return last_of_each(snapshot)

    def series(self, box: KeyRange = EVERYTHING) -> Array:
        """The series in ``box``, in order: cid, mid, moid, the ``count`` of records, and the caps of the ``oldest`` and
        the ``newest``, as a structured array.
        """
        with self.snapshot(box) as snapshot:
            return spans(snapshot)

    def downsample(
        self,
        box: KeyRange,
        bucket_ns: int,
        payload_type: PayloadType[Any],
        field: str | None = None,
        *,
        start: int = 0,
    ) -> Array:
        """What the values of ``field`` were in each span of ``bucket_ns`` nanoseconds of cap, for each series: a
        structured array of cid, mid, moid, ``begin``, ``count``, ``minimum``, ``maximum``, ``mean`` and ``last``, in
        that order. Spans without records are left out; they are counted from ``start``. ``field`` may be left out where
        there is but one.
        """
        if bucket_ns <= 0:
            raise ConfigurationError(f"bucket_ns={bucket_ns} must be 1 or greater")
        name = _one_field(payload_type, field)

        def values(block: Block) -> Array:
            return array_from(block, payload_type)[name].astype(numpy.float64)

        with self.snapshot(box) as snapshot:
            return downsampled(snapshot, bucket_ns, start, values)

    def horizon(self, limit: int = GREATEST.acq) -> int:
        """The time of acquisition up to which everything that will ever have a lower one is there, at most ``limit``.
        What is put from now on gets this one or a later.
        """
        version = self._core.hold()
        self._core.versions.release(version)
        return min(version.horizon, limit)

    def stats(self) -> dict[str, int]:
        """How much there is: records, bytes of their keys and payloads, blocks, records in the journal, replaced or
        expired ones that still take room, bytes of the files on the disk, and of the pages in them that are free.
        """
        core = self._core
        records, size = held(core)
        zones, gone = core.versions.zones, core.versions.gone
        with core.database.reading() as connection:
            free = connection.execute("PRAGMA freelist_count").fetchall()[0][0]
        return {
            "records": records,
            "bytes": size,
            "blocks": len(zones),
            "runs": len(numpy.unique(zones.column("run"))),
            "journal_records": core.versions.recent.count,
            "gone_records": sum(map(len, gone.values())),
            "file_bytes": sum(each.stat().st_size for each in self.path.iterdir() if each.name != "lock"),
            "free_bytes": free * PAGE,
            "horizon": self.horizon(),
        }

    # Upkeep

    def compact(self) -> int:
        """Merge what came in small puts, and take the room of what was replaced or has expired; how many blocks there
        are less. The store does the former by itself, in time. Raises `OSError` when the disk is full or fails.
        """
        self._fold()
        fewer = self._compaction.all()
        self._remove_unneeded()
        return fewer

    def retain(self, *, age: float | None = None, size: int | None = None) -> Retained:
        """Let go of records that were captured more than ``age`` seconds ago, by the clock, and of blocks of the oldest
        until the rest takes ``size`` bytes or fewer. Their room is used for what comes next; files do not shrink.

        Raises `OSError` when the disk is so full that not even this can be noted.
        """
        if age is None and size is None:
            raise ConfigurationError("give age= (seconds), size= (bytes), or both")
        # What is removed does not come back: nothing is guessed of what was meant.
        _check_amount("age", age, "seconds")
        _check_amount("size", size, "bytes")
        found = []
        if age is not None:
            found.append(expire(self._core, self._clock() - round(age * 1e9)))
        if size is not None:
            found.append(shrink(self._core, size))
        self._remove_unneeded()
        records, freed = (sum(each[number] for each in found) for number in (0, 1))
        return Retained(records, freed, found[-1].records_left, found[-1].bytes_left)

    def backup(self, to: str | os.PathLike[str]) -> BackedUp:
        """Copy the store as it is now to the folder ``to``, which becomes a store of its own, and read the copy
        through. Others put and get meanwhile. Raises `ConfigurationError` when a store is there already,
        `StoreDamaged` and `OSError`.
        """
        return back_up(self._core.database, Path(to))

    # Files of others

    def export(self, path: str | os.PathLike[str], box: KeyRange, payload_type: PayloadType[Any]) -> int:
        """Write what is in ``box`` to a file whose suffix names its format: .csv, .parquet or .arrow; how many records.

        Raises as `pynetwork.series.datafiles.write_blocks`.
        """
        return write_blocks(path, self.blocks(box), payload_type)

    def load(self, path: str | os.PathLike[str], payload_type: PayloadType[Any]) -> Acquired:
        """Put the records of such a file, all or none of them. If their acq are there, and are not all 0, they keep
        them. Raises as `pynetwork.series.datafiles.read_blocks` and `put`.
        """
        found = read_blocks(path, payload_type)
        first = next(found, None)
        if first is None:
            return NOTHING
        with self.stage(with_acq=bool(first.column("acq").any())) as staging:
            for block in itertools.chain([first], found):
                staging.add(block)
            return staging.commit()

    def sql(self, query: str, box: KeyRange, payload_type: PayloadType[Any]) -> Any:
        """What DuckDB answers to ``query``, as an Arrow table. What is in ``box`` is its table ``records``, which is
        read block by block while the query runs, and only once.

        Raises `ConfigurationError` without DuckDB and PyArrow: ``pip install pynetwork[store]``.
        """
        try:
            duckdb, arrow = importlib.import_module("duckdb"), importlib.import_module("pyarrow")
        except ImportError as error:
            raise ConfigurationError("SQL needs DuckDB and PyArrow: pip install 'pynetwork[store]'") from error
        kind = table_from(block_of(numpy.empty(0, KEY), []), payload_type).schema
        with self.snapshot(box) as snapshot, contextlib.closing(duckdb.connect()) as connection:
            batches = (batch for block in snapshot.blocks() for batch in table_from(block, payload_type).to_batches())
            connection.register("records", arrow.RecordBatchReader.from_batches(kind, batches))
            return connection.sql(query).to_arrow_table()

    def _remove_unneeded(self) -> None:
        # Removing takes room itself, for a moment: what can't be done now is done by and by.
        with contextlib.suppress(OSError):
            self._core.remove_unneeded()

    def _fold(self) -> None:
        with self._core.changing() as (connection, change):
            self._core.fold(connection, change)


def _block(records: Any, payload_type: PayloadType[Any], *, with_acq: bool) -> Block:
    if (
        not with_acq
        and isinstance(records, numpy.ndarray)
        and payload_type.dtype is not None
        and records.dtype == array_type(payload_type)
        and records.flags.c_contiguous
    ):
        # As it is, since giving it times of acquisition makes a copy.
        return Rows(records.view(row_type(records.dtype.itemsize - KEY.itemsize)))
    return block_from(records, payload_type, with_acq=with_acq)


def _check_amount(name: str, amount: Any, unit: str) -> None:
    number = isinstance(amount, numbers.Real) and not isinstance(amount, bool)
    if amount is not None and not (number and 0 <= amount < math.inf):
        raise ConfigurationError(f"{name}={amount!r} must be a number of {unit} that is 0 or greater")


def _first(blocks: Iterator[Block], limit: int) -> Iterator[Block]:
    while limit > 0:
        block = next(blocks, None)
        if block is None:
            return
        yield block if len(block) <= limit else block.take(slice(0, limit))
        limit -= len(block)


def _one_field(payload_type: PayloadType[Any], field: str | None) -> str:
    names = array_type(payload_type).names or ()
    fields = [name for name in names if name not in FIELDS]
    if field is None and len(fields) == 1:
        return fields[0]
    if field not in fields:
        raise ConfigurationError(f"field={field!r} is none of {payload_type}: give one of {', '.join(fields)}")
    return field
