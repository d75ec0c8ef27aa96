"""What the sensors measured is in the store, and both charts show it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy
import pytest

from pynetwork import Controller
from pynetwork.series import SeriesStore
from tests.tutorials.programs import assert_shown, gateway, interrupt, load, run

SENSORS = load("series", "sensors")
GATEWAY = load("series", "gateway")
CONTROLLER = load("series", "controller")


@pytest.fixture(scope="module", autouse=True)
def open_fonts(tmp_path_factory: pytest.TempPathFactory) -> None:
    """matplotlib keeps the files of its fonts open, once it has written a letter."""
    waves = [CONTROLLER.line(name, readings([1.0, 2.0]), "v0", 80) for name in "ab"]
    CONTROLLER.save(waves, tmp_path_factory.mktemp("fonts") / "chart.png")


def assert_drawn(picture: Path) -> None:
    """It is a picture of three charts below each other, in each of which something is drawn in blue."""
    pixels = matplotlib.image.imread(picture)
    assert pixels.shape == (600, 800, 4)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    coloured = (blue - red > 0.1) & (blue - green > 0.05)
    for panel in numpy.split(coloured, 3):
        # From left to right, and of some height.
        assert panel.any(axis=0).sum() > 600
        assert panel.any(axis=1).sum() > 30


def assert_braille(charts: str) -> None:
    assert sum("\u2801" <= letter <= "\u28ff" for letter in charts) > 100


def test_as_its_page_says(tmp_path: Path) -> None:
    with gateway("series", cwd=tmp_path) as (process, port):
        done = run("series", "controller.py", "--port", port, "--seconds", 1.2, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        code, output, _ = interrupt(process)
        assert (code, output) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:4] == [
        "temperature: 12 readings",
        "acceleration: 240 readings",
        "power: 60 readings",
        "recorded: 12, 240 and 60 readings",
    ]
    assert [line.strip() for line in lines if line.endswith(("Celsius", "x, g", "watt")) or "    power, watt" in line]
    assert_shown("series.md", "\n".join([*lines[:4], lines[-1]]))
    assert_braille(done.stdout)
    assert_drawn(tmp_path / "chart.png")
    assert_recorded(tmp_path / "data")


def assert_recorded(folder: Path) -> None:
    """The store holds what the simulated sensors yielded, at about the times at which they did."""
    with SeriesStore(folder) as store:
        degrees = store.array(SENSORS.TEMPERATURE.range(), SENSORS.NUMBER)
        vectors = store.array(SENSORS.ACCELERATION.range(), SENSORS.VECTOR)
        watts = store.array(SENSORS.POWER.range(), SENSORS.NUMBER)
    assert degrees["v0"].tolist() == [24 - 6 * math.exp(-number / 10) for number in range(12)]
    numpy.testing.assert_allclose(numpy.hypot(vectors["x"], vectors["y"]), 0.2, rtol=1e-6)
    assert set(vectors["z"].tolist()) == {1.0}
    assert watts["v0"].tolist() == [2200.0 if number % 50 < 2.5 else 150.0 for number in range(60)]
    for data, rate in ((degrees, 10), (vectors, 200), (watts, 50)):
        assert (numpy.diff(data["cap"]) > 0).all()
        assert (data["acq"] >= data["cap"]).all()
        # A reading may come late on a busy machine, and never early.
        elapsed = (data["cap"] - data["cap"][0]) / 1e9
        assert elapsed[-1] > 0.5 * len(data) / rate


def test_each_run_shows_its_own_readings(tmp_path: Path) -> None:
    with SeriesStore(tmp_path) as store, GATEWAY.make_gateway(store, 0) as server:
        controller = Controller(port=server.port)
        for _ in range(2):
            began = CONTROLLER.time_there(controller)
            assert CONTROLLER.run_sensor(controller, "power", 0.1) == 5
            assert len(CONTROLLER.recorded(controller, SENSORS.POWER, SENSORS.NUMBER, began)) == 5
        assert store.count() == 10
        with pytest.raises(SystemExit, match="nothing was recorded"):
            CONTROLLER.recorded(controller, SENSORS.TEMPERATURE, SENSORS.NUMBER, began)


def readings(values: Any) -> Any:
    data = numpy.zeros(len(values), [("cap", "i8"), ("v0", "f8")])
    data["cap"] = 10**18 + numpy.arange(len(values)) * 10**6
    data["v0"] = values
    return data


def test_no_peak_is_lost() -> None:
    values = numpy.zeros(100_000)
    values[54_321], values[99_999] = 7.0, -2.0
    line = CONTROLLER.line("x", readings(values), "v0", 80)
    assert len(line.seconds) == len(line.least) == len(line.greatest) == 80
    assert (line.greatest.max(), line.least.min()) == (7.0, -2.0)
    assert abs(line.seconds[line.greatest.argmax()] - 54.321) <= 100 / 80
    assert (numpy.diff(line.seconds) > 0).all()


def test_fewer_readings_than_columns() -> None:
    line = CONTROLLER.line("x", readings([1.0, 3.0]), "v0", 80)
    assert line.seconds.tolist() == [0.0, 0.001]
    assert line.least.tolist() == line.greatest.tolist() == [1.0, 3.0]
    assert CONTROLLER.line("x", readings([5.0]), "v0", 80).seconds.tolist() == [0.0]


def test_charts_of_what_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    waves = [CONTROLLER.line(name, readings(numpy.sin(numpy.arange(5000) / 99)), "v0", 80) for name in "abc"]
    CONTROLLER.save(waves, tmp_path / "chart.png")
    assert_drawn(tmp_path / "chart.png")
    CONTROLLER.show(waves[0], 80)
    shown = capsys.readouterr().out
    assert_braille(shown)
    assert max(map(len, shown.splitlines())) <= 80
    assert "\x1b" not in shown


def test_a_picture_of_nothing_would_be_noticed(tmp_path: Path) -> None:
    matplotlib.image.imsave(tmp_path / "white.png", numpy.ones((600, 800, 4)))
    with pytest.raises(AssertionError):
        assert_drawn(tmp_path / "white.png")


def test_a_chart_of_no_known_kind_is_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    for name in ("chart.xyz", "chart"):
        ended = run("series", "controller.py", "--chart", name, "--port", 1, cwd=tmp_path)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert f"{name} is no picture: its suffix must be one of ." in ended.stderr
        assert ".png" in ended.stderr
        assert "Traceback" not in ended.stderr
    assert CONTROLLER.picture("a/b.SVG") == Path("a/b.SVG")


def test_a_store_that_is_in_use_is_told(tmp_path: Path) -> None:
    with SeriesStore(tmp_path / "data"):
        ended = run("series", "gateway.py", "--port", 0, cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("StoreBusy: ")
    assert "Traceback" not in ended.stderr
