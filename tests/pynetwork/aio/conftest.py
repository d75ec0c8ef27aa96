"""Fixtures of these tests."""

from __future__ import annotations

import pytest

from pynetwork.aio import lanes
from tests.certificates import certificates

__all__ = ["certificates", "impatient"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane that can't be replaced is given up soon."""
    monkeypatch.setattr(lanes, "REDIALS", 1)
