"""A loop that is blocked is named with what blocks it, and one that turns costs nothing."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from podium import watch as watch_module
from podium.watch import LoopWatch, frames_of
from rig import until

OWNER = "the event loop of worker process 'w'"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "TICK", 0.05)


class Hands:
    """How many coroutines are in hand."""

    def __init__(self) -> None:
        self.count = 1


def blocks(seconds: float) -> None:
    time.sleep(seconds)


def watchers() -> set[threading.Thread]:
    """The threads that watch a loop; other tests may have left some."""
    return {thread for thread in threading.enumerate() if thread.name == "podium-loop-watch"}


def watched(main: object, hands: Hands | None = None) -> None:
    """Run a coroutine function of a LoopWatch on a loop that is watched."""

    async def run() -> None:
        watch = LoopWatch(asyncio.get_running_loop(), lambda: bool((hands or Hands()).count), OWNER)
        watch.attend()
        try:
            await main(watch)  # type: ignore[operator]
        finally:
            watch.close()

    before = watchers()
    asyncio.run(run())
    until(lambda: watchers() <= before, "the end")


def test_D03_what_blocks_the_loop_is_named_with_line_and_seconds(caplog: pytest.LogCaptureFixture) -> None:
    async def main(_watch: LoopWatch) -> None:
        await asyncio.sleep(0.02)
        blocks(0.6)
        await asyncio.sleep(0.1)

    watched(main)
    begins, ends = caplog.messages
    line = blocks.__code__.co_firstlineno + 1
    assert begins.startswith(f"{OWNER} is blocked for 0 s by blocks ({__file__}:{line}): no other coroutine")
    assert ends.startswith(f"{OWNER} goes on: it was blocked for 0.")
    assert ends.endswith(f" s by blocks ({__file__}:{line})")
    assert 0.3 <= float(ends.split(" for ")[1].split()[0]) <= 3


def test_loop_that_turns_is_let_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def main(_watch: LoopWatch) -> None:
        for _ in range(8):
            blocks(0.05)  # long for a loop, and no reason to speak
            await asyncio.sleep(0)
        await asyncio.sleep(0.2)

    watched(main)
    assert caplog.messages == []


def test_same_line_is_named_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    async def main(_watch: LoopWatch) -> None:
        for _ in range(3):
            blocks(0.4)
            await asyncio.sleep(0.06)

    watched(main)
    assert len(caplog.messages) == 2


def test_loop_without_coroutines_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    ask = LoopWatch._ask

    def count(self: LoopWatch) -> None:
        asked.append(time.monotonic())
        ask(self)

    monkeypatch.setattr(LoopWatch, "_ask", count)
    hands = Hands()

    async def main(watch: LoopWatch) -> None:
        await asyncio.sleep(0.12)
        hands.count = 0
        await asyncio.sleep(0.1)
        before = len(asked)
        assert before > 0
        await asyncio.sleep(0.3)
        assert len(asked) == before
        hands.count = 1
        watch.attend()
        await asyncio.sleep(0.12)
        assert len(asked) > before

    watched(main, hands)


def test_watch_of_a_loop_that_is_closed_ends() -> None:
    loop = asyncio.new_event_loop()
    watch = LoopWatch(loop, lambda: True, OWNER)
    loop.close()
    before = watchers()
    watch.attend()
    until(lambda: watchers() <= before, "the end")


def test_thread_that_is_gone_has_no_frames() -> None:
    assert frames_of(None) == []
