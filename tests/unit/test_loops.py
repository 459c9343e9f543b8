"""Beats of a loop tell how late it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from lone_crew import crew_of, task
from podium.events import EventDispatcher, PollStarted
from podium.loops import beat, loop_factory


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, loop_factory()], ids=["asyncio", "uvloop"])
def test_beat_after_a_block_says_how_late_it_is_and_the_next_are_in_time(factory: object) -> None:
    lags: list[float] = []

    async def test() -> None:
        beat(asyncio.get_running_loop(), 0.02, lags.append)
        end = time.monotonic() + 0.5
        while time.monotonic() < end:  # what a loop must not do
            pass
        async with asyncio.timeout(20):
            while len(lags) < 3 or min(lags[1:]) > 0.2:
                await asyncio.sleep(0.01)

    with asyncio.Runner(loop_factory=factory) as runner:  # type: ignore[arg-type]
        runner.run(test())
    assert lags[0] >= 0.4


def test_interval_of_zero_is_no_beat() -> None:
    loop = asyncio.new_event_loop()
    beat(loop, 0.0, lambda lag: pytest.fail(f"a beat, {lag} s late"))
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    loop.close()


class Opened:
    """Opens an asynchronous generator, as the connections of a client have one, and leaves it to its loop."""

    def __init__(self) -> None:
        self.is_closed = False

    async def open(self) -> None:
        self._generator = self._generate()
        await anext(self._generator)

    async def _generate(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.sleep(0)
            self.is_closed = True


def test_the_loop_of_a_thread_crew_closes_what_tasks_left_to_it() -> None:
    opened = Opened()

    async def function() -> None:
        await opened.open()

    async def test() -> None:
        async with crew_of(function, "thread") as crew:
            await crew.run(0, task())
            assert not opened.is_closed

    asyncio.run(test())
    assert opened.is_closed


def test_the_loop_of_a_listener_closes_what_it_left_to_it() -> None:
    class Listener(Opened):
        async def on_poll_started(self, _event: PollStarted) -> None:
            await self.open()

    listener = Listener()
    dispatcher = EventDispatcher([listener])
    dispatcher.publish(PollStarted(task_type="t", worker_id="w", poll_count=1))
    dispatcher.close()
    assert listener.is_closed
