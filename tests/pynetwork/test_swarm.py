from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from handshakes.errors import Closed, ConnectionLost, ItemFailed, PoolFull, RemoteFault
from pynetwork import files as transfers
from pynetwork import lanes as lanes_module
from pynetwork import swarm as swarm_module
from pynetwork.client import Client
from pynetwork.lanes import LanesReport
from pynetwork.swarm import Swarm
from tests.serving import PATIENCE, Background, controller_of, serving
from tests.waiting import wait_until


def double(number: int, plus: int = 0) -> int:
    return 2 * number + plus


def shared(count: int, *, lane: int = 0, lanes: int = 1) -> Iterator[Any]:
    for number in range(lane, count, lanes):
        yield number, number * 10


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "REDIALS", 1)
    monkeypatch.setattr(swarm_module, "_PATIENCE", 0.1)


class Dialler:
    """Dials until it is told that nobody answers any more."""

    def __init__(self, dial: Callable[[], Client]) -> None:
        self._dial = dial
        self.reachable = True

    def __call__(self) -> Client:
        if not self.reachable:
            raise ConnectionLost("nobody there")
        return self._dial()


# The swarm itself


def test_dialled_as_a_whole_or_not_at_all() -> None:
    with serving(double, max_poolsize=3) as gateway:
        controller = controller_of(gateway)
        with pytest.raises(PoolFull):
            controller.get_swarm(4)
        with controller.get_swarm(3) as swarm:
            assert len(swarm) == len(swarm.clients) == 3
            assert [client.call("double", 2) for client in swarm.clients] == [4, 4, 4]
            with pytest.raises(PoolFull):
                controller.get_client()
        controller.get_swarm(3).close()
        with pytest.raises(Closed):
            list(swarm.map("double", [1]))
        with pytest.raises(Closed):
            list(swarm.stream("shared", 1))


# map


def test_results_come_in_the_order_of_the_items() -> None:
    first_may_go = threading.Event()

    def uneven(number: int) -> int:
        if number == 0:
            assert first_may_go.wait(PATIENCE)
        if number == 5:
            first_may_go.set()
        return number

    with serving(uneven) as gateway, controller_of(gateway).get_swarm(3) as swarm:
        results = swarm.map("uneven", range(100))
        assert list(results) == list(range(100))
        assert results.report == LanesReport()


def test_arguments_follow_the_item() -> None:
    with serving(double) as gateway, controller_of(gateway).get_swarm(2) as swarm:
        assert list(swarm.map("double", (1, 2), 5)) == [7, 9]
        assert list(swarm.map("double", (1, 2), plus=6)) == [8, 10]
        assert list(swarm.map("double", [])) == []


def test_calls_run_at_the_same_time() -> None:
    together = threading.Barrier(4, timeout=PATIENCE)

    def meet(number: int) -> int:
        together.wait()
        return number

    with serving(meet) as gateway, controller_of(gateway).get_swarm(4) as swarm:
        assert list(swarm.map("meet", range(8))) == list(range(8))


def test_items_are_taken_only_a_little_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    with serving(double) as gateway, controller_of(gateway).get_swarm(2) as swarm:
        results = swarm.map("double", items())
        for consumed in range(1, 50):
            next(results)
            assert len(taken) <= consumed + 2 * swarm_module._AHEAD + 2
        results.close()
        assert len(taken) < 70


def test_results_do_not_wait_for_the_next_item() -> None:
    go_on = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        assert go_on.wait(PATIENCE), "the first result was kept back"
        yield 2

    with serving(double) as gateway, controller_of(gateway).get_swarm(2) as swarm:
        results = swarm.map("double", items())
        assert next(results) == 2
        go_on.set()
        assert list(results) == [4]


def test_the_first_error_comes_with_its_item_after_the_results_before_it() -> None:
    def picky(number: int) -> int:
        if number >= 7:
            raise ValueError(f"not {number}")
        return number

    with serving(picky) as gateway, controller_of(gateway).get_swarm(3) as swarm:
        found = []
        with pytest.raises(ItemFailed, match=r"item 7 \(7\) failed") as caught:
            found.extend(swarm.map("picky", range(1000)))
        assert found == list(range(7))
        assert (caught.value.index, caught.value.item) == (7, 7)
        assert isinstance(caught.value.__cause__, RemoteFault)
        assert list(swarm.map("picky", range(5))) == list(range(5))


def test_what_the_source_raises_comes_out() -> None:
    class Source:
        """Goes on after it raised, as no generator would."""

        def __init__(self) -> None:
            self.asked = 0

        def __iter__(self) -> Source:
            return self

        def __next__(self) -> int:
            self.asked += 1
            if self.asked == 4:
                raise LookupError("the source")
            return self.asked

    with serving(double) as gateway, controller_of(gateway).get_swarm(2) as swarm:
        with pytest.raises(LookupError, match="the source"):
            Background(list, swarm.map("double", Source())).result()
        assert list(swarm.map("double", [1])) == [2]


def test_leaving_a_map() -> None:
    with serving(double) as gateway, controller_of(gateway).get_swarm(2) as swarm:
        results = swarm.map("double", itertools.count())
        assert [next(results), next(results)] == [0, 2]
        results.close()
        results.close()
        assert list(results) == []
        assert list(swarm.map("double", [4])) == [8]
        swarm.map("double", [1])  # never begun, nothing to leave behind


def test_an_item_of_a_lost_lane_is_called_again() -> None:
    lost = threading.Event()

    with serving(max_poolsize=8) as gateway:

        def fragile(number: int) -> int:
            if number == 3 and not lost.is_set():
                lost.set()
                name = threading.current_thread().name
                (mine,) = [each for each in gateway._pool.handlers() if each.thread.name == name]
                mine.link.stream.shutdown()
            return number

        gateway.add_subroutine("fragile", fragile)
        with controller_of(gateway).get_swarm(2) as swarm:
            results = swarm.map("fragile", range(20))
            assert list(results) == list(range(20))
            assert results.report == LanesReport(lost=0, replaced=1)


@pytest.mark.usefixtures("_impatient")
def test_the_items_of_a_lane_that_stays_lost_go_to_the_others() -> None:
    lost = threading.Event()
    with serving(max_poolsize=8) as gateway:
        dialler = Dialler(controller_of(gateway).get_client)

        def fragile(number: int) -> int:
            if number == 3 and not lost.is_set():
                lost.set()
                dialler.reachable = False
                name = threading.current_thread().name
                (mine,) = [each for each in gateway._pool.handlers() if each.thread.name == name]
                mine.link.stream.shutdown()
            return number

        gateway.add_subroutine("fragile", fragile)
        with Swarm(dialler, 2) as swarm:
            results = swarm.map("fragile", range(20))
            assert list(results) == list(range(20))
            assert results.report == LanesReport(lost=1, replaced=0)


@pytest.mark.usefixtures("_impatient")
def test_a_gateway_that_stops_ends_a_map() -> None:
    with serving(double) as gateway, controller_of(gateway).get_swarm(2) as swarm:
        results = swarm.map("double", itertools.count())
        next(results)
        gateway.stop()
        with pytest.raises(ConnectionLost):
            Background(list, results).result()


@pytest.mark.usefixtures("_impatient")
def test_ctrl_c_in_a_map_waits_for_no_call() -> None:
    entered, release = threading.Semaphore(0), threading.Event()

    def block(number: int) -> None:
        entered.release()
        release.wait(PATIENCE)

    with serving(block) as gateway, controller_of(gateway, timeout=None).get_swarm(2) as swarm:
        results = swarm.map("block", range(10))

        def interrupt() -> None:
            """Ctrl-C while the caller waits for the first result and both lanes are busy."""
            assert entered.acquire(timeout=PATIENCE)
            assert entered.acquire(timeout=PATIENCE)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        interrupting = Background(interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(results)
        interrupting.result()
        assert not release.is_set()
        release.set()
        assert len(list(swarm.map("block", range(1)))) == 1


# stream


def test_lanes_share_the_work() -> None:
    with serving(shared) as gateway, controller_of(gateway).get_swarm(4) as swarm:
        with swarm.stream("shared", 1001) as stream:
            found = sorted(stream)
        assert found == [(number, number * 10) for number in range(1001)]
        assert stream.report == LanesReport()
        assert len(list(swarm.stream("shared", 3))) == 3  # a lane without any item


def test_ordered_by_ident() -> None:
    with serving(shared) as gateway, controller_of(gateway).get_swarm(3) as swarm:
        found = list(swarm.stream("shared", 20_000, ordered=True))
        assert found == [(number, number * 10) for number in range(20_000)]
        assert list(swarm.stream("shared", 1, ordered=True)) == [(0, 0)]


def test_a_generator_that_takes_any_keywords_is_told_its_share() -> None:
    def anything(**keywords: Any) -> Iterator[Any]:
        yield keywords

    def lane_only(lane: int = -1) -> Iterator[Any]:
        yield lane

    with serving(anything, lane_only) as gateway, controller_of(gateway).get_swarm(2) as swarm:
        told = sorted((value for _, value in swarm.stream("anything")), key=lambda each: each["lane"])
        assert told == [{"lane": 0, "lanes": 2}, {"lane": 1, "lanes": 2}]
        assert list(swarm.stream("lane_only")) == [(0, -1), (0, -1)]
        assert [value for _, value in swarm.clients[0].stream("anything")] == [{}]


def test_merged_as_they_arrive() -> None:
    other_arrived = threading.Event()

    def uneven(*, lane: int = 0, lanes: int = 1) -> Iterator[Any]:
        if lane == 0:
            assert other_arrived.wait(PATIENCE), "lane 1 was kept back"
        yield lane, lane

    with serving(uneven) as gateway, controller_of(gateway).get_swarm(2) as swarm:
        stream = swarm.stream("uneven")
        assert next(stream) == (1, 1)
        other_arrived.set()
        assert list(stream) == [(0, 0)]


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("count", [0, 1, 30_000])
def test_an_error_on_one_lane_ends_the_stream(ordered: bool, count: int) -> None:
    """Also while another lane is far ahead and waits for the consumer."""

    def failing(*, lane: int = 0, lanes: int = 1) -> Iterator[Any]:
        for number in range(count) if lane else itertools.count():
            yield number, b"x" * 100
        raise LookupError("lane 1")

    with (
        serving(failing) as gateway,
        controller_of(gateway).get_swarm(2) as swarm,
        pytest.raises(RemoteFault, match="LookupError: lane 1"),
    ):
        Background(lambda: sum(1 for _ in swarm.stream("failing", ordered=ordered))).result()


@pytest.mark.parametrize("ordered", [False, True])
def test_a_lost_lane_is_started_again(ordered: bool) -> None:
    lost = threading.Event()
    with serving(max_poolsize=8) as gateway:

        def fragile(*, lane: int = 0, lanes: int = 1) -> Iterator[Any]:
            for number in range(lane, 6000, lanes):
                if number == 3001 and not lost.is_set():
                    lost.set()
                    name = threading.current_thread().name
                    (mine,) = [each for each in gateway._pool.handlers() if each.thread.name == name]
                    mine.link.stream.shutdown()
                yield number, number

        gateway.add_subroutine("fragile", fragile)
        with controller_of(gateway).get_swarm(2) as swarm:
            stream = swarm.stream("fragile", ordered=ordered)
            found = [ident for ident, _ in stream]
            assert stream.report == LanesReport(lost=0, replaced=1)
            assert sorted(set(found)) == list(range(6000))
            if ordered:
                assert found == list(range(6000))


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("ordered", [False, True])
def test_without_a_lane_that_stays_lost_the_others_go_on_and_the_end_says_so(ordered: bool) -> None:
    with serving(max_poolsize=8) as gateway:
        dialler = Dialler(controller_of(gateway).get_client)

        def fragile(*, lane: int = 0, lanes: int = 1) -> Iterator[Any]:
            for number in range(lane, 60_000, lanes):
                if number == 101:
                    dialler.reachable = False
                    name = threading.current_thread().name
                    (mine,) = [each for each in gateway._pool.handlers() if each.thread.name == name]
                    mine.link.stream.shutdown()
                yield number, b"x" * 100

        gateway.add_subroutine("fragile", fragile)
        with Swarm(dialler, 2) as swarm:
            stream = swarm.stream("fragile", ordered=ordered)
            found: list[int] = []
            with pytest.raises(ConnectionLost, match="1 of 2 lanes were lost"):
                Background(lambda: found.extend(ident for ident, _ in stream)).result()
            assert stream.report == LanesReport(lost=1, replaced=0)
            assert [ident for ident in found if ident % 2 == 0] == list(range(0, 60_000, 2))
            assert not ordered or found == sorted(found)


@pytest.mark.parametrize("ordered", [False, True])
def test_leaving_the_loop_closes_every_generator(ordered: bool) -> None:
    closed = threading.Semaphore(0)
    begun: list[int] = []

    def endless(*, lane: int = 0, lanes: int = 1) -> Iterator[Any]:
        try:
            begun.append(lane)
            for number in itertools.count(lane, lanes):
                yield number, b"x" * 50
        finally:
            closed.release()

    with serving(endless) as gateway, controller_of(gateway).get_swarm(3) as swarm:
        for ident, _ in swarm.stream("endless", ordered=ordered):
            # One that had not begun would have nothing to close.
            if ident > 2000 and len(begun) == 3:
                break
        for _ in range(3):
            assert closed.acquire(timeout=PATIENCE)
        wait_until(lambda: all(client.ping() for client in swarm.clients))


@pytest.mark.usefixtures("_impatient")
def test_leaving_does_not_wait_for_a_lane_that_brings_nothing() -> None:
    release = threading.Event()

    def silent(*, lane: int = 0, lanes: int = 1) -> Iterator[Any]:
        yield lane, lane
        release.wait(PATIENCE)

    with serving(silent, max_poolsize=8) as gateway, controller_of(gateway).get_swarm(2) as swarm:
        stream = swarm.stream("silent")
        next(stream)
        Background(stream.close).result()
        assert not release.is_set()
        release.set()
        assert len(list(swarm.stream("silent"))) == 2


@pytest.mark.usefixtures("_impatient")
def test_ctrl_c_in_a_stream() -> None:
    release = threading.Event()

    def silent(*, lane: int = 0, lanes: int = 1) -> Iterator[Any]:
        yield lane, lane
        release.wait(PATIENCE)

    with serving(silent, max_poolsize=8) as gateway, controller_of(gateway).get_swarm(2) as swarm:

        def consume() -> None:
            for _ in swarm.stream("silent"):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            consume()
        release.set()
        assert len(list(swarm.stream("silent"))) == 2


def test_a_consumer_that_pauses_bounds_what_is_on_its_way() -> None:
    produced = itertools.count()
    last = 0

    def endless(*, lane: int = 0, lanes: int = 1) -> Iterator[Any]:
        nonlocal last
        for number in itertools.count(lane, lanes):
            last = next(produced)
            yield number, b"x" * 20_000

    with (
        serving(endless) as gateway,
        controller_of(gateway).get_swarm(2) as swarm,
        swarm.stream("endless") as stream,
    ):
        next(stream)
        seen = -1

        def stands_still() -> bool:
            nonlocal seen
            before, seen = seen, last
            return before == seen and time.monotonic() > settled

        settled = time.monotonic() + 0.3
        wait_until(stands_still, PATIENCE)
        # Two lanes, each with 2 MiB of credit, a frame in hand and four that wait for the consumer.
        assert last < 2 * (2 * 1024 * 1024 + 6 * 320 * 1024) // 20_000


# Files: what is passed on


def test_files_go_through_the_lanes(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
    for name in ("download", "upload"):
        monkeypatch.setattr(
            transfers,
            name,
            lambda lanes, *arguments, _name=name, **options: calls.append((_name, arguments, options)),
        )
    with serving() as gateway, controller_of(gateway, download_dir=tmp_path).get_swarm(1) as swarm:
        swarm.download("logs")
        swarm.download("logs", ".+", to="else", durable=True)
        swarm.upload(["a"], "b")
    assert [(name, arguments) for name, arguments, _ in calls] == [
        ("download", ("logs",)),
        ("download", ("logs",)),
        ("upload", (["a"],)),
    ]
    assert calls[0][2]["to"] == tmp_path
    assert (calls[1][2]["to"], calls[1][2]["pattern"], calls[1][2]["durable"]) == ("else", ".+", True)
    assert calls[2][2]["dirname"] == "b"


def test_an_item_that_a_lost_lane_gave_back_comes_before_a_later_items_error() -> None:
    started, failed = threading.Event(), threading.Event()

    def work(item: int) -> str:
        if item:
            failed.set()
            raise ValueError("no")
        started.set()
        assert failed.wait(PATIENCE)
        return "zero"

    with serving(work, max_poolsize=8) as gateway, controller_of(gateway).get_swarm(2) as swarm:
        results = swarm.map("work", [0, 1])
        found: list[str] = []

        def consume() -> None:
            found.extend(results)

        consumer = Background(consume)
        assert started.wait(PATIENCE)
        assert failed.wait(PATIENCE)
        for client in swarm.clients:
            client.link.stream.shutdown()
        with pytest.raises(ItemFailed) as caught:
            consumer.result()
        assert caught.value.index == 1
        assert found == ["zero"]
