"""Fixtures of these tests."""

from __future__ import annotations

import pytest

from tests.pynetwork.cli.commands import Commands


@pytest.fixture(autouse=True)
def no_key_in_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYNETWORK_KEY", raising=False)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(capsys)
