"""What fuzzing found: inputs for which a target raised, kept as files that can be tried again."""

from __future__ import annotations

import hashlib
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SLOW", "Finding", "keep", "tried"]

SLOW = 2.0
"""Seconds of processor time after which an input counts as a finding: it could hold a gateway up."""


@dataclass(frozen=True)
class Finding:
    """An input, and what it led to; ``place`` tells one fault from another."""

    data: bytes
    place: str
    trace: str


def tried(target: Callable[[bytes], None], data: bytes) -> Finding | None:
    """Give ``data`` to a target; None when all was well."""
    began = time.thread_time()
    try:
        target(data)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{type(error).__name__} at {Path(frames[-1].filename).name}:{frames[-1].lineno}"
        return Finding(data, place, traceback.format_exc())
    took = time.thread_time() - began
    return Finding(data, "slow", f"it took {took:.1f} s of processor time\n") if took > SLOW else None


def keep(finding: Finding, target: str, folder: Path) -> Path:
    """Write a finding's input and its trace into ``folder``; answers where the input is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{target}-{hashlib.sha256(finding.data).hexdigest()[:12]}.bin"
    path.write_bytes(finding.data)
    path.with_suffix(".txt").write_text(f"{finding.place}\n\n{finding.trace}", encoding="utf-8")
    return path
