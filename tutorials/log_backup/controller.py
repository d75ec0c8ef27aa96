"""The controller of the log backup: brings here what is new in the logs, and makes room where their disk is full."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from pynetwork import Controller, PynetworkError


def back_up(controller: Controller, folder: Path, limit: float | None) -> bool:
    """Mirror the logs into ``folder``, at no more than ``limit`` bytes a second; answers whether all are there."""
    report = controller.backup("logs", folder, limit=limit)
    print(
        f"{report.files} logs of {report.bytes / 1e6:.1f} MB: {report.new} new, {report.grown} grown, "
        f"{report.moved} renamed, {report.changed} changed, {report.unchanged} unchanged; "
        f"{report.received / 1e6:.3f} MB came in {report.seconds:.1f} s"
    )
    for path, reason in report.skipped:
        print(f"  not backed up: {path}: {reason}")
    return report.complete


def make_room(controller: Controller, folder: Path, full: float, minutes: float) -> bool:
    """Have logs removed that are backed up in ``folder``, if their disk is fuller than ``full`` percent."""
    with controller.get_client() as client:
        usage = client.call("disk_usage")
    print(f"the disk of the logs is {usage:.1f} % full, the limit is {full:.1f} %")
    if usage <= full:
        return True
    report = controller.prune("logs", folder, older_than=60 * minutes)
    print(
        f"{len(report.removed)} logs of {report.bytes / 1e6:.1f} MB "
        f"{'would be removed; run it again to remove them' if report.dry_run else 'were removed from there'}"
    )
    for path, reason in report.kept:
        print(f"  not removed: {path}: {reason}")
    return not report.kept


def main() -> int:
    """Back up once; 0 when all went well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host", nargs="?", default="127.0.0.1", help="where the gateway is (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=1857, help="where it listens (default 1857)")
    parser.add_argument("--to", type=Path, default=Path("backup"), help="the folder for the backup (default backup)")
    parser.add_argument("--limit", type=float, help="megabytes a second at the most")
    parser.add_argument("--full", type=float, help="remove old logs there when the disk is fuller, in percent")
    parser.add_argument("--keep", type=float, default=10080.0, help="minutes that a log stays (default: a week)")
    options = parser.parse_args()
    controller = Controller(options.host, options.port, key=os.environ.get("PYNETWORK_KEY"))
    good = back_up(controller, options.to, options.limit and 1e6 * options.limit)
    if good and options.full is not None:
        good = make_room(controller, options.to, options.full, options.keep)
    return 0 if good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (PynetworkError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        print("stopped; run it again to go on from here")
        sys.exit(130)
