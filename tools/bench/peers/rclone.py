"""rclone: one serves a folder, the other copies it.

The server that speaks WebDAV answers plain HTTP too, and sends large files faster than the one for HTTP; the
client for HTTP copies small files faster than the one for WebDAV, which waits 10 ms before each request.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tools.bench.peers import RCLONE
from tools.bench.peers.programs import free_port, path_of, serving
from tools.bench.workloads.files import Fetch, FileSides

__all__ = ["Files"]

# No settings of whoever runs this, and none written.
_OWN = ["--config", os.devnull, "--quiet"]


class Files(FileSides):
    """As many transfers as connections; a large file is cut into as many streams."""

    @contextlib.contextmanager
    def serve(self, source: Path) -> Iterator[str]:
        """Only to be read."""
        port = free_port()
        command = [path_of(RCLONE), "serve", "webdav", str(source), "--addr", f"127.0.0.1:{port}", "--read-only"]
        with serving([*command, *_OWN], port):
            yield f"http://127.0.0.1:{port}"

    @contextlib.contextmanager
    def session(self, address: str, connections: int) -> Iterator[Fetch]:
        """The time of the program's start counts."""
        number = str(connections)
        command = [path_of(RCLONE), "copy", ":http:", "--http-url", address, "--ignore-times"]
        command += ["--transfers", number, "--multi-thread-streams", number, *_OWN]

        def fetch(target: Path) -> None:
            subprocess.run([*command, str(target)], check=True)

        yield fetch
