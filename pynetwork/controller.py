"""The caller's side: knows one gateway's address and credentials, and dials clients."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from handshakes.auth import NONCE_SIZE, derive_key
from handshakes.connection import LIMIT, Connection, Role
from handshakes.errors import ConfigurationError, ConnectionLost, PoolFull, RemoteProtocolError
from handshakes.messages import Registry, Welcome
from handshakes.messages import registry as default_registry
from pynetwork._version import __version__
from pynetwork.endpoints import connect
from pynetwork.link import Link
from pynetwork.names2x import Client, ControllerNames, controller_arguments
from pynetwork.transport import Deadline, Stream, backoff

if TYPE_CHECKING:
    import ssl
    import threading

    from pynetwork.backup import BackupReport, PruneReport, RestoreReport
    from pynetwork.files.progress import Progress
    from pynetwork.swarm import Swarm
    from pynetwork.tls import TLS

__all__ = ["Controller"]


class Controller(ControllerNames):
    """Dials the gateway at ``host``:``port``.

    - ``download_dir``: where downloads go unless told otherwise.
    - ``key``: the key to prove; the gateway must prove that it knows it too.
    - ``tls``: a `TLS` or an `ssl.SSLContext` for clients.
    - ``timeout``: seconds that connecting may take, and each call of the clients unless told otherwise.
    - ``verbose``: say on stderr what happens.
    - ``limit``: the largest message accepted, in bytes.
    - ``gateway_ip``: the name of ``host`` in 2.x.

    It holds no connection itself, and may be used from many threads.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 1857,
        download_dir: str | os.PathLike[str] = "Downloads",
        key: str | bytes | None = None,
        tls: TLS | ssl.SSLContext | None = None,
        timeout: float | None = 10.0,
        verbose: bool = False,
        *,
        limit: int = LIMIT,
        registry: Registry = default_registry,
        gateway_ip: str | None = None,
    ) -> None:
        host, key, verbose = controller_arguments(host, gateway_ip, key, verbose)
        if not isinstance(host, str):
            raise ConfigurationError(f"host={host!r} must be a name or an address; the port comes second")
        if not isinstance(port, int) or not 0 < port <= 65535:
            raise ConfigurationError(f"{port!r} is no port: ports are numbers from 1 to 65535")
        if tls is not None:
            # Only now, as it takes a while.
            from pynetwork.tls import for_controller  # noqa: PLC0415

            tls = for_controller(tls)
        self.host = host
        self.port = port
        self.download_dir = Path(download_dir or "Downloads")
        self.timeout = timeout
        self.verbose = verbose
        self._key = None if key is None else derive_key(key)
        self.tls = tls
        self._limit = limit
        self._registry = registry

    def get_client(self, wait: float | None = None) -> Client:
        """A new pair.

        Raises `PoolFull` when every handler of the gateway is taken, with ``wait`` only after trying for so many
        seconds; `AuthenticationFailed`, `ConnectionLost` or `DeadlineExceeded` when there is no gateway to be had.
        """
        deadline = Deadline(wait or 0)
        pauses = backoff()
        while True:
            try:
                return self._dial()
            except PoolFull:
                remaining = deadline.remaining() or 0
                if not remaining:
                    raise
                time.sleep(min(next(pauses), remaining))

    def get_swarm(self, count: int, wait: float | None = None) -> Swarm:
        """``count`` pairs, dialled in parallel; all or none. Raises as ``get_client``."""
        # Only now, as it takes a while.
        from pynetwork.swarm import Swarm  # noqa: PLC0415

        return Swarm(lambda: self.get_client(wait), count, self.download_dir)

    def backup(
        self,
        share: str,
        to: str | os.PathLike[str],
        *,
        pattern: str | None = None,
        glob: str | None = None,
        min_size: int | None = None,
        max_size: int | None = None,
        changed_within: float | None = None,
        changed_before: float | None = None,
        checksum: bool = False,
        lanes: int | None = None,
        limit: float | None = None,
        low_priority: bool | None = None,
        compress: bool | None = None,
        mirror_deletes: bool = False,
        owner: bool = False,
        durable: bool = True,
        follow: bool = False,
        stop: threading.Event | None = None,
        progress: bool | Progress | None = None,
    ) -> BackupReport:
        """Mirror the shared folder ``share`` into the folder ``to``, which is made if need be; only what is not there
        yet is moved. After an interruption of any kind, call it again.

        - ``pattern``, ``glob``: only files whose path in the share matches this regular expression or shell pattern as
          a whole; ``min_size``, ``max_size`` in bytes; ``changed_within``, ``changed_before``: seconds ago.
        - ``checksum``: compare the content of files that look unchanged, too.
        - ``lanes``: connections; None begins with two and adds some while that helps.
        - ``limit``: bytes a second; ``low_priority``: None gives way to what else the gateway serves at the time, True
          to whatever else is on the link, which costs speed on long ways, False to nobody; ``compress``: None and True
          do it where both sides have zstandard and it pays, False never.
        - ``mirror_deletes``: remove here what is not at the source any more.
        - ``owner``: keep owner and group too, as numbers, which only root may.
        - ``durable``: wait at the end until everything is on the disk.
        - ``follow``: go on mirroring what changes until ``stop`` is set or Ctrl-C.
        - ``progress``: as with downloads.

        Raises `NotFound` when there is no such share, `Forbidden` without the right to read, `DestinationBusy` when
        another backup works there, `ConnectionLost` when no lane is left, `RemoteProtocolError` when the gateway breaks
        the protocol, `OSError` when ``to`` can't be written to. Files that can't be had are among the report's skipped.
        """
        # Only now, as it takes a while.
        from pynetwork.backup import Options, backup, choose  # noqa: PLC0415

        options = Options(
            checksum=checksum,
            owner=owner,
            mirror_deletes=mirror_deletes,
            durable=durable,
            compress=compress,
            low_priority=low_priority,
            limit=limit,
            follow=follow,
            chosen=choose(pattern, glob, min_size, max_size, changed_within, changed_before),
        )
        return backup(self.get_client, self.address, share, to, options, lanes=lanes, stop=stop, progress=progress)

    def restore(
        self,
        source: str | os.PathLike[str],
        dirname: str = "",
        *,
        pattern: str | None = None,
        glob: str | None = None,
        checksum: bool = False,
        include_gone: bool = False,
        dry_run: bool = False,
        lanes: int | None = None,
        limit: float | None = None,
        low_priority: bool = False,
        durable: bool = True,
        progress: bool | Progress | None = None,
    ) -> RestoreReport:
        """Bring the folder ``source``, most often one that was backed up into, into ``dirname`` below the gateway's
        folder for uploads; only what is not there yet is moved, and nothing is removed there. After an interruption of
        any kind, call it again.

        - ``pattern``, ``glob``: only files whose path in the backup matches this regular expression or shell pattern
          as a whole.
        - ``checksum``: compare the content of files that look unchanged, too.
        - ``include_gone``: also what was not at the backup's source any more when it was made last.
        - ``dry_run``: only say what would be restored, by size and time.
        - ``lanes``, ``limit``, ``progress``: as with ``backup``; ``low_priority``: give way to whatever is on the link.
        - ``durable``: wait at the end until everything is on the gateway's disk.

        Raises `Forbidden` without the right to write, `DestinationBusy` while a backup writes into ``source``,
        `ConnectionLost` when no lane is left, `RemoteProtocolError` when the gateway breaks the protocol, `OSError`
        when ``source`` can't be read. Files that can't be restored are among the report's skipped.
        """
        # Only now, as it takes a while.
        from pynetwork.backup import RestoreOptions, choose, restore  # noqa: PLC0415

        options = RestoreOptions(
            checksum=checksum,
            include_gone=include_gone,
            durable=durable,
            dry_run=dry_run,
            low_priority=low_priority,
            limit=limit,
            chosen=choose(pattern, glob),
        )
        return restore(self.get_client, source, dirname, options, lanes=lanes, progress=progress)

    def prune(
        self, share: str, to: str | os.PathLike[str], *, older_than: float, dry_run: bool | None = None
    ) -> PruneReport:
        """Remove from the shared folder the files that were changed last more than ``older_than`` seconds ago and are
        backed up in ``to``. Of each, both sides read and compare the content immediately before.

        ``dry_run``: None only shows it the first time for a destination. Raises `Forbidden` unless the gateway grants
        the right ``remove``.
        """
        from pynetwork.backup import prune_share  # noqa: PLC0415

        return prune_share(self.get_client, share, to, older_than=older_than, dry_run=dry_run)

    @property
    def address(self) -> str:
        """Host and port, for people."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def stop_gateway(self) -> None:
        """Stop the gateway. Raises `Forbidden` unless this controller's key grants the right ``stop``."""
        with self.get_client() as client:
            client.request("stop")
        self.say("the gateway stops")

    def _dial(self) -> Client:
        deadline = Deadline(self.timeout)
        stream = connect(self.host, self.port, timeout=self.timeout, tls=self.tls)
        try:
            client = self.join(stream, deadline)
        except ConnectionLost as error:
            stream.close()
            raise self.explain(error, silent=not stream.received) from error
        except BaseException:
            stream.close()
            raise
        self.say(f"connected to {client.link.connection.peer_agent} at {stream.peer}")
        return client

    def join(self, stream: Stream, deadline: Deadline | None = None) -> Client:
        """A client over a stream that leads to a gateway already. Raises as ``get_client``."""
        deadline = deadline or Deadline(self.timeout)
        connection = self.new_connection(stream.certificate)
        link = Link(stream, connection)
        link.send(connection.start(), deadline.remaining())
        event = link.next_event(deadline.remaining())
        if type(event) is not Welcome:
            raise RemoteProtocolError(f"{type(event).__name__} arrived in the handshake")
        return Client(link, self.timeout, self.download_dir, self.say)

    def explain(self, error: ConnectionLost, *, silent: bool) -> ConnectionLost:
        """Why a connection was lost before its welcome, by a gateway that was ``silent`` till then."""
        if self.tls is None and silent:
            return ConnectionLost(f"{error}, without a word; if that gateway has tls=, it is needed here too")
        return error

    def new_connection(self, certificate: bytes) -> Connection:
        """The state machine for a pair, to a gateway with this TLS certificate (its SHA-256, empty without TLS)."""
        return Connection(
            Role.CLIENT,
            nonce=os.urandom(NONCE_SIZE),
            key=self._key,
            limit=self._limit,
            certificate=certificate,
            agent=f"pynetwork {__version__}",
            registry=self._registry,
        )

    def say(self, text: str) -> None:
        """Tell it on stderr, if that is wanted."""
        if self.verbose:
            print(f"pynetwork: {text}", file=sys.stderr, flush=True)
