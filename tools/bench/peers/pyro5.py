"""Pyro5: an object with exposed methods."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import Pyro5.api

from tools.bench.workloads.call import CallSides, Functions

__all__ = ["Call"]


class Call(CallSides):
    """With the serializer that its users take for speed, and without Nagle's algorithm."""

    def __init__(self) -> None:
        Pyro5.api.config.SERIALIZER = "msgpack"
        Pyro5.api.config.SOCK_NODELAY = True

    @contextlib.contextmanager
    def serve(self, functions: Functions) -> Iterator[str]:
        """A thread for each client."""
        exposed = Pyro5.api.expose(
            type("Functions", (), {name: staticmethod(each) for name, each in functions.items()})
        )
        with Pyro5.api.Daemon(host="127.0.0.1", port=0) as daemon:
            address = str(daemon.register(exposed()))
            thread = threading.Thread(target=daemon.requestLoop, daemon=True)
            thread.start()
            try:
                yield address
            finally:
                daemon.shutdown()
                thread.join()

    @contextlib.contextmanager
    def connect(self, address: str) -> Iterator[Callable[..., Any]]:
        """One proxy."""
        with Pyro5.api.Proxy(address) as proxy:
            yield lambda name, *arguments, **keywords: getattr(proxy, name)(*arguments, **keywords)
