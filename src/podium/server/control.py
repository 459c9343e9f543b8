"""What operators of the system do to executions: pause, resume, retry, restart, rerun, skip. Pure, like the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from podium.server.definitions import Document
from podium.server.problems import Problem
from podium.server.state import Run, TaskState

if TYPE_CHECKING:
    from podium.server.blueprint import Blueprint
    from podium.server.engine import Turn


def terminate(turn: Turn, reason: str | None) -> None:
    """End an execution as TERMINATED; nothing happens to one that has ended unsuccessfully already."""
    if turn.run.workflow.status == "COMPLETED":
        raise Problem(409, "Cannot terminate a COMPLETED workflow.")
    if not turn.run.has_ended():
        turn.terminate(reason)


def pause(turn: Turn) -> None:
    """Stop scheduling; tasks that are queued already are still handed out."""
    workflow = turn.run.workflow
    if turn.run.has_ended():
        raise Problem(409, f"Workflow {_label(turn.run)} has ended, status cannot be updated.")
    workflow.status = "PAUSED"


def resume(turn: Turn) -> None:
    """Go on with a paused execution."""
    workflow = turn.run.workflow
    if workflow.status != "PAUSED":
        raise Problem(
            500,
            f"The workflow {workflow.workflow_id} is not PAUSED so cannot resume. Current status is {workflow.status}",
        )
    workflow.status = "RUNNING"
    turn.evaluate()


def retry(turn: Turn) -> None:
    """Run an unsuccessful execution on from where it failed: a new attempt for each task that did not succeed."""
    run, workflow = turn.run, turn.run.workflow
    if not run.has_ended():
        raise Problem(404, f"Workflow is still running.  status={workflow.status}")
    again = [
        attempt
        for attempt in run.latest.values()
        if attempt.status in {"FAILED", "FAILED_WITH_TERMINAL_ERROR", "TIMED_OUT", "CANCELED"}
    ]
    if not again and workflow.status != "TIMED_OUT":
        raise Problem(
            409, "There are no retryable tasks! Use restart if you want to attempt entire workflow execution again."
        )
    _reopen(turn)
    workflow.last_retried_time = turn.world.now
    for attempt in again:
        node = run.blueprint.nodes[attempt.reference_task_name]
        if attempt.task_type == "JOIN":
            attempt.status, attempt.end_time = "IN_PROGRESS", 0
            turn.touch(attempt)
        elif node.is_system:
            turn.restart_operator(node, attempt)
        else:
            attempt.executed = True
            turn.retry(node, attempt, 0).reason_for_incompletion = UNSET
    turn.evaluate()


def restart(turn: Turn, blueprint: Blueprint) -> None:
    """Start an ended execution over: same id and input, all attempts forgotten."""
    run = turn.run
    _require_ended(run, "restart")
    if run.workflow.status == "COMPLETED" and not run.blueprint.definition.restartable:
        raise Problem(409, f"Workflow: {_label(run)} is non-restartable")
    _start_over(turn, blueprint)


class RerunRequest(Document):
    """From where an execution is to run again; without a task id from the start. Inputs replace what was there."""

    re_run_from_task_id: str | None = None
    task_input: dict[str, Any] | None = None
    workflow_input: dict[str, Any] | None = None
    correlation_id: str | None = None


def rerun(turn: Turn, asked: RerunRequest) -> None:
    """Run an ended execution again from one of its tasks, or from the start."""
    run = turn.run
    _require_ended(run, "rerun")
    task_id = asked.re_run_from_task_id
    attempt = run.find(task_id) if task_id else None
    if task_id and attempt is None:
        raise Problem(400, f"Task {task_id} not found")
    if asked.workflow_input is not None:
        run.workflow.input = asked.workflow_input
    if asked.correlation_id is not None:
        run.workflow.correlation_id = asked.correlation_id
    if attempt is None:
        _start_over(turn, run.blueprint)
        return
    _reopen(turn)
    _forget_outcome(run)
    turn.removed = [other for other in run.attempts if other.seq > attempt.seq]
    run.keep([other for other in run.attempts if other.seq <= attempt.seq])
    node = run.blueprint.nodes[attempt.reference_task_name]
    if node.is_system:
        turn.removed.append(attempt)
        run.keep([other for other in run.attempts if other is not attempt])
    else:
        _again(turn, attempt, turn.input_of(node, attempt.task_id) if asked.task_input is None else asked.task_input)
    turn.evaluate()


def skip(turn: Turn, reference: str, task_input: dict[str, Any], task_output: dict[str, Any]) -> None:
    """Mark a task that has not started as SKIPPED."""
    run, workflow = turn.run, turn.run.workflow
    if workflow.status != "RUNNING":
        raise Problem(
            500,
            f"The workflow {workflow.workflow_id} is not running so the task referenced by {reference} cannot be "
            "skipped",
        )
    node = run.blueprint.nodes.get(reference)
    if node is None:
        raise Problem(
            500,
            f"The task referenced by {reference} does not exist in the WorkflowDefinition {workflow.workflow_name}",
        )
    if reference in run.latest:
        raise Problem(500, f"The task referenced {reference} has already been processed, cannot be skipped")
    now = turn.world.now
    skipped = TaskState(
        task_type=node.task_type,
        task_def_name=node.spec.name,
        status="SKIPPED",
        input_data=task_input,
        output_data=task_output,
        reference_task_name=reference,
        scheduled_time=now,
        end_time=now,
        workflow_instance_id=workflow.workflow_id,
        workflow_type=workflow.workflow_name,
        workflow_priority=workflow.priority,
        correlation_id=workflow.correlation_id,
        task_id=turn.world.new_id(),
    )
    run.keep([skipped, *run.attempts])
    turn.touch(skipped)
    turn.evaluate()


def _again(turn: Turn, attempt: TaskState, input_data: dict[str, Any]) -> None:
    now = turn.world.now
    attempt.status, attempt.input_data, attempt.output_data = "SCHEDULED", input_data, {}
    attempt.scheduled_time = attempt.due = attempt.update_time = now
    attempt.start_time = attempt.end_time = attempt.poll_count = attempt.callback_after_seconds = 0
    attempt.retried = attempt.executed = False
    attempt.reason_for_incompletion = UNSET
    turn.touch(attempt)


def _start_over(turn: Turn, blueprint: Blueprint) -> None:
    run = turn.run
    _reopen(turn)
    turn.removed = run.attempts
    run.keep([])
    run.blueprint = blueprint
    workflow = run.workflow
    workflow.variables = blueprint.definition.variables
    workflow.start_time = workflow.create_time = turn.world.now
    workflow.last_retried_time = 0
    _forget_outcome(run)
    turn.evaluate()


def _reopen(turn: Turn) -> None:
    workflow = turn.run.workflow
    workflow.status, workflow.end_time = "RUNNING", 0
    workflow.reason_for_incompletion = UNSET


def _forget_outcome(run: Run) -> None:
    run.workflow.output = {}
    run.workflow.failed_reference_task_names, run.workflow.failed_task_names = [], []


def _require_ended(run: Run, verb: str) -> None:
    if not run.has_ended():
        raise Problem(409, f"Workflow: {_label(run)}.{run.workflow.status} is not in terminal state, unable to {verb}.")


def _label(run: Run) -> str:
    return f"{run.workflow.workflow_name}.{run.workflow.workflow_version}/{run.workflow.workflow_id}"
