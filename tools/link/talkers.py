"""The programs at the ends of a link when `tools.link.priority` measures: a gateway, and two kinds of callers.

Each prints one line of JSON (the gateway: when it listens) and is told all by its arguments.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from pynetwork import Controller, Gateway
from pynetwork.client import Client
from pynetwork.pacing import Bottlenecks
from pynetwork.service import ServedOperation, Verb

__all__ = ["PORT"]

PORT = 1857
_KEY = "for measuring"
_BODY = bytes(1 << 20)
_PATIENCE = 60.0


def _beat(rate: float) -> Iterator[bytes]:
    """The time (monotonic nanoseconds), so many times a second."""
    due = time.monotonic()
    while True:
        due += 1 / rate
        time.sleep(max(0.0, due - time.monotonic()))
        yield time.monotonic_ns().to_bytes(8, "little")


class _BulkService:
    """Answers ``bulk(polite, seconds)`` with messages of 1 MiB for so long."""

    def __init__(self) -> None:
        self._bottlenecks = Bottlenecks()

    @property
    def verbs(self) -> Mapping[str, Verb]:
        """See `pynetwork.service.Service`."""
        return {"bulk": Verb(self._bulk)}

    def _bulk(self, operation: ServedOperation, polite: bool, seconds: float) -> None:
        end = time.monotonic() + seconds
        bottleneck = self._bottlenecks.to(operation.peer)
        with operation.giving_way(bottleneck) if polite else contextlib.nullcontext():
            while time.monotonic() < end:
                operation.send(1, b"", _BODY)

    def close(self) -> None:
        """See `pynetwork.service.Service`."""


def _set_congestion(name: str) -> None:
    """Let whatever connects to this process from now on be sent to by this kind of congestion control."""
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(number))) as sock:
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())


def serve(host: str, congestion: str) -> None:
    """A gateway until the input ends; ``congestion`` may be empty for the system's own."""
    gateway = Gateway(PORT, host=host, key=_KEY, max_poolsize=16)
    gateway.add_subroutine("beat", _beat)
    gateway.add_service("bulk", _BulkService())
    with gateway:
        if congestion:
            _set_congestion(congestion)
        print(json.dumps(congestion), flush=True)
        sys.stdin.readline()


def live(host: str, rate: float, seconds: float) -> None:
    """Print for how many seconds each item of a stream was on its way."""
    taken = []
    with Controller(host, PORT, key=_KEY).get_client() as client, client.stream("beat", rate) as stream:
        end = time.monotonic() + seconds
        for _, payload in stream:
            now = time.monotonic_ns()
            taken.append((now - int.from_bytes(payload, "little")) / 1e9)
            if time.monotonic() >= end:
                break
    print(json.dumps(taken))


def bulk(host: str, lanes: int, polite: bool, seconds: float) -> None:
    """Print how many bytes came per second over so many lanes together."""
    counts, ends = [0] * lanes, [0.0] * lanes

    def fetch(client: Client, lane: int) -> None:
        with client.open("bulk", polite, seconds) as operation:
            while (message := operation.receive(_PATIENCE)) is not None:
                counts[lane] += len(message.body)
                ends[lane] = time.monotonic()
                operation.recycle(message.body)

    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Controller(host, PORT, key=_KEY).get_client()) for _ in range(lanes)]
        threads = [threading.Thread(target=fetch, args=(client, lane)) for lane, client in enumerate(clients)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(json.dumps(sum(counts) / (max(ends) - began)))


def main() -> None:
    """The name of a program, and its arguments as JSON."""
    programs: dict[str, Any] = {"serve": serve, "live": live, "bulk": bulk}
    programs[sys.argv[1]](*map(json.loads, sys.argv[2:]))


if __name__ == "__main__":
    main()
