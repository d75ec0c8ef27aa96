"""Running commands: within this process, and as a process of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pynetwork.cli import main
from pynetwork.gateway import Gateway

ROOT = Path(__file__).resolve().parents[3]


class Outcome:
    """What a command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def objects(self) -> list[dict[str, Any]]:
        """The JSON objects on stdout."""
        return [json.loads(line) for line in self.out.splitlines()]

    def object(self, message_type: str) -> dict[str, Any]:
        """The one object of this type."""
        (found,) = [each for each in self.objects() if each["message_type"] == message_type]
        return found


class Commands:
    """Runs commands in this process."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *words: object) -> Outcome:
        code = main([str(word) for word in words])
        assert type(code) is not bool
        return Outcome(code, *self._capture.readouterr())


def address(gateway: Gateway) -> str:
    """How a gateway is named on the command line."""
    return f"127.0.0.1:{gateway.port}"


@contextlib.contextmanager
def process(*words: object, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`python -m pynetwork ...` with pipes; ended at the end, if it has not by then."""
    with subprocess.Popen(
        [sys.executable, "-m", "pynetwork", *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    ) as started:
        try:
            yield started
        finally:
            if started.poll() is None:
                started.kill()


def seen_enough(started: subprocess.Popen[str]) -> tuple[int, str]:
    """Read a line and close the pipe: the exit code, and what was on stderr."""
    assert started.stdout is not None
    assert started.stderr is not None
    assert started.stdout.readline()
    started.stdout.close()
    return started.wait(20), started.stderr.read()


def interrupt(started: subprocess.Popen[str]) -> tuple[int, float, str]:
    """Ctrl-C: the exit code, the seconds it took, and what was on stderr."""
    began = time.monotonic()
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=20)
    return started.returncode, time.monotonic() - began, err
