"""Why things ended: the texts of ``reasonForIncompletion``, as the real server words them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from podium.server.timeouts import first_scheduled, poll_timeout, workflow_clock

if TYPE_CHECKING:
    from podium.server.state import Run, TaskState
    from podium.server.timeouts import Kind


def failure_text(attempt: TaskState, status: str) -> str:
    """Return why a workflow ends because of this attempt."""
    reason = attempt.reason_for_incompletion
    return f"Task {attempt.task_id} failed with status: {status} and reason: '{'null' if reason is UNSET else reason}'"


def workflow_timeout_text(run: Run, now: int) -> str:
    """Return why a workflow timed out."""
    return (
        f"Workflow timed out after {(now - workflow_clock(run)) // 1000} seconds. Timeout configured as "
        f"{run.blueprint.definition.timeout_seconds} seconds. Timeout policy configured to TIME_OUT_WF"
    )


def total_spent_text(run: Run, attempt: TaskState, now: int) -> str | None:
    """Return why no attempt may follow this one because the time for all is over, or None."""
    limit = run.blueprint.nodes[attempt.reference_task_name].definition.total_timeout_seconds
    elapsed = now - first_scheduled(run, attempt)
    if limit <= 0 or elapsed < limit * 1000:
        return None
    return (
        f"Task {attempt.task_id}/{attempt.task_def_name} exceeded total timeout of {limit} seconds (elapsed "
        f"{elapsed // 1000} seconds across all attempts). No further retries will be attempted."
    )


def timeout_text(run: Run, attempt: TaskState, kind: Kind, now: int) -> str:
    """Return why an attempt timed out."""
    definition = run.blueprint.nodes[attempt.reference_task_name].definition
    policy = definition.timeout_policy
    match kind:
        case "response":
            return (
                f"responseTimeout: {definition.response_timeout_seconds} exceeded for the taskId: {attempt.task_id} "
                f"with Task Definition: {attempt.task_def_name}"
            )
        case "total":
            elapsed = (now - first_scheduled(run, attempt)) // 1000
            return (
                f"Task {attempt.task_def_name}/{attempt.task_id} exceeded total timeout of "
                f"{definition.total_timeout_seconds} seconds (elapsed {elapsed} seconds across all attempts including "
                f"retry delays). Timeout policy: {policy}"
            )
        case "poll":
            return (
                f"Task poll timed out after {(now - attempt.pollable_at) // 1000} seconds. Poll timeout configured as "
                f"{poll_timeout(definition)} seconds. Timeout policy configured to {policy}"
            )
        case _:
            return (
                f"Task timed out after {(now - attempt.start_time) // 1000} seconds. Timeout configured as "
                f"{definition.timeout_seconds} seconds. Timeout policy configured to {policy}"
            )
