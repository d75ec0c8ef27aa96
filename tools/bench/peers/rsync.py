"""rsync from its daemon: the fastest way that it has, as nothing is encrypted."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tools.bench.peers import RSYNC
from tools.bench.peers.programs import free_port, path_of, serving
from tools.bench.raw.sockets import Address
from tools.bench.workloads.files import Fetch, FileSides

__all__ = ["Backup", "CompressedBackup", "Files", "FlushedBackup"]


class _Backup(FileSides):
    """``--archive``, as its users have it, and further options. One connection, whatever their number: there is no
    option for more.
    """

    def __init__(self, *options: str) -> None:
        self._options = [*options]

    @contextlib.contextmanager
    def serve(self, source: Path, host: str) -> Iterator[Address]:
        """A daemon with one module."""
        port = free_port()
        settings = ["use chroot = no", "reverse lookup = no"]
        if ipaddress.ip_address(host).is_loopback:
            settings += ["hosts allow = 127.0.0.1"]
        settings += ["[source]", f"path = {source}", "read only = yes"]
        if os.geteuid() == 0:
            # Else it takes the rights of nobody, who may not read what others make for themselves.
            settings += ["uid = 0", "gid = 0"]
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "rsyncd.conf"
            config.write_text("\n".join(settings) + "\n", encoding="utf-8")
            command = [path_of(RSYNC), "--daemon", "--no-detach", f"--address={host}", f"--port={port}"]
            with serving([*command, f"--config={config}", f"--log-file={folder}/log"], port, host):
                yield host, port

    @contextlib.contextmanager
    def session(self, address: Address, connections: int) -> Iterator[Fetch]:
        """The time of the program's start counts."""
        del connections
        host, port = address

        def fetch(target: Path) -> None:
            options = ["--archive", *self._options]
            subprocess.run([path_of(RSYNC), *options, f"rsync://{host}:{port}/source/", f"{target}/"], check=True)

        yield fetch


Backup = _Backup
CompressedBackup = partial(_Backup, "--compress")
FlushedBackup = partial(_Backup, "--fsync")


class Files(_Backup):
    """Everything, as if nothing were known of what is there."""

    def __init__(self) -> None:
        super().__init__("--whole-file", "--ignore-times")

    def adopt(self, target: Path) -> None:
        """It writes over the files themselves where it is told to."""
        del target
        self._options.append("--inplace")
