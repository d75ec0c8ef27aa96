"""The outcome as tables in Markdown, for people and docs, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from tools.bench.contract import Contestant, Metric, Role
from tools.bench.figures import Ratio, Spread
from tools.bench.runner import Outcome

__all__ = ["Comparison", "compare", "comparisons", "hints", "missed", "rows", "table", "to_json"]

_HEADINGS = ("workload", "contestant", "median", "least", "most", "unit", "ratio", "by round", "target", "met")


def rows(outcome: Outcome) -> Iterator[dict[str, Any]]:
    """One row for each metric and contestant."""
    for metric in outcome.workload.metrics:
        limit = outcome.limit().get(metric.key, {})
        for contestant in outcome.contestants:
            found = outcome.rounds.get(contestant.name)
            # Who was measured and has no such figure has no such row.
            if outcome.unavailable or (found and metric.key not in found):
                continue
            yield _row(outcome, metric, contestant, limit)


def _row(outcome: Outcome, metric: Metric, contestant: Contestant, limit: dict[int, float]) -> dict[str, Any]:
    rounds = outcome.rounds.get(contestant.name, {}).get(metric.key, {})
    row: dict[str, Any] = {
        "workload": outcome.workload.name,
        "title": _title(outcome, metric),
        "metric": metric.key,
        "unit": metric.unit,
        "digits": metric.digits,
        "contestant": contestant.name,
        "role": contestant.role.value,
        "rounds": list(rounds.values()),
        "failure": outcome.failures.get(contestant.name),
        "missing": outcome.missing.get(contestant.name),
    }
    if not rounds:
        return row
    row["spread"] = Spread.of(list(rounds.values()))
    row["ratio"] = None if contestant.role is Role.LIMIT else Ratio.of(rounds, limit)
    bound = metric.bound
    if bound is not None and contestant.role is Role.OURS and (bound.plain or row["ratio"] is not None):
        row["target"] = f"{bound} {metric.unit}" if bound.plain else str(bound)
        row["met"] = bound.met_by(row["spread"].median if bound.plain else row["ratio"].of_medians)
    return row


def _title(outcome: Outcome, metric: Metric) -> str:
    return f"{outcome.workload.title}{', ' if metric.title else ''}{metric.title}"


def missed(outcomes: Sequence[Outcome]) -> list[str]:
    """The workloads of which a target was not met, or whose contestants failed."""
    found = (row for outcome in outcomes for row in rows(outcome))
    pairs = (each for outcome in outcomes for each in compare(outcome))
    return [
        *(f"{row['title']}: {row['contestant']}" for row in found if row.get("met") is False or row["failure"]),
        *(f"{each.title}: {each.ours} beside {each.peer}" for each in pairs if each.met is False),
    ]


@dataclass(frozen=True)
class Comparison:
    """One of ours beside a peer: how many times as good, whichever way the metric counts, and what that should be
    at least.
    """

    title: str
    ours: str
    peer: str
    times: Ratio
    target: float | None = None

    @property
    def verdict(self) -> str:
        """Even where the rounds do not agree on who is ahead."""
        if self.times.of_rounds.least > 1:
            return "ahead"
        return "behind" if self.times.of_rounds.most < 1 else "even"

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        return None if self.target is None else self.times.of_medians >= self.target


def compare(outcome: Outcome) -> Iterator[Comparison]:
    """Each of ours beside each peer that was measured, metric by metric."""
    for metric in (each for each in outcome.workload.metrics if each.compared):
        found = {each: outcome.rounds.get(each.name, {}).get(metric.key, {}) for each in outcome.contestants}
        title = _title(outcome, metric)
        for ours, peer in product(found, found):
            if ours.role is Role.OURS and peer.role is Role.PEER:
                pair = (found[peer], found[ours]) if metric.costs else (found[ours], found[peer])
                times = Ratio.of(*pair)
                if times is not None:
                    yield Comparison(title, ours.name, peer.name, times, metric.times.get(peer.name))


def table(outcomes: Sequence[Outcome]) -> str:
    """Everybody beside the limit, as a table in Markdown."""
    found = ((row["title"], _cells(row)) for outcome in outcomes for row in rows(outcome))
    return _table(_HEADINGS, found)


def comparisons(outcomes: Sequence[Outcome]) -> str:
    """Ours beside each peer, as a table in Markdown; empty when no peer was measured."""
    found = [each for outcome in outcomes for each in compare(outcome)]
    if not found:
        return ""
    return _table(_COMPARED, ((each.title, _compared(each)) for each in found))


def hints(outcomes: Sequence[Outcome]) -> str:
    """What was not measured, and who could not take part, with the commands that would change that, as a list in
    Markdown.
    """
    found: dict[str, dict[str, None]] = {}
    for outcome in outcomes:
        for name, missing in outcome.missing.items():
            found.setdefault(missing, {})[name] = None
    return "\n".join(
        [
            *(f"- {outcome.workload.title}: {outcome.unavailable}" for outcome in outcomes if outcome.unavailable),
            *(f"- {'; '.join(names)}: not installed: {missing}" for missing, names in found.items()),
        ]
    )


_RIGHT = frozenset({"median", "least", "most", "ratio", "by round", "times"})
_COMPARED = ("workload", "ours", "peer", "times", "by round", "we are", "target", "met")
_MET = {True: "yes", False: "NO", None: ""}


def _table(headings: tuple[str, ...], found: Iterable[tuple[str, tuple[str, ...]]]) -> str:
    """Lines of a title and cells; a title is shown once."""
    lines = [headings, tuple("---:" if name in _RIGHT else "---" for name in headings)]
    shown = ""
    for title, cells in found:
        lines.append(("" if title == shown else title, *cells))
        shown = title
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join(_line(headings, line, widths) for line in lines)


def _line(headings: tuple[str, ...], cells: tuple[str, ...], widths: list[int]) -> str:
    padded = [
        cell.rjust(width) if name in _RIGHT else cell.ljust(width)
        for cell, width, name in zip(cells, widths, headings, strict=True)
    ]
    return f"| {' | '.join(padded)} |"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    name = f"**{row['contestant']}**" if row["role"] == "ours" else row["contestant"]
    spread: Spread | None = row.get("spread")
    if spread is None:
        reason = "not installed" if row["missing"] else row["failure"] or "failed"
        return (name, reason, "", "", "", "", "", "", "")
    ratio: Ratio | None = row.get("ratio")
    digits = row["digits"]
    return (
        name + (" (failed later)" if row["failure"] else ""),
        f"{spread.median:,.{digits}f}",
        f"{spread.least:,.{digits}f}",
        f"{spread.most:,.{digits}f}" + (" (!)" if spread.wide else ""),
        row["unit"],
        _short(ratio.of_medians) if ratio else "",
        _by_round(ratio) if ratio else "",
        row.get("target", ""),
        _MET[row.get("met")],
    )


def _compared(each: Comparison) -> tuple[str, ...]:
    return (
        f"**{each.ours}**",
        each.peer,
        _short(each.times.of_medians),
        _by_round(each.times),
        each.verdict,
        "" if each.target is None else f">= {each.target:.3g}",
        _MET[each.met],
    )


def _by_round(ratio: Ratio) -> str:
    return f"{_short(ratio.of_rounds.median)} ({_short(ratio.of_rounds.least)} to {_short(ratio.of_rounds.most)})"


def _short(number: float) -> str:
    """Two decimals where they say something."""
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.2f}" if number >= 0.01 else f"{number:.1g}"


def to_json(outcomes: Sequence[Outcome], machine: dict[str, str], options: dict[str, Any]) -> dict[str, Any]:
    """Everything, with the figure of each round."""
    return {
        "machine": machine,
        "options": options,
        "rows": [_plain(row) for each in outcomes for row in rows(each)],
        "comparisons": [
            {**asdict(compared), "verdict": compared.verdict, "met": compared.met}
            for each in outcomes
            for compared in compare(each)
        ],
    }


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    spread: Spread | None = row.get("spread")
    ratio: Ratio | None = row.get("ratio")
    plain = {key: value for key, value in row.items() if key not in ("spread", "ratio", "digits")}
    if spread is not None:
        plain.update(vars(spread))
    if ratio is not None:
        plain.update(ratio_of_medians=ratio.of_medians, ratio_by_round=vars(ratio.of_rounds))
    return plain
