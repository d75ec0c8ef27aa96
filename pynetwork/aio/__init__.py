"""The caller's side for event loops: the same operations as coroutines and async iterators.

No thread stands behind them for the network, except while the name of a host is looked up; both drivers join the same
`handshakes.Connection`.
"""

from __future__ import annotations

from pynetwork.aio.client import AsyncClient
from pynetwork.aio.controller import AsyncController
from pynetwork.aio.swarm import AsyncSwarm

__all__ = ["AsyncClient", "AsyncController", "AsyncSwarm"]
