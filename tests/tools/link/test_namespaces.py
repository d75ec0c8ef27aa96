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


def test_ending_nobody():
    end_processes(0)
