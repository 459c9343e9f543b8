"""A scripted server, and a rig that talks to it: the whole engine against a server that misbehaves."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from engine_fakes import task_json
from fake_server import Answer, FakeServer, Request, json_answer, text_answer
from podium import PollCompleted, PollFailure, TaskUpdateCompleted, TaskUpdateFailure
from rig import Rig, until

DONE = text_answer("id")
NOTHING = json_answer([])


class Heard:
    """Notes what happens, with its time."""

    def __init__(self) -> None:
        self.poll_failures: list[PollFailure] = []
        self.polls: list[PollCompleted] = []
        self.updates: list[TaskUpdateCompleted] = []
        self.update_failures: list[TaskUpdateFailure] = []
        self.on_poll_failure = self.poll_failures.append
        self.on_poll_completed = self.polls.append
        self.on_task_update_completed = self.updates.append
        self.on_task_update_failure = self.update_failures.append


class Scene:
    """A scripted server and a rig that talks to it; times are those of the requests' arrival."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.rig = Rig(server.url)
        self.heard = Heard()
        self.poll_times: list[float] = []
        server.on("POST", "/api/tasks", DONE)
        server.on("POST", "/api/tasks/update-v2", Answer(status=204))

    def polls(self, function: Callable[..., Any], *answers: Answer) -> str:
        """Script the polls of a function's worker; return their path."""

        def timed(answer: Answer) -> Callable[[Request], Answer]:
            def give(_request: Request) -> Answer:
                self.poll_times.append(time.monotonic())
                return answer

            return give

        path = f"/api/tasks/poll/batch/{self.rig.name_of(function)}"
        self.server.on("GET", path, *map(timed, answers))
        return path

    def running(self, function: Callable[..., Any], isolation: str = "thread", **options: Any) -> Any:
        worker = self.rig.worker(function, **options)
        return self.rig.running(worker, isolation=isolation, event_listeners=[self.heard])

    def reports(self) -> list[dict[str, Any]]:
        """Every result that arrived, on either way, in order."""
        return reports_to(self.server)

    def completed(self, *task_ids: str, deadline: float = 30) -> None:
        """Wait until each of these tasks was reported, once and as completed."""

        def all_there() -> bool:
            return {report["taskId"] for report in self.reports()} >= set(task_ids)

        until(all_there, f"reports of {task_ids}", deadline)
        assert {report["status"] for report in self.reports()} == {"COMPLETED"}


def tasks(*names: str, **inputs: Any) -> Answer:
    return raw_tasks(*(task_json(name, inputData=inputs) for name in names))


def raw_tasks(*raw: bytes) -> Answer:
    return Answer(body=b"[" + b",".join(raw) + b"]", headers={"Content-Type": "application/json"})


def reports_to(server: FakeServer) -> list[dict[str, Any]]:
    """Every result that arrived at a server, on either way, in order."""
    paths = {"/api/tasks", "/api/tasks/update-v2"}
    bodies = [request.json for request in list(server.requests) if request.path in paths]
    return [body for body in bodies if "extendLease" not in body]
