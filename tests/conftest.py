"""Settings and guards for every test: nothing may be left behind, and whatever hangs says where."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from typing import Any

import psutil
import pytest
from hypothesis import settings

from tests import leaks

# A process that a test starts prints its stacks when it dies of a signal, as pytest itself does.
os.environ.setdefault("PYTHONFAULTHANDLER", "1")
# Who runs this in the background may have it ignore Ctrl-C, and then so does all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# On shared processors a deadline of milliseconds is a lottery; CI tries the same cases each time.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


def _guard(watch: leaks.Watch[Any], request: pytest.FixtureRequest) -> Iterator[None]:
    before = watch.living()
    yield
    if request.node.stash.get(FAILED, False):
        return  # its traceback keeps things alive, and it has failed already
    left = watch.leaks(before)
    if left:
        listed = "\n".join(watch.describe(thing) for thing in left)
        for thing in left:
            if isinstance(thing, psutil.Process):
                thing.kill()
        pytest.fail(f"left {watch.name} behind:\n{listed}", pytrace=False)


@pytest.fixture(autouse=True)
def no_leaked_descriptors(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a socket, pipe or file open."""
    yield from _guard(leaks.FILES, request)


@pytest.fixture(autouse=True)
def no_leaked_processes(no_leaked_descriptors: None, request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a child process running, or not waited for; the process is killed."""
    yield from _guard(leaks.PROCESSES, request)


@pytest.fixture(autouse=True)
def no_leaked_threads(no_leaked_processes: None, request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread running, and print where it is."""
    yield from _guard(leaks.THREADS, request)
