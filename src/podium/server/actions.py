"""What workers do to tasks: take, report, keep alive. Pure, like the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from msgspec import UNSET, UnsetType, field

from podium.server.definitions import Document, Int64

if TYPE_CHECKING:
    from podium.server.engine import Turn
    from podium.server.state import TaskState

#: Characters of a reason that are kept.
REASON_LIMIT = 500


class LogLine(Document):
    """One line of a task's log."""

    log: str | None = ""
    task_id: str | None = None
    created_time: Int64 | None = 0


class TaskReport(Document):
    """What a worker says about a task: the body of an update. Null means the same as absent."""

    workflow_instance_id: str | None = None
    task_id: str | None = None
    status: Literal["CANCELED", "COMPLETED", "FAILED_WITH_TERMINAL_ERROR", "FAILED", "IN_PROGRESS"] | None = None
    output_data: dict[str, Any] | None = None
    worker_id: str | None = None
    reason_for_incompletion: str | None = None
    callback_after_seconds: Int64 | None = 0
    logs: list[LogLine] | None = field(default_factory=list)
    extend_lease: bool | None = False
    external_output_payload_storage_path: str | None = None
    sub_workflow_id: str | None = None


def hand_out(turn: Turn, attempt: TaskState, worker_id: str | None) -> None:
    """Give a SCHEDULED attempt to a worker."""
    now = turn.world.now
    attempt.status = "IN_PROGRESS"
    attempt.worker_id = _optional(worker_id)
    attempt.callback_after_seconds = 0
    attempt.poll_count += 1
    attempt.update_time = now
    attempt.start_time = attempt.start_time or now
    turn.touch(attempt)


def report(turn: Turn, attempt: TaskState, said: TaskReport) -> bool:
    """Apply a worker's report and evaluate; return False if it came too late and was ignored."""
    if attempt.ended or turn.run.has_ended():
        return False
    assert said.status is not None, "the caller checks the status"
    now = turn.world.now
    attempt.output_data = said.output_data or {}
    attempt.worker_id = _optional(said.worker_id)
    attempt.reason_for_incompletion = _optional(
        said.reason_for_incompletion and said.reason_for_incompletion[:REASON_LIMIT]
    )
    attempt.external_output_payload_storage_path = _optional(said.external_output_payload_storage_path)
    attempt.sub_workflow_id = _optional(said.sub_workflow_id)
    turn.touch(attempt)
    delay = attempt.callback_after_seconds = max(0, said.callback_after_seconds or 0)
    if said.status == "IN_PROGRESS":
        attempt.update_time = now
        if not turn.run.blueprint.nodes[attempt.reference_task_name].is_system:
            attempt.status = "SCHEDULED"
            attempt.due = now + delay * 1000
    else:
        turn.finish(attempt, said.status)
    turn.evaluate()
    return True


def keep_alive(turn: Turn, attempt: TaskState) -> None:
    """Extend the lease of an open attempt; on an ended one it does nothing."""
    if not attempt.ended:
        attempt.update_time = turn.world.now
        turn.touch(attempt)


def give_back(turn: Turn, attempt: TaskState) -> None:
    """Make an open attempt pollable at once."""
    attempt.status = "SCHEDULED"
    attempt.due = turn.world.now
    turn.touch(attempt)


def _optional(value: str | None) -> str | UnsetType:
    return UNSET if value is None else value
