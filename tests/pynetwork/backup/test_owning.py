"""Owner and group, by number."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pynetwork.backup.owning import Owners
from pynetwork.files.directories import Directory, open_directory
from tests.pynetwork.backup.mirroring import facts

Given = tuple[str, int, int]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    (tmp_path / "file").touch()
    opened = open_directory(str(tmp_path), handles=True)
    yield opened
    opened.close()


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Given]:
    """What was given away, to nobody really."""
    found: list[Given] = []
    monkeypatch.setattr(os, "chown", lambda name, owner, group, **_: found.append((name, owner, group)))
    return found


def test_only_what_is_another_s_is_given_away(directory: Directory, given: list[Given]) -> None:
    refused: list[str] = []
    owners = Owners(refused.append)
    status = directory.status("file")
    own = facts()._replace(owner=status.st_uid, group=status.st_gid)
    assert owners.has(status, own)
    owners.give(directory, "file", own)
    assert given == []
    for changed in (own._replace(owner=7), own._replace(group=8)):
        assert not owners.has(status, changed)
        owners.give(directory, "file", changed, status)
    assert given == [("file", 7, own.group), ("file", own.owner, 8)]
    assert refused == []


@pytest.mark.parametrize("error", [PermissionError(1, "no"), OSError(22, "invalid"), OverflowError("too large")])
def test_what_is_refused_once_is_not_tried_again(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    refused: list[str] = []
    tried: list[str] = []

    def refuse(name: str, *_arguments: object, **_keywords: object) -> None:
        tried.append(name)
        raise error

    monkeypatch.setattr(os, "chown", refuse)
    owners = Owners(refused.append)
    for _ in range(3):
        owners.give(directory, "file", facts(owner=12345))
    assert tried == ["file"]
    assert len(refused) == 1
    assert "only root" in refused[0]
    # Nobody is to do anything more about it.
    assert owners.has(directory.status("file"), facts(owner=12345))


def test_what_is_not_there_any_more(directory: Directory, given: list[Given]) -> None:
    refused: list[str] = []
    Owners(refused.append).give(directory, "none", facts(owner=5))
    assert given == refused == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may do that")
def test_links_are_given_away_and_not_what_they_lead_to(directory: Directory, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    owners = Owners(pytest.fail)
    owners.give(directory, "link", facts(owner=1234))
    owners.give(directory, "file", facts(owner=4321))
    assert (tmp_path / "link").lstat().st_uid == (tmp_path / "link").lstat().st_gid == 1234
    assert (tmp_path / "file").stat().st_uid == 4321
