from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from handshakes.errors import Closed
from pynetwork.series.engine import database as database_module
from pynetwork.series.engine import schema
from pynetwork.series.engine.contents import digest
from pynetwork.series.engine.database import FILE, Database
from pynetwork.series.engine.lock import StoreBusy
from pynetwork.series.engine.schema import StoreDamaged


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "store")
    yield database
    database.close()


def store(database: Database, number: int, data: bytes) -> None:
    with database.transaction() as connection:
        connection.execute("INSERT INTO content VALUES (?, ?, ?)", (number, digest(data), data))


def test_what_is_committed_is_read_and_what_is_not_is_not(database: Database) -> None:
    store(database, 1, b"abc")
    with pytest.raises(RuntimeError), database.transaction() as connection:  # noqa: PT012
        connection.execute("INSERT INTO content VALUES (2, 0, 'x')")
        raise RuntimeError
    assert database.content(1) == b"abc"
    with pytest.raises(StoreDamaged, match="block 2 of the store"):
        database.content(2)


def test_bytes_that_have_changed_are_told(database: Database) -> None:
    store(database, 7, b"as it was written")
    with database.transaction() as connection:
        connection.execute("UPDATE content SET data = ?", (b"as it was wrItten",))
    with pytest.raises(StoreDamaged, match=r"block 7 of the store .* is damaged: .* not those that were written"):
        database.content(7)


def test_the_log_is_used_again_rather_than_grown(database: Database) -> None:
    log = database.path.with_name(f"{FILE}-wal")
    store(database, 1, bytes(4 << 20))
    size = log.stat().st_size
    for number in range(2, 6):
        database.checkpoint()
        store(database, number, bytes(4 << 20))
    assert log.stat().st_size < size * 1.5


def test_the_log_is_used_again_though_somebody_always_reads(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_PATIENCE", 20_000)
    log = database.path.with_name(f"{FILE}-wal")
    store(database, 1, bytes(4 << 20))
    size = log.stat().st_size
    for number in range(2, 6):
        with database.reading() as connection, contextlib.ExitStack() as ended:
            connection.execute("BEGIN")
            connection.execute("SELECT COUNT(*) FROM content").fetchall()
            # It is in the log when the checkpoint begins, and reads on for a moment.
            timer = threading.Timer(0.2, connection.execute, ("ROLLBACK",))
            ended.callback(timer.join)
            timer.start()
            database.checkpoint()
            store(database, number, bytes(4 << 20))
    assert log.stat().st_size < size * 1.5


def test_a_checkpoint_is_due_after_some_mebibytes(database: Database) -> None:
    assert not database.checkpoint_due
    database.unlogged += 17 << 20
    assert database.checkpoint_due
    database.checkpoint()
    assert not database.checkpoint_due


def test_readers_in_many_threads_have_connections_of_their_own(database: Database) -> None:
    store(database, 1, b"abc")
    together = threading.Barrier(12)
    found: list[bytes] = []

    def read() -> None:
        with database.reading() as connection:
            together.wait(20)
            found.append(connection.execute("SELECT data FROM content").fetchall()[0][0])

    threads = [threading.Thread(target=read) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"abc"] * 12
    assert len(database._readers) == 8


def test_a_closed_one_refuses_all_and_can_be_opened_again(tmp_path: Path) -> None:
    database = Database(tmp_path)
    store(database, 1, b"abc")
    with pytest.raises(StoreBusy):
        Database(tmp_path)
    with database.reading():
        database.close()
    database.close()
    with pytest.raises(Closed):
        database.content(1)
    with pytest.raises(Closed), database.transaction():
        raise AssertionError
    again = Database(tmp_path)
    assert again.content(1) == b"abc"
    again.close()


def test_what_a_large_one_leaves_of_the_log_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "_LOG", 1 << 20)
    database = Database(tmp_path)
    store(database, 1, bytes(8 << 20))
    log = database.path.with_name(f"{FILE}-wal")
    assert log.stat().st_size > 8 << 20
    database.checkpoint()
    store(database, 2, b"abc")
    assert log.stat().st_size <= 1 << 20
    database.close()
