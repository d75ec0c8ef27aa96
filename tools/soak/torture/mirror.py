"""Looking at the mirror: whether all that carries a final name is right, and whether all is there in the end."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import zlib
from collections.abc import Iterator
from pathlib import Path

from tools.soak.torture.lines import LINE, mark_at
from tools.soak.torture.scene import LOGS, RING, RING_LINES, in_order, stream_of

__all__ = ["Mirror", "Truth", "differences", "final_files", "flip_bit", "partial_files"]

_OWN = ".pynetwork"
_PIECE = 1 << 20


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


class Truth:
    """What may stand in a file, by the ``reference``: a file of all lines for each stream."""

    def __init__(self, reference: Path) -> None:
        self._reference = reference

    def fault(self, path: str, data: bytes) -> str | None:
        """What is wrong with ``data`` as the content of the file at ``path`` in the share at some time; None when
        nothing is.

        It has to be a run of whole consecutive lines of its stream, of which the last may be cut short; compressed or
        not. The ring is one round up to some line, and the round before from there on.
        """
        stream = stream_of(path)
        if stream is None:
            return "no file of this name was ever written"
        if stream == RING:
            return self._fault_of_ring(data)
        if path.endswith(".gz"):
            try:
                data = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data)
            except zlib.error as error:
                return f"it can't be decompressed: {error}"
        return self._fault_of_run(stream, data)

    def _fault_of_run(self, stream: str, data: bytes) -> str | None:
        if len(data) < LINE:
            # Of less than a line nobody knows which one it is; small files and fresh logs get here.
            known = data[: len(stream) + 2] == f"#{stream} ".encode()[: len(data)]
            return None if known else f"{len(data)} bytes that begin no line"
        found = mark_at(data, 0)
        if found is None or found[0] != stream:
            return f"it begins with {data[:40]!r}, which is no line of {stream!r}"
        return self._difference(stream, found[1], data)

    def _difference(self, stream: str, first: int, data: bytes) -> str | None:
        """Where ``data`` is something else than the lines from number ``first`` on."""
        with (self._reference / stream).open("rb") as file:
            file.seek(first * LINE)
            expected = file.read(len(data))
        if data == expected:
            return None
        at = next(at for at in range(0, len(data), LINE) if data[at : at + LINE] != expected[at : at + LINE])
        return (
            f"at byte {at} of {len(data)} there is not line {first + at // LINE} of {stream!r} "
            f"but {data[at : at + 40]!r}"
        )

    def _fault_of_ring(self, data: bytes) -> str | None:
        if len(data) != RING_LINES * LINE:
            return f"it has {len(data)} bytes, never more or fewer than {RING_LINES * LINE} were written"
        marks = [mark_at(data, at) for at in range(0, len(data), LINE)]
        numbers = [-1 if mark is None or mark[0] != RING else mark[1] for mark in marks]
        fresh = next((at for at, number in enumerate(numbers) if number != numbers[0] + at), RING_LINES)
        parts = [(numbers[0], 0, fresh), (numbers[0] + fresh - RING_LINES, fresh, RING_LINES)]
        if any(number < 0 for number in numbers):
            return "a part of it is no line of the ring"
        for first, start, end in parts:
            if start < end and (fault := self._difference(RING, first, data[start * LINE : end * LINE])):
                return f"lines {start} to {end}: {fault}"
        return None


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


def flip_bit(path: Path, chance: random.Random) -> int | None:
    """Change one bit of a file, and neither its time nor its length; answers which byte, None when it is empty."""
    status = path.stat()
    if not status.st_size:
        return None
    at = chance.randrange(status.st_size)
    handle = os.open(path, os.O_RDWR)
    try:
        byte = os.pread(handle, 1, at)
        os.pwrite(handle, bytes([byte[0] ^ 1 << chance.randrange(8)]), at)
    finally:
        os.close(handle)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return at
