from __future__ import annotations

import numpy
import pytest

from handshakes.records import KEY, Block, Key, block_of, joined
from pynetwork.cli.series.folding import by_series, figures_of, last_of, newest_of
from pynetwork.series.record import SeriesKey


def block(*keys: tuple[int, int, int, int, int]) -> Block:
    return block_of(numpy.array(list(keys), KEY), [str(key).encode() for key in keys])


def keys(found: Block | None) -> list[Key]:
    assert found is not None
    for index in range(len(found)):
        assert bytes(found.payload(index)) == str(tuple(found.key(index))).encode()
    return [found.key(index) for index in range(len(found))]


FIRST = block((1, 1, 1, 50, 0), (0, -(2**63), 5, 10, 3), (1, 1, 1, 20, 0), (1, 1, 2, 7, 0))
SECOND = block((1, 1, 1, 30, 9), (0, -(2**63), 5, 10, 8), (0, 2**63 - 2, 5, 11, 8))


def test_the_last_of_each_series() -> None:
    wanted = [(0, -(2**63), 5, 10, 8), (0, 2**63 - 2, 5, 11, 8), (1, 1, 1, 50, 0), (1, 1, 2, 7, 0)]
    assert keys(last_of([FIRST, SECOND])) == wanted
    assert keys(last_of([SECOND, FIRST])) == wanted
    assert keys(last_of([joined([FIRST, SECOND])])) == wanted
    assert last_of([]) is None


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_the_newest_of_all(limit: int) -> None:
    every = [FIRST.key(index) for index in range(4)] + [SECOND.key(index) for index in range(3)]
    wanted = sorted(every, key=lambda key: (key.cap, key.acq), reverse=True)[:limit]
    assert keys(newest_of([FIRST, SECOND], limit)) == wanted
    assert newest_of([], limit) is None


def test_figures() -> None:
    found = [(tuple(each.series), each.records, each.first, each.last) for each in figures_of([FIRST, SECOND])]
    assert found == [
        ((0, -(2**63), 5), 2, 10, 10),
        ((0, 2**63 - 2, 5), 1, 11, 11),
        ((1, 1, 1), 3, 20, 50),
        ((1, 1, 2), 1, 7, 7),
    ]
    assert figures_of([FIRST.take(slice(0, 0))]) == []


def test_series_apart() -> None:
    parts = {series: keys(part) for series, part in by_series(FIRST)}
    assert parts[SeriesKey(1, 1, 1)] == [(1, 1, 1, 20, 0), (1, 1, 1, 50, 0)]
    assert len(parts) == 3
    assert list(by_series(FIRST.take(slice(0, 0)))) == []
