"""Results and log lines that take conductor-python's positional arguments."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self

from msgspec import field

from podium import models
from podium.models import TaskResultStatus


class SchemaType(StrEnum):
    """The kinds of schemas."""

    JSON = "JSON"
    AVRO = "AVRO"
    PROTOBUF = "PROTOBUF"


class TaskExecLog(models.TaskExecLog, kw_only=False):
    """One line of a task's execution log."""

    log: str = ""
    task_id: str | None = None
    created_time: int = 0


class TaskResult(models.TaskResult, kw_only=False):
    """What a worker reports about one attempt, with conductor-python's order of arguments."""

    workflow_instance_id: str = ""
    task_id: str = ""
    reason_for_incompletion: str | None = None
    callback_after_seconds: int | None = 0
    worker_id: str | None = None
    status: TaskResultStatus = field(default_factory=lambda: TaskResultStatus.COMPLETED)
    output_data: dict[str, Any] = field(default_factory=dict)
    logs: list[models.TaskExecLog] = field(default_factory=list)
    external_output_payload_storage_path: str | None = None
    sub_workflow_id: str | None = None

    @classmethod
    def new_task_result(cls, status: TaskResultStatus) -> Self:
        """Return a result with that status."""
        return cls(status=status)
