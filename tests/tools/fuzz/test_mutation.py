from __future__ import annotations

import pytest

from tools.fuzz.mutation import Mutator

SEEDS = [b"first seed", b"the second one", b""]


def made(seed: int, count: int = 300, seeds: list[bytes] = SEEDS, largest: int = 40) -> list[bytes]:
    mutator = Mutator(seeds, seed, largest=largest)
    return [mutator.next() for _ in range(count)]


def test_the_same_seed_makes_the_same_inputs() -> None:
    assert made(1) == made(1)
    assert made(1) != made(2)


def test_inputs_differ_and_are_never_too_large() -> None:
    inputs = made(1, 2000)
    assert len(set(inputs)) > 1500
    assert max(map(len, inputs)) == 40
    assert min(map(len, inputs)) == 0


def test_every_seed_is_used_and_they_are_joined() -> None:
    inputs = made(1, 5000, [b"A" * 20, b"B" * 20])
    assert any(b"A" * 5 in data and b"B" * 5 in data for data in inputs)
    assert any(b"A" not in data for data in inputs)
    assert any(b"B" not in data for data in inputs)


@pytest.mark.parametrize("seeds", [[], [b""]])
def test_something_comes_of_nothing(seeds: list[bytes]) -> None:
    assert any(made(1, 100, seeds))
