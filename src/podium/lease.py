"""Lease heartbeats: while a task is in our hands, its response timeout must not run out."""

from __future__ import annotations

import asyncio
import logging
import math
from functools import partial
from typing import TYPE_CHECKING, Final

from podium.errors import PodiumError
from podium.trouble import SharedTrouble

if TYPE_CHECKING:
    from podium.client import AsyncClient
    from podium.polled import PolledTask
    from podium.schedule import Entry, Schedule

logger = logging.getLogger(__name__)

#: Share of the response timeout between two heartbeats: early enough that one may fail and be repeated.
HEARTBEAT_SHARE: Final = 0.4
#: How long a heartbeat's answer is awaited: one that is swallowed must not cost the lease.
_ANSWER_SHARE: Final = 0.2
#: A failed heartbeat is repeated after this share of the response timeout.
_REPEAT_SHARE: Final = 0.1
#: Neither of the two is shorter than this many seconds.
_SHORTEST: Final = 0.5


class _Lease:
    """A lease that is kept: the next heartbeat, and the time of the last."""

    __slots__ = ("beat", "ended", "task", "until")

    def __init__(self, task: PolledTask, until: float) -> None:
        self.task = task
        self.until = until
        #: None while a heartbeat is under way, and after the last.
        self.beat: Entry | None = None
        #: Whether there are no more heartbeats, because the time was up.
        self.ended = False


class LeaseKeeper:
    """Sends the heartbeats of all kept tasks; its schedule must be running."""

    def __init__(self, client: AsyncClient, schedule: Schedule) -> None:
        self._client = client
        self._schedule = schedule
        self._kept: dict[str, _Lease] = {}
        self._trouble = SharedTrouble(
            logger, "heartbeat of task %s failed, it will be repeated: %s", "heartbeats work again"
        )

    def keep(self, task: PolledTask, longest: float | None = None) -> None:
        """Keep the lease of a task from now until ``release``; without a response timeout there is none to keep.

        After ``longest`` seconds (None = no limit) there are no more heartbeats unless ``lift_limit`` comes first.
        """
        timeout = task.head.response_timeout_seconds
        if timeout <= 0:
            return
        lease = self._kept.get(task.task_id)
        if lease is not None and lease.task is task:
            if longest is None:
                self.lift_limit(task)
            return
        self._drop(task.task_id)
        until = math.inf if longest is None else asyncio.get_running_loop().time() + longest
        lease = self._kept[task.task_id] = _Lease(task, until)
        self._plan_beat(lease, timeout * HEARTBEAT_SHARE)

    def lift_limit(self, task: PolledTask) -> None:
        """Keep a task's lease as long as it takes, from now on: its code has ended, and only its result waits."""
        lease = self._kept.get(task.task_id)
        if lease is not None:
            lease.until = math.inf
            if lease.ended:
                lease.ended = False
                self._plan_beat(lease, 0.0)

    def release(self, task: PolledTask) -> None:
        """Stop keeping a task's lease: the server has its result, it was given back, or nobody wants it."""
        lease = self._kept.get(task.task_id)
        if lease is not None and lease.task is task:  # it may have been handed out again, and be kept anew
            self._drop(task.task_id)

    def _drop(self, task_id: str) -> None:
        lease = self._kept.pop(task_id, None)
        if lease is not None:
            self._trouble.forget(task_id)
            if lease.beat is not None:
                lease.beat.drop()

    @property
    def kept(self) -> int:
        """How many leases are kept."""
        return len(self._kept)

    def _plan_beat(self, lease: _Lease, seconds: float) -> None:
        lease.beat = self._schedule.after(seconds, partial(self._beat, lease))

    async def _beat(self, lease: _Lease) -> None:
        task, lease.beat = lease.task, None
        timeout = task.head.response_timeout_seconds
        if asyncio.get_running_loop().time() >= lease.until:
            lease.ended = True
            logger.error(
                "task %s of workflow %s still runs after max_lease_seconds: its lease is kept no longer, and the "
                "server takes it back after its response timeout", task.task_id, task.workflow_id,
            )  # fmt: skip
            return
        problem: str | None = None
        pause = timeout * HEARTBEAT_SHARE
        try:
            async with asyncio.timeout(max(timeout * _ANSWER_SHARE, _SHORTEST)):
                await self._client.extend_lease(task.task_id, task.workflow_id)
        except (PodiumError, TimeoutError) as error:
            problem = str(error) or "no answer in time"
            pause = max(timeout * _REPEAT_SHARE, _SHORTEST)
        if self._kept.get(task.task_id) is lease:
            if problem is None:
                self._trouble.worked(task.task_id)
            else:
                self._trouble.failed(task.task_id, problem)
            self._plan_beat(lease, pause)
