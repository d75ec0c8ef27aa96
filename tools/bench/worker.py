"""One side of one contestant: ``python -m tools.bench.worker WORKLOAD CONTESTANT serve|measure``.

It is told what to do by lines of JSON on its standard input and answers by lines of JSON on what was its
standard output; everything that is printed meanwhile goes to standard error. It ends when its input ends,
so it never outlives whoever started it.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any, TextIO

from tools.bench.contract import Contestant, Task, Workload
from tools.bench.workloads import WORKLOADS

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Run one side until the input ends."""
    workload = WORKLOADS[arguments[0]]
    contestant = next(each for each in workload.contestants if each.name == arguments[1])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    try:
        (_serve if arguments[2] == "serve" else _measure)(workload, contestant, answers)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        _say(answers, {"error": _describe(error)})
        return 1
    return 0


def _serve(workload: Workload[Any], contestant: Contestant, answers: TextIO) -> None:
    task = Task.from_json(json.loads(sys.stdin.readline()))
    with workload.serve(contestant.load(), task) as address:
        _say(answers, {"address": address})
        while sys.stdin.readline():
            pass


def _measure(workload: Workload[Any], contestant: Contestant, answers: TextIO) -> None:
    sides = contestant.load()
    _say(answers, {"ready": True})
    while line := sys.stdin.readline():
        order = json.loads(line)
        try:
            figures = workload.measure(sides, order["address"], Task.from_json(order["task"]))
        except Exception as error:
            _say(answers, {"error": _describe(error)})
        else:
            _say(answers, {"figures": figures})


def _describe(error: BaseException) -> str:
    traceback.print_exception(error)
    return f"{type(error).__name__}: {error}"


def _say(answers: TextIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
