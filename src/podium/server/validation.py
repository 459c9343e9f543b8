"""The rules for definitions, with the messages of the real server; and the refusal of operators not run here."""

from __future__ import annotations

from collections import Counter
from typing import Any

from podium.server.definitions import TaskDefinition, WorkflowDefinition, WorkflowTask, walk
from podium.server.expressions import Expression, expressions_in
from podium.server.jsonpath import PathError, compile_path
from podium.server.operators import REFUSED_TYPES, wait_end
from podium.server.problems import InvalidError

#: path, message, invalid value
Complaint = tuple[str, str, str | None]

_TASK_MINIMUMS = (
    ("retry_count", "retryCount", 0, "TaskDef retryCount: 0 must be >= 0"),
    ("response_timeout_seconds", "responseTimeoutSeconds", 1,
     "TaskDef responseTimeoutSeconds: {value} should be minimum 1 second"),
    ("backoff_scale_factor", "backoffScaleFactor", 1, "Backoff scale factor. Applicable for LINEAR_BACKOFF"),
    ("backoff_jitter_ms", "backoffJitterMs", 0, "TaskDef backoffJitterMs: 0 must be >= 0"),
    ("max_retry_delay_seconds", "maxRetryDelaySeconds", 0, "TaskDef maxRetryDelaySeconds: 0 must be >= 0"),
    ("poll_timeout_seconds", "pollTimeoutSeconds", 0, "TaskDef pollTimeoutSeconds: 0 must be >= 0"),
)  # fmt: skip


def check_task_definitions(definitions: list[TaskDefinition], where: list[str]) -> None:
    """Raise InvalidError if any definition breaks a rule; ``where`` names each one in the complaints."""
    complaints = [
        complaint
        for definition, path in zip(definitions, where, strict=True)
        for complaint in _task_complaints(definition, path)
    ]
    if complaints:
        raise InvalidError(complaints)


def _task_complaints(definition: TaskDefinition, path: str) -> list[Complaint]:
    found: list[Complaint] = []
    if not definition.name:
        found.append((f"{path}.name", "TaskDef name cannot be null or empty", ""))
    for attribute, field, minimum, message in _TASK_MINIMUMS:
        value = getattr(definition, attribute)
        if isinstance(value, int) and value < minimum:
            found.append((f"{path}.{field}", message.format(value=value), str(value)))
    name, timeout = definition.name, definition.timeout_seconds
    response, total = definition.response_timeout_seconds, definition.total_timeout_seconds
    if 0 < timeout < response:
        found.append(
            (
                path,
                f"TaskDef: {name} responseTimeoutSeconds: {response} must be less than timeoutSeconds: {timeout}",
                None,
            )
        )
    if 0 < total < timeout:
        text = f"TaskDef: {name} timeoutSeconds: {timeout} must be less than or equal to totalTimeoutSeconds: {total}"
        found.append((path, text, None))
    return found


def check_workflow_definition(definition: WorkflowDefinition, path: str) -> None:
    """Raise InvalidError if a definition breaks a rule or needs an operator that this server does not run."""
    complaints: list[Complaint] = []
    if not definition.name:
        complaints.append((f"{path}.name", "WorkflowDef name cannot be null or empty", ""))
    if definition.schema_version != 2:
        version = str(definition.schema_version)
        complaints.append((f"{path}.schemaVersion", "workflowDef schemaVersion: 2 is only supported", version))
    if not definition.tasks:
        complaints.append((f"{path}.tasks", "WorkflowTask list cannot be empty", None))
    complaints.extend(_node_complaints(definition.tasks, f"{path}.tasks"))
    complaints.extend((path, message, None) for message in _reference_complaints(definition))
    if complaints:
        raise InvalidError(complaints)


def _node_complaints(tasks: list[WorkflowTask], path: str) -> list[Complaint]:
    found: list[Complaint] = []
    for index, task in enumerate(tasks):
        here = f"{path}[{index}]"
        if not task.name:
            found.append((f"{here}.name", "WorkflowTask name cannot be empty or null", ""))
        if not task.task_reference_name:
            found.append(
                (f"{here}.taskReferenceName", "WorkflowTask taskReferenceName name cannot be empty or null", "")
            )
        if task.start_delay < 0:
            found.append((f"{here}.startDelay", "must be greater than or equal to 0", str(task.start_delay)))
        found.extend((here, message, None) for message in _operator_complaints(task))
        for name, branch in task.branches():
            found.extend(_node_complaints(branch, f"{here}.{name}"))
    return found


def _operator_complaints(task: WorkflowTask) -> list[str]:
    match task.type:
        case "SWITCH":
            return _switch_complaints(task)
        case "FORK_JOIN" if not task.fork_tasks:
            return [f"forkTasks should have atleast one task for taskType: FORK_JOIN taskName: {task.name}"]
        case "TERMINATE":
            status = task.input_parameters.get("terminationStatus")
            if str(status).upper() not in {"COMPLETED", "FAILED", "TERMINATED"}:
                text = "terminate task must have an terminationStatus parameter and must be set to COMPLETED or FAILED"
                return [f"{text}, taskName: {task.name}"]
        case "WAIT":
            return _wait_complaints(task)
        case refused if refused in REFUSED_TYPES:
            return [_refusal(task, f"tasks of type {refused} are")]
    return []


def _switch_complaints(task: WorkflowTask) -> list[str]:
    found: list[str] = []
    if not task.evaluator_type:
        found.append(f"evaluatorType field is required for taskType: SWITCH taskName: {task.name}")
    elif task.evaluator_type != "value-param":
        found.append(_refusal(task, f"a SWITCH with evaluatorType {task.evaluator_type} is"))
    elif not task.expression:
        found.append(f"expression field is required for taskType: SWITCH taskName: {task.name}")
    if not task.decision_cases:
        found.append(f"decisionCases should have atleast one task for taskType: SWITCH taskName: {task.name}")
    return found


def _wait_complaints(task: WorkflowTask) -> list[str]:
    given = {key: value for key, value in task.input_parameters.items() if key in {"duration", "until"} and value}
    if any(expressions_in(value) for value in given.values() if isinstance(value, str)):
        return []  # only known when the workflow runs
    try:
        wait_end(given, now=0)
    except ValueError as error:
        return [str(error)]
    return []


def _refusal(task: WorkflowTask, what: str) -> str:
    return f"taskReferenceName: {task.task_reference_name}: {what} not supported by the embedded server yet"


def _reference_complaints(definition: WorkflowDefinition) -> list[str]:
    tasks = walk(definition.tasks)
    counted = Counter(task.task_reference_name for task in tasks if task.task_reference_name)
    found = [
        f"taskReferenceName: {name} should be unique across tasks for a given workflowDefinition: {definition.name}"
        for name, count in counted.items()
        if count > 1
    ]
    for task in tasks:
        for key, value in task.input_parameters.items():
            found.extend(_expression_complaints(task, key, value, set(counted)))
    return found


def _expression_complaints(task: WorkflowTask, key: str, value: Any, names: set[str]) -> list[str]:
    if isinstance(value, dict):
        return [text for inner, item in value.items() for text in _expression_complaints(task, inner, item, names)]
    if isinstance(value, list):
        return [text for item in value for text in _expression_complaints(task, key, item, names)]
    if not isinstance(value, str):
        return []
    found: list[str] = []
    for expression in expressions_in(value):
        if not all(isinstance(part, str) for part in expression.parts):
            continue  # the path is only known when the workflow runs
        text = _literal(expression)
        try:
            root = compile_path(text).root
        except PathError:
            found.append(f"key: {key} input parameter value: {text} is not valid")
            continue
        if root not in names and root not in {"workflow", "CPEWF_TASK_ID"}:
            found.append(
                f"taskReferenceName: {root} for given task: {task.name} input value: {key} of input parameter: "
                f"{value} is not defined in workflow definition."
            )
    return found


def _literal(expression: Expression) -> str:
    return "".join(part for part in expression.parts if isinstance(part, str))
