"""`Swarm.download`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from handshakes.paths import partial_name
from pynetwork import Controller, Gateway
from tools.bench.raw.sockets import Address
from tools.bench.workloads.files import Fetch, FileSides

__all__ = ["OurFiles"]


class OurFiles(FileSides):
    """A gateway that shares a folder, and a swarm that downloads it; every digest is made and checked."""

    @contextlib.contextmanager
    def serve(self, source: Path, host: str) -> Iterator[Address]:
        """The folder is shared as "source"."""
        with Gateway(0, host=host, max_poolsize=16, share={"source": source}) as gateway:
            yield host, gateway.port

    @contextlib.contextmanager
    def session(self, address: Address, connections: int) -> Iterator[Fetch]:
        """A lane for each connection."""
        with Controller(*address).get_swarm(connections) as swarm:

            def fetch(target: Path) -> None:
                report = swarm.download("source", to=target, progress=False)
                if report.skipped:
                    raise ValueError(f"skipped: {report.skipped}")

            yield fetch

    def adopt(self, target: Path) -> None:
        """A download writes to a partial file and renames it; one that was left behind is taken over and
        written over.
        """
        for path in list(target.iterdir()):
            path.rename(path.with_name(partial_name(path.name)))
