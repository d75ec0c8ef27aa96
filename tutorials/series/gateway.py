"""The gateway: its sensors are recorded into a store on its own disk, and others may ask for what is in there."""

from __future__ import annotations

import argparse
import os
import sys

import sensors

from pynetwork import Gateway, PynetworkError
from pynetwork.series import SeriesService, SeriesStore


def make_gateway(store: SeriesStore, port: int) -> Gateway:
    """A gateway whose three streams are recorded."""
    gateway = Gateway(port, key=os.environ.get("PYNETWORK_KEY"))
    gateway.add_service("series", SeriesService(store))
    gateway.add_subroutine("temperature", sensors.temperature, series=sensors.TEMPERATURE, payload=sensors.NUMBER)
    gateway.add_subroutine("acceleration", sensors.acceleration, series=sensors.ACCELERATION, payload=sensors.VECTOR)
    gateway.add_subroutine("power", sensors.power, series=sensors.POWER, payload=sensors.NUMBER)
    return gateway


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="data", help="the folder for what is recorded (default data)")
    parser.add_argument("--port", type=int, default=1857, help="where to listen (default 1857)")
    options = parser.parse_args()
    with SeriesStore(options.store) as store, make_gateway(store, options.port) as gateway:
        print(f"listening on port {gateway.port}, Ctrl-C ends it", flush=True)
        gateway.wait()


if __name__ == "__main__":
    try:
        main()
    except (PynetworkError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
