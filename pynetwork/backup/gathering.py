"""A large file while it is gathered: which parts of it are here already, in other files or under its own name."""

from __future__ import annotations

import contextlib
import os
import stat

from handshakes.chunks import LargeFile
from handshakes.manifest import Entry, chunk_count, chunk_size_for, digest
from pynetwork.backup.finding import Wanted
from pynetwork.backup.mirror import Base, Mirror
from pynetwork.files.descriptors import read_into
from pynetwork.files.folders import Folder
from pynetwork.files.partials import PartialFile

__all__ = ["Gathering", "gathering_of", "holds"]


class Gathering:
    """What is known of one large file's content while it is gathered. The job's lock guards it.

    ``own``: chunks of the file as it stands under its name that belong there in the new one too, with their digests;
    they are not copied as long as it looks as if the rest could be appended. ``moved``: some of it was found elsewhere.
    """

    __slots__ = ("bases", "expected", "moved", "opened", "own", "own_size", "wanted")

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.bases: list[tuple[Base, int]] = []
        self.opened = False
        self.own: dict[int, tuple[int, bytes]] = {}
        self.own_size = 0
        self.moved = False
        self.expected: dict[int, bytes] = {}

    def open(self, mirror: Mirror, folder: Folder) -> None:
        """Open the contents that may hold a part of it."""
        if self.opened:
            return
        self.opened = True
        for base in self.wanted.bases:
            handle = mirror.open_base(folder, base, self.wanted.place)
            if handle is None:
                continue
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                os.close(handle)
                continue
            if base.place == self.wanted.place and not self.own_size:
                self.own_size = status.st_size
            self.bases.append((base._replace(size=status.st_size), handle))

    @property
    def own_handle(self) -> int | None:
        """The file as it stands under its name, if it does and may hold a part."""
        return next((handle for base, handle in self.bases if base.place == self.wanted.place), None)

    def is_in_place(self, entry: Entry) -> bool:
        """Whether the file as it stands has been found to be the new one, chunk by chunk."""
        count = chunk_count(entry.size, chunk_size_for(entry.size))
        return self.own_size == entry.size and len(self.own) == count

    def can_be_appended(self, file: LargeFile) -> bool:
        """Whether all of the file as it stands is the beginning of the new one, and none of it was copied."""
        if not 0 < self.own_size < file.entry.size:
            return False
        full, rest = divmod(self.own_size, file.chunk)
        if any(self.own.get(index, (0, b""))[0] != file.chunk for index in range(full)):
            return False
        return not rest or self.own.get(full, (0, b""))[0] == rest

    def keep_tail(self, file: LargeFile) -> None:
        """Copy the beginning of the chunk within which the file ends as it stands: what follows may have arrived."""
        handle = self.own_handle
        index, size = divmod(self.own_size, file.chunk)
        if handle is None or not size or index not in self.own or not isinstance(file.handle, PartialFile):
            return
        view = memoryview(bytearray(size))
        with contextlib.suppress(OSError):
            if read_into(handle, view, index * file.chunk) == size:
                file.handle.write(view, index * file.chunk)

    def close(self) -> None:
        """Give everything back."""
        for _, handle in self.bases:
            os.close(handle)
        self.bases.clear()
        self.opened = False
        self.own.clear()
        self.own_size = 0
        self.moved = False
        self.expected.clear()


def gathering_of(file: LargeFile) -> Gathering:
    """What is known of ``file``, which a backup has planned."""
    assert isinstance(file.origin, Gathering)
    return file.origin


def holds(
    bases: list[tuple[Base, int]], base: Base, handle: int, view: memoryview, offset: int, expected: bytes
) -> bool:
    """Read what ``base`` has at ``offset`` into ``view``; whether its digest is the expected one.

    A partial file that is held lacks what stood under the file's own name when it was gathered: that is tried, too.
    """
    if read_into(handle, view, offset) < len(view):
        return False
    if digest(view) == expected:
        return True
    if not base.place:
        for other, its_handle in sorted(bases, key=lambda each: each[0].size):
            size = other.size - offset
            if 0 < size < len(view) and read_into(its_handle, view[:size], offset) == size and digest(view) == expected:
                return True
    return False
