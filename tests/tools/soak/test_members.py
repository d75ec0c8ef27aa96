from __future__ import annotations

import json
import queue
from pathlib import Path
from typing import Any

import pytest

from tests.serving import PATIENCE
from tests.waiting import wait_until
from tools.soak import members
from tools.soak.members import Member


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A member whose worker runs the Python text that is its option ``do``."""
    worker = tmp_path / "tools" / "soak" / "worker.py"
    worker.parent.mkdir(parents=True)
    worker.write_text("import json, sys\noptions = json.loads(sys.argv[2])\nexec(options['do'])\n", encoding="utf-8")
    monkeypatch.setattr(members, "_ROOT", tmp_path)
    made: list[Member] = []

    def make(do: str) -> tuple[Member, queue.SimpleQueue[dict[str, Any]]]:
        heard: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        made.append(Member("name", "role", {"do": do, "seed": 5}, tmp_path, lambda _member, told: heard.put(told)))
        return made[-1], heard

    yield make
    for each in made:
        each.kill()


SAYS = "print(json.dumps({'ready': sys.argv[1], 'seed': options['seed']}), flush=True); "


def test_it_is_heard_and_ends_when_asked(member: Any) -> None:
    talker, heard = member(SAYS + "sys.stdin.read(); sys.exit(5)")
    talker.start()
    assert heard.get(timeout=PATIENCE) == {"ready": "role", "seed": "5 0"}
    assert talker.ready.wait(PATIENCE)
    assert talker.ended is None
    assert talker.wait(0.01) is None
    talker.ask_to_end()
    assert talker.wait(PATIENCE) == 5
    assert talker.ended == 5
    assert talker.complaints() == ""


def test_every_life_is_another(member: Any) -> None:
    talker, heard = member(SAYS + "sys.stdin.read()")
    for number in range(2):
        talker.start()
        assert heard.get(timeout=PATIENCE)["seed"] == f"5 {number}"
        talker.look(1.0)
        talker.kill()
        talker.kill()
        talker.look(2.0)
    assert [len(life.samples) for life in talker.lives] == [1, 1]
    assert len({life.pid for life in talker.lives}) == 2


def test_a_sigterm_reaches_it(member: Any) -> None:
    talker, _ = member(
        "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); " + SAYS + "sys.stdin.read()"
    )
    talker.start()
    assert talker.ready.wait(PATIENCE)
    talker.terminate()
    assert talker.wait(PATIENCE) == 7


@pytest.mark.parametrize(
    "do",
    [
        "1 / 0",
        "import threading; threading.Thread(target=lambda: 1 / 0).start()",
        "f = open(sys.argv[0]); del f",
        "import os, signal; os.kill(os.getpid(), signal.SIGABRT)",
    ],
)
def test_what_it_should_not_print(member: Any, do: str) -> None:
    talker, _ = member(do)
    talker.start()
    assert talker.wait(PATIENCE) is not None
    wait_until(talker.complaints, PATIENCE)


def test_half_a_line_and_other_words(member: Any) -> None:
    talker, heard = member("print('warning: it is warm', file=sys.stderr); print('{\"half', end='', flush=True)")
    talker.start()
    assert talker.wait(PATIENCE) == 0
    assert talker.complaints() == ""
    talker.kill()
    assert heard.empty()
    assert json.dumps(talker.options)
