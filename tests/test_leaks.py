from __future__ import annotations

import socket
import subprocess
import sys
import threading

import pytest

from tests import leaks


def test_a_thread_is_seen_with_its_stack() -> None:
    before = leaks.THREADS.living()
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait, name="lingers")
    thread.start()
    left = leaks.THREADS.leaks(before, patience=0)
    assert left == {thread}
    assert "lingers" in leaks.THREADS.describe(thread)
    assert "leave.wait" in leaks.THREADS.describe(thread) or "in wait" in leaks.THREADS.describe(thread)
    leave.set()
    assert not leaks.THREADS.leaks(before)
    thread.join()


def test_a_process_is_seen_until_it_is_waited_for() -> None:
    before = leaks.PROCESSES.living()
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (left,) = leaks.PROCESSES.leaks(before, patience=0)
    assert left.pid == process.pid
    assert "input()" in leaks.PROCESSES.describe(left)
    process.communicate()
    assert not leaks.PROCESSES.leaks(before)


@pytest.mark.skipif(not leaks.DESCRIPTORS.exists(), reason="needs /proc")
def test_a_socket_is_seen_until_it_is_closed() -> None:
    before = leaks.FILES.living()
    with socket.socket():
        (left,) = leaks.FILES.leaks(before, patience=0)
        assert "socket:" in leaks.FILES.describe(left)
    assert not leaks.FILES.leaks(before)
