"""pynetwork 2.4, from the folder where it is apart from its successor."""

from __future__ import annotations

import contextlib
import importlib
import os
import queue
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial, wraps
from itertools import chain
from pathlib import Path
from typing import Any

import numpy

from tools.bench.peers import PYNETWORK2
from tools.bench.peers.packing import Packing
from tools.bench.peers.programs import free_port
from tools.bench.raw.sockets import Address
from tools.bench.workloads.call import CallSides, Functions
from tools.bench.workloads.files import Fetch, FileSides
from tools.bench.workloads.streams import Source, StreamSides

__all__ = ["ArrayItems", "Call", "Files", "JsonItems", "SmallItems"]

# First on the path: in this process the name means the old one. It draws bars unless it is told not to.
sys.path.insert(0, str(PYNETWORK2.folder))
os.environ["TQDM_DISABLE"] = "1"
_old: Any = importlib.import_module("pynetwork")
_backend: Any = importlib.import_module("pynetwork.backend2")

_TRIES = 100
_PAUSE = 0.02
_SECONDS = 5.0
_TOGETHER = 64
_AHEAD = 4


class Call(CallSides):
    """`get_subroutine_batch`: arguments travel as JSON, the result as the bytes that the package makes of it."""

    @contextlib.contextmanager
    def serve(self, functions: Functions) -> Iterator[int]:
        """The functions as subroutines."""
        with _serving({name: _by_value(function) for name, function in functions.items()}) as port:
            yield port

    @contextlib.contextmanager
    def connect(self, address: int) -> Iterator[Callable[..., Any]]:
        """One client."""
        with _quiet(), _client("127.0.0.1", address) as client:

            def call(name: str, *arguments: Any, **keywords: Any) -> Any:
                return _from_json(client.get_subroutine_batch(name, arguments=arguments, **keywords))

            yield call


class _Stream(StreamSides):
    """`get_subroutine_stream`, which hands each item to a function."""

    def __init__(self, packing: Packing) -> None:
        self._packing = packing

    @contextlib.contextmanager
    def serve(self, source: Source) -> Iterator[int]:
        """The source as subroutine."""
        pack = self._packing.pack

        def items() -> Iterator[tuple[int, bytes]]:
            for ident, payload in source():
                yield ident, pack(ident, payload)

        with _serving({"items": items}) as port:
            yield port

    @contextlib.contextmanager
    def items(self, address: int) -> Iterator[Iterator[tuple[int, Any]]]:
        """From a thread, which hands on many at once, so that this costs little for each."""
        arrived: queue.Queue[list[tuple[int, Any]] | None] = queue.Queue(_AHEAD)
        leaving = threading.Event()
        held: list[tuple[int, Any]] = []

        def take(_name: str, ident: int, buffer: bytes) -> bool:
            held.append((ident, self._packing.unpack(buffer)[1]))
            if len(held) == _TOGETHER:
                arrived.put(held.copy())
                held.clear()
            return not leaving.is_set()

        def receive() -> None:
            try:
                client.get_subroutine_stream("items", take)
            finally:
                arrived.put(None)

        with _quiet(), _client("127.0.0.1", address) as client:
            thread = threading.Thread(target=receive, daemon=True)
            thread.start()
            try:
                yield chain.from_iterable(_until_none(arrived))
            finally:
                leaving.set()
                while thread.is_alive():
                    with contextlib.suppress(queue.Empty):
                        arrived.get(timeout=_PAUSE)


def _until_none(arrived: queue.Queue[list[tuple[int, Any]] | None]) -> Iterator[list[tuple[int, Any]]]:
    while (items := arrived.get()) is not None:
        yield items
    raise ConnectionResetError("the server has left")


def _to_json(value: Any) -> bytes:
    data: bytes = _backend.to_bytes(_backend.DataType.dict, value)
    return data


def _from_json(data: bytes) -> Any:
    return _backend.from_bytes(_backend.DataType.dict, data)


# The package writes the ident itself.
SmallItems = partial(_Stream, Packing(lambda _ident, payload: payload, lambda data: (0, data)))
JsonItems = partial(_Stream, Packing(lambda _ident, payload: _to_json(payload), lambda data: (0, _from_json(data))))
ArrayItems = partial(
    _Stream, Packing(lambda _ident, payload: payload.tobytes(), lambda data: (0, numpy.frombuffer(data, numpy.float64)))
)


class Files(FileSides):
    """`get_files_from_gateway` with lists of paths: it knows no sub-folders, so there is a list for each."""

    few = True

    @contextlib.contextmanager
    def serve(self, source: Path, host: str) -> Iterator[Address]:
        """Files need no sharing in 2.4; which there are is asked by a subroutine."""

        def listing() -> list[list[str]]:
            return [[os.path.relpath(folder, source), folder, *names] for folder, _, names in os.walk(source) if names]

        with _serving({"listing": _by_value(listing)}, host) as port:
            yield host, port

    @contextlib.contextmanager
    def session(self, address: Address, connections: int) -> Iterator[Fetch]:
        """A client for each connection."""
        with _quiet(), contextlib.ExitStack() as stack:
            clients = [stack.enter_context(_client(*address)) for _ in range(connections)]

            def fetch(target: Path) -> None:
                listing = _from_json(clients[0].get_subroutine_batch("listing"))
                for place, *_ in listing:
                    (target / place).mkdir(exist_ok=True)
                threads = [
                    threading.Thread(target=_fetch, args=(client, target, listing, lane, connections))
                    for lane, client in enumerate(clients)
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()

            yield fetch


def _fetch(client: Any, target: Path, listing: list[list[str]], lane: int, lanes: int) -> None:
    for place, folder, *names in listing:
        share = names[lane::lanes]
        if share:
            client.download_dir = str(target / place)
            client.get_files_from_gateway(files=[f"{folder}/{name}" for name in share])


def _by_value(function: Callable[..., Any]) -> Callable[..., bytes]:
    @wraps(function)
    def call(*arguments: Any, **keywords: Any) -> bytes:
        return _to_json(function(*arguments, **keywords))

    return call


@contextlib.contextmanager
def _serving(subroutines: dict[str, Callable[..., Any]], host: str = "127.0.0.1") -> Iterator[int]:
    port = free_port()
    with _quiet():
        gateway = _old.Gateway(port, max_poolsize=16, download_dir=tempfile.gettempdir())
        for name, subroutine in subroutines.items():
            gateway.add_subroutine(name, subroutine)
        # As its start() does, but on one address only, which it knows how to do for Windows.
        gateway.listener = _backend.Listener(gateway.callback_listener, port)
        gateway.listener.ip = host
        gateway.listener.daemon = True
        gateway.is_running = True
        gateway.listener.start()
        try:
            yield port
        finally:
            with contextlib.suppress(OSError):
                gateway.listener.stop()
            gateway.listener.join(_SECONDS)


@contextlib.contextmanager
def _client(host: str, port: int) -> Iterator[Any]:
    controller = _old.Controller(host, port, download_dir=tempfile.gettempdir())
    for _ in range(_TRIES):
        # Between two clients its gateway does not listen for a moment.
        with contextlib.suppress(OSError):
            client = controller.get_client()
            break
        time.sleep(_PAUSE)
    else:
        raise ConnectionRefusedError("the gateway of 2.4 does not listen")
    try:
        yield client
    finally:
        client.close_handler()
        client.socket.close()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """It prints all that it does."""
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield
