"""The queues that workers poll. In memory only: they are rebuilt from the SCHEDULED tasks at the start.

A queue is named by task type and domain. Order: higher priority first, then the time since when a task may be
handed out, then the order of arrival. Someone who waits at an empty queue is woken by the task, not by a clock.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from podium.server.state import TaskState

Key = tuple[str, str | None]

#: Seconds that a timer runs at most: event loops have limits.
_LONGEST_TIMER = 3600.0


@dataclass(eq=False)
class _Queue:
    """Tickets are (priority, due, number, task id); the ones in ``entries`` with the same number are valid."""

    entries: dict[str, int] = field(default_factory=dict)
    ready: list[tuple[int, int, int, str]] = field(default_factory=list)
    delayed: list[tuple[int, int, int, str]] = field(default_factory=list)
    waiters: deque[asyncio.Future[bool]] = field(default_factory=deque)
    timer: asyncio.TimerHandle | None = None


class Queues:
    """All queues. ``now`` gives epoch ms."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._queues: dict[Key, _Queue] = {}
        self._where: dict[str, Key] = {}
        self._numbers = count()
        self._closed = False

    def put(self, key: Key, task: TaskState) -> None:
        """Queue a task from its ``due`` on; it replaces an earlier entry of the same task."""
        self.drop(task.task_id)
        queue = self._queues.setdefault(key, _Queue())
        number = next(self._numbers)
        queue.entries[task.task_id] = number
        self._where[task.task_id] = key
        due = task.pollable_at
        if due <= self._now():
            heapq.heappush(queue.ready, (-task.workflow_priority, due, number, task.task_id))
            self._wake(queue)
        else:
            heapq.heappush(queue.delayed, (due, -task.workflow_priority, number, task.task_id))
            self._arm(key, queue)

    def drop(self, task_id: str) -> None:
        """Take a task out of its queue, if it is in one."""
        key = self._where.pop(task_id, None)
        if key is not None:
            queue = self._queues[key]
            del queue.entries[task_id]
            self._tidy(key, queue)

    def peek(self, key: Key) -> str | None:
        """Return the id of the next task that is due; it stays in the queue until it is dropped."""
        queue = self._queues.get(key)
        if queue is None:
            return None
        self._ripen(queue)
        while queue.ready:
            _, _, number, task_id = queue.ready[0]
            if queue.entries.get(task_id) == number:
                return task_id
            heapq.heappop(queue.ready)
        return None

    async def wait(self, key: Key, seconds: float) -> bool:
        """Wait until a task may be there; False when the time is over."""
        if self._closed:
            return False
        queue = self._queues.setdefault(key, _Queue())
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        queue.waiters.append(waiter)
        self._arm(key, queue)
        timer = loop.call_later(seconds, _resolve, waiter, False)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.result():
                self._wake(queue)  # the wake-up would be lost with this coroutine
            raise
        finally:
            timer.cancel()
            waiter.cancel()
            self._tidy(key, queue)

    def wake(self, task_type: str, domain: str | None) -> None:
        """Wake one who waits for this queue, because its next task may be handed out now."""
        queue = self._queues.get((task_type, domain))
        if queue is not None:
            self._wake(queue)

    def wake_type(self, task_type: str) -> None:
        """Wake one who waits, in every domain of a task type."""
        for key, queue in self._queues.items():
            if key[0] == task_type:
                self._wake(queue)

    def size(self, key: Key) -> int:
        """Return how many tasks wait, including delayed ones."""
        queue = self._queues.get(key)
        return len(queue.entries) if queue else 0

    def sizes(self) -> dict[Key, int]:
        """Return the sizes of all queues that hold tasks."""
        return {key: len(queue.entries) for key, queue in self._queues.items() if queue.entries}

    def clear(self) -> None:
        """Empty all queues and end all waiting."""
        for queue in self._queues.values():
            if queue.timer is not None:
                queue.timer.cancel()
            for waiter in queue.waiters:
                _resolve(waiter, False)
        self._queues.clear()
        self._where.clear()

    def close(self) -> None:
        """Empty all queues for good: nobody can wait any more."""
        self._closed = True
        self.clear()

    def _ripen(self, queue: _Queue) -> None:
        now = self._now()
        while queue.delayed and queue.delayed[0][0] <= now:
            due, priority, number, task_id = heapq.heappop(queue.delayed)
            if queue.entries.get(task_id) == number:
                heapq.heappush(queue.ready, (priority, due, number, task_id))

    def _wake(self, queue: _Queue) -> None:
        while queue.waiters:
            waiter = queue.waiters.popleft()
            if not waiter.done():
                waiter.set_result(True)
                return

    def _arm(self, key: Key, queue: _Queue) -> None:
        """Wake the waiters when the next delayed task becomes due."""
        if queue.timer is not None:
            queue.timer.cancel()
            queue.timer = None
        if queue.delayed and queue.waiters:
            delay = min(max(0.001, (queue.delayed[0][0] - self._now()) / 1000), _LONGEST_TIMER)
            queue.timer = asyncio.get_running_loop().call_later(delay, self._ring, key, queue)

    def _ring(self, key: Key, queue: _Queue) -> None:
        queue.timer = None
        before = len(queue.ready)
        self._ripen(queue)
        for _ in range(len(queue.ready) - before):
            self._wake(queue)
        self._arm(key, queue)

    def _tidy(self, key: Key, queue: _Queue) -> None:
        """Forget a queue that holds nothing, so that odd names do not pile up."""
        while queue.waiters and queue.waiters[0].done():
            queue.waiters.popleft()
        if not queue.entries and not queue.waiters:
            if queue.timer is not None:
                queue.timer.cancel()
                queue.timer = None
            if self._queues.get(key) is queue:
                del self._queues[key]


def _resolve(waiter: asyncio.Future[bool], answer: bool) -> None:
    if not waiter.done():
        waiter.set_result(answer)
