"""What tests of surveys have in common."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.survey import End, Facts, FileRow, FolderRow, GoneRow, Row, read_rows
from pynetwork.files.directories import Directory, HandleDirectory, PlainDirectory
from pynetwork.files.folders import Folder
from pynetwork.files.surveying import Surveyor, facts_of

OLD = 1_500_000_000_000_000_001
SECOND = 1_000_000_000


class Clock:
    """A clock, in ns, and a monotonic one, in seconds, that go when they are told to."""

    def __init__(self) -> None:
        self.now = OLD + 10**15
        self.seconds = 1000.0

    def follow(self, folder: Folder) -> Surveyor:
        return Surveyor(folder, follow=True, clock=lambda: self.now, monotonic=lambda: self.seconds)


def following(folder: Folder, start: tuple[str, ...] = ()) -> Surveyor:
    """By the clock of this machine; no time passes while it reads, so that nothing has to rest."""
    return Surveyor(folder, start=start, follow=True, monotonic=lambda: 1000.0)


def write(path: Path, data: bytes = b"", mtime_ns: int = OLD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, ns=(mtime_ns, mtime_ns))
    return path


def settle(root: Path) -> None:
    """Let all folders look as if nothing had happened in them for long."""
    for path, _, _ in os.walk(root):
        os.utime(path, ns=(OLD, OLD))


def rows_of(pages: Iterable[bytes]) -> list[Row]:
    return list(read_rows(b"".join(pages)))


def facts(path: Path) -> Facts:
    return facts_of(path.lstat())


def names(rows: Iterable[Row]) -> list[bytes]:
    """What the rows are about: paths of folders, names of all else."""
    return [row.path if isinstance(row, (FolderRow, GoneRow)) else row.name for row in rows if not isinstance(row, End)]


class Told:
    """What somebody knows who was told all rows so far."""

    def __init__(self) -> None:
        self.folders: dict[bytes, dict[bytes, Row]] = {}
        self.facts: dict[bytes, Facts] = {}

    def hear(self, rows: list[Row]) -> None:
        now: dict[bytes, Row] = {}
        last = b""
        for row in rows:
            if isinstance(row, FolderRow):
                now = {} if row.complete else self.folders.get(row.path, {})
                self.folders[row.path] = now
                self.facts[row.path] = row.facts
                last = b""
            elif isinstance(row, GoneRow):
                for path in [each for each in self.folders if each == row.path or each.startswith(row.path + b"/")]:
                    del self.folders[path], self.facts[path]
            elif isinstance(row, End):
                files = sum(isinstance(each, FileRow) for each in rows)
                assert row == End(files, sum(isinstance(each, FolderRow) for each in rows))
            elif row.name:
                assert row.name > last
                last = row.name
                now[row.name] = row
        assert isinstance(rows[-1], End)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Told) and (self.folders, self.facts) == (other.folders, other.facts)

    __hash__ = None  # type: ignore[assignment]


def told(pages: Iterable[bytes]) -> Told:
    whole = Told()
    whole.hear(rows_of(pages))
    return whole


def failing_at(
    monkeypatch: pytest.MonkeyPatch, folder: Folder, method: str, name: str, error: OSError | None
) -> Callable[[], None]:
    """Let ``method`` of the folder's directories fail for ``name``; answers with what ends that."""
    kind = type(folder.directory(()))
    original = getattr(kind, method)

    def troubled(self: Directory, given: str, *rest: Any) -> Any:
        if given == name:
            raise error or OSError(errno.EIO, "broken disk")
        return original(self, given, *rest)

    monkeypatch.setattr(kind, method, troubled)
    return lambda: monkeypatch.setattr(kind, method, original)


def breaking_off(monkeypatch: pytest.MonkeyPatch, path: Path, after: int = 1) -> Callable[[], None]:
    """Let reading the folder at ``path`` fail after so many names; answers with what ends that."""
    inode = path.stat().st_ino
    originals = {kind: kind.entries for kind in (HandleDirectory, PlainDirectory)}

    def trouble(original: Callable[..., Any]) -> Callable[..., Any]:
        def entries(self: Directory) -> Iterator[os.DirEntry[str]]:
            for number, entry in enumerate(original(self)):
                if number >= after and self.own_status().st_ino == inode:
                    raise OSError(errno.EIO, "broken disk")
                yield entry

        return entries

    for kind, original in originals.items():
        monkeypatch.setattr(kind, "entries", trouble(original))

    def end() -> None:
        for kind, original in originals.items():
            monkeypatch.setattr(kind, "entries", original)

    return end
