"""The asyncio controller merges all of its gateways, and outlives each of them."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pynetwork import Gateway
from tests.tutorials.programs import assert_shown, gateway, interrupt, load, next_line, run, started

GATEWAY = load("many_gateways", "gateway")
CONTROLLER = load("many_gateways", "controller")


def line_with(process: subprocess.Popen[str], wanted: int) -> str:
    """The next line that names so many gateways."""
    line = ""
    while line.count(" cpu ") != wanted:
        line = next_line(process)
        assert line, process.communicate()[1]
    return line


def test_as_its_page_says(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        gateways = [stack.enter_context(gateway("many_gateways", cwd=tmp_path)) for _ in range(3)]
        ports = [port for _, port in gateways]
        addresses = [f"127.0.0.1:{port}" for port in ports]
        quick = ["--rate", 50, "--every", 0.1, "--pause", 0.1]
        watching = stack.enter_context(started("many_gateways", "controller.py", *addresses, *quick, cwd=tmp_path))
        output = line_with(watching, 3)
        code, _, _ = interrupt(gateways[1][0])
        assert code == 0
        output += line_with(watching, 2)
        with gateway("many_gateways", cwd=tmp_path, port=ports[1]):
            output += line_with(watching, 3)
            code, rest, errors = interrupt(watching)
        assert code == 130
        assert f"{addresses[1]}: " in errors
        assert_shown("many-gateways.md", output + "\n".join(rest.splitlines()[-3:]))


def test_the_time_can_be_given(tmp_path: Path) -> None:
    with Gateway(0) as server:
        server.add_subroutine("readings", GATEWAY.readings)
        address = f"127.0.0.1:{server.port}"
        done = run("many_gateways", "controller.py", address, "--rate", 50, "--seconds", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1].split()[1]) > 0


READING = {"cpu": 10.0, "memory": 50.0}


def test_the_state_names_whoever_is_there() -> None:
    assert CONTROLLER.describe({}) == "no gateway"
    latest = {"b": {"cpu": 30.0}, "a": {"cpu": 10.0}}
    assert CONTROLLER.describe(latest) == "a cpu 10.0 % | b cpu 30.0 % | mean 20.0 %"


def test_a_gateway_that_is_lost_is_no_longer_named() -> None:
    async def collected() -> tuple[dict[str, Any], Counter[str]]:
        merged: asyncio.Queue[Any] = asyncio.Queue(maxsize=1)
        latest: dict[str, Any] = {}
        counts: Counter[str] = Counter()
        collecting = asyncio.create_task(CONTROLLER.collect(merged, latest, counts))
        # As there is room for one only, each has been taken once the next one is in. The last is there for that.
        for each in (("a", READING), ("b", READING), ("a", READING), ("a", None), ("c", None), ("c", None)):
            await merged.put(each)
        collecting.cancel()
        return latest, counts

    latest, counts = asyncio.run(collected())
    assert latest == {"b": READING}
    assert counts == {"a": 2, "b": 1}


def test_what_will_not_mend_itself_ends_it(tmp_path: Path) -> None:
    with Gateway(0, host="127.0.0.1", key="a key for this test") as server:
        address = f"127.0.0.1:{server.port}"
        ended = run("many_gateways", "controller.py", address, "--seconds", 30, cwd=tmp_path)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    named, why = ended.stderr.splitlines()
    assert named == f"{address}: AuthenticationFailed, which won't mend itself"
    assert why.startswith("AuthenticationFailed: ")


def test_where_gateways_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CONTROLLER, "AsyncController", lambda host, port, **_options: (host, port))
    places = {
        "pi": ("pi", 1857),
        "10.0.0.7:2000": ("10.0.0.7", 2000),
        "[fd00::7]:1858": ("fd00::7", 1858),
        "[::1]": ("::1", 1857),
    }
    assert {address: CONTROLLER.controller_of(address) for address in places} == places


@pytest.mark.parametrize("address", ["pi:abc", "::1", "pi:70000"])
def test_what_is_no_address_is_told_at_once(tmp_path: Path, address: str) -> None:
    ended = run("many_gateways", "controller.py", "127.0.0.1", address, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "controller.py: error: " in ended.stderr
    assert "Traceback" not in ended.stderr
