"""A stream of ours while a backup goes over the same link: ours from the same gateway, or another's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pynetwork import Controller, Gateway
from tools.bench.ours.backup import UnflushedCommand, key_for
from tools.bench.peers.rsync import Backup as RsyncBackup
from tools.bench.raw.sockets import Address
from tools.bench.workloads.files import FileSides
from tools.bench.workloads.links import BesideSides
from tools.bench.workloads.streams import Source

__all__ = ["Ours", "Rsync"]


class _Beside(BesideSides):
    def __init__(self, files: FileSides, *, own: bool) -> None:
        self._files = files
        self._own = own

    @contextlib.contextmanager
    def serve(self, source: Source, folder: Path, host: str) -> Iterator[tuple[Address, Any]]:
        """Where the stream is, and where the files are."""
        with contextlib.ExitStack() as stack:
            gateway = Gateway(0, host=host, max_poolsize=16, share={"source": folder}, key=key_for(host))
            gateway.add_subroutine("items", source)
            stack.enter_context(gateway)
            address = host, gateway.port
            yield address, address if self._own else stack.enter_context(self._files.serve(folder, host))

    @contextlib.contextmanager
    def items(self, address: tuple[Address, Any]) -> Iterator[Iterator[tuple[int, Any]]]:
        """`Client.stream`."""
        host, port = address[0]
        with Controller(host, port, key=key_for(host)).get_client() as client, client.stream("items") as stream:
            yield iter(stream)

    def back_up(self, address: tuple[Address, Any], target: Path) -> None:
        """By the command."""
        with self._files.session(address[1], 1) as fetch:
            fetch(target)


Ours = partial(_Beside, UnflushedCommand(), own=True)
Rsync = partial(_Beside, RsyncBackup(), own=False)
