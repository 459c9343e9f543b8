"""Tasks and what workers report about them."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated, Any, Self

import msgspec
from msgspec import field

from podium.models.wire import Wire


class TaskResultStatus(StrEnum):
    """The states a worker may report."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    FAILED_WITH_TERMINAL_ERROR = "FAILED_WITH_TERMINAL_ERROR"
    IN_PROGRESS = "IN_PROGRESS"


#: Task states after which an attempt never changes again.
TERMINAL_TASK_STATUSES = frozenset(
    {
        "COMPLETED",
        "COMPLETED_WITH_ERRORS",
        "FAILED",
        "FAILED_WITH_TERMINAL_ERROR",
        "TIMED_OUT",
        "CANCELED",
        "SKIPPED",
    }
)


#: Bytes of an output's JSON. The server fails a task with more (ConductorProperties.java,
#: maxTaskOutputPayloadSizeThreshold: 10240 KB), and stores what is above the other limit outside of its database
#: (taskOutputPayloadSizeThreshold: 3072 KB), where it is slow to read; both can be set there.
MAX_OUTPUT = 10240 * 1024
LARGE_OUTPUT = 3072 * 1024


class TaskExecLog(Wire):
    """One line of a task's execution log."""

    log: str = ""
    task_id: str | None = None
    #: Epoch milliseconds.
    created_time: int = 0


class TaskResult(Wire):
    """What a worker reports about one attempt.

    A function may return one; task and workflow ids and the worker id are filled in by podium.
    """

    workflow_instance_id: str = ""
    task_id: str = ""
    #: A factory, because a default would be left out of the JSON and the server rejects a result without status.
    status: TaskResultStatus = field(default_factory=lambda: TaskResultStatus.COMPLETED)
    output_data: dict[str, Any] = field(default_factory=dict)
    reason_for_incompletion: str | None = None
    #: Seconds until an IN_PROGRESS task is handed out again. A function that leaves it at 0 gets what
    #: ``get_task_context().set_callback_after`` said, else at once; None is the same with 60 s instead of at once.
    callback_after_seconds: int | None = 0
    worker_id: str | None = None
    logs: list[TaskExecLog] = field(default_factory=list)
    external_output_payload_storage_path: str | None = None
    sub_workflow_id: str | None = None

    def add_output_data(self, key: str, value: Any) -> Self:
        """Set one output field."""
        self.output_data[key] = value
        return self

    def log(self, message: str) -> Self:
        """Add a line to the execution log, stamped with the current time."""
        self.logs.append(TaskExecLog(log=message, created_time=time.time_ns() // 1_000_000))
        return self

    @classmethod
    def complete(cls, output_data: dict[str, Any] | None = None) -> Self:
        """Return a COMPLETED result."""
        return cls(status=TaskResultStatus.COMPLETED, output_data=output_data or {})

    @classmethod
    def failed(cls, reason: str | None = None) -> Self:
        """Return a FAILED result; the server retries the task if attempts are left."""
        return cls(status=TaskResultStatus.FAILED, reason_for_incompletion=reason)

    @classmethod
    def failed_with_terminal_error(cls, reason: str | None = None) -> Self:
        """Return a FAILED_WITH_TERMINAL_ERROR result; the server does not retry."""
        return cls(status=TaskResultStatus.FAILED_WITH_TERMINAL_ERROR, reason_for_incompletion=reason)

    @classmethod
    def in_progress(cls, callback_after_seconds: int | None = None) -> Self:
        """Return an IN_PROGRESS result: the task is handed out again after that many seconds.

        None (default) is what ``get_task_context().set_callback_after`` said, else 60, when a function returns it.
        """
        return cls(status=TaskResultStatus.IN_PROGRESS, callback_after_seconds=callback_after_seconds)


class TaskBrief(Wire):
    """A Task without its larger parts, which few functions ask for."""

    task_id: str = ""
    task_type: str = ""
    task_def_name: str = ""
    reference_task_name: str = ""
    workflow_instance_id: str = ""
    workflow_type: str = ""
    status: str = "SCHEDULED"
    input_data: dict[str, Any] = field(default_factory=dict)
    retry_count: int = 0
    poll_count: int = 0
    seq: int = 0
    iteration: int = 0
    scheduled_time: int = 0
    start_time: int = 0
    end_time: int = 0
    update_time: int = 0
    first_start_time: int = 0
    queue_wait_time: int = 0
    response_timeout_seconds: int = 0
    callback_after_seconds: int = 0
    start_delay_in_seconds: int = 0
    rate_limit_per_frequency: int = 0
    rate_limit_frequency_in_seconds: int = 0
    workflow_priority: int = 0
    retried: bool = False
    executed: bool = False
    callback_from_worker: bool = True
    loop_over_task: bool = False
    subworkflow_changed: bool = False
    worker_id: str | None = None
    domain: str | None = None
    correlation_id: str | None = None
    reason_for_incompletion: str | None = None
    retried_task_id: str | None = None
    sub_workflow_id: str | None = None
    parent_task_id: str | None = None
    external_input_payload_storage_path: str | None = None
    external_output_payload_storage_path: str | None = None
    execution_name_space: str | None = None
    isolation_group_id: str | None = None


class Task(TaskBrief):
    """A task as the server hands it out.

    ``scheduled_time``, ``start_time``, ``end_time``, ``update_time`` and ``first_start_time`` are epoch milliseconds
    (0 = not yet), ``queue_wait_time`` is milliseconds; fields whose names end in ``seconds`` are seconds.
    ``workflow_task`` and ``task_definition`` are the server's JSON objects as they are: they are snapshots for
    information, and a new value in them must not make a task unreadable.
    """

    output_data: dict[str, Any] = field(default_factory=dict)
    runtime_metadata: dict[str, Any] | None = None
    workflow_task: dict[str, Any] | None = None
    task_definition: dict[str, Any] | None = None
    execution_metadata: dict[str, Any] | None = None

    def to_task_result(self, status: TaskResultStatus = TaskResultStatus.COMPLETED) -> TaskResult:
        """Return a result for this task, ids filled in."""
        return TaskResult(
            task_id=self.task_id,
            workflow_instance_id=self.workflow_instance_id,
            status=status,
            worker_id=self.worker_id,
        )


#: A number as the server has them. JSON knows larger ones, and nothing can be reckoned with those.
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class TaskHead(Wire):
    """The few fields of a task that the engine needs; the rest is read where the function runs."""

    task_id: str
    workflow_instance_id: str
    #: Which task of the workflow it is: all its attempts have the same.
    reference_task_name: str = ""
    response_timeout_seconds: Int64 = 0
    workflow_priority: Int64 = 0
    retry_count: Int64 = 0
    #: How often this attempt was handed out, this time included: after a give-back or an interim result it is more.
    poll_count: Int64 = 0
    #: Kept as it came: a task that is given back needs it again, because the server replaces it.
    output_data: msgspec.Raw = field(default_factory=lambda: msgspec.Raw(b"{}"))
    #: Unread: it is a snapshot for information, and whatever is in it must not make the task unreadable.
    task_definition: msgspec.Raw = field(default_factory=lambda: msgspec.Raw(b"{}"))


class TaskIds(Wire):
    """The least that must be readable to report anything about a task."""

    task_id: str
    workflow_instance_id: str


class TaskState(Wire):
    """The least of a task that tells whether its result is still wanted."""

    status: str
    worker_id: str | None = None
    poll_count: Int64 = 0
