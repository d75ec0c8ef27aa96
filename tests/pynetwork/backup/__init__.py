"""Tests of backups."""

from __future__ import annotations
