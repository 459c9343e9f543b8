"""Executions and definitions in the store: which rows they are, and how they are read back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import msgspec
from msgspec import UNSET

from podium.server.actions import LogLine
from podium.server.blueprint import Blueprint
from podium.server.definitions import TaskDefinition, WorkflowDefinition
from podium.server.state import Run, TaskState, WorkflowState

if TYPE_CHECKING:
    from podium.server.store import Store

_encode = msgspec.json.Encoder().encode
_task_decoder = msgspec.json.Decoder(TaskState)
_workflow_decoder = msgspec.json.Decoder(WorkflowState)


class Repository:
    """Reads and writes through one store. Blueprints in use are shared."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._blueprints: WeakValueDictionary[str, Blueprint] = WeakValueDictionary()

    # -- executions ------------------------------------------------------------------------------------------------

    def save_workflow(self, run: Run) -> None:
        """Write the workflow of an execution, without its attempts."""
        workflow = run.workflow
        correlation_id = None if workflow.correlation_id is UNSET else workflow.correlation_id
        self.store.write(
            "INSERT INTO workflow (id, name, version, status, correlation_id, start_time, update_time, end_time, "
            "blueprint, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET status = "
            "excluded.status, correlation_id = excluded.correlation_id, start_time = excluded.start_time, update_time "
            "= excluded.update_time, end_time = excluded.end_time, blueprint = excluded.blueprint, body "
            "= excluded.body",
            (
                workflow.workflow_id,
                workflow.workflow_name,
                workflow.workflow_version,
                workflow.status,
                correlation_id,
                workflow.start_time,
                workflow.update_time,
                workflow.end_time,
                run.blueprint.key,
                _encode(workflow),
            ),
        )

    def save_attempts(self, attempts: Iterable[TaskState]) -> None:
        """Write attempts."""
        for attempt in attempts:
            self.store.write(
                "INSERT INTO task (id, workflow_id, seq, type, status, scheduled_time, body) VALUES (?, ?, ?, ?, ?, ?, "
                "?) ON CONFLICT (id) DO UPDATE SET status = excluded.status, scheduled_time = excluded.scheduled_time, "
                "body = excluded.body",
                (
                    attempt.task_id,
                    attempt.workflow_instance_id,
                    attempt.seq,
                    attempt.task_type,
                    attempt.status,
                    attempt.scheduled_time,
                    _encode(attempt),
                ),
            )

    def delete_attempts(self, attempts: Iterable[TaskState]) -> None:
        """Delete attempts and their logs."""
        for attempt in attempts:
            self.store.write("DELETE FROM task WHERE id = ?", (attempt.task_id,))
            self.store.write("DELETE FROM log WHERE task_id = ?", (attempt.task_id,))

    def delete_run(self, run: Run) -> None:
        """Delete an execution with all that belongs to it."""
        self.delete_attempts(run.attempts)
        self.store.write("DELETE FROM workflow WHERE id = ?", (run.id,))

    def load_run(self, workflow_id: str) -> Run | None:
        """Return an execution, or None."""
        for body, blueprint in self.store.rows("SELECT body, blueprint FROM workflow WHERE id = ?", (workflow_id,)):
            return self._run(body, blueprint)
        return None

    def open_runs(self) -> Iterator[Run]:
        """Yield all executions that have not ended."""
        for body, blueprint in self.store.rows(
            "SELECT body, blueprint FROM workflow WHERE status IN ('RUNNING', 'PAUSED') ORDER BY start_time, rowid"
        ):
            yield self._run(body, blueprint)

    def _run(self, body: bytes, blueprint: str) -> Run:
        workflow = _workflow_decoder.decode(body)
        rows = self.store.rows("SELECT body FROM task WHERE workflow_id = ? ORDER BY seq", (workflow.workflow_id,))
        attempts = [_task_decoder.decode(row[0]) for row in rows]
        return Run(workflow, self.blueprint_by_key(blueprint), attempts)

    def workflow_exists(self, workflow_id: str) -> bool:
        """Return whether there is such an execution."""
        return self.store.value("SELECT 1 FROM workflow WHERE id = ?", (workflow_id,)) is not None

    def find_ids(
        self, name: str, *, version: int | None = None, correlation_id: str | None = None, only_open: bool
    ) -> list[str]:
        """Return the ids of executions of a definition, oldest first."""
        rows = self.store.rows(
            "SELECT id FROM workflow WHERE name = ?1 AND version = coalesce(?2, version) "
            "AND (?3 IS NULL OR correlation_id = ?3) AND (NOT ?4 OR status IN ('RUNNING', 'PAUSED')) "
            "ORDER BY start_time, rowid",
            (name, version, correlation_id, only_open),
        )
        return [row[0] for row in rows]

    def workflow_of_task(self, task_id: str) -> str | None:
        """Return the id of the workflow that a task belongs to, or None."""
        found: str | None = self.store.value("SELECT workflow_id FROM task WHERE id = ?", (task_id,))
        return found

    # -- blueprints ------------------------------------------------------------------------------------------------

    def blueprint(self, raw: bytes) -> Blueprint:
        """Return the blueprint of a frozen definition; it is stored for the executions that follow it."""
        made = Blueprint(raw)
        known = self._blueprints.get(made.key)
        if known is None:
            self._blueprints[made.key] = known = made
        self.store.write("INSERT OR IGNORE INTO blueprint (key, body) VALUES (?, ?)", (known.key, raw))
        return known

    def blueprint_by_key(self, key: str) -> Blueprint:
        """Return a stored blueprint."""
        known = self._blueprints.get(key)
        if known is None:
            known = Blueprint(self.store.value("SELECT body FROM blueprint WHERE key = ?", (key,)))
            self._blueprints[key] = known
        return known

    def prune_blueprints(self) -> None:
        """Delete the blueprints that no execution follows."""
        self.store.write("DELETE FROM blueprint WHERE key NOT IN (SELECT blueprint FROM workflow)", ())

    # -- definitions -----------------------------------------------------------------------------------------------

    def save_task_definition(self, definition: TaskDefinition) -> None:
        """Write a task definition over an earlier one of the same name."""
        self.store.write(
            "INSERT OR REPLACE INTO task_definition (name, body) VALUES (?, ?)", (definition.name, _encode(definition))
        )

    def task_definition(self, name: str) -> TaskDefinition | None:
        """Return a task definition, or None."""
        body = self.store.value("SELECT body FROM task_definition WHERE name = ?", (name,))
        return None if body is None else msgspec.json.decode(body, type=TaskDefinition)

    def task_definitions(self) -> list[msgspec.Raw]:
        """Return all task definitions as JSON."""
        return [msgspec.Raw(row[0]) for row in self.store.rows("SELECT body FROM task_definition ORDER BY name")]

    def delete_task_definition(self, name: str) -> bool:
        """Delete a task definition; return whether there was one."""
        return self.store.write("DELETE FROM task_definition WHERE name = ?", (name,)) > 0

    def save_workflow_definition(self, definition: WorkflowDefinition) -> None:
        """Write a workflow definition over an earlier one of the same name and version."""
        self.store.write(
            "INSERT OR REPLACE INTO workflow_definition (name, version, body) VALUES (?, ?, ?)",
            (definition.name, definition.version, _encode(definition)),
        )

    def workflow_definition(self, name: str, version: int | None) -> WorkflowDefinition | None:
        """Return a workflow definition, the latest without a version, or None."""
        body = self.store.value(
            "SELECT body FROM workflow_definition WHERE name = ?1 AND version = coalesce(?2, version) "
            "ORDER BY version DESC LIMIT 1",
            (name, version),
        )
        return None if body is None else msgspec.json.decode(body, type=WorkflowDefinition)

    def workflow_definitions(self, name: str | None = None) -> list[WorkflowDefinition]:
        """Return the definitions of one name, or all, by name and version."""
        rows = self.store.rows(
            "SELECT body FROM workflow_definition WHERE name = coalesce(?, name) ORDER BY name, version", (name,)
        )
        return [msgspec.json.decode(row[0], type=WorkflowDefinition) for row in rows]

    def delete_workflow_definition(self, name: str, version: int) -> bool:
        """Delete a workflow definition; return whether there was one."""
        return self.store.write("DELETE FROM workflow_definition WHERE name = ? AND version = ?", (name, version)) > 0

    # -- logs ------------------------------------------------------------------------------------------------------

    def add_log(self, task_id: str, created_time: int, line: str) -> None:
        """Append a line to a task's log."""
        self.store.write(
            "INSERT INTO log (task_id, created_time, line) VALUES (?, ?, ?)", (task_id, created_time, line)
        )

    def logs(self, task_id: str) -> list[LogLine]:
        """Return a task's log, oldest first."""
        rows = self.store.rows(
            "SELECT created_time, line FROM log WHERE task_id = ? ORDER BY created_time, rowid", (task_id,)
        )
        return [LogLine(log=line, task_id=task_id, created_time=created) for created, line in rows]
