"""What a worker's start leaves on the server: its task definition with the schemas of its function."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

import samples
from conformance.stage import Server, Stage, expect
from podium import TaskDef, Worker
from podium.schema import schemas_of
from rig import Rig


@pytest.fixture
def rig(server: Server) -> Rig:
    return Rig(server.url)


def start(rig: Rig, function: Any = samples.returns_dataclass, **options: Any) -> None:
    options = {"register_task_def": True, "register_schema": True} | options
    worker: Worker = rig.worker(function, **options)
    with rig.running(worker, isolation="thread"):
        pass  # a start waits until registering was tried


def definition(stage: Stage, rig: Rig, function: Any = samples.returns_dataclass) -> Any:
    return expect(stage.get(f"/metadata/taskdefs/{rig.name_of(function)}")).json


def test_there_is_no_schema_registry(stage: Stage) -> None:
    for path in ("/schema", "/schema/x/1"):
        answer = stage.get(path)
        assert answer.status == 404
        assert answer.message == f"No static resource api{path}."
    answer = stage.post("/schema?newVersion=false", [{"name": "x", "version": 1, "type": "JSON", "data": {}}])
    assert (answer.status, answer.message) == (404, "No static resource api/schema.")


def test_defect_42_stored_definition_has_the_schemas(stage: Stage, rig: Rig) -> None:
    start(rig, strict_schema=True, task_def=TaskDef(retry_count=1, response_timeout_seconds=30))
    found, name = definition(stage, rig), rig.name_of(samples.returns_dataclass)
    schemas = schemas_of(samples.returns_dataclass, strict=True)
    assert (found["retryCount"], found["responseTimeoutSeconds"], found["enforceSchema"]) == (1, 30, False)
    for field, schema in (("inputSchema", schemas.input), ("outputSchema", schemas.output)):
        kind = field.removesuffix("Schema")
        expected = {"name": f"{name}_{kind}", "version": 1, "type": "JSON", "data": schema}
        assert expected.items() <= found[field].items()
        jsonschema.Draft7Validator.check_schema(found[field]["data"])


def test_defect_41_second_start_keeps_what_an_operator_has_set(stage: Stage, rig: Rig) -> None:
    template = TaskDef(retry_count=1, description="by the code")
    start(rig, task_def=template)
    changed = definition(stage, rig) | {
        "retryCount": 9, "concurrentExecLimit": 3, "ownerEmail": "ops@example.org", "inputTemplate": {"region": "eu"},
        "maxRetryDelaySeconds": 77, "taskStatusListenerEnabled": False,
    }  # fmt: skip
    expect(stage.put("/metadata/taskdefs", changed))
    start(rig, task_def=template)
    found = definition(stage, rig)
    assert found["concurrentExecLimit"] == 3
    of_the_server = {"updateTime", "updatedBy"}
    assert {key: value for key, value in found.items() if key not in of_the_server} == {
        key: value for key, value in (changed | {"retryCount": 1}).items() if key not in of_the_server
    }


def test_second_start_without_a_change_writes_nothing(stage: Stage, rig: Rig) -> None:
    template = TaskDef(retry_count=1, input_template={"a": [1, 2.5, None]})
    start(rig, samples.returns_rich, task_def=template)
    before = definition(stage, rig, samples.returns_rich)
    start(rig, samples.returns_rich, task_def=template)
    assert definition(stage, rig, samples.returns_rich) == before  # with its updateTime


def test_input_that_the_schema_takes_is_run_and_the_output_is_valid(stage: Stage, rig: Rig) -> None:
    order = {"order_id": "o", "items": [{"sku": "a"}]}
    worker = rig.worker(samples.returns_dataclass, register_task_def=True, register_schema=True)
    with rig.running(worker, isolation="thread"):
        found = definition(stage, rig)
        jsonschema.Draft7Validator(found["inputSchema"]["data"]).validate({"order": order})
        task = rig.run(samples.returns_dataclass, order=order)
    assert task.status == "COMPLETED"
    jsonschema.Draft7Validator(found["outputSchema"]["data"]).validate(task.output_data)
