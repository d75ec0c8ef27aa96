"""ZeroMQ: REQ and REP, PUSH and PULL."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import orjson
import zmq

from tools.bench.peers.packing import ARRAYS, BYTES, JSON, Packing
from tools.bench.workloads.call import CallSides, Functions
from tools.bench.workloads.streams import Source, StreamSides

__all__ = ["ArrayItems", "Call", "JsonItems", "SmallItems"]

_ANYWHERE = "tcp://127.0.0.1:*"
_END = b""


class Call(CallSides):
    """A thread that receives, calls and sends."""

    @contextlib.contextmanager
    def serve(self, functions: Functions) -> Iterator[str]:
        """One client at a time, as REP has it."""

        def answer(request: bytes) -> bytes:
            name, arguments, keywords = orjson.loads(request)
            return orjson.dumps(functions[name](*arguments, **keywords))

        with _answering(answer) as address:
            yield address

    @contextlib.contextmanager
    def connect(self, address: str) -> Iterator[Callable[..., Any]]:
        """One socket."""
        with _asking(address) as ask:

            def call(name: str, *arguments: Any, **keywords: Any) -> Any:
                return orjson.loads(ask(orjson.dumps((name, arguments, keywords))))

            yield call


class _Stream(StreamSides):
    """A message of one part for each item, with the queues of a thousand that ZeroMQ has by default.

    Neither longer queues nor parts of their own for ident and payload nor sending without a copy make it faster.
    """

    def __init__(self, packing: Packing) -> None:
        self._packing = packing

    @contextlib.contextmanager
    def serve(self, source: Source) -> Iterator[str]:
        """A client binds a socket and asks for items to it, then asks for an end."""
        stacks: dict[str, contextlib.ExitStack] = {}

        def answer(request: bytes) -> bytes:
            order, endpoint = request.decode().split(" ")
            if order == "open":
                stacks[endpoint] = contextlib.ExitStack()
                stacks[endpoint].enter_context(self._pushing(endpoint, source))
            else:
                stacks.pop(endpoint).close()
            return request

        try:
            with _answering(answer) as address:
                yield address
        finally:
            for stack in stacks.values():
                stack.close()

    @contextlib.contextmanager
    def _pushing(self, endpoint: str, source: Source) -> Iterator[None]:
        context = zmq.Context()
        socket = context.socket(zmq.PUSH)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(endpoint)
        thread = threading.Thread(target=self._push, args=(socket, source), daemon=True)
        thread.start()
        try:
            yield
        finally:
            # A sender that waits is told by the end of its context; it closes the socket, which ends the wait here.
            context.term()
            thread.join()

    def _push(self, socket: Any, source: Source) -> None:
        send, pack = socket.send, self._packing.pack
        with contextlib.suppress(zmq.ContextTerminated):
            for ident, payload in source():
                send(pack(ident, payload))
        socket.close()

    @contextlib.contextmanager
    def items(self, address: str) -> Iterator[Iterator[tuple[int, Any]]]:
        """A socket of one's own."""
        with zmq.Context() as context, context.socket(zmq.PULL) as socket, _asking(address) as ask:
            endpoint = _bound(socket)
            ask(f"open {endpoint}".encode())
            try:
                yield map(self._packing.unpack, iter(socket.recv, _END))
            finally:
                ask(f"close {endpoint}".encode())


SmallItems = partial(_Stream, BYTES)
JsonItems = partial(_Stream, JSON)
ArrayItems = partial(_Stream, ARRAYS)


def _bound(socket: Any) -> str:
    socket.bind(_ANYWHERE)
    endpoint: bytes = socket.getsockopt(zmq.LAST_ENDPOINT)
    return endpoint.rstrip(b"\0").decode()


@contextlib.contextmanager
def _answering(answer: Callable[[bytes], bytes]) -> Iterator[str]:
    """A socket that answers in a thread; an empty request ends it."""
    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        endpoint = _bound(socket)

        def work() -> None:
            while request := socket.recv():
                socket.send(answer(request))
            socket.send(_END)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield endpoint
        finally:
            with _asking(endpoint) as ask:
                ask(_END)
            thread.join()


@contextlib.contextmanager
def _asking(endpoint: str) -> Iterator[Callable[[bytes], bytes]]:
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.connect(endpoint)

        def ask(request: bytes) -> bytes:
            socket.send(request)
            reply: bytes = socket.recv()
            return reply

        yield ask
