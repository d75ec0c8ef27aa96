"""Where the names of a source stand in a destination that takes names for one that differ in case only.

The first of such names in a folder has its own; others have another place, which the catalogue keeps. Elsewhere every
name has the place that `pynetwork.backup.names` gives it, and nothing has to be remembered.
"""

from __future__ import annotations

from handshakes.paths import from_bytes
from pynetwork.backup.catalogue import Catalogue
from pynetwork.backup.mirror import Mirror
from pynetwork.backup.names import escape_case, fold_key
from pynetwork.backup.records import FileRecord

__all__ = ["Places"]


class Places:
    """The places of new names, folder after folder, for one thread. Folders come after those that they are in."""

    def __init__(self, mirror: Mirror, catalogue: Catalogue) -> None:
        self._mirror = mirror
        self._catalogue = catalogue
        # For the current folder and those above it: the name that has each fold key.
        self._taken: list[tuple[bytes, dict[str, str]]] = []

    def enter(self, path: bytes, folder: int, *, known: bool) -> None:
        """This is the current folder from now on; a new one gets its place. Raises `UnsafePath`."""
        if not self._mirror.limits.folds:
            return
        if path and not known:
            above, _, name = path.rpartition(b"/")
            place = self._free(self._names_in(above), from_bytes(name), top=not above)
            if place != self._mirror.place_of_name(from_bytes(name), top=not above):
                self._mirror.set_apart(path, place)
                self._catalogue.set_folder_place(folder, place)
        while self._taken and not _is_above(self._taken[-1][0], path):
            self._taken.pop()
        self._taken.append((path, self._names_recorded(path) if known else {}))

    def place_of(self, name: str, record: FileRecord | None, *, top: bool) -> str:
        """The place of ``name`` in the current folder; ``top``: that is the destination. Raises `UnsafePath`."""
        if record is not None and record.place is not None:
            return from_bytes(record.place)
        if not self._mirror.limits.folds:
            return self._mirror.place_of_name(name, top=top)
        return self._free(self._taken[-1][1], name, top=top)

    def _free(self, taken: dict[str, str], name: str, *, top: bool) -> str:
        """A place for ``name`` that no other one has, and has from now on."""
        limits = self._mirror.limits
        place = self._mirror.place_of_name(name, top=top)
        if taken.setdefault(fold_key(place), name) != name:
            place = escape_case(name, top=top, windows=limits.windows, utf8=limits.utf8)
            taken[fold_key(place)] = name
        return place

    def _names_in(self, path: bytes) -> dict[str, str]:
        """What is taken in a folder above the one that comes now."""
        for above, taken in reversed(self._taken):
            if above == path:
                return taken
        return self._names_recorded(path)

    def _names_recorded(self, path: bytes) -> dict[str, str]:
        taken = {}
        for below in self._catalogue.folders_in(path):
            taken[fold_key(self._mirror.place_of_folder(below).rpartition("/")[2])] = _last(below)
        known = self._catalogue.folder(path)
        for record in self._catalogue.files(known.id) if known is not None else ():
            taken[fold_key(self._mirror.place_of(path, record).rpartition("/")[2])] = from_bytes(record.name)
        return taken


def _last(path: bytes) -> str:
    return from_bytes(path.rpartition(b"/")[2])


def _is_above(path: bytes, other: bytes) -> bool:
    return not path or other.startswith(path + b"/")
