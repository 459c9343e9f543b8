"""THE loop of one worker: take free slots, poll for that many tasks, start each; report, and take the next.

The runner knows neither where functions run (its crew does), nor how results reach the server (delivery does).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from podium.announcer import WorkerAnnouncer
from podium.answers import ANSWER_GRACE, LOGIN_LIMIT, MAX_MESSAGE, printable
from podium.backoff import Backoff, in_step
from podium.errors import PodiumError, TaskFailedError
from podium.events import (
    EventDispatcher,
    PollCompleted,
    PollFailure,
    PollStarted,
    TaskCancelled,
    TaskExecutionFailure,
    TaskGivenBack,
    TaskPaused,
)
from podium.frames import Cause, Outcome
from podium.hands import Hands
from podium.logs import Repeats
from podium.models import LARGE_OUTPUT, MAX_OUTPUT, TaskResultStatus
from podium.oversight import UnwantedError
from podium.polled import Abandoned, Interrupted, PolledTask, UnreadableTaskError, failure, ids_of, read_task
from podium.records import TASK_FIELDS
from podium.trouble import FAILURE_BACKOFF, Trouble
from podium.waiting import Watch

if TYPE_CHECKING:
    from podium.client import AsyncClient
    from podium.delivery import Delivery
    from podium.oversight import Crew, Oversight
    from podium.registry import Worker

logger = logging.getLogger(__name__)
#: Failures of the user's functions: a logger of their own, because they say nothing about podium's health.
task_logger = logging.getLogger("podium.tasks")

#: Seconds that a poll may take beyond two long polls: a refused token is renewed, and the poll sent once more.
LONGEST_ANSWER: Final = 2 * (ANSWER_GRACE + LOGIN_LIMIT)
_WENT_WELL: Final = frozenset({TaskResultStatus.COMPLETED, TaskResultStatus.IN_PROGRESS})
#: A worker whose slots stay busy for this many poll intervals says so, once.
CAPACITY_SKIPS: Final = 100


class Runner:
    """Polls for one worker and sees each of its tasks through to the server's acknowledgement."""

    def __init__(
        self,
        worker: Worker,
        worker_id: str,
        slots: int,
        crew: Crew,
        place: int,
        *,
        client: AsyncClient,
        delivery: Delivery,
        oversight: Oversight,
        events: EventDispatcher,
        watch: Watch | None = None,
    ) -> None:
        self.worker = worker
        self.worker_id = worker_id
        self.slots = slots
        self.paused = worker.options.paused
        self._task_type = worker.task_definition_name
        self._crew = crew
        #: The worker's index in its crew.
        self._place = place
        self._client = client
        self._delivery = delivery
        self._leases = oversight.leases
        self._oversight = oversight
        self._announcer = WorkerAnnouncer(events, watch or Watch(), self._task_type, worker_id)
        interval = worker.options.poll_interval / 1000
        self._idle_backoff = Backoff(min(0.001, interval), interval)
        self._empty_polls = 0
        #: How many tasks in a row could not be read.
        self._unreadable = 0
        self._repeats = Repeats()
        self._next_poll = 0.0
        self._trouble = Trouble(self._task_type)
        self._full_since: float | None = None
        #: Whether the queue had at least as many tasks as were asked for last.
        self._backlog = False
        #: Whether no further poll starts.
        self.stopping = False
        self._wake = asyncio.Event()
        self._said_large = False
        self._hands = Hands(worker, delivery, oversight.leases)
        self._waiting: deque[PolledTask] = deque()
        self._works: set[asyncio.Task[None]] = set()
        #: Monotonic time of the last answered poll; 0 before the first.
        self.last_poll = 0.0
        #: Monotonic time since which polls are answered without a task; 0 while they bring some, fail, or rest.
        self.idle_since = 0.0
        #: Monotonic time until which there was no need to poll.
        self._excused_until = 0.0
        #: Monotonic time by which the loop must have gone on; each wait sets its own.
        self._due = math.inf

    @property
    def overdue(self) -> float:
        """For how many seconds the loop should have gone on and has not; 0 or less if all is well."""
        return time.monotonic() - self._due

    @property
    def poll_failure(self) -> str | None:
        """Why the last poll failed; None if it did not."""
        return self._trouble.text

    @property
    def refused(self) -> bool:
        """Whether the last poll failed because the server refused the credentials."""
        return self._trouble.refused

    @property
    def poll_window(self) -> float:
        """Seconds within which a poll is answered, one that fails and its repetition included."""
        options = self.worker.options
        return (options.poll_interval + options.poll_timeout) / 1000 + ANSWER_GRACE + FAILURE_BACKOFF.cap

    @property
    def deaf_for(self) -> float:
        """Seconds since a poll was answered, or since there was no need for one; infinite before the first."""
        heard = max(self.last_poll, self._excused_until)
        return time.monotonic() - heard if heard else math.inf

    @property
    def running(self) -> int:
        """How many slots are taken: by tasks that execute, or whose result is on its way, or by stuck code."""
        return len(self._hands) - len(self._waiting) + self._crew.stuck(self._place)

    @property
    def free(self) -> int:
        """How many more tasks could start now: none while the crew is down."""
        return min(self.slots - self.running, self._crew.free(self._place))

    @property
    def held(self) -> int:
        """How many tasks have not come to their end, those included that cannot be read and are being failed."""
        return len(self._works) + len(self._waiting)

    @property
    def task_ids(self) -> list[str]:
        """The ids of the tasks in hand, also of those that wait for a slot."""
        return list(self._hands.ids)

    @property
    def works(self) -> set[asyncio.Task[None]]:
        """The asyncio tasks that see the tasks in hand through."""
        return self._works

    def wake(self) -> None:
        """Look again at what can be done: a slot came free, or the crew changed."""
        self._wake.set()

    def set_paused(self, paused: bool) -> None:
        """Stop or resume polling and chaining; running tasks are not touched."""
        if paused != self.paused:
            logger.info("worker %r %s", self._task_type, "is paused" if paused else "goes on")
        if paused and not self.paused:
            self._announcer.say(TaskPaused)
        self.paused = paused
        self._wake.set()

    def stop(self) -> None:
        """Ask ``run`` to end: no further poll starts. An open one is awaited, because its tasks are ours already."""
        self.stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Poll until stopped."""
        if self.paused:
            self._announcer.say(TaskPaused)
        while not self.stopping:
            free = self.free
            if self._waiting and free > 0:
                self._start_work(self._work(self._waiting.popleft()))
            elif self.paused or self.running >= self.slots:
                await (self._pause(None) if self.paused else self._wait_for_slot())
                self._excused_until, self.idle_since = time.monotonic(), 0.0
            elif free <= 0:  # the crew is down; it says so itself, and wakes us when it is back
                await self._pause(None)
            elif (pause := self._next_poll - time.monotonic()) > 0:
                await self._pause(pause)
            else:
                self._full_since = None
                await self._poll(free)
        self._due = math.inf
        while self._waiting:
            self._start_work(self._give_back(self._waiting.popleft()))

    async def _pause(self, seconds: float | None) -> bool:
        """Wait to be woken, at most so long; return whether it happened."""
        self._wake.clear()
        self._due = math.inf if seconds is None else time.monotonic() + seconds
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return False
        finally:
            self._due = time.monotonic()
        return True

    async def _wait_for_slot(self) -> None:
        now = time.monotonic()
        if self._full_since is None:
            self._full_since = now
        interval = max(self.worker.options.poll_interval / 1000, 0.01)
        until_warning = self._full_since + CAPACITY_SKIPS * interval - now
        if until_warning <= 0:  # it was said
            await self._pause(None)
        elif not await self._pause(until_warning) and (often := self._repeats.due("capacity")) is not None:
            logger.warning(
                "worker %r is at capacity: %d of %d slots are busy, %d polls were skipped in %.1f s%s",
                self._task_type, self.running, self.slots, CAPACITY_SKIPS, CAPACITY_SKIPS * interval, often,
            )  # fmt: skip

    async def _poll(self, count: int) -> None:
        options = self.worker.options
        self._announcer.say(PollStarted, worker_id=self.worker_id, poll_count=count)
        begun = time.monotonic()
        self._due = begun + 2 * options.poll_timeout / 1000 + LONGEST_ANSWER
        try:
            raw_tasks = await self._client.poll_tasks(
                self._task_type,
                worker_id=self.worker_id,
                domain=options.domain,
                count=count,
                timeout_ms=options.poll_timeout,
            )
        except PodiumError as error:
            now = time.monotonic()
            self._next_poll = now + self._trouble.delay_after(error)
            self.idle_since = 0.0
            self._announcer.say(PollFailure, duration_ms=(now - begun) * 1000, cause=error)
            return
        self._trouble.over()
        self.last_poll = now = time.monotonic()
        self._announcer.say(PollCompleted, duration_ms=(now - begun) * 1000, tasks_received=len(raw_tasks))
        self._backlog = len(raw_tasks) >= count
        self._empty_polls = 0 if raw_tasks else self._empty_polls + 1
        self.idle_since = 0.0 if raw_tasks else self.idle_since or now
        tasks = [task for raw in raw_tasks if (task := self._accept(raw)) is not None]
        pause = max(self._idle_backoff.delay(self._empty_polls), FAILURE_BACKOFF.delay(self._unreadable))
        self._next_poll = in_step(now, pause)
        # Inside one answer the server's order means nothing. More tasks than asked for wait here for a slot.
        self._waiting.extend(sorted(tasks, key=lambda task: -task.head.workflow_priority))

    def _accept(self, raw: bytes) -> PolledTask | None:
        """Take a task into our hands; None if it cannot be read or is in hand already."""
        try:
            task = read_task(raw)
        except UnreadableTaskError as error:
            self._unreadable += 1
            if (repeated := self._repeats.due(error.problem)) is not None:
                logger.error("worker %r: %s%s", self._task_type, error, repeated)  # noqa: TRY400 - it says it all
            if error.ids is not None:
                cause = Cause("UnreadableTask", str(error))
                outcome = failure(error.ids, 0, self.worker_id, cause, terminal=True)
                self._start_work(self._report_unreadable(PolledTask.of(error.ids), outcome))
            return None
        self._unreadable = 0
        return self._hands.take(task)

    def _start_work(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._works.add(task)
        task.add_done_callback(self._on_work_done)

    def _on_work_done(self, work: asyncio.Task[None]) -> None:
        self._works.discard(work)
        self._wake.set()
        if not work.cancelled() and (error := work.exception()) is not None:
            self._delivery.endings.lost += 1
            logger.error("worker %r: a task was left behind by an error of podium", self._task_type, exc_info=error)

    async def _work(self, first: PolledTask) -> None:
        """Execute and report a task, and go on with the one that the server hands out in return."""
        task: PolledTask | None = first
        while task is not None:
            raw = None
            try:
                self._announcer.started(task)
                outcome = await self._oversight.run(self._crew, self._place, task, self.worker.options, self.worker_id)
                outcome = self._executed(task, outcome)
                want_next = self._wants_next(outcome)
                if outcome.status is TaskResultStatus.IN_PROGRESS:
                    self._hands.going_back(task)
                raw = await self._delivery.report(self._task_type, self.worker_id, task, outcome, want_next=want_next)
                if want_next and raw is None:
                    self._backlog = False
            except UnwantedError as end:
                self._delivery.endings.finished += 1
                self._announcer.say_of(task, TaskCancelled, status=end.status, duration_ms=end.seconds * 1000)
                logger.info("task %s (%s) was %s: its result is dropped", task.task_id, self._task_type, end.status)
            except Interrupted:
                self._announcer.say_of(task, TaskGivenBack)
                self._hands.going_back(task)
                await self._delivery.give_back(task, self.worker_id)
                logger.info("task %s (%s) was stopped and given back", task.task_id, self._task_type)
            except Abandoned:
                self._delivery.endings.abandoned += 1
                logger.error(  # noqa: TRY400 - nothing failed, it is only too late
                    "task %s (%s) cannot be stopped and is left behind; the server takes it back after its response "
                    "timeout", task.task_id, self._task_type,
                )  # fmt: skip
            finally:
                if self._full_since is not None:  # until now there was no need to poll
                    self._excused_until = time.monotonic()
                task = self._hands.let_go(task)
            if raw is not None:
                task = self._accept(raw)
            if task is not None and self.stopping:
                await self._give_back(task)
                return

    def _wants_next(self, outcome: Outcome) -> bool:
        """Whether the update may bring the next task: it costs 100 ms on a real server when the queue is empty."""
        return (
            self._backlog
            and not (self._waiting or self.paused or self.stopping)
            and outcome.status is not TaskResultStatus.IN_PROGRESS
            and self._crew.free(self._place) > 0  # code that was left behind keeps its place
        )

    def _executed(self, task: PolledTask, outcome: Outcome) -> Outcome:
        """Say how an execution went, and return what is to be reported of it."""
        self._leases.lift_limit(task)
        if not outcome.body:
            outcome = self._worded(task, outcome)
        if outcome.status in _WENT_WELL:
            size = outcome.output_size
            if size > LARGE_OUTPUT and not self._said_large:
                self._said_large = True
                logger.warning(
                    "worker %r: an output of %.1f MB; the server stores what is over %d MB outside of its database, "
                    "and fails a task with more than %d MB",
                    self._task_type, size / 2**20, LARGE_OUTPUT >> 20, MAX_OUTPUT >> 20,
                )  # fmt: skip
            self._announcer.completed(task, outcome)
        else:
            cause = outcome.cause or Cause(outcome.status, "the function returned this state")
            fields = (task.task_id, task.workflow_id, self._task_type, task.head.retry_count)
            task_logger.warning(
                "task %s (workflow %s, %s, retry %d) failed: %s: %s",
                *fields, printable(cause.type_name), printable(cause.message, MAX_MESSAGE),
                extra=dict(zip(TASK_FIELDS, fields, strict=True)),
            )  # fmt: skip
            error = TaskFailedError(cause.type_name, cause.message, cause.traceback)
            duration = outcome.duration * 1000
            self._announcer.say_of(task, TaskExecutionFailure, outcome, duration_ms=duration, cause=error)
        return outcome

    def _worded(self, task: PolledTask, outcome: Outcome) -> Outcome:
        """Return the failure of an attempt that could not read its task, and so could not report on it."""
        terminal = outcome.status is TaskResultStatus.FAILED_WITH_TERMINAL_ERROR
        assert outcome.cause is not None
        return failure(
            ids_of(task), outcome.key, self.worker_id, outcome.cause, terminal=terminal, started=outcome.started
        )

    async def _report_unreadable(self, task: PolledTask, outcome: Outcome) -> None:
        await self._delivery.report(self._task_type, self.worker_id, task, outcome, want_next=False)

    async def _give_back(self, task: PolledTask | None) -> None:
        """Put a task that never started back into its queue, again if an open poll takes it out meanwhile."""
        while task is not None:
            self._hands.going_back(task)
            try:
                await self._delivery.give_back(task, self.worker_id)
            finally:
                task = self._hands.let_go(task)
