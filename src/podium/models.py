"""Wire structs: what travels between podium and a Conductor server, with Conductor's names in snake_case.

Unknown JSON fields are ignored and absent ones take a default, so newer and older servers can be read.
Times are epoch milliseconds, 0 or None = not yet. Structs are mutable and compare by value.
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Any, Self

import msgspec
from msgspec import UNSET, UnsetType, field


class Wire(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Base of the wire structs: camelCase in JSON, defaults left out."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object (camelCase keys, defaults left out)."""
        result: dict[str, Any] = msgspec.to_builtins(self)
        return result


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

#: Workflow states after which only retry, restart or rerun change anything.
TERMINAL_WORKFLOW_STATUSES = frozenset({"COMPLETED", "FAILED", "TIMED_OUT", "TERMINATED"})


class TaskExecLog(Wire):
    """One line of a task's execution log."""

    log: str = ""
    task_id: str | None = None
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
    #: Seconds until an IN_PROGRESS task is handed out again.
    callback_after_seconds: int = 0
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
    def in_progress(cls, callback_after_seconds: int = 60) -> Self:
        """Return an IN_PROGRESS result: the task is handed out again after that many seconds."""
        return cls(status=TaskResultStatus.IN_PROGRESS, callback_after_seconds=callback_after_seconds)


class Task(Wire):
    """A task as the server hands it out.

    ``workflow_task`` and ``task_definition`` are the server's JSON objects as they are: they are snapshots for
    information, and a new value in them must not make a task unreadable.
    """

    task_id: str = ""
    task_type: str = ""
    task_def_name: str = ""
    reference_task_name: str = ""
    workflow_instance_id: str = ""
    workflow_type: str = ""
    status: str = "SCHEDULED"
    input_data: dict[str, Any] = field(default_factory=dict)
    output_data: dict[str, Any] = field(default_factory=dict)
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


class TaskHead(Wire):
    """The few fields of a task that the engine needs; the rest is read where the function runs."""

    task_id: str
    workflow_instance_id: str
    response_timeout_seconds: int = 0
    workflow_priority: int = 0
    #: Kept as it came: a task that is given back needs it again, because the server replaces it.
    output_data: msgspec.Raw = field(default_factory=lambda: msgspec.Raw(b"{}"))


class TaskIds(Wire):
    """The least that must be readable to report anything about a task."""

    task_id: str
    workflow_instance_id: str


class SchemaDef(Wire):
    """A JSON schema, inlined in a task or workflow definition."""

    name: str
    version: int = 1
    type: str = field(default="JSON", name="type")
    data: dict[str, Any] | None = None


class TaskDef(Wire):
    """A task definition.

    Every field but the name is unset unless stated, and unset fields are not sent: the server's defaults hold
    (see ``docs``: 3 retries 60 s apart, response timeout 3600 s). Times in seconds unless the name says otherwise.
    """

    name: str = ""
    description: str | UnsetType = UNSET
    retry_count: int | UnsetType = UNSET
    #: FIXED, LINEAR_BACKOFF or EXPONENTIAL_BACKOFF.
    retry_logic: str | UnsetType = UNSET
    retry_delay_seconds: int | UnsetType = UNSET
    backoff_scale_factor: int | UnsetType = UNSET
    max_retry_delay_seconds: int | UnsetType = UNSET
    backoff_jitter_ms: int | UnsetType = UNSET
    #: Limit of one attempt from its first poll; 0 = none.
    timeout_seconds: int | UnsetType = UNSET
    #: RETRY, TIME_OUT_WF or ALERT_ONLY.
    timeout_policy: str | UnsetType = UNSET
    #: Silence after which the server takes an attempt back; must not exceed timeout_seconds if that is set.
    response_timeout_seconds: int | UnsetType = UNSET
    poll_timeout_seconds: int | UnsetType = UNSET
    total_timeout_seconds: int | UnsetType = UNSET
    concurrent_exec_limit: int | UnsetType = UNSET
    rate_limit_per_frequency: int | UnsetType = UNSET
    rate_limit_frequency_in_seconds: int | UnsetType = UNSET
    input_template: dict[str, Any] | UnsetType = UNSET
    input_keys: list[str] | UnsetType = UNSET
    output_keys: list[str] | UnsetType = UNSET
    input_schema: SchemaDef | UnsetType = UNSET
    output_schema: SchemaDef | UnsetType = UNSET
    enforce_schema: bool | UnsetType = UNSET
    owner_email: str | UnsetType = UNSET
    owner_app: str | UnsetType = UNSET
    isolation_group_id: str | UnsetType = UNSET
    execution_name_space: str | UnsetType = UNSET
    base_type: str | UnsetType = UNSET
    runtime_metadata: list[str] | UnsetType = UNSET
    task_status_listener_enabled: bool | UnsetType = UNSET
    create_time: int | UnsetType = UNSET
    update_time: int | UnsetType = UNSET
    created_by: str | UnsetType = UNSET
    updated_by: str | UnsetType = UNSET


class WorkflowTask(Wire):
    """One node of a workflow definition."""

    name: str
    task_reference_name: str
    type: str = field(default="SIMPLE", name="type")
    description: str | None = None
    input_parameters: dict[str, Any] = field(default_factory=dict)
    optional: bool = False
    permissive: bool = False
    start_delay: int = 0
    retry_count: int | None = None
    join_on: list[str] = field(default_factory=list)
    join_mode: str | None = None
    fork_tasks: list[list[WorkflowTask]] = field(default_factory=list)
    evaluator_type: str | None = None
    expression: str | None = None
    decision_cases: dict[str, list[WorkflowTask]] = field(default_factory=dict)
    default_case: list[WorkflowTask] = field(default_factory=list)
    loop_condition: str | None = None
    loop_over: list[WorkflowTask] = field(default_factory=list)
    dynamic_task_name_param: str | None = None
    dynamic_fork_tasks_param: str | None = None
    dynamic_fork_tasks_input_param_name: str | None = None
    sub_workflow_param: dict[str, Any] | None = None
    sink: str | None = None
    async_complete: bool = False
    task_definition: dict[str, Any] | None = None


class WorkflowDef(Wire):
    """A workflow definition."""

    name: str
    tasks: list[WorkflowTask]
    version: int = 1
    schema_version: int = 2
    description: str | None = None
    input_parameters: list[str] = field(default_factory=list)
    output_parameters: dict[str, Any] = field(default_factory=dict)
    input_template: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    failure_workflow: str | None = None
    restartable: bool = True
    #: TIME_OUT_WF or ALERT_ONLY; the timeout acts only with TIME_OUT_WF.
    timeout_policy: str | None = None
    timeout_seconds: int = 0
    owner_email: str | None = None
    create_time: int = 0
    update_time: int = 0


class Workflow(Wire):
    """A workflow execution."""

    workflow_id: str = ""
    workflow_name: str = ""
    workflow_version: int = 0
    #: RUNNING, COMPLETED, FAILED, TIMED_OUT, TERMINATED or PAUSED.
    status: str = "RUNNING"
    input: dict[str, Any] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)
    correlation_id: str | None = None
    reason_for_incompletion: str | None = None
    parent_workflow_id: str | None = None
    failed_reference_task_names: list[str] = field(default_factory=list)
    failed_task_names: list[str] = field(default_factory=list)
    task_to_domain: dict[str, str] = field(default_factory=dict)
    priority: int = 0
    create_time: int = 0
    start_time: int = 0
    update_time: int = 0
    end_time: int = 0
    workflow_definition: dict[str, Any] | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether the workflow has ended."""
        return self.status in TERMINAL_WORKFLOW_STATUSES


class WorkflowSummary(Wire):
    """One hit of a workflow search; times are ISO 8601 text, input and output the server's own text form."""

    workflow_id: str = ""
    workflow_type: str = ""
    version: int = 0
    status: str = ""
    correlation_id: str | None = None
    start_time: str | None = None
    update_time: str | None = None
    end_time: str | None = None
    input: str | None = None
    output: str | None = None
    execution_time: int = 0
    reason_for_incompletion: str | None = None
    failed_reference_task_names: str | None = None
    priority: int = 0


class WorkflowSearchResult(Wire):
    """A page of search hits."""

    total_hits: int = 0
    results: list[WorkflowSummary] = field(default_factory=list)


class PollData(Wire):
    """Who polled a queue last."""

    queue_name: str = ""
    domain: str | None = None
    worker_id: str | None = None
    last_poll_time: int = 0


class BulkResponse(Wire):
    """What a bulk call did, per id or name."""

    bulk_error_results: dict[str, str] = field(default_factory=dict)
    bulk_successful_results: list[str] = field(default_factory=list)


class StartWorkflowRequest(Wire):
    """A request to start a workflow."""

    name: str
    version: int | None = None
    input: dict[str, Any] = field(default_factory=dict)
    correlation_id: str | None = None
    #: 0 (default) to 99; higher is handed out first.
    priority: int = 0
    #: Task type (or ``*``) -> domain, or a comma-separated list of domains to try.
    task_to_domain: dict[str, str] = field(default_factory=dict)
    workflow_def: WorkflowDef | None = None


class RerunWorkflowRequest(Wire):
    """A request to run an ended workflow again, from one task or (without a task id) from the start."""

    re_run_from_task_id: str | None = None
    task_input: dict[str, Any] | None = None
    workflow_input: dict[str, Any] | None = None
    correlation_id: str | None = None


class WorkflowRun(Wire):
    """State of a workflow when ``execute_workflow`` came back: ended, waiting, or still running after the wait."""

    workflow_id: str = ""
    status: str = "RUNNING"
    input: dict[str, Any] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)
    priority: int = 0
    create_time: int = 0
    update_time: int = 0
    #: True if the wait was over before the workflow reached the awaited point.
    signal_timeout: bool = False


class WorkflowStatus(Wire):
    """The state of a workflow without its tasks."""

    workflow_id: str = ""
    status: str = "RUNNING"
    correlation_id: str | None = None
    output: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)

    @property
    def is_terminal(self) -> bool:
        """Whether the workflow has ended."""
        return self.status in TERMINAL_WORKFLOW_STATUSES
