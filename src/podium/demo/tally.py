"""The numbers of a run, counted twice: from the events that a listener hears, and from the server's records."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from podium.events import TaskExecutionCompleted, TaskExecutionFailure
    from podium.models import Workflow


@dataclass
class Counts:
    """What happened to the tasks of one definition."""

    #: Of the function: a long-running task counts more than once.
    calls: int = 0
    failures: int = 0
    #: Attempts after the first one.
    retries: int = 0

    def __str__(self) -> str:
        return f"{self.calls} calls, {self.failures} failures, {self.retries} retries"


@dataclass
class Numbers:
    """One side's view of a run, by task definition; the times are in milliseconds."""

    counts: dict[str, Counts] = field(default_factory=lambda: defaultdict(Counts))
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True)
class _Execution:
    task_type: str
    workflow_id: str
    task_id: str
    duration_ms: float
    failed: bool


class EventTally:
    """An event listener that remembers each execution."""

    def __init__(self) -> None:
        self._executions: list[_Execution] = []

    @property
    def heard(self) -> int:
        """How many executions have ended so far."""
        return len(self._executions)

    def on_task_execution_completed(self, event: TaskExecutionCompleted) -> None:
        """Remember a call that returned."""
        self._remember(event, failed=False)

    def on_task_execution_failure(self, event: TaskExecutionFailure) -> None:
        """Remember a call that failed."""
        self._remember(event, failed=True)

    def _remember(self, event: TaskExecutionCompleted | TaskExecutionFailure, *, failed: bool) -> None:
        self._executions.append(
            _Execution(event.task_type, event.workflow_instance_id, event.task_id, event.duration_ms, failed)
        )

    def numbers(self, workflow_ids: Collection[str]) -> Numbers:
        """Return the numbers of these workflows, with execution times. Others may come from an earlier run."""
        numbers = Numbers()
        attempts: Counter[tuple[str, str]] = Counter()
        seen: set[str] = set()
        for execution in self._executions:
            if execution.workflow_id not in workflow_ids:
                continue
            counts = numbers.counts[execution.task_type]
            counts.calls += 1
            counts.failures += execution.failed
            numbers.times[execution.task_type].append(execution.duration_ms)
            if execution.task_id not in seen:
                seen.add(execution.task_id)
                attempts[execution.task_type, execution.workflow_id] += 1
        for (task_type, _), tried in attempts.items():
            numbers.counts[task_type].retries += tried - 1
        return numbers


def recorded_numbers(workflows: Iterable[Workflow], task_types: Collection[str]) -> Numbers:
    """Return the numbers that the server's records show, with times in the queue: retry delays are not part of them."""
    numbers = Numbers()
    for workflow in workflows:
        for task in workflow.tasks:
            if task.task_type not in task_types:
                continue
            counts = numbers.counts[task.task_type]
            counts.calls += task.poll_count
            counts.failures += task.status.startswith("FAILED")
            counts.retries += task.retry_count > 0
            if task.start_time:
                due = task.scheduled_time + task.start_delay_in_seconds * 1000
                numbers.times[task.task_type].append(max(0, task.start_time - due))
    return numbers


def differences(heard: Numbers, recorded: Numbers) -> list[str]:
    """Return a line for each task definition on which the two sides do not agree."""
    return [
        f"{task_type}: heard {heard.counts[task_type]}, recorded {recorded.counts[task_type]}"
        for task_type in sorted({*heard.counts, *recorded.counts})
        if heard.counts[task_type] != recorded.counts[task_type]
    ]


def percentile(values: Collection[float], percent: float) -> float:
    """Return the smallest of the values (at least one) that is not below ``percent`` of them."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]
