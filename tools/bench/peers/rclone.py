"""rclone: one serves a folder, the other copies it.

The server that speaks WebDAV answers plain HTTP too, and sends large files faster than the one for HTTP; the
client for HTTP copies small files faster than the one for WebDAV, which waits 10 ms before each request. The two
for SFTP take twice as long as that to see that nothing has changed, and to copy.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

from tools.bench.peers import RCLONE
from tools.bench.peers.programs import flushing, free_port, path_of, serving
from tools.bench.workloads.files import Fetch, FileSides

__all__ = ["Backup", "FewBackup", "Files", "FlushedBackup"]

# No settings of whoever runs this, and none written.
_OWN = ["--config", os.devnull, "--quiet"]


class Backup(FileSides):
    """As many transfers as connections; a large file is cut into as many streams."""

    options: tuple[str, ...] = ()

    @contextlib.contextmanager
    def serve(self, source: Path, host: str) -> Iterator[tuple[str, int, int]]:
        """Only to be read. The address has a second port, to control the server by."""
        port, control = free_port(), free_port()
        command = [path_of(RCLONE), "serve", "webdav", str(source), "--addr", f"{host}:{port}", "--read-only"]
        command += ["--rc", "--rc-no-auth", "--rc-addr", f"{host}:{control}"]
        with serving([*command, *_OWN], port, host):
            yield host, port, control

    @contextlib.contextmanager
    def session(self, address: tuple[str, int, int], connections: int) -> Iterator[Fetch]:
        """The time of the program's start counts."""
        host, port, control = address
        # It looks at a folder once in five minutes. Told to look each time it takes four times as long for everything.
        with contextlib.closing(HTTPConnection(host, control)) as forgetting:
            forgetting.request("POST", "/vfs/forget")
            forgetting.getresponse().read()
        number = str(connections)
        command = [path_of(RCLONE), "copy", ":http:", "--http-url", f"http://{host}:{port}", *self.options]
        command += ["--transfers", number, "--multi-thread-streams", number, *_OWN]

        def fetch(target: Path) -> None:
            subprocess.run([*command, str(target)], check=True)

        yield fetch


class FewBackup(Backup):
    """For where each file is several round trips."""

    few = True


class Files(Backup):
    """Everything, as if nothing were known of what is there."""

    options = ("--ignore-times",)


class FlushedBackup(Backup):
    """With what it wrote on the disk at the end."""

    @contextlib.contextmanager
    def session(self, address: tuple[str, int, int], connections: int) -> Iterator[Fetch]:
        """As a line of the shell would do it."""
        with super().session(address, connections) as fetch:
            yield flushing(fetch)
