"""Task definitions: registration, replacement, validation, defaults."""

import pytest

from conformance.stage import Stage, simple, unique


def test_created_definition_can_be_read(stage: Stage) -> None:
    name = stage.define_task(description="what it does", retryCount=2)
    definition = stage.get(f"/metadata/taskdefs/{name}").json
    assert (definition["name"], definition["description"], definition["retryCount"]) == (name, "what it does", 2)


def test_list_holds_the_definition(stage: Stage) -> None:
    name = stage.define_task()
    assert name in {definition["name"] for definition in stage.get("/metadata/taskdefs").json}


def test_defaults_of_a_definition(stage: Stage) -> None:
    name = unique("task")
    assert stage.post("/metadata/taskdefs", [{"name": name}]).status == 200
    definition = stage.get(f"/metadata/taskdefs/{name}").json
    expected = {
        "retryCount": 3,
        "retryLogic": "FIXED",
        "retryDelaySeconds": 60,
        "backoffScaleFactor": 1,
        "maxRetryDelaySeconds": 0,
        "timeoutSeconds": 0,
        "timeoutPolicy": "TIME_OUT_WF",
        "responseTimeoutSeconds": 3600,
        "totalTimeoutSeconds": 0,
        "rateLimitPerFrequency": 0,
        "rateLimitFrequencyInSeconds": 1,
        "inputTemplate": {},
        "inputKeys": [],
        "outputKeys": [],
        "enforceSchema": False,
    }
    assert {field: definition[field] for field in expected} == expected
    assert definition["createTime"] > 0


def test_post_of_an_existing_name_replaces_it(stage: Stage) -> None:
    name = stage.define_task(retryCount=5, description="first")
    stage.define_task(name=name, retryCount=1)
    definition = stage.get(f"/metadata/taskdefs/{name}").json
    assert definition["retryCount"] == 1
    assert "description" not in definition


def test_put_replaces_one_definition_and_keeps_its_create_time(stage: Stage) -> None:
    name = stage.define_task(retryCount=5, description="first")
    created = stage.get(f"/metadata/taskdefs/{name}").json["createTime"]
    assert stage.put("/metadata/taskdefs", {"name": name, "timeoutSeconds": 7200}).status == 200
    definition = stage.get(f"/metadata/taskdefs/{name}").json
    assert (definition["retryCount"], definition["timeoutSeconds"]) == (3, 7200)
    assert "description" not in definition
    assert definition["createTime"] == created


def test_put_of_an_unknown_name_is_404(stage: Stage) -> None:
    name = unique("task")
    answer = stage.put("/metadata/taskdefs", {"name": name})
    assert (answer.status, answer.message) == (404, f"No such task by name {name}")


def test_get_of_an_unknown_name_is_404(stage: Stage) -> None:
    name = unique("task")
    answer = stage.get(f"/metadata/taskdefs/{name}")
    assert (answer.status, answer.message) == (404, f"No such taskType found by name: {name}")


def test_deleted_definition_is_gone(stage: Stage) -> None:
    name = stage.define_task()
    assert stage.delete(f"/metadata/taskdefs/{name}").status == 200
    assert stage.get(f"/metadata/taskdefs/{name}").status == 404


def test_delete_of_an_unknown_name_is_500(stage: Stage) -> None:
    answer = stage.delete(f"/metadata/taskdefs/{unique('task')}")
    assert answer.status == 500
    assert "No such task definition" in answer.message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("retryCount", -1),
        ("responseTimeoutSeconds", 0),
        ("backoffScaleFactor", 0),
        ("maxRetryDelaySeconds", -1),
        ("pollTimeoutSeconds", -1),
    ],
)
def test_invalid_field_is_400_with_its_path(stage: Stage, field: str, value: object) -> None:
    answer = stage.post("/metadata/taskdefs", [{"name": unique("task")} | {field: value}])
    assert answer.status == 400
    assert answer.message == "Validation failed, check below errors for detail."
    (error,) = answer.json["validationErrors"]
    assert error["path"] == f"registerTaskDef.arg0[0].{field}"
    assert error["invalidValue"] == str(value)
    assert error["message"]


def test_response_timeout_above_the_timeout_is_400(stage: Stage) -> None:
    answer = stage.post("/metadata/taskdefs", [{"name": unique("task"), "timeoutSeconds": 60}])
    assert answer.status == 400
    assert answer.json["validationErrors"]


def test_one_invalid_definition_keeps_all_out(stage: Stage) -> None:
    good = unique("task")
    assert stage.post("/metadata/taskdefs", [{"name": good}, {"name": unique("task"), "retryCount": -1}]).status == 400
    assert stage.get(f"/metadata/taskdefs/{good}").status == 404


def test_object_where_a_list_belongs_is_500(stage: Stage) -> None:
    answer = stage.post("/metadata/taskdefs", {"name": unique("task")})
    assert answer.status == 500
    assert answer.message.startswith("JSON parse error")


def test_unknown_enum_value_is_500(stage: Stage) -> None:
    answer = stage.post("/metadata/taskdefs", [{"name": unique("task"), "retryLogic": "SOMETIMES"}])
    assert answer.status == 500
    assert answer.message.startswith("JSON parse error")


def test_schemas_are_stored_as_sent(stage: Stage) -> None:
    schema = {"name": unique("schema"), "version": 1, "type": "JSON", "data": {"type": "object"}}
    name = stage.define_task(inputSchema=schema, outputSchema=schema, enforceSchema=True)
    definition = stage.get(f"/metadata/taskdefs/{name}").json
    for field in ("inputSchema", "outputSchema"):
        assert schema.items() <= definition[field].items()
    assert definition["enforceSchema"] is True


def test_enforce_schema_lets_violations_pass(stage: Stage) -> None:
    schema = {"name": unique("schema"), "version": 1, "type": "JSON", "data": {"type": "object", "required": ["x"]}}
    name, workflow_id = stage.run_simple(inputSchema=schema, outputSchema=schema, enforceSchema=True)
    stage.complete(stage.take(name), y=1)
    assert stage.workflow(workflow_id)["status"] == "COMPLETED"


def test_definition_is_taken_when_the_workflow_starts(stage: Stage) -> None:
    name, workflow_id = stage.run_simple(retryCount=1)
    stage.define_task(name=name, retryCount=0)
    stage.fail(stage.take(name))
    stage.fail(stage.take(name))
    assert stage.workflow(workflow_id)["status"] == "FAILED"
    assert len(stage.attempts(workflow_id)) == 2


def test_task_without_definition_gets_the_defaults(stage: Stage) -> None:
    name = unique("task")
    workflow_id = stage.run(simple(name))
    task = stage.take(name)
    assert (task["taskDefinition"]["retryCount"], task["responseTimeoutSeconds"]) == (3, 3600)
    stage.fail(task)
    assert stage.attempts(workflow_id)[-1]["callbackAfterSeconds"] == 60
