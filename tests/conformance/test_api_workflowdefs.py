"""Workflow definitions: registration, versions, what is refused."""

from typing import Any

import pytest

from conformance.stage import Stage, simple, unique


def definition(*tasks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": unique("flow"), "tasks": list(tasks or (simple("some_task"),))} | fields


def test_created_definition_can_be_read(stage: Stage) -> None:
    name = stage.define_workflow(simple("some_task"), description="what it does")
    found = stage.get(f"/metadata/workflow/{name}").json
    assert (found["name"], found["description"]) == (name, "what it does")
    assert [task["taskReferenceName"] for task in found["tasks"]] == ["a"]


def test_defaults_of_a_definition(stage: Stage) -> None:
    name = stage.define_workflow({"name": "some_task", "taskReferenceName": "a"})
    found = stage.get(f"/metadata/workflow/{name}").json
    expected = {"version": 1, "schemaVersion": 2, "restartable": True, "timeoutPolicy": "ALERT_ONLY"}
    assert {field: found[field] for field in expected} == expected
    assert found["timeoutSeconds"] == 0
    assert found["tasks"][0]["type"] == "SIMPLE"


def test_post_of_an_existing_version_is_409(stage: Stage) -> None:
    name = stage.define_workflow(simple("some_task"))
    answer = stage.post("/metadata/workflow", definition(name=name))
    assert (answer.status, answer.message) == (409, f"Workflow with {name}.1 already exists!")


def test_post_with_overwrite_replaces(stage: Stage) -> None:
    name = stage.define_workflow(simple("some_task"), description="first")
    assert stage.post("/metadata/workflow", definition(simple("t", "b"), name=name), overwrite="true").status == 200
    found = stage.get(f"/metadata/workflow/{name}").json
    assert [task["taskReferenceName"] for task in found["tasks"]] == ["b"]
    assert "description" not in found


def test_put_takes_a_list_and_creates_or_replaces(stage: Stage) -> None:
    old = stage.define_workflow(simple("some_task"))
    new = unique("flow")
    answer = stage.put("/metadata/workflow", [definition(simple("t", "b"), name=old), definition(name=new)])
    assert answer.status == 200
    assert answer.json["bulkErrorResults"] == {}
    assert sorted(answer.json["bulkSuccessfulResults"]) == sorted([old, new])
    assert stage.get(f"/metadata/workflow/{old}").json["tasks"][0]["taskReferenceName"] == "b"


def test_one_invalid_definition_in_a_put_keeps_all_out(stage: Stage) -> None:
    good = unique("flow")
    answer = stage.put("/metadata/workflow", [definition(name=good), definition() | {"tasks": []}])
    assert answer.status == 400
    assert stage.get(f"/metadata/workflow/{good}").status == 404


def test_latest_version_is_the_default(stage: Stage) -> None:
    name = stage.define_workflow(simple("some_task"))
    for version in (3, 2):
        stage.define_workflow(simple("some_task"), name=name, version=version)
    assert stage.get(f"/metadata/workflow/{name}").json["version"] == 3
    assert stage.get(f"/metadata/workflow/{name}", version=2).json["version"] == 2


def test_unknown_name_is_404(stage: Stage) -> None:
    name = unique("flow")
    answer = stage.get(f"/metadata/workflow/{name}")
    assert (answer.status, answer.message) == (404, f"No such workflow found by name: {name}, version: null")


def test_unknown_version_is_404(stage: Stage) -> None:
    name = stage.define_workflow(simple("some_task"))
    assert stage.get(f"/metadata/workflow/{name}", version=9).status == 404


def test_list_holds_the_definition(stage: Stage) -> None:
    name = stage.define_workflow(simple("some_task"))
    assert name in {found["name"] for found in stage.get("/metadata/workflow").json}


def test_deleted_version_is_gone(stage: Stage) -> None:
    name = stage.define_workflow(simple("some_task"))
    stage.define_workflow(simple("some_task"), name=name, version=2)
    assert stage.delete(f"/metadata/workflow/{name}/2").status == 200
    assert stage.get(f"/metadata/workflow/{name}").json["version"] == 1


def test_delete_of_an_unknown_definition_is_500(stage: Stage) -> None:
    assert stage.delete(f"/metadata/workflow/{unique('flow')}/1").status == 500


@pytest.mark.parametrize(
    "tasks",
    [
        [],
        [{"name": "some_task", "type": "SIMPLE"}],
        [simple("some_task", "a"), simple("some_task", "a")],
        [simple("some_task", inputParameters={"x": "${nobody.output.x}"})],
        [simple("some_task", inputParameters={"deep": [{"x": "${nobody.output.x}"}]})],
        [simple("some_task", inputParameters={"x": "${}"})],
        [simple("some_task", inputParameters={"x": "${ a }"})],
    ],
    ids=["no-tasks", "no-ref", "twice-the-ref", "unknown-ref", "unknown-ref-deep", "empty-path", "spaces-in-path"],
)
def test_broken_tasks_are_400(stage: Stage, tasks: list[dict[str, Any]]) -> None:
    body = definition() | {"tasks": tasks}
    answer = stage.post("/metadata/workflow", body)
    assert answer.status == 400
    assert answer.json["validationErrors"]
    assert stage.get(f"/metadata/workflow/{body['name']}").status == 404


def test_put_of_an_empty_list_is_400(stage: Stage) -> None:
    assert stage.put("/metadata/workflow", []).status == 400


def test_old_schema_version_is_400(stage: Stage) -> None:
    answer = stage.post("/metadata/workflow", definition(schemaVersion=1))
    assert answer.status == 400
    (error,) = answer.json["validationErrors"]
    assert error["path"] == "registerWorkflowDef.arg0.schemaVersion"


def test_missing_name_is_400(stage: Stage) -> None:
    assert stage.post("/metadata/workflow", {"tasks": [simple("some_task")]}).status == 400


def test_path_below_a_known_name_is_not_checked(stage: Stage) -> None:
    body = definition(simple("some_task", inputParameters={"x": "${workflow.nope.x}"}))
    assert stage.post("/metadata/workflow", body).status == 200


def test_validate_checks_without_storing(stage: Stage) -> None:
    good, bad = definition(), definition() | {"tasks": []}
    assert stage.post("/metadata/workflow/validate", good).status == 200
    assert stage.get(f"/metadata/workflow/{good['name']}").status == 404
    assert stage.post("/metadata/workflow/validate", bad).status == 400


def test_names_and_versions(stage: Stage) -> None:
    name = stage.define_workflow(simple("some_task"))
    stage.define_workflow(simple("some_task"), name=name, version=2)
    assert name in stage.get("/metadata/workflow/names").json
    listed = stage.get("/metadata/workflow/names-and-versions").json[name]
    assert sorted(found["version"] for found in listed) == [1, 2]
    latest = stage.get("/metadata/workflow/latest-versions").json
    assert [found["version"] for found in latest if found["name"] == name] == [2]
