"""`Client.call`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pynetwork import Controller, Gateway
from tools.bench.workloads.call import CallSides

__all__ = ["OurCall"]


class OurCall(CallSides):
    """A gateway with subroutines, and a client that calls them."""

    @contextlib.contextmanager
    def serve(self, functions: Mapping[str, Callable[..., Any]]) -> Iterator[int]:
        """The functions as subroutines."""
        gateway = Gateway(0, host="127.0.0.1")
        for name, function in functions.items():
            gateway.add_subroutine(name, function)
        with gateway:
            yield gateway.port

    @contextlib.contextmanager
    def connect(self, address: int) -> Iterator[Callable[..., Any]]:
        """One client."""
        with Controller("127.0.0.1", address).get_client() as client:
            yield client.call
