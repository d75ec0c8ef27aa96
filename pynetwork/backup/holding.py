"""What a destination holds beside its files: content that was replaced under its name, or of which a part was gathered,
and that may be wanted under another name, as when logs rotate.

A log may be rotated after it was surveyed, or while nobody backs up: then only the next survey tells under which name
its content is. So what is held stays until a whole run, or a whole round of a run that follows, has not wanted it; what
has a place again goes sooner. It is never believed: like all that is here it is compared by digest before it is used.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from typing import Final

from handshakes.errors import UnsafePath
from handshakes.manifest import DIGEST_SIZE
from pynetwork.backup.catalogue import Catalogue
from pynetwork.backup.mirror import Mirror
from pynetwork.backup.records import FileRecord, HeldRecord, UnfinishedRecord
from pynetwork.files.folders import Folder

__all__ = ["Holdings"]

_WORTH_IT: Final = 64 << 20


class Holdings:
    """What ``mirror`` holds, by what it was, the latest first. Safe for threads."""

    def __init__(self, mirror: Mirror, catalogue: Catalogue) -> None:
        self._mirror = mirror
        self._catalogue = catalogue
        self._lock = threading.Lock()
        self._held = {held.digest: held for held in catalogue.held()}
        self._left: dict[str, HeldRecord] = {}

    def __bool__(self) -> bool:
        return bool(self._held)

    def __contains__(self, digest: object) -> bool:
        return digest in self._held

    def by_identity(self, device: int, inode: int) -> list[HeldRecord]:
        """What was this file."""
        with self._lock:
            return [held for held in reversed(self._held.values()) if (held.device, held.inode) == (device, inode)]

    def in_folder(self, folder: int) -> list[HeldRecord]:
        """What was in this folder."""
        with self._lock:
            return [held for held in reversed(self._held.values()) if held.folder == folder]

    def keep(self, folder: Folder, place: str, number: int, name: bytes, record: FileRecord | None) -> None:
        """Keep what stands at ``place``, of the file ``name`` in folder ``number``: it is about to be replaced.

        ``record`` says what it is. A run that was killed may have brought what nobody recorded: as a rule something
        that begins with what was there before.
        """
        components = folder.split(place)
        try:
            status = folder.directory(components[:-1]).status(components[-1])
        except OSError:
            return
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            return
        held = HeldRecord(os.urandom(DIGEST_SIZE), status.st_size, 0, 0, number, name)
        if record is not None and record.digest and record.digest not in self._held:
            held = held._replace(digest=record.digest, device=record.device, inode=record.inode)
        if self._mirror.hold(folder, place, held.digest):
            self._add(held)

    def _add(self, held: HeldRecord) -> None:
        with self._lock:
            self._held.pop(held.digest, None)
            self._held[held.digest] = held
        self._catalogue.hold(held)

    # Partial files

    def set_aside(self, folder: Folder, unfinished: UnfinishedRecord) -> HeldRecord | None:
        """Hold a partial file, which nobody writes now; None when there is none."""
        size = self._mirror.partial_size(folder, unfinished.place)
        if not size:
            return None
        held = HeldRecord(
            os.urandom(DIGEST_SIZE), size, unfinished.device, unfinished.inode, unfinished.folder, unfinished.name
        )
        self._add(held)
        self._mirror.set_aside(folder, unfinished.place, held.digest)
        return held

    def set_left_aside(self) -> None:
        """Hold the partial files of earlier runs: the files that they are of may have other names by now."""
        with self._mirror.open() as folder:
            for unfinished in self._catalogue.unfinished():
                with contextlib.suppress(OSError, UnsafePath):
                    held = self.set_aside(folder, unfinished)
                    if held is not None:
                        self._left[unfinished.place] = held

    def take_back(self, folder: Folder, place: str, device: int, inode: int, size: int) -> None:
        """Go on with a large partial file that an earlier run left at ``place``, if it is of this very file, which has
        ``size`` bytes now. A small one is sooner copied from; it may well be of a log that was cut since.
        """
        held = self._left.pop(place, None)
        if held is None or (held.device, held.inode) != (device, inode) or not _WORTH_IT <= held.size <= size:
            return
        with contextlib.suppress(OSError, UnsafePath):
            self._mirror.take_back(folder, place, held.digest)
            with self._lock:
                self._held.pop(held.digest, None)
            self._catalogue.forget_held([held.digest])

    # The end

    def forget(self, folder: Folder) -> None:
        """A run, or a round, has had all that it wanted: remove what nobody will want any more."""
        with self._lock:
            if not self._held:
                return
            gone = [held.digest for held in self._held.values() if held.kept or self._has_place(held)]
            for digest in gone:
                del self._held[digest]
            self._held = {digest: held._replace(kept=True) for digest, held in self._held.items()}
            left = set(self._held)
        self._catalogue.forget_held(gone, keep=True)
        self._mirror.forget_held(folder, left)

    def _has_place(self, held: HeldRecord) -> bool:
        """Whether the file that this was is backed up under some name as it is now, and has not been cut since."""
        records = self._catalogue.by_identity(held.device, held.inode)
        return any(record.gone is None and record.size >= held.size for _, record in records)
