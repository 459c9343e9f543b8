"""When a child has served long enough and gives its place to a fresh one."""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING, Final

from podium.bundle import Bundle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from podium.options import WorkerOptions

#: A child may be replaced by this part of its age or tasks sooner, so that not all are at once.
JITTER: Final = 0.1
#: Seconds until a child is to be replaced again whose successor could not be started, or that was too large from the
#: beginning.
RETRY_SECONDS: Final = 60.0
#: Seconds between two looks at a child's memory, if nobody asks for signs of life otherwise.
RSS_INTERVAL: Final = 5.0
_MEGABYTE: Final = 1024 * 1024


class Recycling(Bundle, frozen=True, kw_only=True):
    """The limits of each child of a crew; None is no limit."""

    max_tasks: int | None = None
    max_rss_mb: int | None = None
    max_age_seconds: float | None = None

    @classmethod
    def strictest(cls, options: Iterable[WorkerOptions]) -> Recycling:
        """Return the lowest of the limits of workers that share a child."""
        every = list(options)
        return cls(
            max_tasks=min((each.max_tasks for each in every if each.max_tasks is not None), default=None),
            max_rss_mb=min((each.max_rss_mb for each in every if each.max_rss_mb is not None), default=None),
            max_age_seconds=min(
                (each.max_age_seconds for each in every if each.max_age_seconds is not None), default=None
            ),
        )

    def allowance(self, *, alone: bool) -> Allowance:
        """Return what one child may use up. One that is ``alone`` in its crew runs exactly as many tasks as it may."""
        part = 1 - random.uniform(0, JITTER)  # noqa: S311 - to spread the load, not to keep a secret
        tasks, age = self.max_tasks, self.max_age_seconds
        return Allowance(
            limits=self,
            tasks=sys.maxsize if tasks is None else tasks if alone else max(1, round(tasks * part)),
            memory=sys.maxsize if self.max_rss_mb is None else self.max_rss_mb * _MEGABYTE,
            age=None if age is None else age * part,
        )


#: No limits at all.
NEVER: Final = Recycling()


class Allowance(Bundle, frozen=True, kw_only=True):
    """What one child may use up: tasks, bytes of memory, seconds (None = any number)."""

    limits: Recycling
    tasks: int
    memory: int
    age: float | None

    def tasks_used(self) -> str:
        """Why a child is replaced that has run its tasks."""
        return f"it has run {self.tasks} tasks (max_tasks={self.limits.max_tasks})"

    def memory_used(self, size: int) -> str:
        """Why a child is replaced that has so many bytes resident."""
        return f"it has {size // _MEGABYTE} MB of memory resident (max_rss_mb={self.limits.max_rss_mb})"

    def born_large(self, size: int) -> str:
        """What to say of a child that had so many bytes before its first task."""
        return (
            f"max_rss_mb={self.limits.max_rss_mb} is less than a worker process needs before its first task "
            f"({size // _MEGABYTE} MB): it would be replaced again and again, so it is at most once in "
            f"{RETRY_SECONDS:g} s; raise max_rss_mb"
        )

    def age_used(self) -> str:
        """Why a child is replaced that is old."""
        return f"it is {self.age:.0f} s old (max_age_seconds={self.limits.max_age_seconds:g})"
