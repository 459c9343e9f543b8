"""Beats of a loop tell how late it is."""

from __future__ import annotations

import asyncio
import time

import pytest

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
