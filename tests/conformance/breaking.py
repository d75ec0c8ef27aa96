"""Breaking connections from the gateway's side, as a cable that is pulled would."""

from __future__ import annotations

import threading

from pynetwork.gateway import Gateway

__all__ = ["break_mine"]


def break_mine(gateway: Gateway) -> None:
    """End the connection of the handler on whose thread this is called."""
    name = threading.current_thread().name
    (mine,) = [each for each in gateway._pool.handlers() if each.thread.name == name]
    mine.link.stream.shutdown()
