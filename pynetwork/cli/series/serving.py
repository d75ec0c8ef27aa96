"""``pynetwork series serve``: a store for others."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import logging
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pynetwork.cli.common import (
    CommandFailed,
    Exit,
    Output,
    read_key,
    reason_of,
)
from pynetwork.cli.display import size as display_size
from pynetwork.cli.gateway import logged, signals
from pynetwork.series.server import SeriesServer
from pynetwork.series.store import SeriesStore

if TYPE_CHECKING:
    from pynetwork.tls import TLS

__all__ = ["serve", "share_memory"]

_EVERY = 60.0
"""Seconds from one look for what is too old or too much to the next."""

_LOOK = 1.0

_M_ARENA_MAX = -8

logger = logging.getLogger("pynetwork.series")


def serve(arguments: argparse.Namespace) -> int:
    """Serve until somebody ends it: the process then, with 0 after SIGTERM, 130 after Ctrl-C."""
    output = Output(arguments, wanted=False)
    share_memory()
    with (
        signals(),
        logged(),
        SeriesStore(arguments.store) as store,
        _retaining(store, arguments.max_age, arguments.max_size),
        _server(store, arguments, output) as server,
    ):
        text = f"serving {arguments.store} on port {server.port}, Ctrl-C ends it"
        output.event("listening", text, store=arguments.store, port=server.port)
        # Not without a time, which Ctrl-C could not end on Windows.
        while not threading.Event().wait(_LOOK):
            pass
    return Exit.OK


def share_memory() -> bool:
    """Let all threads take memory from one arena; whether that was done, as it is with the C library of GNU.

    Else each thread keeps what it has once used, and a server with many holds several times what its requests may.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1))
    except (OSError, AttributeError, TypeError):
        return False


def _server(store: SeriesStore, arguments: argparse.Namespace, output: Output) -> SeriesServer:
    return SeriesServer(
        store,
        arguments.host,
        arguments.port,
        key=read_key(arguments.key_file, output),
        tls=_tls(arguments),
        max_connections=arguments.max_connections,
    )


def _tls(arguments: argparse.Namespace) -> TLS | None:
    if arguments.tls_certificate is None:
        if arguments.tls_private_key is not None or arguments.tls_ca is not None:
            raise CommandFailed("TLS needs --tls-certificate FILE and --tls-private-key FILE", Exit.USAGE)
        return None
    # Only now, as it takes a while.
    from pynetwork.tls import TLS  # noqa: PLC0415

    return TLS(arguments.tls_certificate, arguments.tls_private_key, arguments.tls_ca)


@contextlib.contextmanager
def _retaining(store: SeriesStore, age: float | None, size: int | None) -> Iterator[None]:
    """Remove now, and every now and then, what is older than ``age`` seconds, or the oldest beyond ``size`` bytes."""
    if age is None and size is None:
        yield
        return
    stopping = threading.Event()

    def work() -> None:
        while True:
            try:
                report = store.retain(age=age, size=size)
            except Exception as error:
                logger.warning("what is too old or too much could not be removed: %s", reason_of(error))
            else:
                if report.records:
                    logger.info(
                        "removed %d records, %s, as --max-age and --max-size say",
                        report.records,
                        display_size(report.bytes),
                    )
            if stopping.wait(_EVERY):
                return

    thread = threading.Thread(target=work, name="retention")
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
