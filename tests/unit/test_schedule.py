"""The schedule, in virtual time: what starts when, and that nothing is held longer than it is wanted."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import virtual_time
from podium.schedule import Entry, Schedule

START = 1000.0
Play = Callable[[Schedule], Coroutine[Any, Any, None]]


def on_stage(play: Play) -> None:
    async def main() -> None:
        schedule = Schedule()
        await virtual_time.beside(schedule.run(), play(schedule))

    clock = virtual_time.Clock()
    clock.now = START
    virtual_time.run(main(), clock)


class Started:
    """What was started, with its time."""

    def __init__(self) -> None:
        self.works: list[tuple[float, int]] = []

    async def work(self, number: int) -> None:
        self.works.append((asyncio.get_running_loop().time() - START, number))


@given(st.lists(st.tuples(st.integers(0, 1000), st.booleans()), max_size=30))
def test_what_is_not_dropped_starts_at_its_time_and_once(plan: list[tuple[int, bool]]) -> None:
    started = Started()

    async def play(schedule: Schedule) -> None:
        entries = [schedule.after(seconds, partial(started.work, number)) for number, (seconds, _) in enumerate(plan)]
        for entry, (_, dropped) in zip(entries, plan, strict=True):
            if dropped:
                entry.drop()
                entry.drop()  # once is enough, twice is harmless
        await asyncio.sleep(2000)
        for entry in entries:
            entry.drop()  # too late to matter

    on_stage(play)
    expected = sorted((seconds, number) for number, (seconds, dropped) in enumerate(plan) if not dropped)
    assert [number for _, number in started.works] == [number for _, number in expected]
    assert [at for at, _ in started.works] == pytest.approx([seconds for seconds, _ in expected], abs=1e-6)


def test_earlier_entry_that_comes_later_does_not_wait_for_the_first() -> None:
    started = Started()

    async def play(schedule: Schedule) -> None:
        schedule.after(100, partial(started.work, 1))
        await asyncio.sleep(1)
        schedule.after(1, partial(started.work, 2))
        await asyncio.sleep(10)
        assert started.works == [(2, 2)]

    on_stage(play)


def test_work_that_takes_long_holds_up_nothing() -> None:
    started = Started()

    async def takes_long() -> None:
        await asyncio.sleep(100)

    async def play(schedule: Schedule) -> None:
        schedule.after(1, takes_long)
        schedule.after(2, partial(started.work, 1))
        await asyncio.sleep(3)
        assert started.works == [(2, 1)]

    on_stage(play)


def test_error_in_a_work_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    started = Started()

    async def fails() -> None:
        raise LookupError("a mistake of podium")

    async def play(schedule: Schedule) -> None:
        schedule.after(1, fails)
        schedule.after(2, partial(started.work, 1))
        await asyncio.sleep(3)

    on_stage(play)
    assert started.works == [(2, 1)]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "a mistake of podium" in caplog.text


def test_dropped_entry_holds_nothing_and_the_heap_does_not_grow() -> None:
    class Large:
        pass

    async def work(_large: Large) -> None: ...

    async def play(schedule: Schedule) -> None:
        staying: list[Entry] = [schedule.after(1e6, partial(work, Large())) for _ in range(100)]
        large = Large()
        seen = weakref.ref(large)
        entry = schedule.after(1e6, partial(work, large))
        del large
        entry.drop()
        gc.collect()
        assert seen() is None
        for _ in range(10_000):
            schedule.after(1e6, partial(work, Large())).drop()
            assert len(schedule) <= 2200
        assert all(entry.work is not None for entry in staying)

    on_stage(play)
