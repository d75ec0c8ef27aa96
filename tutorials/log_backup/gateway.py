"""The gateway of the log backup: shares a folder of logs, and removes those that have been copied elsewhere."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from digest import digest_of

from pynetwork import Gateway, PynetworkError


class Logs:
    """A folder of logs that nobody writes to any more."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def disk_usage(self) -> dict[str, int]:
        """Bytes of the disk that the logs are on, ``total`` and ``used``."""
        usage = shutil.disk_usage(self.folder)
        return {"total": usage.total, "used": usage.used}

    def oldest_first(self) -> list[tuple[str, int]]:
        """Every log: its path within the folder, and its bytes."""
        found = [path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink()]
        found.sort(key=lambda path: path.stat().st_mtime)
        return [(path.relative_to(self.folder).as_posix(), path.stat().st_size) for path in found]

    def remove(self, copied: list[str]) -> str:
        """Remove the log ``[path, digest]`` if its digest is still that one; answers what became of it."""
        path, digest = copied
        target = self.folder / path
        if self.folder not in target.parents or target.resolve() != target:
            return "it is none of the logs"
        if not target.is_file():
            return "it is gone already"
        try:
            if digest_of(target) != digest:
                return "it is not what was copied"
            target.unlink()
        except OSError as error:
            return f"it can't be removed: {error.strerror}"
        return "removed"


def make_gateway(logs: Logs, port: int) -> Gateway:
    """A gateway that offers these logs."""
    gateway = Gateway(port, share={"logs": logs.folder}, key=os.environ.get("PYNETWORK_KEY"))
    gateway.add_subroutine("disk_usage", logs.disk_usage)
    gateway.add_subroutine("oldest_first", logs.oldest_first)
    gateway.add_subroutine("remove", logs.remove)
    return gateway


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder of logs")
    parser.add_argument("--port", type=int, default=1857, help="where to listen (default 1857)")
    options = parser.parse_args()
    with make_gateway(Logs(options.folder), options.port) as gateway:
        print(f"listening on port {gateway.port}, Ctrl-C ends it", flush=True)
        gateway.wait()


if __name__ == "__main__":
    try:
        main()
    except PynetworkError as error:
        sys.exit(f"{type(error).__name__}: {error}")
