"""The tasks in a worker's hands: each is there once, and its lease is kept as long."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from podium.delivery import Delivery
    from podium.lease import LeaseKeeper
    from podium.polled import PolledTask
    from podium.registry import Worker

logger = logging.getLogger("podium.runner")


class Hands:
    """What a worker has been handed out and has not let go yet."""

    def __init__(self, worker: Worker, delivery: Delivery, leases: LeaseKeeper) -> None:
        self._worker = worker
        self._delivery = delivery
        self._leases = leases
        #: Ids of the tasks: of those that wait for a slot, and of those that have one.
        self.ids: set[str] = set()
        #: Of those, whose update under way lets the server hand them out again; and what it has handed out since.
        self._going_back: dict[str, PolledTask | None] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, task: PolledTask) -> PolledTask | None:
        """Take a task; None if it is in hand already."""
        if task.task_id in self._going_back:  # it is the answer to the update that is late: see ``let_go``
            self._going_back[task.task_id] = task
            return None
        if task.task_id in self.ids or not self._delivery.lets_pass(task.task_id):
            name = self._worker.task_definition_name
            logger.warning("worker %r: task %s was handed out again while in hand", name, task.task_id)
            return None
        self.ids.add(task.task_id)
        if self._worker.options.lease_extend_enabled:
            self._leases.keep(task, self._worker.options.max_lease_seconds)
        return task

    def going_back(self, task: PolledTask) -> None:
        """Note that the task's next update puts it back into its queue: from there it may come before the answer."""
        self._going_back[task.task_id] = None

    def let_go(self, task: PolledTask) -> PolledTask | None:
        """Let a task go; return it, taken anew, if the server has handed it out again meanwhile."""
        if not self._delivery.holds(task.task_id):  # its lease is kept until the server has its result
            self._leases.release(task)
        self.ids.remove(task.task_id)
        again = self._going_back.pop(task.task_id, None)
        return None if again is None else self.take(again)
