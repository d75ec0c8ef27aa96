"""The robot drives its sequence, and stops by itself when nobody steers it."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pynetwork import Controller, RemoteFault
from tests.serving import PATIENCE
from tests.tutorials.programs import assert_shown, gateway, interrupt, load, next_line, run, started
from tests.waiting import wait_until

BOARD = load("robot", "board")
ROBOT = load("robot", "gateway")
CONTROLLER = load("robot", "controller")
FORWARD, BACK, SPIN, STOP = CONTROLLER.FORWARD, CONTROLLER.BACK, CONTROLLER.SPIN, CONTROLLER.STOP


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_as_its_page_says(tmp_path: Path) -> None:
    with gateway("robot", cwd=tmp_path) as (process, port):
        driven = run("robot", "controller.py", "--port", port, cwd=tmp_path)
        assert driven.returncode == 0, driven.stderr
        assert [line.split(":")[0] for line in driven.stdout.splitlines()[:3]] == ["forward", "back", "spin"]
        assert driven.stdout.endswith("pins that are on: none\n")
        assert_shown("robot.md", driven.stdout)
        code, output, _ = interrupt(process)
        assert (code, output) == (0, "")


@pytest.mark.parametrize("end", ["interrupt", "kill"])
def test_a_robot_that_is_left_alone_stops(tmp_path: Path, end: str) -> None:
    with gateway("robot", cwd=tmp_path) as (process, port), Controller(port=port).get_client() as client:
        with started("robot", "controller.py", "--port", port, "--rounds", 1000, cwd=tmp_path) as steering:
            wait_until(lambda: any(client.call("pins").values()), PATIENCE)
            if end == "kill":
                steering.kill()
                steering.wait(PATIENCE)
            else:
                assert interrupt(steering)[0] == 130
        wait_until(lambda: not any(client.call("pins").values()), PATIENCE)
        assert next_line(process) == "no command: stopped\n"


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'gpiozero'"),
        ImportError("Unable to load any default pin factory!"),  # as gpiozero says it without lgpio, and without pins
    ],
)
def test_a_gateway_without_gpiozero_names_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: ImportError
) -> None:
    (tmp_path / "gpiozero.py").write_text(f"raise {error!r}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    ended = run("robot", "gateway.py", "--board", "gpio", cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr == f"{error}; on the robot: pip install gpiozero lgpio\n"


# The robot


@pytest.fixture
def robot() -> Iterator[Any]:
    made = ROBOT.Robot(BOARD.SimulatedBoard())
    yield made
    made.close()


def test_levels_are_checked_and_told(robot: Any) -> None:
    with ROBOT.make_gateway(robot, 0) as server, Controller(port=server.port).get_client() as client:
        assert client.send("set_pins", FORWARD) == 2
        assert client.call("pins") == {
            "left forward": True,
            "left back": False,
            "right forward": True,
            "right back": False,
        }
        with pytest.raises(RemoteFault, match="ValueError: 3 levels came for 4 pins"):
            client.send("set_pins", b"\1\1\1")
        assert client.send("set_pins", STOP) == 0


def test_commands_that_come_in_time_keep_it_going(robot: Any, capsys: pytest.CaptureFixture[str]) -> None:
    robot.set_pins(buffer=FORWARD)
    until = robot._until
    wait_until(lambda: robot.set_pins(buffer=FORWARD) and robot._until > until + 2 * ROBOT.HOLD, PATIENCE)
    assert capsys.readouterr().out == ""


def test_closing_stops_the_motors_and_the_watch() -> None:
    board = BOARD.SimulatedBoard()
    robot = ROBOT.Robot(board)
    robot.set_pins(buffer=FORWARD)
    robot.close()
    assert (board._left, board._right) == (0, 0)
    assert not [thread for thread in threading.enumerate() if thread.name == "watch"]


# The controller


class Recorder:
    """In place of the client that steers."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, name: str, buffer: bytes) -> int:
        assert name == "set_pins"
        self.sent.append(buffer)
        return 2


def test_a_step_goes_on_until_its_distance() -> None:
    steering = Recorder()
    distances = iter(enumerate([3.0, 2.0, 0.4, 0.3]))
    assert CONTROLLER.drive(steering, distances, CONTROLLER.SEQUENCE[0])
    assert steering.sent == [FORWARD, FORWARD]
    assert next(distances) == (3, 0.3)


def test_a_step_is_given_up_when_it_takes_too_long(capsys: pytest.CaptureFixture[str]) -> None:
    never = CONTROLLER.Step("look", SPIN, until=lambda _: False, seconds=-1.0)
    assert not CONTROLLER.drive(Recorder(), iter(enumerate([3.0])), never)
    assert "given up" in capsys.readouterr().out


def test_a_stream_that_ends_is_no_success() -> None:
    assert not CONTROLLER.drive(Recorder(), iter([]), CONTROLLER.SEQUENCE[0])


# The boards


def test_the_simulated_robot_drives_to_the_wall_and_no_further(clock: Clock) -> None:
    board = BOARD.SimulatedBoard(clock)
    assert board.distance() == pytest.approx(3.0)
    board.write(FORWARD)
    clock.now += 1.0
    assert board.distance() == pytest.approx(2.0)
    board.write(BACK)
    clock.now += 0.5
    assert board.distance() == pytest.approx(2.5)
    board.write(FORWARD)
    clock.now += 10.0
    assert board.distance() == pytest.approx(0.0)


def test_the_simulated_robot_turns_on_the_spot(clock: Clock) -> None:
    board = BOARD.SimulatedBoard(clock)
    board.write(SPIN)
    clock.now += math.pi / 2 / 10  # ten radians a second
    assert board.distance() == pytest.approx(1.5, abs=1e-6)
    clock.now += math.pi / 2 / 10
    assert board.distance() == pytest.approx(1.0, abs=1e-6)
    board.close()
    clock.now += 1000.0
    assert board.distance() == pytest.approx(1.0, abs=1e-6)


@pytest.fixture
def pins() -> Iterator[Any]:
    """The pins of a Pi that gpiozero plays; the echo takes 5 ms, which is 0.86 m."""
    gpiozero = pytest.importorskip("gpiozero")
    mock = pytest.importorskip("gpiozero.pins.mock")
    factory = gpiozero.Device.pin_factory = mock.MockFactory()
    echo = factory.pin(BOARD.GpioBoard.ECHO)
    factory.pin(BOARD.GpioBoard.TRIGGER, pin_class=mock.MockTriggerPin, echo_pin=echo, echo_time=0.005)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gpiozero.PWMSoftwareFallback)
        yield factory
    factory.reset()
    gpiozero.Device.pin_factory = None


def test_a_real_board_sets_the_pins_and_reads_the_sensor(pins: Any) -> None:
    board = BOARD.GpioBoard()
    try:
        board.write(FORWARD)
        assert [pins.pin(number).state for number in board.MOTORS] == [True, False, True, False]
        wait_until(lambda: 0.8 < board.distance() < 2.0, PATIENCE)
    finally:
        board.close()
    assert [pins.pin(number).state for number in board.MOTORS] == [False] * 4


def test_both_boards_have_the_same_functions() -> None:
    wanted = {name for name in vars(BOARD.Board) if not name.startswith("_")}
    assert wanted == {"write", "distance", "close"}
    for board in (BOARD.SimulatedBoard, BOARD.GpioBoard):
        assert wanted <= set(vars(board))
