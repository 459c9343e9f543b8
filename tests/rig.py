"""Running workers against a server, in a few words."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import samples
from podium import (
    Client,
    Configuration,
    StartWorkflowRequest,
    Task,
    TaskDef,
    TaskHandler,
    Worker,
    Workflow,
    WorkflowDef,
    WorkflowTask,
)

T = TypeVar("T")

DEADLINE = 30.0


def unique(word: str) -> str:
    """Return a name that is used once, so that tests can share a server."""
    return f"{word}_{uuid.uuid4().hex[:10]}"


def until(look: Callable[[], T], what: str, deadline: float = DEADLINE) -> T:
    """Look again and again until something true is seen, and return it."""
    end = time.monotonic() + deadline
    pause = 0.005
    while not (seen := look()):
        assert time.monotonic() < end, f"not seen within {deadline} s: {what}"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
    return seen


class Rig:
    """A server, a client, and names for the sample functions that nobody else uses."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.configuration = Configuration(server_api_url=url)
        self.client = Client(self.configuration)
        self._prefix = unique("rig")

    def name_of(self, function: Callable[..., Any]) -> str:
        return f"{self._prefix}_{function.__name__}"

    def worker(self, function: Callable[..., Any], **options: Any) -> Worker:
        options = {"thread_count": 4, "poll_interval": 20} | options
        return Worker(self.name_of(function), function, **options)

    def define(self, *functions: Callable[..., Any], **fields: Any) -> None:
        """Register task definitions: no retries and a long response timeout unless the fields say otherwise."""
        defaults: dict[str, Any] = {"retry_count": 0, "retry_delay_seconds": 0, "response_timeout_seconds": 60}
        self.client.register_task_defs(
            [TaskDef(name=self.name_of(function), **(defaults | fields)) for function in functions]
        )

    @contextmanager
    def running(self, *workers: Worker, **options: Any) -> Iterator[TaskHandler]:
        """Run workers in a TaskHandler; the options are its own."""
        options = {"grace_seconds": 5.0} | options
        with TaskHandler(
            workers=workers, configuration=self.configuration, scan_for_annotated_workers=False, **options
        ) as handler:
            handler.start_processes()
            yield handler

    def start(self, function: Callable[..., Any], priority: int = 0, domain: str | None = None, **inputs: Any) -> str:
        """Start a workflow of this one task; return the workflow's id."""
        name = self.name_of(function)
        definition = WorkflowDef(
            name=f"{name}_flow",
            tasks=[WorkflowTask(name=name, task_reference_name="t", input_parameters=inputs)],
        )
        request = StartWorkflowRequest(
            name=definition.name,
            workflow_def=definition,
            priority=priority,
            task_to_domain={name: domain} if domain else {},
        )
        return self.client.start_workflow(request)

    def finish(self, workflow_id: str, deadline: float = DEADLINE) -> Workflow:
        """Wait for a workflow's end; return it with its tasks."""
        return self.client.wait_for_workflow(workflow_id, timeout=deadline)

    def last_task(self, workflow_id: str, deadline: float = DEADLINE) -> Task:
        """Wait for a workflow's end; return its last task."""
        return self.finish(workflow_id, deadline).tasks[-1]

    def run(self, function: Callable[..., Any], **inputs: Any) -> Task:
        """Run a function as a task; return the task as the server has it."""
        return self.last_task(self.start(function, **inputs))

    def task(self, workflow_id: str, number: int = -1) -> Task:
        """Return a task of a workflow that may still run."""
        return self.client.get_workflow(workflow_id).tasks[number]


__all__ = ["DEADLINE", "Rig", "samples", "unique", "until"]
