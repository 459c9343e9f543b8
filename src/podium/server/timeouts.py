"""Time: how long things may take and how long retries wait.

Pure; the same rules say what is over and when to look again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from podium.server.blueprint import Node
    from podium.server.definitions import TaskDefinition
    from podium.server.state import Run, TaskState

Kind = Literal["response", "attempt", "poll", "total", "wait"]


class Limit(NamedTuple):
    """A moment (epoch ms) after which an open attempt may not stay as it is."""

    due: int
    kind: Kind


def limits(run: Run, attempt: TaskState) -> Iterator[Limit]:
    """Yield the limits of an open attempt."""
    node = run.blueprint.nodes.get(attempt.reference_task_name)
    if node is None:
        return
    if node.is_system:
        if attempt.task_type == "WAIT" and attempt.due:
            yield Limit(attempt.pollable_at, "wait")
        return
    definition = node.definition
    if definition.total_timeout_seconds > 0:
        yield Limit(first_scheduled(run, attempt) + definition.total_timeout_seconds * 1000, "total")
    if attempt.status == "IN_PROGRESS" and definition.response_timeout_seconds > 0:
        yield Limit(attempt.update_time + definition.response_timeout_seconds * 1000, "response")
    if definition.timeout_policy == "ALERT_ONLY":
        return
    if attempt.start_time and definition.timeout_seconds > 0:
        yield Limit(attempt.start_time + definition.timeout_seconds * 1000, "attempt")
    patience = poll_timeout(definition)
    if attempt.status == "SCHEDULED" and patience > 0:
        yield Limit(attempt.pollable_at + patience * 1000, "poll")


def poll_timeout(definition: TaskDefinition) -> int:
    """Return the seconds a task may wait for its poll; 0 = for ever."""
    return definition.poll_timeout_seconds if isinstance(definition.poll_timeout_seconds, int) else 0


def workflow_limit(run: Run) -> int | None:
    """Return when the whole execution times out, in epoch ms."""
    definition = run.blueprint.definition
    if definition.timeout_policy != "TIME_OUT_WF" or definition.timeout_seconds <= 0:
        return None
    return workflow_clock(run) + definition.timeout_seconds * 1000


def workflow_clock(run: Run) -> int:
    """Return the moment from which the workflow's timeout counts."""
    return run.workflow.last_retried_time or run.workflow.create_time


def first_scheduled(run: Run, attempt: TaskState) -> int:
    """Return when the first attempt of the same task was scheduled; a retry of the workflow starts that anew."""
    first = min(
        other.scheduled_time for other in run.attempts if other.reference_task_name == attempt.reference_task_name
    )
    return max(first, run.workflow.last_retried_time)


def next_deadline(run: Run) -> int | None:
    """Return when the execution must be looked at again if nothing happens before, in epoch ms."""
    if run.has_ended():
        return None
    found = (
        []
        if run.workflow.status == "PAUSED"
        else [limit.due for attempt in run.open_attempts() for limit in limits(run, attempt)]
    )
    whole = workflow_limit(run)
    if whole is not None:
        found.append(whole)
    return min(found, default=None)


def retry_delay(node: Node, failed: TaskState, random: Callable[[], float]) -> float:
    """Return the seconds between a failed attempt and the next. ``random`` gives 0 <= x < 1."""
    definition = node.definition
    factor = 1
    if definition.retry_logic == "LINEAR_BACKOFF":
        factor = definition.backoff_scale_factor * (failed.retry_count + 1)
    elif definition.retry_logic == "EXPONENTIAL_BACKOFF":
        factor = 2 ** min(failed.retry_count, 32)  # past any sensible delay; keeps the number small
    delay = definition.retry_delay_seconds * factor
    if definition.max_retry_delay_seconds > 0:
        delay = min(delay, definition.max_retry_delay_seconds)
    return delay + definition.backoff_jitter_ms * random() / 1000
