"""``pynetwork series stats``: what series there are, and how much they hold."""

from __future__ import annotations

import argparse

import numpy

from pynetwork.cli.common import Exit, Output
from pynetwork.cli.display import size, table
from pynetwork.cli.series.folding import SeriesFigures
from pynetwork.cli.series.moments import iso, short_column, span
from pynetwork.cli.series.sources import opened, range_of

__all__ = ["stats"]


def stats(arguments: argparse.Namespace) -> int:
    """List them; 9 when there are none."""
    output = Output(arguments)
    box = range_of(arguments)
    with opened(arguments, arguments.address) as source:
        found = source.series(box)
        figures = source.figures()
    figures["horizon"] = iso(figures["horizon"])
    for each in found:
        cid, mid, moid = each.series
        first, last = iso(each.first), iso(each.last)
        output.result("series", None, cid=cid, mid=mid, moid=moid, records=each.records, first=first, last=last)
    if found and not output.json:
        output.result("", table([_HEAD, *map(_row, found)]))
    records = sum(each.records for each in found)
    text = f"{len(found)} series, {records} {'record' if records == 1 else 'records'}"
    if "file_bytes" in figures:
        text += f"; the store takes {size(figures['file_bytes'])}"
    output.event("summary", text, **{**figures, "series": len(found), "records": records})
    return Exit.OK if found else Exit.NOTHING


_HEAD = ("series", "records", "first", "last", "spans")


def _row(each: SeriesFigures) -> tuple[str, ...]:
    first, last = short_column(numpy.array([each.first, each.last]))
    return "/".join(map(str, each.series)), str(each.records), first, last, span(each.last - each.first)
