"""A bad network on this machine: a proxy between a controller and a gateway that delays, breaks and bends what passes.

`Weather` is about everything that passes: latency, a bound on the rate, small pieces. A `Fault` happens once, to the
connection that carries the byte it is about. Directions are seen from the controller, which dials the proxy: `UP` leads
to the gateway, `DOWN` comes from there.

``python -m tools.proxy 1858 127.0.0.1:1857 --latency 0.1 --rate 50000`` puts one before a gateway, for trying by hand.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import enum
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["DOWN", "UP", "Direction", "Fault", "Kind", "Proxy", "Weather"]

_PIECE = 65536
_PIECES_WAITING = 16
_PACE = 0.01
_FOR_GOOD = 1e6
_RESET = struct.pack("ii", 1, 0)


class Direction(enum.Enum):
    """Where bytes go."""

    UP = "to the gateway"
    DOWN = "to the controller"


UP, DOWN = Direction.UP, Direction.DOWN


class Kind(enum.Enum):
    """What a fault does once the bytes before it have passed."""

    RESET = "both sides see a reset"
    END = "both sides see an orderly end"
    HALF_CLOSE = "this direction ends, the other goes on"
    FLIP = "one bit of the byte is changed"
    STALL = "this direction stands still"


@dataclass(frozen=True)
class Weather:
    """What every byte meets: ``latency`` in seconds each way, ``rate`` in bytes per second and direction, ``piece``
    the most bytes that are sent at once.
    """

    latency: float = 0.0
    rate: float | None = None
    piece: int | None = None


@dataclass(frozen=True)
class Fault:
    """Befalls the connection that carries byte number ``at`` of a direction, counted over all connections since it was
    injected; that byte and those after it feel it.

    ``bit`` (0 to 7) is what a `Kind.FLIP` changes, ``seconds`` is how long a `Kind.STALL` takes, None for good.
    """

    kind: Kind
    direction: Direction
    at: int
    bit: int = 0
    seconds: float | None = None


class Proxy:
    """Listens on ``port`` (0: any that is free) of the loopback, and leads to port ``target`` of ``host``.

    It runs an event loop on a thread of its own; its methods may be called from any other. ``tap`` is called there for
    each connection, and answers with what is to be shown all that comes by on it. A context manager.
    """

    def __init__(
        self,
        target: int,
        weather: Weather | None = None,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        tap: Callable[[], Callable[[Direction, bytes], None]] | None = None,
    ) -> None:
        self._target = (host, target)
        self._weather = weather or Weather()
        self._tap = tap
        self._loop = asyncio.new_event_loop()
        self._connections: dict[asyncio.Task[None], _Connection] = {}
        self._counts: Counter[Direction] = Counter()
        self._fault: Fault | None = None
        self._listener = socket.create_server(("127.0.0.1", port), backlog=512)
        self._listener.setblocking(False)
        self._happened = threading.Event()
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name=f"proxy {self.port}", daemon=True)
        self._thread.start()

    @property
    def happened(self) -> bool:
        """Whether the fault that was injected last has befallen a connection."""
        return self._happened.is_set()

    def count(self, direction: Direction) -> int:
        """Bytes that came by in a direction since the last `inject`, or since the beginning."""
        return self._counts[direction]

    def inject(self, fault: Fault | None) -> None:
        """From now on bytes are counted from 0, and this is what happens; None: nothing."""
        self._do(self._inject(fault))

    def cut(self, *, reset: bool = True) -> None:
        """End every connection that there is now, with a reset or orderly. New ones are welcome."""
        self._do(self._cut(reset))

    def close(self) -> None:
        """Cut everything and give the port back. Closing twice is fine."""
        if self._thread.is_alive():
            self._do(self._shut())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    # On the loop's thread

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _run(self) -> None:
        self._accepting = self._loop.create_task(self._accept())
        try:
            self._loop.run_forever()
        finally:
            self._listener.close()
            self._loop.close()

    async def _inject(self, fault: Fault | None) -> None:
        self._counts.clear()
        self._happened.clear()
        self._fault = fault

    async def _cut(self, reset: bool) -> None:
        tasks = list(self._connections)
        for task, connection in self._connections.items():
            connection.reset = reset
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _shut(self) -> None:
        self._accepting.cancel()
        await asyncio.gather(self._accepting, return_exceptions=True)
        await self._cut(reset=True)

    async def _accept(self) -> None:
        while True:
            try:
                near, _ = await self._loop.sock_accept(self._listener)
            except OSError:
                # Out of descriptors, most likely: not for long.
                await asyncio.sleep(_PACE)
                continue
            connection = _Connection(near, self._weather, self._claims(), self._happened.set)
            task = self._loop.create_task(connection.run(self._target))
            self._connections[task] = connection
            task.add_done_callback(self._connections.pop)

    def _claims(self) -> Callable[[Direction, bytes], tuple[int, Fault | None]]:
        """What a connection asks about its bytes."""
        if self._tap is None:
            return self._claim
        show = self._tap()

        def show_and_claim(direction: Direction, data: bytes) -> tuple[int, Fault | None]:
            show(direction, data)
            return self._claim(direction, data)

        return show_and_claim

    def _claim(self, direction: Direction, data: bytes) -> tuple[int, Fault | None]:
        """Count bytes that have come; answers how many of them pass before a fault, and that fault if it is now."""
        size = len(data)
        before = self._counts[direction]
        self._counts[direction] += size
        fault = self._fault
        if fault is None or fault.direction is not direction or not before <= fault.at < before + size:
            return size, None
        self._fault = None
        return fault.at - before, fault


class _Connection:
    """One connection through the proxy. All of it runs on the loop's thread."""

    def __init__(
        self,
        near: socket.socket,
        weather: Weather,
        claim: Callable[[Direction, bytes], tuple[int, Fault | None]],
        tell: Callable[[], None],
    ) -> None:
        self.reset = False
        self._near = near
        self._far = socket.socket(near.family, socket.SOCK_STREAM)
        self._weather = weather
        self._claim = claim
        self._tell = tell

    async def run(self, target: tuple[str, int]) -> None:
        """Carry bytes until both directions have ended, something breaks, or this is cancelled."""
        try:
            for sock in (self._near, self._far):
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._carry_both(target)
        except OSError:
            # One side has broken its connection: so does the proxy the other's.
            self.reset = True
        finally:
            for sock in (self._near, self._far):
                if self.reset:
                    with contextlib.suppress(OSError):
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                sock.close()

    async def _carry_both(self, target: tuple[str, int]) -> None:
        connecting = asyncio.ensure_future(self._connect(target))
        flows = [
            self._carry(UP, self._near, self._far, connecting),
            self._carry(DOWN, self._far, self._near, connecting),
        ]
        tasks = [connecting, *map(asyncio.ensure_future, flows)]
        try:
            await asyncio.gather(*tasks)
        except _Cut as cut:
            self.reset = cut.reset
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if not self.reset:
            await self._see_off()

    async def _connect(self, target: tuple[str, int]) -> None:
        # The news that there is a connection travels as long as its first byte does.
        await asyncio.sleep(self._weather.latency)
        await asyncio.get_running_loop().sock_connect(self._far, target)

    async def _carry(
        self, direction: Direction, source: socket.socket, target: socket.socket, connecting: asyncio.Future[None]
    ) -> None:
        """One direction: what is read waits for its time in a queue, so that latency does not bound the rate."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_PIECES_WAITING)
        if source is self._far:
            await connecting
        reading = asyncio.ensure_future(self._read(source, waiting))
        try:
            await connecting
            await self._write(direction, target, waiting)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _see_off(self) -> None:
        """End both directions, and wait until both sides have seen it: closing at once could become a reset."""
        loop = asyncio.get_running_loop()
        for sock in (self._near, self._far):
            sock.shutdown(socket.SHUT_WR)
        for sock in (self._near, self._far):
            while await loop.sock_recv(sock, _PIECE):
                pass

    async def _read(self, source: socket.socket, waiting: asyncio.Queue[tuple[float, bytes]]) -> None:
        loop = asyncio.get_running_loop()
        data = b"?"
        while data:
            try:
                data = await loop.sock_recv(source, _PIECE)
            except OSError:
                # It has gone; what it said before still arrives, then so does the reset.
                self.reset, data = True, b""
            await waiting.put((loop.time() + self._weather.latency, data))

    async def _write(
        self, direction: Direction, target: socket.socket, waiting: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await waiting.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if not data:
                if self.reset:
                    raise _Cut(reset=True)
                target.shutdown(socket.SHUT_WR)
                return
            passing, fault = self._claim(direction, data)
            try:
                await self._send(target, data[:passing])
                if fault is not None:
                    self._tell()
                    await self._send(target, await self._suffer(fault, data[passing:]))
            except OSError:
                # The one that should have it has gone. What that one said before still has to arrive.
                self.reset = True
                await self._discard(waiting)
                return
            except _HalfClosed:
                target.shutdown(socket.SHUT_WR)
                await self._discard(waiting)
                return

    @staticmethod
    async def _discard(waiting: asyncio.Queue[tuple[float, bytes]]) -> None:
        while (await waiting.get())[1]:
            pass

    @staticmethod
    async def _suffer(fault: Fault, rest: bytes) -> bytes:
        """Let the fault happen; answers what passes after it."""
        if fault.kind is Kind.FLIP:
            return bytes([rest[0] ^ 1 << fault.bit]) + rest[1:]
        if fault.kind is Kind.STALL:
            await asyncio.sleep(_FOR_GOOD if fault.seconds is None else fault.seconds)
            return rest
        if fault.kind is Kind.HALF_CLOSE:
            raise _HalfClosed
        raise _Cut(reset=fault.kind is Kind.RESET)

    async def _send(self, target: socket.socket, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        rate = self._weather.rate
        most = self._weather.piece or (_PIECE if rate is None else max(1, int(rate * _PACE)))
        for start in range(0, len(data), most):
            piece = data[start : start + most]
            await loop.sock_sendall(target, piece)
            if rate is not None:
                await asyncio.sleep(len(piece) / rate)


class _Cut(Exception):
    """The connection is to be cut, with a reset or orderly."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self.reset = reset


class _HalfClosed(Exception):
    """One direction ends here."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a proxy until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m tools.proxy", description="A bad network on this machine.")
    parser.add_argument("port", type=int, help="where it listens, on the loopback; 0 takes any that is free")
    parser.add_argument("target", help="HOST:PORT of the gateway")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds, each way")
    parser.add_argument("--rate", type=float, help="bytes per second, each way")
    parser.add_argument("--piece", type=int, help="the most bytes that are sent at once")
    chosen = parser.parse_args(arguments)
    host, _, port = chosen.target.rpartition(":")
    weather = Weather(chosen.latency, chosen.rate, chosen.piece)
    with Proxy(int(port), weather, port=chosen.port, host=host or "127.0.0.1") as proxy:
        print(f"127.0.0.1:{proxy.port} leads to {chosen.target}; Ctrl-C ends it", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
