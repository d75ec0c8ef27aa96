"""``python -m tests.system.flood PORT KIND COUNT``: so many connections that are no callers, kept up until stdin ends.

Prints "up" when all have been opened, and from then on replaces each that the gateway closes. Kinds: ``silent`` says
nothing, ``half`` half a hello, ``drops`` a hello byte by byte, ``greeting`` a hello and then nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.serving import hello

try:
    import resource
except ImportError:  # Windows knows no such limit
    resource = None  # type: ignore[assignment]

__all__ = ["flooding"]

KINDS = ("silent", "half", "drops", "greeting")
_ROOT = Path(__file__).resolve().parents[2]
_DROP = 0.2
_AT_ONCE = 64
_SPARE = 64


@contextlib.contextmanager
def flooding(port: int, kind: str, count: int) -> Iterator[None]:
    """A flood from a process of its own."""
    command = [sys.executable, "-m", "tests.system.flood", str(port), kind, str(count)]
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            yield
            assert process.poll() is None, "the flood has dried up"
        finally:
            process.kill()


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _connect(port: int, turn: asyncio.Semaphore) -> Streams | None:
    try:
        async with turn:
            return await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return None


async def _pretend(kind: str, streams: Streams | None) -> None:
    """Be a caller of this kind until the gateway closes the connection."""
    if streams is None:
        return
    reader, writer = streams
    dripping = asyncio.ensure_future(_drip(writer)) if kind == "drops" else None
    with contextlib.suppress(OSError):
        writer.write({"half": hello()[:60], "greeting": hello(keyed=True)}.get(kind, b""))
        while await reader.read(4096):
            pass
    if dripping is not None:
        dripping.cancel()
    writer.transport.abort()


async def _drip(writer: asyncio.StreamWriter) -> None:
    for byte in hello():
        writer.write(bytes([byte]))
        await asyncio.sleep(_DROP)


async def _come_again(port: int, kind: str, turn: asyncio.Semaphore) -> None:
    await _pretend(kind, await _connect(port, turn))


async def _flood(port: int, kind: str, count: int) -> None:
    turn = asyncio.Semaphore(_AT_ONCE)
    connected = await asyncio.gather(*[_connect(port, turn) for _ in range(count)])
    running = {asyncio.ensure_future(_pretend(kind, streams)) for streams in connected}
    print("up", flush=True)
    over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    while not over.done():
        done, running = await asyncio.wait(running, timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
        running |= {asyncio.ensure_future(_come_again(port, kind, turn)) for _ in done}


def _room_for(count: int) -> int:
    """Allow this process so many descriptors, as far as the system lets it; answers how many connections that is."""
    if resource is None:
        return count
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _SPARE
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(count, soft - _SPARE)


if __name__ == "__main__":
    asyncio.run(_flood(int(sys.argv[1]), sys.argv[2], _room_for(int(sys.argv[3]))))
