"""The controller: lets the sensors run for a while, asks for what was recorded meanwhile, and draws it."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import plotext
import sensors
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pynetwork import Controller, PynetworkError
from pynetwork.series import Key, NumpyPayloadType, SeriesKey

Array = numpy.ndarray[Any, Any]


def time_there(controller: Controller) -> int:
    """The time by the clock of the gateway, in nanoseconds as the store counts them."""
    with controller.get_client() as client, client.series() as channel:
        answer = channel.get_acq(Key.min(), Key.max())
        answer.raise_for_status()
        return answer.acq


def run_sensor(controller: Controller, name: str, seconds: float) -> int:
    """Let a sensor run for so long; answers how many readings there were."""
    with controller.get_client() as client:
        return sum(1 for _ in client.stream(name, seconds, timeout=10))


def recorded(controller: Controller, series: SeriesKey, payload: NumpyPayloadType, since: int) -> Array:
    """What was recorded of a series since then, in the order of time, with its fields as columns."""
    with controller.get_client() as client, client.series(payload) as channel:
        answer = channel.get(*series.range(since))
        answer.raise_for_status()
    data: Array = numpy.asarray(answer.data)
    if not len(data):
        sys.exit(f"nothing was recorded of {series}; let the sensors run for longer")
    return numpy.sort(data, order="cap")


class Line(NamedTuple):
    """One number of one sensor, down-sampled: the least and the greatest value in each span of time."""

    title: str
    seconds: Array
    least: Array
    greatest: Array


def line(title: str, data: Array, field: str, spans: int) -> Line:
    """``field`` of these readings in so many equal spans of time."""
    elapsed = data["cap"] - data["cap"][0]
    span = elapsed * spans // (elapsed[-1] + 1)
    begins = numpy.flatnonzero(numpy.diff(span, prepend=-1))
    least = numpy.minimum.reduceat(data[field], begins)
    greatest = numpy.maximum.reduceat(data[field], begins)
    return Line(title, elapsed[begins] / 1e9, least, greatest)


def save(lines: list[Line], path: Path) -> None:
    """Draw the lines below each other into a file."""
    figure = Figure(figsize=(8, 2 * len(lines)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, each in zip(figure.subplots(len(lines), sharex=True), lines, strict=True):
        axes.fill_between(each.seconds, each.least, each.greatest, alpha=0.4)
        axes.plot(each.seconds, each.greatest, linewidth=1)
        axes.set_title(each.title, fontsize="medium")
    axes.set_xlabel("seconds")
    figure.savefig(path, dpi=100)


def picture(text: str) -> Path:
    """A file to draw into, whose suffix says how."""
    path, suffixes = Path(text), sorted(FigureCanvasAgg.filetypes)
    if path.suffix[1:].lower() not in suffixes:
        raise argparse.ArgumentTypeError(f"{text} is no picture: its suffix must be one of .{', .'.join(suffixes)}")
    return path


def show(each: Line, width: int) -> None:
    """Draw a line in the terminal."""
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.limit_size(False, False)
    plotext.plot_size(width, 10)
    plotext.title(each.title)
    both = numpy.stack([each.least, each.greatest], axis=1).reshape(-1)
    plotext.plot(numpy.repeat(each.seconds, 2).tolist(), both.tolist(), marker="braille")
    print(plotext.uncolorize(plotext.build()))


def main() -> None:
    """Record for some seconds, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host", nargs="?", default="127.0.0.1", help="where the gateway is (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=1857, help="where it listens (default 1857)")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long the sensors run (default 3)")
    parser.add_argument("--chart", type=picture, default=Path("chart.png"), help="the file to draw into (chart.png)")
    options = parser.parse_args()
    controller = Controller(options.host, options.port, key=os.environ.get("PYNETWORK_KEY"))
    began = time_there(controller)

    names = ("temperature", "acceleration", "power")
    with ThreadPoolExecutor(len(names)) as threads:
        counts = threads.map(lambda name: run_sensor(controller, name, options.seconds), names)
        for name, count in zip(names, counts, strict=True):
            print(f"{name}: {count} readings")

    temperature = recorded(controller, sensors.TEMPERATURE, sensors.NUMBER, began)
    acceleration = recorded(controller, sensors.ACCELERATION, sensors.VECTOR, began)
    power = recorded(controller, sensors.POWER, sensors.NUMBER, began)
    print(f"recorded: {len(temperature)}, {len(acceleration)} and {len(power)} readings")

    width = min(100, shutil.get_terminal_size((80, 25)).columns)
    lines = [
        line("temperature, degrees Celsius", temperature, "v0", width),
        line("acceleration in x, g", acceleration, "x", width),
        line("power, watt", power, "v0", width),
    ]
    save(lines, options.chart)
    for each in lines:
        show(each, width)
    print(f"the same is in {options.chart}")


if __name__ == "__main__":
    try:
        main()
    except (PynetworkError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
