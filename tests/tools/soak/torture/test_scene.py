from __future__ import annotations

from pathlib import Path

import pytest

from tools.soak.torture.scene import LOGS, STREAMS, in_order, stream_of


@pytest.mark.parametrize(
    ("path", "stream"),
    [
        ("renamed.log", "renamed"),
        ("copied.log.12", "copied"),
        ("zipped.log.3.gz", "zipped"),
        ("old/zipped.log-12.gz", "zipped"),
        ("old/zipped.log-12", "zipped"),
        ("old/zipped.log.12", None),
        ("old/zipped.log-12/1", None),
        ("ring", "ring"),
        ("small/000001", "small"),
        ("batch-17/0", "batch"),
        ("ring.log", None),
        ("batch-17", None),
        ("renamed", None),
        ("other.log", None),
        ("renamed.log.gz", None),
        ("other/1", None),
        ("small/deeper/1", None),
    ],
)
def test_what_belongs_into_a_file(path: str, stream: str | None) -> None:
    assert stream_of(path) == stream


def test_parts_of_a_log_from_the_oldest() -> None:
    names = [
        "a.log-10.gz",
        "a.log",
        "a.log-9",
        "a.log.10",
        "a.log.2.gz",
        "a.log.9",
        "ab.log.1",
        ".a.log.3.partial",
        "a.log.x",
    ]
    found = in_order(map(Path, names), "a")
    assert [path.name for path in found] == ["a.log-9", "a.log-10.gz", "a.log.10", "a.log.9", "a.log.2.gz", "a.log"]


def test_names_fit_into_the_mark_of_a_line() -> None:
    assert all(len(name) <= 7 and name.isalpha() and name.islower() for name in STREAMS)
    assert sum(log.share for log in LOGS) == pytest.approx(1)
