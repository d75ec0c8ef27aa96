"""The destination: places, and the content that is held while names change."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from handshakes.errors import UnsafePath
from handshakes.manifest import digest
from pynetwork.backup.catalogue import Catalogue
from pynetwork.backup.mirror import OWN, Base, Mirror
from pynetwork.backup.names import Limits
from pynetwork.files.directories import HandleDirectory
from pynetwork.files.folders import Folder
from tests.pynetwork.backup.mirroring import facts, record, write

ONE, TWO = b"some content", b"another one"


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path / "to")


@pytest.fixture
def folder(mirror: Mirror) -> Iterator[Folder]:
    with mirror.open() as opened:
        yield opened


@pytest.fixture
def catalogue(mirror: Mirror) -> Iterator[Catalogue]:
    with Catalogue(mirror.catalogue_path) as opened:
        yield opened


def held(mirror: Mirror) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (mirror.root / OWN / "held").iterdir()}


def test_a_destination_is_made(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "new/folder")
    assert [path.name for path in mirror.root.iterdir()] == [OWN]
    assert mirror.catalogue_path == mirror.root / OWN / "catalogue.sqlite"
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        Mirror(tmp_path / "file")


# Places


def test_places(mirror: Mirror) -> None:
    assert mirror.place_of_folder(b"") == ""
    assert mirror.place_of_folder(b"a/b") == "a/b"
    assert mirror.place_of_folder(b".pynetwork/.pynetwork") == "%2Epynetwork/.pynetwork"
    assert mirror.place_of_folder(b"\xff/100%41") == "\udcff/100%2541"
    assert mirror.place_of(b"sub", record(b"a", facts())) == "sub/a"
    assert mirror.place_of(b"", record(b".pynetwork", facts())) == "%2Epynetwork"
    assert mirror.place_of(b".pynetwork", record(b"a", facts(), place=b"b")) == "%2Epynetwork/b"
    deep = b"/".join([b"d"] * 2000)
    assert mirror.place_of_folder(deep) == deep.decode()


def test_places_of_folders_that_are_set_apart(mirror: Mirror) -> None:
    assert mirror.place_of_folder(b"Logs/sub/deep") == "Logs/sub/deep"
    mirror.set_apart(b"Logs/sub", "%73ub")
    assert mirror.place_of_folder(b"Logs/sub/deep") == "Logs/%73ub/deep"
    assert mirror.place_of_folder(b"Logs") == "Logs"


def test_names_that_can_not_be_had(mirror: Mirror) -> None:
    mirror.limits = Limits(windows=True, utf8=True, folds=False)
    assert mirror.place_of_name("a:\udcff", top=False) == "a%3A%FF"
    with pytest.raises(UnsafePath, match="shorter name"):
        mirror.place_of_folder(b"x" * 250 + b":::")


# Content


def test_content_is_verified_before_it_is_used(mirror: Mirror, folder: Folder) -> None:
    write(mirror.root / "a", ONE + b" and more")
    base = Base("a", len(ONE), digest(ONE))
    assert mirror.read_base(folder, base) == ONE
    assert mirror.read_base(folder, base._replace(digest=digest(TWO))) is None
    assert mirror.read_base(folder, base._replace(size=1000)) is None
    assert mirror.read_base(folder, base._replace(place="none")) is None
    assert mirror.read_base(folder, base._replace(place="")) is None
    (mirror.root / "folder").mkdir()
    os.mkfifo(mirror.root / "pipe")
    (mirror.root / "link").symlink_to("a")
    for place in ("folder", "pipe", "link"):
        assert mirror.read_base(folder, base._replace(place=place)) is None
        assert mirror.open_base(folder, base._replace(place=place)) is None


def test_what_is_held_is_found_by_its_digest(mirror: Mirror, folder: Folder) -> None:
    path = write(mirror.root / "sub/a", ONE)
    assert mirror.hold(folder, "sub/a", digest(ONE))
    assert mirror.hold(folder, "sub/a", digest(ONE))  # another file had the same content
    write(mirror.root / "sub/new", TWO).replace(path)
    assert held(mirror) == {digest(ONE).hex(): ONE}
    base = Base("sub/a", len(ONE), digest(ONE))
    assert mirror.read_base(folder, base) == ONE
    handle = mirror.open_base(folder, base)
    assert handle is not None
    assert os.pread(handle, 100, 0) == ONE
    os.close(handle)
    # What stands at its own place is looked for there alone.
    assert mirror.read_base(folder, base, "sub/a") is None
    mirror.forget_held(folder, {digest(ONE)})
    assert held(mirror) == {digest(ONE).hex(): ONE}
    mirror.forget_held(folder, ())
    assert held(mirror) == {}
    assert mirror.read_base(folder, base) is None


def test_what_is_not_there_can_not_be_held(mirror: Mirror, folder: Folder) -> None:
    assert not mirror.hold(folder, "none", digest(ONE))
    assert not mirror.hold(folder, "no/folder", digest(ONE))
    assert held(mirror) == {}


def test_where_files_have_one_name_only_they_are_moved(
    mirror: Mirror, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(HandleDirectory, "link", refuse)
    path = write(mirror.root / "sub/a", ONE)
    assert mirror.hold(folder, "sub/a", digest(ONE))
    assert not path.exists()
    assert held(mirror) == {digest(ONE).hex(): ONE}
    assert mirror.read_base(folder, Base("sub/a", len(ONE), digest(ONE))) == ONE
    assert not mirror.hold(folder, "sub/a", digest(ONE))


def test_everything_is_brought_to_the_disk(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror.flush()
    answers: list[Any] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace(syncfs=lambda _handle: answers.pop()))
    monkeypatch.setattr(ctypes, "get_errno", lambda: errno.EIO)
    answers.append(0)
    mirror.flush()
    answers.append(-1)
    with pytest.raises(OSError, match="Input/output error"):
        mirror.flush()
    synced: list[int] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace())
    monkeypatch.setattr(os, "sync", lambda: synced.append(1))
    mirror.flush()
    assert synced == [1]
