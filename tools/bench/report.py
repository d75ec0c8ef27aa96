"""The outcome as a table in Markdown, for people and docs, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tools.bench.contract import Contestant, Metric, Role
from tools.bench.figures import Ratio, Spread
from tools.bench.runner import Outcome

__all__ = ["missed", "rows", "table", "to_json"]

_HEADINGS = ("workload", "contestant", "median", "least", "most", "unit", "ratio", "by round", "floor", "met")


def rows(outcome: Outcome) -> Iterator[dict[str, Any]]:
    """One row for each metric and contestant."""
    for metric in outcome.workload.metrics:
        limit = outcome.rounds.get(outcome.limit().name, {}).get(metric.key, {})
        for contestant in outcome.workload.contestants:
            yield _row(outcome, metric, contestant, limit)


def _row(outcome: Outcome, metric: Metric, contestant: Contestant, limit: dict[int, float]) -> dict[str, Any]:
    rounds = outcome.rounds.get(contestant.name, {}).get(metric.key, {})
    row: dict[str, Any] = {
        "workload": outcome.workload.name,
        "title": f"{outcome.workload.title}{', ' if metric.title else ''}{metric.title}",
        "metric": metric.key,
        "unit": metric.unit,
        "digits": metric.digits,
        "contestant": contestant.name,
        "role": contestant.role.value,
        "rounds": list(rounds.values()),
        "failure": outcome.failures.get(contestant.name),
    }
    if not rounds:
        return row
    row["spread"] = Spread.of(list(rounds.values()))
    row["ratio"] = None if contestant.role is Role.LIMIT else Ratio.of(rounds, limit)
    if metric.bound is not None and contestant.role is Role.OURS and row["ratio"] is not None:
        row["floor"] = str(metric.bound)
        row["met"] = metric.bound.met_by(row["ratio"].of_medians)
    return row


def missed(outcomes: Sequence[Outcome]) -> list[str]:
    """The workloads of which a floor was not met, or whose contestants failed."""
    found = (row for outcome in outcomes for row in rows(outcome))
    return [f"{row['title']}: {row['contestant']}" for row in found if row.get("met") is False or row["failure"]]


def table(outcomes: Sequence[Outcome]) -> str:
    """A table in Markdown."""
    lines = [_HEADINGS, tuple("---:" if name in _RIGHT else "---" for name in _HEADINGS)]
    for outcome in outcomes:
        title = ""
        for row in rows(outcome):
            lines.append(_cells(row, "" if row["title"] == title else row["title"]))
            title = row["title"]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]
    return "\n".join(_line(line, widths) for line in lines)


_RIGHT = frozenset({"median", "least", "most", "ratio", "by round"})


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    padded = [
        cell.rjust(width) if name in _RIGHT else cell.ljust(width)
        for cell, width, name in zip(cells, widths, _HEADINGS, strict=True)
    ]
    return f"| {' | '.join(padded)} |"


def _cells(row: dict[str, Any], title: str) -> tuple[str, ...]:
    name = f"**{row['contestant']}**" if row["role"] == "ours" else row["contestant"]
    spread: Spread | None = row.get("spread")
    if spread is None:
        return (title, name, row["failure"] or "failed", "", "", "", "", "", "", "")
    ratio: Ratio | None = row.get("ratio")
    by_round = ratio and f"{ratio.of_rounds.median:.2f} ({ratio.of_rounds.least:.2f} to {ratio.of_rounds.most:.2f})"
    digits = row["digits"]
    verdict = {True: "yes", False: "NO", None: ""}[row.get("met")]
    return (
        title,
        name + (" (failed later)" if row["failure"] else ""),
        f"{spread.median:,.{digits}f}",
        f"{spread.least:,.{digits}f}",
        f"{spread.most:,.{digits}f}" + (" (!)" if spread.wide else ""),
        row["unit"],
        f"{ratio.of_medians:.2f}" if ratio else "",
        by_round or "",
        row.get("floor", ""),
        verdict,
    )


def to_json(outcomes: Sequence[Outcome], machine: dict[str, str], options: dict[str, Any]) -> dict[str, Any]:
    """Everything, with the figure of each round."""
    return {
        "machine": machine,
        "options": options,
        "rows": [_plain(row) for each in outcomes for row in rows(each)],
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
