"""`Controller.backup`, and the command ``pynetwork backup``."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pynetwork import Controller, Gateway
from tools.bench.raw.sockets import Address
from tools.bench.workloads.files import Fetch, FileSides

__all__ = ["Backup", "Command", "UnflushedBackup", "UnflushedCommand", "key_for"]

_KEY = "what the two ends of a link share"


def key_for(host: str) -> str | None:
    """What a gateway at that address needs for a key."""
    return None if ipaddress.ip_address(host).is_loopback else _KEY


class _Backup(FileSides):
    """A gateway that shares a folder, and a controller that backs it up, over as many lanes as it likes."""

    in_process = True

    def __init__(self, **options: Any) -> None:
        self._options = options

    @contextlib.contextmanager
    def serve(self, source: Path, host: str) -> Iterator[Address]:
        """The folder is shared as "source"."""
        with Gateway(0, host=host, max_poolsize=16, share={"source": source}, key=key_for(host)) as gateway:
            yield host, gateway.port

    @contextlib.contextmanager
    def session(self, address: Address, connections: int) -> Iterator[Fetch]:
        """It connects by itself."""
        del connections
        host, port = address
        controller = Controller(host, port, key=key_for(host))

        def fetch(target: Path) -> None:
            report = controller.backup("source", target, progress=False, **self._options)
            if report.skipped:
                raise ValueError(f"skipped: {report.skipped}")

        yield fetch


class _Command(_Backup):
    """A program like the others', the start of Python included."""

    in_process = False

    def __init__(self, *options: str) -> None:
        super().__init__()
        self._arguments = options

    @contextlib.contextmanager
    def session(self, address: Address, connections: int) -> Iterator[Fetch]:
        """The time of the program's start counts."""
        del connections
        host, port = address
        # As for users: compiled once, and the key is none of the arguments.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYNETWORK_KEY"] = key_for(host) or ""
        command = [sys.executable, "-m", "pynetwork", "backup", f"{host}:{port}:source"]

        def fetch(target: Path) -> None:
            subprocess.run(
                [*command, str(target), *self._arguments], check=True, stdout=subprocess.DEVNULL, env=environment
            )

        yield fetch


Backup = _Backup
UnflushedBackup = partial(_Backup, durable=False)
Command = _Command
UnflushedCommand = partial(_Command, "--not-durable")
