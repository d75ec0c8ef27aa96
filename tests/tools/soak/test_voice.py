from __future__ import annotations

import json
import subprocess
import sys

from tests.serving import PATIENCE
from tests.system.processes import ROOT

SCRIPT = """
import threading
from tools.soak.voice import Voice, when_input_ends

over = threading.Event()
with Voice() as voice:
    voice.say(ready=True)
    print("what a library prints")
    when_input_ends(over.set)
    over.wait()
    voice.say(ended=True)
"""


def test_lines_of_its_own_and_the_end_of_the_input() -> None:
    command = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline()) == {"ready": True}
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert json.loads(out) == {"ended": True}
    assert err == "what a library prints\n"
    assert process.returncode == 0
