"""One timer for many deadlines, in virtual time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import virtual_time
from podium.alarm import Alarm


class Deadlines:
    """What an alarm guards: deadlines that are passed or met."""

    def __init__(self) -> None:
        self.open: set[float] = set()
        self.passed: list[tuple[float, float]] = []
        self.rings = 0
        self.alarm = Alarm(asyncio.get_running_loop(), self._ring)

    def add(self, deadline: float) -> None:
        self.open.add(deadline)
        self.alarm.by(deadline)

    def _ring(self, now: float) -> float:
        self.rings += 1
        self.passed += [(deadline, now) for deadline in sorted(self.open) if deadline <= now]
        self.open = {deadline for deadline in self.open if deadline > now}
        return min(self.open, default=math.inf)


def play(scene: Callable[[Deadlines], Any]) -> Deadlines:
    async def run() -> Deadlines:
        deadlines = Deadlines()
        scene(deadlines)
        await asyncio.sleep(10_000)
        return deadlines

    return virtual_time.run(run(), virtual_time.Clock())


@given(st.lists(st.integers(1, 1000), unique=True, min_size=1, max_size=20))
def test_every_deadline_is_told_at_its_time_whatever_the_order(times: list[int]) -> None:
    def scene(deadlines: Deadlines) -> None:
        now = asyncio.get_running_loop().time()
        for after in times:
            deadlines.add(now + after)

    deadlines = play(scene)
    assert len(deadlines.passed) == len(times) == deadlines.rings
    assert all(now == pytest.approx(deadline) for deadline, now in deadlines.passed)


def test_a_deadline_that_was_met_costs_one_ring_for_all_that_follow_it() -> None:
    def scene(deadlines: Deadlines) -> None:
        now = asyncio.get_running_loop().time()
        for after in range(1, 1000):
            deadlines.add(now + 1000 + after)
            deadlines.open.clear()

    assert play(scene).rings == 1


def test_an_alarm_that_was_cancelled_rings_no_more_until_it_is_set_again() -> None:
    def scene(deadlines: Deadlines) -> None:
        loop = asyncio.get_running_loop()
        deadlines.add(loop.time() + 10)
        deadlines.alarm.cancel()
        loop.call_later(20, lambda: deadlines.add(loop.time() + 5))

    deadlines = play(scene)
    assert deadlines.rings == 1
    assert [now - deadline for deadline, now in deadlines.passed] == pytest.approx([15, 0])
