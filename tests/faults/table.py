"""docs/faults.md, made from the very promises that the tests hold operations to."""

from __future__ import annotations

from pathlib import Path

from tests.faults.matrix import TROUBLES, promise
from tests.faults.operations import OPERATIONS

__all__ = ["PATH", "page"]

PATH = Path(__file__).resolve().parents[2] / "docs" / "faults.md"

_INTRODUCTION = """\
# What happens when the network fails

Between controller and gateway lies a proxy that delays, breaks and bends what passes (`tools/proxy.py`), and every
operation meets every fault, in both directions, at the beginning, in the middle and near the end of what it sends or
receives: with `Controller` and with `AsyncController`, which promise the same. Each cell is what is promised, and what
the tests have seen kept. After each cell the gateway has to be as it was: its handlers free, its doorway empty, no
descriptor or thread left, no file under a final name that is not whole, and the next caller served.

`python -m tests.faults` writes this page; a test fails when it is not what is tested.
"""

_WORDS = {
    "right": "the right result. A swarm replaces the lane that was lost, and does its work again on the new one.",
    "again": "every item arrives, those of the lost lane perhaps twice, as its generator is started again. With "
    "`ordered=True` no item comes twice.",
    "lost": "`ConnectionLost`, as soon as it is known; never a result that is cut short, never the end of a stream.",
    "late": "`DeadlineExceeded` at the deadline: that of the controller, of the call, of the wait for an item. Within "
    "`swarm.map` it is the cause of an `ItemFailed`.",
    "right or late": "a lane that owes an answer and says nothing is given up after a minute, and replaced; what is "
    "asked before an upload begins has the controller's deadline.",
    "waits": "nothing tells a silent network from a generator that has nothing to say, so this waits as long as the "
    "other machine's system is there; closing the swarm ends it. `client.stream(..., timeout=)` has a deadline.",
    "noticed": "never a wrong result. One of `ConnectionLost`, `RemoteProtocolError`, `Refused`, `DeadlineExceeded`; a "
    "swarm replaces the lane.",
    "any": "an error, or a result that may be wrong. See below.",
    "whole files": "a file under its final name has the contents of a file that was sent. See below.",
}

_END = """\
## What a flipped bit can do

TCP's checksum finds most damage; what it does not find is not found by pynetwork either, where nothing else checks it.
A frame whose header or structure is broken ends the pair (`RemoteProtocolError`, `ConnectionLost`, or the deadline,
when a length has grown and the rest never comes). Within the text of a value, the numbers of an array, or the name of a
file, a flipped bit is as good as the right one. Contents of files are different: every chunk and every file carries an
xxh3 digest, so what is damaged is moved again. A key (`key=`) protects the handshake, not what follows.

With `tls=` every byte is checked, against chance and against intent. Use it where that matters.

## What silence can do

A machine that has gone, or a cable that was pulled, is noticed after about 25 seconds (TCP keepalive, and what the
system knows of acknowledgements). The silence of the table is worse: something on the way takes every byte and passes
none on, so the system sees nothing wrong. A message that has begun and stops for 30 seconds ends the pair. Between two
messages only deadlines help. An upload that waits for room to send has none: it waits as long as the other machine's
system is there.
"""


def page() -> str:
    """The whole page."""
    heads = [trouble.name for trouble in TROUBLES]
    lines = [_row(["", *heads]), _row(["---"] * (len(heads) + 1))]
    words: list[str] = []
    for operation in OPERATIONS:
        promised = [promise(trouble, operation).word for trouble in TROUBLES]
        words += promised
        lines.append(_row([operation.name, *promised]))
    faults = [_row(["fault", "what it does"]), _row(["---", "---"])]
    faults += [_row([trouble.name, trouble.text]) for trouble in TROUBLES]
    legend = [_row(["word", "meaning"]), _row(["---", "---"])]
    legend += [_row([word, _WORDS[word]]) for word in dict.fromkeys(words)]
    parts = [_INTRODUCTION, "\n".join(lines), "", "\n".join(legend), "", "\n".join(faults), "", _END]
    return "\n".join(parts)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
