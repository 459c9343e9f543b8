"""What is to be done when, for all tasks in hand: one heap and one loop task, instead of a timer for each."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Work = Callable[[], Coroutine[Any, Any, None]]

logger = logging.getLogger(__name__)

#: Entries that were dropped and may stand in the heap before it is cleared of them.
_DROPPED_ENTRIES: Final = 1000


class Entry:
    """Something that is to be done; ``drop`` it if it is not to be done after all."""

    __slots__ = ("_schedule", "work")

    def __init__(self, schedule: Schedule, work: Work) -> None:
        self._schedule = schedule
        #: None when it was dropped or is being done. It holds the task, which must not live for hours in a heap.
        self.work: Work | None = work

    def drop(self) -> None:
        """Do not do it."""
        if self.work is not None:
            self.work = None
            self._schedule.on_dropped()


class Schedule:
    """Starts pieces of work at their times."""

    def __init__(self) -> None:
        #: (due, counter, entry); the counter breaks ties.
        self._heap: list[tuple[float, int, Entry]] = []
        self._counter = itertools.count()
        self._dropped = 0
        self._changed = asyncio.Event()
        self._works: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """How many entries the heap has, dropped ones included."""
        return len(self._heap)

    def after(self, seconds: float, work: Work) -> Entry:
        """Start ``work`` in so many seconds; it runs as a task of its own."""
        due = asyncio.get_running_loop().time() + seconds
        entry = Entry(self, work)
        heapq.heappush(self._heap, (due, next(self._counter), entry))
        if self._heap[0][2] is entry:
            self._changed.set()
        return entry

    def on_dropped(self) -> None:
        """Count an entry that is not to be done, and clear the heap of them if they are too many."""
        self._dropped += 1
        if self._dropped > _DROPPED_ENTRIES and 2 * self._dropped > len(self._heap):
            self._heap = [item for item in self._heap if item[2].work is not None]
            heapq.heapify(self._heap)
            self._dropped = 0

    async def run(self) -> None:
        """Start what is due, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            while self._heap and self._heap[0][0] <= loop.time():
                self._start(heapq.heappop(self._heap)[2])
            self._changed.clear()
            try:
                async with asyncio.timeout_at(self._heap[0][0] if self._heap else None):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _start(self, entry: Entry) -> None:
        work, entry.work = entry.work, None
        if work is None:
            self._dropped -= 1
            return
        task = asyncio.get_running_loop().create_task(work())
        self._works.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._works.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("an error of podium while it looked after a task", exc_info=error)
