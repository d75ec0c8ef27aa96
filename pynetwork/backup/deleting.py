"""What goes from a mirror because its source does not have it any more, and what must not go.

What was pruned from the device is here alone: it is never deleted, and what comes under its name, as happens when logs
rotate, does not take its place.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from handshakes.errors import UnsafePath
from handshakes.paths import from_bytes, to_bytes
from handshakes.survey import Facts
from pynetwork.backup.catalogue import Catalogue
from pynetwork.backup.mirror import Mirror
from pynetwork.backup.records import FileRecord
from pynetwork.files.directories import Directory
from pynetwork.files.folders import Folder

__all__ = ["Deleted", "delete_gone", "put_aside"]

_LONGEST: Final = 200


class Deleted(NamedTuple):
    """So many files were deleted, and these folders, by number, have changed for that."""

    files: int
    folders: set[int]


def delete_gone(
    mirror: Mirror,
    catalogue: Catalogue,
    folder: Folder,
    *,
    chosen: Callable[[str, Facts], bool] | None = None,
    below: bytes = b"",
) -> Deleted:
    """Remove what is not at the source any more, as far as it is ``chosen`` and ``below`` a folder, and the folders
    that are empty then. Everything recorded has to be committed.
    """
    deleted = 0
    changed: set[int] = set()
    for path, number, record in catalogue.gone_files(below):
        name = from_bytes(record.name)
        whole = f"{from_bytes(path)}/{name}" if path else name
        if chosen is not None and not chosen(whole, Facts.decode(record.facts)):
            continue
        try:
            components = folder.split(mirror.place_of(path, record))
            folder.directory(components[:-1]).remove(components[-1])
        except FileNotFoundError:
            pass
        except (OSError, UnsafePath):
            continue
        catalogue.forget_file(number, record.name)
        changed.add(number)
        deleted += 1
    catalogue.commit()
    # The deepest first, so that those above are empty when their turn comes.
    for known in catalogue.gone_folders(below):
        above = catalogue.folder(known.path.rpartition(b"/")[0])
        with contextlib.suppress(OSError, UnsafePath):
            components = folder.split(mirror.place_of_folder(known.path))
            folder.directory(components[:-1]).remove_empty(components[-1])
            catalogue.forget_folder(known.id)
            changed |= {above.id} if above is not None else set()
    folder.forget()
    return Deleted(deleted, changed)


def put_aside(directory: Directory, place: str, catalogue: Catalogue, folder: int, record: FileRecord) -> None:
    """Give what was pruned and stands at ``place`` another name, which tells when it was changed last, for good.

    Raises `OSError` when that can't be.
    """
    stem = to_bytes(place)[:_LONGEST] + time.strftime(".pruned-%Y%m%dT%H%M%S", _utc(record)).encode("ascii")
    for number in itertools.count():
        name = stem + (b"-%d" % number if number else b"")
        if catalogue.file(folder, name) is None and not _exists(directory, from_bytes(name)):
            directory.replace(place, from_bytes(name))
            catalogue.rename_file(folder, record.name, name)
            return


def _utc(record: FileRecord) -> time.struct_time:
    return time.gmtime(min(max(record.mtime_ns // 1_000_000_000, 0), 253402300799))


def _exists(directory: Directory, name: str) -> bool:
    try:
        directory.status(name)
    except FileNotFoundError:
        return False
    return True
