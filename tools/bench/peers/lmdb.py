"""LMDB: the full key, in such bytes that their order is that of keys, and the payload as its value."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from itertools import chain, takewhile
from pathlib import Path
from typing import Any, Final

import lmdb
import numpy

from handshakes.records import FIELDS, GREATEST, KEY, LEAST, Key, KeyRange, row_type
from tools.bench.sensors import WIDTH, Array
from tools.bench.workloads.series_store import Store, StoreSides

__all__ = ["Tree"]

_MOST: Final = 64 << 30
_KEY: Final = struct.Struct(">IQIQQ")
_RECORD: Final = numpy.dtype([*((name, f">u{KEY[name].itemsize}") for name in FIELDS), ("payload", f"V{WIDTH}")])
_PARTS: Final = (slice(0, 4), slice(4, 12), slice(12, 16))
_SERIES: Final = 16  # bytes of a key before its times
_TIME: Final = 24  # and those before the time of acquisition


class Tree(StoreSides):
    """One tree in one file, which may grow to 64 GiB. Each transaction is flushed, as LMDB has it by default."""

    @contextlib.contextmanager
    def opened(self, folder: Path) -> Iterator[Store]:
        """Read by mapping it, whatever the order."""
        with lmdb.open(str(folder), map_size=_MOST) as database:
            yield _Records(database)


class _Records(Store):
    def __init__(self, database: Any) -> None:
        self._database = database

    def put(self, rows: Array) -> None:
        """One transaction, in the order of keys; appended where all of them come behind those that are there."""
        rows = rows[numpy.lexsort([numpy.ascontiguousarray(rows[name]) for name in reversed(FIELDS)])]
        packed = numpy.empty(len(rows), _RECORD)
        for name in FIELDS:
            packed[name] = _turned(rows[name])
        keys = packed.view([("key", f"V{KEY.itemsize}"), ("payload", f"V{WIDTH}")])["key"].tolist()
        with self._database.begin(write=True) as transaction, transaction.cursor() as cursor:
            behind = not cursor.last() or cursor.key() < keys[0]
            cursor.putmulti(list(zip(keys, rows["payload"].tolist(), strict=True)), append=behind)

    def put_one(self, key: Key, payload: bytes) -> None:
        """A transaction of its own."""
        with self._database.begin(write=True) as transaction:
            transaction.put(_encoded(key), payload)

    def get(self, box: KeyRange) -> Array:
        """From series to series, in each of them from the first time to the last."""
        with self._database.begin() as transaction, transaction.cursor() as cursor:
            if box == KeyRange.everything():
                return _decoded(b"".join(chain.from_iterable(cursor)))
            return _decoded(b"".join(chain.from_iterable(_walk(cursor, box))))


def _walk(cursor: Any, box: KeyRange) -> Iterator[tuple[bytes, bytes]]:
    low, high = _encoded(box.min), _encoded(box.max)
    # Of one client the meters that are wanted lie together, and of one meter the objects.
    one = [most - least == 1 for least, most in zip(box.min, box.max, strict=True)]
    end = _encoded(LEAST._replace(cid=box.min.cid, mid=box.max.mid) if one[0] else LEAST._replace(cid=box.max.cid))
    if one[0] and one[1]:
        end = _encoded(LEAST._replace(cid=box.min.cid, mid=box.min.mid, moid=box.max.moid))
    found = cursor.set_range(low)
    while found and cursor.key() < end:
        series = cursor.key()[:_SERIES]
        if all(low[part] <= series[part] < high[part] for part in _PARTS):
            begin, stop = series + low[_SERIES:], series + high[_SERIES:_TIME] + bytes(KEY.itemsize - _TIME)
            if cursor.key() >= begin or cursor.set_range(begin):
                yield from takewhile(lambda item, stop=stop: item[0] < stop, cursor.iternext())  # type: ignore[misc]
        found = cursor.set_range(series + b"\xff" * (KEY.itemsize - _SERIES))


def _encoded(key: Key) -> bytes:
    return _KEY.pack(*(value - least for value, least in zip(key, _ZERO, strict=True)))


_ZERO: Final = LEAST._replace(cid=-1 - GREATEST.cid)


def _turned(column: Array) -> Array:
    """Signed to unsigned numbers in the same order, or back."""
    size = column.dtype.itemsize
    turned: Array = column.astype(f"u{size}")
    turned ^= numpy.array(1 << (8 * size - 1), turned.dtype)
    return turned


def _decoded(data: bytes) -> Array:
    packed = numpy.frombuffer(data, _RECORD)
    rows = numpy.empty(len(packed), row_type(WIDTH))
    for name in FIELDS:
        rows[name] = _turned(packed[name]).view(KEY[name])
    rows["payload"] = packed["payload"]
    return rows
