"""One timer of an event loop for many deadlines: setting and cancelling one for each costs more than what it guards."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Alarm:
    """Rings when the earliest deadline has passed.

    ``ring`` is called with the loop's time then. It sees to what is over, and returns the earliest deadline of the
    rest, infinity if there is none. A deadline that is met needs no word: the alarm rings for nothing, once.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[float], float]) -> None:
        self._loop = loop
        self._ring = ring
        self._handle: asyncio.Handle | None = None
        self._rings_at = math.inf  # the handle does not say it: uvloop's for what is due at once has no when()

    def by(self, deadline: float) -> None:
        """Ring at that time of the loop, or before."""
        if deadline < self._rings_at:
            self.cancel()
            self._rings_at = deadline
            self._handle = self._loop.call_at(deadline, self._on_time)

    def cancel(self) -> None:
        """Do not ring."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self._rings_at = None, math.inf

    def _on_time(self) -> None:
        due, self._handle, self._rings_at = self._rings_at, None, math.inf
        self.by(self._ring(max(due, self._loop.time())))  # uvloop is up to a millisecond early
