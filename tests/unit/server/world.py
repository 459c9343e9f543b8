"""A world for the decider: a clock that the test moves, ids that count, and workers that are the test itself."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

from podium.server import actions
from podium.server.actions import TaskReport
from podium.server.blueprint import Blueprint, freeze
from podium.server.definitions import TaskDefinition, WorkflowDefinition, read_document
from podium.server.engine import Surroundings, Turn
from podium.server.state import Run, TaskState, WorkflowState

START = 1_000_000


def simple(ref: str, name: str = "t", **fields: Any) -> dict[str, Any]:
    return {"name": name, "taskReferenceName": ref, **fields}


def operator(kind: str, ref: str, **fields: Any) -> dict[str, Any]:
    return simple(ref, ref, type=kind, **fields)


def fork(*branches: list[dict[str, Any]], on: list[str]) -> list[dict[str, Any]]:
    return [operator("FORK_JOIN", "fork", forkTasks=list(branches)), operator("JOIN", "join", joinOn=on)]


def switch(cases: dict[str, list[dict[str, Any]]], default: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return operator(
        "SWITCH",
        "switch",
        evaluatorType="value-param",
        expression="case",
        inputParameters={"case": "${workflow.input.case}"},
        decisionCases=cases,
        defaultCase=default or [],
    )


def blueprint(tasks: list[dict[str, Any]], definitions: Iterable[dict[str, Any]] = (), **fields: Any) -> Blueprint:
    workflow = read_document({"name": "flow", "tasks": tasks, **fields}, WorkflowDefinition)
    known = {item["name"]: read_document(item, TaskDefinition) for item in definitions}
    return Blueprint(freeze(workflow, known.get))


class World:
    """One execution and everything around it."""

    def __init__(
        self,
        tasks: list[dict[str, Any]],
        definitions: list[dict[str, Any]] | None = None,
        data: dict[str, Any] | None = None,
        task_to_domain: dict[str, str] | None = None,
        **fields: Any,
    ) -> None:
        self.now = START
        self.polled: set[tuple[str, str]] = set()
        self._ids = count(1)
        # Without a word about it, a failed task is retried once, at once.
        defaults = [{"name": "t", "retryCount": 1, "retryDelaySeconds": 0}]
        made = blueprint(tasks, defaults if definitions is None else definitions, **fields)
        state = WorkflowState(
            workflow_id="w",
            workflow_name="flow",
            workflow_version=1,
            create_time=START,
            start_time=START,
            input=data or {},
            task_to_domain=task_to_domain or {},
            variables=made.definition.variables,
        )
        self.run = Run(state, made)
        self.last = self.evaluate()

    def turn(self) -> Turn:
        return Turn(
            self.run,
            Surroundings(
                now=self.now,
                new_id=lambda: f"task-{next(self._ids)}",
                polled_lately=lambda task_type, domain: (task_type, domain) in self.polled,
                random=lambda: 0.5,
            ),
        )

    def evaluate(self) -> Turn:
        turn = self.turn()
        turn.evaluate()
        return turn

    def pass_time(self, seconds: float) -> Turn:
        self.now += round(seconds * 1000)
        return self.evaluate()

    def take(self, ref: str) -> TaskState:
        attempt = self.run.latest[ref]
        assert attempt.status == "SCHEDULED", attempt
        assert attempt.pollable_at <= self.now, "not pollable yet"
        actions.hand_out(self.turn(), attempt, "worker")
        return attempt

    def report(self, ref: str, status: str = "COMPLETED", **fields: Any) -> TaskState:
        attempt = self.run.latest[ref]
        said = read_document({"status": status, "outputData": {}, **fields}, TaskReport)
        self.last = self.turn()
        assert actions.report(self.last, attempt, said)
        return attempt

    def do(self, ref: str, status: str = "COMPLETED", **fields: Any) -> TaskState:
        self.take(ref)
        return self.report(ref, status, **fields)

    @property
    def status(self) -> str:
        return self.run.workflow.status

    def open(self) -> set[str]:
        return {attempt.reference_task_name for attempt in self.run.open_attempts()}

    def statuses(self) -> dict[str, str]:
        return {ref: attempt.status for ref, attempt in self.run.latest.items()}
