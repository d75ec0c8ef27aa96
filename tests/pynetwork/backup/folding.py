"""A folder that takes names for one that differ in case only, as those of sticks and of other systems do."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pynetwork.backup.names import fold_key
from pynetwork.files import folders
from pynetwork.files.directories import Directory, HandleDirectory, open_directory

__all__ = ["FoldingDirectory", "fold_case"]


class FoldingDirectory(HandleDirectory):
    """Finds what it has under any spelling, and keeps the spelling that came first."""

    def _real(self, name: str) -> str:
        return next((each for each in os.listdir(self._handle) if fold_key(each) == fold_key(name)), name)

    def enter(self, name: str) -> Directory:
        found = super().enter(self._real(name))
        assert isinstance(found, HandleDirectory)
        return FoldingDirectory(found._handle)

    def make(self, name: str, mode: int = 0o777) -> None:
        super().make(self._real(name), mode)

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        return super().open(self._real(name), flags, mode)

    def give_name(self, handle: int, name: str) -> None:
        super().give_name(handle, self._real(name))

    def status(self, name: str) -> os.stat_result:
        return super().status(self._real(name))

    def replace(self, name: str, final: str) -> None:
        super().replace(self._real(name), self._real(final))

    def remove(self, name: str) -> None:
        super().remove(self._real(name))

    def remove_empty(self, name: str) -> None:
        super().remove_empty(self._real(name))

    def set_times(self, name: str, times: tuple[int, int]) -> None:
        super().set_times(self._real(name), times)

    def link(self, name: str, to: Directory, final: str) -> None:
        super().link(self._real(name), to, final)

    def read_link(self, name: str) -> str:
        return super().read_link(self._real(name))

    def make_link(self, name: str, target: str) -> None:
        super().make_link(self._real(name), target)

    def entries(self) -> Iterator[os.DirEntry[str]]:
        return super().entries()

    def again(self) -> Directory:
        return FoldingDirectory(os.dup(self._handle))


def fold_case(monkeypatch: pytest.MonkeyPatch, under: os.PathLike[str]) -> None:
    """Let everything below ``under`` be such a folder."""

    def opened(path: str, *, handles: bool) -> Directory:
        plain = open_directory(path, handles=handles)
        if not (path + "/").startswith(os.path.realpath(under) + "/"):
            return plain
        assert isinstance(plain, HandleDirectory)
        return FoldingDirectory(plain._handle)

    monkeypatch.setattr(folders, "open_directory", opened)
