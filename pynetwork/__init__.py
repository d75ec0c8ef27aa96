"""Move sensor data, calls and files between small machines and a laptop, over swarms of connections."""

from __future__ import annotations

from handshakes import (
    AuthenticationFailed,
    Busy,
    Closed,
    ConnectionLost,
    DeadlineExceeded,
    Forbidden,
    NotFound,
    PoolFull,
    PynetworkError,
    Refused,
    RemoteFault,
    Rights,
    register,
)
from pynetwork._version import __version__
from pynetwork.client import Client
from pynetwork.controller import Controller
from pynetwork.endpoints import TLS
from pynetwork.files import TransferReport
from pynetwork.gateway import Gateway
from pynetwork.swarm import Swarm

__all__ = [
    "TLS",
    "AuthenticationFailed",
    "Busy",
    "Client",
    "Closed",
    "ConnectionLost",
    "Controller",
    "DeadlineExceeded",
    "Forbidden",
    "Gateway",
    "NotFound",
    "PoolFull",
    "PynetworkError",
    "Refused",
    "RemoteFault",
    "Rights",
    "Swarm",
    "TransferReport",
    "__version__",
    "register",
]
