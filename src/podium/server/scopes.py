"""What ``${...}`` expressions can see of an execution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET

if TYPE_CHECKING:
    from podium.server.expressions import Scope
    from podium.server.state import Run, TaskState


def scope_of(run: Run, task_id: str | None = None) -> Scope:
    """Return the scope of an execution; ``task_id`` is the task whose input is being made, if any."""

    def look_up(root: str) -> Any:
        if root == "workflow":
            return _workflow(run)
        if root == "CPEWF_TASK_ID":
            return task_id
        attempt = run.latest.get(root)
        return None if attempt is None else _task(attempt)

    return look_up


def _workflow(run: Run) -> dict[str, Any]:
    workflow = run.workflow
    return {
        "input": workflow.input,
        "output": workflow.output,
        "status": workflow.status,
        "workflowId": workflow.workflow_id,
        "workflowType": workflow.workflow_name,
        "version": workflow.workflow_version,
        "correlationId": _given(workflow.correlation_id),
        "parentWorkflowId": _given(workflow.parent_workflow_id),
        "parentWorkflowTaskId": _given(workflow.parent_workflow_task_id),
        "reasonForIncompletion": _given(workflow.reason_for_incompletion),
        "schemaVersion": run.blueprint.definition.schema_version,
        "variables": workflow.variables,
    }


def _task(attempt: TaskState) -> dict[str, Any]:
    return {
        "input": attempt.input_data,
        "output": attempt.output_data,
        "status": attempt.status,
        "taskType": attempt.task_type,
        "taskDefName": attempt.task_def_name,
        "referenceTaskName": attempt.reference_task_name,
        "taskId": attempt.task_id,
        "retryCount": attempt.retry_count,
        "pollCount": attempt.poll_count,
        "iteration": attempt.iteration,
        "workerId": _given(attempt.worker_id),
        "scheduledTime": attempt.scheduled_time,
        "startTime": attempt.start_time,
        "endTime": attempt.end_time,
        "callbackAfterSeconds": attempt.callback_after_seconds,
        "correlationId": _given(attempt.correlation_id),
        "reasonForIncompletion": _given(attempt.reason_for_incompletion),
        "workflowInstanceId": attempt.workflow_instance_id,
    }


def _given(value: Any) -> Any:
    return None if value is UNSET else value
