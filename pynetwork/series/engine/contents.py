"""Records as bytes on disk: those of one size of payload as they lie in memory, others as ends, keys and payloads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy
import xxhash

from handshakes.messages import Bytes
from handshakes.records import KEY, Array, Block, Ragged, Rows, row_type
from pynetwork.series.engine.schema import StoreDamaged

__all__ = ["LARGEST", "MOST_RECORDS", "cuts", "decode", "decode_into", "digest", "encode", "even_cuts", "proved"]

MOST_RECORDS: Final = 4096
"""Records in one block. Fewer read less for a small box, more write and read faster in bulk."""

LARGEST: Final = 1 << 20
"""Bytes of keys and payloads in one block, unless it is a single record."""

_END = numpy.dtype("<i8")


def encode(block: Block) -> Bytes:
    """The bytes of ``block``; a view of its own where they lie in memory so. Without its count and width, which
    `decode` needs.
    """
    if isinstance(block, Rows):
        return block.rows.view(numpy.uint8).data
    assert isinstance(block, Ragged)
    ends = numpy.ascontiguousarray(block.ends, _END)
    return b"".join((ends.data, numpy.ascontiguousarray(block.head).data, numpy.ascontiguousarray(block.data).data))


def decode(data: Bytes, count: int, width: int, base: int = 0) -> Block:
    """The block of ``count`` records that `encode` made ``data`` of, with ``base`` added to each acq.

    A view of ``data`` unless there is a ``base``. Raises `StoreDamaged` when the sizes do not fit.
    """
    block: Block
    if width >= 0:
        kind = row_type(width)
        _check(len(data) == count * kind.itemsize)
        block = Rows(numpy.frombuffer(data, kind))
    else:
        head, rest = count * _END.itemsize, count * (_END.itemsize + KEY.itemsize)
        _check(len(data) >= rest)
        ends = numpy.frombuffer(data, _END, count)
        _check(int(ends[-1]) == len(data) - rest if count else len(data) == rest)
        block = Ragged(numpy.frombuffer(data, KEY, count, head), numpy.frombuffer(data, numpy.uint8, -1, rest), ends)
    return block.with_acq(block.column("acq") + base) if base else block


def decode_into(data: Bytes, rows: Array, base: int) -> None:
    """As `decode` of a block with a width, but into ``rows``, which are as many as there are."""
    plain = rows.view(numpy.uint8)
    _check(len(data) == len(plain))
    plain.data[:] = data
    if base:
        rows["acq"] += base


def digest(data: Bytes) -> int:
    """The xxh3 of stored bytes, as a number that SQLite holds: 64 bits with a sign."""
    return xxhash.xxh3_64_intdigest(data) - (1 << 63)


def proved(data: bytes, known: int) -> bytes:
    """``data``, whose digest must be the one that is ``known``. Raises `StoreDamaged`."""
    if digest(data) != known:
        raise StoreDamaged("its bytes are not those that were written")
    return data


def cuts(block: Block, order: Array | None = None) -> Sequence[tuple[int, int]]:
    """Where to cut ``block``, as it is or what ``order`` picks of it, so that each part is fit for one block on disk:
    (begin, end) of each.
    """
    if isinstance(block, Rows):
        return even_cuts(len(block) if order is None else len(order), block.width)
    sizes = block.sizes() + KEY.itemsize
    return list(_cuts_by_size(sizes if order is None else sizes[order]))


def even_cuts(count: int, width: int) -> Sequence[tuple[int, int]]:
    """As `cuts`, of so many records with payloads of ``width`` bytes."""
    step = max(1, min(MOST_RECORDS, LARGEST // (KEY.itemsize + width)))
    return [(begin, min(begin + step, count)) for begin in range(0, count, step)]


def _cuts_by_size(sizes: Array) -> Iterator[tuple[int, int]]:
    ends = numpy.cumsum(sizes)
    begin, before = 0, 0
    while begin < len(ends):
        end = int(numpy.searchsorted(ends, before + LARGEST, "right"))
        end = min(max(end, begin + 1), begin + MOST_RECORDS)
        yield begin, end
        begin, before = end, int(ends[end - 1])


def _check(fits: bool) -> None:
    if not fits:
        raise StoreDamaged("its bytes do not fit what is known of it")
