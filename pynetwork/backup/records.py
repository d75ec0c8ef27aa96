"""What a catalogue holds, as objects."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

__all__ = ["PRUNED", "FileRecord", "FolderRecord", "HeldRecord", "RunRecord", "State", "UnfinishedRecord"]

PRUNED: Final = -1
"""In place of the run in which a file was found gone: it was removed from the device as it is here."""


class State:
    """How far a file's record can be believed."""

    SETTLED: Final = 0
    """A change since then would show in the facts."""
    UNSETTLED: Final = 1
    """It had been changed just before it was surveyed, or while it was read: what is there may have changed since."""
    UNFLUSHED: Final = 2
    """The machine stopped before the data was surely on the disk: what is here must be read to be believed."""


class FileRecord(NamedTuple):
    """A file as it was backed up. ``facts``: those of the source, in wire form; ``size``, ``mtime_ns``: of what is
    here; ``place``: its name here where that is another; ``target``: where it leads if it is a symbolic link, which has
    no digest; ``run``: the one that brought it; ``gone``: the one that did not find it any more, or `PRUNED`.
    """

    name: bytes
    facts: bytes
    state: int
    place: bytes | None
    size: int
    mtime_ns: int
    device: int
    inode: int
    digest: bytes | None
    target: bytes | None
    run: int
    gone: int | None


class FolderRecord(NamedTuple):
    """A folder of the source."""

    id: int
    path: bytes
    facts: bytes
    device: int
    gone: int | None


class HeldRecord(NamedTuple):
    """Content that was replaced, or a partial file that was set aside, and that may be wanted under another name.

    ``kept``: a whole run has not wanted it.
    """

    digest: bytes
    size: int
    device: int
    inode: int
    folder: int
    name: bytes
    kept: bool = False


class UnfinishedRecord(NamedTuple):
    """A partial file was begun at ``place`` in a run, of what was this file at the source then."""

    place: str
    run: int
    folder: int
    name: bytes
    device: int
    inode: int


class RunRecord(NamedTuple):
    """One run. ``began`` and ``ended``: seconds since 1970; ``outcome``: running, complete, interrupted or a reason."""

    id: int
    began: float
    ended: float | None
    gateway: str
    share: str
    outcome: str
    figures: dict[str, Any]
