"""The executions that have not ended, in memory: by id, by task, with their timers and their tasks in the queues."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from podium.server.timeouts import next_deadline

if TYPE_CHECKING:
    from podium.server.queues import Queues
    from podium.server.state import Run, TaskState

logger = logging.getLogger(__name__)

#: Seconds that a timer runs at most: event loops have limits, and the time of day may be set meanwhile.
_LONGEST_TIMER = 3600.0
#: Seconds after which a deadline is looked at again if that failed.
_PAUSE_AFTER_FAULT = 60.0


class Live:
    """Open executions. ``now`` gives epoch ms; ``on_deadline`` is called when one must be evaluated."""

    def __init__(self, queues: Queues, now: Callable[[], int], on_deadline: Callable[[Run], None]) -> None:
        self._queues = queues
        self._now = now
        self._on_deadline = on_deadline
        #: Workflow id -> execution.
        self.runs: dict[str, Run] = {}
        #: Task id -> the execution it belongs to.
        self.owners: dict[str, Run] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        #: Task type -> ids of the tasks that workers have in hand.
        self._busy: defaultdict[str, set[str]] = defaultdict(set)

    def load(self, runs: Iterable[Run]) -> None:
        """Forget everything and take these executions."""
        self.clear()
        for run in runs:
            self.follow(run, changed=run.attempts)

    def clear(self) -> None:
        """Forget everything."""
        for timer in self._timers.values():
            timer.cancel()
        for memory in (self.runs, self.owners, self._timers, self._busy):
            memory.clear()
        self._queues.clear()

    def follow(self, run: Run, *, changed: Iterable[TaskState], removed: Iterable[TaskState] = ()) -> None:
        """Take over what happened to an execution; one that ended is forgotten."""
        for attempt in removed:
            self.owners.pop(attempt.task_id, None)
            self._release(attempt)
        for attempt in changed:
            self.owners[attempt.task_id] = run
            self._place(run, attempt)
        if run.has_ended():
            self._forget(run)
        else:
            if run.id not in self.runs:
                self.runs[run.id] = run
                self.owners.update(dict.fromkeys((attempt.task_id for attempt in run.attempts), run))
            self._arm(run)

    def drop(self, run: Run) -> None:
        """Forget an execution, whatever its state."""
        for attempt in run.attempts:
            self._release(attempt)
        self._forget(run)

    def open_tasks(self) -> Iterable[tuple[Run, TaskState]]:
        """Return the tasks that have not ended."""
        return [(run, attempt) for run in self.runs.values() for attempt in run.open_attempts()]

    def busy_count(self, task_type: str) -> int:
        """Return how many tasks of a type workers have in hand."""
        return len(self._busy.get(task_type, ()))

    def _forget(self, run: Run) -> None:
        self.runs.pop(run.id, None)
        for attempt in run.attempts:
            self.owners.pop(attempt.task_id, None)
        self._disarm(run)

    def _place(self, run: Run, attempt: TaskState) -> None:
        """Put a task where its status says: into its queue, among the busy ones, or nowhere."""
        if run.blueprint.nodes[attempt.reference_task_name].is_system:
            return
        if attempt.status == "IN_PROGRESS":
            self._queues.drop(attempt.task_id)
            self._busy[attempt.task_type].add(attempt.task_id)
            return
        self._release(attempt)
        if attempt.status == "SCHEDULED":
            domain = attempt.domain if isinstance(attempt.domain, str) else None
            self._queues.put((attempt.task_type, domain), attempt)

    def _release(self, attempt: TaskState) -> None:
        self._queues.drop(attempt.task_id)
        busy = self._busy.get(attempt.task_type)
        if busy is not None and attempt.task_id in busy:
            busy.discard(attempt.task_id)
            if not busy:
                del self._busy[attempt.task_type]
            self._queues.wake_type(attempt.task_type)  # a task held back by its limit may go now

    def _arm(self, run: Run) -> None:
        """Set the timer of an execution to its next deadline."""
        self._disarm(run)
        due = next_deadline(run)
        if due is not None:
            delay = min(max(0.001, (due - self._now()) / 1000), _LONGEST_TIMER)
            self._timers[run.id] = asyncio.get_running_loop().call_later(delay, self._ring, run)

    def _disarm(self, run: Run) -> None:
        timer = self._timers.pop(run.id, None)
        if timer is not None:
            timer.cancel()

    def _ring(self, run: Run) -> None:
        due = next_deadline(run)
        if due is None or due > self._now():
            self._arm(run)
            return
        try:
            self._on_deadline(run)
        except Exception:
            logger.exception("evaluating workflow %s at its deadline failed", run.id)
            self._disarm(run)
            loop = asyncio.get_running_loop()
            self._timers[run.id] = loop.call_later(_PAUSE_AFTER_FAULT, self._ring, self.runs.get(run.id, run))
