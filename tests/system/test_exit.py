"""A program may end as it likes: nothing hangs, and nothing complains, whatever it left open."""

from __future__ import annotations

from pathlib import Path

import pytest

from pynetwork.controller import Controller
from tests.serving import PATIENCE
from tests.system.processes import gateway_process, running

pytestmark = pytest.mark.system

BEGIN = """
import asyncio, itertools, os, signal, sys, threading, time
from pynetwork import ConnectionLost, Controller, Gateway

controller = Controller(port=int(sys.argv[1]))

def numbers():
    yield from itertools.count()

def serving():
    gateway = Gateway(0)
    gateway.add_subroutine("numbers", numbers)
    gateway.add_subroutine("wait", time.sleep)
    return gateway.start()
"""

LEFT_OPEN = {
    "a gateway": "gateway = serving()",
    "a gateway that serves": """
gateway = serving()
client = Controller(port=gateway.port).get_client()
stream = client.stream("numbers")
next(stream)
""",
    "a gateway whose handler is blocked": """
gateway = serving()
client = Controller(port=gateway.port, timeout=None).get_client()
threading.Thread(target=client.call, args=("wait", 60), daemon=True).start()
while not gateway.stats()["operations"]:
    time.sleep(0.001)
""",
    "a client": "client = controller.get_client(); client.ping()",
    "a stream": "stream = controller.get_client().stream('fast'); next(stream)",
    "a stream in a cycle": """
stream = controller.get_client().stream("fast")
next(stream)
stream.cycle = [stream]
""",
    "a swarm": "swarm = controller.get_swarm(3)",
    "a map": "job = controller.get_swarm(3).map('add', itertools.count()); next(job)",
    "a merged stream": "job = controller.get_swarm(3).stream('slow'); next(job)",
    "an error": """
with serving() as gateway, controller.get_swarm(2) as swarm:
    for item in swarm.stream("fast"):
        sys.exit(0)
""",
}


@pytest.mark.parametrize("what", LEFT_OPEN)
def test_a_program_ends_with_something_open(tmp_path: Path, what: str) -> None:
    with gateway_process(tmp_path) as (_, port):
        with running(BEGIN + LEFT_OPEN[what], port) as process:
            out, err = process.communicate(timeout=PATIENCE)
            assert (process.returncode, out, err) == (0, "", "")
        with Controller(port=port).get_swarm(4, wait=PATIENCE) as swarm:
            assert list(swarm.map("add", range(4))) == [1, 2, 3, 4]


# As in a notebook: everything in a thread that has a running event loop, and an interrupt in the middle

NOTEBOOK = """
def interrupt_in(*modules):
    # Once the main thread is in functions of all these modules.
    def interrupt():
        found = set()
        while not found.issuperset(modules):
            time.sleep(0.001)
            frame, found = sys._current_frames()[threading.main_thread().ident], set()
            while frame is not None:
                found.add(frame.f_globals["__name__"])
                frame = frame.f_back
        # To that very thread, so that it wakes whatever it waits in.
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    threading.Thread(target=interrupt, daemon=True).start()

async def cells():
    gateway = serving()
    for number, cell in enumerate((lambda: client.call("wait", 0.5), lambda: list(client.stream("numbers")))):
        with Controller(port=gateway.port, timeout=None).get_client() as client:
            with client.stream("numbers") as stream:
                assert [next(stream)[0] for _ in range(3)] == [0, 1, 2]
            try:
                interrupt_in("pynetwork.transport")
                cell()
            except KeyboardInterrupt:
                print("interrupted", flush=True)
            try:
                client.ping()
            except ConnectionLost as error:
                # Nobody knows how much of a message had come by then, unless the system tells.
                assert "lost before: KeyboardInterrupt" in str(error), error
                assert number == 1 or sys.platform != "linux"
    with Controller(port=gateway.port).get_swarm(2) as swarm:
        try:
            interrupt_in("queue")
            for item in swarm.stream("numbers"):
                pass
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        assert next(swarm.stream("numbers"))[0] == 0
    with Controller(port=gateway.port).get_client(wait=20) as other:
        assert other.ping() >= 0
    interrupt_in("pynetwork.gateway", "threading")
    gateway.wait()
    print("stopped", flush=True)

asyncio.new_event_loop().run_until_complete(cells())
"""


def test_cells_of_a_notebook() -> None:
    with running(BEGIN + NOTEBOOK, 1) as process:
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out.split()) == (0, [*["interrupted"] * 3, "stopped"]), err
        # The gateway logs that a caller was lost.
        assert "Traceback" not in err
