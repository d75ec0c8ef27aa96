from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from handshakes.errors import ConfigurationError
from handshakes.records import KeyRange
from pynetwork.series.engine import backup
from pynetwork.series.engine.backup import back_up
from pynetwork.series.engine.core import Core
from pynetwork.series.engine.database import FILE
from pynetwork.series.engine.putting import Put, Putter
from pynetwork.series.engine.schema import StoreDamaged
from pynetwork.series.engine.snapshots import Snapshot
from tests.pynetwork.series.engine.small import Clock, Full, block, records


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    core = Core(tmp_path / "store", Clock())
    put(core, 5000, b"ab")
    put(core, 10, b"cd")
    yield core
    core.close()


def put(core: Core, count: int, payload: bytes) -> None:
    Putter(core).put([Put(block(*(((0, 0, 0, cap, 0), payload) for cap in range(count))), with_acq=True)])


def all_of(core: Core) -> list[tuple[Full, bytes]]:
    with Snapshot(core, KeyRange.everything()) as snapshot:
        return records(snapshot.together())


def test_the_copy_is_a_store_with_the_same_in_it(core: Core, tmp_path: Path) -> None:
    report = back_up(core.database, tmp_path / "copy")
    assert report.records == 5000
    assert report.bytes == (tmp_path / "copy" / FILE).stat().st_size
    assert [each.name for each in (tmp_path / "copy").iterdir()] == [FILE]
    copy = Core(tmp_path / "copy", Clock())
    assert all_of(copy) == all_of(core)
    copy.close()


def test_what_is_put_meanwhile_is_not_in_it(core: Core, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = all_of(core)
    reading = core.database.reading

    class Meddling:
        """A connection; while it copies, others put."""

        def __init__(self, connection: sqlite3.Connection) -> None:
            self._connection = connection

        def execute(self, statement: str) -> sqlite3.Cursor:
            return self._connection.execute(statement)

        def backup(self, copy: sqlite3.Connection, *, pages: int, sleep: float) -> None:
            left = 100
            steps = 0

            def progress(_status: int, _remaining: int, _total: int) -> None:
                nonlocal steps
                steps += 1
                assert steps < left, "it begins again and again"
                put(core, steps, b"xy")
                core.database.checkpoint()

            self._connection.backup(copy, pages=4, sleep=sleep, progress=progress)
            assert steps > 3

    def meddling() -> object:
        @contextlib.contextmanager
        def opened() -> Iterator[Meddling]:
            with reading() as connection:
                monkeypatch.setattr(core.database, "reading", reading)
                yield Meddling(connection)

        return opened()

    monkeypatch.setattr(core.database, "reading", meddling)
    back_up(core.database, tmp_path / "copy")
    copy = Core(tmp_path / "copy", Clock())
    assert all_of(copy) == expected
    copy.close()
    assert all_of(core) != expected


def test_a_store_is_not_written_over(core: Core, tmp_path: Path) -> None:
    back_up(core.database, tmp_path / "copy")
    with pytest.raises(ConfigurationError, match="there is a store in"):
        back_up(core.database, tmp_path / "copy")


def test_a_copy_that_is_not_what_it_should_be_gets_no_name(
    core: Core, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = backup._check

    def torn(copy: sqlite3.Connection, partial: Path) -> int:
        copy.execute("UPDATE block SET cap_max = cap_max + 1")
        return check(copy, partial)

    monkeypatch.setattr(backup, "_check", torn)
    with pytest.raises(StoreDamaged, match="is not what is known of it"):
        back_up(core.database, tmp_path / "copy")
    assert list((tmp_path / "copy").iterdir()) == []
