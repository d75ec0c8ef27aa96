"""The camera's consumer: looks at every frame that is fresh enough, and tells how old they were."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy

from pynetwork import Client, Controller, PynetworkError


def clock_offset(client: Client, tries: int = 20) -> tuple[float, float]:
    """Seconds that the gateway's clock is ahead of ours, and by how much that may be wrong.

    The gateway's answer belongs to some moment between question and reply; of several, the shortest wait says most.
    """
    answers = []
    for _ in range(tries):
        asked = time.time()
        theirs = client.call("clock")
        replied = time.time()
        answers.append((replied - asked, theirs - (asked + replied) / 2))
    wait, offset = min(answers)
    return offset, wait / 2


@dataclass
class Tally:
    """What became of the frames; ages are in seconds."""

    used: list[float] = field(default_factory=list)
    dropped: int = 0
    missed: int = 0
    bytes: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        came = len(self.used) + self.dropped
        rate = came / max(self.seconds, 1e-9)
        text = (
            f"{came} frames in {self.seconds:.1f} s: {rate:.1f} a second, {self.bytes / 1e6:.1f} MB\n"
            f"{len(self.used)} used, {self.dropped} dropped as too late; {self.missed} were never taken"
        )
        if self.used:
            ages = sorted(1000 * age for age in self.used)
            text += (
                f"\nages of those used: median {statistics.median(ages):.2f} ms, "
                f"99 % below {ages[len(ages) * 99 // 100]:.2f} ms, most {ages[-1]:.2f} ms"
            )
        return text


def look_at(frame: numpy.ndarray[Any, Any], work: float) -> float:
    """What a detector would do: it takes ``work`` seconds, and answers the mean brightness."""
    time.sleep(work)
    return float(frame.mean())


def consume(client: Client, options: argparse.Namespace, tally: Tally) -> None:
    """Take frames for so many seconds."""
    offset, error = clock_offset(client)
    print(f"the gateway's clock is {1000 * offset:+.2f} ms off ours, give or take {1000 * error:.2f} ms", flush=True)
    began = time.monotonic()
    last = -1
    for number, (taken, frame) in client.stream("frames", options.rate, timeout=5):
        age = time.time() + offset - taken
        tally.bytes += frame.nbytes
        tally.missed += number - last - 1
        last = number
        if age > options.late:
            tally.dropped += 1
        else:
            look_at(frame, options.work)
            tally.used.append(age)
        tally.seconds = time.monotonic() - began
        if tally.seconds >= options.seconds:
            break


def main() -> None:
    """Consume, and tell what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host", nargs="?", default="127.0.0.1", help="where the gateway is (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=1857, help="where it listens (default 1857)")
    parser.add_argument("--rate", type=float, default=30.0, help="frames a second (default 30)")
    parser.add_argument("--late", type=float, default=0.1, help="drop frames older than so many seconds (default 0.1)")
    parser.add_argument("--work", type=float, default=0.0, help="spend so many seconds on each (default 0)")
    parser.add_argument("--seconds", type=float, default=10.0, help="for so long (default 10)")
    options = parser.parse_args()
    tally = Tally()
    try:
        with Controller(options.host, options.port, key=os.environ.get("PYNETWORK_KEY")).get_client() as client:
            consume(client, options, tally)
    finally:
        if tally.seconds:
            print(tally)


if __name__ == "__main__":
    try:
        main()
    except PynetworkError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
