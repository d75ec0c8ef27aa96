from __future__ import annotations

import threading

import pytest

from tests.waiting import wait_until


def test_what_is_seen_comes_back_at_once() -> None:
    assert wait_until(lambda: [7], timeout=0) == [7]


def test_waits_for_another_thread() -> None:
    event = threading.Event()
    timer = threading.Timer(0.02, event.set)
    timer.start()
    assert wait_until(event.is_set)
    timer.join()


def test_names_what_did_not_happen() -> None:
    with pytest.raises(AssertionError, match=r"in vain for the kettle; last seen: \[\]"):
        wait_until(list, timeout=0.01, what="the kettle")
