from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy
import pytest

from handshakes.records import Block, Key, KeyRange
from pynetwork.series.engine import summaries
from pynetwork.series.engine.core import Core
from pynetwork.series.engine.putting import Put, Putter
from pynetwork.series.engine.snapshots import Snapshot
from pynetwork.series.engine.summaries import downsampled, last_of_each, spans
from tests.pynetwork.series.engine.small import Clock, Full, block, box, records, small_sizes

Values = dict[Full, bytes]
BOXES = [KeyRange.everything(), box(cap=(10, 60)), box(mid=(1, 2)), box(mid=(5, 9)), box(cap=(30, 31), moid=(0, 1))]


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    with small_sizes():
        core = Core(tmp_path, Clock())
        yield core
        core.close()


@pytest.fixture
def there(core: Core) -> Values:
    chance = numpy.random.default_rng(7)
    putter = Putter(core)
    there: Values = {}
    for _ in range(12):
        told = {
            (0, int(chance.integers(3)), int(chance.integers(2)), int(chance.integers(100)), int(chance.integers(3))):
            float(chance.random()).hex().encode()[:8]
            for _ in range(int(chance.integers(1, 30)))
        }  # fmt: skip
        putter.put([Put(block(*told.items()), with_acq=True)])
        there.update(told)
    return there


def series_of(there: Values, sought: KeyRange) -> dict[tuple[int, int, int], list[Full]]:
    found: dict[tuple[int, int, int], list[Full]] = {}
    for key in sorted(there):
        if sought.holds(Key(*key)):
            found.setdefault(key[:3], []).append(key)
    return found


def number_of(payload: bytes) -> float:
    return float(int.from_bytes(payload, "little") % 1000)


def numbers(found: Block) -> numpy.ndarray:  # type: ignore[type-arg]
    return numpy.array([number_of(payload) for _, payload in records(found)], float)


@pytest.mark.parametrize("sought", BOXES)
def test_the_last_of_each_series(core: Core, there: Values, sought: KeyRange) -> None:
    with Snapshot(core, sought) as snapshot:
        found = records(last_of_each(snapshot))
    assert found == [(keys[-1], there[keys[-1]]) for keys in series_of(there, sought).values()]


@pytest.mark.parametrize("sought", BOXES)
def test_spans_of_series(core: Core, there: Values, sought: KeyRange) -> None:
    with Snapshot(core, sought) as snapshot:
        found = spans(snapshot).tolist()
    assert found == [(*series, len(keys), keys[0][3], keys[-1][3]) for series, keys in series_of(there, sought).items()]


@pytest.mark.parametrize("sought", BOXES)
@pytest.mark.parametrize(("bucket", "start"), [(10, 0), (7, 3), (7, -4), (1000, 0), (1, 0)])
def test_buckets(core: Core, there: Values, sought: KeyRange, bucket: int, start: int) -> None:
    expected = []
    for series, keys in series_of(there, sought).items():
        buckets: dict[int, list[float]] = {}
        for key in keys:
            begin = (key[3] - start) // bucket * bucket + start
            buckets.setdefault(begin, []).append(number_of(there[key]))
        for begin, values in sorted(buckets.items()):
            mean = pytest.approx(sum(values) / len(values))
            expected.append((*series, begin, len(values), min(values), max(values), mean, values[-1]))
    with Snapshot(core, sought) as snapshot:
        found = downsampled(snapshot, bucket, start, numbers).tolist()
    assert found == expected


def test_blocks_of_one_series_are_not_read_for_its_span(core: Core) -> None:
    Putter(core).put([Put(block(*(((0, 0, 0, cap, 0), b"ab") for cap in range(40))), with_acq=True)])
    with (
        Snapshot(core, KeyRange.everything()) as snapshot,
        mock.patch.object(Snapshot, "read", side_effect=AssertionError("it was read")),
    ):
        assert spans(snapshot).tolist() == [(0, 0, 0, 40, 0, 39)]


def test_old_blocks_of_one_series_are_not_read_for_its_last(core: Core) -> None:
    Putter(core).put([Put(block(*(((0, 0, 0, cap, 0), b"ab") for cap in range(40))), with_acq=True)])
    with (
        Snapshot(core, KeyRange.everything()) as snapshot,
        mock.patch.object(Snapshot, "read", autospec=True, side_effect=Snapshot.read) as read,
    ):
        assert records(summaries.last_of_each(snapshot)) == [((0, 0, 0, 39, 0), b"ab")]
    assert read.call_count == 1
