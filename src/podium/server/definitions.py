"""Task and workflow definitions as the server stores and answers them: every field with the server's default."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec
from msgspec import UNSET, UnsetType, field

from podium.server.expressions import java_text
from podium.server.problems import parse_problem

T = TypeVar("T")

#: The number types of the API: what does not fit is refused where it is read.
Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Document(msgspec.Struct, rename="camel", kw_only=True):
    """Base of the JSON objects of the API: camelCase, defaults written out, unset fields left out."""


class TaskDefinition(Document):
    """How tasks of one type are retried and timed out. Seconds unless the name says otherwise."""

    create_time: Int64 = 0
    update_time: Int64 = 0
    created_by: str | UnsetType = UNSET
    updated_by: str | UnsetType = UNSET
    owner_app: str | UnsetType = UNSET
    name: str = ""
    description: str | UnsetType = UNSET
    retry_count: Int32 = 3
    timeout_seconds: Int32 = 0
    input_keys: list[str] = field(default_factory=list)
    output_keys: list[str] = field(default_factory=list)
    runtime_metadata: list[str] = field(default_factory=list)
    timeout_policy: Literal["RETRY", "TIME_OUT_WF", "ALERT_ONLY"] = "TIME_OUT_WF"
    retry_logic: Literal["FIXED", "EXPONENTIAL_BACKOFF", "LINEAR_BACKOFF"] = "FIXED"
    retry_delay_seconds: Int32 = 60
    response_timeout_seconds: Int32 = 3600
    concurrent_exec_limit: Int32 | UnsetType = UNSET
    input_template: dict[str, Any] = field(default_factory=dict)
    rate_limit_per_frequency: Int32 = 0
    rate_limit_frequency_in_seconds: Int32 = 1
    isolation_group_id: str | UnsetType = UNSET
    execution_name_space: str | UnsetType = UNSET
    owner_email: str | UnsetType = UNSET
    poll_timeout_seconds: Int32 | UnsetType = UNSET
    backoff_scale_factor: Int32 = 1
    max_retry_delay_seconds: Int32 = 0
    backoff_jitter_ms: Int32 = 0
    base_type: str | UnsetType = UNSET
    total_timeout_seconds: Int32 = 0
    input_schema: dict[str, Any] | UnsetType = UNSET
    output_schema: dict[str, Any] | UnsetType = UNSET
    task_status_listener_enabled: bool = True
    enforce_schema: bool = False


class WorkflowTask(Document):
    """One node of a workflow definition. Fields of operators that are refused are kept so that they can be named."""

    name: str = ""
    task_reference_name: str = ""
    description: str | UnsetType = UNSET
    input_parameters: dict[str, Any] = field(default_factory=dict)
    type: str = field(default="SIMPLE", name="type")
    dynamic_task_name_param: str | UnsetType = UNSET
    case_value_param: str | UnsetType = UNSET
    case_expression: str | UnsetType = UNSET
    script_expression: str | UnsetType = UNSET
    decision_cases: dict[str, list[WorkflowTask]] = field(default_factory=dict)
    dynamic_fork_join_tasks_param: str | UnsetType = UNSET
    dynamic_fork_tasks_param: str | UnsetType = UNSET
    dynamic_fork_tasks_input_param_name: str | UnsetType = UNSET
    default_case: list[WorkflowTask] = field(default_factory=list)
    fork_tasks: list[list[WorkflowTask]] = field(default_factory=list)
    start_delay: Int32 = 0
    sub_workflow_param: dict[str, Any] | UnsetType = UNSET
    join_on: list[str] = field(default_factory=list)
    join_mode: str | UnsetType = UNSET
    sink: str | UnsetType = UNSET
    optional: bool = False
    task_definition: TaskDefinition | UnsetType = UNSET
    rate_limited: bool | UnsetType = UNSET
    default_exclusive_join_task: list[str] = field(default_factory=list)
    async_complete: bool = False
    loop_condition: str | UnsetType = UNSET
    loop_over: list[WorkflowTask] = field(default_factory=list)
    items: str | UnsetType = UNSET
    retry_count: Int32 | UnsetType = UNSET
    evaluator_type: str | UnsetType = UNSET
    expression: str | UnsetType = UNSET
    on_state_change: dict[str, Any] = field(default_factory=dict)
    permissive: bool = False
    cache_config: dict[str, Any] | UnsetType = UNSET
    metadata: dict[str, Any] = field(default_factory=dict)

    def branches(self) -> Iterator[tuple[str, list[WorkflowTask]]]:
        """Yield the lists of nodes inside this one, each with its path as the server's complaints write it."""
        for key, tasks in self.decision_cases.items():
            yield f"decisionCases[{key}].<map value>", tasks
        yield "defaultCase", self.default_case
        for index, tasks in enumerate(self.fork_tasks):
            yield f"forkTasks[{index}].<list element>", tasks
        yield "loopOver", self.loop_over


class WorkflowDefinition(Document):
    """A workflow definition."""

    owner_app: str | UnsetType = UNSET
    create_time: Int64 = 0
    update_time: Int64 = 0
    created_by: str | UnsetType = UNSET
    updated_by: str | UnsetType = UNSET
    name: str = ""
    description: str | UnsetType = UNSET
    version: Int32 = 1
    tasks: list[WorkflowTask] = field(default_factory=list)
    input_parameters: list[str] = field(default_factory=list)
    output_parameters: dict[str, Any] = field(default_factory=dict)
    failure_workflow: str | UnsetType = UNSET
    failure_workflow_version: Int32 | UnsetType = UNSET
    schema_version: Int32 = 2
    restartable: bool = True
    workflow_status_listener_enabled: bool = False
    workflow_status_listener_sink: str | UnsetType = UNSET
    owner_email: str | UnsetType = UNSET
    timeout_policy: Literal["TIME_OUT_WF", "ALERT_ONLY"] = "ALERT_ONLY"
    timeout_seconds: Int32 = 0
    variables: dict[str, Any] = field(default_factory=dict)
    input_template: dict[str, Any] = field(default_factory=dict)
    input_schema: dict[str, Any] | UnsetType = UNSET
    output_schema: dict[str, Any] | UnsetType = UNSET
    enforce_schema: bool = True
    metadata: dict[str, Any] = field(default_factory=dict)
    masked_fields: list[str] = field(default_factory=list)
    rate_limit_config: dict[str, Any] | UnsetType = UNSET


def walk(tasks: list[WorkflowTask]) -> list[WorkflowTask]:
    """Return all nodes of a definition, each before the nodes inside it."""
    found: list[WorkflowTask] = []
    for task in tasks:
        found.append(task)
        for _, branch in task.branches():
            found.extend(walk(branch))
    return found


#: Members whose content belongs to the user: nulls in there are values, elsewhere null means "not given".
_USER_MAPS = frozenset(
    {
        "input",
        "inputData",
        "inputParameters",
        "inputTemplate",
        "metadata",
        "outputData",
        "outputParameters",
        "taskInput",
        "variables",
        "workflowInput",
    }
)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: item if key in _USER_MAPS else _without_nulls(item) for key, item in value.items() if item is not None
        }
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def read_document(value: Any, kind: type[T]) -> T:
    """Return a decoded JSON value as a struct.

    Scalars are converted to the type of their field, as the real server does: texts to numbers, and the other way
    round, fractions cut off. Raises Problem (500, "JSON parse error") where the value does not fit.
    """
    given = _without_nulls(value)
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        first_error = error
    try:
        return msgspec.convert(_converted(given, kind), kind, strict=False)
    except msgspec.ValidationError:
        raise parse_problem(str(first_error)) from None


def _converted(value: Any, kind: Any) -> Any:
    """Return an object with those scalars converted that msgspec does not convert."""
    if not isinstance(value, dict):
        return value
    described = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    return {name: _scalar(item, described.get(name)) for name, item in value.items()}


def _scalar(value: Any, kind: Any) -> Any:
    accepted = [getattr(inner, "__origin__", inner) for inner in get_args(kind) or (kind,)]
    if isinstance(value, float) and int in accepted:
        return int(value)
    if isinstance(value, (int, float)) and str in accepted:
        return java_text(value)
    return value
