"""A live stream beside bulk data, over an emulated link. Skipped where no link can be made."""

from __future__ import annotations

import pytest

from tools.link import Link, LinkUnavailable
from tools.link import link as module
from tools.link.priority import Setting, main, measure

pytestmark = [pytest.mark.slow, pytest.mark.system]


@pytest.fixture
def a_link() -> None:
    try:
        Link().close()
    except LinkUnavailable as reason:
        pytest.skip(str(reason))


def test_bulk_data_that_gives_way_leaves_a_stream_alone(a_link: None) -> None:
    # Processors that others use as well make everything wait, which looks like a queue: then it is measured again.
    for left in reversed(range(4)):
        # More lanes than one: any usual congestion control then fills the queue.
        alone, plain, polite = (figures for _, _, figures in measure(Setting(seconds=2.5), [4]))
        assert alone.used is None
        assert plain.used is not None
        assert polite.used is not None
        if polite.used > plain.used / 2 or not left:
            break
    assert polite.median - alone.median < (plain.median - alone.median) / 2
    assert polite.used > plain.used / 2


def test_the_command(a_link: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seconds", "0.5", "--lanes", "1", "--rate", "2e6", "--trip", "0.004"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in printed[2:]] == ["none", "1 lanes, plain", "1 lanes, giving way"]


def test_the_command_where_there_is_no_link(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module.os, "geteuid", lambda: 1000)
    assert main([]) == 1
    assert "root" in capsys.readouterr().err
