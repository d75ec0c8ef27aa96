"""Gateways and controllers in processes of their own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

GATEWAY = """
import itertools, logging, signal, sys, threading, time
from pathlib import Path
from pynetwork import Gateway

logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
folder = Path(sys.argv[1])
gateway = Gateway(0, max_poolsize=4, download_dir=folder / "incoming", share={"data": folder / "data"})

@gateway.subroutine
def fast(size=64):
    payload = bytes(size)
    try:
        for ident in itertools.count():
            yield ident, payload
    finally:
        (folder / "finally").touch()

@gateway.subroutine
def slow():
    try:
        for ident in itertools.count():
            yield ident, {"value": ident}
            time.sleep(0.01)
    finally:
        (folder / "finally").touch()

@gateway.subroutine
def block(seconds=60):
    (folder / "entered").touch()
    time.sleep(seconds)

@gateway.subroutine
def add(first, second=1):
    return first + second

@gateway.subroutine
def memory():
    import psutil
    return psutil.Process().memory_info().rss

def tell():
    # Once it is ready for signals, so that none comes too early.
    while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        time.sleep(0.001)
    print(gateway.port, flush=True)

threading.Thread(target=tell).start()
gateway.start(blocking=True)
print("ended", flush=True)
"""

CONTROLLER = """
import sys
from pathlib import Path
from pynetwork import Controller

port, what, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
controller = Controller(port=port, timeout=60)
if what in ("download", "upload"):
    with controller.get_swarm(2) as swarm:
        print("begun", flush=True)
        if what == "download":
            swarm.download("data", to=folder / "copy")
        else:
            swarm.upload([folder / "data"], "sent")
    sys.exit(7)
client = controller.get_client()
if what == "call":
    print("begun", flush=True)
    client.call("block", 1)
for number, _ in enumerate(client.stream(what)):
    if number == 50:
        print("begun", flush=True)
"""


@contextlib.contextmanager
def running(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A Python process that runs a script; killed at the end if it still lives."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def gateway_process(folder: Path, script: str = GATEWAY) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A gateway in a process of its own, and its port. ``folder / "data"`` is what it shares."""
    (folder / "data").mkdir(exist_ok=True)
    with running(script, folder) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield process, int(line)
