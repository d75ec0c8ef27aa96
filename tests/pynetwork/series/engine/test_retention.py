from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from handshakes.records import KeyRange
from pynetwork.series.engine.core import Core
from pynetwork.series.engine.putting import Put, Putter
from pynetwork.series.engine.retention import expire, held, shrink
from pynetwork.series.engine.snapshots import Snapshot
from tests.pynetwork.series.engine.small import Clock, Full, block, records, small_sizes

EACH = 34


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    with small_sizes():
        core = Core(tmp_path, Clock())
        put(core, range(40))
        put(core, range(100, 140))
        put(core, range(200, 204))
        yield core
        core.close()


def key(cap: int) -> Full:
    return (0, cap % 4, 0, cap, 0)


def put(core: Core, caps: range, payload: bytes = b"ab") -> None:
    Putter(core).put([Put(block(*((key(cap), payload) for cap in caps)), with_acq=True)])


def caps_of(core: Core) -> list[int]:
    with Snapshot(core, KeyRange.everything()) as snapshot:
        return sorted(found[3] for found, _ in records(snapshot.together()))


@pytest.mark.parametrize("before", [-5, 0, 1, 39, 40, 50, 117, 202, 300])
def test_what_is_older_goes_and_nothing_else(core: Core, before: int) -> None:
    expected = [cap for cap in caps_of(core) if cap >= before]
    gone = 84 - len(expected)
    assert expire(core, before) == (gone, gone * EACH, len(expected), len(expected) * EACH)
    assert caps_of(core) == expected
    assert held(core) == (len(expected), len(expected) * EACH)
    assert expire(core, before).records == 0


@pytest.mark.parametrize("most", [0, 1, 10, 44, 60, 83, 84, 100])
def test_the_oldest_go_until_the_rest_is_small_enough(core: Core, most: int) -> None:
    before = caps_of(core)
    report = shrink(core, most * EACH)
    left = caps_of(core)
    assert (len(left), len(left) * EACH) == (report.records_left, report.bytes_left)
    assert len(left) <= most
    assert left == before or len(left) > most - 17  # whole blocks go
    if 44 <= most < 84:
        assert left[-44:] == before[-44:]


def test_what_was_replaced_does_not_count(core: Core) -> None:
    put(core, range(10), b"cd")
    assert held(core) == (84, 84 * EACH)
    assert shrink(core, 84 * EACH).records == 0
    assert expire(core, 5).records == 5
