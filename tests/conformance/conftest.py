"""Fixtures of these tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pynetwork import lanes
from pynetwork.aio import lanes as async_lanes
from tests.certificates import Certificates, certificates
from tests.conformance.channels import channels
from tests.conformance.drivers import NAMES, Driver

__all__ = ["certificates", "channels", "driver", "impatient"]


@pytest.fixture(params=NAMES)
def driver(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Driver]:
    """Each driver over each kind of stream."""
    made = Driver(request.param, certificates)
    yield made
    made.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane that can't be replaced is given up soon."""
    for module in (lanes, async_lanes):
        monkeypatch.setattr(module, "REDIALS", 1)
