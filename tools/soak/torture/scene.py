"""What lies in the folder that is backed up, and under which names."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

__all__ = [
    "BATCH",
    "DEPTH",
    "LOGS",
    "OLD",
    "RING",
    "RING_LINES",
    "SHARE",
    "SMALL",
    "STREAMS",
    "LogPlan",
    "Style",
    "in_order",
    "stream_of",
]

SHARE = "logs"
"""The name under which the gateway shares the folder."""


class Style(enum.Enum):
    """How a log is rotated: as logrotate does it."""

    RENAME = "rename"
    COPYTRUNCATE = "copytruncate"
    GZIP = "rename and compress the one before"


@dataclass(frozen=True)
class LogPlan:
    """A log: ``NAME.log``. It gets ``share`` of the rate, and is rotated in these ``styles`` in turn."""

    name: str
    share: float
    styles: tuple[Style, ...]


LOGS = (
    LogPlan("renamed", 0.4, (Style.RENAME,)),
    LogPlan("copied", 0.3, (Style.COPYTRUNCATE,)),
    LogPlan("zipped", 0.2, (Style.GZIP,)),
    LogPlan("mixed", 0.1, tuple(Style)),
)

SMALL = "small"
"""A folder of small files that are written once; also the stream of their lines."""

BATCH = "batch"
"""A folder, ``batch-NUMBER``, that is renamed now and then; also the stream of its files."""

RING = "ring"
"""A file whose lines are overwritten in place, round and round; also their stream."""

RING_LINES = 2 << 13
"""Lines of the ring: two chunks of a transfer, so that a change within one leaves the other as it was."""

STREAMS = (*(log.name for log in LOGS), SMALL, BATCH, RING)

DEPTH = 8
"""The highest number of a rotated log. Those beyond it keep their place and name from then on: nothing is deleted."""

OLD = "old"
"""The folder for them, as ``NAME.log-COUNT``."""

_LOG_NAME = re.compile(r"([a-z]+)\.log(?:\.(\d+)(\.gz)?)?")
_OLD_NAME = re.compile(r"([a-z]+)\.log-(\d+)(\.gz)?")


def stream_of(path: str) -> str | None:
    """The stream whose lines belong into the file at ``path`` in the share; None when no such file is ever written."""
    first, *rest = PurePosixPath(path).parts
    if not rest:
        found = _LOG_NAME.fullmatch(first)
        if found is None:
            return RING if first == RING else None
        return _name_of_log(found[1])
    if first == OLD:
        found = _OLD_NAME.fullmatch("/".join(rest))
        return None if found is None else _name_of_log(found[1])
    kind = first.partition("-")[0]
    return kind if kind in (SMALL, BATCH) and len(rest) == 1 else None


def _name_of_log(name: str) -> str | None:
    return next((log.name for log in LOGS if log.name == name), None)


def in_order(files: Iterable[Path], name: str) -> list[Path]:
    """Those ``files`` that are parts of the log ``name``, the oldest first."""
    parts: list[tuple[int, int, Path]] = []
    for path in files:
        if (found := _LOG_NAME.fullmatch(path.name)) is not None and found[1] == name:
            parts.append((1, -int(found[2] or 0), path))
        elif (found := _OLD_NAME.fullmatch(path.name)) is not None and found[1] == name:
            parts.append((0, int(found[2]), path))
    return [path for *_, path in sorted(parts)]
