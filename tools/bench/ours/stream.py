"""`Client.stream`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from pynetwork import Controller, Gateway
from tools.bench.workloads.streams import Source, StreamSides

__all__ = ["OurStream"]


class OurStream(StreamSides):
    """A gateway with a generator, and a client that iterates over its items."""

    @contextlib.contextmanager
    def serve(self, source: Source) -> Iterator[int]:
        """The source is subroutine "items"."""
        gateway = Gateway(0, host="127.0.0.1")
        gateway.add_subroutine("items", source)
        with gateway:
            yield gateway.port

    @contextlib.contextmanager
    def items(self, address: int) -> Iterator[Iterator[tuple[int, Any]]]:
        """`Client.stream`."""
        with Controller("127.0.0.1", address).get_client() as client, client.stream("items") as stream:
            yield iter(stream)
