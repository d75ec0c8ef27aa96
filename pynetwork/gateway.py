"""The server on the device: listens, proves callers, and gives each a handler of its pool."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from handshakes.auth import NONCE_SIZE
from handshakes.connection import LIMIT, Connection, Role
from handshakes.errors import ConfigurationError, LocalProtocolError
from handshakes.messages import Registry, Rights
from handshakes.messages import registry as default_registry
from pynetwork._version import __version__
from pynetwork.admission import Admission, Keys, granted
from pynetwork.endpoints import addresses_for, listen
from pynetwork.files.sharing import FileService
from pynetwork.handler import Pool
from pynetwork.names2x import gateway_arguments
from pynetwork.service import Recording, ServedOperation, Service, Verb
from pynetwork.subroutines import SubroutineService

if TYPE_CHECKING:
    import ssl

    from pynetwork.tls import TLS, GatewayTLS

__all__ = ["Gateway"]

logger = logging.getLogger("pynetwork.gateway")

Function = TypeVar("Function", bound=Callable[..., Any])


class Gateway:
    """Serves subroutines and shared folders to controllers.

    - ``port``: 0 takes any that is free; ``gateway.port`` tells which, once started.
    - ``host``: an address, or None for all of them; without ``key`` and ``tls`` it is the loopback only.
    - ``max_poolsize``: how many pairs are served at a time.
    - ``download_dir``: the folder below which callers' uploads go.
    - ``share``: folders that callers may read, by name, or a list of folders that are shared under their own paths.
    - ``key``: a key that callers must prove to know, or several, each with its rights: ``{"k1": "call, stream"}``.
    - ``tls``: a `TLS` or an `ssl.SSLContext` for servers.
    - ``rights``: what callers may do where ``key`` does not say it; stopping the gateway is not among the default.
    - ``limit``: the largest message accepted, in bytes.

    Raises `ConfigurationError` for options that contradict each other. Use it as a context manager, or call ``start``
    and ``stop``. A gateway starts once.
    """

    def __init__(
        self,
        port: int = 1857,
        host: str | None = None,
        max_poolsize: int = 5,
        download_dir: str | os.PathLike[str] = "Downloads",
        share: Mapping[str, str | os.PathLike[str]] | Sequence[str | os.PathLike[str]] | None = None,
        key: Keys | None = None,
        tls: TLS | ssl.SSLContext | None = None,
        name: str | None = None,
        *,
        rights: Rights | str = Rights.DEFAULT,
        limit: int = LIMIT,
        registry: Registry = default_registry,
    ) -> None:
        host, max_poolsize, download_dir = gateway_arguments(host, max_poolsize, download_dir)
        if max_poolsize < 1:
            raise ConfigurationError(f"max_poolsize={max_poolsize} would serve nobody; it must be at least 1")
        if not isinstance(port, int) or not 0 <= port <= 65535:
            raise ConfigurationError(f"{port!r} is no port: ports are numbers to 65535, 0 for any that is free")
        self.name = name or socket.gethostname()
        self.max_poolsize = max_poolsize
        self.download_dir = Path(download_dir)
        self._rights = Rights.of(rights)
        self._keys = granted(key, self._rights)
        self._tls = None if tls is None else _secured(tls)
        self._hosts = addresses_for(host, protected=bool(self._keys) or tls is not None)
        self._wanted_port = port
        self._limit = limit
        self._registry = registry
        self._verbs: dict[str, Verb] = {
            "ping": Verb(lambda _operation, message: message),
            "stats": Verb(lambda _operation: self.stats(), Rights.STATS),
            "stop": Verb(self._stop_from_afar, Rights.STOP),
        }
        self._services: dict[str, Service] = {}
        self._subroutines = SubroutineService()
        self.add_service("subroutines", self._subroutines)
        self.add_service("files", FileService(_shares(share), self.download_dir))
        self._pool = Pool(max_poolsize, self._verbs, self.name)
        self._admission: Admission | None = None
        self._port: int | None = None
        self._process: int | None = None
        self._began = time.monotonic()
        self._stopped = threading.Event()
        self._stop_asked = threading.Event()
        self._stop_lock = threading.Lock()

    # What it offers

    def add_subroutine(
        self, name: str, function: Callable[..., Any], *, series: object = None, payload: object = None
    ) -> None:
        """Offer ``function`` under ``name``; a generator function is a stream. Allowed while the gateway runs.

        With ``series``, a `SeriesKey`, what it yields or returns is also stored by the service that was mounted for
        that, with its time of capture; ``payload`` is a `PayloadType` for the items, by default the first item's.
        Raises `ConfigurationError` where no service can do it.
        """
        if series is not None:
            function = self._recording_service().recorded(function, series, payload)
        elif payload is not None:
            raise ConfigurationError("payload= says how items are stored in a series: give series= too")
        self._subroutines.add(name, function)

    def _recording_service(self) -> Recording:
        for service in self._services.values():
            if isinstance(service, Recording):
                return service
        raise ConfigurationError(
            'series= needs a store to record into; before this, call gateway.add_service("series", '
            "SeriesService(SeriesStore(PATH)))"
        )

    def remove_subroutine(self, name: str) -> None:
        """Offer it no longer; what runs goes on. Raises `NotFound`."""
        self._subroutines.remove(name)

    @overload
    def subroutine(self, name: Function) -> Function: ...
    @overload
    def subroutine(
        self, name: str | None = None, *, series: object = None, payload: object = None
    ) -> Callable[[Function], Function]: ...
    def subroutine(self, name: Any = None, *, series: object = None, payload: object = None) -> Any:
        """Decorator: ``@gateway.subroutine`` or ``@gateway.subroutine("name")``, with the options of
        ``add_subroutine``.
        """
        if callable(name):
            self.add_subroutine(name.__name__, name)
            return name

        def register(function: Function) -> Function:
            self.add_subroutine(name or function.__name__, function, series=series, payload=payload)
            return function

        return register

    def add_service(self, name: str, service: Service) -> None:
        """Mount a service: its verbs are answered from now on. Raises `ConfigurationError` for a verb that is taken."""
        verbs = service.verbs
        taken = sorted(set(verbs) & set(self._verbs))
        if taken:
            raise ConfigurationError(f"service {name!r} brings {taken[0]!r}, which this gateway answers already")
        self._services[name] = service
        self._verbs.update(verbs)

    # Its life

    @property
    def port(self) -> int:
        """The port it listens on. Before ``start``, the one it was given."""
        return self._wanted_port if self._port is None else self._port

    def start(self, blocking: bool = False) -> Gateway:
        """Listen and serve. With ``blocking``, return when the gateway has stopped: by ``stop``, Ctrl-C or SIGTERM.

        Raises `ConfigurationError` when the port can't be had.
        """
        # Only now, as it takes a while; the load of the machine counts from here.
        from pynetwork import machine  # noqa: F401, PLC0415

        if self._admission is not None:
            raise LocalProtocolError("this gateway was started before; make a new one")
        listeners = listen(self._hosts, self._wanted_port)
        self._process = os.getpid()
        self._port = listeners[0].getsockname()[1]
        self._admission = Admission(
            listeners,
            self._make_connection,
            self._pool.serve,
            name=self.name,
            tls=self._tls,
        )
        self._admission.start()
        reach = "" if self._keys or self._tls else " (this machine only: give key= or tls= to be reachable from others)"
        logger.info("gateway %r listens on %s port %d%s", self.name, ", ".join(self._hosts), self._port, reach)
        if blocking:
            self.wait()
        return self

    def stop(self, drain: float = 5.0) -> None:
        """Accept nobody more, let running operations end for ``drain`` seconds, then end every pair.

        When it returns the port is free. A subroutine that is blocked then keeps its thread until it returns; its
        caller has seen a `ConnectionLost`. Stopping twice is fine. In a forked child this does nothing: the gateway is
        the parent's.
        """
        if self._process not in (None, os.getpid()):
            return
        with self._stop_lock:
            if not self._stopped.is_set():
                if self._admission is not None:
                    self._admission.stop()
                self._pool.stop(drain)
                for service in self._services.values():
                    service.close()
                if self._admission is not None:
                    logger.info("gateway %r has stopped", self.name)
            self._stopped.set()
            self._stop_asked.set()

    def __enter__(self) -> Gateway:
        return self.start() if self._admission is None else self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def wait(self) -> None:
        """Return when the gateway has stopped: by ``stop``, Ctrl-C or SIGTERM."""
        if self._process not in (None, os.getpid()):
            raise LocalProtocolError(f"this gateway runs in process {self._process}, of which this is a fork")
        if self._admission is None:
            raise LocalProtocolError("this gateway was not started; start(blocking=True) starts it and waits")
        # Not the event itself: setting that while this very thread is about to wait for it would block for good.
        terminated: list[bool] = []
        with _on_sigterm(lambda: terminated.append(True)):
            try:
                # In slices, as some systems do not wake a waiting main thread for a signal.
                while not terminated and not self._stop_asked.wait(0.1):
                    pass
            except KeyboardInterrupt:
                pass
            finally:
                self.stop(drain=0.3)

    def _stop_from_afar(self, operation: ServedOperation) -> bool:
        logger.info("%s asked this gateway to stop", operation.peer)
        threading.Thread(target=self.stop, args=(1.0,), name=f"{self.name} stop", daemon=True).start()
        return True

    def _make_connection(self) -> Connection:
        return Connection(
            Role.GATEWAY,
            nonce=os.urandom(NONCE_SIZE),
            keys=self._keys,
            rights=self._rights,
            limit=self._limit,
            certificate=self._tls.certificate if self._tls else b"",
            agent=f"pynetwork {__version__} {self.name}",
            registry=self._registry,
        )

    # What it knows of itself

    def stats(self) -> dict[str, Any]:
        """Figures of the gateway (since its start) and of its machine, as JSON values. Sizes are in bytes."""
        total = self._pool.counters()
        from pynetwork import machine  # noqa: PLC0415 - see start

        handlers = [handler.describe() for handler in self._pool.handlers()]
        return {
            "name": self.name,
            "version": __version__,
            "seconds": time.monotonic() - self._began,
            "max_poolsize": self.max_poolsize,
            "handlers": handlers,
            "waiting": self._admission.waiting if self._admission else 0,
            "connections": total.connections,
            "operations": total.operations,
            "errors": total.errors,
            "received": total.received,
            "sent": total.sent,
            "process": machine.process_figures(),
            "machine": machine.machine_figures(),
        }


def _secured(tls: TLS | ssl.SSLContext) -> GatewayTLS:
    # Only now, as it takes a while.
    from pynetwork.tls import GatewayTLS  # noqa: PLC0415

    return GatewayTLS(tls)


def _shares(
    share: Mapping[str, str | os.PathLike[str]] | Sequence[str | os.PathLike[str]] | None,
) -> dict[str, Path]:
    if share is None:
        return {}
    if isinstance(share, (str, bytes, os.PathLike)):
        raise ConfigurationError(f"share={share!r} must be a mapping of names to folders, or a list of folders")
    if isinstance(share, Mapping):
        return {name: Path(folder) for name, folder in share.items()}
    return {os.fspath(folder): Path(folder) for folder in share}


@contextlib.contextmanager
def _on_sigterm(action: Callable[[], None]) -> Iterator[None]:
    """Run ``action`` at SIGTERM, where this thread may ask for that."""
    try:
        before = signal.signal(signal.SIGTERM, lambda _number, _frame: action())
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
