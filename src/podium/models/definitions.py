"""Task and workflow definitions."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType, field

from podium.models.wire import Wire


class SchemaDef(Wire, omit_defaults=False):
    """A schema of input or output: inlined in a definition, or in the server's schema registry.

    Without ``data``, in a definition, it stands for the registered schema of that name and version.
    """

    name: str
    version: int = 1
    #: JSON, AVRO or PROTOBUF. Always sent: a server does not assume any.
    type: str = field(default="JSON", name="type")
    data: dict[str, Any] | UnsetType | None = UNSET
    #: A name for a schema that is kept elsewhere.
    external_ref: str | UnsetType = UNSET


class TaskDef(Wire):
    """A task definition.

    Every field but the name is unset unless stated, and unset fields are not sent: the server's defaults hold
    (3 retries 60 s apart, response timeout 3600 s). Times in seconds unless the name says otherwise.
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
