"""An event loop whose clock jumps to the next timer: hours of backoff pass in milliseconds, and to the exact second."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class Clock:
    """Stands in for the ``time`` module where code asks it for the monotonic time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        if not events:
            assert timeout is not None, "everything waits for something that will never come"
            self._clock.now += max(timeout, 0.0)
        return events


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: Clock) -> None:
        super().__init__(_JumpingSelector(clock))
        self._clock = clock

    def time(self) -> float:
        return self._clock.now


def runner(clock: Clock) -> asyncio.Runner:
    """Return what runs coroutines, one after the other, on one loop that follows the clock."""
    return asyncio.Runner(loop_factory=lambda: _VirtualLoop(clock))


async def beside(work: Coroutine[Any, Any, None], play: Coroutine[Any, Any, None]) -> None:
    """Run a play while some work goes on that does not end by itself."""
    running = asyncio.create_task(work)
    await play
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


def run(main: Coroutine[Any, Any, T], clock: Clock) -> T:
    """Run a coroutine on a loop that follows the clock."""
    with runner(clock) as one:
        return one.run(main)
