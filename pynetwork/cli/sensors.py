"""This machine's own sensors, read with psutil: what `pynetwork demo` streams.

A reading is a mapping of names to numbers. Rates are over the time since the last reading, so every `Sensor`
has a state of its own and belongs to one reader.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import psutil

from pynetwork.gateway import Gateway

__all__ = ["LogWriter", "Sensor", "add_sensors", "find_sensors", "machine", "record_cpu", "sensors"]

Reading = dict[str, float]


@dataclass(frozen=True)
class Sensor:
    """One source of readings: its name, its unit, and how it is read."""

    name: str
    unit: str
    read: Callable[[], Reading]


def find_sensors() -> list[Sensor]:
    """Those that this machine has, each in a state of its own."""
    candidates = [
        Sensor("cpu", "%", CpuMeter(window=0.25)),
        Sensor("memory", "%", _memory),
        Sensor("disk", "B/s", _Rates(_disk_counters)),
        Sensor("network", "B/s", _Rates(_network_counters)),
        Sensor("temperature", "C", _temperatures),
        Sensor("load", "", _load),
    ]
    return [sensor for sensor in candidates if sensor.read()]


class CpuMeter:
    """Per cent of its time that each core was busy, over at least the last ``window`` seconds.

    Kernels count in ticks of 1 to 10 ms: a short window shows few different figures.
    """

    def __init__(self, window: float = 0.0) -> None:
        self._window = window
        self._before = self._times()
        self._last = [0.0] * len(self._before)

    @staticmethod
    def _times() -> list[tuple[float, float]]:
        """Busy and all seconds of each core."""
        found = []
        for times in psutil.cpu_times(percpu=True):
            # The times of guests are within those of their hosts, on Linux.
            total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
            found.append((total - times.idle - getattr(times, "iowait", 0.0), total))
        return found

    def busy(self) -> list[float]:
        """The figure of each core, in their order; the former one while the window is not over."""
        now = self._times()
        for core, (before, after) in enumerate(zip(self._before, now, strict=False)):
            passed = after[1] - before[1]
            if passed > self._window:
                self._last[core] = min(100.0, max(0.0, 100.0 * (after[0] - before[0]) / passed))
                self._before[core] = after
        return self._last

    def __call__(self) -> Reading:
        return {str(core): round(percent, 1) for core, percent in enumerate(self.busy())}


class _Rates:
    """How fast counters rise, in their unit a second."""

    def __init__(self, counters: Callable[[], Reading]) -> None:
        self._counters = counters
        self._before = counters()
        self._when = time.monotonic()
        self._last = dict.fromkeys(self._before, 0.0)

    def __call__(self) -> Reading:
        now = time.monotonic()
        if now - self._when >= 0.01:
            counters = self._counters()
            self._last = {
                name: round(max(0.0, count - self._before.get(name, count)) / (now - self._when), 1)
                for name, count in counters.items()
            }
            self._before, self._when = counters, now
        return self._last


def _memory() -> Reading:
    memory = psutil.virtual_memory()
    return {
        "used": round(100.0 * (memory.total - memory.available) / memory.total, 2),
        "swap": psutil.swap_memory().percent,
    }


def _disk_counters() -> Reading:
    counters = psutil.disk_io_counters()
    return {} if counters is None else {"read": counters.read_bytes, "written": counters.write_bytes}


def _network_counters() -> Reading:
    counters = psutil.net_io_counters()
    return {} if counters is None else {"received": counters.bytes_recv, "sent": counters.bytes_sent}


def _temperatures() -> Reading:
    read = getattr(psutil, "sensors_temperatures", dict)
    return {
        entry.label or f"{name} {number}": entry.current
        for name, entries in read().items()
        for number, entry in enumerate(entries, 1)
    }


def _load() -> Reading:
    return dict(zip(("1 min", "5 min", "15 min"), (round(each, 2) for each in psutil.getloadavg()), strict=True))


# What a gateway offers


def machine() -> dict[str, Any]:
    """What this machine is."""
    return {
        "name": platform.node(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": platform.machine(),
        "python": platform.python_version(),
        "cores": psutil.cpu_count(),
        "memory": psutil.virtual_memory().total,
        "process": os.getpid(),
        "sensors": [sensor.name for sensor in find_sensors()],
    }


def record_cpu(count: int = 50, interval: float = 0.02) -> Any:
    """``count`` readings of all cores, ``interval`` seconds apart: per cent, shape (count, cores)."""
    meter = CpuMeter()
    rows = numpy.empty((count, len(meter.busy())))
    for row in rows:
        time.sleep(interval)
        row[:] = meter.busy()
    return rows


def sensors(rate: float = 10.0, lane: int = 0, lanes: int = 1) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every sensor ``rate`` times a second, until the reader leaves; the lanes of a swarm share them.

    The ident is the number of the round times the number of sensors, plus the sensor's place among them.
    """
    found = find_sensors()
    mine = list(enumerate(found))[lane::lanes]
    began = time.monotonic()
    rounds = 0
    while mine:
        # Rounds are due at multiples of the period: a late one does not make all later ones late.
        time.sleep(max(0.0, began + rounds / rate - time.monotonic()))
        for place, sensor in mine:
            reading = {
                "sensor": sensor.name,
                "unit": sensor.unit,
                "time": time.time(),
                "values": sensor.read(),
            }
            yield rounds * len(found) + place, reading
        rounds += 1


def add_sensors(gateway: Gateway) -> None:
    """Let a gateway offer all of these."""
    for function in (machine, record_cpu, sensors):
        gateway.add_subroutine(function.__name__, function)


class LogWriter:
    """Writes the readings of each sensor into a log of its own, for machines that have no logs to show.

    Each starts with ``first`` readings; from ``start`` to ``stop`` all go on, ``rate`` times a second.
    """

    def __init__(self, folder: str | os.PathLike[str], first: int = 200, rate: float = 20.0) -> None:
        self._folder = Path(folder)
        self._first = first
        self._pause = 1.0 / rate
        self._sensors = find_sensors()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)

    def start(self) -> None:
        """Write the first readings, then go on in the background."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for _ in range(self._first):
            self._write()
        self._thread.start()

    def stop(self) -> None:
        """Write no more."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._pause):
            self._write()

    def _write(self) -> None:
        for sensor in self._sensors:
            values = " ".join(f"{name.replace(' ', '_')}={each}" for name, each in sensor.read().items())
            with open(self._folder / f"{sensor.name}.log", "a", encoding="utf-8") as file:
                file.write(f"{time.time():.6f} {sensor.name} {values}\n")
