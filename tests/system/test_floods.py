"""A thousand connections that are no callers: real ones are served throughout, and nothing of the others stays."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pynetwork.admission import MOST_WAITING
from pynetwork.controller import Controller
from pynetwork.tls import TLS
from tests.certificates import Certificates
from tests.serving import KEY, PATIENCE
from tests.system.flood import flooding
from tests.system.processes import running
from tests.waiting import wait_until
from tools.proxy import Proxy, Weather

pytestmark = pytest.mark.system

COUNT = 1000
VISITS = 25
MOST_MEMORY = 24 << 20

GATEWAY = """
import logging, sys
from pynetwork import Gateway, TLS

share, key, certificate, private_key, descriptors = sys.argv[1:]
if descriptors:
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(descriptors),) * 2)
logging.basicConfig(stream=sys.stderr, level=logging.ERROR)
tls = TLS(certificate=certificate, private_key=private_key) if certificate else None
gateway = Gateway(0, key=key or None, tls=tls, max_poolsize=4, share={"data": share}, download_dir=share)
gateway.add_subroutine("add", lambda first, second=1: first + second)
gateway.start()
print(gateway.port, flush=True)
gateway.wait()
"""


class Flooded:
    """A gateway in a process of its own, and how it was before the flood."""

    def __init__(self, process: subprocess.Popen[str], port: int, tls: TLS | None) -> None:
        self.port = port
        self.controller = Controller(port=port, key=KEY, tls=tls, timeout=PATIENCE)
        self._process = psutil.Process(process.pid)
        self.serves()
        self._memory, self._descriptors = self._process.memory_info().rss, self._process.num_fds()
        self.most_memory = self.most_descriptors = 0

    def serves(self) -> None:
        with self.controller.get_client(wait=PATIENCE) as client:
            assert client.call("add", 41) == 42

    def watch(self) -> None:
        self.most_memory = max(self.most_memory, self._process.memory_info().rss - self._memory)
        self.most_descriptors = max(self.most_descriptors, self._process.num_fds() - self._descriptors)

    def recovers(self) -> None:
        wait_until(lambda: self._process.num_fds() <= self._descriptors, PATIENCE, "all descriptors given back")
        with self.controller.get_client() as client:
            assert client.stats()["waiting"] == 0
        assert self.most_memory < MOST_MEMORY
        assert self._process.memory_info().rss - self._memory < MOST_MEMORY


@contextlib.contextmanager
def flooded(share: Path, certificates: Certificates | None = None, descriptors: int | None = None) -> Iterator[Flooded]:
    pair = (certificates.server, certificates.server_key) if certificates else ("", "")
    with running(GATEWAY, share, KEY, *pair, descriptors or "") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield Flooded(process, int(line), certificates.controller if certificates else None)


@pytest.mark.parametrize("kind", ["silent", "half", "drops", "greeting"])
def test_real_callers_are_served_in_a_flood(tmp_path: Path, kind: str) -> None:
    with flooded(tmp_path) as gateway:
        with flooding(gateway.port, kind, COUNT):
            for _ in range(VISITS):
                gateway.serves()
                gateway.watch()
        assert 0 < gateway.most_descriptors <= MOST_WAITING + 8
        gateway.recovers()


@pytest.mark.parametrize("kind", ["silent", "half"])
def test_a_flood_before_tls(tmp_path: Path, certificates: Certificates, kind: str) -> None:
    with flooded(tmp_path, certificates) as gateway:
        with flooding(gateway.port, kind, COUNT):
            for _ in range(VISITS):
                gateway.serves()
                gateway.watch()
        gateway.recovers()


@pytest.mark.parametrize("kind", ["silent", "half", "drops"])
def test_a_caller_from_far_away_gets_in(tmp_path: Path, kind: str) -> None:
    """Its handshake takes longer than a silent one of the crowd may stay."""
    with flooded(tmp_path) as gateway, Proxy(gateway.port, Weather(latency=0.15)) as far:
        distant = Controller(port=far.port, key=KEY, timeout=PATIENCE)
        with flooding(gateway.port, kind, COUNT), distant.get_client() as client:
            assert client.call("add", 1) == 2


def test_descriptors_are_left_for_handlers(tmp_path: Path) -> None:
    """A gateway that may open few files still moves files in a flood."""
    for number in range(20):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{number}.bin").write_bytes(bytes(number * 1000))
    with flooded(tmp_path / "data", descriptors=64) as gateway:
        with flooding(gateway.port, "silent", COUNT), gateway.controller.get_swarm(2) as swarm:
            report = swarm.download("data", to=tmp_path / "copy", progress=False)
            assert (report.files, report.skipped) == (20, [])
        gateway.recovers()
