"""What a channel is told: where to connect, as whom, and with which limits."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Generic, TypeVar

from handshakes.auth import NONCE_SIZE, derive_key
from handshakes.connection import Connection, Role
from handshakes.errors import Closed, ConfigurationError
from pynetwork._version import __version__
from pynetwork.series.payloads import PayloadType

if TYPE_CHECKING:
    import ssl

    from pynetwork.tls import TLS

__all__ = ["MEMORY_LIMIT", "Options"]

MEMORY_LIMIT = 64 * 1024 * 1024
"""Bytes of records that an answer may hold in memory, unless told otherwise."""

T = TypeVar("T")


class Options(Generic[T]):
    """What a channel was told, checked. ``address`` is None for one that can't be connected by itself.

    ``batch_limit`` and ``answer_limit``: bytes of records that a batch of an answer may have, and one that is handed
    over whole.

    Raises `ConfigurationError` for options that can't be honoured.
    """

    def __init__(
        self,
        payload_type: PayloadType[T],
        timeout: float | None,
        memory_limit: int | None,
        address: tuple[str, int] | None = None,
        *,
        key: str | bytes | None = None,
        tls: TLS | ssl.SSLContext | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        if not isinstance(payload_type, PayloadType):
            raise ConfigurationError(f"payload_type={payload_type!r} must be a PayloadType, such as TuplePayloadType()")
        if timeout is not None and not timeout > 0:
            raise ConfigurationError(f"timeout={timeout!r} must be more than 0 seconds, or None to wait for ever")
        if memory_limit is not None and (not isinstance(memory_limit, int) or memory_limit < 1):
            raise ConfigurationError(f"memory_limit={memory_limit!r} must be a number of bytes, or None")
        if tls is not None and ssl_context is not None:
            raise ConfigurationError("tls= and ssl_context= say the same; give one of them")
        self.payload_type = payload_type
        self.timeout = timeout
        self.batch_limit = MEMORY_LIMIT if memory_limit is None else memory_limit
        self.answer_limit = sys.maxsize if memory_limit is None else memory_limit
        self._address = address if address is None else _address(*address)
        self._key = None if key is None else derive_key(key)
        self.tls = _tls(tls if ssl_context is None else ssl_context)

    @property
    def keyed(self) -> bool:
        """Whether a key is to be proved."""
        return self._key is not None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port. Raises `Closed` where there is none."""
        if self._address is None:
            raise Closed("this channel was a client's and has ended; take another from a client")
        return self._address

    def new_connection(self, certificate: bytes) -> Connection:
        """The state machine to `join` with a server that has this TLS certificate (its SHA-256, empty without TLS)."""
        return Connection(
            Role.CLIENT,
            nonce=os.urandom(NONCE_SIZE),
            key=self._key,
            certificate=certificate,
            agent=f"pynetwork {__version__}",
        )


def _address(host: str, port: int) -> tuple[str, int]:
    if not isinstance(host, str):
        raise ConfigurationError(f"host={host!r} must be a name or an address; the port comes second")
    if not isinstance(port, int) or not 0 < port <= 65535:
        raise ConfigurationError(f"{port!r} is no port: ports are numbers from 1 to 65535")
    return host, port


def _tls(tls: TLS | ssl.SSLContext | None) -> TLS | ssl.SSLContext | None:
    if tls is None:
        return None
    # Only now, as it takes a while.
    from pynetwork.tls import for_controller  # noqa: PLC0415

    return for_controller(tls)
