"""Which tasks may have ended the child that ran them. Pure: it only keeps the books."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from podium.polled import PolledTask

#: How many tasks are remembered, and for how many seconds after the last death: retries may be delayed for long.
MOST_SUSPECTS: Final = 1_000
MOST_SECONDS: Final = 86_400.0

#: Deaths of children that a task may be in before it is not retried any more.
DEFAULT_MAX_CRASHES: Final = 3

_Key = tuple[str, str]


class Suspects:
    """Tasks that were in the hands of children when these died, with the number of those deaths.

    All attempts of a task are the same one here: the same workflow execution, and the same reference in it.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        #: Deaths, and the time of the last; the oldest first.
        self._known: OrderedDict[_Key, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, task: PolledTask) -> bool:
        return _key_of(task) in self._known

    def accuse(self, task: PolledTask) -> int:
        """Note that a child has died with that task in hand; return how many have by now."""
        key, now = _key_of(task), self._now()
        deaths = self._known.pop(key, (0, now))[0] + 1
        self._known[key] = (deaths, now)
        while len(self._known) > MOST_SUSPECTS or now - next(iter(self._known.values()))[1] > MOST_SECONDS:
            self._known.popitem(last=False)
        return deaths

    def pardon(self, task: PolledTask) -> None:
        """Forget the deaths of a task, but not that it was in them: if it comes again, it starts anew, alone."""
        self._known[_key_of(task)] = (0, self._now())

    def acquit(self, task: PolledTask) -> None:
        """Forget a task: its child has survived it."""
        self._known.pop(_key_of(task), None)


def _key_of(task: PolledTask) -> _Key:
    return task.workflow_id, task.head.reference_task_name or task.task_id
