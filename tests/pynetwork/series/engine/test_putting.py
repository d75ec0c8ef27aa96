from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest

from handshakes.errors import ValueNotSupported
from handshakes.records import GREATEST, LEAST, Block, Key, KeyRange, Rows, row_type
from pynetwork.series.engine.core import Core
from pynetwork.series.engine.putting import NOTHING, Put, Putter, addressable
from pynetwork.series.engine.snapshots import Snapshot
from tests.pynetwork.series.engine.small import Clock, Full, block, records

MANY = 5000


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    core = Core(tmp_path, Clock())
    yield core
    core.close()


def rows(count: int, mid: int = 0) -> Block:
    array = numpy.zeros(count, row_type(4))
    array["mid"] = mid
    array["cap"] = numpy.arange(count)
    return Rows(array)


def all_of(core: Core) -> list[tuple[Full, bytes]]:
    with Snapshot(core, KeyRange.everything()) as snapshot:
        return records(snapshot.together())


@pytest.mark.parametrize("many", [1, 10])
@pytest.mark.parametrize("field", ["cid", "mid", "moid", "cap", "acq"])
def test_what_no_box_can_hold_is_dropped(many: int, field: str) -> None:
    odd = tuple(Key(0, 0, 0, 0, 0)._replace(**{field: getattr(GREATEST, field)}))
    fine = [tuple(LEAST._replace(cap=cap)) for cap in range(many)]
    given = block((odd, b"odd"), *((key, b"ok") for key in fine))
    assert [key for key, _ in records(addressable(given, with_acq=True))] == fine
    # Without its own, a record's acq is not looked at.
    assert len(addressable(given, with_acq=False)) == many + (field == "acq")


@pytest.mark.parametrize("many", [1, 10])
def test_a_negative_cid_is_named(many: int) -> None:
    given = block(*(((0, 0, 0, cap, 0), b"") for cap in range(many)), ((-3, 0, 0, 0, 0), b""))
    with pytest.raises(ValueNotSupported, match=f"record {many} has the cid -3"):
        Put(given, with_acq=False)


def test_a_group_of_puts_is_told_one_by_one(core: Core) -> None:
    odd = block(((0, 0, 0, GREATEST.cap, 0), b"odd"))
    puts = [
        Put(rows(2), with_acq=False),
        Put(odd, with_acq=False),
        Put(rows(3, mid=1), with_acq=False),
        Put(rows(1, mid=2), with_acq=True),
        Put(rows(0), with_acq=False),
        Put(rows(MANY, mid=3), with_acq=False),
        Put(rows(1, mid=4), with_acq=False),
    ]
    Putter(core).put(puts)
    now = 1_000_000
    assert [tuple(put.result()) for put in puts] == [
        (now, now + 1, 2, 0),
        (-1, -1, 0, 1),
        (now + 2, now + 4, 3, 0),
        (-1, -1, 1, 0),
        NOTHING,
        (now + 5, now + 4 + MANY, MANY, 0),
        (now + 5 + MANY, now + 5 + MANY, 1, 0),
    ]
    assert len(all_of(core)) == 7 + MANY
    assert core.versions.recent.count == 7


@pytest.mark.parametrize("first", [1, MANY])
@pytest.mark.parametrize("second", [1, MANY])
def test_a_full_key_that_is_there_is_replaced(tmp_path: Path, first: int, second: int) -> None:
    core = Core(tmp_path, Clock())
    putter = Putter(core)
    for count, payload in ((first, b"old!"), (second, b"new!")):
        given = rows(count)
        assert isinstance(given, Rows)
        given.rows["payload"] = numpy.void(payload)
        putter.put([Put(given, with_acq=True)])
    for _ in range(2):
        found = [payload for _, payload in sorted(all_of(core))]
        assert found == [b"new!"] * second + [b"old!"] * (first - second)
        core.close()
        core = Core(tmp_path, Clock())
    core.close()


def test_of_equal_keys_in_a_put_the_last_is_kept(core: Core) -> None:
    put = Put(block(((0, 0, 0, 0, 1), b"a"), ((0, 0, 0, 0, 0), b"b"), ((0, 0, 0, 0, 1), b"c")), with_acq=True)
    Putter(core).put([put])
    assert put.result().kept == 3
    assert sorted(all_of(core)) == [((0, 0, 0, 0, 0), b"b"), ((0, 0, 0, 0, 1), b"c")]


def test_a_time_that_is_given_may_meet_one_that_a_putter_chose(core: Core) -> None:
    putter = Putter(core)
    putter.put([Put(block(((0, 0, 0, 0, 1_000_000), b"chosen")), with_acq=True)])
    putter.put([Put(block(((0, 0, 0, 0, 0), b"given")), with_acq=False)])
    assert all_of(core) == [((0, 0, 0, 0, 1_000_000), b"given")]


def test_records_keep_the_order_in_which_they_came_in_their_times(core: Core) -> None:
    array = numpy.zeros(MANY, row_type(8))
    array["mid"] = numpy.arange(MANY) % 7
    array["cap"] = numpy.random.default_rng(1).integers(0, 100, MANY)
    array["payload"] = numpy.arange(MANY).view("V8")
    put = Put(Rows(array), with_acq=False)
    Putter(core).put([put])
    for (_, mid, _, cap, acq), payload in all_of(core):
        number = int.from_bytes(payload, "little")
        assert (acq - put.result().acq_min, mid, cap) == (number, number % 7, int(array["cap"][number]))


def test_folding_is_due_when_the_journal_is_long(core: Core) -> None:
    putter = Putter(core)
    for number in range(22):
        assert not putter.fold_due
        putter.put([Put(rows(3000, mid=number), with_acq=False)])
    assert putter.fold_due
