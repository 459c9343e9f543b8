"""Growing delays. Pure: no clock, no sleep."""

from __future__ import annotations

import random
from typing import Any

from podium.bundle import Bundle


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


def is_duration(value: Any) -> bool:
    """Whether a value is a number of seconds, 0 or more."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")
