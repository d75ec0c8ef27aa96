"""Names that a destination can't hold, written so that it can, and back.

Bytes that can't be held stand as ``%XX``; everything else of a name stays as it is, and a name that needs nothing
is its own place. A ``%`` that could be taken for the beginning of such an escape is escaped itself, so that
`unescape` brings back exactly the name, whatever was escaped in it and for which destination: places of different
names differ. What a destination can't hold is in its `Limits`; what none holds are the names that a backup keeps
for itself.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import threading
import unicodedata
from typing import Final, NamedTuple

from handshakes.errors import UnsafePath
from handshakes.paths import COMPONENT_LIMIT, DEVICES, from_bytes, to_bytes
from pynetwork.files.directories import CREATE, Directory
from pynetwork.files.folders import Folder, folds_case

__all__ = ["Limits", "escape", "escape_case", "fold_key", "limits_of", "unescape"]

_WINDOWS: Final = os.name == "nt"
_UTF8: Final = sys.platform in ("darwin", "win32")

# Each of these matches the one character that is to be escaped. The hex digits of an escape must not come to be by
# folding either: what follows a % and is beyond ASCII (such as the ligature of two f) may fold to some.
_ESCAPE: Final = r"%(?=[0-9A-Fa-f]{2}|[0-9A-Fa-f]?[^\x00-\x7f])"
_PARTIAL: Final = r"\A\.(?=(?:.*\.)?(?i:partial)\Z)"
_OWN: Final = r"\A\.(?=(?i:pynetwork)\Z)"
_BEYOND_UTF8: Final = "[\ud800-\udfff]"
_BEYOND_WINDOWS: Final = rf'[<>:"|?*\\\x00-\x1f]|[. ]\Z|\A(?=(?i:{DEVICES.pattern})\Z).'

_ESCAPED: Final = re.compile(rb"%(?!00|2[Ff])([0-9A-Fa-f]{2})")


class Limits(NamedTuple):
    """What can't be in a destination: names that Windows can't have (``windows``), names that are no valid UTF-8
    (``utf8``), two names in a folder with the same `fold_key` (``folds``).
    """

    windows: bool
    utf8: bool
    folds: bool


def limits_of(folder: Folder) -> Limits:
    """Find out, by making files, what ``folder`` can't hold: a stick has the limits of its own system, not of this one.

    Raises `OSError` when no file can be made in it.
    """
    folds = folds_case(folder)
    directory = folder.directory(())
    return Limits(
        windows=_WINDOWS or not _takes(directory, ":"),
        utf8=_UTF8 or not _takes(directory, "\udcff"),
        folds=folds,
    )


def _takes(directory: Directory, character: str) -> bool:
    name = f".pynetwork-{os.getpid()}-{threading.get_ident()}{character}.partial"
    try:
        os.close(directory.open(name, CREATE))
    except OSError:
        # Systems have many ways to say so. But where no file at all can be made, that is what is to be said.
        plain = name.replace(character, "")
        os.close(directory.open(plain, CREATE))
        directory.remove(plain)
        return False
    directory.remove(name)
    return True


def escape(name: str, *, top: bool = False, windows: bool = _WINDOWS, utf8: bool = _UTF8) -> str:
    """The place of ``name``, one component of a path, in a destination: as a rule ``name`` itself.

    Escaped are names of partial files and, directly in the destination (``top``), ``.pynetwork``, in any case; for
    ``windows``: its special characters, control characters, a dot or a space at the end, names of devices; for
    ``utf8``: bytes that are not UTF-8. Raises `UnsafePath` when that makes it longer than `COMPONENT_LIMIT` bytes.
    """
    unheld = _unheld(top, windows, utf8)
    if unheld.search(name) is None:
        return name
    return _write(name, _chosen(unheld, name))


def escape_case(name: str, *, top: bool = False, windows: bool = _WINDOWS, utf8: bool = _UTF8) -> str:
    """Another place for ``name``, where `escape` gives one that folds to the same as that of another name.

    Everything that folding changes is escaped, capital letters for example, and never nothing: no other name has a
    place with the same `fold_key`, neither by this function nor by `escape`. Raises `UnsafePath` as `escape`.
    """
    chosen = _chosen(_unheld(top, windows, utf8), name)
    before = len(chosen)
    folded = ""
    for index, character in enumerate(name):
        if unicodedata.combining(character) or fold_key(folded + character) != folded + character:
            chosen.add(index)
        folded += _percent(character).lower() if index in chosen else character
    if len(chosen) == before:
        # Not a %: that is escaped or not by what follows, which may be the only difference to the other name.
        chosen.update([index for index in range(len(name)) if index not in chosen and name[index] != "%"][:1])
    return _write(name, chosen)


def unescape(place: str) -> str:
    """The name whose place is ``place``, by `escape` or `escape_case`.

    Of any other ``place`` something that is no safe name may come, such as ``..``, but never a slash or NUL in it.
    """
    if "%" not in place:
        return place
    return from_bytes(_ESCAPED.sub(_byte, to_bytes(place)))


def fold_key(name: str) -> str:
    """What all names have in common that are one where neither case nor Unicode's forms of a letter count."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


@functools.cache
def _unheld(top: bool, windows: bool, utf8: bool) -> re.Pattern[str]:
    parts = [_ESCAPE, _PARTIAL]
    if top:
        parts.append(_OWN)
    if windows:
        parts.append(_BEYOND_WINDOWS)
    if utf8:
        parts.append(_BEYOND_UTF8)
    return re.compile("|".join(parts), re.DOTALL)


def _chosen(unheld: re.Pattern[str], name: str) -> set[int]:
    """Where the characters are that have to be escaped."""
    chosen = set()
    for found in unheld.finditer(name):
        at = found.start()
        chosen.add(at)
        # An accent after the last digit of an escape would make one letter of both.
        while at + 1 < len(name) and unicodedata.combining(name[at + 1]):
            at += 1
            chosen.add(at)
    return chosen


def _write(name: str, chosen: set[int]) -> str:
    """``name`` with the characters at these places escaped. Raises `UnsafePath` when that is too long."""
    place = "".join([_percent(character) if index in chosen else character for index, character in enumerate(name)])
    size = len(to_bytes(place))
    if size > COMPONENT_LIMIT:
        raise UnsafePath(
            f"the name {name!r} is refused: the destination can hold it only escaped, and then it has {size} bytes, "
            f"more than {COMPONENT_LIMIT}; give the file a shorter name"
        )
    return place


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in to_bytes(character))


def _byte(found: re.Match[bytes]) -> bytes:
    return bytes([int(found[1], 16)])
