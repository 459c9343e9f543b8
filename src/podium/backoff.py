"""How long to wait, and until when. Pure: no clock, no sleep."""

from __future__ import annotations

import math
import random
from typing import Any, Final

from podium.bundle import Bundle

#: Seconds between the moments at which idle workers poll together, and the shortest pause that is extended to one.
STEP: Final = 1 / 64
_SHORTEST_EXTENDED: Final = 0.1


class Backoff(Bundle, frozen=True):
    """A capped exponential: ``first``, twice that, four times ... up to ``cap`` seconds.

    ``jitter`` takes up to that share off at random, so that many workers do not come back in step; a delay is never
    longer than the plain exponential says.
    """

    first: float
    cap: float
    jitter: float = 0.0

    def delay(self, failures: int) -> float:
        """Return the seconds to wait after so many failures in a row (0 for none)."""
        if failures <= 0:
            return 0.0
        # The exponent is bounded so that a failure count of any size cannot overflow the float.
        full = min(self.first * 2.0 ** min(failures - 1, 64), self.cap)
        return full * (1.0 - self.jitter * random.random()) if self.jitter else full  # noqa: S311 - not a secret


def in_step(now: float, pause: float) -> float:
    """Return when a pause ends: at a moment, not much later than it would, that others choose too.

    To wake a process costs more than what one worker has to do that polls in vain, so those of a program do it
    together. Programs on other machines have other clocks, and do not poll in step with it.
    """
    end = now + pause
    return end if pause < _SHORTEST_EXTENDED else math.ceil(end / STEP) * STEP


def is_duration(value: Any) -> bool:
    """Whether a value is a number of seconds, 0 or more."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")
