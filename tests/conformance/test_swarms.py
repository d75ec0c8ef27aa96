from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from handshakes.errors import Busy, Closed, ConnectionLost, ItemFailed, PynetworkError, RemoteFault
from pynetwork.lanes import LanesReport
from tests.conformance.breaking import break_mine
from tests.conformance.drivers import Driver
from tests.serving import PATIENCE, Background


def double(number: int, plus: int = 0) -> int:
    return 2 * number + plus


def shared(count: int, *, lane: int = 0, lanes: int = 1) -> Iterator[Any]:
    for number in range(lane, count, lanes):
        yield number, number * 10


@pytest.fixture(params=[False, True], ids=["as they come", "ordered"])
def ordered(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


# map


def test_results_come_in_the_order_of_the_items(driver: Driver) -> None:
    first_may_go = threading.Event()

    def uneven(number: int) -> int:
        if number == 0:
            assert first_may_go.wait(PATIENCE)
        if number == 5:
            first_may_go.set()
        return number

    with driver.swarming(3, uneven) as (_, swarm):
        results = swarm.map("uneven", range(100))
        assert list(results) == list(range(100))
        assert list(results) == []
        assert results.report == LanesReport()


def test_arguments_follow_the_item(driver: Driver) -> None:
    with driver.swarming(2, double) as (_, swarm):
        assert list(swarm.map("double", (1, 2), 5)) == [7, 9]
        assert list(swarm.map("double", (1, 2), plus=6)) == [8, 10]
        assert list(swarm.map("double", [])) == []


def test_calls_run_at_the_same_time(driver: Driver) -> None:
    together = threading.Barrier(3, timeout=PATIENCE)

    def meet(number: int) -> int:
        together.wait()
        return number

    with driver.swarming(3, meet) as (_, swarm):
        assert list(swarm.map("meet", range(6))) == list(range(6))


def test_items_are_taken_only_a_little_ahead(driver: Driver) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    with driver.swarming(2, double) as (_, swarm):
        results = swarm.map("double", items())
        assert [next(results) for _ in range(10)] == list(range(0, 20, 2))
        assert len(taken) <= 10 + 4 * 2 + 1
        results.close()


def test_the_first_error_comes_with_its_item_after_the_results_before_it(driver: Driver) -> None:
    def picky(number: int) -> int:
        if number >= 7:
            raise ValueError(f"not {number}")
        return number

    with driver.swarming(3, picky) as (_, swarm):
        found = []
        with pytest.raises(ItemFailed, match=r"item 7 \(7\) failed") as caught:
            found.extend(swarm.map("picky", range(1000)))
        assert found == list(range(7))
        assert (caught.value.index, caught.value.item) == (7, 7)
        assert isinstance(caught.value.__cause__, RemoteFault)
        assert list(swarm.map("picky", range(5))) == list(range(5))


def test_what_the_source_raises_comes_out(driver: Driver) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise LookupError("the source")

    with driver.swarming(2, double) as (_, swarm):
        with pytest.raises(LookupError, match="the source"):
            list(swarm.map("double", items()))
        with pytest.raises(TypeError):
            swarm.map("double", 5)
        assert list(swarm.map("double", [1])) == [2]


def test_leaving_a_map(driver: Driver) -> None:
    with driver.swarming(2, double) as (_, swarm):
        results = swarm.map("double", itertools.count())
        assert [next(results), next(results)] == [0, 2]
        results.close()
        results.close()
        assert list(results) == []
        assert list(swarm.map("double", [4])) == [8]
        swarm.map("double", [1])  # never begun, nothing to leave behind
        for result in swarm.map("double", itertools.count()):
            if result == 10:
                break
        assert list(swarm.map("double", [5])) == [10]


def test_an_item_of_a_lost_lane_is_called_again(driver: Driver) -> None:
    lost = threading.Event()
    with driver.swarming(2) as (gateway, swarm):

        def fragile(number: int) -> int:
            if number == 3 and not lost.is_set():
                lost.set()
                break_mine(gateway)
            return number

        gateway.add_subroutine("fragile", fragile)
        results = swarm.map("fragile", range(20))
        assert list(results) == list(range(20))
        assert results.report == LanesReport(lost=0, replaced=1)


@pytest.mark.usefixtures("impatient")
def test_a_gateway_that_stops_ends_a_map(driver: Driver) -> None:
    with driver.swarming(2, double) as (gateway, swarm):
        results = swarm.map("double", itertools.count())
        next(results)
        gateway.stop()
        with pytest.raises(ConnectionLost):
            Background(list, results).result()


# stream


def test_lanes_share_the_work(driver: Driver) -> None:
    with driver.swarming(4, shared) as (_, swarm):
        with swarm.stream("shared", 401) as stream:
            found = sorted(stream)
        assert found == [(number, number * 10) for number in range(401)]
        assert stream.report == LanesReport()
        assert len(list(swarm.stream("shared", 3))) == 3  # a lane without any item


def test_ordered_by_ident(driver: Driver) -> None:
    with driver.swarming(3, shared) as (_, swarm):
        found = list(swarm.stream("shared", 2000, ordered=True))
        assert found == [(number, number * 10) for number in range(2000)]
        assert list(swarm.stream("shared", 1, ordered=True)) == [(0, 0)]


def test_a_generator_is_told_its_share_if_it_takes_it(driver: Driver) -> None:
    def anything(**keywords: Any) -> Iterator[Any]:
        yield keywords

    def lane_only(lane: int = -1) -> Iterator[Any]:
        yield lane

    with driver.swarming(2, anything, lane_only) as (_, swarm):
        told = sorted((value for _, value in swarm.stream("anything")), key=lambda each: each["lane"])
        assert told == [{"lane": 0, "lanes": 2}, {"lane": 1, "lanes": 2}]
        assert list(swarm.stream("lane_only")) == [(0, -1), (0, -1)]
        assert [value for _, value in swarm.clients[0].stream("anything")] == [{}]


def test_merged_as_they_arrive(driver: Driver) -> None:
    other_arrived = threading.Event()

    def uneven(*, lane: int = 0, lanes: int = 1) -> Iterator[Any]:
        if lane == 0:
            assert other_arrived.wait(PATIENCE), "lane 1 was kept back"
        yield lane, lane

    with driver.swarming(2, uneven) as (_, swarm):
        stream = swarm.stream("uneven")
        assert next(stream) == (1, 1)
        other_arrived.set()
        assert list(stream) == [(0, 0)]


def test_what_is_known_to_be_next_does_not_wait_for_what_follows_it(driver: Driver) -> None:
    seen = threading.Event()

    def waits(*, lane: int = 0, lanes: int = 1) -> Iterator[Any]:
        yield lane, lane
        assert seen.wait(PATIENCE), "the first item was kept back"
        yield 2 + lane, lane

    with driver.swarming(2, waits) as (_, swarm):
        stream = swarm.stream("waits", ordered=True)
        assert next(stream) == (0, 0)
        seen.set()
        assert list(stream) == [(1, 1), (2, 0), (3, 1)]


@pytest.mark.parametrize("count", [0, 1, 3000])
def test_an_error_on_one_lane_ends_the_stream(driver: Driver, ordered: bool, count: int) -> None:
    """Also while another lane is far ahead and waits for the consumer."""

    def failing(*, lane: int = 0, lanes: int = 1) -> Iterator[Any]:
        for number in range(count) if lane else itertools.count():
            yield number, b"x" * 500
        raise LookupError("lane 1")

    with driver.swarming(2, failing, double) as (_, swarm):
        with pytest.raises(RemoteFault, match="LookupError: lane 1"):
            Background(lambda: sum(1 for _ in swarm.stream("failing", ordered=ordered))).result()
        assert list(swarm.map("double", [1])) == [2]


def test_a_lost_lane_is_started_again(driver: Driver, ordered: bool) -> None:
    lost = threading.Event()
    with driver.swarming(2) as (gateway, swarm):

        def fragile(*, lane: int = 0, lanes: int = 1) -> Iterator[Any]:
            for number in range(lane, 2000, lanes):
                if number == 1001 and not lost.is_set():
                    lost.set()
                    break_mine(gateway)
                yield number, number

        gateway.add_subroutine("fragile", fragile)
        stream = swarm.stream("fragile", ordered=ordered)
        found = [ident for ident, _ in stream]
        assert stream.report == LanesReport(lost=0, replaced=1)
        assert sorted(set(found)) == list(range(2000))
        assert not ordered or found == list(range(2000))


@pytest.mark.usefixtures("impatient")
def test_without_a_lane_that_stays_lost_the_others_go_on_and_the_end_says_so(driver: Driver, ordered: bool) -> None:
    with driver.serving(max_poolsize=2) as gateway:

        def fragile(*, lane: int = 0, lanes: int = 1) -> Iterator[Any]:
            for number in range(lane, 1000, lanes):
                if number == 101:
                    gateway._pool.size = 0
                    break_mine(gateway)
                yield number, b"x" * 100

        gateway.add_subroutine("fragile", fragile)
        with driver.controller(gateway).get_swarm(2) as swarm:
            stream = swarm.stream("fragile", ordered=ordered)
            found: list[int] = []
            with pytest.raises(ConnectionLost, match="1 of 2 lanes were lost"):
                found.extend(ident for ident, _ in stream)
            assert stream.report == LanesReport(lost=1, replaced=0)
            assert [ident for ident in found if ident % 2 == 0] == list(range(0, 1000, 2))
            assert not ordered or found == sorted(found)


def test_leaving_closes_every_generator(driver: Driver, ordered: bool) -> None:
    began, closed = threading.Barrier(3, timeout=PATIENCE), threading.Semaphore(0)

    def endless(*, lane: int = 0, lanes: int = 1) -> Iterator[Any]:
        began.wait()
        try:
            for number in itertools.count(lane, lanes):
                yield number, b"x" * 50
        finally:
            closed.release()

    with driver.swarming(3, endless, shared) as (_, swarm):
        for ident, _ in swarm.stream("endless", ordered=ordered):
            if ident > 200:
                break
        # At the latest now, when the lanes are used, and read, again.
        assert len(list(swarm.stream("shared", 10))) == 10
        for _ in range(3):
            assert closed.acquire(timeout=PATIENCE)


# The swarm itself


def test_one_job_at_a_time(driver: Driver) -> None:
    entered, release = threading.Semaphore(0), threading.Event()

    def wait(number: int) -> int:
        entered.release()
        assert release.wait(PATIENCE)
        return number

    with driver.swarming(2, wait, double) as (_, swarm):
        first = swarm.map("wait", range(2))
        taking = Background(next, first)
        for _ in range(2):
            assert entered.acquire(timeout=PATIENCE)
        with pytest.raises((Busy, ItemFailed)) as caught:
            list(swarm.map("double", [1]))
        assert isinstance(reason_of(caught.value), Busy)
        release.set()
        assert taking.result() == 0
        assert list(first) == [1]
        assert list(swarm.map("double", [1])) == [2]


def reason_of(error: BaseException) -> BaseException | None:
    return error.__cause__ if isinstance(error, ItemFailed) else error


def test_lanes_that_were_lost_in_between_are_replaced(driver: Driver) -> None:
    with driver.swarming(2, double) as (gateway, swarm):

        def cut() -> None:
            break_mine(gateway)

        gateway.add_subroutine("cut", cut)
        for client in swarm.clients:
            with pytest.raises(ConnectionLost):
                client.call("cut")
        assert list(swarm.map("double", range(5))) == [0, 2, 4, 6, 8]
        assert all(client.usable for client in swarm.clients)


@pytest.mark.usefixtures("impatient")
def test_a_swarm_whose_gateway_is_gone(driver: Driver) -> None:
    with driver.swarming(2, double) as (gateway, swarm):
        gateway.stop()
        uses: list[Callable[[], Any]] = [
            lambda: list(swarm.map("double", [1])),
            lambda: list(swarm.stream("shared", 5)),
            lambda: swarm.download("share", to="nowhere"),
        ]
        for use in uses * 2:
            with pytest.raises(ConnectionLost):
                use()


def test_a_closed_swarm_says_so(driver: Driver) -> None:
    with driver.swarming(2, double) as (_, swarm):
        swarm.close()
        swarm.close()
        for use in (lambda: list(swarm.map("double", [1])), lambda: list(swarm.stream("shared", 1))):
            with pytest.raises(Closed, match="this swarm is closed"):
                use()


def test_closing_ends_what_runs(driver: Driver) -> None:
    entered, release = threading.Semaphore(0), threading.Event()

    def block(number: int) -> None:
        entered.release()
        release.wait(PATIENCE)

    with driver.serving(block) as gateway:
        swarm = driver.controller(gateway, timeout=None).get_swarm(2)
        taking = Background(list, swarm.map("block", range(10)))
        for _ in range(2):
            assert entered.acquire(timeout=PATIENCE)
        swarm.close()
        with pytest.raises(PynetworkError) as caught:
            taking.result()
        assert isinstance(reason_of(caught.value), Closed)
        release.set()
