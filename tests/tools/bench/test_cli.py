"""Short runs from end to end. How fast anything is does not matter here."""

from __future__ import annotations

import json

import pytest

from tools.bench.cli import main
from tools.bench.workloads import WORKLOADS


def run(tmp_path, *names):
    file = tmp_path / "figures.json"
    only = [word for name in names for word in ([name] if name.startswith("-") else ["--only", name])]
    quick = ["--quick", "--seconds", "0.05", "--no-peers"]
    code = main([*quick, "--folder", str(tmp_path), "--json", str(file), *only])
    return code, json.loads(file.read_text(encoding="utf-8"))


def check(found, names, without=()):
    rows = found["rows"]
    expected = [
        (name, metric.key, contestant.name)
        for name in names
        for metric in WORKLOADS[name].metrics
        for contestant in WORKLOADS[name].asked(peers=False)
        if (metric.key, contestant.role.value) not in without
    ]
    assert [(row["workload"], row["metric"], row["contestant"]) for row in rows] == expected
    assert found["comparisons"] == []
    for row in rows:
        assert row["failure"] is None
        assert len(row["rounds"]) == 2
        assert row["least"] > 0
        assert (row["role"] == "limit" or (row["metric"], "limit") in without) == ("ratio_of_medians" not in row)


def test_calls_and_streams(tmp_path, capsys):
    names = ("call", "small-items", "json-items", "array-items")
    code, found = run(tmp_path, *names)
    assert code == 0
    check(found, names)
    printed = capsys.readouterr().out
    assert all(WORKLOADS[name].title in printed for name in names)
    assert found["machine"]["Python"] in printed
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


def test_latency(tmp_path):
    code, found = run(tmp_path, "latency")
    assert code == 0
    check(found, ("latency",))


def test_files(tmp_path):
    names = ("file-4", "files-4", "logs-1")
    code, found = run(tmp_path, *names)
    assert code == 0
    check(found, names)
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


def test_backups(tmp_path):
    names = ("backup-logs", "backup-same-5000", "backup-grown", "backup-logs-flushed")
    code, found = run(tmp_path, *names)
    assert code == 0
    check(found, names, without={("wire", "limit")})


def test_series(tmp_path):
    names = ("series-store", "series-channel", "series-putters")
    code, found = run(tmp_path, *names)
    assert code == 0
    check(found, names)


def test_series_of_other_sizes(tmp_path):
    code, found = run(tmp_path, "series-box", "series-memory")
    assert code == 0
    assert {row["workload"] for row in found["rows"]} == {"series-box", "series-memory"}
    assert all(row["failure"] is None and len(row["rounds"]) == 2 for row in found["rows"])


def test_links(tmp_path, capsys):
    code, found = run(tmp_path, "backup-50mbit", "backup-beside-stream")
    assert code == 0
    if not found["rows"]:
        assert "Not measured" in capsys.readouterr().out
        pytest.skip("there can be no links here")
    assert {row["metric"] for row in found["rows"]} == {"bits", "used", "idle", "added"}
    assert all(row["failure"] is None and len(row["rounds"]) == 2 for row in found["rows"])


def test_links_can_be_left_out(tmp_path):
    code, found = run(tmp_path, "backup-50mbit", "--no-links")
    assert code == 0
    assert found["rows"] == []


def test_list(capsys):
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(WORKLOADS)


def test_nonsense_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--rounds", "0"])
    with pytest.raises(SystemExit, match="2"):
        main(["--only", "nothing"])
    assert "not above 0" in capsys.readouterr().err
