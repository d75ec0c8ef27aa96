from __future__ import annotations

import asyncio

import pytest

from pynetwork.aio.dialling import Dialled


class Made:
    def __init__(self) -> None:
        self.closed = False

    async def close(self) -> None:
        self.closed = True


async def make() -> Made:
    await asyncio.sleep(0)
    return Made()


def test_it_is_awaited_and_stays_open() -> None:
    async def run() -> bool:
        return (await Dialled(make)).closed

    assert asyncio.run(run()) is False


def test_it_is_entered_and_closed_at_the_end() -> None:
    async def run() -> Made:
        async with Dialled(make) as made:
            assert not made.closed
        return made

    assert asyncio.run(run()).closed


def test_what_can_not_be_made_is_not_closed() -> None:
    async def fail() -> Made:
        raise OSError("nobody is there")

    async def run() -> None:
        async with Dialled(fail):
            pytest.fail("it was entered")

    with pytest.raises(OSError, match="nobody is there"):
        asyncio.run(run())
