"""The state of a workflow execution: what the engine changes, the store keeps and the API shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET, Raw, UnsetType, field

from podium.models import TERMINAL_TASK_STATUSES, TERMINAL_WORKFLOW_STATUSES
from podium.server.definitions import Document

if TYPE_CHECKING:
    from podium.server.blueprint import Blueprint

#: Statuses with which the flow goes on behind a task.
SUCCESSFUL = frozenset({"COMPLETED", "COMPLETED_WITH_ERRORS", "SKIPPED"})


class TaskState(Document, kw_only=True):
    """One attempt of a task. Times are epoch ms, 0 = not yet."""

    task_type: str
    status: str
    input_data: dict[str, Any]
    reference_task_name: str
    retry_count: int = 0
    seq: int = 0
    correlation_id: str | UnsetType = UNSET
    poll_count: int = 0
    task_def_name: str
    scheduled_time: int
    start_time: int = 0
    end_time: int = 0
    update_time: int = 0
    start_delay_in_seconds: int = 0
    retried_task_id: str | UnsetType = UNSET
    retried: bool = False
    executed: bool = False
    callback_from_worker: bool = True
    response_timeout_seconds: int = 0
    workflow_instance_id: str
    workflow_type: str
    task_id: str
    reason_for_incompletion: str | UnsetType = UNSET
    callback_after_seconds: int = 0
    worker_id: str | UnsetType = UNSET
    output_data: dict[str, Any] = field(default_factory=dict)
    domain: str | UnsetType = UNSET
    rate_limit_per_frequency: int = 0
    rate_limit_frequency_in_seconds: int = 1
    external_output_payload_storage_path: str | UnsetType = UNSET
    workflow_priority: int = 0
    execution_name_space: str | UnsetType = UNSET
    isolation_group_id: str | UnsetType = UNSET
    iteration: int = 0
    sub_workflow_id: str | UnsetType = UNSET
    subworkflow_changed: bool = False
    first_start_time: int = 0
    loop_over_task: bool = False
    #: When a waiting task may go on: a SCHEDULED one be polled, a WAIT end. Not part of the API.
    due: int | UnsetType = 0
    # Only in answers, see ``shown``.
    workflow_task: Raw | UnsetType = UNSET
    task_definition: Raw | UnsetType = UNSET
    execution_metadata: dict[str, Any] | UnsetType = UNSET
    queue_wait_time: int | UnsetType = UNSET

    @property
    def ended(self) -> bool:
        """Whether this attempt never changes again."""
        return self.status in TERMINAL_TASK_STATUSES

    @property
    def pollable_at(self) -> int:
        """When the task may be handed out, in epoch ms."""
        return self.due if isinstance(self.due, int) else 0


class WorkflowState(Document, kw_only=True):
    """A workflow execution without its tasks."""

    owner_app: str = ""
    create_time: int
    update_time: int = 0
    status: str = "RUNNING"
    end_time: int = 0
    workflow_id: str
    parent_workflow_id: str | UnsetType = UNSET
    parent_workflow_task_id: str | UnsetType = UNSET
    tasks: list[TaskState] | UnsetType = UNSET
    input: dict[str, Any] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)
    correlation_id: str | UnsetType = UNSET
    reason_for_incompletion: str | UnsetType = UNSET
    task_to_domain: dict[str, str] = field(default_factory=dict)
    failed_reference_task_names: list[str] = field(default_factory=list)
    workflow_definition: Raw | UnsetType = UNSET
    priority: int = 0
    variables: dict[str, Any] = field(default_factory=dict)
    last_retried_time: int = 0
    failed_task_names: list[str] = field(default_factory=list)
    history: list[Any] = field(default_factory=list)
    rate_limited: bool = False
    start_time: int
    workflow_name: str
    workflow_version: int


class Run:
    """A workflow execution with its attempts and the blueprint it follows."""

    __slots__ = ("attempts", "blueprint", "latest", "workflow")

    def __init__(self, workflow: WorkflowState, blueprint: Blueprint, attempts: list[TaskState] | None = None) -> None:
        self.workflow = workflow
        self.blueprint = blueprint
        #: All attempts in the order in which they were scheduled.
        self.attempts = attempts or []
        #: Reference name -> newest attempt.
        self.latest = {attempt.reference_task_name: attempt for attempt in self.attempts}

    @property
    def id(self) -> str:
        """The workflow id."""
        return self.workflow.workflow_id

    def has_ended(self) -> bool:
        """Return whether only retry, restart or rerun can change this execution."""
        return self.workflow.status in TERMINAL_WORKFLOW_STATUSES

    def add(self, attempt: TaskState) -> None:
        """Append an attempt; it becomes the newest of its reference name."""
        self.attempts.append(attempt)
        self.latest[attempt.reference_task_name] = attempt

    def keep(self, attempts: list[TaskState]) -> None:
        """Replace the attempts."""
        self.attempts = attempts
        self.latest = {attempt.reference_task_name: attempt for attempt in attempts}

    def open_attempts(self) -> list[TaskState]:
        """Return the attempts that have not ended."""
        return [attempt for attempt in self.latest.values() if not attempt.ended]

    def find(self, task_id: str) -> TaskState | None:
        """Return an attempt by task id."""
        return next((attempt for attempt in self.attempts if attempt.task_id == task_id), None)
