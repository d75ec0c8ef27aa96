"""Places of names where two that differ in case only are one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pynetwork.backup import mirror as module
from pynetwork.backup.catalogue import Catalogue
from pynetwork.backup.mirror import Mirror
from pynetwork.backup.names import Limits, fold_key, unescape
from pynetwork.backup.places import Places
from tests.pynetwork.backup.mirroring import facts, record
from tests.pynetwork.backup.test_catalogue import folder_row


class Ground:
    """A mirror and its catalogue, and the places of one run."""

    def __init__(self, root: Path, *, folds: bool = True) -> None:
        self.mirror = Mirror(root)
        self.mirror.limits = Limits(windows=False, utf8=False, folds=folds)
        self.catalogue = Catalogue(self.mirror.catalogue_path)
        self.places = Places(self.mirror, self.catalogue)

    def enter(self, path: bytes) -> str:
        number, known = self.catalogue.see_folder(folder_row(path))
        self.places.enter(path, number, known=known is not None)
        return self.mirror.place_of_folder(path)

    def place(self, name: str, *, top: bool = False) -> str:
        return self.places.place_of(name, None, top=top)


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path)
    yield made
    made.catalogue.close()


NAMES = ["APP.LOG", "App.log", "app.LOG", "app.log", "other", "%41pp.log", "STRASSE", "straße"]


def test_the_first_has_its_own_place(ground: Ground) -> None:
    ground.enter(b"")
    places = [ground.place(name, top=True) for name in NAMES]
    assert places[0] == "APP.LOG"
    assert places[4] == "other"
    assert len({fold_key(place) for place in places}) == len(NAMES)
    assert [unescape(place) for place in places] == NAMES
    # Asked again in the same run, as when a survey begins anew, each has the same.
    assert [ground.place(name, top=True) for name in NAMES] == places


def test_each_folder_for_itself(ground: Ground) -> None:
    ground.enter(b"")
    ground.place("a", top=True)
    ground.enter(b"sub")
    assert (ground.place("a"), ground.place("A")) == ("a", "%41")
    ground.enter(b"sub/deep")
    assert ground.place("A") == "A"
    ground.enter(b"sub2")
    assert ground.place("A") == "A"


def test_folders_and_files_share_their_names(ground: Ground) -> None:
    ground.enter(b"")
    ground.place("logs", top=True)
    assert ground.enter(b"Logs") == "%4Cogs"
    assert ground.enter(b"Logs/Sub") == "%4Cogs/Sub"
    assert ground.enter(b"Logs/sub") == "%4Cogs/%73ub"
    assert ground.enter(b"Logs/sub/x") == "%4Cogs/%73ub/x"
    assert ground.enter(b"other") == "other"
    ground.catalogue.commit()
    assert ground.catalogue.folder_places() == {b"Logs": "%4Cogs", b"Logs/sub": "%73ub"}


def test_what_is_recorded_keeps_its_place(ground: Ground, tmp_path: Path) -> None:
    ground.enter(b"")
    root, _ = ground.catalogue.see_folder(folder_row(b""))
    ground.enter(b"Logs")
    ground.enter(b"logs")
    ground.catalogue.record(root, record(b"a", facts(), place=b"%61"))
    ground.catalogue.record(root, record(b"A", facts()))
    ground.catalogue.commit()
    later = Places(ground.mirror, ground.catalogue)
    later.enter(b"", root, known=True)
    kept = ground.catalogue.file(root, b"a")
    assert later.place_of("a", kept, top=True) == "%61"
    assert later.place_of("A", ground.catalogue.file(root, b"A"), top=True) == "A"
    number, _ = ground.catalogue.see_folder(folder_row(b"LOGS"))
    later.enter(b"LOGS", number, known=False)
    assert ground.mirror.place_of_folder(b"LOGS") == "%4C%4F%47%53"
    # Its siblings are found although the folder above was not the last one.
    number, _ = ground.catalogue.see_folder(folder_row(b"logs/deep"))
    fresh = Places(ground.mirror, ground.catalogue)
    fresh.enter(b"logs/deep", number, known=False)
    assert ground.mirror.place_of_folder(b"logs/deep") == f"{ground.mirror.place_of_folder(b'logs')}/deep"


def test_nothing_is_looked_for_where_names_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ground = Ground(tmp_path, folds=False)
    monkeypatch.setattr(ground.catalogue, "files", None)
    ground.enter(b"")
    assert [ground.place(name) for name in ("a", "A", "%41")] == ["a", "A", "%2541"]
    assert ground.enter(b"Logs") == "Logs"
    assert ground.enter(b"logs") == "logs"
    ground.catalogue.close()


def test_the_limits_of_a_mirror_are_those_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(windows=True, utf8=True, folds=True)
    monkeypatch.setattr(module, "limits_of", lambda _folder: limits)
    assert Mirror(tmp_path).limits == limits
