"""The wire contract of pynetwork, without any input or output of its own: bytes in, events out; events in, bytes out."""

from __future__ import annotations

from handshakes.auth import derive_key
from handshakes.connection import Connection, Phase, Role
from handshakes.errors import *  # noqa: F403
from handshakes.errors import __all__ as _errors
from handshakes.messages import Message, Registry, Rights, register

__all__ = [
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
