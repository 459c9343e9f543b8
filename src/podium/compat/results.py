"""Results, without a trap, and the kinds of schemas."""

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


class TaskResult(models.TaskResult, kw_only=True):
    """What a worker reports about one attempt.

    The two ids may be given by position. After them the two libraries have different orders, so all else goes by
    keyword here.
    """

    status: TaskResultStatus = field(default_factory=lambda: TaskResultStatus.COMPLETED)
    output_data: dict[str, Any] = field(default_factory=dict)
    reason_for_incompletion: str | None = None
    callback_after_seconds: int | None = 0
    worker_id: str | None = None
    logs: list[models.TaskExecLog] = field(default_factory=list)
    external_output_payload_storage_path: str | None = None
    sub_workflow_id: str | None = None

    @classmethod
    def new_task_result(cls, status: TaskResultStatus) -> Self:
        """Return a result with that status."""
        return cls(status=status)
