"""The scripted server for loads itself, spoken to without podium."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from checker import check
from event_log import Kind
from task_server import Faults, TaskServer

Calls = Callable[..., Any]


@pytest.fixture
def start() -> Iterator[Callable[..., tuple[TaskServer, Calls]]]:
    servers: list[TaskServer] = []

    def begin(**options: Any) -> tuple[TaskServer, Calls]:
        server = TaskServer(**options)
        server.__enter__()
        servers.append(server)

        def call(method: str, path: str, body: object = None) -> Any:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
            try:
                connection.request(method, f"/api{path}", None if body is None else json.dumps(body))
                answer = connection.getresponse()
                text = answer.read()
                assert answer.status < 300, text
                return json.loads(text) if text.startswith((b"{", b"[")) else text
            finally:
                connection.close()

        return server, call

    yield begin
    for server in servers:
        server.__exit__()


POLL = "/tasks/poll/batch/t?workerid=w&count=5"


def result(task: dict[str, Any], status: str = "COMPLETED", **fields: Any) -> dict[str, Any]:
    ids = {"taskId": task["taskId"], "workflowInstanceId": task["workflowInstanceId"]}
    return ids | {"status": status, "workerId": "w"} | fields


def test_tasks_are_given_once_and_end_once(start: Callable[..., tuple[TaskServer, Calls]]) -> None:
    server, call = start()
    assert server.add("t", 3, a=1) == ["t-1", "t-2", "t-3"]
    first, second, third = call("GET", POLL)
    assert call("GET", POLL) == []
    assert first["inputData"] == {"a": 1}
    call("POST", "/tasks", {"taskId": "t-1", "extendLease": True})
    call("POST", "/tasks", result(first))
    call("POST", "/tasks", result(first, "FAILED"))
    call("POST", "/tasks", result(second, "IN_PROGRESS", outputData={"kept": 1}))
    (again,) = call("GET", POLL)
    assert (again["taskId"], again["outputData"], again["pollCount"]) == ("t-2", {"kept": 1}, 2)
    server.add("t")
    following = call("POST", "/tasks/update-v2", result(second))
    assert following["taskId"] == "t-4"
    server.cancel("t-4")
    call("POST", "/tasks", result(following))
    call("POST", "/tasks", result(third))
    server.wait_for_end(1)
    assert call("GET", "/tasks/t-1")["status"] == "COMPLETED"
    assert server.statuses() == {"COMPLETED": 3, "CANCELED": 1}
    assert (server.duplicates, server.superseded) == (1, 1)
    assert server.log.count(Kind.GIVEN) == 5
    check(server.log)


def test_failed_and_timed_out_attempts_are_retried(start: Callable[..., tuple[TaskServer, Calls]]) -> None:
    server, call = start(retries=2, response_timeout=0.2)
    server.add("t")
    (task,) = call("GET", POLL)
    call("POST", "/tasks", result(task, "FAILED"))
    (task,) = call("GET", POLL)
    assert (task["taskId"], task["retryCount"]) == ("t-2", 1)
    end = time.monotonic() + 5
    while not (late := call("GET", POLL)):
        assert time.monotonic() < end
    call("POST", "/tasks", result(task))
    call("POST", "/tasks", result(late[0], "FAILED_WITH_TERMINAL_ERROR"))
    server.wait_for_end(1)
    assert server.superseded == 1
    assert server.log.count(Kind.TIMED_OUT) == 1


def test_faults_are_seeded_and_noted(start: Callable[..., tuple[TaskServer, Calls]]) -> None:
    faults = Faults(errors=0.2, cut_before=0.2, cut_after=0.2, seed=7)
    server, call = start(faults=faults)
    server.add("t", 50)
    lost = 0
    while tasks := call("GET", POLL):
        for task in tasks:
            try:
                call("POST", "/tasks", result(task))
            except (AssertionError, http.client.RemoteDisconnected):
                lost += 1
    assert lost == sum(faults.counts.values())
    assert len(faults.counts) == 3
    done = server.log.of(Kind.RESULT)
    assert len(done) == 50 - faults.counts["errors"] - faults.counts["cut_before"]
    assert sum(not event.answered for event in done) == faults.counts["cut_after"]
    with pytest.raises(AssertionError, match="I1"):
        check(server.log)


def test_poll_answer_that_is_cut_gives_in_vain(start: Callable[..., tuple[TaskServer, Calls]]) -> None:
    server, call = start(faults=Faults(cut_after=1.0, not_paths=()))
    server.add("t")
    with pytest.raises(http.client.RemoteDisconnected):
        call("GET", POLL)
    assert server.log.count(Kind.GIVEN_IN_VAIN) == 1
    check(server.log)
