"""What listeners and meters hear: of a worker's polls and tasks, and of results. What nobody hears is not made."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from podium.events import TaskExecutionCompleted, TaskExecutionStarted, TaskUpdateCompleted, TaskUpdateFailure
from podium.models import TaskResult
from podium.spoolfile import UnreadableSpoolError

if TYPE_CHECKING:
    from podium.errors import PodiumError
    from podium.events import EventDispatcher
    from podium.frames import Outcome
    from podium.outbox import Outbox
    from podium.polled import PolledTask
    from podium.waiting import Waiting, Watch


logger = logging.getLogger("podium.delivery")


class WorkerAnnouncer:
    """Says what happens to the polls and tasks of one worker."""

    def __init__(self, events: EventDispatcher, watch: Watch, task_type: str, worker_id: str) -> None:
        self._events = events
        self._meter = watch.meter(task_type)
        self._task_type = task_type
        self._worker_id = worker_id
        # Asked once, because these two happen to every task.
        self._starts_are_heard = events.has_listeners(TaskExecutionStarted)
        self._ends_are_heard = events.has_listeners(TaskExecutionCompleted)

    def say(self, kind: type[Any], **fields: Any) -> None:
        """Say something of the worker."""
        if self._events.has_listeners(kind):
            self._events.publish(kind(task_type=self._task_type, **fields))

    def say_of(self, task: PolledTask, kind: type[Any], outcome: Outcome | None = None, **fields: Any) -> None:
        """Say something of a task; with an outcome, at the time when its function ended, not when that was heard of."""
        if self._events.has_listeners(kind):
            if outcome is not None:
                fields["timestamp"] = datetime.fromtimestamp(outcome.started + outcome.duration, UTC)
            event = kind(
                task_type=self._task_type,
                task_id=task.task_id,
                worker_id=self._worker_id,
                workflow_instance_id=task.workflow_id,
                **fields,
            )
            self._events.publish(event)

    def started(self, task: PolledTask) -> None:
        """Say that a task is handed to its crew."""
        self._meter.started()
        if self._starts_are_heard:
            self.say_of(task, TaskExecutionStarted)

    def completed(self, task: PolledTask, outcome: Outcome) -> None:
        """Say that a function returned."""
        size = outcome.output_size
        self._meter.completed(outcome.duration, size)
        if self._ends_are_heard:
            duration = outcome.duration * 1000
            self.say_of(task, TaskExecutionCompleted, outcome, duration_ms=duration, output_size_bytes=size)


class Announcer:
    """Says what becomes of results."""

    def __init__(self, events: EventDispatcher, watch: Watch, outbox: Outbox) -> None:
        self._events = events
        self._watch = watch
        self._outbox = outbox
        self._telling: set[asyncio.Task[None]] = set()
        self._deliveries_are_heard = events.has_listeners(TaskUpdateCompleted)

    def delivered(self, task_type: str, worker_id: str, task: PolledTask, seconds: float) -> None:
        """Say that the server took a result, so many seconds after it was to be sent first."""
        self._watch.meter(task_type).delivered(seconds)
        if self._deliveries_are_heard:
            self._events.publish(
                TaskUpdateCompleted(
                    task_type=task_type, task_id=task.task_id, worker_id=worker_id,
                    workflow_instance_id=task.workflow_id, duration_ms=seconds * 1000,
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
