"""Workflow executions, and requests and answers about them."""

from __future__ import annotations

from typing import Any

from msgspec import field

from podium.models.definitions import WorkflowDef
from podium.models.tasks import Task
from podium.models.wire import Wire

#: Workflow states after which only retry, restart or rerun change anything.
TERMINAL_WORKFLOW_STATUSES = frozenset({"COMPLETED", "FAILED", "TIMED_OUT", "TERMINATED"})


class Workflow(Wire):
    """A workflow execution.

    ``create_time``, ``start_time``, ``update_time`` and ``end_time`` are epoch milliseconds (0 = not yet).
    """

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
    #: Epoch milliseconds.
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
    """State of a workflow when ``execute_workflow`` came back: ended, waiting, or still running after the wait.

    ``create_time`` and ``update_time`` are epoch milliseconds.
    """

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
