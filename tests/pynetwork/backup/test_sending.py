"""What a restore still has to send."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.chunks import Compare, Pack, Run, Work
from handshakes.manifest import CHUNK_SIZE, PACK_FILES, Entry, Skipped, decode_page
from handshakes.survey import Facts, FolderRow, LinkRow, encode_folder_row, encode_link_row, read_rows
from handshakes.transfer import Code, Receipt, Status
from pynetwork.backup import sending
from pynetwork.backup.sending import RestoreLane, RestoreOptions, RestorePlan, Wanted
from pynetwork.backup.source import Source
from pynetwork.files import arranging
from tests.pynetwork.files.transferring import STAMP, write
from tests.serving import Background
from tests.waiting import wait_until

NO_FACTS = Facts(0, 0, 0, 0, 0, 0)
FOLDER = encode_folder_row(FolderRow(b"sub", NO_FACTS, 0, 0, complete=True))


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    (tmp_path / "source").mkdir()
    with Source(tmp_path / "source") as opened:
        yield opened


@pytest.fixture
def plan(source: Source) -> RestorePlan:
    return planned(source)


def planned(source: Source, **options: Any) -> RestorePlan:
    return RestorePlan(source, "in", RestoreOptions(**options), lanes=2)


def wanted(path: str, size: int = 5, *, alike: bool = False, new: bool = True) -> Wanted:
    return Wanted(Entry(path, size, STAMP, 0o644), path, None, new, alike)


def links(count: int, size: int = 1) -> list[bytes]:
    return [encode_link_row(LinkRow(b"%d" % number, NO_FACTS, b"x" * size)) for number in range(count)]


def work(plan: RestorePlan) -> list[Work]:
    """All that can be taken now."""
    found = []
    while (each := plan.take_now(1 << 30)) is not None:
        found.append(each)
    return found


class Carrier:
    """Notes what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, bytes, bytes]] = []

    def send(self, code: int, head: bytes = b"", *buffers: Any) -> None:
        self.sent.append((code, head, b"".join(buffers)))


# What is planned


def test_small_files_go_in_packs_that_are_full(plan: RestorePlan) -> None:
    for number in range(PACK_FILES - 1):
        plan.want(wanted(f"{number}"), 0)
    assert work(plan) == []
    plan.want(wanted("last"), 0)
    (pack,) = work(plan)
    assert isinstance(pack, Pack)
    assert (pack.count, pack.origin) == (PACK_FILES, None)


def test_what_may_be_there_is_asked_about_first(plan: RestorePlan) -> None:
    plan.want(wanted("new"), 0)
    plan.want(wanted("alike", alike=True, new=False), 5)
    plan.want(wanted("large", 3 * CHUNK_SIZE), CHUNK_SIZE + 1)
    plan.flush()
    compare, run, *packs = work(plan)
    assert isinstance(compare, Compare)
    assert (compare.first, compare.count) == (0, 2)
    assert isinstance(run, Run)
    assert (run.first, run.count) == (2, 1)
    assert [[entry.path for entry in decode_page(pack.table).files] for pack in packs if isinstance(pack, Pack)] == [
        ["alike"],
        ["new"],
    ]


def test_what_is_there_after_all_is_not_sent(plan: RestorePlan) -> None:
    for name in ("there", "missing"):
        plan.want(wanted(name, alike=True, new=False), 5)
    plan.flush()
    (pack,) = work(plan)
    assert isinstance(pack, Pack)
    there, missing = decode_page(pack.table).files
    with plan.changed:
        plan.settle_held(pack, [there], [missing])
    (rest,) = work(plan)
    assert isinstance(rest, Pack)
    assert (decode_page(rest.table).files, rest.origin, rest.tries) == ([missing], None, 0)
    with plan.changed:
        plan.settle_pack(rest, 1, 5, [], [])
    assert plan.done == {"new": 0, "changed": 1, "same": 1}
    assert (plan.plan.unsettled, plan.plan.chunks_again, plan.wanted) == (0, 0, {})


def test_what_is_always_damaged_is_given_up(plan: RestorePlan) -> None:
    plan.want(wanted("bad"), 0)
    plan.flush()
    for _ in range(3):
        (pack,) = work(plan)
        assert isinstance(pack, Pack)
        with plan.changed:
            plan.settle_pack(pack, 0, 0, decode_page(pack.table).files, [])
    assert plan.skipped == [Skipped("bad", "it arrived damaged several times")]
    assert (work(plan), plan.plan.unsettled) == ([], 0)


def test_a_file_that_is_too_large_is_skipped(plan: RestorePlan) -> None:
    plan.want(wanted("huge", 1 << 62), 0)
    assert plan.skipped == [Skipped("huge", "it is too large to be moved")]
    assert (work(plan), plan.wanted) == ([], {})


def test_no_more_is_planned_than_is_needed_soon(plan: RestorePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_BACKLOG", 3)
    for number in range(2):
        plan.want(wanted(f"{number}", 2 * CHUNK_SIZE), 0)
    waiting = Background(plan.want, wanted("2", 2 * CHUNK_SIZE), 0)
    wait_until(lambda: plan.plan.unsettled == 3)
    assert not waiting.done
    files = [each.file for each in work(plan) if isinstance(each, Run)]
    with plan.changed:
        plan.fail_file(files[0], "given up")
    waiting.result()
    waiting = Background(plan.want, wanted("3", 2 * CHUNK_SIZE), 0)
    wait_until(lambda: plan.plan.unsettled == 3)
    plan._stopping.set()
    waiting.result()


# Rows


@pytest.mark.parametrize("count", [0, 1, PACK_FILES, PACK_FILES + 1, 3 * PACK_FILES])
def test_rows_travel_with_their_folder(plan: RestorePlan, count: int) -> None:
    plan.arrange([FOLDER, *links(count)], [])
    plan.flush()
    found = []
    for pack in work(plan):
        assert isinstance(pack, Pack)
        rows = list(read_rows(pack.table))
        assert isinstance(rows[0], FolderRow)
        assert len(rows) <= arranging._MOST_ROWS
        found += [row for row in rows if isinstance(row, LinkRow)]
    assert [row.name for row in found] == [b"%d" % number for number in range(count)]


def test_rows_come_in_pages(plan: RestorePlan) -> None:
    for _ in range(100):
        plan.arrange([FOLDER, *links(2, 200)], [])
    plan.flush()
    pages = [pack.table for pack in work(plan) if isinstance(pack, Pack)]
    assert len(pages) > 2
    assert all(len(page) <= 17 << 10 for page in pages)
    assert sum(1 for page in pages for _ in read_rows(page)) == 300
    assert plan.arranged


def test_what_became_of_rows(plan: RestorePlan) -> None:
    plan.arrange([FOLDER, *links(3)], [wanted(f"sub/{number}", 0, new=number == 0) for number in range(3)])
    plan.flush()
    (pack,) = work(plan)
    assert isinstance(pack, Pack)
    fine = Receipt(Status.OK)
    with plan.changed:
        plan.settle_rows(pack, [Receipt(Status.FAILED, "why"), fine, fine, Receipt(Status.FAILED, "folder")])
    assert plan.skipped == [Skipped("sub", "why"), Skipped("sub/2", "folder")]
    assert (plan.done, plan.wanted) == ({"new": 1, "changed": 1, "same": 0}, {})


# Lanes


def test_only_file_data_is_paid_for_and_counted(source: Source) -> None:
    plan = planned(source, limit=1.0)
    for name in ("a", "b"):
        write(source.root / name, b"12345")
        plan.want(wanted(name, alike=name == "a", new=False), 5)
    plan.arrange([FOLDER], [])
    plan.flush()
    carrier = Carrier()
    lane = plan.make_lane(carrier)
    assert isinstance(lane, RestoreLane)
    try:
        for each in work(plan):
            lane.ask(each)
    finally:
        lane.close()
    # The last was not, as there was something to be paid for before it.
    assert [code for code, _, _ in carrier.sent] == [Code.HELD, Code.PACK]
    assert plan.sent == len(carrier.sent[1][2])


def test_a_file_is_read_where_it_is_here_and_sent_as_it_is_called_there(source: Source) -> None:
    write(source.root / "here%41", b"12345")
    plan = planned(source)
    plan.want(Wanted(Entry("thereA", 5, STAMP, 0o644), "here%41", None, True, False), 0)
    plan.flush()
    carrier = Carrier()
    lane = plan.make_lane(carrier)
    try:
        lane.ask(*work(plan))
    finally:
        lane.close()
    ((code, head, body),) = carrier.sent
    assert code == Code.PACK
    assert decode_page(body[: int.from_bytes(head, "little")]).files[0].path == "thereA"
    assert body.endswith(b"12345")


def test_lanes_store_so_that_it_can_be_resumed(plan: RestorePlan) -> None:
    verb, dirname, token, durable, options = plan.opening()
    assert (verb, dirname, durable, options) == ("files.store", "in", False, {"portable": False, "keep": True})
    assert token
    assert list(plan.prepare()) == []


def test_counting_is_safe_for_threads(plan: RestorePlan) -> None:
    threads = [
        threading.Thread(target=lambda: [plan.count_sent(1) for _ in range(2000)], daemon=True) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert plan.sent == 8000
