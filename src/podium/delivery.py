"""Reporting results: which call, how often, and what to do when the server does not take one."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

import msgspec

from podium.backoff import Backoff
from podium.errors import ApiError, AuthError, CutError, NotFoundError, PodiumError
from podium.events import EventDispatcher, TaskUpdateCompleted, TaskUpdateFailure
from podium.frames import Cause
from podium.models import TaskExecLog, TaskResult
from podium.polled import UNKNOWN_TASK, failure, give_back_body, ids_of
from podium.trouble import SharedTrouble

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podium.client import AsyncClient
    from podium.frames import Outcome
    from podium.polled import PolledTask

logger = logging.getLogger(__name__)

#: Seconds before the second, third and fourth attempt to send a result.
UPDATE_RETRY_DELAYS: Final = (10.0, 20.0, 30.0)
#: Seconds of a server's Retry-After that are obeyed.
_LONGEST_WISH: Final = 60.0
#: How long the first attempt waits for its answer: these seconds, and the time that a line of so many bytes a second
#: takes for the body.
_FIRST_ANSWER: Final = 10.0
_SLOW_LINE: Final = 100_000
#: Log lines beyond this many are sent several to a request.
_SINGLE_LOG_LINES: Final = 90
_LINES_PER_REQUEST: Final = 500
#: The server sorts lines by milliseconds: a surplus line must not get the same one as the last line before it.
_LOG_TICK: Final = 0.002


class _UndeliveredError(Exception):
    """An update that the server did not take: the last error, and how often it was sent."""

    def __init__(self, error: PodiumError, attempts: int) -> None:
        super().__init__(error, attempts)
        self.error = error
        self.attempts = attempts


class Delivery:
    """Sends results until the server has them. One for all runners of an engine."""

    def __init__(
        self, client: AsyncClient, events: EventDispatcher, retry_delays: Sequence[float] = UPDATE_RETRY_DELAYS
    ) -> None:
        self._client = client
        self._events = events
        self._retry_delays = tuple(retry_delays)
        #: False once the server has shown that it has no update-v2.
        self._has_v2 = True
        self._hurry = asyncio.Event()
        self._trouble = SharedTrouble(
            logger, "task %s: the server did not take the update, %s", "updates that had failed are taken again"
        )

    def hurry(self) -> None:
        """End the pauses between attempts: the engine is about to stop, and each result gets its last attempt."""
        self._hurry.set()

    async def report(
        self, task_type: str, worker_id: str, task: PolledTask, outcome: Outcome, *, want_next: bool
    ) -> bytes | None:
        """Send a result; return the next task's JSON if ``want_next`` and the server handed one out.

        Does not raise: what cannot be delivered is logged and published as TaskUpdateFailure.
        """
        begun = time.monotonic()
        body = await self._send_surplus_logs(task, outcome)
        try:
            next_task = await self._send(task.task_id, body, want_next=want_next)
        except _UndeliveredError as end:
            await self._on_undelivered(task_type, worker_id, task, body, end)
            return None
        if self._events.has_listeners(TaskUpdateCompleted):
            self._events.publish(
                TaskUpdateCompleted(
                    task_type=task_type, task_id=task.task_id, worker_id=worker_id,
                    workflow_instance_id=task.workflow_id, duration_ms=(time.monotonic() - begun) * 1000,
                )
            )  # fmt: skip
        return next_task

    async def give_back(self, task: PolledTask, worker_id: str) -> None:
        """Put a task back into its queue. Its code must not be running any more: the server will hand it out."""
        try:
            await self._send(task.task_id, give_back_body(task, worker_id), want_next=False)
        except _UndeliveredError as end:
            logger.warning(
                "task %s could not be given back (%s); the server takes it back after its response timeout",
                task.task_id, end.error,
            )  # fmt: skip

    async def _send(self, task_id: str, body: bytes, *, want_next: bool) -> bytes | None:
        """Send an update, again and again if that can help; raises _UndeliveredError."""
        attempts = pauses = 0
        while True:
            attempts += 1
            try:
                if attempts == 1:
                    answer = await self._send_first(body, want_next=want_next)
                else:
                    answer = await self._send_once(body, want_next=want_next and pauses == 0)
                self._trouble.worked(task_id)
                return answer  # noqa: TRY300 - an else would be far from what it belongs to
            except PodiumError as error:
                if isinstance(error, CutError) and attempts == 1:
                    continue  # most often an idle connection that the server had closed: the next is fresh
                if not _may_heal(error) or pauses >= len(self._retry_delays) or self._hurry.is_set():
                    self._trouble.forget(task_id)
                    raise _UndeliveredError(error, attempts) from error
                wish = getattr(error, "retry_after", None) or 0.0
                delay = max(self._retry_delays[pauses], min(wish, _LONGEST_WISH))
                self._trouble.failed(task_id, f"next try in {delay:.0f} s: {error}")
            await self._pause(delay)
            pauses += 1

    async def _pause(self, delay: float) -> None:
        try:
            async with asyncio.timeout(Backoff(delay, delay, jitter=0.2).delay(1)):
                await self._hurry.wait()
        except TimeoutError:
            return

    async def _send_first(self, body: bytes, *, want_next: bool) -> bytes | None:
        """Send an update without much patience: a connection may have died silently, and the slot is held meanwhile.

        A server that is merely slow has the configured request timeout from the second attempt on.
        """
        limit = _FIRST_ANSWER + len(body) / _SLOW_LINE
        try:
            async with asyncio.timeout(limit):
                return await self._send_once(body, want_next=want_next)
        except PodiumError:
            raise
        except TimeoutError:
            raise CutError(f"no answer within {limit:.0f} s") from None

    async def _send_once(self, body: bytes, *, want_next: bool) -> bytes | None:
        if not (want_next and self._has_v2):
            await self._client.post_result(body)
            return None
        try:
            return await self._client.post_result_v2(body)
        except ApiError as error:
            if not _may_lack_endpoint(error):
                raise
            await self._client.post_result(body)  # if the task is what is unknown, this says so
            self._has_v2 = False
            logger.info("the server has no update-v2 (%s): results are sent to POST /tasks from now on", error)
            return None

    async def _on_undelivered(
        self, task_type: str, worker_id: str, task: PolledTask, body: bytes, end: _UndeliveredError
    ) -> None:
        error = end.error
        if _may_heal(error):
            logger.critical(
                "the result of task %s (%s) was not delivered in %d attempts: %s",
                task.task_id, task_type, end.attempts, error,
            )  # fmt: skip
        elif isinstance(error, NotFoundError):
            # The workflow was removed or restarted while the task ran: nobody waits for this result.
            logger.warning("nobody waits for the result of task %s any more: %s", task.task_id, error)
        else:
            await self._fail_refused(worker_id, task, error)
        if self._events.has_listeners(TaskUpdateFailure):
            self._events.publish(
                TaskUpdateFailure(
                    task_type=task_type, task_id=task.task_id, worker_id=worker_id,
                    workflow_instance_id=task.workflow_id, cause=error, retry_count=end.attempts,
                    task_result=msgspec.json.decode(body, type=TaskResult),
                )
            )  # fmt: skip

    async def _fail_refused(self, worker_id: str, task: PolledTask, error: PodiumError) -> None:
        """Fail a task whose result the server will never take, so that it does not wait for its timeout."""
        logger.error("the server refused the result of task %s: %s", task.task_id, error)
        cause = Cause("ResultRefused", f"the server refused the result: {error}")
        small = failure(ids_of(task), 0, worker_id, cause, terminal=True)
        try:
            await self._send(task.task_id, small.body, want_next=False)
        except _UndeliveredError as end:
            logger.error("task %s could not even be failed: %s", task.task_id, end.error)  # noqa: TRY400

    async def _send_surplus_logs(self, task: PolledTask, outcome: Outcome) -> bytes:
        """Send the log lines that the update has no room for, ahead of it; return the update's body.

        They arrive later than the lines of the update were written, so the server's order by time is right, and
        whoever sees the task end sees all its lines. What cannot be sent alone goes into the last line of the update.
        """
        if not outcome.surplus_logs:
            return outcome.body
        lines = [line or " " for line in outcome.surplus_logs]  # the server refuses an empty body
        starts = range(_SINGLE_LOG_LINES, len(lines), _LINES_PER_REQUEST)
        chunks = lines[:_SINGLE_LOG_LINES] + ["\n".join(lines[start : start + _LINES_PER_REQUEST]) for start in starts]
        await asyncio.sleep(_LOG_TICK)
        for number, chunk in enumerate(chunks):
            try:
                await self._client.append_task_log(task.task_id, chunk)
            except PodiumError as error:
                logger.warning("log lines of task %s are sent with its result, together: %s", task.task_id, error)
                return _with_joined_logs(outcome.body, chunks[number:])
        return outcome.body


def _with_joined_logs(body: bytes, rest: list[str]) -> bytes:
    result = msgspec.json.decode(body, type=TaskResult)
    last = result.logs[-1]
    result.logs[-1] = TaskExecLog(log="\n".join([last.log, *rest]), created_time=last.created_time)
    return msgspec.json.encode(result)


def _may_heal(error: PodiumError) -> bool:
    """Whether the same request may be taken later; credentials that are refused now may be accepted then."""
    return isinstance(error, AuthError) or getattr(error, "retryable", False)


def _may_lack_endpoint(error: ApiError) -> bool:
    """Whether it may be update-v2 itself that is missing: a 404 that does not speak of a task, or a 405."""
    return error.status == 405 or (error.status == 404 and not error.message.startswith(UNKNOWN_TASK))
