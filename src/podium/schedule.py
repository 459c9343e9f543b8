"""What is to be done when, for all tasks in hand: one heap and one loop task, instead of a timer for each."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Work = Callable[[], Coroutine[Any, Any, None]]

logger = logging.getLogger(__name__)

#: Entries that were dropped and may stand in the heap before it is cleared of them.
_DROPPED_ENTRIES: Final = 1000


class Entry:
    """Something that is to be done; ``drop`` it if it is not to be done after all."""

    __slots__ = ("_schedule", "due", "work")

    def __init__(self, schedule: Schedule, due: float, work: Work) -> None:
        self._schedule = schedule
        self.due = due
        #: None when it was dropped or is being done. It holds the task, which must not live for hours in a heap.
        self.work: Work | None = work

    def drop(self) -> None:
        """Do not do it."""
        if self.work is not None:
            self.work = None
            self._schedule.on_dropped(self)


class Schedule:
    """Starts pieces of work at their times.

    Most entries are dropped long before they are due, because their tasks end. So a new one is only put with the young
    ones; when the first of these would be due, those that are still there are sorted into the heap.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        #: In the order in which they came.
        self._young: dict[Entry, None] = {}
        #: (due, counter, entry); the counter breaks ties.
        self._heap: list[tuple[float, int, Entry]] = []
        self._counter = itertools.count()
        self._dropped = 0
        #: When to look at the entries: none is due before.
        self._wakes = math.inf
        self._changed = asyncio.Event()
        self._works: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """How many entries are held, dropped ones in the heap included."""
        return len(self._young) + len(self._heap)

    def after(self, seconds: float, work: Work) -> Entry:
        """Start ``work`` in so many seconds; it runs as a task of its own."""
        due = self._loop.time() + seconds
        entry = Entry(self, due, work)
        self._young[entry] = None
        if due < self._wakes:
            self._wakes = due
            self._changed.set()
        return entry

    def on_dropped(self, entry: Entry) -> None:
        """Forget an entry that is not to be done, and clear the heap of such if they are too many."""
        if entry in self._young:
            del self._young[entry]
            return
        self._dropped += 1
        if self._dropped > _DROPPED_ENTRIES and 2 * self._dropped > len(self._heap):
            self._heap = [item for item in self._heap if item[2].work is not None]
            heapq.heapify(self._heap)
            self._dropped = 0

    async def run(self) -> None:
        """Start what is due, until cancelled."""
        while True:
            if self._wakes <= self._loop.time():
                self._start_what_is_due()
            self._changed.clear()
            try:
                async with asyncio.timeout_at(None if self._wakes == math.inf else self._wakes):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _start_what_is_due(self) -> None:
        for entry in self._young:
            heapq.heappush(self._heap, (entry.due, next(self._counter), entry))
        self._young.clear()
        while self._heap and self._heap[0][0] <= self._loop.time():
            self._start(heapq.heappop(self._heap)[2])
        self._wakes = self._heap[0][0] if self._heap else math.inf

    def _start(self, entry: Entry) -> None:
        work, entry.work = entry.work, None
        if work is None:
            self._dropped -= 1
            return
        task = self._loop.create_task(work())
        self._works.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._works.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("an error of podium while it looked after a task", exc_info=error)
