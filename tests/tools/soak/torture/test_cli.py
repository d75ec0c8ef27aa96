from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.soak.torture import cli
from tools.soak.torture.options import Options
from tools.soak.torture.report import Report


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch) -> tuple[Report, list[Options]]:
    """What every run comes to, and how they were to be."""
    report, chosen = Report(seed=9), list[Options]()

    def run(options: Options) -> Report:
        chosen.append(options)
        for finding in report.findings:
            options.find(finding)
        return report

    monkeypatch.setattr(cli, "run", run)
    return report, chosen


def test_exit_codes(outcome: tuple[Report, list[Options]], capsys: pytest.CaptureFixture[str]) -> None:
    report, _ = outcome
    assert cli.main([]) == 0
    report.interrupted = True
    assert cli.main([]) == 130
    report.findings.append("something wrong")
    assert cli.main(["--json"]) == 1
    said = capsys.readouterr()
    assert said.err == "something wrong\n"
    assert json.loads(said.out.splitlines()[-1]) == report.to_json()


def test_options(outcome: tuple[Report, list[Options]]) -> None:
    _, chosen = outcome
    cli.main(["--kills", "20", "--seed", "3"])
    cli.main(["--seconds", "7", "--rate", "2.5", "--rotate", "1", "--folder", "there"])
    cli.main(["--follow", "--flips", "4", "--damage", "2", "--link", "8", "--again", "4"])
    cli.main(["--compress", "--mirror-deletes"])
    assert (chosen[0].kills, chosen[0].seconds, chosen[0].rate, chosen[0].seed) == (20, 80.0, 5e6, 3)
    assert chosen[0].again == 0.01
    assert (chosen[0].follow, chosen[0].link, chosen[0].folder) == (False, None, None)
    assert (chosen[1].kills, chosen[1].seconds, chosen[1].rate, chosen[1].rotate) == (200, 7.0, 2.5e6, 1.0)
    assert chosen[1].folder == Path("there")
    assert (chosen[2].follow, chosen[2].flips, chosen[2].damage, chosen[2].link) == (True, 4, 2, 8e6)
    assert chosen[2].again == pytest.approx(0.04)
    assert [each.compress for each in chosen] == [False, False, False, True]
    assert [each.mirror_deletes for each in chosen] == [False, False, False, True]


def test_help_tells_what_a_run_takes_and_what_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "(default 200)" in said
    assert "(default 4 for each kill)" in said
    assert "(default 1)" in said


def test_nonsense_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--kills", "0"], ["--seconds", "nan"], ["--rate", "-1"], ["--flips", "-1"]):
        with pytest.raises(SystemExit, match="2"):
            cli.main(words)
    assert "not above 0" in capsys.readouterr().err
