"""What podium's own threads and processes share about event loops."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return uvloop's loop where it is installed, else asyncio's own; nothing global is changed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def close_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Close a loop that code of users ran on: first its asynchronous generators, and so the connections of clients."""
    try:
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def beat(loop: asyncio.AbstractEventLoop, interval: float, note: Callable[[float], None]) -> None:
    """Call ``note`` on the loop every ``interval`` seconds, with the seconds that it came late; never if it is 0."""

    def beat_at(due: float) -> None:
        lag = max(0.0, time.monotonic() - due)
        beat(loop, interval, note)  # first: whoever hears of this beat may count on the next one being due
        note(lag)

    if interval > 0:
        loop.call_later(interval, beat_at, time.monotonic() + interval)


async def start_all(starts: Iterable[Awaitable[None]]) -> None:
    """Await all starts at once; raise the first error only when every one has ended, so that none is half done."""
    for error in await asyncio.gather(*starts, return_exceptions=True):
        if error is not None:
            raise error
