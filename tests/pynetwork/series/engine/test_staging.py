from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest

from handshakes.errors import LocalProtocolError, ValueNotSupported
from handshakes.records import GREATEST, KeyRange, Rows, row_type
from pynetwork.series.engine.core import Core
from pynetwork.series.engine.putting import NOTHING, Putter
from pynetwork.series.engine.snapshots import Snapshot
from pynetwork.series.engine.staging import Staging
from tests.pynetwork.series.engine.small import Clock, Full, block, records, small_sizes


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    with small_sizes():
        core = Core(tmp_path, Clock())
        yield core
        core.close()


def staging(core: Core, *, with_acq: bool = False) -> Staging:
    return Staging(core, Putter(core), with_acq=with_acq)


def all_of(core: Core) -> dict[Full, bytes]:
    with Snapshot(core, KeyRange.everything()) as snapshot:
        found = records(snapshot.together())
    assert len(found) == len(dict(found))
    return dict(found)


def unseen(core: Core) -> int:
    with core.database.reading() as connection:
        return int(connection.execute("SELECT COUNT(*) FROM unseen").fetchall()[0][0])


def test_nothing_is_there_before_it_is_committed_then_all_is(core: Core) -> None:
    with staging(core) as put:
        for number in range(5):
            put.add(block(*(((0, cap % 2, 0, cap, 0), bytes([number])) for cap in range(9))))
        assert all_of(core) == {}
        assert unseen(core) > 0
        got = put.commit()
    assert got == (1_000_000, 1_000_044, 45, 0)
    assert unseen(core) == 0
    assert all_of(core) == {
        (0, cap % 2, 0, cap, 1_000_000 + 9 * number + cap): bytes([number]) for number in range(5) for cap in range(9)
    }


@pytest.mark.parametrize("many", [2, 30])
def test_an_aborted_put_leaves_nothing(core: Core, many: int) -> None:
    with staging(core) as put:
        put.add(block(*(((0, 0, 0, cap, 0), b"a") for cap in range(many))))
    assert all_of(core) == {}
    assert unseen(core) == 0
    with core.database.reading() as connection:
        assert connection.execute("SELECT COUNT(*) FROM content").fetchall() == [(0,)]
    with pytest.raises(LocalProtocolError):
        put.add(block(((0, 0, 0, 0, 0), b"a")))
    with pytest.raises(LocalProtocolError):
        put.commit()


def test_equal_keys_are_replaced_in_it_and_in_what_was_there(core: Core) -> None:
    key = [(0, 0, 0, cap, 1) for cap in range(40)]
    with staging(core, with_acq=True) as put:
        put.add(block(*((each, b"1") for each in key[:20])))
        put.commit()
    with staging(core, with_acq=True) as put:
        put.add(block((key[0], b"2"), (key[30], b"2")))
        put.commit()
    assert core.versions.recent.count == 2
    with staging(core, with_acq=True) as put:
        put.add(block(*((each, b"3") for each in key[10:25])))
        put.add(block(*((each, b"4") for each in key[20:31])))
        assert put.commit() == (-1, -1, 26, 0)
    expected = {each: b"1" for each in key[:10]} | {key[0]: b"2"}
    expected |= {each: b"3" for each in key[10:20]} | {each: b"4" for each in key[20:31]}
    assert all_of(core) == expected


def test_what_is_dropped_is_counted_and_what_is_wrong_refused(core: Core) -> None:
    with staging(core) as put:
        put.add(block(((0, 0, 0, 0, 0), b"a"), ((0, 0, 0, GREATEST.cap, 0), b"b")))
        with pytest.raises(ValueNotSupported):
            put.add(block(((-1, 0, 0, 0, 0), b"a")))
        assert put.commit() == (1_000_000, 1_000_000, 1, 1)
    with staging(core) as put:
        assert put.commit() == NOTHING


def test_memory_does_not_grow_with_the_put(tmp_path: Path) -> None:
    core = Core(tmp_path, Clock())
    rows = numpy.zeros(20_000, row_type(96))
    tracemalloc.start()
    try:
        with staging(core) as put:
            for number in range(40):
                rows["cap"] = number
                put.add(Rows(rows.copy()))
            assert put.commit().kept == 800_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        core.close()
    assert peak < 32 << 20
