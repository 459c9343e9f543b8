from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from engine_fakes import FakeClient, unavailable
from podium import TaskDef, Worker
from podium.errors import BadRequestError, ConnectError, NotFoundError
from podium.models import SchemaDef
from podium.registration import register_task_definitions


def function() -> None: ...


def register(client: FakeClient, *workers: Worker) -> list[tuple[str, TaskDef]]:
    asyncio.run(register_task_definitions(client, workers))
    return client.definition_calls


def worker(name: str = "w", **options: Any) -> Worker:
    return Worker(name, function, **{"register_task_def": True} | options)


def server(*definitions: TaskDef) -> FakeClient:
    client = FakeClient()
    client.definitions = {definition.name: definition for definition in definitions}
    return client


OPERATORS = TaskDef(
    name="w", retry_count=7, response_timeout_seconds=11, owner_email="ops@example.org", create_time=1, update_time=2
)


def test_worker_that_does_not_ask_registers_nothing() -> None:
    assert register(server(), worker(register_task_def=False, task_def=TaskDef(retry_count=1))) == []


def test_absent_definition_is_created_under_the_worker_s_name() -> None:
    template = TaskDef(name="other", retry_count=3, input_schema=SchemaDef(name="s", data={"type": "object"}))
    (call,) = register(server(), worker(task_def=template))
    assert call == ("create", TaskDef(name="w", retry_count=3, input_schema=template.input_schema))
    assert template.name == "other"  # the user's own object is left alone


def test_absent_definition_without_a_template_has_a_name_only() -> None:
    assert register(server(), worker()) == [("create", TaskDef(name="w"))]


def test_defect_41_overwriting_creates_what_is_not_there() -> None:
    assert register(server(), worker(overwrite_task_def=True))[0][0] == "create"
    assert register(server(), worker(overwrite_task_def=False))[0][0] == "create"


def test_overwriting_changes_only_what_is_stated_and_keeps_the_operator_s_settings() -> None:
    (call,) = register(server(OPERATORS), worker(task_def=TaskDef(retry_count=1, description="mine")))
    assert call == (
        "update",
        TaskDef(
            name="w", retry_count=1, description="mine", response_timeout_seconds=11, owner_email="ops@example.org",
            create_time=1, update_time=2,
        ),
    )  # fmt: skip


def test_overwriting_without_a_template_resets_nothing() -> None:
    assert register(server(OPERATORS), worker()) == []


def test_what_is_so_already_is_not_sent_again() -> None:
    schema = SchemaDef(name="s", data={"type": "object"})
    existing = TaskDef(name="w", retry_count=7, input_schema=schema, input_template={"a": [1]})
    stated = TaskDef(
        retry_count=7, input_schema=SchemaDef(name="s", data={"type": "object"}), input_template={"a": [1]}
    )
    assert register(server(existing), worker(task_def=stated)) == []


@pytest.mark.parametrize("value", [0, "", False])
def test_values_that_are_empty_are_stated_all_the_same(value: Any) -> None:
    field = {int: "retry_count", str: "description", bool: "enforce_schema"}[type(value)]
    existing = TaskDef(name="w", retry_count=7, description="x", enforce_schema=True)
    (call,) = register(server(existing), worker(task_def=TaskDef(**{field: value})))
    assert getattr(call[1], field) == value


def test_without_overwriting_an_existing_definition_is_left_alone() -> None:
    template = TaskDef(retry_count=1)
    assert register(server(OPERATORS), worker(task_def=template, overwrite_task_def=False)) == []


def test_workers_in_several_domains_share_one_definition() -> None:
    calls = register(server(), worker(domain="a"), worker(domain="b"), worker("other"))
    assert sorted(definition.name for _, definition in calls) == ["other", "w"]


@pytest.mark.parametrize("error", [unavailable(), ConnectError("refused"), BadRequestError(400, "no")], ids=str)
def test_failure_only_warns_and_the_next_worker_is_served(error: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Fails(FakeClient):
        async def get_task_def(self, name: str) -> TaskDef:
            if name == "w":
                raise error
            return await super().get_task_def(name)

    calls = register(Fails(), worker(), worker("other"))
    assert [definition.name for _, definition in calls] == ["other"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"task definition 'w' could not be registered: {error}")


def test_refused_update_only_warns(caplog: pytest.LogCaptureFixture) -> None:
    class Refuses(FakeClient):
        async def update_task_def(self, definition: TaskDef) -> None:
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
        "task definition 'w' was updated: description, retry_count",
    ]
