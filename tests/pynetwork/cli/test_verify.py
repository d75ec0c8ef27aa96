from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pynetwork.gateway import Gateway
from tests.pynetwork.backup.mirroring import LARGE, STAMP, contents, new, overwrite, write
from tests.pynetwork.cli.commands import Commands, address
from tests.serving import serving


@pytest.fixture
def share(tmp_path: Path) -> Path:
    shared = tmp_path / "shared"
    write(shared / "a.log", new(100))
    write(shared / "sub/b.log", new(LARGE))
    return shared


@pytest.fixture
def gateway(share: Path) -> Iterator[Gateway]:
    with serving(share={"logs": share}) as serving_gateway:
        yield serving_gateway


@pytest.fixture
def to(command: Commands, gateway: Gateway, tmp_path: Path) -> Path:
    assert command("backup", f"{address(gateway)}:logs", tmp_path / "to").code == 0
    return tmp_path / "to"


def test_all_is_right(command: Commands, to: Path) -> None:
    outcome = command("verify", to)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("2 files of 3.16 MB read in ")
    assert outcome.out.endswith(": all as they were backed up\n")
    verified = command("verify", to, "--json").object("verified")
    assert (verified["files"], verified["bytes"], verified["bad"]) == (2, LARGE + 100, 0)


def test_what_is_bad_is_named(command: Commands, to: Path) -> None:
    overwrite(to / "sub/b.log", b"!!", 5, mtime_ns=STAMP)
    (to / "a.log").unlink()
    outcome = command("verify", to)
    assert outcome.code == 1
    assert "bad a.log: it is missing\n" in outcome.out
    assert "bad sub/b.log: its content is not what was backed up\n" in outcome.out
    assert outcome.out.endswith(": 2 bad\n")
    as_json = command("verify", to, "--json")
    assert [each["path"] for each in as_json.objects() if each["message_type"] == "bad"] == ["a.log", "sub/b.log"]


@pytest.mark.parametrize("source", [True, False])
def test_mending(command: Commands, gateway: Gateway, share: Path, to: Path, source: bool) -> None:
    overwrite(to / "sub/b.log", b"!!", 5, mtime_ns=STAMP)
    (to / "a.log").unlink()
    words = ["--source", f"{address(gateway)}:logs"] if source else []
    outcome = command("verify", to, "--repair", "--json", *words)
    assert outcome.code == 0
    summary = outcome.object("summary")
    assert (1 << 20) < summary["received"] < (1 << 20) + 2000
    assert [each["bad"] for each in outcome.objects() if each["message_type"] == "verified"] == [2, 0]
    assert contents(to) == contents(share)
    assert "unchanged" in command("backup", f"{address(gateway)}:logs", to).out


def test_what_can_not_be_mended_stays_bad(command: Commands, share: Path, to: Path) -> None:
    (to / "a.log").unlink()
    (share / "a.log").unlink()
    outcome = command("verify", to, "--repair")
    assert outcome.code == 1
    assert outcome.out.count("bad a.log: it is missing") == 2


def test_what_an_interrupted_run_was_adding_to(command: Commands, to: Path, share: Path) -> None:
    from pynetwork.backup.catalogue import Catalogue  # noqa: PLC0415

    with Catalogue(to / ".pynetwork/catalogue.sqlite") as opened:
        opened.begin_file("sub/b.log", 1, b"b.log", 1, 1)
    with (to / "sub/b.log").open("ab") as file:
        file.write(b"half a line")
    outcome = command("verify", to)
    assert outcome.code == 0
    assert "unfinished sub/b.log: the next backup completes it" in outcome.out


def test_where_it_came_from_is_not_reached(command: Commands, to: Path, gateway: Gateway) -> None:
    (to / "a.log").unlink()
    gateway.stop()
    outcome = command("verify", to, "--repair", "--timeout", 2)
    assert outcome.code == 5
    assert "bad a.log" in outcome.out


def test_a_share_whose_name_is_a_path_with_colons(command: Commands, tmp_path: Path) -> None:
    shared = tmp_path / "a:b"
    write(shared / "x", b"1")
    with serving(share={"a:b": shared}) as gateway:
        assert command("backup", f"{address(gateway)}:a:b", tmp_path / "to").code in (0, 2)
        write(tmp_path / "other/x", b"1")
    with serving(share={"x:y": tmp_path / "other"}) as gateway:
        from pynetwork.backup import Options, backup  # noqa: PLC0415
        from tests.serving import controller_of  # noqa: PLC0415

        controller = controller_of(gateway)
        backup(controller.get_client, controller.address, "x:y", tmp_path / "to2", Options(), progress=False)
        (tmp_path / "to2/x").unlink()
        assert command("verify", tmp_path / "to2", "--repair").code == 0
    assert contents(tmp_path / "to2") == {"x": b"1"}


def test_what_is_no_destination(command: Commands, tmp_path: Path, to: Path) -> None:
    none = command("verify", tmp_path / "none")
    assert none.code == 3
    assert "no destination of a backup" in none.err
    (to / ".pynetwork/catalogue.sqlite").write_bytes(b"junk")
    damaged = command("verify", to)
    assert damaged.code == 1
    assert "the next backup begins a new one" in damaged.err


def test_a_bar_on_a_terminal(command: Commands, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pynetwork.cli.verify.on_terminal", lambda: True)
    outcome = command("verify", to)
    assert outcome.code == 0
    assert "verify" in outcome.err
    assert "2/2 files" in outcome.err
