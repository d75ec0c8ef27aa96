"""Move sensor data, calls and files between small machines and a laptop, over swarms of connections."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# For handshakes, which would import it from deeper in the stack: there, CPython 3.11 takes memory for frames and gives
# it back call by call, and numpy takes a fifth longer to import.
import numpy as _numpy  # noqa: F401

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
from pynetwork import backend2
from pynetwork._version import __version__
from pynetwork.backend2 import *  # noqa: F403
from pynetwork.backend2 import __all__ as _helpers_2x
from pynetwork.controller import Controller
from pynetwork.names2x import Client

# What 2.x called it, at various times.
backend = bk = backend2

# Scripts for 2.x that begin with ``from pynetwork import *`` lean on what 2.x had imported for itself.
_MODULES_2X = ("abc", "inspect", "json", "os", "platform", "re", "socket", "struct", "threading", "time", "warnings")
_CLASSES_2X = {"Enum": "enum", "Lock": "threading", "tqdm": "tqdm"}
# Not everybody needs these, and importing them takes a while.
_LATER = {
    "AsyncClient": "pynetwork.aio",
    "AsyncController": "pynetwork.aio",
    "AsyncSwarm": "pynetwork.aio",
    "Gateway": "pynetwork.gateway",
    "Swarm": "pynetwork.swarm",
    "TLS": "pynetwork.tls",
    "TransferReport": "pynetwork.files",
}

__all__ = [  # noqa: PLE0604 - the starred names are strings
    *_helpers_2x,
    *_MODULES_2X,
    *_CLASSES_2X,
    "TLS",
    "AsyncClient",
    "AsyncController",
    "AsyncSwarm",
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
    "backend",
    "backend2",
    "bk",
    "register",
]

if TYPE_CHECKING:
    from pynetwork.aio import AsyncClient, AsyncController, AsyncSwarm
    from pynetwork.files import TransferReport
    from pynetwork.gateway import Gateway
    from pynetwork.swarm import Swarm
    from pynetwork.tls import TLS
else:  # where it is no function for every name: a misspelt one would not be told from these

    def __getattr__(name: str) -> Any:
        """What is imported later, and what 2.x had imported for itself, once somebody asks for it."""
        if name in _MODULES_2X:
            return importlib.import_module(name)
        place = _LATER.get(name) or _CLASSES_2X.get(name)
        if place is not None:
            return getattr(importlib.import_module(place), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Its names, with those that nobody has asked for yet."""
    return sorted({*globals(), *__all__})
