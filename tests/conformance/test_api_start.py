"""Starting and reading workflows."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from conformance.stage import Stage, expect, simple, unique


def test_start_answers_the_id_as_plain_text(stage: Stage) -> None:
    answer = stage.post("/workflow", {"name": stage.define_workflow(simple("some_task")), "input": {}})
    assert answer.status == 200
    assert answer.content_type is not None
    assert answer.content_type.startswith("text/plain")
    assert stage.workflow(answer.text)["workflowId"] == answer.text


def test_started_workflow_carries_what_was_asked(stage: Stage) -> None:
    name = stage.define_workflow(simple("some_task"))
    before = int(time.time() * 1000)
    workflow = stage.workflow(stage.start(name, {"n": 1}, correlationId="c1", priority=9))
    expected = {
        "workflowName": name,
        "workflowVersion": 1,
        "status": "RUNNING",
        "input": {"n": 1},
        "correlationId": "c1",
        "priority": 9,
        "endTime": 0,
        "variables": {},
    }
    assert {field: workflow[field] for field in expected} == expected
    assert abs(workflow["startTime"] - before) < 10_000
    assert workflow["workflowDefinition"]["name"] == name


def test_version_selects_the_definition(stage: Stage) -> None:
    name = stage.define_workflow(simple("some_task"))
    stage.define_workflow(simple("some_task"), name=name, version=2)
    assert stage.workflow(stage.start(name))["workflowVersion"] == 2
    assert stage.workflow(stage.start(name, version=1))["workflowVersion"] == 1


def test_unknown_workflow_is_404(stage: Stage) -> None:
    name = unique("flow")
    answer = stage.post("/workflow", {"name": name, "input": {}})
    assert (answer.status, answer.message) == (404, f"No such workflow defined. name={name}, version=null")


def test_missing_workflow_name_is_400(stage: Stage) -> None:
    answer = stage.post("/workflow", {"input": {}})
    assert answer.status == 400
    assert [error["path"] for error in answer.json["validationErrors"]] == ["startWorkflow.arg0.name"]


def test_input_may_be_missing_but_not_null(stage: Stage) -> None:
    name = stage.define_workflow(simple("some_task"))
    started = stage.post("/workflow", {"name": name})
    assert started.status == 200
    assert stage.workflow(started.text)["input"] == {}
    assert stage.post("/workflow", {"name": name, "input": None}).status == 400


@pytest.mark.parametrize("priority", [-1, 100])
def test_priority_out_of_range_is_400(stage: Stage, priority: int) -> None:
    name = stage.define_workflow(simple("some_task"))
    assert stage.post("/workflow", {"name": name, "input": {}, "priority": priority}).status == 400


def test_ad_hoc_definition_runs_without_being_registered(stage: Stage) -> None:
    name, task_type = unique("flow"), stage.define_task()
    workflow_id = stage.start(name, workflowDef={"name": name, "tasks": [simple(task_type)]})
    stage.complete(stage.take(task_type), done=True)
    assert stage.workflow(workflow_id)["output"] == {"done": True}
    assert stage.get(f"/metadata/workflow/{name}").status == 404


def test_ad_hoc_definition_is_validated(stage: Stage) -> None:
    body = {"name": unique("flow"), "input": {}}
    assert stage.post("/workflow", body | {"workflowDef": {"name": body["name"], "tasks": []}}).status == 400


def test_start_by_name_takes_the_body_as_input(stage: Stage) -> None:
    name = stage.define_workflow(simple("some_task"))
    answer = stage.post(f"/workflow/{name}", {"n": 1}, correlationId="c1", priority=3)
    assert answer.status == 200
    workflow = stage.workflow(answer.text)
    assert (workflow["input"], workflow["correlationId"], workflow["priority"]) == ({"n": 1}, "c1", 3)


def test_start_by_unknown_name_is_404(stage: Stage) -> None:
    assert stage.post(f"/workflow/{unique('flow')}", {}).status == 404


def test_workflow_can_be_read_without_its_tasks(stage: Stage) -> None:
    _, workflow_id = stage.run_simple()
    assert len(stage.workflow(workflow_id)["tasks"]) == 1
    assert stage.get(f"/workflow/{workflow_id}", includeTasks="false").json["tasks"] == []


def test_unknown_workflow_id_is_404(stage: Stage) -> None:
    assert stage.get(f"/workflow/{unique('id')}").status == 404


def test_status_is_a_light_read(stage: Stage) -> None:
    task_type, workflow_id = stage.run_simple()
    stage.complete(stage.take(task_type), x=1)
    light = stage.get(f"/workflow/{workflow_id}/status").json
    assert (light["workflowId"], light["status"]) == (workflow_id, "COMPLETED")
    assert "output" not in light
    assert stage.get(f"/workflow/{workflow_id}/status", includeOutput="true").json["output"] == {"x": 1}


def test_second_task_is_queued_before_the_update_answers(stage: Stage) -> None:
    first, second = stage.define_task(), stage.define_task()
    stage.run(simple(first, "a"), simple(second, "b", inputParameters={"x": "${a.output.x}"}))
    assert stage.poll(second) == []
    stage.complete(stage.take(first), x=5)
    (task,) = stage.poll(second)
    assert (task["inputData"], task["seq"]) == ({"x": 5}, 2)


def test_workflow_completes_with_its_last_task(stage: Stage) -> None:
    task_type, workflow_id = stage.run_simple()
    stage.complete(stage.take(task_type), x=1)
    workflow = stage.workflow(workflow_id)
    assert (workflow["status"], workflow["output"]) == ("COMPLETED", {"x": 1})
    assert workflow["endTime"] >= workflow["startTime"]
    assert "reasonForIncompletion" not in workflow


def test_removed_definition_does_not_stop_a_running_workflow(stage: Stage) -> None:
    task_type = stage.define_task()
    name = stage.define_workflow(simple(task_type, "a"), simple(task_type, "b"))
    workflow_id = stage.start(name)
    assert stage.delete(f"/metadata/workflow/{name}/1").status == 200
    stage.complete(stage.take(task_type))
    stage.complete(stage.take(task_type))
    assert stage.workflow(workflow_id)["status"] == "COMPLETED"


def test_workflow_definition_is_taken_at_the_start(stage: Stage) -> None:
    task_type = stage.define_task()
    name = stage.define_workflow(simple(task_type, "a"))
    workflow_id = stage.start(name)
    longer = {"name": name, "tasks": [simple(task_type, "a"), simple(task_type, "b")]}
    assert stage.put("/metadata/workflow", [longer]).status == 200
    stage.complete(stage.take(task_type))
    assert stage.workflow(workflow_id)["status"] == "COMPLETED"


def test_execute_answers_when_the_workflow_has_ended(stage: Stage) -> None:
    name = stage.define_task()
    workflow = stage.define_workflow(simple(name))
    with ThreadPoolExecutor(1) as pool:
        path = f"/workflow/execute/{workflow}/1"
        executed = pool.submit(stage.post, path, {"name": workflow, "input": {"n": 1}}, waitForSeconds=20)
        stage.complete(stage.take(name), x=2)
        answer = expect(executed.result())
    expected = {"status": "COMPLETED", "input": {"n": 1}, "output": {"x": 2}, "signalTimeout": False}
    assert {field: answer.json[field] for field in expected} == expected
    assert answer.json["workflowId"] == answer.json["targetWorkflowId"]
    assert stage.workflow(answer.json["workflowId"])["status"] == "COMPLETED"


def test_execute_answers_the_running_workflow_when_its_time_is_over(stage: Stage) -> None:
    workflow = stage.define_workflow(simple("some_task"))
    answer = stage.post(f"/workflow/execute/{workflow}/1", {"name": workflow, "input": {}}, waitForSeconds=1)
    assert (answer.status, answer.json["status"], answer.json["signalTimeout"]) == (200, "RUNNING", True)


def test_execute_of_an_unknown_workflow_is_404(stage: Stage) -> None:
    assert stage.post(f"/workflow/execute/{unique('flow')}/1", {"input": {}}, waitForSeconds=1).status == 404
