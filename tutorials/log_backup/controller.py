"""The controller of the log backup: moves the oldest logs here when the gateway's disk is fuller than a limit."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

from digest import digest_of

from pynetwork import Controller, PynetworkError, Swarm


def choose(logs: list[list[Any]], excess: float) -> list[str]:
    """The first of the logs, each ``[path, bytes]``, that are ``excess`` bytes together, or all."""
    chosen = []
    for path, size in logs:
        if excess <= 0:
            break
        chosen.append(path)
        excess -= size
    return chosen


def download(swarm: Swarm, chosen: list[str], folder: Path) -> list[str]:
    """Copy these logs into ``folder``; answers those that arrived."""
    report = swarm.download("logs", files=chosen, to=folder, durable=True)
    print(f"downloaded {report.files} of {len(chosen)} logs, {report.bytes / 1e6:.1f} MB in {report.seconds:.2f} s")
    for path, reason in report.skipped:
        print(f"  not downloaded: {path}: {reason}")
    skipped = {path for path, _ in report.skipped}
    return [path for path in chosen if path not in skipped]


def remove(swarm: Swarm, arrived: list[str], folder: Path) -> int:
    """Have the gateway remove what is the same here; answers how many logs that was."""
    copied = [[path, digest_of(folder / path)] for path in arrived]
    outcomes = list(swarm.map("remove", copied, timeout=60))
    removed = outcomes.count("removed")
    print(f"removed {removed} of {len(arrived)} logs from the gateway")
    for path, outcome in zip(arrived, outcomes, strict=True):
        if outcome != "removed":
            print(f"  not removed: {path}: {outcome}")
    return removed


def back_up(swarm: Swarm, limit: float, folder: Path) -> bool:
    """Move logs into ``folder`` if the disk is fuller than ``limit`` percent; answers whether all went well."""
    client = swarm.clients[0]
    usage = client.call("disk_usage")
    print(f"the disk is {100 * usage['used'] / usage['total']:.1f} % full, the limit is {limit:.1f} %")
    excess = usage["used"] - usage["total"] * limit / 100
    chosen = choose(client.call("oldest_first"), excess)
    if not chosen:
        print("nothing to move")
        return True
    arrived = download(swarm, chosen, folder)
    return remove(swarm, arrived, folder) == len(chosen)


def main() -> int:
    """Back up once; 0 when all went well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host", nargs="?", default="127.0.0.1", help="where the gateway is (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=1857, help="where it listens (default 1857)")
    parser.add_argument("--limit", type=float, default=80.0, help="percent of the disk (default 80)")
    parser.add_argument("--to", type=Path, default=Path("backup"), help="the folder for backups (default backup)")
    options = parser.parse_args()
    controller = Controller(options.host, options.port, key=os.environ.get("PYNETWORK_KEY"))
    with controller.get_swarm(4) as swarm:
        good = back_up(swarm, options.limit, options.to / time.strftime("%Y-%m-%d_%H-%M-%S"))
    return 0 if good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (PynetworkError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
