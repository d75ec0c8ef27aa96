"""``pynetwork series get`` and ``last``: records, printed or drawn."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from handshakes.records import Block
from pynetwork.cli.common import CommandFailed, Exit, Output
from pynetwork.cli.series.charts import Envelope, chart, chart_width, require_plotext
from pynetwork.cli.series.folding import by_series
from pynetwork.cli.series.payloads import Payload
from pynetwork.cli.series.printing import printer_for
from pynetwork.cli.series.sources import opened, range_of

__all__ = ["get", "last", "tell_misfits"]

_MOST_LINES = 16


def get(arguments: argparse.Namespace) -> int:
    """Print or draw; 9 when there is nothing."""
    output = Output(arguments)
    if arguments.plot is not None:
        if output.json:
            raise CommandFailed("--plot draws for people; take it or --json", Exit.USAGE)
        require_plotext()
    box = range_of(arguments)
    with opened(arguments, arguments.address) as source:
        blocks = source.blocks(box, newest=arguments.newest, limit=arguments.limit)
        if arguments.plot is not None:
            return _draw(blocks, arguments, output)
        return _print(blocks, arguments, output)


def last(arguments: argparse.Namespace) -> int:
    """Print the last record of each series; 9 when there is none."""
    box = range_of(arguments)
    with opened(arguments, arguments.address) as source:
        found = source.last(box)
        return _print([] if found is None else [found], arguments, Output(arguments))


def _print(blocks: Iterable[Block], arguments: argparse.Namespace, output: Output) -> int:
    printer = printer_for(output, arguments.payload, as_csv=arguments.csv)
    printer.show(blocks)
    tell_misfits(output, printer.misfits, arguments.payload)
    return Exit.OK if printer.printed else _nothing(output, printer.misfits)


def tell_misfits(output: Output, count: int, payload: Payload) -> None:
    """Say that ``count`` records were left out, unless there are none."""
    if count:
        records = "1 record was" if count == 1 else f"{count} records were"
        output.note(f"{records} left out: the payload is no {payload}; --payload says what payloads hold")


def _nothing(output: Output, misfits: int) -> int:
    if not misfits:
        output.note("there are no such records")
    return Exit.NOTHING


# Charts


def _draw(blocks: Iterable[Block], arguments: argparse.Namespace, output: Output) -> int:
    width = chart_width()
    envelopes: dict[str, Envelope] = {}
    misfits = 0
    left_out: set[str] = set()
    field = arguments.plot
    for block in blocks:
        fitting = arguments.payload.fitting(block)
        misfits += len(block) - len(fitting)
        for name, part in _parts(fitting):
            if name not in envelopes and len(envelopes) >= _MOST_LINES:
                left_out.add(name)
                continue
            # Two points a column, as the chart's letters have them.
            envelope = envelopes.setdefault(name, Envelope(2 * width))
            numbers = arguments.payload.numbers(part)
            field = field or next(iter(numbers), "")
            if field in numbers:
                envelope.add(part.column("cap"), numbers[field])
            elif arguments.payload.has_fields:
                raise _no_number(field, numbers)
    tell_misfits(output, misfits, arguments.payload)
    if left_out:
        output.note(f"{len(left_out)} more series are not drawn; choose with --series")
    if not envelopes:
        return _nothing(output, misfits)
    if not any(each.count for each in envelopes.values()):
        raise _no_number(field)
    output.result("", chart(envelopes, field, width))
    return Exit.OK


def _parts(block: Block) -> Iterator[tuple[str, Block]]:
    for series, part in by_series(block):
        yield "/".join(map(str, series)), part


def _no_number(wanted: str, found: Iterable[str] = ()) -> CommandFailed:
    hint = f"They have: {', '.join(found)}." if found else "--payload says what payloads hold, as in --payload f8."
    which = f"no number {wanted!r}" if wanted else "no number"
    return CommandFailed(f"payloads have {which} to draw", Exit.USAGE, hint)
