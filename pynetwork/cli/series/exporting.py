"""``pynetwork series export``: records into a file."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator

from handshakes.records import Block
from pynetwork.cli.common import Exit, Output
from pynetwork.cli.display import on_terminal
from pynetwork.cli.series.getting import tell_misfits
from pynetwork.cli.series.payloads import Payload
from pynetwork.cli.series.sources import opened, range_of, server_and_file
from pynetwork.series.datafiles import write_blocks

__all__ = ["export"]


def export(arguments: argparse.Namespace) -> int:
    """Write them; 9 when there are none, and the file holds none then."""
    output = Output(arguments)
    address, path = server_and_file(arguments)
    box = range_of(arguments)
    began = time.monotonic()
    with opened(arguments, address) as source:
        passing = _Passing(arguments.payload, shown=on_terminal() and not output.json)
        count = write_blocks(path, passing.through(source.blocks(box)), arguments.payload.type)
    tell_misfits(output, passing.misfits, arguments.payload)
    seconds = time.monotonic() - began
    text = f"wrote {count} {'record' if count == 1 else 'records'} into {path} in {seconds:.2f} s"
    output.event("summary", text, records=count, left_out=passing.misfits, file=path, seconds=round(seconds, 6))
    return Exit.OK if count else Exit.NOTHING


class _Passing:
    """Lets blocks through: only records of the payload, and with a bar if one is ``shown``."""

    def __init__(self, payload: Payload, *, shown: bool) -> None:
        self.misfits = 0
        self._payload = payload
        self._shown = shown

    def through(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Those of ``blocks`` that fit."""
        # Only now: importing it takes half as long as numpy.
        from tqdm import tqdm  # noqa: PLC0415

        with tqdm(desc="export", unit=" records", unit_scale=True, disable=not self._shown) as bar:
            for block in blocks:
                fitting = self._payload.fitting(block)
                self.misfits += len(block) - len(fitting)
                yield fitting
                bar.update(len(block))
