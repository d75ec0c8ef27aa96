"""The store's file: made, recognized or refused, and what SQLite's errors mean."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from handshakes.errors import ConfigurationError
from pynetwork.series.engine import schema
from pynetwork.series.engine.schema import FIGURES, FORMAT, PAGE, StoreDamaged, connect, prepare, translated

TABLES = {"state", "journal", "block", "content", "gone", "unseen"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "series.sqlite"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(connect(path)) as connection:
        prepare(connection, path)
        yield connection


@contextlib.contextmanager
def plain(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def one(connection: sqlite3.Connection, query: str) -> object:
    return connection.execute(query).fetchone()[0]


def tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_a_file_is_made_with_its_tables(path: Path) -> None:
    with opened(path) as connection:
        assert tables(connection) == TABLES
        assert one(connection, "PRAGMA user_version") == FORMAT
        assert one(connection, "PRAGMA journal_mode") == "wal"
        assert one(connection, "PRAGMA page_size") == PAGE
        columns = [row[1] for row in connection.execute("PRAGMA table_info(block)")]
        assert tuple(columns) == FIGURES
        connection.execute("INSERT INTO state VALUES ('reserved', 7)")
    with opened(path) as connection:
        assert one(connection, "SELECT value FROM state") == 7


def test_each_commit_is_flushed_and_nothing_is_checkpointed_unasked(path: Path) -> None:
    with opened(path) as connection:
        assert one(connection, "PRAGMA synchronous") == 2
        assert one(connection, "PRAGMA wal_autocheckpoint") == 0


def test_a_file_that_was_only_begun_is_made_whole(path: Path) -> None:
    with plain(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    with opened(path) as connection:
        assert tables(connection) == TABLES


def test_a_store_of_a_later_format_is_refused_with_both_and_not_touched(path: Path) -> None:
    with opened(path) as connection:
        connection.execute(f"PRAGMA user_version={FORMAT + 1}")
    before = path.read_bytes()
    says = f"has format {FORMAT + 1}, this version of pynetwork reads up to {FORMAT}"
    with pytest.raises(ConfigurationError, match=says), opened(path):
        pass
    assert path.read_bytes() == before


def test_a_file_of_somebody_else_is_refused_and_not_touched(path: Path) -> None:
    with plain(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
        connection.execute(f"PRAGMA user_version={FORMAT}")
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="no store of pynetwork; take another folder"), opened(path):
        pass
    assert path.read_bytes() == before


def test_a_file_of_garbage_is_damaged(path: Path) -> None:
    path.write_bytes(b"garbage " * 4096)
    with pytest.raises(StoreDamaged, match="go back to a backup"), translated(path), opened(path):
        pass
    assert path.read_bytes() == b"garbage " * 4096


def test_where_no_log_can_be_held_no_store_is_made() -> None:
    # A database in memory has none, as on a file system of some networks.
    with contextlib.closing(connect(Path(":memory:"))) as connection:
        with pytest.raises(ConfigurationError, match="can't hold a store; take a local one"):
            prepare(connection, Path("/network/store/series.sqlite"))
        assert tables(connection) == set()


def test_a_store_that_came_to_where_no_log_can_be_held_is_refused(path: Path) -> None:
    with opened(path):
        pass
    with plain(path) as copied, contextlib.closing(connect(Path(":memory:"))) as connection:
        copied.execute("PRAGMA journal_mode=DELETE")
        copied.backup(connection)
        with pytest.raises(ConfigurationError, match="can't hold a store; take a local one"):
            prepare(connection, path)


def test_a_full_disk_is_named_with_the_folder_and_the_way_out(path: Path) -> None:
    with opened(path) as connection:
        connection.execute("PRAGMA max_page_count=20")
        with pytest.raises(OSError, match="make room") as caught, translated(path):
            connection.execute("INSERT INTO content VALUES (1, 0, zeroblob(1000000))")
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path.parent))
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)


def test_what_can_not_be_written_is_an_error_of_the_disk(path: Path) -> None:
    with opened(path) as connection:
        connection.execute("PRAGMA query_only=1")
        with pytest.raises(OSError, match="readonly") as caught, translated(path):
            connection.execute("INSERT INTO unseen VALUES (1)")
        assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(path.parent))


def test_what_can_not_be_opened_is_an_error_of_the_disk(path: Path) -> None:
    with pytest.raises(OSError, match="unable to open") as caught, translated(path):
        connect(path.parent / "missing" / "series.sqlite")
    assert caught.value.errno == errno.EIO


def test_a_missing_table_is_damage(path: Path) -> None:
    with opened(path) as connection:
        connection.execute("DROP TABLE gone")
        with pytest.raises(StoreDamaged, match="no such table"), translated(path):
            connection.execute("SELECT * FROM gone")


def test_a_page_of_garbage_is_damage(path: Path) -> None:
    with opened(path) as connection:
        connection.executemany(
            "INSERT INTO content VALUES (?, 0, zeroblob(100000))", [(number,) for number in range(9)]
        )
    with plain(path) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    with open(path, "r+b") as file:
        file.seek(2 * PAGE)
        file.write(b"\xff" * (len(TABLES) * PAGE))
    with plain(path) as connection, pytest.raises(StoreDamaged, match="go back to a backup"), translated(path):
        connection.execute("SELECT * FROM content").fetchall()


def test_a_file_that_is_malformed_is_damaged_whatever_kind_of_error_says_so(path: Path) -> None:
    with pytest.raises(StoreDamaged, match="malformed"), translated(path):
        raise sqlite3.OperationalError("malformed database schema")


def test_errors_that_are_not_of_sqlite_and_mistakes_pass(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), translated(path):
        raise ZeroDivisionError
    with opened(path) as connection:
        connection.execute("INSERT INTO unseen VALUES (1)")
        with pytest.raises(sqlite3.IntegrityError), translated(path):
            connection.execute("INSERT INTO unseen VALUES (1)")


def test_no_room_for_the_files_that_sqlite_works_with(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 0
    monkeypatch.setattr(schema.shutil, "disk_usage", lambda _folder: mock.Mock(free=free))
    with pytest.raises(OSError, match="make room") as caught, translated(path):
        raise sqlite3.OperationalError("disk I/O error")
    assert caught.value.errno == errno.ENOSPC
    free = 1 << 20
    with pytest.raises(OSError, match="disk I/O error") as caught, translated(path):
        raise sqlite3.OperationalError("disk I/O error")
    assert caught.value.errno == errno.EIO
