"""A series store on a port of its own.

Without ``key`` it speaks bare TStorage from the first byte, so that TStorage's own clients work. With ``key`` a
connection begins as with a gateway, and is given over to TStorage by the verb "series".
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from handshakes.auth import NONCE_SIZE
from handshakes.connection import Connection, Role
from handshakes.errors import ConfigurationError, LocalProtocolError
from handshakes.messages import Rights
from pynetwork._version import __version__
from pynetwork.admission import Admission, Keys, granted
from pynetwork.endpoints import addresses_for, listen
from pynetwork.handler import Pool
from pynetwork.series.attendant import Attendant
from pynetwork.series.memory import Budget
from pynetwork.series.session import BOTH, Ledger, serve_pair
from pynetwork.service import ServedOperation, Verb

if TYPE_CHECKING:
    import ssl

    from pynetwork.series.store import SeriesStore
    from pynetwork.tls import TLS, GatewayTLS

__all__ = ["SeriesServer"]

logger = logging.getLogger("pynetwork.series")

LEAST_MEMORY = 16 * 1024 * 1024
_DRAIN = 0.3


class SeriesServer:
    """Serves ``store`` to TStorage's clients, its own as well as `Channel`.

    - ``host``: an address, or None for all of them; without ``key`` and ``tls`` it is the loopback only.
    - ``port``: 0 takes any that is free; ``server.port`` tells which, once started.
    - ``tls``: a `TLS` or an `ssl.SSLContext` for servers.
    - ``key``: a key that callers must prove to know, or several, each with its rights: ``{"k1": "read"}``. To get
      records takes the right ``read``, to put some the right ``write``. With a key, a connection begins with
      pynetwork's handshake, which TStorage's own clients do not know.
    - ``max_connections``: how many are served at a time.
    - ``memory``: bytes that all requests may hold together, at least 16 MiB.

    Raises `ConfigurationError` for options that contradict each other. Use it as a context manager, or call ``start``
    and ``stop``. A server starts once. The store stays yours: close it after the server.
    """

    def __init__(
        self,
        store: SeriesStore,
        host: str | None = None,
        port: int = 0,
        *,
        tls: TLS | ssl.SSLContext | None = None,
        key: Keys | None = None,
        max_connections: int = 256,
        memory: int = 48 * 1024 * 1024,
        name: str = "series",
    ) -> None:
        if max_connections < 1:
            raise ConfigurationError(f"max_connections={max_connections} would serve nobody; it must be at least 1")
        if memory < LEAST_MEMORY:
            raise ConfigurationError(f"memory={memory} is too little: give at least {LEAST_MEMORY} bytes")
        if not isinstance(port, int) or not 0 <= port <= 65535:
            raise ConfigurationError(f"{port!r} is no port: ports are numbers to 65535, 0 for any that is free")
        self.name = name
        self.max_connections = max_connections
        self._store = store
        self._keys = granted(key, BOTH)
        self._tls = None if tls is None else _secured(tls)
        self._hosts = addresses_for(host, protected=bool(self._keys) or tls is not None)
        self._wanted_port = port
        self._port: int | None = None
        self._budget = Budget(memory, max_connections)
        self._ledger = Ledger()
        self._door: Attendant | _KeyedDoor | None = None
        self._process: int | None = None
        self._began = time.monotonic()
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        """The port it listens on. Before ``start``, the one it was given."""
        return self._wanted_port if self._port is None else self._port

    def start(self) -> SeriesServer:
        """Listen and serve. Raises `ConfigurationError` when the port can't be had."""
        if self._door is not None:
            raise LocalProtocolError("this server was started before; make a new one")
        listeners = listen(self._hosts, self._wanted_port)
        self._process = os.getpid()
        self._port = listeners[0].getsockname()[1]
        self._door = self._open(listeners)
        self._door.start()
        reach = "" if self._keys or self._tls else " (this machine only: give key= or tls= to be reachable from others)"
        logger.info("%r listens on %s port %d%s", self.name, ", ".join(self._hosts), self._port, reach)
        return self

    def _open(self, listeners: list[socket.socket]) -> Attendant | _KeyedDoor:
        if self._keys:
            return _KeyedDoor(
                listeners,
                lambda operation: serve_pair(operation, self._store, self._budget, self._ledger),
                name=self.name,
                tls=self._tls,
                keys=self._keys,
                max_connections=self.max_connections,
            )
        return Attendant(
            listeners,
            self._store,
            self._budget,
            self._ledger,
            name=self.name,
            tls=self._tls,
            max_connections=self.max_connections,
        )

    def stop(self) -> None:
        """Accept nobody more, end idle connections, and the others after a moment: within a second.

        When it returns the port is free. Stopping twice is fine. In a forked child this does nothing: the server is
        the parent's.
        """
        if self._process != os.getpid() or self._door is None:
            return
        with self._lock:
            if self._door.stop(_DRAIN):
                logger.info("%r has stopped", self.name)
            self._budget.close()

    def __enter__(self) -> SeriesServer:
        return self.start() if self._door is None else self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def stats(self) -> dict[str, Any]:
        """Figures since the start, as JSON values; sizes are in bytes."""
        total = self._ledger.total()
        return {
            "name": self.name,
            "version": __version__,
            "seconds": time.monotonic() - self._began,
            "port": self.port,
            "connections": 0 if self._door is None else self._door.connections,
            "max_connections": self.max_connections,
            "requests": total.requests,
            "failures": total.failures,
            "records_put": total.records_put,
            "records_got": total.records_got,
            "memory_in_use": self._budget.in_use,
        }


class _KeyedDoor:
    """The doorway and the handlers of a server that has keys; ``serve`` is given the pairs of those who know one."""

    def __init__(
        self,
        listeners: list[socket.socket],
        serve: Callable[[ServedOperation], None],
        *,
        name: str,
        tls: GatewayTLS | None,
        keys: dict[bytes, Rights],
        max_connections: int,
    ) -> None:
        verbs = {
            "ping": Verb(lambda _operation, message: message),
            "series": Verb(serve, BOTH, bulk=True, takes_over=True),
        }
        self._keys = keys
        self._agent = f"pynetwork {__version__} {name}"
        self._certificate = tls.certificate if tls else b""
        self._pool = Pool(max_connections, verbs, name)
        self._admission = Admission(listeners, self._make_connection, self._pool.serve, name=name, tls=tls)
        self._stopped = False

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._pool.handlers())

    def start(self) -> None:
        """Begin to accept."""
        self._admission.start()

    def stop(self, drain: float) -> bool:
        """As `Attendant.stop`."""
        if self._stopped:
            return False
        self._stopped = True
        self._admission.stop()
        self._pool.stop(drain)
        return True

    def _make_connection(self) -> Connection:
        return Connection(
            Role.GATEWAY,
            nonce=os.urandom(NONCE_SIZE),
            keys=self._keys,
            certificate=self._certificate,
            agent=self._agent,
        )


def _secured(tls: TLS | ssl.SSLContext) -> GatewayTLS:
    # Only now, as it takes a while.
    from pynetwork.tls import GatewayTLS  # noqa: PLC0415

    return GatewayTLS(tls)
