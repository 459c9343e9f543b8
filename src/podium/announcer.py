"""What listeners hear of results: that the server has one, or that it was not delivered."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from podium.events import TaskUpdateCompleted, TaskUpdateFailure
from podium.models import TaskResult
from podium.spoolfile import UnreadableSpoolError

if TYPE_CHECKING:
    from podium.errors import PodiumError
    from podium.events import EventDispatcher
    from podium.outbox import Outbox
    from podium.polled import PolledTask
    from podium.waiting import Waiting


logger = logging.getLogger("podium.delivery")


class Announcer:
    """Publishes the events about results; what nobody hears is not made."""

    def __init__(self, events: EventDispatcher, outbox: Outbox) -> None:
        self._events = events
        self._outbox = outbox
        self._telling: set[asyncio.Task[None]] = set()

    def delivered(self, task_type: str, worker_id: str, task: PolledTask, begun: float) -> None:
        """Say that the server took a result; ``begun`` is the loop's time when it was to be sent first."""
        if self._events.has_listeners(TaskUpdateCompleted):
            self._events.publish(
                TaskUpdateCompleted(
                    task_type=task_type, task_id=task.task_id, worker_id=worker_id,
                    workflow_instance_id=task.workflow_id,
                    duration_ms=(asyncio.get_running_loop().time() - begun) * 1000,
                )
            )  # fmt: skip

    def not_delivered(self, entry: Waiting, body: bytes, cause: PodiumError) -> None:
        """Say that a result was not delivered, and hand it over."""
        if self._events.has_listeners(TaskUpdateFailure):
            self._events.publish(
                TaskUpdateFailure(
                    task_type=entry.task_type, task_id=entry.task.task_id, worker_id=entry.worker_id,
                    workflow_instance_id=entry.task.workflow_id, cause=cause, retry_count=entry.attempts,
                    task_result=msgspec.json.decode(body, type=TaskResult),
                )
            )  # fmt: skip

    def not_delivered_yet(self, entry: Waiting) -> None:
        """Say the same of a result that goes on waiting, soon: it may have to be read from disk."""
        if not self._events.has_listeners(TaskUpdateFailure):
            return

        async def tell() -> None:
            try:
                body = await self._outbox.body_of(entry)
            except UnreadableSpoolError as error:
                logger.error("listeners do not hear of task %s: %s", entry.task.task_id, error)  # noqa: TRY400
                return
            if body is not None:
                self.not_delivered(entry, body, entry.problem)

        telling = asyncio.get_running_loop().create_task(tell())
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    async def flush(self) -> None:
        """Return when all has been said."""
        for telling in list(self._telling):
            await telling
