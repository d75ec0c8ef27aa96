"""Programs written for pynetwork 2.x run as they are, but for ``share=`` and the paths of the machine they run on.

They use the old names as the tutorials of 2.1 and 2.4 do: a gateway that tells how full its disk is and removes logs, a
controller that brings the logs first; and streams with callbacks, typed bytes and a gateway that is stopped from afar.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import PATIENCE
from tests.waiting import wait_until

pytestmark = pytest.mark.system

BACKUP_GATEWAY = r"""
import pynetwork as pynet
import pynetwork.backend2 as bk
import os, shutil, struct

def how_full(request_id: int, **kwargs):
    total, used, free = shutil.disk_usage("C:\\")
    bk.safe_print("request", request_id)
    return struct.pack("f", used / total)

def delete_all(folder: str, **kwargs):
    names = os.listdir(folder)
    for name in names:
        os.remove(os.path.join(folder, name))
    return bk.int_to_bytes(len(names))

if __name__ == "__main__":
    gw = pynet.Gateway(1857)
    gw.add_subroutine("mount_usage", how_full)
    gw.add_subroutine("remove_logs", delete_all)
    gw.start(blocking=True)
"""

BACKUP_CONTROLLER = r"""
import pynetwork as pynet
import pynetwork.backend2 as bk
import struct

if __name__ == "__main__":
    controller = pynet.Controller(gateway_ip="", port=1857, download_dir="mydir", verbose=True)
    client1 = controller.get_client()
    client1.ping("Are you there?")
    packed = client1.get_subroutine_batch(name="mount_usage", arguments=[123])
    bk.safe_print("usage", struct.unpack("f", packed)[0])
    client1.get_files_from_gateway(folder="D:\\logs", regex=".+RFIN703235761L")
    removed = client1.get_subroutine_batch(name="remove_logs", arguments=["D:\\logs"])
    bk.safe_print("removed", bk.bytes_to_int(removed))
    client1.close_handler()
"""

SENSOR_GATEWAY = r"""
from pynetwork import *

pins = {}

def sensor(pin: int, factor: int, **kwargs):
    for ident in range(10):
        yield (ident, to_bytes(DataType.string, str.format("{0}: pin {1} by {2}", ident, pin, factor)))
    yield (-1, None)

def endless(**kwargs):
    ident = 0
    while True:
        yield (ident, to_bytes(DataType.double, time.time()))
        ident += 1

def set_io(pin: int, value: bool, **kwargs):
    pins[pin] = (value, kwargs["buffer"])
    safe_print("pin", pin, value, from_bytes(DataType.string, kwargs["buffer"]))
    return pin

def idle(**kwargs):
    pass

gateway = Gateway(1857, 2, "incoming")
gateway.add_subroutine("sensor", sensor)
gateway.add_subroutine("endless", endless)
gateway.add_subroutine("set_io", set_io)
gateway.add_subroutine("idle", idle)
gateway.start(blocking=True)
"""

SENSOR_CONTROLLER = r"""
from pynetwork import *

def show(name, ident, buffer):
    safe_print(name, ident, from_bytes(DataType.string, buffer))

def three(name, ident, buffer):
    from_bytes(DataType.double, buffer)
    safe_print(name, ident)
    if ident == 2:
        return False

def end(name):
    safe_print("end of", name)

controller = Controller("", 1857, "got")
with controller.get_client() as client:
    client.get_subroutine_stream(name="sensor", callback=show, eos_callback=end, arguments=[4], factor=55)
    client.get_subroutine_stream("endless", three, end)
    safe_print(client.send_subroutine_batch(name="set_io", buffer=to_bytes(DataType.string, "on"), arguments=[2, True]))
    safe_print(client.send_subroutine_batch(name="idle"))
    client.send_files_to_gateway(dirname="today", files=[os.path.join("notes", name) for name in os.listdir("notes")])
clients = [controller.get_client(), controller.get_client()]
try:
    controller.get_client()
except Exception as e:
    safe_print("full:", type(e).__name__)
clients[0].close_handler()
clients[1].close_gateway()
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def adapted(script: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert old in script
        script = script.replace(old, new)
    return script


@contextlib.contextmanager
def gateway_of(folder: Path, script: str, port: int) -> Iterator[subprocess.Popen[str]]:
    folder.mkdir()
    (folder / "gateway.py").write_text(script)
    process = subprocess.Popen(
        [sys.executable, "gateway.py"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: answers(port) or process.poll() is not None, PATIENCE, "the gateway")
        assert process.poll() is None, process.communicate()[1]
        yield process
    finally:
        process.kill()
        process.communicate()


def control(folder: Path, script: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    (folder / "controller.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "controller.py"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr
    return done


def test_the_backup_of_logs(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    for name in ("app.RFIN703235761L.1", "RFIN703235761L.log", "other.log"):
        (logs / name).write_text(f"{name}\n" * 1000)
    port = free_port()
    here = {"1857": str(port)}
    root = {'"C:\\\\"': repr(os.sep), "Gateway(1857)": f"Gateway(1857, share=[{str(logs)!r}])"}
    script = adapted(BACKUP_GATEWAY, {**root, **here})
    with gateway_of(tmp_path / "pi", script, port) as gateway:
        done = control(tmp_path / "laptop", adapted(BACKUP_CONTROLLER, {'"D:\\\\logs"': repr(str(logs)), **here}))
        words = done.stdout.split()
        assert (words[0], words[2:]) == ("usage", ["removed", "3"])
        assert 0 <= float(words[1]) <= 1
        assert f"brought 2 files, {19 * 1000 + 21 * 1000} bytes, to mydir" in done.stderr
        brought = {path.name: path.read_text() for path in (tmp_path / "laptop/mydir").iterdir()}
        assert brought == {name: f"{name}\n" * 1000 for name in ("app.RFIN703235761L.1", "RFIN703235761L.log")}
        assert not any(logs.iterdir())
        gateway.send_signal(signal.SIGINT)
        output, errors = gateway.communicate(timeout=PATIENCE)
    assert (gateway.returncode, output) == (0, "request 123\n"), errors


def test_without_a_share_the_script_is_told_what_to_do(tmp_path: Path) -> None:
    port = free_port()
    here = {"1857": str(port)}
    with gateway_of(tmp_path / "pi", adapted(BACKUP_GATEWAY, {'"C:\\\\"': repr(os.sep), **here}), port):
        done = control(tmp_path / "laptop", adapted(BACKUP_CONTROLLER, here), code=1)
    assert r"'D:\\logs' is in no folder that this gateway shares; it shares: none. Share the folder" in done.stderr
    assert "removed" not in done.stdout


def test_sensors_with_callbacks_and_a_gateway_that_is_stopped(tmp_path: Path) -> None:
    port = free_port()
    here = {"1857": str(port)}
    notes = tmp_path / "laptop" / "notes"
    notes.mkdir(parents=True)
    for number in range(3):
        (notes / f"{number}.txt").write_bytes(struct.pack("<I", number))
    # The pool of two and the folder are given by place, as before; stopping it from afar is a right now.
    script = adapted(SENSOR_GATEWAY, {'"incoming")': '"incoming", rights="all")', **here})
    with gateway_of(tmp_path / "pi", script, port) as gateway:
        done = control(tmp_path / "laptop", adapted(SENSOR_CONTROLLER, here))
        # It was stopped by the controller.
        output, errors = gateway.communicate(timeout=PATIENCE)
    assert (gateway.returncode, output) == (0, "pin 2 True on\n"), errors
    assert done.stdout.splitlines() == [
        *(f"sensor {ident} {ident}: pin 4 by 55" for ident in range(10)),
        "end of sensor",
        *(f"endless {ident}" for ident in range(3)),
        "2",
        "0",
        "full: PoolFull",
    ]
    stored = {path.name: path.read_bytes() for path in (tmp_path / "pi/incoming/today").iterdir()}
    assert stored == {f"{number}.txt": struct.pack("<I", number) for number in range(3)}
