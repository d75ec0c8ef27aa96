"""``pynetwork series export``: records into a file."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterable, Iterator

from handshakes.records import Block
from pynetwork.cli.common import Exit, Output
from pynetwork.cli.display import on_terminal
from pynetwork.cli.gateway import signals
from pynetwork.cli.series.getting import tell_misfits
from pynetwork.cli.series.payloads import Payload
from pynetwork.cli.series.sources import opened, range_of, server_and_file
from pynetwork.series.datafiles import write_blocks

__all__ = ["export"]


def export(arguments: argparse.Namespace) -> int:
    """Write them; 9 when there are none, and what has the name of the file stays then."""
    output = Output(arguments, wanted=False)
    address, path = server_and_file(arguments)
    box = range_of(arguments)
    began = time.monotonic()
    passing = _Passing(arguments.payload, shown=on_terminal() and not output.json)
    count = 0
    # SIGTERM must not leave an unfinished file behind.
    with signals(Exit.TERMINATED), opened(arguments, address) as source, contextlib.suppress(_Nothing):
        count = write_blocks(path, passing.through(source.blocks(box)), arguments.payload.type)
    tell_misfits(output, passing.misfits, arguments.payload)
    seconds = time.monotonic() - began
    text = f"wrote {count} {'record' if count == 1 else 'records'} into {path} in {seconds:.2f} s"
    if not count:
        output.note(f"there are no such records: {path} was not written")
    output.event(
        "summary",
        text if count else None,
        records=count,
        left_out=passing.misfits,
        file=path if count else None,
        seconds=round(seconds, 6),
    )
    return Exit.OK if count else Exit.NOTHING


class _Nothing(Exception):
    """There were no records at all, and no file is to be written."""


class _Passing:
    """Lets blocks through: only records of the payload, and with a bar if one is ``shown``. Raises `_Nothing`."""

    def __init__(self, payload: Payload, *, shown: bool) -> None:
        self.misfits = 0
        self._payload = payload
        self._shown = shown

    def through(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Those of ``blocks`` that fit."""
        # Only now: importing it takes half as long as numpy.
        from tqdm import tqdm  # noqa: PLC0415

        passed = False
        with tqdm(desc="export", unit=" records", unit_scale=True, disable=not self._shown) as bar:
            for block in blocks:
                fitting = self._payload.fitting(block)
                self.misfits += len(block) - len(fitting)
                if len(fitting):
                    passed = True
                    yield fitting
                bar.update(len(block))
        if not passed:
            raise _Nothing
