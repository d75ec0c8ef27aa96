"""Looking at the mirror: whether all that carries a final name is right, and whether all is there in the end."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tools.soak.torture.scene import LOGS, in_order
from tools.soak.torture.truth import Truth

__all__ = ["Mirror", "Watch", "differences", "final_files", "partial_files"]

_OWN = ".pynetwork"
_PIECE = 1 << 20
_LOOK_EVERY = 0.3


def final_files(folder: Path) -> Iterator[Path]:
    """Every file below ``folder`` that is no partial one and does not belong to the backup itself."""
    for path in _files(folder):
        if _OWN not in path.relative_to(folder).parts and not _is_partial(path):
            yield path


def partial_files(folder: Path) -> Iterator[Path]:
    """Every file that is not complete yet."""
    return (path for path in _files(folder) if _is_partial(path))


def _is_partial(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".partial")


def _files(folder: Path) -> Iterator[Path]:
    # Files come and go meanwhile; a folder that has gone has none.
    for parent, _, names in os.walk(folder):
        for name in names:
            yield Path(parent, name)


class Mirror:
    """Looks at the mirror again and again. What was right is read again only when it has changed."""

    def __init__(self, folder: Path, truth: Truth) -> None:
        self._folder = folder
        self._truth = truth
        self._right: set[tuple[int, int, int, int]] = set()
        self.looks = 0
        """Files that were read."""

    def faults(self) -> Iterator[str]:
        """What is wrong now, with the names of the files."""
        for path in final_files(self._folder):
            # It may have been replaced or moved meanwhile.
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                status = os.fstat(file.fileno())
                version = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
                if version in self._right:
                    continue
                self.looks += 1
                name = path.relative_to(self._folder).as_posix()
                fault = self._truth.fault(name, file.read())
                if fault is None:
                    self._right.add(version)
                else:
                    yield f"{name}: {fault}"


class Watch(threading.Thread):
    """Looks at a mirror now and then, until it is stopped; ``find`` is told what is wrong."""

    def __init__(self, mirror: Mirror, find: Callable[[str], None]) -> None:
        super().__init__(name="watch", daemon=True)
        self._mirror = mirror
        self._find = find
        self._over = threading.Event()

    def run(self) -> None:
        """On its thread."""
        while not self._over.wait(_LOOK_EVERY):
            for fault in self._mirror.faults():
                self._find(f"in the mirror carries a final name, but is wrong: {fault}")

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self.join()


def differences(source: Path, mirror: Path, reference: Path, *, exactly: bool) -> Iterator[str]:
    """How a finished mirror differs from its source and from the reference, by SHA-256; with ``exactly`` also what is
    in the mirror only.
    """
    wanted = {path.relative_to(source) for path in _files(source)}
    for name in sorted(wanted):
        if not (mirror / name).is_file():
            yield f"{name} is not in the mirror"
        elif _sha256(mirror / name) != _sha256(source / name):
            yield f"{name} has another SHA-256 in the mirror"
    for log in LOGS:
        parts = in_order((mirror / name for name in wanted if (mirror / name).is_file()), log.name)
        digest = hashlib.sha256()
        for part in parts:
            _update(digest, part)
        if digest.hexdigest() != _sha256(reference / log.name):
            yield f"the {len(parts)} parts of {log.name}.log make another SHA-256 than all that was written"
    for path in partial_files(mirror):
        yield f"a partial file is left: {path.relative_to(mirror)}"
    if not (mirror / "empty").is_dir():
        yield "the empty folder is not in the mirror"
    if exactly:
        for path in final_files(mirror):
            if path.relative_to(mirror) not in wanted:
                yield f"{path.relative_to(mirror)} is in the mirror only"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(_PIECE):
            digest.update(piece)
        return digest.hexdigest()


def _update(digest: hashlib._Hash, part: Path) -> None:
    """Hash a part of a log as it was before it was compressed."""
    unpacked = zlib.decompressobj(zlib.MAX_WBITS | 16) if part.suffix == ".gz" else None
    with part.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece if unpacked is None else unpacked.decompress(piece))
