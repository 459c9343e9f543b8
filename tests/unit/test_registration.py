from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

import pytest

from engine_fakes import FakeClient, unavailable
from fake_server import FakeServer, Request, error_answer, json_answer, text_answer
from podium import Configuration, TaskDef, Worker
from podium.client import AsyncClient
from podium.errors import AuthError, BadRequestError, ConnectError, NotFoundError, PodiumError
from podium.models import SchemaDef
from podium.registration import Registration, keep_registering
from podium.schema import schemas_of
from virtual_time import Clock, run


def function() -> None: ...


@dataclass
class Order:
    sku: str
    count: int = 1


def ship(order: Order, express: bool = False) -> Order:
    return order


def register(client: FakeClient, *workers: Worker) -> list[tuple[str, dict[str, Any]]]:
    asyncio.run(Registration(client, workers).attempt())
    return client.definition_calls


def worker(name: str = "w", function: Any = function, **options: Any) -> Worker:
    return Worker(name, function, **{"register_task_def": True} | options)


def shipper(**options: Any) -> Worker:
    return worker("ship", ship, register_schema=True, **options)


def server(*definitions: dict[str, Any], **attributes: Any) -> FakeClient:
    client = FakeClient()
    client.definitions = {definition["name"]: definition for definition in definitions}
    for name, value in attributes.items():
        setattr(client, name, value)
    return client


def inlined(name: str, data: Any) -> dict[str, Any]:
    return {"name": name, "version": 1, "type": "JSON", "data": data}


def link(name: str) -> dict[str, Any]:
    return {"name": name, "version": 1, "type": "JSON"}


OPERATORS = {
    "name": "w", "retryCount": 7, "responseTimeoutSeconds": 11, "ownerEmail": "ops@example.org", "createTime": 1,
    "updateTime": 2, "newFieldOfTheServer": {"kept": True},
}  # fmt: skip
SHIP = schemas_of(ship)
INLINED = {"inputSchema": inlined("ship_input", SHIP.input), "outputSchema": inlined("ship_output", SHIP.output)}
LINKS = {"inputSchema": link("ship_input"), "outputSchema": link("ship_output")}


# --- task definitions ----------------------------------------------------------------------------------------------


def test_worker_that_does_not_ask_registers_nothing() -> None:
    client = server()
    assert register(client, worker(register_task_def=False, task_def=TaskDef(retry_count=1))) == []
    assert client.schema_calls == []


def test_absent_definition_is_created_under_the_worker_s_name() -> None:
    template = TaskDef(name="other", retry_count=3, input_schema=SchemaDef(name="s", data={"type": "object"}))
    (call,) = register(server(), worker(task_def=template))
    schema = inlined("s", {"type": "object"})
    assert call == ("create", {"name": "w", "retryCount": 3, "inputSchema": schema})
    assert template.name == "other"  # the user's own object is left alone


def test_absent_definition_without_a_template_has_a_name_only() -> None:
    assert register(server(), worker()) == [("create", {"name": "w"})]


def test_defect_41_overwriting_creates_what_is_not_there() -> None:
    assert register(server(), worker(overwrite_task_def=True))[0][0] == "create"
    assert register(server(), worker(overwrite_task_def=False))[0][0] == "create"


def test_overwriting_changes_only_what_is_stated_and_keeps_all_else_known_to_podium_or_not() -> None:
    (call,) = register(server(OPERATORS), worker(task_def=TaskDef(retry_count=1, description="mine")))
    assert call == ("update", OPERATORS | {"retryCount": 1, "description": "mine"})


def test_overwriting_without_a_template_resets_nothing() -> None:
    assert register(server(OPERATORS), worker()) == []


def test_what_is_so_already_is_not_sent_again() -> None:
    schema = inlined("s", {"type": "object"}) | {"createTime": 1}  # the server's own addition
    existing = {"name": "w", "retryCount": 7, "inputSchema": schema, "inputTemplate": {"a": [1]}}
    template = TaskDef(
        retry_count=7, input_schema=SchemaDef(name="s", data={"type": "object"}), input_template={"a": [1]}
    )
    assert register(server(existing), worker(task_def=template)) == []


@pytest.mark.parametrize("value", [0, "", False])
def test_values_that_are_empty_are_stated_all_the_same(value: Any) -> None:
    field, key = {
        int: ("retry_count", "retryCount"),
        str: ("description", "description"),
        bool: ("enforce_schema", "enforceSchema"),
    }[type(value)]
    existing = {"name": "w", "retryCount": 7, "description": "x", "enforceSchema": True}
    (call,) = register(server(existing), worker(task_def=TaskDef(**{field: value})))
    assert call == ("update", existing | {key: value})


def test_an_empty_input_template_replaces_one_that_is_there() -> None:
    existing = {"name": "w", "inputTemplate": {"name": "n", "version": 1, "type": "JSON"}}
    (call,) = register(server(existing), worker(task_def=TaskDef(input_template={})))
    assert call == ("update", {"name": "w", "inputTemplate": {}})


def test_response_timeout_follows_a_stated_timeout_that_is_shorter() -> None:
    (call,) = register(server(), worker(task_def=TaskDef(timeout_seconds=60)))
    assert call[1] == {"name": "w", "timeoutSeconds": 60, "responseTimeoutSeconds": 60}
    (call,) = register(server(OPERATORS), worker(task_def=TaskDef(timeout_seconds=60)))
    assert call[1] == OPERATORS | {"timeoutSeconds": 60}  # 11 s fit already


@pytest.mark.parametrize("odd", [None, "11", {}])
def test_timeout_that_the_server_shows_as_no_number_is_replaced_by_one(odd: Any) -> None:
    there = OPERATORS | {"responseTimeoutSeconds": odd}
    calls = register(server(there, {"name": "other"}), worker(task_def=TaskDef(timeout_seconds=60)), worker("other"))
    assert [call[1] for call in calls] == [there | {"timeoutSeconds": 60, "responseTimeoutSeconds": 60}]
    there = OPERATORS | {"timeoutSeconds": odd}
    (call,) = register(server(there), worker(task_def=TaskDef(description="d")))
    assert call[1] == there | {"description": "d"}


def test_without_overwriting_an_existing_definition_is_left_alone() -> None:
    template = TaskDef(retry_count=1)
    client = server(OPERATORS)
    assert register(client, worker(task_def=template, register_schema=True, overwrite_task_def=False)) == []


def test_workers_in_several_domains_share_one_definition() -> None:
    calls = register(server(), worker(domain="a"), worker(domain="b"), worker("other"))
    assert sorted(definition["name"] for _, definition in calls) == ["other", "w"]


@pytest.mark.parametrize("error", [unavailable(), ConnectError("refused"), BadRequestError(400, "no")], ids=str)
def test_failure_only_warns_and_the_next_worker_is_served(error: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Fails(FakeClient):
        async def get_task_def_json(self, name: str) -> dict[str, Any]:
            if name == "w":
                raise error
            return await super().get_task_def_json(name)

    calls = register(Fails(), worker(), worker("other"))
    assert [definition["name"] for _, definition in calls] == ["other"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"task definition 'w' could not be registered: {error}")


def test_refused_update_only_warns(caplog: pytest.LogCaptureFixture) -> None:
    class Refuses(FakeClient):
        async def update_task_def(self, definition: Any) -> None:
            raise NotFoundError(404, "No such task by name w")

    client = Refuses()
    client.definitions = {"w": OPERATORS}
    register(client, worker(task_def=TaskDef(retry_count=1)))
    assert "could not be registered: 404 No such task by name w" in caplog.text


def test_what_was_done_is_logged_by_name(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        register(server(OPERATORS), worker(task_def=TaskDef(retry_count=1, description="x")), worker("new"))
    assert sorted(caplog.messages) == [
        "task definition 'new' was created",
        "task definition 'w' was updated: description, retryCount",
    ]


# --- schemas -------------------------------------------------------------------------------------------------------


def test_schemas_are_registered_by_name_and_linked_in_the_definition() -> None:
    client = server()
    assert register(client, shipper()) == [("create", {"name": "ship"} | LINKS)]
    assert client.schemas["ship_input"] == SchemaDef(name="ship_input", version=1, type="JSON", data=SHIP.input)
    assert client.schemas["ship_output"].data == SHIP.output


def test_schemas_are_inlined_where_there_is_no_registry(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "podium.registration"):
        assert register(server(has_schemas=False), shipper()) == [("create", {"name": "ship"} | INLINED)]
    assert [record.levelno for record in caplog.records] == [logging.DEBUG, logging.INFO]


def test_all_schemas_go_in_one_request_whatever_the_number_of_workers() -> None:
    client = server(has_schemas=False)
    register(client, shipper(domain="a"), shipper(domain="b"), worker(register_schema=True), worker("plain"))
    assert client.schema_calls == [["ship_input", "ship_output", "w_input", "w_output"]]


def test_schemas_without_a_definition_are_for_the_registry_only() -> None:
    client = server()
    assert register(client, shipper(register_task_def=False)) == []
    assert sorted(client.schemas) == ["ship_input", "ship_output"]
    assert register(server(has_schemas=False), shipper(register_task_def=False)) == []


@pytest.mark.parametrize("wanted", [None, False])
def test_no_schemas_unless_asked_for(wanted: bool | None) -> None:
    client = server()
    assert register(client, worker("ship", ship, register_schema=wanted)) == [("create", {"name": "ship"})]
    assert client.schema_calls == []


def test_defect_42_schema_options_have_an_effect() -> None:
    client = server(has_schemas=False)
    register(client, shipper(strict_schema=True))
    definition = client.definitions["ship"]
    assert definition["inputSchema"]["data"]["additionalProperties"] is False
    assert definition["inputSchema"]["data"]["definitions"]["Order"]["additionalProperties"] is False
    assert definition["outputSchema"]["data"]["properties"].keys() == {"sku", "count"}


def test_defect_39_plain_and_coroutine_functions_are_registered_alike() -> None:
    async def later(order: Order, express: bool = False) -> Order:
        return order

    plain, coroutine = server(has_schemas=False), server(has_schemas=False)
    register(plain, shipper())
    register(coroutine, worker("ship", later, register_schema=True, isolation="thread"))
    assert plain.definition_calls == coroutine.definition_calls


def test_schema_of_the_template_wins() -> None:
    template = TaskDef(input_schema=SchemaDef(name="own", version=3))
    client = server()
    (call,) = register(client, shipper(task_def=template))
    assert call == ("create", {"name": "ship", "inputSchema": link("own") | {"version": 3}, "outputSchema": LINKS["outputSchema"]})  # fmt: skip # noqa: E501
    assert sorted(client.schemas) == ["ship_output"]


def test_only_the_schemas_are_added_to_an_operator_s_definition() -> None:
    existing = OPERATORS | {"name": "ship"}
    assert register(server(existing), shipper()) == [("update", existing | LINKS)]
    assert register(server(existing, has_schemas=False), shipper()) == [("update", existing | INLINED)]


@pytest.mark.parametrize("has_schemas", [True, False])
def test_unchanged_schemas_do_not_write_the_definition_again(has_schemas: bool) -> None:
    client = server(has_schemas=has_schemas)
    register(client, shipper())
    del client.definition_calls[:]
    assert register(client, shipper()) == []


def test_schema_that_changed_is_written_again() -> None:
    old = {"name": "ship"} | INLINED | {"inputSchema": inlined("ship_input", {"type": "object"})}
    assert register(server(old, has_schemas=False), shipper()) == [("update", {"name": "ship"} | INLINED)]
    # What an earlier start had to inline would go stale beside the registry.
    assert register(server(old), shipper()) == [("update", old | {"inputSchema": LINKS["inputSchema"]})]


def test_link_that_the_server_shows_with_its_data_is_not_written_again() -> None:
    assert register(server({"name": "ship"} | INLINED), shipper()) == []


def test_a_function_without_return_annotation_has_an_input_schema_only() -> None:
    def half(a: int):  # type: ignore[no-untyped-def]
        return a

    client = server()
    register(client, worker("half", half, register_schema=True, isolation="thread"))
    assert sorted(client.schemas) == ["half_input"]


def test_failing_schema_of_one_function_is_a_warning_and_the_others_are_registered(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(function: Any, *, strict: bool) -> Any:
        if function is not ship:
            raise RuntimeError("metaclass")
        return schemas_of(function, strict=strict)

    monkeypatch.setattr("podium.schema.schemas_of", broken)
    client = server()
    register(client, worker(register_schema=True), shipper())
    assert sorted(client.schemas) == ["ship_input", "ship_output"]
    assert [definition["name"] for _, definition in client.definition_calls] == ["w", "ship"]
    assert "task 'w' gets no schemas" in caplog.text


@pytest.mark.parametrize("error", [AuthError(403, "not allowed"), BadRequestError(400, "no")], ids=str)
def test_refused_schemas_are_a_warning_and_the_definition_is_registered(
    error: PodiumError, caplog: pytest.LogCaptureFixture
) -> None:
    client = server()
    client.schema_errors.append(error)
    assert register(client, shipper()) == [("create", {"name": "ship"} | INLINED)]
    (record,) = caplog.records
    assert record.getMessage() == f"the workers' schemas could not be registered: {error}"


def test_schemas_that_fail_for_now_are_inlined_and_registered_later(caplog: pytest.LogCaptureFixture) -> None:
    client = server()
    client.schema_errors.extend([unavailable(), unavailable()])
    tried = asyncio.Event()
    run(keep_registering(client, [shipper(), worker("plain")], tried), Clock())
    assert tried.is_set()
    assert sorted(client.schemas) == ["ship_input", "ship_output"]
    assert client.definition_calls == [("create", {"name": "ship"} | INLINED), ("create", {"name": "plain"})]
    assert len(client.schema_calls) == 3
    assert [record.getMessage() for record in caplog.records] == [
        f"the workers' schemas could not be registered: {unavailable()}; it will be tried again"
    ]


def test_what_fails_for_now_is_tried_again_until_it_is_done() -> None:
    class Down(FakeClient):
        failures = 5

        async def get_task_def_json(self, name: str) -> dict[str, Any]:
            if self.failures:
                self.failures -= 1
                raise ConnectError("refused")
            return await super().get_task_def_json(name)

    client = Down()
    run(keep_registering(client, [worker()], asyncio.Event()), Clock())
    assert client.definition_calls == [("create", {"name": "w"})]


# --- over HTTP -----------------------------------------------------------------------------------------------------


class Registry(FakeServer):
    """A server with a schema registry."""

    def __init__(self, *, schemas: bool = True) -> None:
        super().__init__()
        self.definitions: dict[str, Any] = {}
        self.schemas: dict[tuple[str, int], Any] = {}
        if schemas:
            self.on("POST", "/api/schema", self._save)
        self.on("POST", "/api/metadata/taskdefs", self._create)
        self.on("PUT", "/api/metadata/taskdefs", self._update)
        self.on("GET", "/api/metadata/taskdefs/ship", self._definition)

    def _save(self, request: Request) -> Any:
        assert request.query == {"newVersion": "false"}
        self.schemas |= {(schema["name"], schema["version"]): schema for schema in request.json}
        return text_answer("")

    def _create(self, request: Request) -> Any:
        self.definitions |= {item["name"]: item | {"retryCount": 3, "extra": [1]} for item in request.json}
        return text_answer("")

    def _update(self, request: Request) -> Any:
        self.definitions[request.json["name"]] = request.json
        return text_answer("")

    def _definition(self, _: Request) -> Any:
        found = self.definitions.get("ship")
        return error_answer(404, "No such taskType found by name: ship") if found is None else json_answer(found)


def start(server: FakeServer, *workers: Worker) -> list[str]:
    """Register as one start does; return the requests."""

    async def begin() -> None:
        async with AsyncClient(Configuration(server_api_url=server.url)) as client:
            await keep_registering(client, workers, asyncio.Event())

    before = len(server.requests)
    asyncio.run(begin())
    return [f"{request.method} {request.path.removeprefix('/api')}" for request in server.requests[before:]]


def test_requests_of_a_start_with_a_registry() -> None:
    with Registry() as server:
        assert start(server, shipper()) == ["POST /schema", "GET /metadata/taskdefs/ship", "POST /metadata/taskdefs"]
        assert server.schemas["ship_input", 1] == inlined("ship_input", SHIP.input)
        assert server.definitions["ship"] == {"name": "ship", "retryCount": 3, "extra": [1]} | LINKS
        assert start(server, shipper()) == ["POST /schema", "GET /metadata/taskdefs/ship"]


def test_requests_of_a_start_without_a_registry() -> None:
    with Registry(schemas=False) as server:
        assert start(server, shipper()) == ["POST /schema", "GET /metadata/taskdefs/ship", "POST /metadata/taskdefs"]
        assert server.definitions["ship"] == {"name": "ship", "retryCount": 3, "extra": [1]} | INLINED
        server.definitions["ship"]["retryCount"] = 9
        assert start(server, shipper(task_def=TaskDef(description="d"))) == [
            "POST /schema", "GET /metadata/taskdefs/ship", "PUT /metadata/taskdefs",
        ]  # fmt: skip
        expected = {"name": "ship", "retryCount": 9, "extra": [1], "description": "d"} | INLINED
        assert server.definitions["ship"] == expected
        assert start(server, shipper(task_def=TaskDef(description="d")))[-1].startswith("GET")
