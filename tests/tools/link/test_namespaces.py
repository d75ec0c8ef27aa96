from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest

from tests.waiting import wait_until
from tools.link.namespaces import end_processes, entering, processes_in

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces are of Linux")


def test_this_process_is_in_its_namespace_and_in_no_other():
    own = os.stat("/proc/self/ns/net").st_ino
    assert os.getpid() in processes_in(own)
    assert os.getpid() not in processes_in(own - 1)


@pytest.mark.skipif(shutil.which("nsenter") is None, reason="needs nsenter of util-linux")
def test_who_is_about_to_enter_is_ended_too(tmp_path):
    # Nobody writes to it: whoever opens it to enter stands in the door.
    door = os.fspath(tmp_path / "door")
    os.mkfifo(door)
    with subprocess.Popen([*entering(door), "true"]) as program:
        wait_until(lambda: program.pid in processes_in(0, door))
        assert program.pid not in processes_in(0, door + "s")
        end_processes(0, door)
        assert program.wait() == -signal.SIGKILL
    assert not list(processes_in(0, door))


def test_ending_nobody():
    end_processes(0, "")
