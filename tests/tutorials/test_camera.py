"""The consumer knows how old its frames are, drops the late ones, and the camera is free again afterwards."""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy
import pytest

from pynetwork import Controller, RemoteFault
from tests.serving import PATIENCE
from tests.tutorials.programs import assert_shown, gateway, interrupt, load, next_line, run, started
from tests.waiting import wait_until

CAMERA = load("camera", "camera")
GATEWAY = load("camera", "gateway")
CONSUMER = load("camera", "consumer")


def options(**changes: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"rate": 50.0, "late": 60.0, "work": 0.0, "seconds": 0.5, **changes})


def figures(output: str) -> dict[str, int]:
    """The counts of an account."""
    found = re.search(r"(\d+) frames in .*\n(\d+) used, (\d+) dropped as too late; (\d+) were never taken", output)
    assert found, output
    return dict(zip(("came", "used", "dropped", "missed"), map(int, found.groups()), strict=True))


def test_as_its_page_says(tmp_path: Path) -> None:
    with gateway("camera", cwd=tmp_path) as (process, port):
        done = run("camera", "consumer.py", "--port", port, "--seconds", 0.5, "--late", 60, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        counts = figures(done.stdout)
        assert counts["used"] == counts["came"] > 0
        assert_shown("camera.md", done.stdout)
        assert interrupt(process)[0] == 0


def test_ctrl_c_brings_the_account(tmp_path: Path) -> None:
    with (
        gateway("camera", cwd=tmp_path) as (_, port),
        Controller(port=port).get_client() as client,
        started("camera", "consumer.py", "--port", port, "--seconds", 1000, cwd=tmp_path) as consumer,
    ):
        assert next_line(consumer).startswith("the gateway's clock is ")
        sent = client.stats()["sent"]
        wait_until(lambda: client.stats()["sent"] > sent + 5_000_000, PATIENCE, "some frames")
        code, output, _ = interrupt(consumer)
    assert code == 130
    assert figures(output)["came"] > 0


def test_without_a_frame_there_is_no_account(tmp_path: Path) -> None:
    with GATEWAY.make_gateway(CAMERA.SimulatedCamera, 0) as server:
        port = server.port
    ended = run("camera", "consumer.py", "--port", port, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("ConnectionLost: no gateway can be reached")


def test_late_frames_are_dropped() -> None:
    tally = CONSUMER.Tally()
    with GATEWAY.make_gateway(CAMERA.SimulatedCamera, 0) as server, Controller(port=server.port).get_client() as client:
        # Each frame takes longer than the camera needs for ten.
        CONSUMER.consume(client, options(rate=100, work=0.1, late=0.3, seconds=2.0), tally)
    assert tally.used
    assert tally.dropped
    assert max(tally.used) <= 0.3
    assert tally.bytes == (len(tally.used) + tally.dropped) * 480 * 640 * 3


def test_nothing_is_used_when_everything_is_late() -> None:
    tally = CONSUMER.Tally()
    with GATEWAY.make_gateway(CAMERA.SimulatedCamera, 0) as server, Controller(port=server.port).get_client() as client:
        CONSUMER.consume(client, options(late=-1.0), tally)
    assert not tally.used
    assert tally.dropped
    assert "ages" not in str(tally)


class FarClock:
    """A client whose gateway has a clock that is ahead."""

    def __init__(self, ahead: float) -> None:
        self._ahead = ahead

    def call(self, name: str) -> float:
        assert name == "clock"
        return time.time() + self._ahead


@pytest.mark.parametrize("ahead", [0.0, 1000.0, -3.5])
def test_the_offset_of_a_clock_is_found_within_its_error(ahead: float) -> None:
    offset, error = CONSUMER.clock_offset(FarClock(ahead))
    assert abs(offset - ahead) <= error + 1e-6
    assert error >= 0


def test_the_shortest_wait_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two questions: the first takes 1 s and its answer is off by half of that, the second takes 0.1 s.
    times = iter([10.0, 15.0, 11.0, 20.0, 25.05, 20.1])
    monkeypatch.setattr(CONSUMER.time, "time", lambda: next(times))
    assert CONSUMER.clock_offset(FarClock(0.0), tries=2) == (pytest.approx(5.0), pytest.approx(0.05))


def test_ticks_leave_out_what_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [50.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(GATEWAY.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(GATEWAY.time, "sleep", sleep)
    ticks = GATEWAY.ticks(10.0)
    assert [next(ticks) for _ in range(3)] == [0, 1, 2]
    assert sum(slept) == pytest.approx(0.2)
    now[0] += 0.5
    assert next(ticks) == 7
    assert next(ticks) == 8


class Watched(CAMERA.SimulatedCamera):  # type: ignore[misc, name-defined]
    """A camera that knows who has it."""

    open = 0

    def __init__(self) -> None:
        super().__init__(4, 4)
        type(self).open += 1

    def close(self) -> None:
        type(self).open -= 1


def test_the_camera_is_let_go_when_the_reader_leaves() -> None:
    with GATEWAY.make_gateway(Watched, 0) as server, Controller(port=server.port).get_client() as client:
        for number, (taken, frame) in client.stream("frames", 100.0):
            assert frame.shape == (4, 4, 3)
            assert frame.dtype == numpy.uint8
            assert abs(taken - time.time()) < 60
            assert Watched.open == 1
            if number >= 3:
                break
        wait_until(lambda: Watched.open == 0, PATIENCE)


def test_the_stripes_move() -> None:
    camera = CAMERA.SimulatedCamera(2, 128)
    first, second = camera.read(), camera.read()
    assert first.shape == (2, 128, 3)
    assert numpy.array_equal(numpy.roll(first, 4, axis=1), second)
    assert not numpy.array_equal(first, second)


# OpenCV, which is not installed for the tests: a module that answers as it does


class FakeCapture:
    opened: ClassVar[list[Any]] = []
    released = 0

    def __init__(self, source: int | str) -> None:
        self.opened.append(source)
        self._pictures = iter(numpy.full((2, 2, 3), shade, numpy.uint8) for shade in range(3))
        self._there = source != 9

    def isOpened(self) -> bool:  # noqa: N802 - its name there
        return self._there

    def read(self) -> tuple[bool, Any]:
        picture = next(self._pictures, None)
        return picture is not None, picture

    def release(self) -> None:
        type(self).released += 1


@pytest.fixture
def opencv(monkeypatch: pytest.MonkeyPatch) -> type[FakeCapture]:
    monkeypatch.setitem(sys.modules, "cv2", argparse.Namespace(VideoCapture=FakeCapture))
    FakeCapture.opened, FakeCapture.released = [], 0
    return FakeCapture


def test_a_camera_of_opencv_is_read_and_released(opencv: type[FakeCapture]) -> None:
    made = GATEWAY.make_gateway(lambda: CAMERA.OpenCvCamera("0"), 0)
    shades = []
    with made as server, Controller(port=server.port).get_client() as client:
        with pytest.raises(RemoteFault, match="the camera gives no more pictures"):
            shades.extend(int(frame[0, 0, 0]) for _, (_, frame) in client.stream("frames", 1000.0))
        wait_until(lambda: opencv.released == 1, PATIENCE)
    assert shades == [0, 1, 2]
    assert opencv.opened == [0]


def test_a_camera_that_is_not_there_is_told(opencv: type[FakeCapture]) -> None:
    with pytest.raises(RuntimeError, match="camera '9' can't be opened"):
        CAMERA.OpenCvCamera("9")
    assert CAMERA.OpenCvCamera("film.mp4").read().shape == (2, 2, 3)
    assert opencv.opened == [9, "film.mp4"]
