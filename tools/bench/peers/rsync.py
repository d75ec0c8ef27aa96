"""rsync from its daemon: the fastest way that it has, as nothing is encrypted."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tools.bench.peers import RSYNC
from tools.bench.peers.programs import free_port, path_of, serving
from tools.bench.workloads.files import Fetch, FileSides

__all__ = ["Files"]


class Files(FileSides):
    """One connection, whatever their number: there is no option for more."""

    def __init__(self) -> None:
        self._place: list[str] = []

    @contextlib.contextmanager
    def serve(self, source: Path) -> Iterator[str]:
        """A daemon with one module."""
        port = free_port()
        settings = ["use chroot = no", "reverse lookup = no", "hosts allow = 127.0.0.1"]
        settings += ["[source]", f"path = {source}", "read only = yes"]
        if os.geteuid() == 0:
            # Else it takes the rights of nobody, who may not read what others make for themselves.
            settings += ["uid = 0", "gid = 0"]
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "rsyncd.conf"
            config.write_text("\n".join(settings) + "\n", encoding="utf-8")
            command = [path_of(RSYNC), "--daemon", "--no-detach", "--address=127.0.0.1", f"--port={port}"]
            with serving([*command, f"--config={config}", f"--log-file={folder}/log"], port):
                yield f"rsync://127.0.0.1:{port}/source/"

    @contextlib.contextmanager
    def session(self, address: str, connections: int) -> Iterator[Fetch]:
        """The time of the program's start counts."""
        del connections

        def fetch(target: Path) -> None:
            options = ["--archive", "--whole-file", "--ignore-times", *self._place]
            subprocess.run([path_of(RSYNC), *options, address, f"{target}/"], check=True)

        yield fetch

    def adopt(self, target: Path) -> None:
        """It writes over the files themselves where it is told to."""
        del target
        self._place = ["--inplace"]
