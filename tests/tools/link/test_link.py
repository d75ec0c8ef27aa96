"""Links, with programs that talk over them. Skipped where no link can be made."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.serving import PATIENCE, Background
from tests.waiting import wait_until
from tools.link import Link, LinkUnavailable
from tools.link import link as module
from tools.link.namespaces import processes_in

ROOT = Path(__file__).resolve().parents[3]

HEAR = """
import hashlib, socket, sys
with socket.create_server(("0.0.0.0", 7000)) as listener:
    print("listening", flush=True)
    with listener.accept()[0] as peer:
        digest, size = hashlib.sha256(), 0
        while data := peer.recv(1 << 20):
            digest.update(data)
            size += len(data)
        print(size, digest.hexdigest(), flush=True)
        peer.sendall(b"!")
"""
SAY = """
import hashlib, random, socket, sys, time
data = random.Random(1).randbytes(int(sys.argv[2]))
began = time.monotonic()
with socket.create_connection((sys.argv[1], 7000)) as sock:
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)
    sock.recv(1)
print(time.monotonic() - began)
print(len(data), hashlib.sha256(data).hexdigest())
"""
# Datagrams to a port where nobody listens: what becomes of them is seen in the link's own figures only.
THROW = """
import socket, sys
sock = socket.socket(type=socket.SOCK_DGRAM)
for _ in range(int(sys.argv[2])):
    sock.sendto(bytes(1000), (sys.argv[1], 7001))
"""
WAIT = "import sys; print('waits', flush=True); sys.stdin.readline()"
OWNER = """
import json, subprocess, sys
from tools.link import Link
with Link() as link:
    children = [link.run(end, ["sleep", "600"]) for end in (link.near, link.far)]
    told = [link._emulator.pid, *(child.pid for child in children)], [link.near.inode, link.far.inode]
    print(json.dumps(told), flush=True)
    sys.stdin.readline()
"""


@contextlib.contextmanager
def linked(*arguments, **options):
    try:
        link = Link(*arguments, **options)
    except LinkUnavailable as reason:
        pytest.skip(str(reason))
    with link:
        yield link


def python(link, end, program, *arguments, **options):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return link.run(end, command, stdout=subprocess.PIPE, text=True, **options)


def line(program):
    return Background(program.stdout.readline).result().strip()


def lives(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def carried_over(link, size, start="near"):
    """Send so many bytes over the link; answers the seconds that took."""
    sender, receiver = (link.near, link.far) if start == "near" else (link.far, link.near)
    with python(link, receiver, HEAR) as hearing:
        assert line(hearing) == "listening"
        with python(link, sender, SAY, receiver.address, size) as saying:
            seconds = float(line(saying))
            assert line(saying) == line(hearing)
    return seconds


@pytest.mark.parametrize("start", ["near", "far"])
@pytest.mark.parametrize("weather", [{}, {"rate": 2e7, "delay": 0.005}, {"loss": 0.01}])
def test_everything_arrives_and_is_counted(start, weather):
    size = 1 << 20
    with linked(**weather) as link:
        carried_over(link, size, start)
        sender, receiver = (link.near, link.far) if start == "near" else (link.far, link.near)
        assert link.traffic(sender).carried > size
        assert 0 < link.traffic(receiver).carried < size
        assert bool(link.traffic(sender).lost_packets) == bool(weather.get("loss"))


def test_a_rate_and_a_delay_take_their_time():
    with linked(rate=1e6) as link:
        assert carried_over(link, 300_000) >= 0.3
    with linked(delay=0.1) as link:
        # The greeting there and back, then the bytes and the answer to them.
        assert carried_over(link, 1) >= 0.4


def test_the_queue_is_bounded():
    with linked(rate=1e5, queue=50_000) as link:
        with python(link, link.near, THROW, link.far.address, 1000) as throwing:
            assert throwing.wait(PATIENCE) == 0
        traffic = wait_until(lambda: _all_of(1000, link.traffic(link.near)))
        assert traffic.most_queued <= 50_000
        assert traffic.full_packets > 500
        assert traffic.lost == 0


def test_loss_is_what_was_asked_for():
    with linked(loss=0.2) as link:
        with python(link, link.near, THROW, link.far.address, 2000) as throwing:
            assert throwing.wait(PATIENCE) == 0
        traffic = wait_until(lambda: _all_of(2000, link.traffic(link.near)))
        assert 250 < traffic.lost_packets < 550
        assert traffic.full == 0


def _all_of(packets, traffic):
    return traffic if traffic.carried_packets + traffic.full_packets + traffic.lost_packets >= packets else None


def test_the_ends_see_nothing_of_the_machine_but_each_other():
    show = "import socket; print(sorted(name for _, name in socket.if_nameindex()))"
    with linked() as link:
        for end in (link.near, link.far):
            with python(link, end, show) as showing:
                assert line(showing) == "['lo', 'wire']"


def test_closing_ends_what_runs_at_the_ends_and_what_that_has_started():
    with linked() as link:
        start = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {WAIT!r}]).wait()"
        program = python(link, link.far, start, stdin=subprocess.PIPE)
        with program.stdin, program.stdout:
            assert line(program) == "waits"
            inode = link.far.inode
            assert len(list(processes_in(inode))) == 2
            link.close()
            link.close()
            assert program.returncode == -signal.SIGKILL
            assert not list(processes_in(inode))


def test_an_emulator_that_was_killed():
    with linked() as link:
        program = python(link, link.near, WAIT, stdin=subprocess.PIPE)
        with program.stdin, program.stdout:
            assert line(program) == "waits"
            link._emulator.kill()
            link._emulator.wait()
            with pytest.raises(LinkUnavailable, match="ended"):
                link.run(link.near, ["true"])
            link.close()
            assert program.returncode == -signal.SIGKILL
            assert not list(processes_in(link.near.inode))


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_who_made_the_link(end):
    with linked():
        pass
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    with owner:
        pids, inodes = json.loads(Background(owner.stdout.readline).result())
        owner.send_signal(end)
        assert owner.wait(PATIENCE) != 0
        wait_until(lambda: not any(map(lives, pids)), PATIENCE)
        assert not [process for inode in inodes for process in processes_in(inode)]


def test_who_can_make_no_link_is_told_why(monkeypatch):
    monkeypatch.setattr(module.sys, "platform", "darwin")
    with pytest.raises(LinkUnavailable, match="Linux"):
        Link()
    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.setattr(module.os, "geteuid", lambda: 1000, raising=False)
    with pytest.raises(LinkUnavailable, match="root"):
        Link()
    monkeypatch.setattr(module.os, "geteuid", lambda: 0)
    monkeypatch.setattr(module.os.path, "exists", lambda _path: False)
    with pytest.raises(LinkUnavailable, match="tun"):
        Link()
    monkeypatch.setattr(module.os.path, "exists", lambda _path: True)
    monkeypatch.setattr(module.shutil, "which", lambda _name: None)
    with pytest.raises(LinkUnavailable, match="iproute2"):
        Link()


def test_an_emulator_that_can_make_nothing(monkeypatch):
    with linked():
        pass
    monkeypatch.setattr(module, "_NEAR", "no address")
    with pytest.raises(LinkUnavailable, match="any valid prefix"):
        Link()


def test_the_command():
    with linked():
        pass
    command = [sys.executable, "-m", "tools.link", "--rate", "1e6", "--delay", "0.001"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            said = Background(process.stdout.readline).result()
            words = said.split()
            assert words[0] == "10.77.0.1:"
            began = time.monotonic()
            ping = "import socket; socket.create_connection(('10.77.0.2', 9))"
            told = subprocess.run(
                [*words[1:3], sys.executable, "-c", ping], capture_output=True, text=True, check=False
            )
            assert "ConnectionRefusedError" in told.stderr
            assert time.monotonic() - began >= 0.002
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0
            assert "from 10.77.0.1: Traffic(carried=" in process.stdout.read()
        finally:
            process.kill()
