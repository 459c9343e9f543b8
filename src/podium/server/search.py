"""The query language of searches: ``field = value AND field IN (a, b) AND field > 5``, and the summaries."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from podium.server.expressions import java_text
from podium.server.problems import Problem

if TYPE_CHECKING:
    from podium.server.state import Run, TaskState
    from podium.server.store import Store


@dataclass(frozen=True)
class SearchTable:
    """A table that can be searched: the columns behind the field names, and the default order."""

    name: str
    columns: dict[str, str]
    times: frozenset[str]
    order: str


WORKFLOWS = SearchTable(
    name="workflow",
    columns={
        "workflowId": "id",
        "workflowType": "name",
        "workflowName": "name",
        "version": "version",
        "status": "status",
        "correlationId": "correlation_id",
        "startTime": "start_time",
        "updateTime": "update_time",
        "endTime": "end_time",
    },
    times=frozenset({"start_time", "update_time", "end_time"}),
    order="start_time, rowid",
)
TASKS = SearchTable(
    name="task",
    columns={
        "taskId": "id",
        "workflowId": "workflow_id",
        "workflowInstanceId": "workflow_id",
        "taskType": "type",
        "taskDefName": "type",
        "status": "status",
        "scheduledTime": "scheduled_time",
        "workflowType": "(SELECT name FROM workflow WHERE workflow.id = task.workflow_id)",
    },
    times=frozenset({"scheduled_time"}),
    order="scheduled_time, id",
)

_CONDITION = re.compile(r"\s*([\w.]+)\s*(?:(=|<=|>=|<|>)\s*(.+)|IN\s*\((.*)\))\s*", re.IGNORECASE | re.DOTALL)


class Search:
    """A search, compiled to SQL with parameters. Raises Problem 400 for a query that cannot be read."""

    def __init__(self, table: SearchTable, query: str, free_text: str, sort: str) -> None:
        self._table = table
        self._conditions: list[str] = []
        self._values: list[Any] = []
        for part in re.split(r"\s+AND\s+", query.strip(), flags=re.IGNORECASE) if query.strip() else []:
            self._add(part, query)
        if free_text.strip() not in {"", "*"}:
            self._conditions.append("instr(CAST(body AS TEXT), ?) > 0")
            self._values.append(free_text.strip().strip('"'))
        self._order = self._sorted(sort)

    def run(self, store: Store, start: int, size: int) -> tuple[int, list[str]]:
        """Return the number of hits and the ids on the page."""
        where = f"WHERE {' AND '.join(self._conditions)}" if self._conditions else ""
        source = f"FROM {self._table.name} {where}"
        total = store.value(f"SELECT count(*) {source}", self._values)
        rows = store.rows(f"SELECT id {source} ORDER BY {self._order} LIMIT ? OFFSET ?", [*self._values, size, start])
        return total, [row[0] for row in rows]

    def _add(self, part: str, query: str) -> None:
        match = _CONDITION.fullmatch(part)
        if match is None:
            raise Problem(400, f"Incorrectly formatted query string: {query}")
        field, relation, single, several = match.groups()
        column = self._table.columns.get(field)
        if column is None:
            return  # the real server ignores fields that it does not know
        if relation:
            self._conditions.append(f"{column} {relation} ?")
            self._values.append(self._value(column, single))
        else:
            values = [self._value(column, text) for text in several.split(",")]
            self._conditions.append(f"{column} IN ({', '.join('?' * len(values))})")
            self._values.extend(values)

    def _value(self, column: str, text: str) -> Any:
        text = text.strip()
        if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
            text = text[1:-1]
        if column in self._table.times and not text.lstrip("-").isdigit():
            try:
                moment = datetime.fromisoformat(text)
            except ValueError:
                raise Problem(400, f"Not a time: {text}") from None
            return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
        return int(text) if column in {*self._table.times, "version"} and text.lstrip("-").isdigit() else text

    def _sorted(self, sort: str) -> str:
        found = []
        for part in re.split(r"[|,]", sort):
            field, _, direction = part.partition(":")
            column = self._table.columns.get(field.strip())
            if column:
                found.append(f"{column} {'DESC' if direction.strip().upper() == 'DESC' else 'ASC'}")
        return ", ".join([*found, self._table.order])


def workflow_summary(run: Run) -> dict[str, Any]:
    """Return what a search shows of an execution: ISO times, input and output as text."""
    workflow = run.workflow
    shown_input, shown_output = java_text(workflow.input), java_text(workflow.output)
    ended = workflow.end_time or workflow.update_time
    return _given(
        {
            "workflowType": workflow.workflow_name,
            "version": workflow.workflow_version,
            "workflowId": workflow.workflow_id,
            "correlationId": workflow.correlation_id,
            "startTime": _iso(workflow.start_time),
            "updateTime": _iso(workflow.update_time),
            "endTime": _iso(workflow.end_time),
            "status": workflow.status,
            "input": shown_input,
            "output": shown_output,
            "reasonForIncompletion": workflow.reason_for_incompletion,
            "executionTime": max(0, ended - workflow.start_time) if workflow.end_time else 0,
            "failedReferenceTaskNames": ",".join(workflow.failed_reference_task_names),
            "priority": workflow.priority,
            "failedTaskNames": workflow.failed_task_names,
            "taskToDomain": workflow.task_to_domain,
            "parentWorkflowId": "",
            "classifier": "workflow",
            "inputSize": len(shown_input),
            "outputSize": len(shown_output),
        }
    )


def task_summary(run: Run, attempt: TaskState) -> dict[str, Any]:
    """Return what a search shows of a task."""
    started = attempt.start_time
    return _given(
        {
            "workflowId": run.id,
            "workflowType": run.workflow.workflow_name,
            "correlationId": attempt.correlation_id,
            "scheduledTime": _iso(attempt.scheduled_time),
            "startTime": _iso(started),
            "updateTime": _iso(attempt.update_time),
            "endTime": _iso(attempt.end_time),
            "status": attempt.status,
            "reasonForIncompletion": attempt.reason_for_incompletion,
            "executionTime": max(0, attempt.end_time - started) if started and attempt.end_time else 0,
            "queueWaitTime": max(0, started - attempt.scheduled_time) if started else 0,
            "taskDefName": attempt.task_def_name,
            "taskType": attempt.task_type,
            "input": java_text(attempt.input_data),
            "output": java_text(attempt.output_data),
            "taskId": attempt.task_id,
            "workflowPriority": attempt.workflow_priority,
            "domain": attempt.domain,
        }
    )


def _iso(moment: int) -> Any:
    if not moment:
        return UNSET
    text = datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not UNSET}
