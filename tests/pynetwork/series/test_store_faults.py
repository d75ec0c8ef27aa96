"""What may happen to a store: a full disk, a kill at any moment, a second process, a file of another kind."""

from __future__ import annotations

import errno
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy
import pytest

from handshakes.errors import Closed, ConfigurationError
from handshakes.records import Block, KeyRange, Rows, row_type
from pynetwork.series.engine.compaction import Compaction
from pynetwork.series.engine.database import FILE
from pynetwork.series.store import SeriesStore, StoreBusy, StoreDamaged
from tests.pynetwork.series.engine.small import Clock, block, records
from tests.waiting import wait_until


def rows(count: int, mid: int = 0, width: int = 8, cap: int = 0) -> Block:
    """So many records of one series, whose payloads follow from their caps."""
    array = numpy.zeros(count, row_type(width))
    array["mid"] = mid
    array["cap"] = cap + numpy.arange(count)
    payload = numpy.repeat(array["cap"][:, None] * 31 + mid, width // 8, axis=1)
    array["payload"] = payload.astype("<i8").view(f"V{width}")[:, 0]
    return Rows(array)


def check_payloads(found: Block) -> None:
    """Raise unless every payload is what `rows` made for its key."""
    assert isinstance(found, Rows)
    expected = found.rows["cap"] * 31 + found.rows["mid"]
    values = found.matrix()[:, 32:].copy().view("<i8")
    assert (values == expected[:, None]).all()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SeriesStore]:
    with SeriesStore(tmp_path / "store") as store:
        yield store


def limit(store: SeriesStore, pages: int) -> None:
    """Let the file have that many pages more."""
    with store._core.database.transaction() as connection:
        now = connection.execute("PRAGMA page_count").fetchone()[0]
    store._core.database._writer.execute(f"PRAGMA max_page_count={now + pages}").fetchall()


def contents(store: SeriesStore, which: str = "") -> int:
    """How many contents stand in the file, seen or not."""
    with store._core.database.reading() as connection:
        return int(connection.execute(f"SELECT COUNT(*) FROM content {which}").fetchall()[0][0])


# A full disk


def test_a_full_disk_fails_a_put_whole_and_spares_what_was_there(store: SeriesStore) -> None:
    store.put(rows(10))
    limit(store, 8)
    with pytest.raises(OSError, match="make room") as caught:
        store.put(rows(100_000, mid=1))
    assert caught.value.errno == errno.ENOSPC
    assert store.count() == 10
    store._core.database._writer.execute("PRAGMA max_page_count=1000000").fetchall()
    assert store.put(rows(100_000, mid=1)).kept == 100_000
    assert store.count() == 100_010


def test_a_full_disk_fails_a_staged_put_and_leaves_nothing_of_it(store: SeriesStore) -> None:
    limit(store, 400)
    with store.stage() as staging:
        staging.add(rows(70_000))
        with pytest.raises(OSError, match="make room"):
            staging.add(rows(140_000, mid=1))
    assert store.count() == 0
    with store._core.database.reading() as connection:
        assert connection.execute("SELECT COUNT(*) FROM content").fetchall() == [(0,)]


def test_horizons_are_answered_though_the_disk_is_full(tmp_path: Path) -> None:
    clock = Clock()
    with SeriesStore(tmp_path, clock=clock) as store:
        first = store.horizon()
        store._core.database._writer.execute("PRAGMA query_only=1")
        clock.now += 10**12
        assert first <= store.horizon() < clock.now
        store._core.database._writer.execute("PRAGMA query_only=0")
        assert store.horizon() == clock.now


def test_the_recent_part_is_as_before_when_a_put_that_folds_it_fails(store: SeriesStore) -> None:
    store.puta(rows(100))
    limit(store, 2)
    replacing = rows(50_000)
    with pytest.raises(OSError, match="make room"):
        store.puta(replacing)
    with store.snapshot() as snapshot:
        assert records(snapshot.together()) == records(rows(100))


# A kill

_PUTTER = """
import sys, threading
import numpy
from pynetwork.series.store import SeriesStore
from tests.pynetwork.series.test_store_faults import rows

store = SeriesStore(sys.argv[1])
guard = threading.Lock()

def tell(mid, cap, count):
    with guard:
        print(mid, cap, count, flush=True)

def small(mid):
    cap = int(sys.argv[2])
    while True:
        store.put(rows(1 + cap % 3, mid, cap=cap))
        tell(mid, cap, 1 + cap % 3)
        cap += 3

def large(mid):
    cap = int(sys.argv[2])
    while True:
        with store.stage() as staging:
            for part in range(3):
                staging.add(rows(50_000, mid, cap=cap + part * 50_000))
            staging.commit()
        tell(mid, cap, 150_000)
        cap += 150_000
        store.compact()

print("ready", flush=True)
for target, mid in ((small, 1), (small, 2), (small, 3), (large, 4)):
    threading.Thread(target=target, args=(mid,)).start()
"""


def kill_one(folder: Path, begin: int, chance: random.Random, acknowledged: dict[tuple[int, int], int]) -> None:
    """Let a process put until it is killed, and add what it said was durable to ``acknowledged``."""
    wanted = chance.randrange(2, 40)
    with subprocess.Popen(
        [sys.executable, "-c", _PUTTER, str(folder), str(begin)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            for _ in range(wanted):
                note(acknowledged, process.stdout.readline())
        finally:
            process.send_signal(signal.SIGKILL)
        for line in process.stdout.read().splitlines(keepends=True):
            note(acknowledged, line)


def note(acknowledged: dict[tuple[int, int], int], line: str) -> None:
    if line.endswith("\n"):
        mid, cap, count = map(int, line.split())
        acknowledged[mid, cap] = count


def check_after_kill(folder: Path, acknowledged: dict[tuple[int, int], int]) -> None:
    """Every put that was said to be durable is there whole, none is there in part, and nothing else is on the disk."""
    with SeriesStore(folder) as store:
        with store.snapshot() as snapshot:
            found = snapshot.together()
        check_payloads(found)
        keys = found.keys()
        assert len(numpy.unique(keys["acq"])) == len(keys)
        for mid in range(1, 5):
            caps = numpy.sort(keys["cap"][keys["mid"] == mid])
            assert len(numpy.unique(caps)) == len(caps)
            there = set(caps.tolist()) if mid < 4 else None
            for cap, count in ((cap, count) for (each, cap), count in acknowledged.items() if each == mid):
                if there is not None:
                    assert all(cap + number in there for number in range(count))
                else:
                    low, high = numpy.searchsorted(caps, [cap, cap + count])
                    assert high - low == count
            if mid == 4:
                assert len(caps) % 150_000 == 0
        wait_until(lambda: contents(store, "WHERE id NOT IN (SELECT id FROM block)") == 0, timeout=20)


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(os.name != "posix", reason="there is no such signal")
def test_nothing_acknowledged_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    chance = random.Random(20010101)
    kills = int(os.environ.get("PYNETWORK_KILLS", "8"))
    for number in range(kills):
        if number % 10 == 0:
            # A new store, since all of it is looked at after each kill.
            acknowledged: dict[tuple[int, int], int] = {}
        folder = tmp_path / str(number // 10)
        kill_one(folder, number * 10_000_000, chance, acknowledged)
        check_after_kill(folder, acknowledged)
        assert acknowledged


# Other processes, other files


def test_a_second_process_is_refused_by_name(store: SeriesStore) -> None:
    program = """
import sys
from pynetwork.series.store import SeriesStore, StoreBusy
try:
    SeriesStore(sys.argv[1])
except StoreBusy as error:
    print(error.pid, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(store.path)], stdout=subprocess.PIPE, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith(f"{os.getpid()} the store {str(store.path)!r} is open in process {os.getpid()} on ")


def test_the_same_process_is_refused_too(store: SeriesStore) -> None:
    with pytest.raises(StoreBusy, match="already open in this process"):
        SeriesStore(store.path)


def test_a_store_of_a_later_version_is_refused_with_both_versions(tmp_path: Path) -> None:
    SeriesStore(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("PRAGMA user_version=7")
    connection.close()
    with pytest.raises(ConfigurationError, match="has format 7, this version of pynetwork reads up to 1"):
        SeriesStore(tmp_path)
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("PRAGMA user_version=1")
    connection.close()
    SeriesStore(tmp_path).close()


def test_an_sqlite_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(ConfigurationError, match="no store of pynetwork"):
        SeriesStore(tmp_path)


def test_a_file_that_is_none_of_sqlite_is_damaged(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"rubbish" * 1000)
    with pytest.raises(StoreDamaged, match="go back to a backup"):
        SeriesStore(tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_what_was_forked_is_refused_and_holds_nothing_up(tmp_path: Path) -> None:
    store = SeriesStore(tmp_path)
    store.put(rows(10))
    ends, told = os.pipe()
    child = os.fork()
    if not child:
        try:
            store.put(rows(1, mid=1))
        except Closed as error:
            os.write(told, str(error).encode())
        store.close()
        os.write(told, b"!")
        signal.pause()
    try:
        os.close(told)
        with os.fdopen(ends, "rb", 0) as pipe:
            heard = b""
            while not heard.endswith(b"!"):
                heard += pipe.read(1000)
        assert f"was opened by process {os.getpid()}, from which this one was forked".encode() in heard
        with pytest.raises(StoreBusy):
            SeriesStore(tmp_path)
        store.put(rows(10, cap=10))
        store.close()
        with SeriesStore(tmp_path) as store:
            assert store.count() == 20
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


# What is staged, and what is read meanwhile


def test_what_was_staged_and_not_committed_is_gone_after_reopening(tmp_path: Path) -> None:
    with SeriesStore(tmp_path) as store:
        store.put(rows(5))
        staging = store.stage()
        for number in range(3):
            staging.add(rows(70_000, mid=number))
        with store._core.database.reading() as connection:
            assert connection.execute("SELECT COUNT(*) FROM unseen").fetchall()[0][0] > 0
        assert store.count() == 5
    with SeriesStore(tmp_path) as store:
        assert store.count() == 5
        wait_until(lambda: contents(store) == 0)
        with store._core.database.reading() as connection:
            assert connection.execute("SELECT COUNT(*) FROM unseen").fetchall() == [(0,)]


def test_a_snapshot_reads_what_it_saw_while_all_is_merged_and_let_go(store: SeriesStore) -> None:
    for number in range(12):
        store.put(rows(5000, mid=number % 3, cap=number * 5000))
    with store.snapshot() as snapshot:
        before = store.stats()["blocks"]
        store.compact()
        assert store.stats()["blocks"] < before
        assert store.retain(size=0).records_left == 0
        found = list(snapshot.blocks())
        assert sum(map(len, found)) == 60_000
        for part in found:
            check_payloads(part)
    assert store.count() == 0
    store._core.remove_unneeded()
    with store._core.database.reading() as connection:
        assert connection.execute("SELECT COUNT(*) FROM content").fetchall() == [(0,)]


def test_what_is_replaced_while_it_is_merged_stays_replaced(
    store: SeriesStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.puta(rows(5000))
    store.puta(rows(5000, cap=5000))
    replace = Compaction._replace

    def meanwhile(self: Compaction, *arguments: object) -> None:
        store.puta(block(((0, 0, 0, 7, 0), b"replaced")))
        replace(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Compaction, "_replace", meanwhile)
    store.compact()
    with store.snapshot() as snapshot:
        there = dict(records(snapshot.together()))
    assert len(there) == 10_000
    assert there[0, 0, 0, 7, 0] == b"replaced"


def test_readers_see_every_put_whole_or_not_at_all(store: SeriesStore) -> None:
    failures: list[str] = []
    stop = threading.Event()

    def read() -> None:
        # With a breath, as two that never wait leave the one that puts hardly any turn.
        while not stop.wait(0.001):
            count = store.count()
            if count % 10:
                failures.append(f"{count} records")

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(100):
            store.put(rows(10 if number % 10 else 10_000, mid=number))
            if number % 40 == 20:
                store.compact()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []


# Times


def test_times_never_fall_though_the_clock_is_set_back(tmp_path: Path) -> None:
    clock = Clock()
    with SeriesStore(tmp_path, clock=clock) as store:
        given = store.put(rows(10)).acq_max
        horizon = store.horizon()
        assert horizon > given
        clock.now -= 500_000
        assert store.put(rows(10)).acq_min >= horizon
        after = store.horizon()
    clock.now = 0
    with SeriesStore(tmp_path, clock=clock) as store:
        assert store.horizon() == after
        assert store.put(rows(1)).acq_min == after


def test_an_answered_horizon_outlives_a_crash(tmp_path: Path) -> None:
    program = """
import os, sys
from pynetwork.series.store import SeriesStore
store = SeriesStore(sys.argv[1], clock=lambda: 5 * 10**9)
print(store.horizon(), flush=True)
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True, check=True, timeout=60
    )
    with SeriesStore(tmp_path, clock=Clock(0)) as store:
        assert store.put(rows(1)).acq_min >= int(done.stdout) == 5 * 10**9


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = SeriesStore(tmp_path)
    store.put(rows(10_000))
    snapshot = store.snapshot()
    store.close()
    store.close()
    with pytest.raises(Closed):
        store.put(rows(1))
    with pytest.raises(Closed):
        snapshot.together()
    snapshot.close()


def test_the_store_folds_small_puts_by_itself(store: SeriesStore) -> None:
    for number in range(17):
        store.put(rows(4000, mid=number))
    wait_until(lambda: store.stats()["blocks"] > 0, timeout=20)
    assert store.count(KeyRange.everything()) == 17 * 4000


@pytest.mark.parametrize(("table", "count", "what"), [("content", 5000, "block 1"), ("journal", 3, "the journal")])
def test_a_flipped_bit_is_told(tmp_path: Path, table: str, count: int, what: str) -> None:
    with SeriesStore(tmp_path) as store:
        store.put(rows(count))
    with closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
        (number, data) = connection.execute(f"SELECT id, data FROM {table} LIMIT 1").fetchone()
        changed = bytearray(data)
        changed[40] ^= 4
        connection.execute(f"UPDATE {table} SET data = ? WHERE id = ?", (bytes(changed), number))
    told = f"{what} of the store {str(tmp_path)!r} is damaged: its bytes are not those that were written; go back to a"
    with pytest.raises(StoreDamaged, match=re.escape(told)):
        read_all(tmp_path)


def read_all(folder: Path) -> list[Block]:
    with SeriesStore(folder) as store:
        return list(store.blocks())


def test_a_backup_sees_that_the_store_is_damaged(tmp_path: Path) -> None:
    with SeriesStore(tmp_path / "store") as store:
        store.put(rows(5000))
    with closing(sqlite3.connect(tmp_path / "store" / FILE)) as connection, connection:
        connection.execute("UPDATE content SET digest = digest + 1")
    with SeriesStore(tmp_path / "store") as store, pytest.raises(StoreDamaged, match="not those that were written"):
        store.backup(tmp_path / "backup")
    assert not list((tmp_path / "backup").iterdir())
