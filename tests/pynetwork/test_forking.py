from __future__ import annotations

import gc
import os

import pytest

from handshakes.errors import Closed, LocalProtocolError
from pynetwork.forking import HoldsSockets
from tests.serving import paired


class Holder(HoldsSockets):
    def __init__(self, told: list[str], name: str) -> None:
        self._told = told
        self._name = name
        self.watch_forks()

    def let_go(self) -> None:
        self._told.append(self._name)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if nothing else in this process held sockets."""
    monkeypatch.setattr(HoldsSockets, "_living", type(HoldsSockets._living)())


def test_whatever_lives_is_told_once(alone: None) -> None:
    told: list[str] = []
    first, gone = Holder(told, "first"), Holder(told, "gone")
    del gone
    gc.collect()
    HoldsSockets._let_all_go()
    HoldsSockets._let_all_go()
    assert told == ["first"]
    assert first._told is told


def test_a_client_in_a_child_says_where_it_belongs(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = os.getpid()
    with paired() as (_, client):
        assert client.ping() >= 0
        stream = client.link.stream
        assert isinstance(stream, HoldsSockets)
        with monkeypatch.context() as child:
            child.setattr(os, "getpid", lambda: parent + 1)
            stream.let_go()
            for _ in range(2):
                with pytest.raises(Closed, match=f"belongs to process {parent}, of which this is a fork; dial another"):
                    client.ping()


def test_a_gateway_in_a_child_is_its_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = os.getpid()
    with paired() as (gateway, client):
        with monkeypatch.context() as child:
            child.setattr(os, "getpid", lambda: parent + 1)
            gateway.stop()
            with pytest.raises(LocalProtocolError, match=f"runs in process {parent}, of which this is a fork"):
                gateway.wait()
        assert client.ping() >= 0
