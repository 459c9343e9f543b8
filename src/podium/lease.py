"""Lease heartbeats: while a task is in our hands, its response timeout must not run out."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from typing import TYPE_CHECKING, Final

from podium.errors import PodiumError

if TYPE_CHECKING:
    from podium.client import AsyncClient
    from podium.polled import PolledTask

logger = logging.getLogger(__name__)

#: Share of the response timeout between two heartbeats: early enough that one may fail and be repeated.
HEARTBEAT_SHARE: Final = 0.4
#: A failed heartbeat is repeated after this share of the response timeout, but not faster than every half second.
_REPEAT_SHARE: Final = 0.1
_FASTEST_REPEAT: Final = 0.5


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

    def keep(self, task: PolledTask) -> None:
        """Keep the lease of a task from now until ``release``; without a response timeout there is none to keep."""
        timeout = task.head.response_timeout_seconds
        if timeout > 0:
            self._kept[task.task_id] = task
            self._schedule(task, timeout * HEARTBEAT_SHARE)

    def release(self, task: PolledTask) -> None:
        """Stop keeping a task's lease: the server has its result, or it was given back."""
        self._kept.pop(task.task_id, None)

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
        try:
            await self._client.extend_lease(task.task_id, task.workflow_id)
        except PodiumError as error:
            logger.warning("heartbeat of task %s failed, it will be repeated: %s", task.task_id, error)
            pause = max(timeout * _REPEAT_SHARE, _FASTEST_REPEAT)
        else:
            pause = timeout * HEARTBEAT_SHARE
        if self._kept.get(task.task_id) is task:
            self._schedule(task, pause)

    def _schedule(self, task: PolledTask, seconds: float) -> None:
        due = asyncio.get_running_loop().time() + seconds
        heapq.heappush(self._due, (due, next(self._counter), task))
        if self._due[0][0] == due:
            self._changed.set()
