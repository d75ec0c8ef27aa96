from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from handshakes.errors import AuthenticationFailed
from pynetwork.cli.child import GatewayProcess
from pynetwork.cli.common import CommandFailed
from pynetwork.controller import Controller
from tests.waiting import wait_until

GATEWAY = """
import os
from pynetwork import Gateway
gateway = Gateway(0, key=os.environ["PYNETWORK_KEY"], host="127.0.0.1")
"""


def test_a_gateway_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "gate.py").write_text(GATEWAY)
    with GatewayProcess(tmp_path / "gate.py", "the key of this test") as gateway:
        with Controller("127.0.0.1", gateway.port, key="the key of this test").get_client() as client:
            assert client.ping() > 0
        with pytest.raises(AuthenticationFailed):
            Controller("127.0.0.1", gateway.port, key="some other key").get_client()
        assert "the key of this test" not in " ".join(psutil.Process(gateway.pid).cmdline())
        assert gateway.stop() == 0
        assert "has stopped" in gateway.last_words()
        assert "the key of this test" not in gateway.last_words()


def test_one_that_does_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "gate.py").write_text("1 / 0")
    with pytest.raises(CommandFailed, match="ZeroDivisionError"), GatewayProcess(tmp_path / "gate.py", "x"):
        pass


def test_one_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    (tmp_path / "gate.py").write_text("import time\ntime.sleep(60)")
    slow = GatewayProcess(tmp_path / "gate.py", "x", timeout=0.2)
    with pytest.raises(CommandFailed, match="did not come up within"), slow:
        pass


def test_one_that_was_killed_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "gate.py").write_text(GATEWAY)
    with GatewayProcess(tmp_path / "gate.py", "the key of this test") as gateway:
        psutil.Process(gateway.pid).kill()
        wait_until(lambda: psutil.Process(gateway.pid).status() == psutil.STATUS_ZOMBIE)
        assert gateway.stop() != 0
