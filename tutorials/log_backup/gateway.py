"""The gateway of the log backup: shares a folder of logs, and tells how full the disk is."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from pynetwork import Gateway, PynetworkError


def make_gateway(folder: Path, port: int) -> Gateway:
    """A gateway that shares these logs, and lets go of those that are proved to be backed up."""
    key = os.environ.get("PYNETWORK_KEY")
    gateway = Gateway(port, share={"logs": folder}, key=key, rights="call, read, remove")

    @gateway.subroutine
    def disk_usage() -> float:
        """How full the disk is that the logs are on, in percent."""
        usage = shutil.disk_usage(folder)
        return 100 * usage.used / usage.total

    return gateway


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder of logs")
    parser.add_argument("--port", type=int, default=1857, help="where to listen (default 1857)")
    options = parser.parse_args()
    with make_gateway(options.folder, options.port) as gateway:
        print(f"listening on port {gateway.port}, Ctrl-C ends it", flush=True)
        gateway.wait()


if __name__ == "__main__":
    try:
        main()
    except PynetworkError as error:
        sys.exit(f"{type(error).__name__}: {error}")
