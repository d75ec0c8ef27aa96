"""Records are what the catalogue's columns are."""

from __future__ import annotations

from pathlib import Path

from pynetwork.backup.catalogue import Catalogue
from pynetwork.backup.records import PRUNED, FileRecord, FolderRecord, HeldRecord, RunRecord, State


def test_each_has_its_columns(tmp_path: Path) -> None:
    with Catalogue(tmp_path / "catalogue.sqlite") as catalogue:
        for table, kind in {
            "files": FileRecord,
            "folders": FolderRecord,
            "held": HeldRecord,
            "runs": RunRecord,
        }.items():
            columns = {row[1] for row in catalogue.reader.execute(f"PRAGMA table_info({table})")}
            assert set(kind._fields) <= columns, table


def test_no_run_has_the_number_that_means_something_else() -> None:
    assert PRUNED < 0
    assert len({State.SETTLED, State.UNSETTLED, State.UNFLUSHED}) == 3
    assert not State.SETTLED
