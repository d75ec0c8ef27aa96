"""Forked and spawned processes: no two ever talk on one connection, and a parent's things stay the parent's."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from handshakes.errors import ConnectionLost
from pynetwork.controller import Controller
from tests.serving import PATIENCE
from tests.system.processes import gateway_process, running
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here"),
]

CALLER = """
import os, sys, traceback, warnings
from pynetwork import Closed, Controller, TLS

warnings.simplefilter("ignore", DeprecationWarning)  # the fork of a process that has threads
port, certificate = int(sys.argv[1]), sys.argv[2]
controller = Controller(port=port, tls=TLS(ca=certificate) if certificate else None)
with controller.get_client() as idle, controller.get_client() as client, client.stream("slow") as stream:
    seen = [next(stream)[0] for _ in range(20)]
    child = os.fork()
    if child == 0:
        for use in (idle.ping, lambda: idle.call("add", 1), lambda: idle.stream("slow"), lambda: next(stream)):
            try:
                use()
            except Closed as error:
                assert f"process {os.getppid()}" in str(error), error
            else:
                os._exit(3)
        with controller.get_client() as mine:
            assert mine.call("add", 1) == 2
        sys.exit(0)  # through every "with" above
    _, status = os.waitpid(child, 0)
    print("child", os.waitstatus_to_exitcode(status), flush=True)
    seen += [next(stream)[0] for _ in range(20)]
    assert seen == list(range(40)), seen
    assert idle.call("add", 41) == 42
    stream.close()
    assert client.call("add", 41) == 42
    print("parent 0", flush=True)
"""


def ended_well(script: str, *arguments: object) -> list[str]:
    """Run a script to its end; what it printed."""
    with running(script, *arguments) as process:
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, err) == (0, ""), out + err
        return out.splitlines()


def test_a_child_can_not_use_its_parents_clients(tmp_path: Path) -> None:
    with gateway_process(tmp_path) as (_, port):
        assert ended_well(CALLER, port, "") == ["child 0", "parent 0"]


LEAVER = """
import os, sys, time, warnings
from pynetwork import Controller

warnings.simplefilter("ignore", DeprecationWarning)
client = Controller(port=int(sys.argv[1])).get_client()
stream = client.stream("slow")
next(stream)
if os.fork() == 0:
    os.close(1)
    os.close(2)
    while not os.path.exists(sys.argv[2]):
        time.sleep(0.01)
    os._exit(0)
print("forked", flush=True)
sys.stdin.read()
os._exit(0)
"""


def test_a_child_does_not_keep_its_parents_connections_alive(tmp_path: Path) -> None:
    over = tmp_path / "over"
    with gateway_process(tmp_path) as (_, port), running(LEAVER, port, over) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "forked\n"
            process.kill()
            wait_until((tmp_path / "finally").exists, PATIENCE, "the stream of a caller that has died to be closed")
        finally:
            over.touch()


SERVER = """
import os, sys, threading, time, warnings
from pathlib import Path
from pynetwork import Gateway

warnings.simplefilter("ignore", DeprecationWarning)
folder = Path(sys.argv[1])

def count():
    ident = 0
    while True:
        yield ident, b"x"
        ident += 1
        time.sleep(0.001)

def fork():
    if os.fork() == 0:
        return "from the child"
    return "from the parent"

with Gateway(0, download_dir=folder) as gateway:
    gateway.add_subroutine("count", count)
    gateway.add_subroutine("fork", fork)
    print(gateway.port, flush=True)
    sys.stdin.readline()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        if sys.argv[2] == "leaves":
            gateway.stop()
            sys.exit(0)
        os.close(1)
        os.close(2)
        while os.getppid() == parent:
            time.sleep(0.01)
        os._exit(0)
    if sys.argv[2] == "leaves":
        _, status = os.waitpid(child, 0)
        print("child", os.waitstatus_to_exitcode(status), flush=True)
    else:
        print("child stays", flush=True)
    sys.stdin.readline()
    gateway.stop(drain=0.1)
print("stopped", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("kind", ["leaves", "stays"])
def test_a_gateways_child(tmp_path: Path, kind: str) -> None:
    """Whether it leaves through the gateway's block or lives on: the gateway is its parent's."""
    partial = tmp_path / ".upload.partial"
    partial.touch()
    with running(SERVER, tmp_path, kind) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        controller = Controller(port=int(process.stdout.readline()))

        def go_on() -> str:
            process.stdin.write("\n")
            process.stdin.flush()
            return process.stdout.readline()

        with controller.get_client() as client, client.stream("count", timeout=PATIENCE) as stream:
            next(stream)
            assert go_on() == ("child 0\n" if kind == "leaves" else "child stays\n")
            first = next(stream)[0]
            assert [next(stream)[0] for _ in range(50)] == list(range(first + 1, first + 51))
            controller.get_client().close()
            assert go_on() == "stopped\n"
            with pytest.raises(ConnectionLost):
                for _ in stream:
                    pass
        socket.create_server(("127.0.0.1", controller.port)).close()
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(PATIENCE) == 0


def test_a_subroutine_that_forks_is_answered_once(tmp_path: Path) -> None:
    with running(SERVER, tmp_path, "leaves") as process:
        assert process.stdout is not None
        with Controller(port=int(process.stdout.readline())).get_client() as client:
            assert client.call("fork") == "from the parent"
            assert client.ping() >= 0


STARTED = """
import multiprocessing, sys, warnings
from pynetwork import Controller, Gateway

def double(value):
    return 2 * value

def serve(ports, stop):
    with Gateway(0, max_poolsize=6) as gateway:
        gateway.add_subroutine("double", double)
        ports.put(gateway.port)
        stop.wait()

def use(port, results):
    with Controller(port=port).get_swarm(2) as swarm:
        results.put(list(swarm.map("double", range(10))))

if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)
    context = multiprocessing.get_context(sys.argv[1])
    ports, results, stop = context.Queue(), context.Queue(), context.Event()
    with Gateway(0) as own:  # so that there is something a child could stumble over
        server = context.Process(target=serve, args=(ports, stop))
        server.start()
        port = ports.get(timeout=20)
        users = [context.Process(target=use, args=(port, results)) for _ in range(3)]
        for user in users:
            user.start()
        for user in users:
            assert results.get(timeout=20) == list(range(0, 20, 2))
            user.join(20)
        stop.set()
        server.join(20)
        codes = [each.exitcode for each in (server, *users)]
    print(codes)
"""


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_gateways_and_controllers_in_processes_of_multiprocessing(tmp_path: Path, method: str) -> None:
    script = tmp_path / "started.py"
    script.write_text(STARTED)
    run = f"import runpy, sys; sys.argv = ['started', {method!r}]; runpy.run_path({str(script)!r}, run_name='__main__')"
    if method != "fork":
        # The new interpreter imports the functions from the main module's file.
        run = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, {str(script)!r}, {method!r}]))"
    assert ended_well(run) == ["[0, 0, 0, 0]"]
