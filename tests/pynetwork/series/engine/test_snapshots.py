from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from handshakes.records import Key, KeyRange, Rows
from pynetwork.series.engine.core import Core
from pynetwork.series.engine.putting import Put, Putter
from pynetwork.series.engine.snapshots import Snapshot
from tests.pynetwork.series.engine.small import Clock, Full, block, box, records, small_sizes

KEYS: list[Full] = [(0, cap % 3, 0, cap, cap % 5) for cap in range(60)]


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    with small_sizes():
        core = Core(tmp_path, Clock())
        yield core
        core.close()


def put(core: Core, keys: list[Full], payload: bytes = b"ab") -> None:
    Putter(core).put([Put(block(*((key, payload) for key in keys)), with_acq=True)])


@pytest.mark.parametrize("payload", [b"ab", b"abc"])
@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize(
    "sought",
    [
        KeyRange.everything(),
        box(cap=(10, 40)),
        box(mid=(1, 2), acq=(0, 2)),
        box(cap=(100, 200)),
        box(cap=(5, 5)),
        box(cid=(1, 2)),
    ],
)
def test_what_is_in_the_box_is_read_in_every_way(core: Core, payload: bytes, replaced: bool, sought: KeyRange) -> None:
    put(core, KEYS[:50])
    put(core, KEYS[50:54], payload)
    there = {key: b"ab" for key in KEYS[:50]} | {key: payload for key in KEYS[50:54]}
    if replaced:
        put(core, KEYS[20:23], b"cd")
        there |= {key: b"cd" for key in KEYS[20:23]}
    expected = sorted((key, value) for key, value in there.items() if sought.holds(Key(*key)))
    with Snapshot(core, sought) as snapshot:
        parts = list(snapshot.blocks())
        assert all(map(len, parts))
        assert sorted(record for part in parts for record in records(part)) == expected
        assert sorted(records(snapshot.together())) == expected
        assert snapshot.count() == len(expected)
        if payload == b"ab" and expected:
            assert isinstance(snapshot.together(), Rows)


def test_whole_blocks_are_counted_without_being_read(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    put(core, KEYS)
    with Snapshot(core, KeyRange.everything()) as snapshot:
        monkeypatch.setattr(Snapshot, "read", None)
        assert snapshot.count() == 60


def test_it_stays_as_it_was(core: Core) -> None:
    put(core, KEYS[:50])
    with Snapshot(core, KeyRange.everything()) as snapshot:
        put(core, KEYS[50:])
        put(core, KEYS[:10], b"cd")
        assert sorted(records(snapshot.together())) == sorted((key, b"ab") for key in KEYS[:50])


def test_its_blocks_are_let_go_when_it_is_closed_or_forgotten(core: Core) -> None:
    put(core, KEYS)
    snapshots = [Snapshot(core, KeyRange.everything()) for _ in range(2)]
    with core.changing() as (_, change):
        change.removed += core.versions.zones.column("id").tolist()
    assert core.remove_unneeded() == 0
    snapshots[0].close()
    snapshots[0].close()
    assert core.remove_unneeded() == 0
    snapshots.clear()
    gc.collect()
    assert core.remove_unneeded() > 0
