"""The table and the JSON."""

from __future__ import annotations

import json

from tools.bench import report
from tools.bench.contract import Bound, Contestant, Metric, Role, Workload
from tools.bench.runner import Outcome


class Sprint(Workload):
    name = "sprint"
    title = "hundred metres"
    metrics = (Metric("rate", "", "m/s", Bound(0.5)),)
    contestants = (
        Contestant("light", Role.LIMIT, "none:None"),
        Contestant("hare", Role.OURS, "none:None"),
        Contestant("tortoise", Role.PEER, "none:None", packages=("tortoise",)),
    )

    def serve(self, sides, task):
        raise NotImplementedError

    def measure(self, sides, address, task):
        raise NotImplementedError


def outcome(hare=(40.0, 60.0, 50.0)):
    rounds = {
        "light": {"rate": {0: 100.0, 1: 90.0, 2: 1000.0}},
        "hare": {"rate": dict(enumerate(hare))},
    }
    return Outcome(Sprint(), rounds, {"tortoise": "not installed: tortoise"})


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table():
    heading, rule, *lines = report.table([outcome()]).splitlines()
    assert len({len(line) for line in (heading, rule, *lines)}) == 1
    assert cells(heading)[:3] == ["workload", "contestant", "median"]
    limit, ours, peer = map(cells, lines)
    assert limit == ["hundred metres", "light", "100.0", "90.0", "1,000.0 (!)", "m/s", "", "", "", ""]
    assert ours == [
        "",
        "**hare**",
        "50.0",
        "40.0",
        "60.0",
        "m/s",
        "0.50",
        "0.40 (0.05 to 0.67)",
        ">= 0.5",
        "yes",
    ]
    assert peer[:3] == ["", "tortoise", "not installed: tortoise"]


def test_a_missed_floor_is_shown_and_named():
    slow = outcome(hare=(40.0, 45.0, 41.0))
    assert cells(report.table([slow]).splitlines()[3])[-2:] == [">= 0.5", "NO"]
    assert report.missed([slow]) == ["hundred metres: hare", "hundred metres: tortoise"]


def test_an_upper_bound():
    assert Bound(2.2, at_most=True).met_by(2.0)
    assert not Bound(2.2, at_most=True).met_by(2.3)
    assert str(Bound(2.2, at_most=True)) == "<= 2.2"


def test_json_holds_every_round():
    plain = json.loads(json.dumps(report.to_json([outcome()], {"CPU": "abacus"}, {"rounds": 3})))
    assert plain["machine"] == {"CPU": "abacus"}
    light, hare, tortoise = plain["rows"]
    assert light["rounds"] == [100.0, 90.0, 1000.0]
    assert "ratio_of_medians" not in light
    assert hare["ratio_of_medians"] == 0.5
    assert hare["met"] is True
    assert tortoise["failure"] == "not installed: tortoise"
