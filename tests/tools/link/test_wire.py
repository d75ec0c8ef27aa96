from __future__ import annotations

import pytest

from tools.link.wire import LEAST_QUEUE, TRAFFIC_SIZE, Traffic, Wire, usual_queue

MILLISECOND = 1_000_000


def wire(rate=1_000_000.0, delay=0.0, loss=0.0, queue=1 << 30, seed=0, figures=None):
    return Wire(rate, delay, loss, queue, seed, figures)


def test_a_packet_takes_its_time_on_the_wire_and_on_the_way():
    assert wire(rate=1_000_000, delay=0.02).admit(5 * MILLISECOND, 1000) == 26 * MILLISECOND


def test_packets_leave_one_after_the_other_and_an_idle_wire_saves_nothing_up():
    one = wire(rate=1_000_000)
    assert [one.admit(0, 1000) for _ in range(3)] == [1 * MILLISECOND, 2 * MILLISECOND, 3 * MILLISECOND]
    assert one.admit(2 * MILLISECOND, 500) == 3.5 * MILLISECOND
    assert one.admit(100 * MILLISECOND, 1000) == 101 * MILLISECOND


def test_without_a_rate_nothing_waits_and_nothing_finds_the_queue_full():
    one = wire(rate=None, delay=0.001, queue=0)
    assert {one.admit(7, 65536) for _ in range(1000)} == {7 + MILLISECOND}
    assert Wire.traffic(one.figures) == Traffic(carried=65_536_000, carried_packets=1000)


def test_what_finds_the_queue_full_is_dropped_until_there_is_room():
    one = wire(rate=1_000_000, queue=2500)
    assert [one.admit(0, 1000) is None for _ in range(4)] == [False, False, True, True]
    assert one.admit(0, 500) is not None  # a small one still fits
    assert one.admit(MILLISECOND, 1000) is not None
    assert Wire.traffic(one.figures) == Traffic(
        carried=3500, carried_packets=4, full=2000, full_packets=2, most_queued=2500
    )
    assert Wire.traffic(one.figures).dropped == 2000


def test_a_dropped_packet_takes_no_time():
    one = wire(rate=1_000_000, queue=1000)
    one.admit(0, 1000)
    assert one.admit(0, 1000) is None
    assert one.admit(MILLISECOND, 1000) == 2 * MILLISECOND


def test_loss_is_a_matter_of_chance_and_the_same_for_the_same_seed():
    def arrivals(seed, loss=0.1):
        one = wire(loss=loss, seed=seed)
        return [one.admit(0, 10) is not None for _ in range(5000)]

    assert arrivals(1) == arrivals(1) != arrivals(2)
    assert 300 < arrivals(1).count(False) < 700
    assert all(arrivals(1, loss=0.0))
    assert not any(arrivals(1, loss=1.0))


def test_what_is_lost_has_taken_its_time_and_is_counted():
    one = wire(rate=1_000_000, loss=1.0)
    assert one.admit(0, 1000) is None
    one._loss = 0.0
    assert one.admit(0, 1000) == 2 * MILLISECOND
    assert Wire.traffic(one.figures) == Traffic(
        carried=1000, carried_packets=1, lost=1000, lost_packets=1, most_queued=2000
    )


def test_figures_are_counted_in_memory_that_others_see():
    memory = bytearray(TRAFFIC_SIZE)
    one = wire(figures=memoryview(memory).cast("Q"))
    one.admit(0, 77)
    assert Wire.traffic(memoryview(memory).cast("Q")).carried == 77


@pytest.mark.parametrize(
    ("rate", "delay", "queue"), [(0.0, 0.0, LEAST_QUEUE), (6_250_000, 0.01, LEAST_QUEUE), (6_250_000, 0.05, 625_000)]
)
def test_the_usual_queue_holds_a_round_trip(rate, delay, queue):
    assert usual_queue(rate, delay) == queue
