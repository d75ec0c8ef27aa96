"""Those who take part in a soak: processes that are killed and started again, and what they say."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tools.soak.figures import Life, look

__all__ = ["Member"]

_ROOT = Path(__file__).resolve().parents[2]
_COMPLAINTS = ("Traceback", "ResourceWarning", "never retrieved", "never awaited", "is pending", "Fatal Python error")
_MOST_TEXT = 4000


class Member:
    """A gateway or a controller, in one process after the other.

    ``heard`` gets what it says, on a thread of its own. Errors that nobody caught go to a file in ``folder``.
    ``module`` is what it runs.
    """

    def __init__(
        self,
        name: str,
        role: str,
        options: dict[str, Any],
        folder: Path,
        heard: Callable[[Member, dict[str, Any]], None],
        *,
        module: str = "tools.soak.worker",
    ) -> None:
        self.name = name
        self.options = options
        self.lives: list[Life] = []
        self.heard_at = 0.0
        self.ready = threading.Event()
        self._role = role
        self._folder = folder
        self._heard = heard
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin a life."""
        self.ready = threading.Event()
        self.heard_at = time.monotonic()
        self._log = self._folder / f"{self.name} {len(self.lives)}.log"
        options = {**self.options, "seed": f"{self.options.get('seed')} {len(self.lives)}"}
        command = [sys.executable, "-X", "faulthandler", "-W", "always::ResourceWarning", "-m", self._module]
        with self._log.open("wb") as log:
            # A session of its own: Ctrl-C is for the one who started all of them.
            self._process = subprocess.Popen(
                [*command, self._role, json.dumps(options)],
                cwd=_ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._seen = psutil.Process(self._process.pid)
        self.lives.append(Life(self.name, self._process.pid))
        self._reader = threading.Thread(target=self._read, args=(self._process, self.ready), daemon=True)
        self._reader.start()

    def _read(self, process: subprocess.Popen[bytes], ready: threading.Event) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            # What a killed process said last may be cut short.
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                self.heard_at = time.monotonic()
                if "ready" in message:
                    ready.set()
                self._heard(self, message)

    @property
    def ended(self) -> int | None:
        """The exit code of a process that has ended by itself."""
        return None if self._process is None else self._process.poll()

    def look(self, at: float) -> None:
        """Note its figures."""
        if self._process is not None and (sample := look(self._seen, at)) is not None:
            self.lives[-1].samples.append(sample)

    def terminate(self) -> None:
        """Ask it to end, by SIGTERM."""
        if self._process is not None:
            self._process.terminate()

    def ask_to_end(self) -> None:
        """Let it end when it is done with what it does."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def wait(self, seconds: float) -> int | None:
        """Its exit code, None when it lives on."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(max(0.0, seconds)) if self._process is not None else 0
        return None

    def kill(self) -> None:
        """End this life, whatever it does; nothing happens when it has ended."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        self._reader.join()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def complaints(self) -> str:
        """What the process of this life should never have printed; empty when all was well."""
        text = self._log.read_text(encoding="utf-8", errors="replace")
        return text[-_MOST_TEXT:] if any(word in text for word in _COMPLAINTS) else ""
