from __future__ import annotations

import argparse
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.errors import AuthenticationFailed, ConnectionLost, Forbidden, NotFound
from handshakes.records import GREATEST, LEAST, Block, Key, KeyRange
from pynetwork.cli import make_parser
from pynetwork.cli.common import CommandFailed
from pynetwork.cli.series import sources
from pynetwork.cli.series.folding import SeriesFigures
from pynetwork.cli.series.sources import Source, opened, range_of, server_and_file, whole_series
from pynetwork.gateway import Gateway
from pynetwork.series.record import SeriesKey
from tests.pynetwork.cli.series.stores import HALL, NOON, ROOM, SECOND, filled, made, mounted, pairs, served

KEY = "a key for the tests"
EVERYTHING = KeyRange.everything()


def arguments(*words: Any, action: str = "get") -> argparse.Namespace:
    return make_parser().parse_args(["series", action, *map(str, words)])


def caps(blocks: Any) -> list[int]:
    return [cap - NOON for block in blocks for cap in (block.column("cap") // SECOND * SECOND).tolist()]


def check(source: Source) -> None:
    """What every source answers about the records of `filled`, and that more can be put."""
    assert caps(source.blocks(EVERYTHING)) == [0, SECOND, 2 * SECOND, 10 * SECOND, 11 * SECOND]
    assert caps(source.blocks(EVERYTHING, limit=4)) == [0, SECOND, 2 * SECOND, 10 * SECOND]
    box = ROOM.range(NOON + SECOND)
    assert caps(source.blocks(box)) == [SECOND, 2 * SECOND]


def check_more(source: Source) -> None:
    assert caps(source.blocks(EVERYTHING, newest=True, limit=3)) == [11 * SECOND, 10 * SECOND, 2 * SECOND]
    last = source.last(EVERYTHING)
    assert last is not None
    assert [last.key(index)[:4] for index in range(2)] == [
        (*ROOM, NOON + 2 * SECOND),
        (*HALL, NOON + 11 * SECOND),
    ]
    assert source.series(EVERYTHING) == [
        SeriesFigures(ROOM, 3, NOON, NOON + 2 * SECOND),
        SeriesFigures(HALL, 2, NOON + 10 * SECOND, NOON + 11 * SECOND),
    ]
    last = source.last(SeriesKey(9, 9, 9).range())
    assert last is None or not len(last)
    assert source.figures()["horizon"] > 0


def check_puts(source: Source) -> None:
    other = SeriesKey(2, 0, 0)
    source.put(pairs(2, other), with_acq=False)
    source.put(pairs(2, other).with_acq(5), with_acq=True)
    source.put(pairs(2, other).with_acq(5), with_acq=True)
    (found,) = source.series(other.range())
    assert found.records == 4


def test_a_store(tmp_path: Path) -> None:
    made(tmp_path / "data")
    with opened(arguments("--store", tmp_path / "data"), None) as source:
        check(source)
        check_more(source)
        check_puts(source)


def test_a_server(tmp_path: Path) -> None:
    with served(tmp_path / "data") as address:
        # A limit gives the connection up.
        with opened(arguments(address), address) as source:
            check_more(source)
            check_puts(source)
        with opened(arguments(address), address) as source:
            assert caps(source.blocks(ROOM.range(), limit=2)) == [0, SECOND]
        with opened(arguments(address), address) as source, pytest.raises(CommandFailed, match="--limit"):
            list(source.blocks(EVERYTHING, newest=True))


def test_a_server_with_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(tmp_path / "data", key=KEY) as address:
        monkeypatch.setenv("PYNETWORK_KEY", KEY)
        with opened(arguments(address), address) as source:
            check_more(source)
            check_puts(source)
        monkeypatch.setenv("PYNETWORK_KEY", "another key for it")
        with pytest.raises(AuthenticationFailed), opened(arguments(address), address):
            pass


def test_a_gateway(tmp_path: Path) -> None:
    with mounted(tmp_path / "data") as address, opened(arguments(address, "--gateway"), address) as source:
        check_more(source)
        check_puts(source)


def test_a_gateway_with_a_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)
    with mounted(tmp_path / "data", key={KEY: "read"}) as address:
        options = arguments(address, "--key-file", tmp_path / "key")
        with opened(options, address) as source:
            check_more(source)
        with opened(options, address) as source, pytest.raises(Exception, match="status"):
            check_puts(source)


def test_a_gateway_without_a_store() -> None:
    with Gateway(0, "127.0.0.1") as gateway:
        address = f"127.0.0.1:{gateway.port}"
        with (
            pytest.raises(NotFound, match=r'add_service\("series", SeriesService'),
            opened(arguments(address, "--gateway"), address),
        ):
            pass


def test_a_key_without_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYNETWORK_KEY", KEY)
    with (
        mounted(tmp_path / "data", key={KEY: "call"}) as address,
        pytest.raises(Forbidden),
        opened(arguments(address), address),
    ):
        pass


def test_who_speaks_something_else_is_told_apart(tmp_path: Path) -> None:
    with (
        mounted(tmp_path / "data") as address,
        pytest.raises(CommandFailed, match="does not speak TStorage") as caught,
        opened(arguments(address), address) as source,
    ):
        source.series(EVERYTHING)
    assert (caught.value.code, "--gateway" in caught.value.hint) == (7, True)
    with (
        served(tmp_path / "data") as address,
        pytest.raises(CommandFailed) as caught,
        opened(arguments(address, "--gateway", "--timeout", "0.2"), address),
    ):
        pass
    assert (caught.value.code in {5, 7}, "leave --gateway" in caught.value.hint) == (True, True)
    with (
        silent() as address,
        pytest.raises(CommandFailed, match="in time") as caught,
        opened(arguments(address, "--gateway", "--timeout", "0.2"), address),
    ):
        pass
    assert (caught.value.code, "leave --gateway" in caught.value.hint) == (5, True)


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """The address of somebody who takes connections and says nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConnectionLost), opened(arguments(address), address):
            pass


def test_no_more_is_asked_for_than_was_wanted() -> None:
    def blocks() -> Iterator[Block]:
        yield pairs(3)
        yield pairs(3)
        raise AssertionError

    assert [len(block) for block in sources._first(blocks(), 5)] == [3, 2]
    assert [len(block) for block in sources._first(blocks(), 6)] == [3, 3]


@pytest.mark.parametrize(
    ("words", "address"), [(["pi"], None), (["--store", "x"], "pi"), (["x"], "a b"), (["--store", ""], "pi")]
)
def test_where_must_be_said_once(words: list[str], address: str | None) -> None:
    with pytest.raises(CommandFailed) as caught, opened(arguments(*words), address):
        pass
    assert caught.value.code == 2


def test_a_folder_that_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed) as caught, opened(arguments("--store", tmp_path), None):
        pass
    assert caught.value.code == 4
    assert list(tmp_path.iterdir()) == []
    with opened(arguments("--store", tmp_path / "new"), None, create=True) as source:
        check_puts(source)


def test_a_folder_in_the_place_of_a_server(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="is a folder here; a store's folder is given with --store"):
        opened(arguments(), str(tmp_path)).__enter__()


def test_a_store_that_is_open_elsewhere(tmp_path: Path) -> None:
    with (
        filled(tmp_path),
        pytest.raises(CommandFailed, match="is already open") as caught,
        opened(arguments("--store", tmp_path), None),
    ):
        pass
    assert caught.value.code == 5
    assert "HOST[:PORT] --gateway" in caught.value.hint


def test_the_box_of_the_options() -> None:
    assert range_of(arguments()) == EVERYTHING
    words = ["--series", "1/*/7", "--since", "2026-11-21T12:00:00Z", "--until", "2026-11-21T12:00:05Z"]
    assert range_of(arguments(*words)) == KeyRange(
        Key(1, LEAST.mid, 7, NOON, LEAST.acq), Key(2, GREATEST.mid, 8, NOON + 5 * SECOND, GREATEST.acq)
    )
    with pytest.raises(CommandFailed):
        range_of(arguments("--since", "2026-11-21", "--until", "2026-11-21"))


def test_words_of_a_server_and_a_file() -> None:
    assert server_and_file(arguments("--store", "d", "f.csv", action="put")) == (None, "f.csv")
    assert server_and_file(arguments("pi", "f.csv", action="put")) == ("pi", "f.csv")
    for words in (["f.csv"], ["--store", "d", "pi", "f.csv"], ["pi", "f.csv", "more"]):
        with pytest.raises(CommandFailed):
            server_and_file(arguments(*words, action="put"))


def test_one_series() -> None:
    assert whole_series((1, 4, 7)) == ROOM
    with pytest.raises(CommandFailed):
        whole_series((1, None, 7))


def test_no_block_is_none(tmp_path: Path) -> None:
    nothing: list[Block] = []
    with served(tmp_path / "data") as address, opened(arguments(address), address) as source:
        assert list(source.blocks(SeriesKey(9, 9, 9).range(), newest=True, limit=5)) == nothing
