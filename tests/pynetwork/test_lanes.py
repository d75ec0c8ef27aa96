from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest

from handshakes.errors import Closed, ConfigurationError, ConnectionLost, PoolFull
from pynetwork import lanes as lanes_module
from pynetwork.client import Client
from pynetwork.lanes import Lanes, LanesReport, OneLane
from tests.serving import PATIENCE, Background, controller_of, serving


def whoami() -> int:
    return threading.get_ident()


def test_work_runs_on_every_lane_at_the_same_time() -> None:
    with serving(whoami) as gateway:
        lanes = Lanes(controller_of(gateway).get_client, 3)
        together = threading.Barrier(3, timeout=PATIENCE)
        seen: dict[int, int] = {}
        over: list[int] = []

        def work(client: Client, lane: int) -> None:
            together.wait()
            seen[lane] = client.call("whoami")

        assert lanes.run(work, over.append) == LanesReport(0, 0)
        assert sorted(seen) == sorted(over) == [0, 1, 2]
        assert len(set(seen.values())) == lanes.count == 3
        lanes.close()
        with pytest.raises(Closed):
            lanes.run(work)


def test_all_lanes_or_none() -> None:
    with serving(max_poolsize=2) as gateway:
        controller = controller_of(gateway)
        with pytest.raises(PoolFull):
            Lanes(controller.get_client, 3)
        # The two that could be dialled were given back.
        Lanes(controller.get_client, 2).close()
        with pytest.raises(ConfigurationError, match="at least 1"):
            Lanes(controller.get_client, 0)


def test_a_lost_lane_is_replaced_and_its_work_done_again() -> None:
    with serving(whoami) as gateway:
        lanes = Lanes(controller_of(gateway).get_client, 2)
        runs: list[int] = []

        def work(client: Client, lane: int) -> None:
            runs.append(lane)
            if lane == 1 and runs.count(1) < 3:
                client.link.stream.shutdown()
            client.call("whoami")

        assert lanes.run(work) == LanesReport(lost=0, replaced=2)
        assert sorted(runs) == [0, 1, 1, 1]
        assert all(client.usable for client in lanes.clients)
        lanes.close()


def failing_after(count: int, dial: Callable[[], Client]) -> Callable[[], Client]:
    """A way to dial that works so many times."""
    left = [None] * count

    def limited() -> Client:
        try:
            left.pop()
        except IndexError:
            raise ConnectionLost("nobody there") from None
        return dial()

    return limited


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "REDIALS", 2)


@pytest.mark.usefixtures("_impatient")
def test_the_others_go_on_without_a_lane_that_can_not_be_replaced() -> None:
    with serving(whoami) as gateway:
        lanes = Lanes(failing_after(2, controller_of(gateway).get_client), 2)
        done: list[int] = []
        over: list[int] = []

        def work(client: Client, lane: int) -> None:
            if lane == 0:
                client.link.stream.shutdown()
            client.call("whoami")
            done.append(lane)

        assert lanes.run(work, over.append) == LanesReport(lost=1, replaced=0)
        assert done == [1]
        assert sorted(over) == [0, 1]
        lanes.close()


@pytest.mark.usefixtures("_impatient")
def test_no_lane_is_left() -> None:
    with serving(whoami) as gateway:
        lanes = Lanes(failing_after(2, controller_of(gateway).get_client), 2)

        def work(client: Client, lane: int) -> None:
            client.link.stream.shutdown()
            client.call("whoami")

        with pytest.raises(ConnectionLost):
            lanes.run(work)
        lanes.close()


def test_a_lane_that_is_lost_again_and_again_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "MOST_SHORT_LIVES", 3)
    with serving(whoami) as gateway:
        lanes = Lanes(controller_of(gateway).get_client, 1)
        runs: list[int] = []

        def work(client: Client, lane: int) -> None:
            runs.append(lane)
            raise ConnectionLost("again")

        with pytest.raises(ConnectionLost, match="again"):
            lanes.run(work)
        assert len(runs) == 3
        lanes.close()


def test_the_first_error_stops_every_lane() -> None:
    waiting = threading.Event()
    release = threading.Event()

    def block() -> None:
        waiting.set()
        release.wait(PATIENCE)

    with serving(block) as gateway:
        lanes = Lanes(controller_of(gateway, timeout=None).get_client, 2)
        ends: list[str] = []

        def work(client: Client, lane: int) -> None:
            if lane == 0:
                assert waiting.wait(PATIENCE)
                raise LookupError("lane 0")
            try:
                client.call("block")
            finally:
                ends.append("woken")

        with pytest.raises(LookupError, match="lane 0"):
            Background(lanes.run, work).result()
        assert ends == ["woken"]
        release.set()
        lanes.close()


def test_lanes_that_are_lost_are_replaced_before_the_next_job() -> None:
    with serving(whoami) as gateway:
        lanes = Lanes(controller_of(gateway).get_client, 2)
        before = list(lanes.clients)
        before[0].lose(ConnectionLost("earlier"))
        assert lanes.run(lambda client, lane: client.call("whoami")) == LanesReport(0, 0)
        assert lanes.clients[0] is not before[0]
        assert lanes.clients[1] is before[1]
        lanes.close()


def test_ctrl_c_ends_every_lane_and_waits_for_it() -> None:
    release = threading.Event()
    together = threading.Barrier(2, timeout=PATIENCE)
    ended: list[int] = []

    def block() -> None:
        release.wait(PATIENCE)

    def work(client: Client, lane: int) -> None:
        together.wait()
        if lane == 1:
            os.kill(os.getpid(), signal.SIGINT)
        try:
            client.call("block")
        finally:
            # The lane that is waited for first has something left to do.
            threading.Event().wait(0.3 if lane == 0 else 0.0)
            ended.append(lane)

    with serving(block) as gateway:
        lanes = Lanes(controller_of(gateway, timeout=None).get_client, 2)
        with pytest.raises(KeyboardInterrupt):
            lanes.run(work)
        assert sorted(ended) == [0, 1]
        release.set()
        lanes.close()


def test_a_lane_that_is_being_replaced_when_the_job_stops() -> None:
    """It is neither put to work again, nor left open."""
    with serving(whoami, max_poolsize=4) as gateway:
        dial = controller_of(gateway).get_client
        dialling, go_on = threading.Event(), threading.Event()

        def slow_dial() -> Client:
            if threading.current_thread().name.startswith("lane "):
                dialling.set()
                assert go_on.wait(PATIENCE)
            return dial()

        lanes = Lanes(slow_dial, 2)
        runs: list[int] = []

        def work(client: Client, lane: int) -> None:
            runs.append(lane)
            if lane == 1:
                raise ConnectionLost("lane 1")
            assert dialling.wait(PATIENCE)
            threading.Timer(0.05, go_on.set).start()
            raise LookupError("lane 0")

        with pytest.raises(LookupError):
            lanes.run(work)
        assert runs.count(1) == 1
        lanes.close()


def test_closed_while_a_lane_is_being_replaced() -> None:
    with serving(whoami) as gateway:
        dial = controller_of(gateway).get_client
        dialling, go_on = threading.Event(), threading.Event()
        dialled: list[Client] = []

        def slow_dial() -> Client:
            if threading.current_thread().name.startswith("lane "):
                dialling.set()
                assert go_on.wait(PATIENCE)
            dialled.append(dial())
            return dialled[-1]

        lanes = Lanes(slow_dial, 1)

        def work(client: Client, lane: int) -> None:
            raise ConnectionLost("lane 0")

        running = Background(lanes.run, work)
        assert dialling.wait(PATIENCE)
        lanes.close()
        go_on.set()
        with pytest.raises(ConnectionLost):
            running.result()
        assert not any(client.usable for client in dialled)


# More of them


def test_lanes_join_a_job_that_runs() -> None:
    with serving(whoami) as gateway:
        lanes = Lanes(controller_of(gateway).get_client, 1)
        together = threading.Barrier(3, timeout=PATIENCE)
        over: list[int] = []
        seen: list[int] = []

        def work(client: Client, lane: int) -> None:
            if lane < 2:
                assert lanes.running
                assert lanes.grow()
            together.wait()
            seen.append(client.call("whoami"))

        assert not lanes.grow()
        assert lanes.run(work, over.append) == LanesReport(0, 0)
        assert sorted(over) == [0, 1, 2]
        assert len(set(seen)) == lanes.count == 3
        assert not lanes.running
        assert not lanes.grow()
        lanes.close()
        assert not any(client.usable for client in lanes.clients)


def test_where_there_is_no_room_nothing_grows() -> None:
    with serving(whoami, max_poolsize=2) as gateway:
        lanes = Lanes(controller_of(gateway).get_client, 2)
        grown: list[bool] = []
        assert lanes.run(lambda _client, _lane: grown.append(lanes.grow())) == LanesReport(0, 0)
        assert grown == [False, False]
        assert lanes.count == 2
        lanes.close()
        assert not lanes.grow()


def test_a_lane_that_comes_too_late_is_closed_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(whoami) as gateway:
        lanes = Lanes(controller_of(gateway).get_client, 1)
        late: list[bool] = []

        def work(_client: Client, _lane: int) -> None:
            running = lanes._running
            assert running is not None
            monkeypatch.setattr(running, "add", lambda _lane: False)
            late.append(lanes.grow())

        lanes.run(work)
        assert late == [False]
        assert lanes.count == 2
        lanes.close()
        assert not any(client.usable for client in lanes.clients)


def test_all_lanes_that_took_part_are_lost_although_another_was_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "REDIALS", 0)
    with serving(whoami) as gateway:
        lanes = Lanes(controller_of(gateway).get_client, 2)

        def work(client: Client, lane: int) -> None:
            if lane == 0:
                running = lanes._running
                assert running is not None
                monkeypatch.setattr(running, "add", lambda _lane: False)
                lanes.grow()
            client.link.stream.shutdown()
            client.call("whoami")

        with pytest.raises(ConnectionLost):
            lanes.run(work)
        assert lanes.count == 3
        lanes.close()


def test_a_lane_that_joined_is_replaced_like_the_others() -> None:
    with serving(whoami) as gateway:
        lanes = Lanes(controller_of(gateway).get_client, 1)
        joined = threading.Event()
        lost: list[int] = []

        def work(client: Client, lane: int) -> None:
            if lane == 0:
                assert lanes.grow()
                assert joined.wait(PATIENCE)
            elif not lost:
                lost.append(lane)
                client.link.stream.shutdown()
            else:
                joined.set()
            client.call("whoami")

        assert lanes.run(work) == LanesReport(lost=0, replaced=1)
        lanes.close()


def test_one_client_can_be_taken_for_something_else() -> None:
    with serving(whoami) as gateway:
        lanes = Lanes(controller_of(gateway).get_client, 3)
        taken = lanes.take_one()
        assert lanes.count == 2
        lanes.close()
        assert taken.ping() > 0
        taken.close()


# A client that exists


def test_one_client_works_on_the_callers_thread() -> None:
    with serving(whoami) as gateway, controller_of(gateway).get_client() as client:
        lane = OneLane(client)
        seen: list[object] = []

        def work(given: Client, number: int) -> None:
            seen.extend([given, number, threading.current_thread()])

        assert lane.run(work, seen.append) == LanesReport(0, 0)
        assert seen == [client, 0, threading.current_thread(), 0]
        assert lane.count == 1
        assert lane.run(lambda given, _number: seen.append(given.call("whoami"))) == LanesReport()


def test_what_fails_on_one_client_leaves_it_as_it_was() -> None:
    with serving(whoami) as gateway, controller_of(gateway).get_client() as client:
        over: list[int] = []

        def work(_client: Client, _lane: int) -> None:
            raise LookupError

        with pytest.raises(LookupError):
            OneLane(client).run(work, over.append)
        assert over == [0]
        assert client.ping() > 0


def test_one_client_is_not_replaced() -> None:
    with serving(whoami) as gateway, controller_of(gateway).get_client() as client:

        def work(given: Client, _lane: int) -> None:
            given.link.stream.shutdown()
            given.call("whoami")

        with pytest.raises(ConnectionLost):
            OneLane(client).run(work)
        assert not client.usable
