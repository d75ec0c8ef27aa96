"""A station that logs a line now and then, and begins a new file now and then: what a Pi does day and night."""

from __future__ import annotations

import argparse
import logging
import math
import time
from contextlib import suppress
from itertools import count
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path


def main() -> None:
    """Log until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder for the logs; it is made if need be")
    parser.add_argument("--rate", type=float, default=100.0, help="lines a second (default 100)")
    parser.add_argument("--rotate", type=int, default=20, help="seconds after which a file is full (default 20)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    handler = TimedRotatingFileHandler(options.folder / "station.log", when="S", interval=options.rotate)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("station")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    for number in count():
        logger.info("reading %d: %.2f degrees", number, 20 + 5 * math.sin(number / 1000))
        time.sleep(1 / options.rate)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
