"""Backups with faults, to see that a torture run finds them; see `tools.soak.torture.worker.Backup`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from pynetwork.controller import Controller
from tools.soak.torture.scene import SHARE

Options = dict[str, Any]


def download(controller: Controller, mirror: Path, options: Options, stop: threading.Event) -> dict[str, Any]:
    """Brings everything each time, whether it is there or not."""
    with controller.get_swarm(2) as swarm:
        report = swarm.download(SHARE, to=mirror, progress=False)
    return {"files": report.files}


def torn(controller: Controller, mirror: Path, options: Options, stop: threading.Event) -> dict[str, Any]:
    """Has one file whose middle is missing, leaves a partial file, and no small ones."""
    figures = download(controller, mirror, options, stop)
    file = mirror / "renamed.log.1"
    if file.exists():
        data = file.read_bytes()
        file.write_bytes(data[:1000] + data[2000:])
    (mirror / ".renamed.log.partial").write_bytes(b"")
    for file in (mirror / "small").iterdir():
        file.unlink()
    return figures


def confused(controller: Controller, mirror: Path, options: Options, stop: threading.Event) -> dict[str, Any]:
    """Fails for no reason."""
    raise LookupError("I am confused")
