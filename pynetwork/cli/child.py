"""A gateway in a process of its own, for as long as a command runs."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import orjson

from pynetwork.cli.common import CommandFailed

__all__ = ["GatewayProcess"]

_ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT = 30.0


class GatewayProcess:
    """Runs ``pynetwork gateway FILE`` with ``key`` in its environment; its log is a file beside FILE.

    It stops when the ``with`` block ends, and when this process dies, as its standard input ends then.
    Ctrl-C on the terminal does not reach it. Entering raises `CommandFailed` when it does not start.
    """

    port = 0

    def __init__(self, file: Path, key: str, timeout: float = START_TIMEOUT) -> None:
        self._file = file
        self._key = key
        self._timeout = timeout
        self._log = file.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> GatewayProcess:
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - this very program
                [sys.executable, "-m", "pynetwork", "gateway", str(self._file), "--json", "--stop-on-eof"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYNETWORK_KEY": self._key, "PYTHONPATH": path},
                creationflags=flags,
                start_new_session=os.name == "posix",
            )
        try:
            self.port = self._await_port()
        except BaseException:
            self.stop(patience=0.5)
            raise
        return self

    def _await_port(self) -> int:
        assert self._process is not None
        lines: queue.Queue[bytes] = queue.Queue()
        output = self._process.stdout
        assert output is not None
        threading.Thread(target=_pass_on, args=(output, lines), name="gateway output", daemon=True).start()
        try:
            line = lines.get(timeout=self._timeout)
        except queue.Empty:
            raise CommandFailed(
                f"the gateway did not come up within {self._timeout:g} s: {self.last_words()}"
            ) from None
        if not line:
            self._process.wait()
            raise CommandFailed(f"the gateway did not come up: {self.last_words()}")
        return int(orjson.loads(line)["port"])

    def stop(self, patience: float = 5.0) -> int:
        """Stop it, if need be with force, and answer its exit code."""
        assert self._process is not None
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        return process.returncode

    def last_words(self) -> str:
        """The end of what it logged."""
        try:
            text = self._log.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            text = ""
        return "\n".join(text.splitlines()[-5:]) or "it said nothing"

    def __exit__(self, kind: type[BaseException] | None, *_exception: object) -> None:
        self.stop(patience=0.5 if kind is not None else 5.0)


def _pass_on(output: IO[bytes], lines: queue.Queue[bytes]) -> None:
    """The first line, or nothing when there is none."""
    with contextlib.suppress(OSError, ValueError):
        lines.put(output.readline())
