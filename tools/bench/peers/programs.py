"""Programs that serve: started on a free port of the loopback, and ended by their own id."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tools.bench.needs import Program

__all__ = ["ended", "flushing", "free_port", "path_of", "serving"]

_START_SECONDS = 30.0
_END_SECONDS = 5.0
_PAUSE = 0.02


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def path_of(program: Program) -> str:
    """Where it is. Raises FileNotFoundError when it is nowhere."""
    path = program.path()
    if path is None:
        raise FileNotFoundError(f"{program.name} is not installed: {program.hint}")
    return path


@contextlib.contextmanager
def serving(command: Sequence[str], port: int, host: str = "127.0.0.1") -> Iterator[None]:
    """Run a program that listens there. Raises OSError with what it printed when it does not."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        with ended(process):
            if not _listens(process, (host, port)):
                log.seek(0)
                raise OSError(f"{command[0]} does not listen: {log.read().decode(errors='replace')[-2000:]}")
            yield


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End the process when the context ends, by force when it does not end when it is asked to."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(process: subprocess.Popen[bytes], address: tuple[str, int]) -> bool:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(address):
            return True
        time.sleep(_PAUSE)
    return False


def flushing(fetch: Callable[[Path], None]) -> Callable[[Path], None]:
    """With what it wrote on the disk at the end, for a program that does not see to that itself."""

    def fetch_and_flush(target: Path) -> None:
        fetch(target)
        subprocess.run(["sync", "--file-system", str(target)], check=True)

    return fetch_and_flush
