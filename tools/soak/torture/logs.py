"""One log that is written and rotated, and a second copy of all its lines elsewhere: the reference.

What is written goes to the reference first, so that a copy of the log never holds what the reference lacks.
"""

from __future__ import annotations

import gzip
import itertools
import os
import threading
from pathlib import Path

from tools.soak.torture.lines import Lines
from tools.soak.torture.scene import DEPTH, OLD, LogPlan, Style, in_order

__all__ = ["Log", "Reference"]

_PIECE = 64 << 10


class Reference:
    """All lines of a stream, in one file: ``folder / NAME``. Gives out the next lines, once they are in it."""

    def __init__(self, lines: Lines, folder: Path) -> None:
        self.number = 0
        self._lines = lines
        self._file = (folder / lines.name).open("ab", buffering=0)

    def take(self, count: int) -> bytes:
        """The next ``count`` lines."""
        text = self._lines.text(self.number, count)
        self._file.write(text)
        self.number += count
        return text

    def close(self) -> None:
        """Nothing more will be written."""
        self._file.close()


class Log:
    """``NAME.log`` in ``folder``, which is rotated but of which nothing is ever deleted."""

    def __init__(self, plan: LogPlan, folder: Path, reference: Reference) -> None:
        self.plan = plan
        self.rotations = 0
        self._gone = 0
        self._folder = folder
        self._reference = reference
        self._path = folder / f"{plan.name}.log"
        self._styles = itertools.cycle(plan.styles)
        self._compressing: threading.Thread | None = None
        self._file = self._path.open("ab", buffering=0)

    def write(self, count: int, cut: int) -> None:
        """The next ``count`` lines, in two pieces: whoever reads in between sees a log that ends at byte ``cut`` of
        them.
        """
        text = self._reference.take(count)
        self._file.write(text[:cut])
        self._file.write(text[cut:])

    def rotate(self) -> None:
        """In the next style."""
        self._wait()
        self.rotations += 1
        style = next(self._styles)
        self._shift()
        if style is Style.COPYTRUNCATE:
            self._copy_and_truncate()
            return
        self._path.rename(self._numbered(1))
        self._file.close()
        self._file = self._path.open("ab", buffering=0)
        if style is Style.GZIP and self._numbered(2).exists():
            self._compressing = threading.Thread(target=_compress, args=(self._numbered(2),), daemon=True)
            self._compressing.start()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _shift(self) -> None:
        """``.1`` becomes ``.2`` and so on, the last first; beyond `DEPTH` they go."""
        for path in in_order(self._folder.iterdir(), self.plan.name)[:-1]:
            number, *rest = path.name.removeprefix(f"{self._path.name}.").split(".")
            if int(number) < DEPTH:
                path.rename(self._path.with_name(".".join([self._path.name, str(int(number) + 1), *rest])))
            else:
                self._gone += 1
                path.rename(self._folder / OLD / ".".join([f"{self._path.name}-{self._gone}", *rest]))

    def _copy_and_truncate(self) -> None:
        """Nothing is written meanwhile: a line between the copy and the truncation would be in neither. That is a loss
        of copytruncate itself, before any backup could see the line, and not what is to be found here.
        """
        with self._path.open("rb") as source, self._numbered(1).open("xb", buffering=0) as target:
            while piece := source.read(_PIECE):
                target.write(piece)
        os.truncate(self._path, 0)

    def _wait(self) -> None:
        if self._compressing is not None:
            self._compressing.join()

    def close(self) -> None:
        """Nothing more will be written; what is being compressed is finished."""
        self._wait()
        self._file.close()


def _compress(path: Path) -> None:
    """As gzip does it: the compressed file grows under its final name, gets the time of the other, which then goes."""
    times = path.stat()
    with (
        path.open("rb") as source,
        path.with_name(f"{path.name}.gz").open("xb", buffering=0) as target,
        gzip.GzipFile("", "wb", 1, target, mtime=times.st_mtime) as packed,
    ):
        while piece := source.read(_PIECE):
            packed.write(piece)
    os.utime(path.with_name(f"{path.name}.gz"), ns=(times.st_atime_ns, times.st_mtime_ns))
    path.unlink()
