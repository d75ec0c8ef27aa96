"""Tests of the asyncio driver, beside what tests/conformance asks of both drivers."""

from __future__ import annotations
