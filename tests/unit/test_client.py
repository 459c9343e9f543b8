"""Every method of the clients: the request it makes, the answer it reads, the errors it raises."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from fake_server import Answer, FakeServer, Gate, error_answer, json_answer, text_answer
from podium.client import AsyncClient
from podium.config import Configuration
from podium.errors import (
    AnswerError,
    ConfigError,
    ConflictError,
    ConnectError,
    NotFoundError,
    ServerError,
    TimeoutExceededError,
)
from podium.models import (
    RerunWorkflowRequest,
    SchemaDef,
    StartWorkflowRequest,
    TaskDef,
    TaskResult,
    TaskResultStatus,
    WorkflowDef,
    WorkflowTask,
)
from podium.sync import Client, Portal
from podium.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable

WORKFLOW = WorkflowDef(name="w", tasks=[WorkflowTask(name="t", task_reference_name="r")])
WORKFLOW_JSON = {"name": "w", "tasks": [{"name": "t", "taskReferenceName": "r"}]}
NOTHING = Answer()


def client_of(server: FakeServer) -> Client:
    return Client(Configuration(server_api_url=server.url))


@pytest.mark.parametrize(
    ("call", "request_line", "body", "answer", "result"),
    [
        # workers
        (
            lambda c: c.poll_tasks("t x", worker_id="w1", count=3, timeout_ms=0),
            "GET /tasks/poll/batch/t%20x?workerid=w1&count=3&timeout=0",
            None,
            json_answer([{"taskId": "1"}, 7]),
            [b'{"taskId": "1"}', b"7"],
        ),
        (
            lambda c: c.poll_tasks("t", worker_id="w1", domain="d"),
            "GET /tasks/poll/batch/t?workerid=w1&count=1&timeout=100&domain=d",
            None,
            json_answer([]),
            [],
        ),
        (
            lambda c: c.poll_tasks("t", worker_id="w1", domain=""),
            "GET /tasks/poll/batch/t?workerid=w1&count=1&timeout=100",
            None,
            Answer(status=204),
            [],
        ),
        (lambda c: c.post_result(b'{"a":1}'), "POST /tasks", {"a": 1}, text_answer("id"), None),
        (lambda c: c.post_result_v2(b'{"a":1}'), "POST /tasks/update-v2", {"a": 1}, Answer(status=204), None),
        (
            lambda c: c.post_result_v2(b"{}"),
            "POST /tasks/update-v2",
            {},
            json_answer({"taskId": "2"}),
            b'{"taskId": "2"}',
        ),
        (
            lambda c: c.extend_lease("1", "w1"),
            "POST /tasks",
            {"taskId": "1", "workflowInstanceId": "w1", "extendLease": True},
            text_answer("1"),
            None,
        ),
        (lambda c: c.append_task_log("1", '"ü"'), "POST /tasks/1/log", "ü", NOTHING, None),
        (lambda c: c.add_task_log("1", "7"), "POST /tasks/1/log", 7, NOTHING, None),
        # tasks
        (
            lambda c: c.get_task("1").input_data,
            "GET /tasks/1",
            None,
            json_answer({"inputData": {"a": 1}, "new": 2}),
            {"a": 1},
        ),
        (
            lambda c: c.update_task(TaskResult(task_id="1", workflow_instance_id="w1")),
            "POST /tasks",
            {"taskId": "1", "workflowInstanceId": "w1", "status": "COMPLETED"},
            text_answer("1"),
            None,
        ),
        (
            lambda c: c.update_task_by_ref("w1", "r", TaskResultStatus.FAILED, {"a": 1}, worker_id="me"),
            "POST /tasks/w1/r/FAILED?workerid=me",
            {"a": 1},
            text_answer("1"),
            "1",
        ),
        (lambda c: c.update_task_by_ref("w1", "r"), "POST /tasks/w1/r/COMPLETED", {}, NOTHING, None),
        (lambda c: [x.log for x in c.get_task_logs("1")], "GET /tasks/1/log", None, json_answer([{"log": "a"}]), ["a"]),
        (lambda c: c.get_task_logs("1"), "GET /tasks/1/log", None, Answer(status=204), []),
        (
            lambda c: c.get_queue_sizes(["a", "d:b"]),
            "GET /tasks/queue/sizes?taskType=a&taskType=d%3Ab",
            None,
            json_answer({"a": 0, "d:b": 1}),
            {"a": 0, "d:b": 1},
        ),
        (
            lambda c: c.get_poll_data("t")[0].worker_id,
            "GET /tasks/queue/polldata?taskType=t",
            None,
            json_answer([{"queueName": "t", "workerId": "w"}]),
            "w",
        ),
        # definitions
        (
            lambda c: c.register_task_defs([TaskDef(name="a", retry_count=0), TaskDef(name="b")]),
            "POST /metadata/taskdefs",
            [{"name": "a", "retryCount": 0}, {"name": "b"}],
            NOTHING,
            None,
        ),
        (lambda c: c.register_task_def(TaskDef(name="a")), "POST /metadata/taskdefs", [{"name": "a"}], NOTHING, None),
        (lambda c: c.update_task_def(TaskDef(name="a")), "PUT /metadata/taskdefs", {"name": "a"}, NOTHING, None),
        (
            lambda c: c.update_task_def({"name": "a", "x": 1}),
            "PUT /metadata/taskdefs",
            {"name": "a", "x": 1},
            NOTHING,
            None,
        ),
        (
            lambda c: c.get_task_def_json("a"),
            "GET /metadata/taskdefs/a",
            None,
            json_answer({"name": "a", "unheardOf": [1]}),
            {"name": "a", "unheardOf": [1]},
        ),
        (
            lambda c: c.register_schemas(
                [SchemaDef(name="s", data={"type": "object"}), SchemaDef(name="t", version=2)]
            ),
            "POST /schema?newVersion=false",
            [
                {"name": "s", "version": 1, "type": "JSON", "data": {"type": "object"}},
                {"name": "t", "version": 2, "type": "JSON"},
            ],
            NOTHING,
            None,
        ),
        (
            lambda c: c.get_schema("s", 2).data,
            "GET /schema/s/2",
            None,
            json_answer({"name": "s", "version": 2, "type": "JSON", "data": {}, "createTime": 1}),
            {},
        ),
        (lambda c: c.get_task_def("a").name, "GET /metadata/taskdefs/a", None, json_answer({"name": "a"}), "a"),
        (lambda c: len(c.get_task_defs()), "GET /metadata/taskdefs", None, json_answer([{}, {}]), 2),
        (lambda c: c.unregister_task_def("a"), "DELETE /metadata/taskdefs/a", None, NOTHING, None),
        (
            lambda c: c.register_workflow_def(WORKFLOW),
            "POST /metadata/workflow?overwrite=false",
            WORKFLOW_JSON,
            NOTHING,
            None,
        ),
        (
            lambda c: c.update_workflow_defs([WORKFLOW]).bulk_successful_results,
            "PUT /metadata/workflow",
            [WORKFLOW_JSON],
            json_answer({"bulkErrorResults": {}, "bulkSuccessfulResults": ["w"]}),
            ["w"],
        ),
        (lambda c: c.get_workflow_def("w").name, "GET /metadata/workflow/w", None, json_answer(WORKFLOW_JSON), "w"),
        (
            lambda c: c.get_workflow_def("w", 3).tasks[0].name,
            "GET /metadata/workflow/w?version=3",
            None,
            json_answer(WORKFLOW_JSON),
            "t",
        ),
        (lambda c: c.unregister_workflow_def("w", 3), "DELETE /metadata/workflow/w/3", None, NOTHING, None),
        # workflows
        (lambda c: c.start_workflow("w"), "POST /workflow", {"name": "w"}, text_answer("id"), "id"),
        (
            lambda c: c.start_workflow(
                "w", {"a": None}, version=2, correlation_id="c", priority=9, task_to_domain={"*": "d"}
            ),
            "POST /workflow",
            {
                "name": "w",
                "input": {"a": None},
                "version": 2,
                "correlationId": "c",
                "priority": 9,
                "taskToDomain": {"*": "d"},
            },
            json_answer("id"),
            "id",
        ),
        (
            lambda c: c.start_workflow(StartWorkflowRequest(name="w", workflow_def=WORKFLOW)),
            "POST /workflow",
            {"name": "w", "workflowDef": WORKFLOW_JSON},
            text_answer("id"),
            "id",
        ),
        (
            lambda c: c.execute_workflow("w", {"a": 1}, wait_for_seconds=2, wait_until_task_ref=["r", "s"]).output,
            "POST /workflow/execute/w/0?waitForSeconds=2&waitUntilTaskRef=r%2Cs",
            {"name": "w", "input": {"a": 1}},
            json_answer({"workflowId": "1", "output": {"b": 2}}),
            {"b": 2},
        ),
        (
            lambda c: c.execute_workflow("w", version=4, wait_until_task_ref="r").signal_timeout,
            "POST /workflow/execute/w/4?waitForSeconds=10&waitUntilTaskRef=r",
            {"name": "w", "version": 4},
            json_answer({"signalTimeout": True}),
            True,
        ),
        (
            lambda c: c.get_workflow("1").is_terminal,
            "GET /workflow/1?includeTasks=true",
            None,
            json_answer({"workflowId": "1", "status": "COMPLETED"}),
            True,
        ),
        (
            lambda c: c.get_workflow("1", include_tasks=False).tasks,
            "GET /workflow/1?includeTasks=false",
            None,
            json_answer({}),
            [],
        ),
        (
            lambda c: c.get_workflow_status("1", include_output=True).output,
            "GET /workflow/1/status?includeOutput=true&includeVariables=false",
            None,
            json_answer({"status": "RUNNING", "output": {"a": 1}}),
            {"a": 1},
        ),
        (
            lambda c: (
                c.search_workflows("workflowType=w AND status IN (FAILED)", size=5, sort="startTime:DESC").total_hits
            ),
            (
                "GET /workflow/search?query=workflowType%3Dw+AND+status+IN+%28FAILED%29&start=0&size=5"
                "&sort=startTime%3ADESC&freeText=*"
            ),
            None,
            json_answer({"totalHits": 3, "results": []}),
            3,
        ),
        (lambda c: c.terminate_workflow("1"), "DELETE /workflow/1", None, NOTHING, None),
        (lambda c: c.terminate_workflow("1", "no use"), "DELETE /workflow/1?reason=no+use", None, NOTHING, None),
        (lambda c: c.pause_workflow("1"), "PUT /workflow/1/pause", None, NOTHING, None),
        (lambda c: c.resume_workflow("1"), "PUT /workflow/1/resume", None, NOTHING, None),
        (
            lambda c: c.retry_workflow("1"),
            "POST /workflow/1/retry?resumeSubworkflowTasks=false",
            None,
            Answer(status=204),
            None,
        ),
        (
            lambda c: c.restart_workflow("1", use_latest_definitions=True),
            "POST /workflow/1/restart?useLatestDefinitions=true",
            None,
            Answer(status=204),
            None,
        ),
        (lambda c: c.rerun_workflow("1"), "POST /workflow/1/rerun", {}, text_answer("1"), "1"),
        (
            lambda c: c.rerun_workflow("1", RerunWorkflowRequest(re_run_from_task_id="5")),
            "POST /workflow/1/rerun",
            {"reRunFromTaskId": "5"},
            text_answer("1"),
            "1",
        ),
        (lambda c: c.remove_workflow("1"), "DELETE /workflow/1/remove?archiveWorkflow=true", None, NOTHING, None),
        (lambda c: c.decide_workflow("1"), "PUT /workflow/decide/1", None, NOTHING, None),
    ],
)
def test_each_method_makes_one_request_and_reads_its_answer(
    call: Callable[[Client], object], request_line: str, body: object, answer: Answer, result: object
) -> None:
    with FakeServer() as server, client_of(server) as client:
        server.otherwise(answer)
        assert call(client) == result
        (request,) = server.requests
    assert f"{request.method} {request.target.removeprefix('/api')}" == request_line
    assert (json.loads(request.body) if request.body else None) == body


def test_the_blocking_client_has_every_method_of_the_other_with_the_same_signature() -> None:
    methods = {
        name: method
        for name, method in vars(AsyncClient).items()
        if inspect.iscoroutinefunction(method) and not name.startswith("_")
    }
    methods["close"] = methods.pop("aclose")
    assert set(methods) == {name for name in vars(Client) if not name.startswith("_")}
    for name, method in methods.items():
        mirrored = getattr(Client, name)
        assert not inspect.iscoroutinefunction(mirrored)
        assert inspect.signature(mirrored) == inspect.signature(method)
        assert mirrored.__doc__ == method.__doc__


# --- answers that are not what was asked for -----------------------------------------------------------------------


def test_defect_7_a_404_says_whether_the_task_or_the_endpoint_is_missing() -> None:
    with FakeServer() as server, client_of(server) as client:
        server.on("POST", "/api/tasks/update-v2", error_answer(404, "No such task found by id: x"))
        with pytest.raises(NotFoundError) as caught:
            client.post_result_v2(b"{}")
        assert caught.value.message == "No such task found by id: x"
        server.on("POST", "/api/tasks/update-v2", error_answer(404, "No static resource api/tasks/update-v2."))
        with pytest.raises(NotFoundError) as caught:
            client.post_result_v2(b"{}")
        assert caught.value.message.startswith("No static resource")


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b"<html>login</html>", b'[{"taskId":"1"}', b"[" * 5000])
def test_p10_a_poll_answer_that_is_no_list_is_an_error_not_an_empty_queue(body: bytes) -> None:
    with FakeServer() as server, client_of(server) as client:
        server.otherwise(Answer(body=body))
        with pytest.raises(AnswerError):
            client.poll_tasks("t", worker_id="w")


def test_p9_a_task_with_unknown_values_does_not_spoil_its_neighbours() -> None:
    with FakeServer() as server, client_of(server) as client:
        server.otherwise(
            Answer(body=b'[{"taskId":"1","status":"NEW"},{"inputData":[' + b"[" * 5000 + b"]" * 5001 + b"},3]")
        )
        assert [raw[:14] for raw in client.poll_tasks("t", worker_id="w")] == [
            b'{"taskId":"1",',
            b'{"inputData":[',
            b"3",
        ]


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"status": 7}', b"[" * 5000, b""])
def test_other_answers_that_do_not_fit_are_answer_errors_without_their_content(body: bytes) -> None:
    with FakeServer() as server, client_of(server) as client:
        server.otherwise(Answer(body=body + b" planted"))
        with pytest.raises(AnswerError) as caught:
            client.get_workflow("1")
        assert "planted" not in str(caught.value)


@pytest.mark.parametrize("name", ["", ".", "..", "../../admin", "a/b", "a\0"])
def test_S09_ids_and_names_cannot_leave_their_place_in_the_path(name: str) -> None:
    with FakeServer() as server, client_of(server) as client:
        calls: list[Callable[[], object]] = [
            lambda: client.get_task(name),
            lambda: client.poll_tasks(name, worker_id="w"),
            lambda: client.update_task_by_ref("w", name),
            lambda: client.terminate_workflow(name),
            lambda: client.get_task_def(name),
        ]
        for call in calls:
            with pytest.raises(ConfigError):
                call()
        assert not server.connections


def test_S09_encoded_dots_and_query_signs_stay_text() -> None:
    with FakeServer() as server, client_of(server) as client:
        server.otherwise(json_answer([]))
        client.poll_tasks("%2e%2e?x#y", worker_id="w&count=99", domain="../..")
        (request,) = server.requests
    assert request.path == "/api/tasks/poll/batch/%252e%252e%3Fx%23y"
    assert request.query == {"workerid": "w&count=99", "count": "1", "timeout": "100", "domain": "../.."}


def test_a_poll_has_its_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float | None] = []
    plain = Transport.request

    async def request(self: Transport, *args: Any, **kwargs: Any) -> Any:
        limits.append(kwargs["timeout"])
        return await plain(self, *args, **kwargs)

    monkeypatch.setattr(Transport, "request", request)
    with FakeServer() as server, client_of(server) as client:
        server.otherwise(json_answer([]))
        client.poll_tasks("t", worker_id="w", timeout_ms=1500)
    assert limits == [6.0]


def test_a_request_and_its_parts_together_are_refused() -> None:
    with FakeServer() as server, client_of(server) as client:
        with pytest.raises(ConfigError, match="not both"):
            client.start_workflow(StartWorkflowRequest(name="w"), {"a": 1})
        assert not server.connections


# --- waiting for a workflow ----------------------------------------------------------------------------------------


def status(value: str) -> Answer:
    return json_answer({"workflowId": "1", "status": value})


def test_waiting_ends_with_the_workflow_and_survives_passing_faults() -> None:
    with FakeServer() as server, client_of(server) as client:
        server.on("GET", "/api/workflow/1/status", status("RUNNING"), error_answer(503, "busy"), status("FAILED"))
        server.on("GET", "/api/workflow/1", error_answer(502, "busy"), status("FAILED"))
        assert client.wait_for_workflow("1").status == "FAILED"


def test_waiting_in_vain_is_a_timeout_error_with_the_status() -> None:
    with FakeServer() as server, client_of(server) as client:
        server.on("GET", "/api/workflow/1/status", status("PAUSED"))
        with pytest.raises(TimeoutError, match=r"1 has not ended within 0\.1 s; its status is PAUSED"):
            client.wait_for_workflow("1", timeout=0.1)


def test_waiting_for_an_unknown_workflow_fails_at_once() -> None:
    with FakeServer() as server, client_of(server) as client:
        with pytest.raises(NotFoundError):
            client.wait_for_workflow("1")
        assert len(server.requests) == 1


# --- life of a client ----------------------------------------------------------------------------------------------


def test_the_configuration_defaults_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeServer() as server:
        monkeypatch.setenv("CONDUCTOR_SERVER_URL", server.url)
        server.otherwise(text_answer("id"))
        with Client() as client:
            assert client.start_workflow("w") == "id"


def test_a_shared_transport_outlives_its_clients() -> None:
    async def work(server: FakeServer) -> None:
        transport = Transport(Configuration(server_api_url=server.url))
        for _ in range(2):
            async with AsyncClient(transport=transport) as client:
                await client.pause_workflow("1")
        await transport.aclose()
        with pytest.raises(ConnectError, match="closed"):
            await AsyncClient(transport=transport).pause_workflow("1")

    with FakeServer() as server:
        server.otherwise(NOTHING)
        asyncio.run(work(server))
        assert server.connections == 1


def test_a_closed_client_says_so() -> None:
    with FakeServer() as server:
        client = client_of(server)
        client.close()
        client.close()
        with pytest.raises(ConnectError, match="closed"):
            client.pause_workflow("1")


def test_the_blocking_client_works_from_many_threads_at_once() -> None:
    gate = Gate()
    with FakeServer() as server, client_of(server) as client:
        server.otherwise(text_answer("id", gate=gate))
        results: list[str] = []
        threads = [threading.Thread(target=lambda: results.append(client.start_workflow("w"))) for _ in range(10)]
        for thread in threads:
            thread.start()
        server.wait_for(10)  # all are under way at the same time
        gate.open()
        for thread in threads:
            thread.join(10)
        assert results == ["id"] * 10


def test_the_blocking_client_works_inside_a_running_event_loop() -> None:
    async def work(client: Client) -> str:
        return client.start_workflow("w")

    with FakeServer() as server, client_of(server) as client:
        server.otherwise(text_answer("id"))
        assert asyncio.run(work(client)) == "id"


def test_the_blocking_client_refuses_to_wait_for_itself() -> None:
    with FakeServer() as server, client_of(server) as client:
        server.otherwise(NOTHING)

        def hook(*_: object) -> None:
            client.pause_workflow("2")  # runs on the client's own loop: waiting there would never end

        inner = Transport(Configuration(server_api_url=server.url), on_request=hook)
        with Client(transport=inner) as hooked, pytest.raises(ConfigError, match="AsyncClient"):
            hooked.pause_workflow("1")


def test_threads_that_begin_at_once_share_one_loop() -> None:
    """Only a forked child begins anew: one of them replaced the lock that the other one held."""
    portal = Portal()
    lock = portal._lock
    assert portal._running_loop() is portal._running_loop()
    assert portal._lock is lock
    portal.end()


def test_errors_cross_the_portal_as_they_are() -> None:
    with FakeServer() as server, client_of(server) as client:
        server.on("POST", "/api/metadata/workflow", error_answer(409, "Workflow with w.1 already exists!"))
        server.on("DELETE", "/api/metadata/taskdefs/x", error_answer(500, "No such task definition"))
        with pytest.raises(ConflictError, match="already exists"):
            client.register_workflow_def(WORKFLOW)
        with pytest.raises(ServerError):
            client.unregister_task_def("x")


def test_a_blocked_call_ends_with_its_time_limit() -> None:
    with FakeServer() as server, Client(Configuration(server_api_url=server.url, request_timeout=0.2)) as client:
        server.otherwise(text_answer("late", gate=Gate()))
        with pytest.raises(TimeoutExceededError):
            client.get_task("1")
