"""The HTTP side: what no client library shows. The shapes themselves are in the conformance suite."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import pytest

from podium.testing import LocalServer, local_server


class Client:
    """Bare HTTP, so that the test sees every byte."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self.address = (parts.hostname, parts.port)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(*self.address, timeout=20)
        data = raw if raw is not None or body is None else json.dumps(body).encode()
        connection.request(method, f"/api{path}", data, {"Content-Type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        is_json = (answer.headers["content-type"] or "").startswith("application/json")
        return answer.status, json.loads(content) if is_json else content.decode()

    def define(self, name: str, *tasks: dict[str, Any], **fields: Any) -> None:
        assert self.call("PUT", "/metadata/workflow", [{"name": name, "tasks": list(tasks), **fields}])[0] == 200

    def run(self, name: str, **fields: Any) -> str:
        status, answer = self.call("POST", "/workflow", {"name": name, **fields})
        assert status == 200, answer
        return str(answer)

    def workflow(self, workflow_id: str) -> Any:
        return self.call("GET", f"/workflow/{workflow_id}")[1]

    def complete(self, task: dict[str, Any], status: str = "COMPLETED", **fields: Any) -> tuple[int, Any]:
        ids = {"workflowInstanceId": task["workflowInstanceId"], "taskId": task["taskId"]}
        return self.call("POST", "/tasks", {**ids, "status": status, **fields})


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_server() as server:
        yield Client(server.url)


def simple(name: str, ref: str = "a", **fields: Any) -> dict[str, Any]:
    return {"name": name, "taskReferenceName": ref, **fields}


def refusal(answer: tuple[int, Any]) -> tuple[int, str]:
    status, body = answer
    assert body["status"] == status
    assert body["retryable"] is False
    assert "Traceback" not in body["message"]
    return status, body["message"]


BAD_BODIES = [b"{", b"[1", b"\xff\xfe", b'"\\ud800"', b"nul", b"[" * 100_000, b"123", b'"text"', b"null", b"\0"]


@pytest.mark.parametrize("raw", BAD_BODIES, ids=[repr(raw[:8]) for raw in BAD_BODIES])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/tasks"),
        ("POST", "/tasks/update-v2"),
        ("POST", "/tasks/w/a/COMPLETED"),
        ("POST", "/workflow"),
        ("POST", "/workflow/f"),
        ("POST", "/workflow/execute/f/1"),
        ("POST", "/workflow/w/rerun"),
        ("PUT", "/workflow/bulk/pause"),
        ("POST", "/metadata/taskdefs"),
        ("PUT", "/metadata/taskdefs"),
        ("POST", "/metadata/workflow"),
        ("PUT", "/metadata/workflow"),
    ],
)
def test_bodies_that_are_not_what_is_expected(client: Client, method: str, path: str, raw: bytes) -> None:
    status, message = refusal(client.call(method, path, raw=raw))
    assert (status, message.startswith("JSON parse error")) == (500, True)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/metadata/taskdefs", [{"name": "t", "retryCount": 2**31}]),
        ("PUT", "/metadata/workflow", [{"name": "f", "version": 1e300, "tasks": [{"name": "t"}]}]),
        ("POST", "/workflow", {"name": "f", "version": 2**70}),
        ("POST", "/tasks", {"taskId": "t", "workflowInstanceId": "w", "logs": [{"createdTime": 2**63}]}),
        ("GET", "/metadata/workflow/f?version=99999999999", None),
        ("GET", "/tasks/poll/batch/t?count=1e3", None),
    ],
)
def test_numbers_out_of_range(client: Client, method: str, path: str, body: Any) -> None:
    status, message = refusal(client.call(method, path, body))
    assert status == 500
    assert message.startswith(("JSON parse error", "Method parameter"))


def test_missing_body_wrong_type_and_wrong_method(client: Client) -> None:
    assert refusal(client.call("POST", "/tasks"))[1].startswith("Required request body is missing")
    answer = client.call("POST", "/tasks", {}, headers={"Content-Type": "text/plain"})
    assert refusal(answer) == (500, "Content-Type 'text/plain' is not supported")
    assert refusal(client.call("PUT", "/tasks", {})) == (405, "Request method 'PUT' is not supported")
    assert refusal(client.call("GET", "/nothing")) == (404, "No static resource api/nothing.")
    assert refusal(client.call("POST", "/token", {}))[0] == 404


def test_too_large_a_body_is_refused(client: Client) -> None:
    body = b'{"name":"' + b"x" * (16 * 1024 * 1024) + b'"}'
    assert refusal(client.call("POST", "/workflow", raw=body))[0] == 413


def test_chunked_body_is_limited_too(client: Client) -> None:
    connection = http.client.HTTPConnection(*client.address, timeout=20)
    chunks = (b"x" * 1024 * 1024 for _ in range(17))
    connection.request("POST", "/api/tasks/t/log", chunks, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_too_large_an_output_fails_the_task_for_good(client: Client) -> None:
    client.define("large", simple("large"))
    workflow_id = client.run("large")
    task = client.call("GET", "/tasks/poll/large")[1]
    assert client.complete(task, outputData={"x": "y" * (10 * 1024 * 1024)})[0] == 200
    workflow = client.workflow(workflow_id)
    assert workflow["status"] == "FAILED"
    assert workflow["tasks"][0]["status"] == "FAILED_WITH_TERMINAL_ERROR"
    assert "10240 kilobytes" in workflow["tasks"][0]["reasonForIncompletion"]


@pytest.mark.parametrize(
    "name", ["a b", "ü-ß", "x.y", "tab\tline\nend", "nul\0", "q'\"; DROP TABLE task; --", "100%", "a?b#c"]
)
def test_odd_names_work_everywhere(client: Client, name: str) -> None:
    path = quote(name, safe="")
    assert client.call("POST", "/metadata/taskdefs", [{"name": name, "retryCount": 0}])[0] == 200
    assert client.call("GET", f"/metadata/taskdefs/{path}")[1]["name"] == name
    client.define(name, simple(name))
    workflow_id = client.run(name, correlationId=name, taskToDomain={name: name})
    assert client.call("GET", f"/tasks/queue/size?taskType={path}&domain={path}") == (200, 1)
    task = client.call("GET", f"/tasks/poll/{path}?workerid={path}&domain={path}")[1]
    assert (task["taskType"], task["workerId"], task["domain"]) == (name, name, name)
    assert client.complete(task)[0] == 200
    found = client.call("GET", f"/workflow/{path}/correlated/{path}?includeClosed=true")[1]
    assert [workflow["workflowId"] for workflow in found] == [workflow_id]


def test_surrogates_cannot_get_in(client: Client) -> None:
    assert client.call("GET", "/tasks/poll/%ED%A0%80")[0] == 204
    assert client.call("POST", "/tasks/x/log", raw=b"\xff\xfe")[0] == 200


def test_big_integers_and_nulls_keep_their_value(client: Client) -> None:
    client.define("values", simple("values", inputParameters={"all": "${workflow.input}"}))
    data = {"big": 2**100, "none": None, "list": [None, 1e300], "": {"ü": "\0"}}
    client.run("values", input=data)
    assert client.call("GET", "/tasks/poll/values")[1]["inputData"] == {"all": data}


def test_empty_poll_answers_at_once_and_update_v2_too(client: Client) -> None:
    client.define("idle", simple("idle"))
    client.run("idle")
    assert client.call("GET", "/tasks/poll/nobody") == (204, "")
    task = client.call("GET", "/tasks/poll/idle")[1]
    ids = {"workflowInstanceId": task["workflowInstanceId"], "taskId": task["taskId"]}
    assert client.call("POST", "/tasks/update-v2", {**ids, "status": "COMPLETED"}) == (204, "")


def test_long_poll_is_woken_by_a_start(client: Client) -> None:
    client.define("woken", simple("woken"))
    answers: list[Any] = []
    poller = threading.Thread(
        target=lambda: answers.append(client.call("GET", "/tasks/poll/batch/woken?count=10&timeout=5000"))
    )
    poller.start()
    while not client.call("GET", "/tasks/queue/polldata?taskType=woken")[1]:
        pass  # until the poll stands at the server
    client.run("woken")
    poller.join(3)
    ((status, tasks),) = answers
    assert (status, len(tasks)) == (200, 1)


def test_nothing_is_handed_to_a_client_that_left(client: Client) -> None:
    client.define("left", simple("left"))
    with socket.create_connection(client.address) as connection:
        connection.sendall(b"GET /api/tasks/poll/batch/left?timeout=5000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while not client.call("GET", "/tasks/queue/polldata?taskType=left")[1]:
            pass  # until the poll stands at the server
    client.run("left")
    status, tasks = client.call("GET", "/tasks/poll/batch/left?timeout=5000")
    assert (status, len(tasks), tasks[0]["pollCount"]) == (200, 1, 1)


def test_concurrency_limit_holds_across_domains_and_frees(client: Client) -> None:
    client.call("POST", "/metadata/taskdefs", [{"name": "limited", "concurrentExecLimit": 2}])
    client.define("limited", simple("limited"))
    for _ in range(4):
        client.run("limited")
    tasks = client.call("GET", "/tasks/poll/batch/limited?count=10&timeout=0")[1]
    assert len(tasks) == 2
    assert client.call("GET", "/tasks/poll/batch/limited?count=10&timeout=0")[1] == []
    assert client.complete(tasks[0])[0] == 200
    assert len(client.call("GET", "/tasks/poll/batch/limited?count=10&timeout=0")[1]) == 1


def test_blocking_task_is_answered(client: Client) -> None:
    client.define("blocked", {"name": "w", "taskReferenceName": "gate", "type": "WAIT"})
    status, answer = client.call("POST", "/workflow/execute/blocked/0?returnStrategy=BLOCKING_TASK", {"input": {}})
    assert (status, answer["taskType"], answer["status"], answer["signalTimeout"]) == (
        200,
        "WAIT",
        "IN_PROGRESS",
        False,
    )
    assert client.call("POST", f"/tasks/{answer['workflowId']}/COMPLETED/signal", {"x": 1})[0] == 200
    assert client.workflow(answer["workflowId"])["output"] == {"x": 1}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "[::1]:80", "LOCALHOST:1"])
def test_local_names_are_answered(client: Client, host: str) -> None:
    assert client.call("GET", "/version", headers={"Host": host}) == (200, "3.32.3")


@pytest.mark.parametrize("host", ["example.com", "localhost.example.com:80", "127.0.0.1.example.com", "", "[::2]"])
def test_foreign_names_are_refused(client: Client, host: str) -> None:
    assert refusal(client.call("GET", "/version", headers={"Host": host}))[0] == 403


def test_searches(client: Client) -> None:
    client.define("sought", simple("sought"))
    ids = [client.run("sought", correlationId=f"corr-{number}") for number in range(3)]
    query = quote("workflowType = 'sought' AND status IN (RUNNING, PAUSED) AND startTime > 5")
    found = client.call("GET", f"/workflow/search?query={query}&sort=startTime:DESC&size=2")[1]
    assert (found["totalHits"], len(found["results"])) == (3, 2)
    query = quote('workflowId="' + ids[0] + '" AND startTime >= 2020-01-01T00:00:00Z')
    found = client.call("GET", f"/workflow/search-v2?query={query}")[1]
    assert [workflow["correlationId"] for workflow in found["results"]] == ["corr-0"]
    assert client.call("GET", "/workflow/search?freeText=corr-2&query=workflowType%3Dsought")[1]["totalHits"] == 1
    assert (
        client.call("GET", "/tasks/search-v2?query=taskType%3Dsought&start=2")[1]["results"][0]["status"] == "SCHEDULED"
    )
    assert refusal(client.call("GET", "/workflow/search?query=%27%20OR%201%3D1%20--"))[0] == 400
    assert refusal(client.call("GET", "/workflow/search?query=startTime%3Dx"))[0] == 400


def test_timeout_is_noticed_by_itself(client: Client) -> None:
    definition = {"name": "silent", "retryCount": 0, "responseTimeoutSeconds": 1}
    client.call("POST", "/metadata/taskdefs", [definition])
    client.define("silent", simple("silent"), failureWorkflow="repair")
    client.define("repair", simple("repair", inputParameters={"failed": "${workflow.input.failedWorkflow.status}"}))
    workflow_id = client.run("silent")
    assert len(client.call("GET", "/tasks/poll/batch/silent?timeout=1000")[1]) == 1
    ((task,)) = client.call("GET", "/tasks/poll/batch/repair?timeout=5000")[1]
    assert task["inputData"] == {"failed": "TIMED_OUT"}
    workflow = client.workflow(workflow_id)
    assert workflow["status"] == "TIMED_OUT"
    assert 1000 <= workflow["endTime"] - workflow["tasks"][0]["startTime"] < 1500
    assert workflow["output"]["conductor.failure_workflow"] == task["workflowInstanceId"]


def test_server_stops_at_once_under_open_polls_and_frees_its_port() -> None:
    server = LocalServer()
    client = Client(server.url)
    answers: list[Any] = []
    poller = threading.Thread(target=lambda: answers.append(client.call("GET", "/tasks/poll/batch/t?timeout=5000")))
    poller.start()
    while not client.call("GET", "/tasks/queue/polldata?taskType=t")[1]:
        pass  # until the poll stands at the server
    server.stop()
    poller.join(1)
    assert answers == [(200, [])]
    with local_server(port=client.address[1] or 0) as again:
        assert again.url == server.url
    server.stop()


def test_answers_are_the_json_of_the_struct(client: Client) -> None:
    client.define("shape", simple("shape"))
    workflow = client.workflow(client.run("shape"))
    (task,) = workflow["tasks"]
    assert "due" not in task
    assert task["workflowTask"]["taskDefinition"] == task["taskDefinition"]
    assert msgspec.json.encode(workflow)
