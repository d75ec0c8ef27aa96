"""A link between two network namespaces of its own, and programs at its ends."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.link.namespaces import end_processes, entering
from tools.link.wire import TRAFFIC_SIZE, Traffic, Wire, usual_queue

__all__ = ["End", "Link", "LinkUnavailable"]

_ROOT = Path(__file__).resolve().parents[2]
_NEAR, _FAR = "10.77.0.1", "10.77.0.2"
_END_SECONDS = 20.0


class LinkUnavailable(Exception):
    """This machine, or this user, can't make a link; the text says why."""


@dataclass(frozen=True)
class End:
    """One end of a link: its IPv4 address, and the network namespace as a path that ``nsenter --net=`` takes."""

    name: str
    address: str
    namespace: str
    inode: int


class Link:
    """Two ends, ``near`` and ``far``, with nothing between them but this link. A context manager.

    ``rate``: bytes of IP packets per second and direction; None: as many as it can. ``delay``: seconds, one way.
    ``loss``: the part of the packets (0 to 1) that is lost by chance, always the same for the same ``seed``.
    ``queue``: bytes that wait at most before the rate, `usual_queue` if not given; further packets are dropped.

    Raises `LinkUnavailable` where it can't be made. Closing it ends every program at its ends; so does the end of this
    process, however it comes about.
    """

    def __init__(
        self,
        rate: float | None = None,
        delay: float = 0.0,
        loss: float = 0.0,
        queue: int | None = None,
        *,
        seed: int = 0,
    ) -> None:
        _check_machine()
        self.rate, self.delay, self.loss = rate, delay, loss
        self.queue = usual_queue(rate or 0.0, delay) if queue is None else queue
        self._programs: list[subprocess.Popen[Any]] = []
        shared = os.memfd_create("traffic")
        try:
            os.ftruncate(shared, 2 * TRAFFIC_SIZE)
            self._memory = mmap.mmap(shared, 2 * TRAFFIC_SIZE)
            self._emulator = self._start(seed, shared)
        finally:
            os.close(shared)
        self._figures = memoryview(self._memory).cast("Q")
        self._ends: list[End] = []
        try:
            self.near, self.far = self._ends = self._hear()
        except BaseException:
            self.close()
            raise

    def _start(self, seed: int, shared: int) -> subprocess.Popen[bytes]:
        settings = {
            "rate": self.rate,
            "delay": self.delay,
            "loss": self.loss,
            "queue": self.queue,
            "seed": seed,
            "addresses": [_NEAR, _FAR],
            "memory": shared,
        }
        # A session of its own: Ctrl-C is for the one that made the link, which ends it then.
        return subprocess.Popen(
            [sys.executable, "-m", "tools.link.emulator", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_ROOT,
            pass_fds=[shared],
            start_new_session=True,
        )

    def _hear(self) -> list[End]:
        """The ends, as the emulator tells."""
        assert self._emulator.stdout is not None
        said = json.loads(self._emulator.stdout.readline() or b'{"error": "the emulator died"}')
        if "error" in said:
            raise LinkUnavailable(f"no network namespace or TUN device can be made here: {said['error']}")
        ends = []
        for name, address, number in zip(("near", "far"), (_NEAR, _FAR), said["namespaces"], strict=True):
            namespace = f"/proc/{self._emulator.pid}/fd/{number}"
            ends.append(End(name, address, namespace, os.stat(namespace).st_ino))
        return ends

    def run(self, end: End, arguments: Sequence[str | os.PathLike[str]], **options: Any) -> subprocess.Popen[Any]:
        """Start a program at an end; ``options`` are those of `subprocess.Popen`. Its pid is the program's own.

        Raises `LinkUnavailable` when the emulator has died.
        """
        if self._emulator.poll() is not None:
            raise LinkUnavailable(f"the link's emulator has ended with exit code {self._emulator.returncode}")
        program = subprocess.Popen([*entering(end.namespace), *arguments], **options)
        self._programs.append(program)
        return program

    def traffic(self, start: End) -> Traffic:
        """What has left from this end so far, towards the other."""
        half = TRAFFIC_SIZE // 8
        return Wire.traffic(self._figures[:half] if start is self.near else self._figures[half:])

    def close(self) -> None:
        """End the programs at both ends, and the link. Closing twice is fine."""
        if self._memory.closed:
            return
        assert self._emulator.stdin is not None
        assert self._emulator.stdout is not None
        with contextlib.suppress(OSError):
            self._emulator.stdin.close()
        try:
            self._emulator.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._emulator.kill()
            self._emulator.wait()
        self._emulator.stdout.close()
        # Had the emulator been killed, it would have left its programs behind.
        for end in self._ends:
            end_processes(end.inode, end.namespace)
        for program in self._programs:
            program.wait()
        self._figures.release()
        self._memory.close()

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def _check_machine() -> None:
    """Raises `LinkUnavailable` for what can be seen without trying."""
    if sys.platform != "linux":
        raise LinkUnavailable("a link needs the network namespaces of Linux")
    if os.geteuid() != 0:
        raise LinkUnavailable("only root may make network namespaces")
    if not os.path.exists("/dev/net/tun"):
        raise LinkUnavailable("there is no /dev/net/tun: the kernel's module tun is not loaded")
    for program in ("ip", "nsenter"):
        if shutil.which(program) is None:
            raise LinkUnavailable(f"the program {program} is not installed (packages iproute2 and util-linux)")
