"""A reader that stops on a fast stream costs its gateway nothing. PYNETWORK_LONG=1 makes the test last 30 s."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest

from pynetwork.controller import Controller
from tests.system.processes import gateway_process
from tests.waiting import wait_until

pytestmark = pytest.mark.system
SECONDS = 30.0 if os.environ.get("PYNETWORK_LONG") else 2.0
MOST = 20 << 20


@pytest.mark.timeout(SECONDS + 90)
@pytest.mark.parametrize("size", [64, 100_000])
def test_memory_of_the_gateway_stays_flat(tmp_path: Path, size: int) -> None:
    with gateway_process(tmp_path) as (process, port), Controller(port=port).get_client() as client:
        watched = psutil.Process(process.pid)
        before = watched.memory_info().rss
        stream = client.stream("fast", size)
        first = next(stream)
        end = time.monotonic() + SECONDS

        def over() -> bool:
            grown = watched.memory_info().rss - before
            assert grown < MOST, f"{grown >> 20} MiB more, {end - time.monotonic():.1f} s before the end"
            return time.monotonic() >= end

        wait_until(over, SECONDS + 60)
        # It was waiting, not gone: everything that was on its way arrives, and in order.
        assert first[0] == 0
        for expected in range(1, 100_000 if size == 64 else 500):
            assert next(stream)[0] == expected
        assert watched.memory_info().rss - before < MOST
        stream.close()
        wait_until((tmp_path / "finally").exists)
