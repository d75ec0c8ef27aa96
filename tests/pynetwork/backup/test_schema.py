"""The catalogue's file: made, recognized, refused, set aside."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from pynetwork.backup.schema import VERSION, CatalogueTooNew, is_damage, prepare, set_aside


@contextlib.contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def test_tables_are_made_once(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite"
    for _ in range(2):
        with connected(path) as connection:
            prepare(connection, path)
            connection.execute("INSERT INTO about VALUES (hex(randomblob(8)), 'x')")
            assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with connected(path) as connection:
        assert connection.execute("SELECT COUNT(*) FROM about").fetchone() == (2,)


def test_later_versions_are_refused(tmp_path: Path) -> None:
    with connected(tmp_path / "c") as connection:
        connection.execute(f"PRAGMA user_version={VERSION + 1}")
        with pytest.raises(CatalogueTooNew, match="later version of pynetwork"):
            prepare(connection, tmp_path / "c")


@pytest.mark.parametrize("table", ["about", "folders", "files", "held", "unfinished", "runs", "changes"])
def test_a_table_that_is_missing(tmp_path: Path, table: str) -> None:
    with connected(tmp_path / "c") as connection:
        prepare(connection, tmp_path / "c")
        connection.execute(f"DROP TABLE {table}")
        with pytest.raises(sqlite3.Error) as caught:
            prepare(connection, tmp_path / "c")
    assert is_damage(caught.value)


@pytest.mark.parametrize("outcome", ["running", "complete"])
def test_after_a_run_that_did_not_end_all_is_looked_at(tmp_path: Path, outcome: str) -> None:
    path = tmp_path / "c"
    with connected(path) as connection:
        prepare(connection, path)
        connection.execute(
            "INSERT INTO runs (began, gateway, share, outcome, figures) VALUES (0, '', '', ?, '{}')", (outcome,)
        )
        for number in range(3000):
            connection.execute("INSERT INTO unfinished VALUES (?, 1, 1, ?, 1, 1)", (b"%0200d" % number, b"x"))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek(40 * 4096)
        file.write(b"\xff" * 4096)
    with connected(path) as connection, contextlib.ExitStack() as stack:
        if outcome == "running":
            caught = stack.enter_context(pytest.raises(sqlite3.DatabaseError))
        prepare(connection, path)
    assert outcome == "complete" or is_damage(caught.value)


def test_what_is_damage_and_what_is_not(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database " * 100)
    with connected(tmp_path / "text") as connection, pytest.raises(sqlite3.Error) as caught:
        prepare(connection, tmp_path / "text")
    assert is_damage(caught.value)
    assert is_damage(sqlite3.DatabaseError("database disk image is malformed"))
    for error in (
        sqlite3.OperationalError("database or disk is full"),
        sqlite3.OperationalError("disk I/O error"),
        sqlite3.OperationalError("attempt to write a readonly database"),
        sqlite3.OperationalError("database is locked"),
        sqlite3.ProgrammingError("Cannot operate on a closed database."),
        OSError("malformed"),
    ):
        assert not is_damage(error)


def test_a_damaged_one_keeps_its_companions(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite"
    for name in ("catalogue.sqlite", "catalogue.sqlite-wal"):
        (tmp_path / name).write_text(name)
    aside = set_aside(path)
    assert aside.read_text() == "catalogue.sqlite"
    assert Path(f"{aside}-wal").read_text() == "catalogue.sqlite-wal"
    assert sorted(tmp_path.iterdir()) == sorted([aside, Path(f"{aside}-wal")])
    path.mkdir()
    assert set_aside(path).is_dir()
