"""In a notebook: cells start a gateway and use it, and an interrupted cell leaves everything usable."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator
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
import sys, time
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

    def run(self, cell: str, until: str | None = None) -> tuple[str, str]:
        """Run a cell; what it printed, and the name of its error. Interrupted once ``until`` has been printed."""
        asked = self._client.execute(cell)
        printed, error = "", ""
        while True:
            message = self._client.get_iopub_msg(timeout=CELL_SECONDS)
            if message["parent_header"].get("msg_id") != asked:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                printed += content["text"]
                if until is not None and until in printed:
                    self._manager.interrupt_kernel()
                    until = None
            elif kind == "error":
                error = content["ename"]
            elif kind == "status" and content["execution_state"] == "idle":
                return printed, error


@pytest.fixture
def notebook(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    reason = "jupyter_client and ipykernel are not installed"
    pytest.importorskip("ipykernel", reason=reason)
    jupyter = pytest.importorskip("jupyter_client", reason=reason)
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    manager = jupyter.KernelManager()
    manager.start_kernel(cwd=str(tmp_path))
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=START_SECONDS)
        with contextlib.suppress(queue.Empty):
            while True:
                client.get_iopub_msg(timeout=0)
        yield Notebook(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
        client.context.destroy()


@pytest.mark.timeout(180)
def test_cells(notebook: Notebook) -> None:
    assert notebook.run(BEGIN) == ("", "")
    assert notebook.run("print(client.call('add', 41))") == ("42\n", "")
    # Fast, it is interrupted anywhere; slow, while it waits for the network.
    for pause in ("0", "0.01"):
        cell = f"for ident, _ in client.stream('numbers', {pause}):\n    print(ident, flush=True)"
        printed, error = notebook.run(cell, until="20\n")
        assert error == "KeyboardInterrupt"
        assert printed.split()[:20] == [str(number) for number in range(20)]
        if pause == "0.01":
            assert notebook.run("print(client.call('add', 1))") == ("2\n", "")
        notebook.run("client.close()\nclient = controller.get_client()")
    asked = (
        "async with AsyncController(port=gateway.port).get_client() as other:\n    print(await other.call('add', 2))"
    )
    assert notebook.run(asked) == ("3\n", "")
    printed, error = notebook.run("print('waits', flush=True)\ngateway.wait()", until="waits")
    assert (printed, error) == ("waits\n", "")
    assert notebook.run("print(client.usable); client.call('add', 1)")[1] == "ConnectionLost"
