"""What blocks an event loop: a function that does not await is named while it does its harm, with its line."""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

from podium.stacks import Frame, ThreadStack

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import FrameType

logger = logging.getLogger("podium.crew")

#: Seconds between two looks.
TICK: Final = 1.0
#: Looks at which the loop has not answered, one after the other, until that is said.
PATIENCE: Final = 3
#: Seconds in which the same line of code is named once.
_QUIET: Final = 60.0


class LoopWatch:
    """Looks at a loop once a second from a thread of its own, as long as coroutines are in hand, and rests otherwise.

    Made on the loop. ``busy`` tells whether coroutines are in hand, ``owner`` whose loop it is, in the words of a log
    line. The thread starts with the first coroutine: who has plain functions only has none, and who is idle is not
    woken.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, busy: Callable[[], bool], owner: str) -> None:
        self._loop = loop
        self._busy = busy
        self._owner = owner
        self._loop_thread = threading.get_ident()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._sign = threading.Event()
        self._resting = True
        #: Monotonic time at which the loop answered the last question; 0 while it is still to do so.
        self._answered = 0.0
        #: Monotonic time at which each place was named last.
        self._named: dict[Frame, float] = {}

    def attend(self) -> None:
        """Take note that a coroutine is in hand; called on the loop."""
        if self._resting:
            self._resting = False
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="podium-loop-watch", daemon=True)
                self._thread.start()
            self._wake.set()

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()
        self._sign.set()
        self._wake.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            self._wake.wait()
            self._wake.clear()
            while not self._is_at_rest():
                self._ask()
                self._closed.wait(TICK)

    def _is_at_rest(self) -> bool:
        if self._closed.is_set():
            return True
        if self._busy():
            return False
        self._resting = True
        # A coroutine that came just now has either seen that, and wakes this thread, or is seen here.
        self._resting = not self._busy()
        return self._resting

    def _ask(self) -> None:
        """Ask the loop for a sign of life, and wait for it, as long as the loop is blocked."""
        self._answered = 0.0
        self._sign.clear()
        asked = time.monotonic()
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # the loop is closed
            self._closed.set()
            return
        place: Frame | None = None
        # Looks are counted, not seconds: this thread may have been held up itself, by a stopped process for example.
        looks = 0
        while not self._sign.wait(TICK) and not self._closed.is_set():
            looks += 1
            if looks == PATIENCE:
                place = self._complain(time.monotonic() - asked)
        if place is not None and self._answered:
            logger.warning("%s goes on: it was blocked for %.1f s by %s", self._owner, self._answered - asked, place)

    def _answer(self) -> None:
        self._answered = time.monotonic()
        self._sign.set()

    def _complain(self, seconds: float) -> Frame | None:
        """Name what blocks the loop, and return it; None if nobody's code does, or it was named lately."""
        place, now = stack_of_thread(self._loop_thread).place, time.monotonic()
        if place is None or now - self._named.get(place, -_QUIET) < _QUIET:
            return None
        self._named = {known: at for known, at in self._named.items() if now - at < _QUIET} | {place: now}
        logger.warning(
            "%s is blocked for %.0f s by %s: no other coroutine goes on there; await something that does not block, "
            "use asyncio.to_thread(), or declare the function without async",
            self._owner, seconds, place,
        )  # fmt: skip
        return place


def stack_of_thread(ident: int) -> ThreadStack:
    """Return where a thread of this process is; without frames if it has ended."""
    return ThreadStack(ident, frames=frames_of(sys._current_frames().get(ident)))  # noqa: SLF001 - the documented way


def frames_of(frame: FrameType | None) -> list[Frame]:
    """Return the calls of a thread, the innermost first."""
    frames: list[Frame] = []
    while frame is not None:
        frames.append(Frame.of(frame))
        frame = frame.f_back
    return frames
