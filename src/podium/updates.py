"""One update, sent once: which call it takes, how long its answer is awaited, and what a refusal means."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from podium.alarm import Alarm
from podium.errors import ApiError, AuthError, CutError, NotFoundError, PodiumError, ServerError, SupersededError
from podium.models import TERMINAL_TASK_STATUSES, TaskExecLog, TaskResult, TaskResultStatus
from podium.polled import give_back_body

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from podium.client import AsyncClient
    from podium.frames import Outcome
    from podium.models import TaskState
    from podium.polled import PolledTask
    from podium.waiting import Waiting

logger = logging.getLogger("podium.delivery")

R = TypeVar("R")

#: How long the first attempt waits for its answer: these seconds, and the time that a line of so many bytes a second
#: takes for the body.
FIRST_ANSWER: Final = 10.0
_SLOW_LINE: Final = 100_000
#: Log lines beyond this many are sent several to a request.
_SINGLE_LOG_LINES: Final = 90
_LINES_PER_REQUEST: Final = 500
#: The server sorts lines by milliseconds: a surplus line must not get the same one as the last line before it.
_LOG_TICK: Final = 0.002


class Updates:
    """Sends updates, one attempt each. Every method that sends raises PodiumError if the server did not take it."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        #: False once the server has shown that it has no update-v2.
        self._has_v2 = True
        self._limits = _Limits()
        #: Whether there is no time left for the first attempt to send a result.
        self._over = False

    async def break_off(self, patience: float) -> None:
        """Let no first attempt to send a result go on, or begin: whoever makes one gets CutError."""
        self._over = True
        self._limits.end_all()
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        while self._limits and loop.time() < end:  # noqa: ASYNC110 - once in a life
            await asyncio.sleep(0.001)

    async def _first(self, request: Coroutine[Any, Any, R], seconds: float) -> R:
        """Await a request so many seconds, and not at all after ``break_off``; raises CutError when they are over."""
        if self._over:
            request.close()
            raise CutError("the worker stops")
        loop = asyncio.get_running_loop()
        begun = loop.time()
        task = self._limits.set(begun + seconds, loop)
        try:
            return await request
        except asyncio.CancelledError:
            if not self._limits.ended(task):
                raise
            raise CutError(f"no answer within {loop.time() - begun:.0f} s") from None
        finally:
            self._limits.lift(task)

    def send_first(self, body: bytes, *, want_next: bool) -> Coroutine[Any, Any, bytes | None]:
        """Send an update without much patience: a connection may have died silently, and the slot is held meanwhile.

        A server that is merely slow has the configured request timeout from the second attempt on.
        """
        limit = FIRST_ANSWER + len(body) / _SLOW_LINE
        return self._first(self.send(body, want_next=want_next), limit)

    async def send(self, body: bytes, *, want_next: bool) -> bytes | None:
        """Send an update; return the next task's JSON if ``want_next`` and the server handed one out."""
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

    async def give_back(self, task: PolledTask, worker_id: str) -> None:
        """Put a task back into its queue.

        If the answer is lost, a look tells whether it has arrived: sent again, it would take the task from whoever has
        it by now, and the task would run twice at once.
        """
        try:
            async with asyncio.timeout(FIRST_ANSWER):
                await self._client.post_result(give_back_body(task, worker_id))
        except (PodiumError, TimeoutError) as error:
            problem = error if isinstance(error, PodiumError) else CutError(f"no answer within {FIRST_ANSWER:.0f} s")
            if not (may_have_arrived(problem) and await self.gave_back(task, worker_id)):
                raise problem from None

    async def gave_back(self, task: PolledTask, worker_id: str) -> bool:
        """Whether the server is known to have taken a task back."""
        try:
            async with asyncio.timeout(FIRST_ANSWER):
                state = await self._client.get_task_state(task.task_id)
        except (PodiumError, TimeoutError):
            return False
        return not is_held(state, task.head.poll_count, worker_id)

    async def look(self, entry: Waiting) -> SupersededError | bool | None:
        """Ask the server about a task that it may have given up: it would not say so when the result comes.

        Returns the error if that is so, True if it has this very result already, None if the result is to be sent.
        An interim result that has arrived has put its task back into the queue: sent again, it would take the task from
        whoever has it by now.
        """
        try:
            state = await self._client.get_task_state(entry.task.task_id)
        except ApiError as error:
            if isinstance(error, NotFoundError) and error.means_task:
                return SupersededError(str(error))
            if may_heal(error) and not isinstance(error, AuthError):
                raise
            return None  # whoever may not look may still report
        if state.status not in TERMINAL_TASK_STATUSES:
            is_interim = entry.status == TaskResultStatus.IN_PROGRESS  # a text, if an earlier process has left it
            poll_count = entry.task.head.poll_count
            return True if is_interim and not is_held(state, poll_count, entry.worker_id) else None
        if _is_end_of(state.status, entry.status) and state.worker_id in {entry.worker_id, None}:
            return True
        return SupersededError(f"the task is {state.status}")

    async def send_surplus_logs(self, task_id: str, outcome: Outcome) -> bytes:
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
                await self._first(self._client.append_task_log(task_id, chunk), FIRST_ANSWER)
            except PodiumError as error:
                logger.warning("log lines of task %s are sent with its result, together: %s", task_id, error)
                return _with_joined_logs(outcome.body, chunks[number:])
        return outcome.body


class _Limits:
    """Until when asyncio tasks of the running loop may go on."""

    def __init__(self) -> None:
        #: The time of each task's limit; None when it was passed and the task is told to end.
        self._of: dict[asyncio.Task[Any], float | None] = {}
        self._alarm = Alarm(asyncio.get_running_loop(), self._end_what_is_late)

    def __bool__(self) -> bool:
        """Whether there is a task with a limit."""
        return bool(self._of)

    def set(self, until: float, loop: asyncio.AbstractEventLoop) -> asyncio.Task[Any]:
        """Let the present task of the loop go on until that time of it; return the task."""
        task = asyncio.current_task(loop)
        assert task is not None
        self._of[task] = until
        self._alarm.by(until)
        return task

    def ended(self, task: asyncio.Task[Any]) -> bool:
        """Whether a cancellation of that task comes from its limit, and from nobody else."""
        return self._of[task] is None and task.cancelling() == 1

    def lift(self, task: asyncio.Task[Any]) -> None:
        """Take the limit away."""
        if self._of.pop(task) is None:
            task.uncancel()

    def end_all(self) -> None:
        """Tell all to end."""
        self._end_what_is_late(math.inf)

    def _end_what_is_late(self, now: float) -> float:
        for task, until in self._of.items():
            if until is not None and until <= now:
                self._of[task] = None
                task.cancel()
        return min((until for until in self._of.values() if until is not None), default=math.inf)


def _with_joined_logs(body: bytes, rest: list[str]) -> bytes:
    result = msgspec.json.decode(body, type=TaskResult)
    last = result.logs[-1]
    result.logs[-1] = TaskExecLog(log="\n".join([last.log, *rest]), created_time=last.created_time)
    return msgspec.json.encode(result)


def _is_end_of(status: str, result: str) -> bool:
    """Whether a task may have that status because of such a result: a failure of an optional task counts as success."""
    failed = result in {TaskResultStatus.FAILED, TaskResultStatus.FAILED_WITH_TERMINAL_ERROR}
    return status == result or (failed and status == "COMPLETED_WITH_ERRORS")


def is_held(state: TaskState, poll_count: int, worker_id: str) -> bool:
    """Whether a task is still in the hands that it was handed to, by what the server says.

    The worker may be the same after it was handed out again; the count of that is not.
    """
    counts = {state.poll_count, poll_count}
    same_count = len(counts) == 1 or 0 in counts  # a server, or an older file, may not tell
    return state.status == "IN_PROGRESS" and state.worker_id in {worker_id, None} and same_count


def may_heal(error: PodiumError) -> bool:
    """Whether the same request may be taken later.

    Credentials that are refused now may be accepted then, and a gateway may find its server again.
    """
    astray = isinstance(error, NotFoundError) and not error.means_task
    return astray or isinstance(error, AuthError) or getattr(error, "retryable", False)


def may_have_arrived(error: PodiumError) -> bool:
    """Whether a request that failed so may have done its work: only the answer is missing, or is a gateway's."""
    return getattr(error, "maybe_applied", isinstance(error, ServerError))


def _may_lack_endpoint(error: ApiError) -> bool:
    """Whether it may be update-v2 itself that is missing: a 404 that does not speak of a task, or a 405."""
    return error.status == 405 or (isinstance(error, NotFoundError) and not error.means_task)
