from __future__ import annotations

import mmap
import os
import threading

import psutil

from pynetwork.machine import machine_figures, process_figures


def test_figures_of_this_process_follow_what_it_does() -> None:
    before = process_figures()
    # Mapped anew: what Python allocates may be memory that this process has already.
    held = mmap.mmap(-1, 50_000_000)
    held.write(b"x" * len(held))
    going_on = threading.Event()
    waiting = threading.Thread(target=going_on.wait)
    waiting.start()
    after = process_figures()
    going_on.set()
    waiting.join()
    held.close()
    assert after["memory"] - before["memory"] > 40_000_000
    assert after["threads"] == before["threads"] + 1
    assert after["cpu_seconds"] >= before["cpu_seconds"] > 0


def test_figures_of_the_machine_are_what_the_system_says() -> None:
    figures = machine_figures()
    assert figures["cpus"] == os.cpu_count()
    assert figures["memory_total"] == psutil.virtual_memory().total
    assert 0 < figures["memory_available"] <= figures["memory_total"]
    assert 0 <= figures["cpu_percent"] <= 100
    assert len(figures["load"]) == 3
    assert figures["boot_time"] == psutil.boot_time()
