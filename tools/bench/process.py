"""Starting a contestant's processes, talking to them, and ending them by their own id."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from tools.bench.contract import Contestant, Task, Workload
from tools.bench.network import LOOPBACK, Network, Start

__all__ = ["Pair", "Worker", "WorkerFailed"]

_ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 60.0
_END_SECONDS = 10.0


class WorkerFailed(Exception):
    """A contestant's process failed, ended or took too long."""


class Worker:
    """One side of one contestant."""

    def __init__(
        self, workload: str, contestant: str, side: str, cpu: int | None, start: Start = subprocess.Popen
    ) -> None:
        command = [sys.executable, "-m", "tools.bench.worker", workload, contestant, side]
        self._name = f"{contestant} ({side})"
        # A session of its own makes it the head of a group, with which the programs that it starts can be ended.
        self._process = start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_ROOT, start_new_session=True)
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name=f"answers of {self._name}", daemon=True)
        self._reader.start()
        if cpu is not None and hasattr(os, "sched_setaffinity"):
            # Before it has threads: those that it starts inherit it.
            os.sched_setaffinity(self._process.pid, {cpu})

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(b"")

    def tell(self, message: dict[str, Any]) -> None:
        """Send one line."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise WorkerFailed(f"{self._name} ended too early") from error

    def hear(self, seconds: float) -> dict[str, Any]:
        """The next line. Raises `WorkerFailed` for an error, the process's end, and when it takes longer."""
        try:
            line = self._answers.get(timeout=seconds)
        except queue.Empty:
            raise WorkerFailed(f"{self._name} did not answer within {seconds:g} s") from None
        if not line:
            raise WorkerFailed(f"{self._name} ended with exit code {self._process.wait(_END_SECONDS)}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerFailed(f"{self._name}: {answer['error']}")
        return answer

    def end(self) -> None:
        """End it: by closing its input, and if that does not help by force, with all that it started."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            failed = self._process.wait(_END_SECONDS) != 0
        except subprocess.TimeoutExpired:
            self._process.kill()
            failed = True
        if failed and hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(_END_SECONDS)
        self._process.stdout.close()


class Pair:
    """The server and the client of one contestant, at the ends of a network; a context manager."""

    def __init__(
        self, workload: Workload[Any], contestant: Contestant, task: Task, network: Network = LOOPBACK
    ) -> None:
        self._workers: list[Worker] = []
        self._task = replace(task, host=network.host)
        sides = ("serve", network.server), ("measure", network.client)
        try:
            for (side, start), cpu in zip(sides, workload.placement.cpus(), strict=True):
                self._workers.append(Worker(workload.name, contestant.name, side, cpu, start))
            server, client = self._workers
            server.tell(self._task.to_json())
            self._address = server.hear(_START_SECONDS)["address"]
            client.hear(_START_SECONDS)
        except BaseException:
            self.close()
            raise

    def measure(self, patience: float) -> dict[str, float]:
        """One round. Raises `WorkerFailed`."""
        server, client = self._workers
        task = replace(self._task, server=server.pid)
        client.tell({"address": self._address, "task": task.to_json()})
        figures: dict[str, float] = client.hear(patience)["figures"]
        return figures

    def close(self) -> None:
        """End both, the client first."""
        while self._workers:
            self._workers.pop().end()

    def __enter__(self) -> Pair:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
