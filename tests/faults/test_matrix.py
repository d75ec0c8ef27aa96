from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from pynetwork import link
from pynetwork.aio import files as aio_files
from pynetwork.aio import link as aio_link
from pynetwork.files import conversation
from pynetwork.tls import TLS
from tests.certificates import Certificates
from tests.faults.drivers import Asynchronous, Blocking, Driver
from tests.faults.matrix import GRACE, TROUBLES, Outcome, Trouble, extent, fresh, promise, tried
from tests.faults.operations import OPERATIONS, Operation, Scene, scene
from tests.serving import KEY, PATIENCE, controller_of
from tests.waiting import wait_until
from tools.proxy import Direction, Fault

pytestmark = pytest.mark.system

AT_ONCE = 4
"""Cases that are tried at the same time: they wait more than they work, and no more may keep another from its turn."""
TRIES = 3


@pytest.fixture(params=[Blocking, Asynchronous], ids=lambda each: each.name)
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    made: Driver = request.param()
    yield made
    made.close()


class Scenes:
    """The gateways of all cases, made when they are first asked for, and how far each operation reaches."""

    def __init__(
        self, factory: pytest.TempPathFactory, certificates: Certificates, stack: contextlib.ExitStack
    ) -> None:
        self._factory = factory
        self._certificates = certificates
        self._stack = stack
        self._scenes: dict[tuple[bool, bool], Scene] = {}
        self._extents: dict[tuple[str, str, bool], dict[Direction, int]] = {}
        self._numbers = itertools.count()

    def of(self, operation: Operation, encrypted: bool) -> Scene:
        """A gateway with fresh places for files."""
        found = self._scenes.get((operation.keyed, encrypted))
        if found is None:
            key = KEY if operation.keyed else None
            tls = self._certificates.gateway if encrypted else None
            found = self._stack.enter_context(scene(self._factory.mktemp("scene"), key=key, tls=tls))
            self._scenes[operation.keyed, encrypted] = found
        return fresh(found, next(self._numbers))

    def tls(self, encrypted: bool) -> TLS | None:
        return self._certificates.controller if encrypted else None

    def extents(self, driver: Driver, operation: Operation, encrypted: bool) -> dict[Direction, int]:
        name = driver.name, operation.name, encrypted
        if name not in self._extents:
            where = self.of(operation, encrypted)
            self._extents[name] = extent(driver, operation, where, self.tls(encrypted))
        return self._extents[name]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Scenes]:
    with contextlib.ExitStack() as stack:
        made = Scenes(tmp_path_factory, certificates, stack)
        for keyed, encrypted in itertools.product((False, True), repeat=2):
            operation = next(each for each in OPERATIONS if each.keyed == keyed)
            made.of(operation, encrypted)
        yield made


def serves_on(where: Scene, key: str | None, tls: TLS | None) -> None:
    """Nothing is left of those that were here before, and others are served."""
    gateway = where.gateway
    admitted = gateway._admission
    assert admitted is not None
    wait_until(lambda: not gateway._pool.handlers() and not admitted.waiting, PATIENCE, "the gateway to be idle")
    # What a lost upload had brought is kept for a while, lest it go on; that time is over now.
    gateway._services["files"]._uploads._give_up_orphans(0, 1000)  # type: ignore[attr-defined]
    assert not list(where.uploads.rglob("*.partial"))
    with controller_of(gateway, key=key, tls=tls).get_client() as client:
        assert client.call("echo", "still there") == "still there"


def brought_about(
    scenes: Scenes,
    driver: Driver,
    operation: Operation,
    trouble: Trouble,
    tls: TLS | None,
    fault: Fault | None,
    where: Scene,
) -> tuple[Outcome, bool]:
    """As `tried`, and again if the operation is over before it has come to the place of the fault: how much is said
    varies a little with which lane asks for what first.
    """
    promised = promise(trouble, operation)
    found, happened = tried(driver, operation, trouble, fault, where, tls)
    for _ in range(TRIES - 1):
        if happened or fault is None:
            break
        assert found in promised.outcomes, f"nothing has happened, and yet: {found.value}"
        where = scenes.of(operation, trouble.encrypted)
        found, happened = tried(driver, operation, trouble, fault, where, tls)
    return found, happened


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda each: each.name)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)
def test_an_operation_in_trouble(
    driver: Driver, operation: Operation, trouble: Trouble, scenes: Scenes, monkeypatch: pytest.MonkeyPatch
) -> None:
    extents = scenes.extents(driver, operation, trouble.encrypted)
    tls = scenes.tls(trouble.encrypted)
    promised = promise(trouble, operation)
    if trouble.timeout == GRACE:
        # In the order in which they come in life: the deadline of a call is the first.
        for module in (link, aio_link):
            monkeypatch.setattr(module, "STALL_TIMEOUT", 2 * GRACE)
        for module in (conversation, aio_files):
            monkeypatch.setattr(module, "SILENCE_TIMEOUT", 2 * GRACE)
    faults = list(trouble.faults(extents))
    places = [scenes.of(operation, trouble.encrypted) for _ in faults]
    with ThreadPoolExecutor(AT_ONCE) as cases:
        outcomes = cases.map(partial(brought_about, scenes, driver, operation, trouble, tls), faults, places)
        for fault, (found, happened) in zip(faults, outcomes, strict=True):
            assert happened or fault is None, f"{fault} did not happen in {extents}"
            assert found in promised.outcomes, f"{fault} of {extents}: {found.value}, promised is: {promised.word}"
    serves_on(places[0], KEY if operation.keyed else None, tls)
