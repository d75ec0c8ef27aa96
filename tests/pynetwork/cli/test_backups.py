from __future__ import annotations

from pathlib import Path

from tests.pynetwork.backup.mirroring import new, write
from tests.pynetwork.cli.commands import Commands, address
from tests.serving import serving


def test_runs_are_listed(command: Commands, tmp_path: Path) -> None:
    shared, to = tmp_path / "shared", tmp_path / "to"
    write(shared / "a.log", new(2000))
    with serving(share={"logs": shared}) as gateway:
        source = f"{address(gateway)}:logs"
        command("backup", source, to)
        write(shared / "in the way", b"x")
        write(to / "in the way/mine", b"x")
        command("backup", source, to)
    outcome = command("backups", to)
    assert (outcome.code, outcome.err) == (0, "")
    head, first, second = (line.split() for line in outcome.out.splitlines())
    assert head == ["run", "began", "took", "from", "files", "came", "outcome"]
    assert (first[0], first[5], first[6], first[-1]) == ("1", source, "1", "complete")
    assert (second[0], second[5], second[-2:]) == ("2", source, ["1", "skipped"])
    as_json = command("backups", to, "--json").objects()
    assert [each["message_type"] for each in as_json] == ["run", "run"]
    assert (as_json[0]["share"], as_json[0]["new"], as_json[0]["outcome"]) == ("logs", 1, "complete")
    assert as_json[0]["began"] <= as_json[0]["ended"] <= as_json[1]["began"]


def test_where_there_are_none(command: Commands, tmp_path: Path) -> None:
    outcome = command("backups", tmp_path)
    assert outcome.code == 3
    assert "no destination of a backup" in outcome.err
    from pynetwork.backup.destination import with_destination  # noqa: PLC0415

    with_destination(tmp_path, lambda *_: None)
    assert (command("backups", tmp_path).code, command("backups", tmp_path, "--json").out) == (9, "")
