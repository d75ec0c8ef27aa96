from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from tools.soak.figures import FEWEST, FIGURES, WARM_UP, Life, Sample, look

MIB = 1 << 20


def life(*memories: float, descriptors: int = 10, threads: int = 5) -> Life:
    samples = [Sample(number, int(memory), descriptors, threads) for number, memory in enumerate(memories)]
    return Life("somebody", 1, samples)


def test_a_short_life_says_nothing() -> None:
    assert life(*range(FEWEST - 1)).growth() == []
    assert len(life(*range(FEWEST)).growth()) == len(FIGURES)


def test_what_stays_does_not_grow() -> None:
    assert not any(growth.too_much for growth in life(*[50 * MIB] * 200).growth())


@pytest.mark.parametrize(("last", "too_much"), [(60, False), (70.5, False), (71.5, True), (500, True)])
def test_memory_may_grow_by_16_mib_and_a_tenth(last: float, too_much: bool) -> None:
    memory, *others = life(*[50 * MIB] * 100, *[last * MIB] * 100).growth()
    assert memory.too_much == too_much
    assert (memory.first, memory.last) == (50 * MIB, int(last * MIB))
    assert str(memory) == f"50 > {last:.0f}"
    assert not any(other.too_much for other in others)


def test_warming_up_and_single_peaks_do_not_count() -> None:
    warming = [number * MIB for number in range(int(200 * WARM_UP))]
    steady = [900 * MIB if number % 5 == 0 else 50 * MIB for number in range(160)]
    assert not life(*warming, *steady).growth()[0].too_much


@pytest.mark.parametrize("figure", ["descriptors", "threads"])
def test_others_may_grow_by_eight(figure: str) -> None:
    for more, too_much in ((8, False), (9, True)):
        first, last = (
            life(*[MIB] * 100),
            life(*[MIB] * 100, **{figure: {"descriptors": 10, "threads": 5}[figure] + more}),
        )
        grown = Life("somebody", 1, [*first.samples, *last.samples]).growth()
        assert [growth.figure.name for growth in grown if growth.too_much] == ([figure] if too_much else [])


def test_looking_at_processes() -> None:
    own = look(psutil.Process(), 1.234)
    assert own is not None
    assert own.at == 1.23
    assert own.memory > MIB
    assert own.descriptors > 2
    assert own.threads >= 1
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        seen = psutil.Process(process.pid)
        assert look(seen, 0) is not None
        process.kill()
        process.wait()
        assert look(seen, 0) is None
