from __future__ import annotations

from pathlib import Path

from tools.fuzz import corpus
from tools.fuzz.targets import TARGETS


def test_it_is_small_and_each_input_is_there_once() -> None:
    assert sorted(folder.name for folder in corpus.FOLDER.iterdir()) == sorted(TARGETS)
    for target in TARGETS:
        inputs = corpus.read(target)
        assert len(set(inputs)) == len(inputs)
        assert max(map(len, inputs)) <= 2048
    assert sum(len(data) for target in TARGETS for data in corpus.read(target)) < 100_000


def test_it_can_be_made_anew(tmp_path: Path) -> None:
    (tmp_path / "values").mkdir()
    (tmp_path / "values" / "of before.bin").touch()
    count = corpus.write(tmp_path)
    written = {target: [path.read_bytes() for path in (tmp_path / target).iterdir()] for target in TARGETS}
    assert sum(map(len, written.values())) == count
    for target, inputs in written.items():
        # What differs from run to run are times, nonces, and so the order in which it is cut down.
        assert len(inputs) >= 5
        for data in inputs:
            TARGETS[target](data)
    assert b"" not in written["values"]
