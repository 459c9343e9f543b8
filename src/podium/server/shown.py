"""Executions and tasks as the API answers them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

if TYPE_CHECKING:
    from podium.server.state import Run, TaskState, WorkflowState

_NO_METADATA: dict[str, Any] = {"additionalContext": {}, "empty": True, "additionalContextMap": {}}


def show_task(run: Run, attempt: TaskState) -> TaskState:
    """Return a task with its node, its definition and the time it waited, and without what is internal."""
    node = run.blueprint.nodes[attempt.reference_task_name]
    waited = attempt.start_time - attempt.scheduled_time if attempt.start_time else 0
    return msgspec.structs.replace(
        attempt,
        due=UNSET,
        workflow_task=node.raw,
        task_definition=node.definition_raw,
        execution_metadata=_NO_METADATA,
        queue_wait_time=max(0, waited),
    )


def show_run(run: Run, *, with_tasks: bool = True) -> WorkflowState:
    """Return an execution with its definition and its tasks."""
    return msgspec.structs.replace(
        run.workflow,
        tasks=[show_task(run, attempt) for attempt in run.attempts] if with_tasks else [],
        workflow_definition=run.blueprint.raw,
    )


def plain(value: Any) -> Any:
    """Return an answer as plain JSON values, including the parts that are encoded already."""
    return msgspec.json.decode(msgspec.json.encode(value))
