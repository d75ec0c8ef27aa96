"""``pynetwork series put``: records from a file."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator

from pynetwork.cli.common import Exit, Output
from pynetwork.cli.display import on_terminal, visible
from pynetwork.cli.series.reading import RecordsFile, opened_file
from pynetwork.cli.series.sources import (
    Source,
    opened,
    server_and_file,
    whole_series,
)

__all__ = ["put"]

_MOST_COMPLAINTS = 20
_EVERY = 1.0


def put(arguments: argparse.Namespace) -> int:
    """Put them; 0 when all are durable, 1 when some lines were left out."""
    # Nobody has to listen for the records to be put.
    output = Output(arguments, wanted=False)
    address, path = server_and_file(arguments)
    series = None if arguments.series is None else whole_series(arguments.series)
    complaints = _Complaints(output)
    began = time.monotonic()
    with (
        opened_file(path, arguments.payload, series, arguments.times, complaints) as file,
        opened(arguments, address, create=True) as source,
        _progress(output, file) as tell,
    ):
        count = _put_all(source, file, tell, output)
    seconds = time.monotonic() - began
    bad = complaints.count
    text = f"put {count} {'record' if count == 1 else 'records'} in {seconds:.2f} s"
    if bad:
        text += f"; {bad} {'line was' if bad == 1 else 'lines were'} left out"
    output.event("summary", text, records=count, bad_lines=bad, seconds=round(seconds, 6))
    return Exit.ERROR if bad else Exit.OK if count else Exit.NOTHING


def _put_all(source: Source, file: RecordsFile, tell: Callable[[int], object], output: Output) -> int:
    count = 0
    try:
        for block in file.blocks():
            source.put(block, with_acq=file.with_acq)
            count += len(block)
            tell(count)
    except BaseException:
        if count:
            output.note("1 record was put before that" if count == 1 else f"{count} records were put before that")
        raise
    return count


class _Complaints:
    """Names the lines that are left out, the first ones of them."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self.count = 0

    def __call__(self, line: int, reason: str) -> None:
        self.count += 1
        if self._output.json:
            self._output.result("bad_line", None, line=line, reason=reason)
        elif self.count <= _MOST_COMPLAINTS:
            self._output.note(f"line {line} is left out: {visible(reason)}")
        elif self.count == _MOST_COMPLAINTS + 1:
            self._output.note("more lines are left out")


@contextlib.contextmanager
def _progress(output: Output, file: RecordsFile) -> Iterator[Callable[[int], object]]:
    """What is to be called with the records so far: a bar on a terminal, or an object a second with --json."""
    if output.json:
        last = time.monotonic()

        def tell(records: int) -> None:
            nonlocal last
            if time.monotonic() - last >= _EVERY:
                last = time.monotonic()
                output.event("progress", None, records=records, bytes_done=file.read, bytes_total=file.total)

        yield tell
        return
    if not on_terminal():
        yield lambda _: None
        return
    # Only now: importing it takes half as long as numpy.
    from tqdm import tqdm  # noqa: PLC0415

    unit = "B" if file.total else " records"
    with tqdm(total=file.total, desc="put", unit=unit, unit_scale=True) as bar:
        yield lambda records: bar.update((file.read if file.total else records) - bar.n)
