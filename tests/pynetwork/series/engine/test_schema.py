from __future__ import annotations

import contextlib
import errno
import sqlite3
from pathlib import Path

import pytest

from handshakes.errors import ConfigurationError
from pynetwork.series.engine.schema import FIGURES, FORMAT, PAGE, StoreDamaged, connect, prepare, translated


def test_the_tables_are_made_once(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for _ in range(2):
        with contextlib.closing(connect(path)) as connection:
            prepare(connection, path)
            assert connection.execute("PRAGMA user_version").fetchall() == [(FORMAT,)]
            assert connection.execute("PRAGMA page_size").fetchall() == [(PAGE,)]
            assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
            assert connection.execute("PRAGMA synchronous").fetchall() == [(2,)]
            columns = [row[1] for row in connection.execute("PRAGMA table_info(block)")]
            assert columns == list(FIGURES)


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with contextlib.closing(connect(path)) as connection:
        prepare(connection, path)
        connection.execute(f"PRAGMA user_version={FORMAT + 1}")
        with pytest.raises(ConfigurationError, match=f"has format {FORMAT + 1}, .* up to {FORMAT};"):
            prepare(connection, path)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sqlite3.OperationalError("database or disk is full"), OSError),
        (sqlite3.OperationalError("disk I/O error"), OSError),
        (sqlite3.DatabaseError("database disk image is malformed"), StoreDamaged),
        (sqlite3.OperationalError("no such table: block"), StoreDamaged),
        (sqlite3.ProgrammingError("wrong"), sqlite3.ProgrammingError),
    ],
)
def test_errors_say_what_they_mean(error: sqlite3.Error, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught, translated(Path("folder/x")):
        raise error
    if isinstance(caught.value, OSError):
        assert caught.value.filename == "folder"
        assert caught.value.errno == (errno.ENOSPC if "full" in str(error) else errno.EIO)
