"""Does bulk data leave a live stream alone? Both come from one gateway, over one emulated link.

``python -m tools.link.priority`` prints how long the items of a stream are on their way: alone, beside bulk data, and
beside bulk data that gives way (`pynetwork.pacing`), and what part of the link the bulk data had. The queue of the link
is first in, first out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.bench.figures import quantile
from tools.link import End, Link, LinkUnavailable

__all__ = ["Figures", "Setting", "main", "measure"]

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Setting:
    """What is measured: ``rate`` bytes per second, ``trip`` seconds there and back, ``queue`` bytes (None: the usual),
    ``loss`` a part of the packets, ``items`` of the stream per second, ``congestion`` a kernel's name or empty.
    """

    rate: float = 50e6 / 8
    trip: float = 0.02
    queue: int | None = None
    loss: float = 0.0
    items: float = 100.0
    seconds: float = 10.0
    congestion: str = ""


@dataclass(frozen=True)
class Figures:
    """Seconds that items were on their way, and what part of the link's rate the bodies of the bulk data were."""

    median: float
    p99: float
    worst: float
    used: float | None = None


class _Talkers:
    """Callers at one end of a link, and the gateway that they call at the other. A context manager."""

    def __init__(self, link: Link, setting: Setting) -> None:
        self._link = link
        self._setting = setting
        self._gateway = self._start(link.far, "serve", link.far.address, setting.congestion, stdin=subprocess.PIPE)
        assert self._gateway.stdout is not None
        if not self._gateway.stdout.readline():
            with self._gateway:
                raise RuntimeError("the gateway at an end of the link failed")

    def _start(self, end: End, name: str, *arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tools.link.talkers", name, *map(json.dumps, arguments)]
        return self._link.run(end, command, stdout=subprocess.PIPE, cwd=_ROOT, **options)

    def __enter__(self) -> _Talkers:
        return self

    def __exit__(self, *_exception: object) -> None:
        # Its input ends, and so does it.
        with self._gateway:
            pass

    def figures(self, lanes: int, polite: bool) -> Figures:
        """One run; without lanes there is no bulk data."""
        setting, host = self._setting, self._link.far.address
        bulk = self._start(self._link.near, "bulk", host, lanes, polite, setting.seconds) if lanes else None
        live = self._start(self._link.near, "live", host, setting.items, setting.seconds)
        taken: list[float] = _said(live)
        used = None if bulk is None else _said(bulk) / setting.rate
        return Figures(quantile(taken, 0.5), quantile(taken, 0.99), max(taken), used)


def _said(program: subprocess.Popen[bytes]) -> Any:
    """What a talker prints in the end. Raises RuntimeError when it failed; it has said why."""
    said = program.communicate()[0]
    if not said:
        raise RuntimeError(f"a program at an end of the link failed with exit code {program.returncode}")
    return json.loads(said)


def measure(setting: Setting, lanes: Sequence[int]) -> Iterator[tuple[int, bool, Figures]]:
    """Lanes, whether they give way, and the figures: alone first, then for each number of lanes both ways.

    Raises `LinkUnavailable`.
    """
    with (
        Link(setting.rate, setting.trip / 2, setting.loss, setting.queue) as link,
        _Talkers(link, setting) as talkers,
    ):
        yield 0, False, talkers.figures(0, polite=False)
        for count in lanes:
            for polite in (False, True):
                yield count, polite, talkers.figures(count, polite)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table."""
    usual = Setting()
    parser = argparse.ArgumentParser(
        prog="python -m tools.link.priority", description="A live stream beside bulk data."
    )
    parser.add_argument("--rate", type=float, default=usual.rate, help="bytes per second, each way")
    parser.add_argument("--trip", type=float, default=usual.trip, help="seconds there and back")
    parser.add_argument("--queue", type=int, help="bytes that wait at most before the rate")
    parser.add_argument("--loss", type=float, default=usual.loss, help="the part of the packets that is lost, 0 to 1")
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="of each run")
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 2, 4], help="connections of the bulk data")
    parser.add_argument("--congestion", default="", help="cubic, bbr, ...; the system's own if not given")
    chosen = vars(parser.parse_args(arguments))
    lanes = chosen.pop("lanes")
    print("| bulk data | median ms | p99 ms | worst ms | part of the link |\n| --- | --- | --- | --- | --- |")
    try:
        for count, polite, figures in measure(Setting(**chosen), lanes):
            name = f"{count} lanes, {'giving way' if polite else 'plain'}" if count else "none"
            times = " | ".join(f"{1e3 * each:.1f}" for each in (figures.median, figures.p99, figures.worst))
            used = "" if figures.used is None else f"{figures.used:.1%}"
            print(f"| {name} | {times} | {used} |", flush=True)
    except LinkUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
