"""``python -m tools.fuzz.guided TARGET [FOLDER...] [OPTION...]``: atheris, with the options of libFuzzer.

Apart from the rest, as what is to be guided by coverage has to be imported under atheris' eyes.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["handshakes"]):
    from tools.fuzz.targets import TARGETS

if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()
