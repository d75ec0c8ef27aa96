"""Records on the screen: as a table for people, as one JSON object a line, as CSV."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence

from handshakes.records import FIELDS, Block
from pynetwork.cli.common import Output
from pynetwork.cli.series.cells import plain_values, table_cells
from pynetwork.cli.series.moments import iso_column, short_column
from pynetwork.cli.series.payloads import Payload
from pynetwork.series.datafiles import write_csv

__all__ = ["Printer", "names_of", "printer_for"]

_WIDEST = 60


def names_of(block: Block) -> list[str]:
    """The series of each record, as ``CID/MID/MOID``."""
    return [f"{cid}/{mid}/{moid}" for cid, mid, moid in zip(*_name_columns(block), strict=True)]


def _name_columns(block: Block) -> list[list[int]]:
    return [block.column(name).tolist() for name in FIELDS[:3]]


class Printer(ABC):
    """Prints blocks as they come. What is not of the ``payload`` is left out and counted in ``misfits``."""

    def __init__(self, payload: Payload, output: Output) -> None:
        self.payload = payload
        self.output = output
        self.printed = 0
        self.misfits = 0

    @abstractmethod
    def show(self, blocks: Iterable[Block]) -> None:
        """Print all of these, flushed block by block."""

    def _fitting(self, blocks: Iterable[Block]) -> Iterator[Block]:
        for block in blocks:
            fitting = self.payload.fitting(block)
            self.misfits += len(block) - len(fitting)
            self.printed += len(fitting)
            if len(fitting):
                yield fitting
                sys.stdout.flush()


class TablePrinter(Printer):
    """Columns below each other, as wide as they have needed so far."""

    def show(self, blocks: Iterable[Block]) -> None:
        heads = ["captured", "series", *self.payload.names]
        widths = list(map(len, heads))
        for block in self._fitting(blocks):
            columns = [short_column(block.column("cap")), names_of(block)]
            columns += map(table_cells, self.payload.columns(block))
            widths = [
                max(width, min(_WIDEST, max(map(len, column)))) for width, column in zip(widths, columns, strict=True)
            ]
            if heads:
                self._write(heads, widths)
                heads = []
            for row in zip(*columns, strict=True):
                self._write(row, widths)

    def _write(self, row: Sequence[str], widths: list[int]) -> None:
        text = "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True))
        self.output.result("", text.rstrip())


class JsonPrinter(Printer):
    """One object a line, with all of the key."""

    def show(self, blocks: Iterable[Block]) -> None:
        names = self.payload.names
        for block in self._fitting(blocks):
            caps, acqs = (iso_column(block.column(name)) for name in ("cap", "acq"))
            columns = [plain_values(column) for column in self.payload.columns(block)]
            rows = zip(*_name_columns(block), caps, acqs, zip(*columns, strict=True), strict=True)
            for cid, mid, moid, cap, acq, values in rows:
                value = dict(zip(names, values, strict=True)) if self.payload.has_fields else values[0]
                self.output.result("record", None, cid=cid, mid=mid, moid=moid, cap=cap, acq=acq, payload=value)


class CsvPrinter(Printer):
    """Comma-separated, as `pynetwork.series.datafiles` has it."""

    def show(self, blocks: Iterable[Block]) -> None:
        write_csv(sys.stdout, self._fitting(blocks), self.payload.type)


def printer_for(output: Output, payload: Payload, *, as_csv: bool) -> Printer:
    """The printer that the options ask for."""
    return (CsvPrinter if as_csv else JsonPrinter if output.json else TablePrinter)(payload, output)
