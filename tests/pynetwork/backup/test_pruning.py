"""Removing from the device: only what is proved on both sides, only where that is granted, first only shown."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.errors import ConnectionLost, Forbidden, NotFound, RemoteProtocolError
from handshakes.transfer import Code
from pynetwork.backup import PruneReport, choose, prune_share
from pynetwork.backup import pruning as module
from pynetwork.backup.mirror import Mirror
from pynetwork.files import sharing
from pynetwork.service import ServedOperation
from tests.pynetwork.backup.mirroring import LARGE, SECOND, SHARE, STAMP, Scene, append, contents, new, overwrite, scene
from tests.serving import KEY, controller_of

DAY = 86400.0
VIEWER = "who only looks"


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path, key={KEY: "read, remove", VIEWER: "read"}) as made:
        made.controller = controller_of(made.gateway, key=KEY)
        made.put("old.log.1", new(100))
        made.put("old.log.2", new(LARGE))
        made.put("sub/empty", b"")
        made.put("fresh.log", new(100), mtime_ns=Path(made.share).stat().st_mtime_ns)
        (made.share / "link").symlink_to("fresh.log")
        made.backup()
        yield made


def prune(at: Scene, **options: Any) -> PruneReport:
    return at.controller.prune(SHARE, at.to, **{"older_than": 7 * DAY, "dry_run": False, **options})


def there(at: Scene) -> list[str]:
    return sorted(contents(at.share))


ALL = ["fresh.log", "old.log.1", "old.log.2", "sub/empty"]


def test_the_first_time_it_is_only_shown(at: Scene) -> None:
    shown = prune(at, dry_run=None)
    assert (shown.dry_run, sorted(shown.removed), shown.bytes, shown.kept) == (True, ALL[1:], LARGE + 100, [])
    assert there(at) == ALL
    done = prune(at, dry_run=None)
    assert (done.dry_run, sorted(done.removed)) == (False, ALL[1:])
    assert there(at) == ["fresh.log"]
    assert prune(at, dry_run=None).removed == []
    assert prune(at, dry_run=True).dry_run


def test_what_is_removed_there_stays_here(at: Scene) -> None:
    before = contents(at.to)
    assert prune(at).bytes == LARGE + 100
    report = at.backup(mirror_deletes=True)
    assert (report.gone, report.deleted, report.files) == (0, 0, 2)
    assert contents(at.to) == before
    assert at.verify().files == 5
    assert at.verify().bad == []


def test_what_comes_under_its_name_does_not_take_its_place(at: Scene) -> None:
    """As when logs are rotated: the next one is called what the one was that is here alone."""
    kept = {name: at.here(name) for name in ("old.log.1", "old.log.2")}
    prune(at)
    at.put("old.log.1", new(200), mtime_ns=STAMP + SECOND)
    at.put("old.log.2", new(LARGE), mtime_ns=STAMP + SECOND)
    report = at.backup(mirror_deletes=True)
    assert report.complete
    aside = ".pruned-20170714T024000"
    assert {name: at.here(name + aside) for name in kept} == kept
    assert at.here("old.log.2") == (at.share / "old.log.2").read_bytes()
    assert at.verify().bad == []
    # And so again.
    prune(at)
    at.put("old.log.1", new(300), mtime_ns=STAMP + SECOND)
    at.backup(mirror_deletes=True)
    assert len(contents(at.to)) == 7
    assert at.verify().bad == []


@pytest.mark.parametrize("damage", ["DROP TABLE runs", "DROP TABLE folders", "UPDATE folders SET facts = x'00'"])
def test_nor_after_the_catalogue_was_damaged(at: Scene, damage: str) -> None:
    """As far as it still says what was pruned."""
    data = at.here("old.log.1")
    prune(at)
    with contextlib.closing(sqlite3.connect(at.to / ".pynetwork/catalogue.sqlite")) as ours:
        ours.execute(damage)
        ours.execute("DROP TABLE changes")
        ours.commit()
    at.put("old.log.1", new(200), mtime_ns=STAMP + SECOND)
    report = at.backup(mirror_deletes=True)
    assert report.complete
    assert report.catalogue_aside
    assert (data in contents(at.to).values()) is (damage == "DROP TABLE runs")
    assert at.verify().bad == []


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_nor_does_what_is_no_file(at: Scene, kind: str) -> None:
    data = at.here("old.log.1")
    prune(at)
    if kind == "link":
        (at.share / "old.log.1").symlink_to("fresh.log")
    else:
        at.put("old.log.1/below", b"x")
    assert at.backup(mirror_deletes=True).complete
    assert data in contents(at.to).values()
    assert at.verify().bad == []


def test_what_comes_back_as_it_was_is_that_again(at: Scene) -> None:
    data = at.here("old.log.1")
    prune(at)
    at.put("old.log.1", data)
    report = at.backup()
    assert report.received < 1000
    assert sorted(contents(at.to)) == ALL
    (at.share / "old.log.1").unlink()
    assert at.backup(mirror_deletes=True).deleted == 1


def test_without_the_right_nothing_is_removed(at: Scene) -> None:
    at.controller = controller_of(at.gateway, key=VIEWER)
    for dry_run in (True, False, None):
        with pytest.raises(Forbidden, match="remove"):
            prune(at, dry_run=dry_run)
    assert there(at) == ALL
    at.controller = controller_of(at.gateway, key=KEY)
    assert prune(at, dry_run=None).dry_run


def test_only_what_is_old_and_chosen(at: Scene) -> None:
    assert prune(at, older_than=100 * 365 * DAY).removed == []
    report = prune_share(
        at.controller.get_client, SHARE, at.to, older_than=DAY, dry_run=False, chosen=choose(glob="*.1")
    )
    assert report.removed == ["old.log.1"]
    assert there(at) == ["fresh.log", "old.log.2", "sub/empty"]


def grow(path: Path) -> None:
    append(path, b"more")


def change_unseen(path: Path) -> None:
    overwrite(path, b"!", 5, mtime_ns=STAMP)


def touch(path: Path) -> None:
    os.utime(path, ns=(STAMP, STAMP + 1))


def replace(path: Path) -> None:
    other = path.with_name("other")
    shutil.copy2(path, other)
    other.replace(path)


def become_a_link(path: Path) -> None:
    path.rename(path.with_name("aside"))
    path.symlink_to("aside")


@pytest.mark.parametrize("path", ["old.log.1", "old.log.2"])
@pytest.mark.parametrize("change", [grow, change_unseen, touch, replace, become_a_link, Path.unlink])
def test_what_has_changed_there_meanwhile_is_kept(at: Scene, change: Callable[[Path], None], path: str) -> None:
    change(at.share / path)
    now = contents(at.share)
    report = prune(at)
    assert [kept.path for kept in report.kept] == [path]
    assert report.kept[0].reason
    assert len(report.removed) == 2
    assert contents(at.share) == {name: data for name, data in now.items() if name not in report.removed}
    # It is no more here alone than before.
    with at.catalogue() as opened:
        (kept,) = [each for _, _, each in opened.all_files() if each.name == path.encode()]
        assert kept.gone is None


def test_what_changes_between_the_proof_and_the_removal(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    seal = sharing.Reader.seal

    def and_then(reader: sharing.Reader, *arguments: Any) -> Any:
        head = seal(reader, *arguments)
        if arguments[0].path == "old.log.1":
            append(at.share / "old.log.1", b"more")
        return head

    monkeypatch.setattr(sharing.Reader, "seal", and_then)
    assert prune(at).kept == [("old.log.1", "it has changed since it was backed up")]
    assert "old.log.1" in there(at)


@pytest.mark.parametrize("harm", [change_unseen, Path.unlink, grow])
def test_what_is_not_right_here_is_kept_there(at: Scene, harm: Callable[[Path], None]) -> None:
    harm(at.to / "old.log.1")
    if harm is grow:
        # What was backed up is the beginning of it: that is proof enough.
        assert sorted(prune(at).removed) == ALL[1:]
        return
    report = prune(at)
    assert [kept.path for kept in report.kept] == ["old.log.1"]
    assert "here" in report.kept[0].reason
    assert "old.log.1" in there(at)


def test_what_was_not_settled_is_not_even_tried(at: Scene) -> None:
    with at.catalogue() as opened:
        opened.distrust([(folder, record.name) for _, folder, record in opened.all_files()])
    report = prune(at)
    assert report.removed == report.kept == []


def test_all_is_on_the_disk_before(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    send, flush = module.CallerOperation.send, Mirror.flush

    def sending(operation: Any, code: int, *rest: Any) -> None:
        order.append(Code(code).name)
        send(operation, code, *rest)

    def flushing(mirror: Mirror) -> None:
        order.append("flush")
        flush(mirror)

    monkeypatch.setattr(module.CallerOperation, "send", sending)
    monkeypatch.setattr(Mirror, "flush", flushing)
    prune(at)
    assert order == ["flush", "REMOVE", "REMOVE", "REMOVE", "FINISH"]


def test_a_link_that_breaks_in_the_middle(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    send = ServedOperation.send
    answers: list[int] = []

    def breaking(operation: ServedOperation, code: int, *rest: Any) -> None:
        answers.append(code)
        if len(answers) == 2:
            operation._link.stream.shutdown()
        send(operation, code, *rest)

    monkeypatch.setattr(ServedOperation, "send", breaking)
    with pytest.raises(ConnectionLost):
        prune(at)
    monkeypatch.undo()
    left = there(at)
    assert len(left) == 2
    report = at.backup(mirror_deletes=True)
    assert report.complete
    assert report.received < 1000
    assert sorted(contents(at.to)) == ALL
    assert len(prune(at).removed) == len(left) - 1


def test_a_gateway_that_does_not_say(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    send = ServedOperation.send
    monkeypatch.setattr(ServedOperation, "send", lambda operation, _code, *rest: send(operation, Code.PAGE, *rest))
    with pytest.raises(RemoteProtocolError, match="does not say"):
        prune(at)


def test_where_nothing_was_backed_up(at: Scene, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no destination"):
        at.controller.prune(SHARE, tmp_path / "none", older_than=DAY)
    with pytest.raises(NotFound, match="shares no folder"):
        at.controller.prune("none", at.to, older_than=DAY)


def test_reports_are_json() -> None:
    report = PruneReport(dry_run=True, removed=["a\udcff"], bytes=5, kept=[])
    assert report.to_dict() == {"dry_run": True, "removed": ["a?"], "bytes": 5, "kept": []}
