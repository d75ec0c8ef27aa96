"""Pairs that do nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from pynetwork import Controller, Gateway
from tools.bench.workloads.memory import IdleSides

__all__ = ["OurIdle"]


class OurIdle(IdleSides):
    """A handler at the gateway, a client at the controller."""

    @contextlib.contextmanager
    def serve(self, most: int) -> Iterator[int]:
        """A pool of that size."""
        with Gateway(0, host="127.0.0.1", max_poolsize=most) as gateway:
            yield gateway.port

    def connect(self, address: int) -> Callable[[], AbstractContextManager[Any]]:
        """A client a call."""
        return Controller("127.0.0.1", address).get_client
