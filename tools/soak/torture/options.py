"""How a torture run is to be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.soak.torture.report import SHARE_AGAIN

__all__ = ["SECONDS_A_KILL", "WORKER", "Options"]

SECONDS_A_KILL = 4.0
"""What is on its way at a kill is carried again. When kills come more often, that is more than `SHARE_AGAIN`."""

WORKER = "tools.soak.torture.worker"
"""The module that the processes run."""


@dataclass(frozen=True)
class Options:
    """``kills`` within ``seconds``, while logs grow by ``rate`` bytes per second and are rotated every ``rotate``
    seconds.

    - ``follow``: one backup that goes on, in place of one after the other.
    - ``flips``: so many bits flipped on the wire; ``damage``: in partial files, and in the end in so many files of the
      mirror.
    - ``link``: the most bytes per second between the two, None for no bound.
    - ``compress`` lets data be compressed, of which nobody can tell whether it was carried before; ``mirror_deletes``
      removes from the mirror what is not at the source any more.
    - ``again``: the part of what had to be carried that may be carried again.
    - ``backup``: the function that makes a backup, ``MODULE:NAME``; ``verify``: the command that checks one.
    - ``folder``: where everything lies, and is left; None: a temporary one.

    ``say`` is told what happens, ``find`` what should not have, at once.
    """

    kills: int = 200
    seconds: float = SECONDS_A_KILL * 200
    rate: float = 5e6
    rotate: float = 2.0
    seed: int = 1
    follow: bool = False
    flips: int = 0
    damage: int = 0
    link: float | None = None
    compress: bool = False
    mirror_deletes: bool = False
    again: float = SHARE_AGAIN
    backup: str = f"{WORKER}:backup"
    verify: tuple[str, ...] = ("-m", "pynetwork", "verify")
    folder: Path | None = None
    say: Callable[[str], None] = lambda _text: None
    find: Callable[[str], None] = lambda _text: None
