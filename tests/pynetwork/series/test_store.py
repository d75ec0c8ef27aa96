from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

from handshakes.errors import ConfigurationError, ValueNotSupported, ValueTooLarge
from handshakes.records import Key, KeyRange, Rows, joined
from handshakes.tstorage import LARGEST_PAYLOAD
from pynetwork.series.conversions import array_type, block_from
from pynetwork.series.payloads import BytesPayloadType, NumpyPayloadType, StructPayloadType
from pynetwork.series.record import Record, SeriesKey
from pynetwork.series.store import Acquired, SeriesStore
from tests.pynetwork.series.engine.small import Clock, block, box, records

READING = NumpyPayloadType(numpy.dtype([("value", "<f8"), ("quality", "<i4")]))


@pytest.fixture
def clock() -> Clock:
    return Clock(10**9)


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[SeriesStore]:
    with SeriesStore(tmp_path / "store", clock=clock) as store:
        yield store


def readings(count: int, series: int = 2) -> numpy.ndarray:  # type: ignore[type-arg]
    """Interleaved readings: values are caps, halved."""
    array = numpy.zeros(count, array_type(READING))
    array["mid"] = numpy.arange(count) % series
    array["cap"] = numpy.arange(count) // series * 10
    array["value"] = array["cap"] / 2
    array["quality"] = array["mid"]
    return array


# Putting and getting


@pytest.mark.parametrize("count", [1, 100, 20_000])
def test_arrays_go_in_and_come_out(store: SeriesStore, count: int) -> None:
    given = readings(count)
    before = given.copy()
    got = store.put(given, READING)
    assert (got.acq_min, got.acq_max, got.kept, got.dropped) == (10**9, 10**9 + count - 1, count, 0)
    assert (given == before).all()
    found = store.array(KeyRange.everything(), READING)
    assert found.dtype == given.dtype
    found = found[numpy.argsort(found["acq"])]
    given["acq"] = 10**9 + numpy.arange(count)
    assert (found == given).all()
    found["cap"] = 0  # it is the caller's own


def test_records_go_in_and_come_out(store: SeriesStore) -> None:
    payload = StructPayloadType("<d")
    given = [Record(Key(1, 2, 3, cap, cap + 7), cap / 4) for cap in range(5)]
    assert store.puta(given, payload).kept == 5
    assert list(store.records(KeyRange.everything(), payload)) == given
    assert list(store.records(box(cap=(1, 3)), payload)) == given[1:3]


def test_what_a_caller_changes_afterwards_does_not_change_the_store(store: SeriesStore) -> None:
    given = readings(10)
    store.puta(given, READING)
    store.put(given, READING)
    given["value"] = -1
    assert (store.array(KeyRange.everything(), READING)["value"] >= 0).all()


def test_a_group_says_of_each_what_came_of_it(store: SeriesStore) -> None:
    fine, bad = block(((0, 0, 0, 0, 0), b"a")), block(((-1, 0, 0, 0, 0), b"a"))
    outcomes = store.put_group([(fine, False), (bad, False), (fine, True)])
    assert isinstance(outcomes[1], ValueNotSupported)
    assert [tuple(outcomes[number])[:2] for number in (0, 2)] == [(10**9, 10**9), (-1, -1)]  # type: ignore[arg-type]
    assert store.put_group([]) == []
    with pytest.raises(ValueNotSupported, match="cid"):
        store.put(bad)


def test_orders_and_limits(store: SeriesStore) -> None:
    store.put(readings(5000, series=5), READING)
    for order, sign in (("oldest", 1), ("newest", -1)):
        found = joined(list(store.blocks(order=order, limit=1234)))  # type: ignore[arg-type]
        caps = found.column("cap")
        assert len(caps) == 1234
        assert (sign * numpy.diff(caps) >= 0).all()
        assert int(caps[0]) == (0 if sign > 0 else 9990)
    assert list(store.blocks(limit=0)) == []
    with pytest.raises(ConfigurationError, match="order='best' is none"):
        next(store.blocks(order="best"))  # type: ignore[arg-type]


def test_a_snapshot_has_the_horizon_of_its_moment(store: SeriesStore, clock: Clock) -> None:
    store.put(readings(10), READING)
    clock.now += 1000
    with store.snapshot(box(acq=(0, 10**9 + 500))) as low, store.snapshot() as whole:
        assert (low.horizon, whole.horizon) == (10**9 + 500, 10**9 + 1000)
        got = store.put(readings(10), READING)
        assert got.acq_min >= whole.horizon
        assert sum(map(len, whole.blocks())) == 10
    assert store.horizon() == got.acq_max + 1
    assert store.horizon(5) == 5


def test_blocks_are_admitted_before_they_are_read(store: SeriesStore) -> None:
    store.put(readings(20_000), READING)
    store.put(readings(10), READING)
    sizes: list[int] = []
    with store.snapshot() as snapshot:
        found = [part.nbytes for part in snapshot.blocks(admit=sizes.append)]
    assert found == sizes


# Figures


def test_last_series_count_and_stats(store: SeriesStore) -> None:
    store.put(readings(10_000), READING)
    store.put(readings(10), READING)
    last = store.last()
    assert [key[:4] for key, _ in records(last)] == [(0, 0, 0, 49_990), (0, 1, 0, 49_990)]
    assert store.series().tolist() == [(0, mid, 0, 5005, 0, 49_990) for mid in (0, 1)]
    assert store.series(box(cap=(50, 100))).tolist() == [(0, mid, 0, 5, 50, 90) for mid in (0, 1)]
    assert store.count(box(mid=(1, 2))) == 5005
    stats = store.stats()
    assert (stats["records"], stats["journal_records"], stats["gone_records"]) == (10_010, 10, 0)
    assert stats["bytes"] == 10_010 * 44
    assert stats["file_bytes"] >= stats["bytes"]
    assert stats["horizon"] == store.horizon()


def test_downsampling(store: SeriesStore) -> None:
    store.put(readings(10_000), READING)
    found = store.downsample(box(mid=(1, 2), cap=(15, 1000)), 100, READING, "value", start=5)
    assert found["begin"].tolist() == list(range(5, 1000, 100))
    caps = numpy.arange(20, 1000, 10)
    for row in found.tolist():
        values = caps[(caps >= row[3]) & (caps < row[3] + 100)] / 2
        assert row[4:] == (len(values), values.min(), values.max(), values.mean(), values[-1])
    assert len(store.downsample(box(mid=(5, 6)), 100, READING, "value")) == 0


def test_downsampling_wants_one_field(store: SeriesStore) -> None:
    with pytest.raises(ConfigurationError, match=r"field=None is none of .*: give one of value, quality"):
        store.downsample(KeyRange.everything(), 100, READING)
    with pytest.raises(ConfigurationError, match="bucket_ns=0"):
        store.downsample(KeyRange.everything(), 0, READING, "value")


# Upkeep


def test_retention_by_age_and_by_size(store: SeriesStore, clock: Clock) -> None:
    store.put(readings(20_000), READING)
    clock.now = 100_000
    report = store.retain(age=(100_000 - 50_005) / 1e9)
    assert report == (10_002, 10_002 * 44, 9998, 9998 * 44)
    assert int(store.array(KeyRange.everything(), READING)["cap"].min()) == 50_010
    report = store.retain(size=44 * 6000)
    assert 0 < report.records_left <= 6000
    assert store.count() == report.records_left
    with pytest.raises(ConfigurationError, match="give age="):
        store.retain()


@pytest.mark.parametrize("name", ["age", "size"])
@pytest.mark.parametrize("amount", [-5, True, "90d", math.nan, math.inf])
def test_retention_guesses_nothing(store: SeriesStore, name: str, amount: Any) -> None:
    store.put(readings(100), READING)
    with pytest.raises(ConfigurationError, match=f"{name}=.* must be a number of (seconds|bytes) that is 0 or greater"):
        store.retain(**{name: amount})
    assert store.count() == 100


def test_a_payload_that_no_server_could_send_is_not_taken(store: SeriesStore) -> None:
    store.put([Record(Key(1, 2, 3, 0), b"before")])
    for size in (LARGEST_PAYLOAD + 1, 2 * LARGEST_PAYLOAD):
        large = [Record(Key(1, 2, 3, 4), bytes(size)), Record(Key(1, 2, 3, 5), b"beside")]
        for records_ in (large, large[:1]):
            with pytest.raises(ValueTooLarge, match=f"has {size} bytes; at most {LARGEST_PAYLOAD}"):
                store.put(records_)
        with store.stage() as staging, pytest.raises(ValueTooLarge):
            staging.add(block_from(large, BytesPayloadType()))
        group = [(block_from(each, BytesPayloadType()), False) for each in (large, large[1:])]
        refused, taken = store.put_group(group)
        assert isinstance(refused, ValueTooLarge)
        assert isinstance(taken, Acquired)
    assert [record.value for record in store.records()] == [b"before", b"beside", b"beside"]
    assert store.put([Record(Key(1, 2, 3, 4), bytes(LARGEST_PAYLOAD))]).kept == 1


def test_a_series_is_no_box(store: SeriesStore) -> None:
    with pytest.raises(ValueNotSupported, match=r"that of a SeriesKey is its range\(\)"):
        list(store.records(SeriesKey(1, 2, 3)))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="limit=-1 must be 0 or greater"):
        list(store.blocks(limit=-1))


def test_a_file_is_no_folder_of_a_store(store: SeriesStore, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"mine")
    for path in (file, file / "within"):
        with pytest.raises(ConfigurationError, match="is a file, or within one, and a store is a folder"):
            SeriesStore(path)
        with pytest.raises(ConfigurationError, match="is a file, or within one, and a store is a folder"):
            store.backup(path)
    assert file.read_bytes() == b"mine"


def test_a_backup_is_a_store(store: SeriesStore, tmp_path: Path) -> None:
    store.put(readings(5000), READING)
    assert store.backup(tmp_path / "copy").records == 5000
    with SeriesStore(tmp_path / "copy") as copy:
        assert (copy.array(KeyRange.everything(), READING) == store.array(KeyRange.everything(), READING)).all()


# Files of others


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".arrow"])
def test_files_of_others_bring_everything_back(store: SeriesStore, tmp_path: Path, suffix: str) -> None:
    if suffix != ".csv":
        pytest.importorskip("pyarrow")
    store.put(readings(3000), READING)
    path = tmp_path / f"out{suffix}"
    assert store.export(path, KeyRange.everything(), READING) == 3000
    with SeriesStore(tmp_path / "other") as other:
        assert other.load(path, READING).kept == 3000
        found, expected = (
            numpy.sort(each.array(KeyRange.everything(), READING), order="acq") for each in (other, store)
        )
        assert (found == expected).all()


def test_an_empty_file_puts_nothing(store: SeriesStore, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    assert store.export(path, KeyRange.everything(), READING) == 0
    assert store.load(path, READING) == (-1, -1, 0, 0)


def test_sql_over_what_is_there(store: SeriesStore) -> None:
    pytest.importorskip("duckdb")
    pytest.importorskip("pyarrow")
    store.put(readings(20_000), READING)
    query = "SELECT mid, COUNT(*) AS many, MAX(value) AS most FROM records GROUP BY mid ORDER BY mid"
    found = store.sql(query, box(cap=(0, 1000)), READING)
    assert found.to_pylist() == [{"mid": mid, "many": 100, "most": 495.0} for mid in (0, 1)]
    empty = store.sql("SELECT COUNT(*) AS many FROM records", box(cap=(-5, -1)), READING)
    assert empty.to_pylist() == [{"many": 0}]


def test_without_the_extra_sql_says_how_to_get_it(store: SeriesStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'pynetwork\[store\]'"):
        store.sql("SELECT 1", KeyRange.everything(), BytesPayloadType())


def test_payloads_of_all_sizes_live_side_by_side(store: SeriesStore) -> None:
    given = [((0, number % 3, 0, number, number), bytes([number % 251]) * (number % 40)) for number in range(6000)]
    store.puta(block(*given))
    large = ((9, 9, 9, 9, 9), bytes(3 << 20))
    store.puta(block(large))
    with store.snapshot() as snapshot:
        assert sorted(records(snapshot.together())) == sorted([*given, large])
    store.compact()
    with store.snapshot() as snapshot:
        assert sorted(record for part in snapshot.blocks() for record in records(part)) == sorted([*given, large])
    assert isinstance(store.last(box(cid=(9, 10))), Rows)
