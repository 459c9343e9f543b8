"""Lease heartbeats: while a task is in our hands, its response timeout must not run out."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from typing import TYPE_CHECKING, Final

from podium.errors import PodiumError
from podium.trouble import SharedTrouble

if TYPE_CHECKING:
    from podium.client import AsyncClient
    from podium.polled import PolledTask

logger = logging.getLogger(__name__)

#: Share of the response timeout between two heartbeats: early enough that one may fail and be repeated.
HEARTBEAT_SHARE: Final = 0.4
#: How long a heartbeat's answer is awaited: one that is swallowed must not cost the lease.
_ANSWER_SHARE: Final = 0.2
#: A failed heartbeat is repeated after this share of the response timeout.
_REPEAT_SHARE: Final = 0.1
#: Neither of the two is shorter than this many seconds.
_SHORTEST: Final = 0.5
#: Entries of released tasks that may stand in the schedule before it is cleared of them.
_STALE_ENTRIES: Final = 1000


class LeaseKeeper:
    """Sends the heartbeats of all kept tasks from one loop task; it needs no thread and no timer per task."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._kept: dict[str, PolledTask] = {}
        #: (due, counter, task): a heap; the counter breaks ties, and an entry of a released task is skipped.
        self._due: list[tuple[float, int, PolledTask]] = []
        self._counter = itertools.count()
        self._changed = asyncio.Event()
        self._beats: set[asyncio.Task[None]] = set()
        self._trouble = SharedTrouble(
            logger, "heartbeat of task %s failed, it will be repeated: %s", "heartbeats work again"
        )

    def keep(self, task: PolledTask) -> None:
        """Keep the lease of a task from now until ``release``; without a response timeout there is none to keep."""
        timeout = task.head.response_timeout_seconds
        if timeout > 0 and self._kept.get(task.task_id) is not task:
            self._kept[task.task_id] = task
            self._schedule(task, timeout * HEARTBEAT_SHARE)

    def release(self, task: PolledTask) -> None:
        """Stop keeping a task's lease: the server has its result, or it was given back."""
        self._kept.pop(task.task_id, None)
        self._trouble.forget(task.task_id)
        # An entry holds the whole task, and would hold it for hours if the response timeout is long.
        if len(self._due) > _STALE_ENTRIES + 2 * len(self._kept):
            self._due = [entry for entry in self._due if self._kept.get(entry[2].task_id) is entry[2]]
            heapq.heapify(self._due)

    @property
    def kept(self) -> int:
        """How many leases are kept."""
        return len(self._kept)

    async def run(self) -> None:
        """Send heartbeats until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            while self._due and self._due[0][0] <= loop.time():
                _, _, task = heapq.heappop(self._due)
                if self._kept.get(task.task_id) is task:
                    beat = loop.create_task(self._beat(task))
                    self._beats.add(beat)
                    beat.add_done_callback(self._beats.discard)
            self._changed.clear()
            try:
                async with asyncio.timeout_at(self._due[0][0] if self._due else None):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _beat(self, task: PolledTask) -> None:
        timeout = task.head.response_timeout_seconds
        problem: str | None = None
        pause = timeout * HEARTBEAT_SHARE
        try:
            async with asyncio.timeout(max(timeout * _ANSWER_SHARE, _SHORTEST)):
                await self._client.extend_lease(task.task_id, task.workflow_id)
        except (PodiumError, TimeoutError) as error:
            problem = str(error) or "no answer in time"
            pause = max(timeout * _REPEAT_SHARE, _SHORTEST)
        if self._kept.get(task.task_id) is task:
            if problem is None:
                self._trouble.worked(task.task_id)
            else:
                self._trouble.failed(task.task_id, problem)
            self._schedule(task, pause)

    def _schedule(self, task: PolledTask, seconds: float) -> None:
        due = asyncio.get_running_loop().time() + seconds
        heapq.heappush(self._due, (due, next(self._counter), task))
        if self._due[0][0] == due:
            self._changed.set()
