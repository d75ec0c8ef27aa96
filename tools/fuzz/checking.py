"""What must hold for whatever was read."""

from __future__ import annotations

__all__ = ["Wrong", "check"]


class Wrong(AssertionError):
    """Something that must hold does not."""


def check(holds: bool, what: str) -> None:
    """Raise `Wrong`, saying ``what``, unless it holds."""
    if not holds:
        raise Wrong(what)
