"""Opening destinations, and what becomes of errors of their catalogues."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from handshakes.errors import NotFound
from pynetwork.backup import mirror as mirror_module
from pynetwork.backup.catalogue import Catalogue
from pynetwork.backup.destination import existing_destination, with_destination
from pynetwork.backup.mirror import Mirror
from pynetwork.backup.names import Limits
from pynetwork.backup.schema import CatalogueDamaged
from tests.pynetwork.backup.test_catalogue import folder_row


def test_only_one_that_exists(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no \.pynetwork/catalogue\.sqlite"), existing_destination(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
    assert with_destination(tmp_path, lambda _, catalogue: catalogue.begin_run("g", "s")) == 1
    with existing_destination(tmp_path) as (mirror, catalogue):
        assert mirror.root == tmp_path
        assert [run.gateway for run in catalogue.runs()] == ["g"]


def test_folders_have_the_places_that_they_were_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "limits_of", lambda _: Limits(windows=False, utf8=False, folds=True))

    def work(_mirror: Mirror, catalogue: Catalogue) -> None:
        number, _ = catalogue.see_folder(folder_row(b"Logs"))
        catalogue.set_folder_place(number, "%4Cogs")

    with_destination(tmp_path, work)
    with existing_destination(tmp_path) as (mirror, _):
        assert mirror.place_of_folder(b"Logs/sub") == "%4Cogs/sub"


def test_what_it_can_not_hold_is_found_out_once_and_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(windows=True, utf8=False, folds=True)
    monkeypatch.setattr(mirror_module, "limits_of", lambda _: limits)
    with_destination(tmp_path, lambda *_: None)
    monkeypatch.setattr(mirror_module, "limits_of", lambda _: pytest.fail("it may be full now"))
    with existing_destination(tmp_path) as (mirror, _):
        assert mirror.limits == limits
    # It may have been copied to elsewhere.
    other = Limits(windows=False, utf8=False, folds=False)
    monkeypatch.setattr(mirror_module, "limits_of", lambda _: other)
    assert with_destination(tmp_path, lambda mirror, _: mirror.limits) == other
    with existing_destination(tmp_path) as (mirror, _):
        assert mirror.limits == other


@pytest.mark.parametrize(
    ("says", "number"),
    [
        ("database or disk is full", errno.ENOSPC),
        ("attempt to write a readonly database", errno.EROFS),
        ("disk I/O error", errno.EIO),
    ],
)
def test_what_goes_wrong_with_a_catalogue_is_an_error_of_the_system(tmp_path: Path, says: str, number: int) -> None:
    def work(_mirror: Mirror, _catalogue: Catalogue) -> None:
        raise sqlite3.OperationalError(says)

    with pytest.raises(OSError, match=says) as caught:
        with_destination(tmp_path, work)
    assert caught.value.errno == number
    assert caught.value.filename == str(tmp_path / ".pynetwork/catalogue.sqlite")


def test_damage_that_shows_in_the_middle(tmp_path: Path) -> None:
    seen: list[Catalogue] = []

    def work(_mirror: Mirror, catalogue: Catalogue) -> str:
        seen.append(catalogue)
        if len(seen) == 1:
            catalogue.note("made", "here")
            raise sqlite3.DatabaseError("database disk image is malformed")
        assert catalogue.noted("made") is None
        return str(catalogue.aside)

    aside = with_destination(tmp_path, work)
    with Catalogue(Path(aside)) as damaged:
        assert damaged.noted("made") == "here"
    assert len(seen) == 2


def test_damage_that_comes_again(tmp_path: Path) -> None:
    def work(_mirror: Mirror, _catalogue: Catalogue) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    with pytest.raises(CatalogueDamaged, match="malformed"):
        with_destination(tmp_path, work)


def test_nothing_is_mended_for_who_only_reads(tmp_path: Path) -> None:
    with_destination(tmp_path, lambda *_: None)

    def use() -> Iterator[None]:
        with existing_destination(tmp_path):
            raise sqlite3.DatabaseError("database disk image is malformed")
        yield

    with pytest.raises(CatalogueDamaged):
        next(use())
    assert [path.name for path in (tmp_path / ".pynetwork").glob("catalogue*")] == ["catalogue.sqlite"]
