"""Move sensor data, calls and files between small machines and a laptop, over swarms of connections."""

from __future__ import annotations

from handshakes import (
    AuthenticationFailed,
    BadRequest,
    Busy,
    Closed,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    Forbidden,
    ItemFailed,
    LocalProtocolError,
    NotFound,
    PoolFull,
    PynetworkError,
    Refused,
    RemoteFault,
    RemoteProtocolError,
    Rights,
    UnsafePath,
    ValueNotSupported,
    VersionMismatch,
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
    "BadRequest",
    "Busy",
    "Client",
    "Closed",
    "ConfigurationError",
    "ConnectionLost",
    "Controller",
    "DeadlineExceeded",
    "Forbidden",
    "Gateway",
    "ItemFailed",
    "LocalProtocolError",
    "NotFound",
    "PoolFull",
    "PynetworkError",
    "Refused",
    "RemoteFault",
    "RemoteProtocolError",
    "Rights",
    "Swarm",
    "TransferReport",
    "UnsafePath",
    "ValueNotSupported",
    "VersionMismatch",
    "__version__",
    "register",
]
