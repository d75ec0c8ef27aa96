"""One of many gateways: streams what its machine is doing."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator

import psutil

from pynetwork import Gateway, PynetworkError


def readings(rate: float = 1.0) -> Iterator[dict[str, float]]:
    """Percent of processor and memory that are in use, ``rate`` times a second."""
    psutil.cpu_percent()  # the next one tells the load since this one
    while True:
        time.sleep(1 / rate)
        yield {"cpu": psutil.cpu_percent(), "memory": psutil.virtual_memory().percent}


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=1857, help="where to listen (default 1857)")
    options = parser.parse_args()
    gateway = Gateway(options.port, key=os.environ.get("PYNETWORK_KEY"))
    gateway.add_subroutine("readings", readings)
    with gateway:
        print(f"listening on port {gateway.port}, Ctrl-C ends it", flush=True)
        gateway.wait()


if __name__ == "__main__":
    try:
        main()
    except PynetworkError as error:
        sys.exit(f"{type(error).__name__}: {error}")
