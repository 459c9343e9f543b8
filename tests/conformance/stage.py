"""A server as one test sees it: raw calls, names that nobody else uses, and short words for what tests do often."""

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import pytest

from conformance.http import Answer, Http

#: How long a poll of the suite waits for a task that is due.
TAKE_TIMEOUT_MS = 5000
#: How long ``until`` waits; background work of the real server (JOIN) may need seconds on a busy machine.
UNTIL_TIMEOUT_S = 30

#: For tests of what only podium's own server does.
embedded_only = pytest.mark.parametrize("server", ["embedded"], indirect=True)

T = TypeVar("T")

TERMINAL = frozenset({"COMPLETED", "FAILED", "TIMED_OUT", "TERMINATED"})


@dataclass(frozen=True)
class Server:
    """A running server: the URL of its API and which one it is."""

    url: str
    kind: Literal["embedded", "real"]


def unique(word: str) -> str:
    """Return a name that is used once, so tests can share a server without seeing each other."""
    return f"{word}_{uuid.uuid4().hex[:10]}"


def simple(name: str, ref: str = "a", **fields: Any) -> dict[str, Any]:
    """A worker task of a workflow definition; fields are in Conductor's spelling."""
    return {"name": name, "taskReferenceName": ref, "type": "SIMPLE"} | fields


class Stage(Http):
    """One server, with helpers that fail the test at once when a call that must work does not."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.url)
        self.kind = server.kind
        self.url = server.url

    # -- definitions

    def define_task(self, **fields: Any) -> str:
        """Register a task definition (no retries unless the fields say so) and return its name."""
        definition = {"name": unique("task"), "retryCount": 0, "retryDelaySeconds": 0} | fields
        expect(self.post("/metadata/taskdefs", [definition]))
        return str(definition["name"])

    def define_workflow(self, *tasks: dict[str, Any], **fields: Any) -> str:
        """Register a workflow definition and return its name."""
        definition = {"name": unique("flow"), "tasks": list(tasks)} | fields
        expect(self.post("/metadata/workflow", definition))
        return str(definition["name"])

    # -- workflows

    def start(self, name: str, data: dict[str, Any] | None = None, **request: Any) -> str:
        """Start a workflow and return its id; the request's further fields are in Conductor's spelling."""
        return expect(self.post("/workflow", {"name": name, "input": data or {}} | request)).text

    def run(self, *tasks: dict[str, Any], data: dict[str, Any] | None = None, **fields: Any) -> str:
        """Register a workflow of these tasks, start it and return its id."""
        return self.start(self.define_workflow(*tasks, **fields), data)

    def run_simple(self, data: dict[str, Any] | None = None, **fields: Any) -> tuple[str, str]:
        """Start a workflow of one worker task; return the task's type and the workflow's id."""
        task_type = self.define_task(**fields)
        return task_type, self.run(simple(task_type), data=data)

    def workflow(self, workflow_id: str) -> dict[str, Any]:
        found: dict[str, Any] = expect(self.get(f"/workflow/{workflow_id}")).json
        return found

    def ended(self, workflow_id: str) -> dict[str, Any]:
        """Wait for the end of a workflow and return it."""
        return self.until(lambda: self.workflow(workflow_id), lambda workflow: workflow["status"] in TERMINAL)

    def decide(self, workflow_id: str) -> None:
        """Make the server evaluate a workflow now: its own timers may be a minute or two late."""
        expect(self.put(f"/workflow/decide/{workflow_id}"))

    def attempts(self, workflow_id: str, ref: str = "a") -> list[dict[str, Any]]:
        """The rows of one reference name, oldest first."""
        rows = [task for task in self.workflow(workflow_id)["tasks"] if task["referenceTaskName"] == ref]
        return sorted(rows, key=lambda task: task["seq"])

    # -- tasks

    def poll(self, task_type: str, count: int = 1, timeout: int = 0, **query: Any) -> list[dict[str, Any]]:
        """Look for tasks, by default without waiting for any."""
        path = f"/tasks/poll/batch/{task_type}"
        tasks: list[dict[str, Any]] = expect(self.get(path, count=count, timeout=timeout, **query)).json
        return tasks

    def take(self, task_type: str, **query: Any) -> dict[str, Any]:
        """Poll one task, waiting until it is due."""
        (task,) = self.poll(task_type, timeout=TAKE_TIMEOUT_MS, **query)
        return task

    def task(self, task_id: str) -> dict[str, Any]:
        found: dict[str, Any] = expect(self.get(f"/tasks/{task_id}")).json
        return found

    def report(self, task: dict[str, Any], status: str | None, path: str = "/tasks", **fields: Any) -> Answer:
        """Post a task result as it would come from a worker and return the answer, whatever it is."""
        ids = {"workflowInstanceId": task["workflowInstanceId"], "taskId": task["taskId"]}
        return self.post(path, ids | ({"status": status} if status else {}) | fields)

    def update(self, task: dict[str, Any], status: str, **fields: Any) -> None:
        """Post a task result that the server must accept."""
        expect(self.report(task, status, **fields))

    def complete(self, task: dict[str, Any], **output: Any) -> None:
        self.update(task, "COMPLETED", outputData=output)

    def fail(self, task: dict[str, Any], reason: str = "broken") -> None:
        self.update(task, "FAILED", reasonForIncompletion=reason)

    # -- waiting

    def until(self, look: Callable[[], T], holds: Callable[[T], object], within: float = UNTIL_TIMEOUT_S) -> T:
        """Look until a condition holds and return what was seen; fail with the last sight after the deadline."""
        deadline = time.monotonic() + within
        pause = threading.Event()
        while not holds(seen := look()):
            assert time.monotonic() < deadline, f"not within {within} s; last seen: {seen}"
            pause.wait(0.05)
        return seen

    def until_after(self, epoch_ms: int, seconds: float) -> None:
        """Wait until so long after a time the server has given."""
        due = epoch_ms / 1000 + seconds
        self.until(time.time, lambda now: now > due)


def expect(answer: Answer, status: int = 200) -> Answer:
    """Return the answer if it has the status, else fail with what the server said."""
    assert answer.status == status, f"{answer.status} instead of {status}: {answer.text}"
    return answer
