"""The destination of a backup: where a source's files stand in it, and the content that is there already.

Beside the files of the source it has one folder of its own, `OWN`, with the catalogue, a lock, and ``held``: content
that a run has replaced under its name while the rest of the run may still want it under another, as when logs rotate.
What is held are second names of the same data, by digest; a run that ends well removes them.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Final, NamedTuple

from handshakes.errors import UnsafePath
from handshakes.manifest import digest
from handshakes.paths import from_bytes, partial_name
from pynetwork.backup.names import Limits, escape, limits_of
from pynetwork.backup.records import FileRecord
from pynetwork.files.descriptors import read_into
from pynetwork.files.directories import Directory
from pynetwork.files.flushing import flush
from pynetwork.files.folders import Folder

__all__ = ["OWN", "Base", "Mirror"]

OWN: Final = ".pynetwork"
_HELD: Final = (OWN, "held")


class Base(NamedTuple):
    """Content that is here: the first ``size`` bytes at ``place``, with this digest (None: not known)."""

    place: str
    size: int
    digest: bytes | None


class Mirror:
    """The destination ``root``, which is made if need be. Raises `OSError` when it can't be written to.

    ``limits``: what it can't hold, if that is known; else it is found out.
    """

    def __init__(self, root: str | os.PathLike[str], limits: Limits | None = None) -> None:
        self.root = Path(os.path.abspath(root))
        (self.root / OWN / "held").mkdir(parents=True, exist_ok=True)
        if limits is None:
            with self.open() as folder:
                limits = limits_of(folder)
        self.limits = limits
        self._apart: dict[bytes, str] = {}
        self.place_of_folder = functools.lru_cache(maxsize=4096)(self._place_of_folder)

    def open(self) -> Folder:
        """The destination, for one thread."""
        return Folder(self.root, portable=False)

    @property
    def catalogue_path(self) -> Path:
        """Where its catalogue is."""
        return self.root / OWN / "catalogue.sqlite"

    # Places

    def _place_of_folder(self, path: bytes) -> str:
        """Where the source's folder at ``path`` stands; the root is the empty place. Raises `UnsafePath`."""
        if not path:
            return ""
        names = path.split(b"/")
        places = []
        for depth, name in enumerate(names):
            apart = self._apart.get(b"/".join(names[: depth + 1])) if self._apart else None
            places.append(apart or self.place_of_name(from_bytes(name), top=not depth))
        return "/".join(places)

    def set_apart(self, path: bytes, place: str) -> None:
        """The source's folder at ``path`` has this place in the one above it, as another has the usual one."""
        self._apart[path] = place
        self.place_of_folder.cache_clear()

    def place_of_name(self, name: str, *, top: bool) -> str:
        """The place of one name; ``top``: directly in the destination. Raises `UnsafePath` when it has none."""
        return escape(name, top=top, windows=self.limits.windows, utf8=self.limits.utf8)

    def place_of(self, folder_path: bytes, record: FileRecord) -> str:
        """Where a file that is recorded stands."""
        folder = self.place_of_folder(folder_path)
        place = from_bytes(record.place or b"") or self.place_of_name(from_bytes(record.name), top=not folder)
        return f"{folder}/{place}" if folder else place

    # Content

    def read_base(self, folder: Folder, base: Base, own_place: str = "") -> bytes | None:
        """A small content that is here, verified; None when it is not what it was. What belongs to ``own_place`` is
        read from there.
        """
        for handle in self._candidates(folder, base, own_place):
            try:
                view = memoryview(bytearray(base.size))
                if read_into(handle, view, 0) == base.size and digest(view) == base.digest:
                    return bytes(view)
            finally:
                os.close(handle)
        return None

    def open_base(self, folder: Folder, base: Base, own_place: str = "") -> int | None:
        """A descriptor of content that is here, of a held name rather than of its place, unless that is ``own_place``;
        None when there is none.
        """
        return next(iter(self._candidates(folder, base, own_place)), None)

    def _candidates(self, folder: Folder, base: Base, own_place: str) -> list[int]:
        """Descriptors of files that may have this content, for their caller to close."""
        found: list[int] = []
        if base.digest is not None and base.place != own_place:
            with contextlib.suppress(OSError):
                found.append(_regular(folder.directory(_HELD).open(base.digest.hex(), os.O_RDONLY)))
        if not found:
            # What is held has no place of its own.
            with contextlib.suppress(OSError, UnsafePath):
                found.append(_regular(folder.open_file(base.place)))
        return found

    def hold(self, folder: Folder, place: str, digest_: bytes) -> bool:
        """Keep the content at ``place``, which is about to be replaced. False when there is none any more."""
        components = folder.split(place)
        held = folder.directory(_HELD, create=True).again()
        try:
            directory = folder.directory(components[:-1])
            with contextlib.suppress(FileExistsError):
                try:
                    directory.link(components[-1], held, digest_.hex())
                except OSError:
                    return _move(
                        directory, components[-1], self.root.joinpath(*_HELD, digest_.hex()), self.root / place
                    )
        except FileNotFoundError:
            return False
        finally:
            held.close()
        return True

    def partial_size(self, folder: Folder, place: str) -> int:
        """The size of the partial file of what is to stand at ``place``; 0 when there is none."""
        components = folder.split(place)
        try:
            return folder.directory(components[:-1]).status(partial_name(components[-1])).st_size
        except OSError:
            return 0

    def set_aside(self, folder: Folder, place: str, key: bytes) -> None:
        """Hold the partial file of what is to stand at ``place`` under this key. Raises `OSError`."""
        os.replace(self._partial_path(folder, place), self.root.joinpath(*_HELD, key.hex()))

    def take_back(self, folder: Folder, place: str, key: bytes) -> None:
        """The inverse of `set_aside`."""
        os.replace(self.root.joinpath(*_HELD, key.hex()), self._partial_path(folder, place))

    def _partial_path(self, folder: Folder, place: str) -> Path:
        *above, name = folder.split(place)
        return self.root.joinpath(*above, partial_name(name))

    def forget_held(self, folder: Folder, left: Collection[bytes]) -> None:
        """Remove what is held, but for what is ``left``."""
        names = {digest_.hex() for digest_ in left}
        directory = folder.directory(_HELD, create=True)
        for entry in list(directory.entries()):
            if entry.name not in names:
                with contextlib.suppress(OSError):
                    directory.remove(entry.name)

    def flush(self) -> None:
        """Wait until everything that was written here is on the disk. Raises `OSError`."""
        flush(self.root)


def _regular(handle: int) -> int:
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError("no regular file")
    return handle


def _move(_directory: Directory, _name: str, held: Path, place: Path) -> bool:
    """Where files can't have two names: the name is free for a moment then."""
    os.replace(place, held)
    return True
