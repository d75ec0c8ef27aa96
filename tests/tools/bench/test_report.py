"""The table and the JSON."""

from __future__ import annotations

import json

from tools.bench import report
from tools.bench.contract import Bound, Contestant, Metric, Role, Workload
from tools.bench.needs import Package
from tools.bench.runner import Outcome


class Sprint(Workload):
    name = "sprint"
    title = "hundred metres"
    metrics = (Metric("rate", "", "m/s", Bound(0.5)),)
    contestants = (
        Contestant("light", Role.LIMIT, "none:None"),
        Contestant("hare", Role.OURS, "none:None"),
        Contestant("tortoise", Role.PEER, "none:None", (Package("tortoise"),)),
        Contestant("snail", Role.PEER, "none:None"),
    )

    def serve(self, sides, task):
        raise NotImplementedError

    def measure(self, sides, address, task):
        raise NotImplementedError


class Hurdles(Sprint):
    name = "hurdles"
    title = "hundred metres with hurdles"
    metrics = (Metric("time", "", "s", costs=True, times={"snail": 1.5}),)


class Jump(Sprint):
    name = "jump"
    title = "long jump"
    metrics = (
        Metric("length", "length", "m", Bound(7.5, plain=True)),
        Metric("wind", "wind", "m/s", compared=False),
    )


def outcome(hare=(40.0, 60.0, 50.0)):
    rounds = {
        "light": {"rate": {0: 100.0, 1: 90.0, 2: 1000.0}},
        "hare": {"rate": dict(enumerate(hare))},
    }
    return Outcome(Sprint(), rounds, {"snail": "has gone home"}, {"tortoise": "`pip install tortoise`"})


def race(workload, key, hare, snail):
    rounds = {"hare": {key: dict(enumerate(hare))}, "snail": {key: dict(enumerate(snail))}}
    return Outcome(workload, rounds)


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table():
    heading, rule, *lines = report.table([outcome()]).splitlines()
    assert len({len(line) for line in (heading, rule, *lines)}) == 1
    assert cells(heading)[:3] == ["workload", "contestant", "median"]
    limit, ours, absent, failed = map(cells, lines)
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
    assert absent[:3] == ["", "tortoise", "not installed"]
    assert failed[:3] == ["", "snail", "has gone home"]
    assert report.hints([outcome(), outcome()]) == "- tortoise: not installed: `pip install tortoise`"


def test_a_missed_target_is_shown_and_named():
    slow = outcome(hare=(40.0, 45.0, 41.0))
    assert cells(report.table([slow]).splitlines()[3])[-2:] == [">= 0.5", "NO"]
    assert report.missed([slow]) == ["hundred metres: hare", "hundred metres: snail"]


def test_an_upper_bound():
    assert Bound(2.2, at_most=True).met_by(2.0)
    assert not Bound(2.2, at_most=True).met_by(2.3)
    assert str(Bound(2.2, at_most=True)) == "<= 2.2"


def test_json_holds_every_round():
    plain = json.loads(json.dumps(report.to_json([outcome()], {"CPU": "abacus"}, {"rounds": 3})))
    assert plain["machine"] == {"CPU": "abacus"}
    light, hare, tortoise, snail = plain["rows"]
    assert light["rounds"] == [100.0, 90.0, 1000.0]
    assert "ratio_of_medians" not in light
    assert hare["ratio_of_medians"] == 0.5
    assert hare["met"] is True
    assert (tortoise["failure"], tortoise["missing"]) == (None, "`pip install tortoise`")
    assert (snail["failure"], snail["missing"]) == ("has gone home", None)
    assert plain["comparisons"] == []


def test_peers_that_were_not_asked_have_no_row():
    alone = Outcome(Sprint(), {}, peers=False)
    assert [row["contestant"] for row in report.rows(alone)] == ["light", "hare"]


def test_ours_beside_a_peer():
    heading, _, ahead, even = report.comparisons(
        [
            race(Sprint(), "rate", hare=(4.0, 8.0, 6.0), snail=(2.0, 2.0, 2.0)),
            race(Hurdles(), "time", hare=(2.0, 1.0, 1.5), snail=(1.0, 2.0, 1.5)),
        ]
    ).splitlines()
    assert cells(heading) == ["workload", "ours", "peer", "times", "by round", "we are", "target", "met"]
    assert cells(ahead)[:6] == ["hundred metres", "**hare**", "snail", "3.00", "3.00 (2.00 to 4.00)", "ahead"]
    assert cells(ahead)[6:] == ["", ""]
    assert cells(even)[:5] == ["hundred metres with hurdles", "**hare**", "snail", "1.00", "1.00 (0.50 to 2.00)"]
    assert cells(even)[5:] == ["even", ">= 1.5", "NO"]


def test_how_many_times_as_good_as_a_peer_we_should_be():
    good = race(Hurdles(), "time", hare=(1.0, 1.0), snail=(1.6, 1.6))
    bad = race(Hurdles(), "time", hare=(1.0, 1.0), snail=(1.4, 1.4))
    assert [each.met for each in report.compare(good)] == [True]
    assert report.missed([good]) == []
    assert report.missed([bad]) == ["hundred metres with hurdles: hare beside snail"]
    plain = report.to_json([bad], {}, {})["comparisons"][0]
    assert (plain["target"], plain["met"]) == (1.5, False)


def test_a_bound_on_the_figure_itself_needs_no_limit():
    jump = Outcome(Jump(), {"hare": {"length": {0: 8.0}, "wind": {0: 1.0}}, "snail": {"length": {0: 0.1}}})
    rows = {(row["metric"], row["contestant"]): row for row in report.rows(jump)}
    assert (rows["length", "hare"]["target"], rows["length", "hare"]["met"]) == (">= 7.5 m", True)
    jump.rounds["hare"]["length"] = {0: 7.0}
    assert report.missed([jump]) == ["long jump, length: hare"]


def test_who_was_measured_and_has_no_such_figure_has_no_such_row():
    jump = Outcome(Jump(), {"hare": {"length": {0: 8.0}, "wind": {0: 1.0}}, "snail": {"length": {0: 0.1}}})
    found = [(row["metric"], row["contestant"]) for row in report.rows(jump)]
    assert ("length", "snail") in found
    assert ("wind", "snail") not in found
    assert ("wind", "tortoise") in found


def test_what_is_no_merit_is_not_compared():
    jump = Outcome(Jump(), {name: {"length": {0: 8.0}, "wind": {0: 1.0}} for name in ("hare", "snail")})
    assert [each.title for each in report.compare(jump)] == ["long jump, length"]


def test_of_a_figure_that_costs_less_is_better():
    (found,) = report.compare(race(Hurdles(), "time", hare=(4.0, 5.0), snail=(2.0, 2.0)))
    assert found.times.of_medians == 2.0 / 4.5
    assert found.verdict == "behind"


def test_ratios_far_from_one_are_shown_with_as_many_digits_as_they_need():
    found = race(Sprint(), "rate", hare=(4000.0, 6000.0, 5000.0), snail=(2.0, 2.0, 2.0))
    assert cells(report.comparisons([found]).splitlines()[2])[3:5] == ["2,500", "2,500 (2,000 to 3,000)"]
    found.rounds["light"] = {"rate": {0: 1e6, 1: 1e6, 2: 1e6}}
    assert cells(report.table([found]).splitlines()[3])[6] == "0.005"


def test_without_peers_there_is_nothing_to_compare():
    assert report.comparisons([outcome()]) == ""


def test_comparisons_in_json():
    plain = json.loads(json.dumps(report.to_json([race(Sprint(), "rate", (4.0,), (2.0,))], {}, {})))
    (found,) = plain["comparisons"]
    assert (found["ours"], found["peer"], found["verdict"]) == ("hare", "snail", "ahead")
    assert found["times"] == {"of_medians": 2.0, "of_rounds": {"median": 2.0, "least": 2.0, "most": 2.0}}
