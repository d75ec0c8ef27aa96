"""The wire contract of pynetwork, without input or output: bytes in, events out; events in, bytes out."""

from __future__ import annotations

from handshakes.auth import derive_key
from handshakes.connection import Connection, Phase, Role
from handshakes.errors import *  # noqa: F403
from handshakes.errors import __all__ as _errors
from handshakes.messages import Message, Registry, Rights, register

__all__ = [  # noqa: PLE0604 - the starred names are strings, one list of them
    *_errors,
    "Connection",
    "Message",
    "Phase",
    "Registry",
    "Rights",
    "Role",
    "derive_key",
    "register",
]
