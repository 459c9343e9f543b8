"""Polls, heartbeats and updates that fail: how long to stay away, and how seldom to speak of it."""

from __future__ import annotations

import logging
import math
import time
from typing import Final

from podium.backoff import Backoff
from podium.errors import AuthError, PodiumError

logger = logging.getLogger("podium.runner")

#: After authentication failures: 2, 4, 8 ... 60 s, as both other SDKs do.
AUTH_BACKOFF: Final = Backoff(2.0, 60.0)
#: After any other failed poll: never far from a server that comes back soon, and patient with one that does not.
FAILURE_BACKOFF: Final = Backoff(0.1, 2.0, jitter=0.2)
OUTAGE_BACKOFF: Final = Backoff(0.1, 10.0, jitter=0.2)
#: Seconds of failures after which it is an outage.
OUTAGE_AFTER: Final = 60.0
#: "Still failing" is said again when this many seconds have passed.
_REPEAT_LOG: Final = 60.0
#: Trouble that is over and comes back is told again after this many seconds: a network may come and go every second.
_QUIET: Final = 10.0


class Trouble:
    """Polls, heartbeats and updates that fail: how long to stay away, and how seldom to speak of it."""

    def __init__(self, task_type: str) -> None:
        self._task_type = task_type
        self._failures = 0
        self._since = 0.0
        #: When a line was written last, and whether these failures have had theirs.
        self._said = -math.inf
        self._told = False
        #: The last failure; None after a success.
        self.text: str | None = None
        #: Whether it was the server's refusal of our credentials.
        self.refused = False

    def delay_after(self, error: PodiumError) -> float:
        """Count a failure, log it if it is time, and return the seconds until the next poll."""
        now = time.monotonic()
        self._failures += 1
        self.text = str(error)
        self.refused = isinstance(error, AuthError)
        if self._failures == 1:
            self._since = now
        if not self._told and now - self._said >= _QUIET:
            self._told, self._said = True, now
            logger.warning("polling for %r failed: %s", self._task_type, error)
        elif self._told and now - self._said >= _REPEAT_LOG:
            self._said = now
            logger.warning(
                "polling for %r is still failing, %d times in %.0f s: %s",
                self._task_type, self._failures, now - self._since, error,
            )  # fmt: skip
        backoff = FAILURE_BACKOFF if now - self._since < OUTAGE_AFTER else OUTAGE_BACKOFF
        if self.refused:
            backoff = AUTH_BACKOFF
        asked = getattr(error, "retry_after", None)
        return max(backoff.delay(self._failures), min(asked or 0.0, 60.0))

    def over(self) -> None:
        """A poll succeeded."""
        if self._told:
            seconds = time.monotonic() - self._since
            logger.info("polling for %r works again after %d failures in %.1f s",
                        self._task_type, self._failures, seconds)  # fmt: skip
        self._failures = 0
        self._told = False
        self.text, self.refused = None, False


class SharedTrouble:
    """What fails for many tasks at once: an outage is worth two log lines, not two per task.

    ``failed`` is a log line that takes a task's id and what is wrong, ``over`` the line at the end of all failures.
    """

    def __init__(self, log: logging.Logger, failed: str, over: str) -> None:
        self._log = log
        self._failed = failed
        self._over = over
        #: Ids of the tasks whose last attempt failed.
        self._failing: set[str] = set()
        #: When a failure was told last, and whether the present ones were.
        self._said = -math.inf
        self._told = False

    def failed(self, task_id: str, problem: str) -> None:
        """Note a failure; only the first is more than a detail."""
        self._failing.add(task_id)
        now = time.monotonic()
        news = not self._told and now - self._said >= _QUIET
        if news:
            self._told, self._said = True, now
        self._log.log(logging.WARNING if news else logging.DEBUG, self._failed, task_id, problem)

    def worked(self, task_id: str) -> None:
        """Note a success; the one that ends all failures is told."""
        if task_id in self._failing:
            self._failing.remove(task_id)
            if not self._failing and self._told:
                self._told = False
                self._log.info(self._over)

    def forget(self, task_id: str) -> None:
        """Wait for a task's success no more."""
        self._failing.discard(task_id)
        if not self._failing:
            self._told = False
