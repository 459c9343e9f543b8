"""An execution, seen from the engine: is its task still wanted, has its code had its time, and what follows from that.

Nothing that a server answers to a heartbeat or a result tells that a task was cancelled or timed out; only a look at
the task does. So each task that executes for longer is looked at now and then, whether or not its lease is kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from podium import stacks
from podium.bundle import Bundle
from podium.errors import NotFoundError, PodiumError
from podium.frames import Cause
from podium.lease import HEARTBEAT_SHARE, LeaseKeeper
from podium.models import TERMINAL_TASK_STATUSES, Int64
from podium.models.wire import Wire
from podium.polled import UNREADABLE, Abandoned, Interrupted, failure, ids_of, was_cancelled
from podium.schedule import Schedule

if TYPE_CHECKING:
    from podium.client import AsyncClient
    from podium.frames import Outcome
    from podium.options import WorkerOptions
    from podium.polled import PolledTask
    from podium.schedule import Entry

logger = logging.getLogger(__name__)

#: Seconds between two looks at a task: as between heartbeats, but within these bounds.
SHORTEST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
#: Looks at the same time, whatever the number of tasks: results and heartbeats go before them.
_LOOKS_AT_ONCE: Final = 8
#: How long the answer to a look is awaited.
_ANSWER_SECONDS: Final = 10.0
#: How long code that was asked to end may take before it is made to.
PATIENCE: Final = 1.0
#: The state of a task whose workflow was removed or restarted: the server has it no more.
REMOVED: Final = "REMOVED"


class Crew(Protocol):
    """Where tasks are executed: child processes, or this process. Its methods are called on the engine's loop."""

    def free(self, worker: int) -> int:
        """Return how many more tasks of that worker could start now."""

    def stuck(self, worker: int) -> int:
        """Return how many executions of that worker go on although they are Abandoned: they are not free."""

    def run(self, worker: int, task: PolledTask) -> asyncio.Future[Outcome]:
        """Execute a task; the future raises Interrupted if the execution was stopped, Abandoned if it cannot be."""

    def cancel(self, future: asyncio.Future[Outcome]) -> None:
        """Ask an execution to end: its context says so, a coroutine gets CancelledError. The future says how it ends.

        What ends because it was asked to has an outcome that ``was_cancelled``; what never started is Interrupted.
        """

    async def evict(self, future: asyncio.Future[Outcome], why: str) -> str:
        """End an execution by force; return where its code was, as a stack or empty, when the future is done.

        A child process is killed: the future raises Interrupted, and so do those of the other tasks in that child.
        What runs in threads of this process cannot be ended: the future raises Abandoned, and the place is taken until
        the code ends. An execution that ends by itself meanwhile has its outcome. ``why`` is for the log.
        """


class UnwantedError(Exception):
    """A task's execution has ended, and its result is of no use: the server has settled the task in another way."""

    def __init__(self, status: str, seconds: float) -> None:
        super().__init__(status, seconds)
        #: What the server says of the task, such as CANCELED or TIMED_OUT; REMOVED if it knows it no more.
        self.status = status
        #: How long the execution took.
        self.seconds = seconds


class _Definition(Wire):
    """What a polled task says of its definition's own time limit."""

    timeout_seconds: Int64 = 0
    timeout_policy: str = "TIME_OUT_WF"


_definition_decoder = msgspec.json.Decoder(_Definition)


class Limit(Bundle, frozen=True):
    """How long an execution may take, who says so, and whether a retry is wanted when it takes longer."""

    seconds: float
    source: str
    retry: bool


class Execution:
    """One task in its crew."""

    __slots__ = ("begun", "crew", "deadline", "ending", "future", "limit", "look", "options", "task", "unwanted")

    def __init__(self, crew: Crew, place: int, task: PolledTask, options: WorkerOptions, begun: float) -> None:
        self.crew = crew
        self.task = task
        self.options = options
        self.future = crew.run(place, task)
        self.limit = limit_of(task, options.timeout_seconds)
        self.begun = begun
        #: The next look at the task, and the end of its time.
        self.look: Entry | None = None
        self.deadline: Entry | None = None
        #: The state that the server has put the task in without us; empty if it still waits for a result.
        self.unwanted = ""
        #: Set when the limit was passed; has the stack of the code when that has ended, or was abandoned.
        self.ending: asyncio.Future[str] | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.future.done()

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return asyncio.get_running_loop().time() - self.begun

    def close(self) -> None:
        """Plan nothing more for it: it is over."""
        if self.look is not None:
            self.look.drop()
        if self.deadline is not None:
            self.deadline.drop()

    async def end(self, why: str) -> str:
        """Make the code end: ask it first, then use force. Return where it was, if it took force."""
        self.crew.cancel(self.future)
        await asyncio.wait([self.future], timeout=PATIENCE)
        return "" if self.future.done() else await self.crew.evict(self.future, why)


class Oversight:
    """Sees executions through, and keeps the leases of tasks, as long as ``keep`` runs. One for an engine's runners."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._schedule = Schedule()
        self.leases = LeaseKeeper(client, self._schedule)
        self._looks = asyncio.Semaphore(_LOOKS_AT_ONCE)

    async def keep(self) -> None:
        """Do what is due for the tasks in hand, until cancelled."""
        await self._schedule.run()

    async def run(self, crew: Crew, place: int, task: PolledTask, options: WorkerOptions, worker_id: str) -> Outcome:
        """Execute a task and return its outcome, which is a failure if it took too long.

        Raises UnwantedError if nobody waits for the outcome any more, Interrupted and Abandoned as the crew does.
        """
        execution = Execution(crew, place, task, options, self._loop.time())
        self._plan_look(execution)
        if execution.limit is not None:
            execution.deadline = self._schedule.after(execution.limit.seconds, partial(self._enforce, execution))
        outcome: Outcome | None = None
        runs_on = False
        try:
            outcome = await execution.future
        except (Interrupted, Abandoned) as end:
            if not execution.unwanted and execution.ending is None:
                raise
            runs_on = isinstance(end, Abandoned)
        finally:
            execution.close()
        if execution.unwanted:
            raise UnwantedError(execution.unwanted, execution.seconds)
        if execution.ending is not None and (outcome is None or was_cancelled(outcome)):
            stack = await execution.ending
            where = stacks.place_in(stack)
            if outcome is not None and outcome.cause is not None:  # where it was tells the CancelledError
                stack = outcome.cause.traceback
                where = str(stacks.from_traceback(stack).place or "")
            return _timed_out(execution, worker_id, where, stack, runs_on=runs_on)
        assert outcome is not None
        return outcome

    # is the task still wanted

    def _plan_look(self, execution: Execution) -> None:
        timeout = execution.task.head.response_timeout_seconds
        pause = timeout * HEARTBEAT_SHARE
        if timeout <= 0 or pause > LONGEST_PAUSE:
            pause = LONGEST_PAUSE
        elif pause < SHORTEST_PAUSE:
            pause = SHORTEST_PAUSE
        execution.look = self._schedule.after(pause, partial(self._look, execution))

    async def _look(self, execution: Execution) -> None:
        async with self._looks:
            status = "" if execution.over else await self._status_of(execution.task)
        if execution.over or execution.ending is not None:
            return
        if status not in TERMINAL_TASK_STATUSES and status != REMOVED:
            self._plan_look(execution)
            return
        task, execution.unwanted = execution.task, status
        self.leases.release(task)
        logger.info("task %s of workflow %s is not wanted any more, it is %s: its code is told so",
                    task.task_id, task.workflow_id, status)  # fmt: skip
        if execution.options.on_cancel == "kill":
            await execution.end(f"task {task.task_id} was cancelled")
        else:
            execution.crew.cancel(execution.future)

    async def _status_of(self, task: PolledTask) -> str:
        """Return the state of a task; empty if it cannot be told just now, which says nothing of the task."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return (await self._client.get_task_state(task.task_id)).status
        except NotFoundError as error:
            return REMOVED if error.means_task else ""
        except (PodiumError, TimeoutError) as error:
            logger.debug("task %s could not be looked at: %s", task.task_id, error)
            return ""

    # has its code had its time

    async def _enforce(self, execution: Execution) -> None:
        if execution.over:
            return
        assert execution.limit is not None
        execution.ending = self._loop.create_future()
        stack = ""
        try:
            stack = await execution.end(f"task {execution.task.task_id} {_too_long(execution.limit)}")
        finally:
            execution.ending.set_result(stack)


def limit_of(task: PolledTask, stated: float | None) -> Limit | None:
    """Return how long a task may execute: as the worker states (0 = any time), else as the task's definition does.

    A definition whose policy is ALERT_ONLY wants nothing to be ended. One with TIME_OUT_WF wants no retry.
    """
    if stated is not None:
        return Limit(stated, "timeout_seconds", retry=True) if stated > 0 else None
    try:
        definition = _definition_decoder.decode(task.head.task_definition)
    except UNREADABLE:  # it is for information, and may be anything
        return None
    if definition.timeout_seconds <= 0 or definition.timeout_policy == "ALERT_ONLY":
        return None
    source = "timeoutSeconds of the task definition"
    return Limit(definition.timeout_seconds, source, retry=definition.timeout_policy != "TIME_OUT_WF")


def _too_long(limit: Limit) -> str:
    return f"took longer than {limit.seconds:g} s ({limit.source})"


def _timed_out(execution: Execution, worker_id: str, where: str, stack: str, *, runs_on: bool) -> Outcome:
    """Return the failure of an execution that took too long. The stack is in its log."""
    limit = execution.limit
    assert limit is not None
    parts = [_too_long(limit), f"it was in {where}" if where else "", "it cannot be stopped" if runs_on else ""]
    message = "; ".join(filter(None, parts))
    cause = Cause("TaskTimedOut", message, stack)
    return failure(
        ids_of(execution.task), 0, worker_id, cause,
        terminal=not limit.retry, started=time.time() - execution.seconds, details=[stack] if stack else (),
    )  # fmt: skip
