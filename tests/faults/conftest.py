"""Fixtures of these tests."""

from __future__ import annotations

from tests.certificates import certificates

__all__ = ["certificates"]
