from __future__ import annotations

import random
from pathlib import Path

import pytest

from handshakes.deltas import Beginning, GrownRow, encode_grown, encode_grown_rows
from handshakes.manifest import Entry, encode_file
from handshakes.transfer import Code, Status, encode_rows
from pynetwork.controller import Controller
from tests.serving import MESSAGE, RESULT, controller_of, frame, serving
from tools.proxy import DOWN, UP, Proxy
from tools.soak.torture.lines import LINE, Lines
from tools.soak.torture.scene import BATCH, RING
from tools.soak.torture.wire import ROW, Covered, Meter

LINES = Lines("mixed", "1")
TEXT = LINES.text(0, 100)


def message(code: int, body: bytes, head: bytes = b"") -> bytes:
    return frame(MESSAGE, code, 1, head, body)


def test_what_is_covered() -> None:
    chance = random.Random(4)
    covered, known = Covered(), set[int]()
    for _ in range(500):
        start = chance.randrange(300)
        end = start + chance.randrange(1, 20)
        added = set(range(start, end)) - known
        assert covered.add(start, end) == len(added)
        known |= added
    assert covered.add(0, 400) == 400 - len(known)


@pytest.mark.parametrize("piece", [1, 7, 4096, 1 << 20])
def test_data_is_found_however_it_is_cut(piece: int) -> None:
    meter = Meter()
    see = meter.tap()
    other = frame(RESULT, 1, 1, b"head", b"body of no file") + message(Code.PAGE, b"a page") + message(Code.SUMS, TEXT)
    said = (
        other
        + message(Code.CHUNK, TEXT, b"a head")
        + other
        + message(Code.SEAL, b"", b"seal")
        + message(Code.CHUNK, b"")
    )
    for at in range(0, len(said), piece):
        see(DOWN, said[at : at + piece])
    assert (meter.total, meter.data) == (len(said), len(TEXT))
    assert (meter.lines, meter.new_lines) == (len(TEXT), len(TEXT))


def test_what_comes_again() -> None:
    meter = Meter()
    first, second = meter.tap(), meter.tap()
    first(DOWN, message(Code.CHUNK, TEXT[: 50 * LINE]))
    second(DOWN, message(Code.PIECE, TEXT[49 * LINE + 5 : 60 * LINE - 7]))
    assert meter.lines == meter.data
    assert meter.new_lines == 60 * LINE - 7
    # What is lost on the way is not known when it comes again.
    first(DOWN, message(Code.CHUNK, TEXT[60 * LINE :])[:-1])
    second(DOWN, message(Code.CHUNK, TEXT[60 * LINE - 7 :]))
    assert meter.new_lines == len(TEXT)
    assert meter.data - meter.new_lines == 41 * LINE - 6


def test_the_tables_of_messages_with_several_files() -> None:
    meter = Meter()
    see = meter.tap()
    entries = [Entry(f"small/{number}", 10 * LINE, 5, 0o644) for number in range(3)]
    see(UP, message(Code.PACK, b"".join(map(encode_file, entries))))
    rows = encode_rows([(0, 0o644, 10 * LINE, 5, bytes(16))] * 3)
    parts = [LINES.text(at, 10) for at in (0, 30, 60)]
    see(DOWN, message(Code.PACK, rows + b"".join(parts)))
    assert meter.rows == 3
    assert (meter.lines, meter.new_lines) == (30 * LINE, 30 * LINE)
    assert meter.data - meter.lines == len(rows) <= 3 * ROW
    see(UP, message(Code.GROWN, encode_grown([(entries[0], [Beginning(5, bytes(16))])])))
    table = encode_grown_rows([GrownRow(Status.OK, 0o644, 1, 9 * LINE, 5, bytes(16))])
    see(DOWN, message(Code.GROWN, table + LINES.text(11, 9)))
    assert meter.rows == 4
    assert len(table) <= ROW
    assert (meter.lines, meter.new_lines) == (39 * LINE, 39 * LINE)


def test_a_chunk_of_the_ring_is_new_when_a_line_of_it_is() -> None:
    meter = Meter()
    see = meter.tap()
    ring = Lines(RING, "1")
    before, after = ring.text(0, 10), ring.text(100, 2) + ring.text(2, 8)
    for data, new in ((before, 10), (before, 10), (after, 20), (after, 20)):
        see(DOWN, message(Code.CHUNK, data))
        assert meter.new_lines == new * LINE


def download(controller: Controller, to: Path) -> None:
    with controller.get_swarm(2) as swarm:
        swarm.download("share", to=to, progress=False)


def test_files_that_are_fetched_twice(tmp_path: Path) -> None:
    """Over a real connection: the first time everything is new, and nothing is the second time."""
    share = tmp_path / "share"
    share.mkdir()
    lines = Lines(BATCH, "1")
    sizes = [1, 5, 300, 9000, 20_000]
    for number, count in enumerate(sizes):
        (share / str(number)).write_bytes(lines.text(100_000 * number, count))
    meter = Meter()
    with serving(share={"share": share}) as gateway, Proxy(gateway.port, tap=meter.tap) as proxy:
        controller = controller_of(gateway)
        controller.port = proxy.port
        download(controller, tmp_path / "copy")
        assert meter.new_lines == meter.lines == sum(sizes) * LINE
        assert 0 <= meter.data - meter.lines <= meter.rows * ROW
        download(controller, tmp_path / "copy")
        assert meter.new_lines == sum(sizes) * LINE
        assert meter.lines == 2 * sum(sizes) * LINE
    assert meter.total > meter.data
