"""Owner and group of what is backed up, as numbers: kept if that is wished, and as long as the system permits it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from handshakes.survey import Facts
from pynetwork.files.directories import Directory

__all__ = ["Owners"]

_NOT_PERMITTED: Final = "owner and group can't be kept here: as a rule only root may give files away"


class Owners:
    """Gives files, folders and links their owners. The first time that this fails ``refuse`` is told why, and nothing
    more is tried. Safe for threads.
    """

    def __init__(self, refuse: Callable[[str], object]) -> None:
        self._refuse = refuse
        self._able = True

    def has(self, status: os.stat_result, facts: Facts) -> bool:
        """Whether nothing has to be done for what has this status."""
        return not self._able or (status.st_uid, status.st_gid) == (facts.owner, facts.group)

    def give(self, directory: Directory, name: str, facts: Facts, status: os.stat_result | None = None) -> None:
        """Let ``name``, which is as ``status`` says, have the owner and group in ``facts``."""
        try:
            if not self.has(status or directory.status(name), facts):
                directory.set_owner(name, facts.owner, facts.group)
        except FileNotFoundError:
            # Somebody removes it just now. It will be missed by the next backup.
            return
        except (OSError, OverflowError):
            if self._able:
                self._able = False
                self._refuse(_NOT_PERMITTED)
