"""In a notebook: cells start a gateway and use it, and an interrupted cell leaves everything usable."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.processes import ROOT

pytestmark = [
    pytest.mark.system,
    # Their own, which are not ours to mend.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]
START_SECONDS = 60.0
CELL_SECONDS = 30.0

BEGIN = f"""
import sys, threading, time
sys.path.insert(0, {str(ROOT)!r})
from pynetwork import AsyncController, Controller, Gateway

def numbers(pause=0.0):
    ident = 0
    while True:
        yield ident, b"x"
        ident += 1
        time.sleep(pause)

gateway = Gateway(0)
gateway.add_subroutine("numbers", numbers)
gateway.add_subroutine("add", lambda first, second=1: first + second)
gateway.start()
controller = Controller(port=gateway.port)
client = controller.get_client()
"""


class Notebook:
    """A kernel, and what its cells print."""

    def __init__(self, manager: Any, client: Any) -> None:
        self._manager = manager
        self._client = client

    async def run(self, cell: str, until: str | None = None) -> tuple[str, str]:
        """Run a cell; what it printed, and the name of its error. Interrupted once ``until`` has been printed."""
        asked = self._client.execute(cell)
        printed, error = "", ""
        while True:
            message = await self._client.get_iopub_msg(timeout=CELL_SECONDS)
            if message["parent_header"].get("msg_id") != asked:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                printed += content["text"]
                if until is not None and until in printed:
                    await self._manager.interrupt_kernel()
                    until = None
            elif kind == "error":
                error = content["ename"]
            elif kind == "status" and content["execution_state"] == "idle":
                return printed, error


@contextlib.asynccontextmanager
async def notebook(folder: Path) -> AsyncIterator[Notebook]:
    manager = importlib.import_module("jupyter_client").AsyncKernelManager()
    await manager.start_kernel(cwd=str(folder), stderr=subprocess.DEVNULL)
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=START_SECONDS)
        yield Notebook(manager, client)
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)
        client.context.destroy()


async def cells(folder: Path) -> None:
    async with notebook(folder) as book:
        assert await book.run(BEGIN) == ("", "")
        assert await book.run("print(client.call('add', 41))") == ("42\n", "")
        # Fast, it is interrupted anywhere, and another client is had for the asking.
        for pause, last in ((0.0, 20), (0.5, 2)):
            cell = f"for ident, _ in client.stream('numbers', {pause}):\n    print(ident, flush=True)"
            printed, error = await book.run(cell, until=f"{last}\n")
            assert error == "KeyboardInterrupt"
            assert printed.split()[: last + 1] == [str(number) for number in range(last + 1)]
            if not pause:
                assert await book.run("client.close()\nclient = controller.get_client()") == ("", "")
        # Slow, it is while it waits, and the client is as good as before, where the system tells that nothing is lost.
        if sys.platform == "linux":
            assert await book.run("print(client.call('add', 1))") == ("2\n", "")
        cell = "async with AsyncController(port=gateway.port).get_client() as other: print(await other.call('add', 2))"
        assert await book.run(cell) == ("3\n", "")
        cell = "threading.Timer(0.5, lambda: print('waits', flush=True)).start()\ngateway.wait()"
        assert await book.run(cell, until="waits") == ("waits\n", "")
        assert (await book.run("client.call('add', 1)"))[1] == "ConnectionLost"


@pytest.mark.timeout(180)
def test_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ipykernel", "jupyter_client"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    asyncio.run(cells(tmp_path))
