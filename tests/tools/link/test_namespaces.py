from __future__ import annotations

import os
import sys

import pytest

from tools.link.namespaces import end_processes, processes_in

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces are of Linux")


def test_this_process_is_in_its_namespace_and_in_no_other():
    own = os.stat("/proc/self/ns/net").st_ino
    assert os.getpid() in processes_in(own)
    assert os.getpid() not in processes_in(own - 1)


def test_who_is_about_to_enter_is_found_and_ended():
    # It reads the namespace's path from a pipe that nobody writes: so it stands in the door.
    number, door = os.pipe()
    path = f"/proc/{os.getpid()}/fd/{number}"
    command = [*entering(path), "true"]
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.readline()", *command[1:]]) as other:
        assert other.pid not in processes_in(0, path)
        other.kill()
    waits = [sys.executable, "-c", "import os, sys; os.execv(sys.argv[1], sys.argv[2:])", "/bin/cat", *command]
    with subprocess.Popen(waits, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as program:
        program.wait()
    os.close(number)
    os.close(door)


def test_ending_nobody():
    end_processes(0, "")
