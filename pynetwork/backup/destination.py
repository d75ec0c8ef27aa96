"""A destination, opened: its mirror and its catalogue."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from handshakes.errors import NotFound
from pynetwork.backup.catalogue import Catalogue
from pynetwork.backup.mirror import OWN, Mirror
from pynetwork.backup.names import Limits
from pynetwork.backup.schema import CatalogueDamaged, is_damage, set_aside

__all__ = ["existing_destination", "with_destination"]

Result = TypeVar("Result")

_CATALOGUE: Final = "catalogue.sqlite"
_LIMITS: Final = "limits"
_ERRORS: Final = (("disk is full", errno.ENOSPC), ("readonly", errno.EROFS))


@contextlib.contextmanager
def existing_destination(to: str | os.PathLike[str]) -> Iterator[tuple[Mirror, Catalogue]]:
    """The mirror and catalogue of a destination that exists.

    Raises `NotFound` where nothing was backed up to, `CatalogueDamaged`, and `OSError` when it can't be used.
    """
    if not os.path.lexists(Path(to, OWN, _CATALOGUE)):
        raise NotFound(f"{os.fspath(to)!r} is no destination of a backup: it has no {OWN}/{_CATALOGUE}")
    with _opened(Path(to, OWN, _CATALOGUE), mend=False) as catalogue:
        # Without a try whether it takes this name and that: it may be full.
        yield _prepared(Mirror(to, _noted_limits(catalogue)), catalogue), catalogue


def with_destination(to: str | os.PathLike[str], work: Callable[[Mirror, Catalogue], Result]) -> Result:
    """What ``work`` comes to in a destination, which is made if need be.

    If the catalogue turns out to be damaged in the middle of that, it is set aside, and ``work`` begins again with a
    new one. Raises `OSError` when it can't be used.
    """
    mirror = Mirror(to)
    try:
        with _opened(mirror.catalogue_path, mend=True) as catalogue:
            return work(_prepared(mirror, catalogue), catalogue)
    except CatalogueDamaged:
        aside = set_aside(mirror.catalogue_path)
        with _opened(mirror.catalogue_path, mend=True) as catalogue:
            catalogue.aside = aside
            return work(_prepared(mirror, catalogue), catalogue)


@contextlib.contextmanager
def _opened(where: Path, *, mend: bool) -> Iterator[Catalogue]:
    try:
        with Catalogue(where, mend=mend) as catalogue:
            yield catalogue
    except sqlite3.Error as error:
        if is_damage(error):
            raise CatalogueDamaged(f"the catalogue {str(where)!r} is damaged: {error}") from error
        number = next((number for words, number in _ERRORS if words in str(error)), errno.EIO)
        raise OSError(number, f"the catalogue fails: {error}", str(where)) from error


def _prepared(mirror: Mirror, catalogue: Catalogue) -> Mirror:
    """``mirror``, with what the catalogue knows of its places; and the other way round."""
    if _noted_limits(catalogue) != mirror.limits:
        catalogue.note(_LIMITS, json.dumps(mirror.limits))
    if catalogue.aside is not None:
        catalogue.adopt_pruned(catalogue.aside)
    for path, place in catalogue.folder_places().items():
        mirror.set_apart(path, place)
    return mirror


def _noted_limits(catalogue: Catalogue) -> Limits | None:
    noted = catalogue.noted(_LIMITS)
    return None if noted is None else Limits(*json.loads(noted))
