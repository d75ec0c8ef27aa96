"""An independent look at a download: both folders are read again, by other code than moved the files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import xxhash

__all__ = ["Verdict", "readable_files", "verify"]

_BLOCK = 1 << 20


@dataclass
class Verdict:
    """What became of each file: paths relative to the folders.

    ``same``: byte for byte. ``grown``: the source has more now, and begins with the copy.
    ``changed``: the source was written to or taken away since the copy was made, so nothing can be said.
    ``wrong``: neither of these. ``missing``: not copied, and not named as left out either.
    """

    same: list[str] = field(default_factory=list)
    grown: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    bytes: int = 0

    @property
    def good(self) -> bool:
        """Whether nothing is wrong or missing."""
        return not self.wrong and not self.missing


def readable_files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """The regular files below ``folder`` that this process may read: path with ``/``, and its ``lstat``."""
    for where, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(where, name)
            try:
                found = path.lstat()
            except OSError:
                continue
            if stat.S_ISREG(found.st_mode) and os.access(path, os.R_OK):
                yield path.relative_to(folder).as_posix(), found


def verify(source: Path, copy: Path, wanted: Iterable[tuple[str, os.stat_result]], left_out: Iterable[str]) -> Verdict:
    """Compare the copies of the ``wanted`` files with their sources, by size and by xxh3 of what is in them.

    ``wanted`` are files as they were before the transfer, ``left_out`` what the transfer said it has skipped.
    """
    verdict = Verdict()
    skipped = set(left_out)
    for path, before in wanted:
        if (copy / path).is_file():
            _judge(verdict, path, source / path, copy / path, before)
        elif path not in skipped:
            unchanged = _state(source / path) == _state_of(before)
            (verdict.missing if unchanged else verdict.changed).append(path)
    return verdict


def _judge(verdict: Verdict, path: str, source: Path, copy: Path, before: os.stat_result) -> None:
    size = copy.stat().st_size
    verdict.bytes += size
    try:
        whole, beginning = _digests(source, size)
    except OSError:
        verdict.changed.append(path)
        return
    copied = _digests(copy, size)[0]
    if copied == whole:
        verdict.same.append(path)
    elif copied == beginning:
        verdict.grown.append(path)
    elif _state(source) != _state_of(before):
        verdict.changed.append(path)
    else:
        verdict.wrong.append(path)


def _digests(path: Path, size: int) -> tuple[bytes, bytes]:
    """xxh3 of the whole file, and of its first ``size`` bytes."""
    digest = xxhash.xxh3_128()
    beginning = b""
    position = 0
    with open(path, "rb") as file:
        while True:
            at_mark = position <= size < position + _BLOCK
            block = file.read(size - position if at_mark and size > position else _BLOCK)
            if position == size:
                beginning = digest.digest()
            if not block:
                return digest.digest(), beginning
            digest.update(block)
            position += len(block)


def _state_of(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        return _state_of(path.lstat())
    except OSError:
        return None
