"""SWITCH, FORK_JOIN and JOIN, TERMINATE, SET_VARIABLE, WAIT, HUMAN; operators the embedded server refuses."""

from typing import Any

import pytest

from conformance.stage import Stage, embedded_only, expect, simple, unique


def operator(kind: str, ref: str, **fields: Any) -> dict[str, Any]:
    return {"name": ref, "taskReferenceName": ref, "type": kind} | fields


def switch(cases: dict[str, list[dict[str, Any]]], default: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A SWITCH on the workflow's input ``case``."""
    return operator(
        "SWITCH",
        "choice",
        evaluatorType="value-param",
        expression="case",
        inputParameters={"case": "${workflow.input.case}"},
        decisionCases=cases,
        defaultCase=default or [],
    )


def fork(*branches: list[dict[str, Any]], join_on: list[str]) -> list[dict[str, Any]]:
    return [operator("FORK_JOIN", "fork", forkTasks=list(branches)), operator("JOIN", "join", joinOn=join_on)]


def statuses(stage: Stage, workflow_id: str) -> dict[str, str]:
    return {task["referenceTaskName"]: task["status"] for task in stage.workflow(workflow_id)["tasks"]}


@pytest.mark.parametrize(
    ("case", "key"),
    [("x", "x"), (1, "1"), (True, "true"), (None, "null")],
    ids=["text", "number", "bool", "null"],
)
def test_switch_takes_the_case_of_the_value_as_text(stage: Stage, case: object, key: str) -> None:
    name = stage.define_task()
    workflow_id = stage.run(switch({key: [simple(name, "hit")]}, [simple(name, "other")]), data={"case": case})
    task = stage.take(name)
    assert task["referenceTaskName"] == "hit"
    stage.complete(task, x=1)
    workflow = stage.workflow(workflow_id)
    assert (workflow["status"], workflow["output"]) == ("COMPLETED", {"x": 1})


def test_switch_row_says_what_was_chosen(stage: Stage) -> None:
    name = stage.define_task()
    workflow_id = stage.run(switch({"x": [simple(name, "hit")]}), data={"case": "x"})
    (row,) = stage.attempts(workflow_id, "choice")
    assert (row["taskType"], row["status"]) == ("SWITCH", "COMPLETED")
    assert row["outputData"] == {"evaluationResult": ["x"], "selectedCase": "x"}
    assert row["inputData"]["case"] == "x"


def test_switch_without_match_takes_the_default(stage: Stage) -> None:
    name = stage.define_task()
    stage.run(switch({"x": [simple(name, "hit")]}, [simple(name, "other")]), data={"case": "y"})
    assert stage.take(name)["referenceTaskName"] == "other"


def test_switch_without_match_and_default_goes_on(stage: Stage) -> None:
    name = stage.define_task()
    workflow_id = stage.run(switch({"x": [simple(name, "hit")]}), simple(name, "after"), data={"case": "y"})
    stage.complete(stage.take(name))
    assert statuses(stage, workflow_id) == {"choice": "COMPLETED", "after": "COMPLETED"}


def test_switch_case_without_tasks_goes_on(stage: Stage) -> None:
    name = stage.define_task()
    stage.run(switch({"x": []}, [simple(name, "other")]), simple(name, "after"), data={"case": "x"})
    assert stage.take(name)["referenceTaskName"] == "after"


def test_tasks_of_a_case_run_in_order_and_then_the_rest(stage: Stage) -> None:
    name = stage.define_task()
    workflow_id = stage.run(
        switch({"x": [simple(name, "one"), simple(name, "two")]}), simple(name, "after"), data={"case": "x"}
    )
    for ref in ("one", "two", "after"):
        task = stage.take(name)
        assert task["referenceTaskName"] == ref
        stage.complete(task)
    assert stage.workflow(workflow_id)["status"] == "COMPLETED"


@pytest.mark.parametrize(
    "task",
    [
        operator("SWITCH", "x", evaluatorType="value-param", expression="case"),
        operator("SWITCH", "x", expression="case", decisionCases={"a": [simple("t")]}),
        operator("SWITCH", "x", evaluatorType="value-param", decisionCases={"a": [simple("t")]}),
        operator("FORK_JOIN", "x"),
        operator("TERMINATE", "x", inputParameters={"terminationStatus": "MAYBE"}),
        operator("WAIT", "x", inputParameters={"duration": "1s", "until": "2030-01-01"}),
        operator("WAIT", "x", inputParameters={"duration": "PT2S"}),
    ],
    ids=[
        "switch-cases",
        "switch-evaluator",
        "switch-expression",
        "fork-branches",
        "terminate-status",
        "wait-duration-and-until",
        "wait-duration",
    ],
)
def test_broken_operator_is_refused_at_registration(stage: Stage, task: dict[str, Any]) -> None:
    answer = stage.post("/metadata/workflow", {"name": unique("flow"), "tasks": [task]})
    assert answer.status == 400
    (error,) = answer.json["validationErrors"]
    assert error["path"] == "registerWorkflowDef.arg0.tasks[0]"


def test_fork_schedules_the_first_task_of_each_branch(stage: Stage) -> None:
    name = stage.define_task()
    workflow_id = stage.run(*fork([simple(name, "a"), simple(name, "a2")], [simple(name, "b")], join_on=["a2", "b"]))
    rows = {task["referenceTaskName"]: task for task in stage.workflow(workflow_id)["tasks"]}
    assert set(rows) == {"fork", "a", "b", "join"}
    assert (rows["fork"]["taskType"], rows["fork"]["status"]) == ("FORK", "COMPLETED")
    assert (rows["join"]["taskType"], rows["join"]["status"]) == ("JOIN", "IN_PROGRESS")


def test_join_collects_the_outputs_and_goes_on(stage: Stage) -> None:
    one, other, after = stage.define_task(), stage.define_task(), stage.define_task()
    tasks = fork([simple(one, "a")], [simple(other, "b")], join_on=["a", "b"])
    workflow_id = stage.run(*tasks, simple(after, "c", inputParameters={"joined": "${join.output}"}))
    stage.complete(stage.take(other), y=2)
    assert stage.poll(after, timeout=300) == []
    stage.complete(stage.take(one), x=1)
    assert stage.take(after)["inputData"] == {"joined": {"a": {"x": 1}, "b": {"y": 2}}}
    assert statuses(stage, workflow_id)["join"] == "COMPLETED"


def test_join_waits_only_for_what_it_names(stage: Stage) -> None:
    one, other, after = stage.define_task(), stage.define_task(), stage.define_task()
    workflow_id = stage.run(*fork([simple(one, "a")], [simple(other, "b")], join_on=["a"]), simple(after, "c"))
    stage.complete(stage.take(one), x=1)
    stage.complete(stage.take(after))
    assert stage.workflow(workflow_id)["status"] == "RUNNING"
    stage.complete(stage.take(other))
    assert stage.ended(workflow_id)["status"] == "COMPLETED"


def test_output_of_a_workflow_that_ends_with_a_join(stage: Stage) -> None:
    one, other = stage.define_task(), stage.define_task()
    workflow_id = stage.run(*fork([simple(one, "a")], [simple(other, "b")], join_on=["a", "b"]))
    stage.complete(stage.take(one), x=1)
    stage.complete(stage.take(other))
    workflow = stage.ended(workflow_id)
    assert workflow["status"] == "COMPLETED"
    (join,) = stage.attempts(workflow_id, "join")
    # A branch without output has no key.
    assert join["outputData"] == {"a": {"x": 1}}


def test_fork_without_join_fails_the_workflow_at_once(stage: Stage) -> None:
    tasks = operator("FORK_JOIN", "fork", forkTasks=[[simple("t")]])
    workflow = stage.workflow(stage.run(tasks))
    assert workflow["status"] == "FAILED"
    assert workflow["reasonForIncompletion"].startswith("Fork task definition is not followed by a join task")


def test_failed_branch_without_retries_fails_the_workflow(stage: Stage) -> None:
    one, other = stage.define_task(), stage.define_task()
    workflow_id = stage.run(*fork([simple(one, "a")], [simple(other, "b")], join_on=["a", "b"]))
    stage.take(other)
    stage.fail(stage.take(one))
    assert stage.ended(workflow_id)["status"] == "FAILED"
    seen = statuses(stage, workflow_id)
    # The real server looks at a join by itself now and then: if that was just before the workflow ended, it has failed.
    assert seen.pop("join") in {"CANCELED", "FAILED"}
    assert seen == {"fork": "COMPLETED", "a": "FAILED", "b": "CANCELED"}


def test_optional_failure_in_a_branch_lets_the_join_complete_with_errors(stage: Stage) -> None:
    one, other = stage.define_task(), stage.define_task()
    branches = [simple(one, "a", optional=True)], [simple(other, "b")]
    workflow_id = stage.run(*fork(*branches, join_on=["a", "b"]))
    stage.fail(stage.take(one))
    stage.complete(stage.take(other))
    assert stage.ended(workflow_id)["status"] == "COMPLETED"
    assert statuses(stage, workflow_id)["join"] == "COMPLETED_WITH_ERRORS"


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "TERMINATED"])
def test_terminate_ends_the_workflow_with_its_status_and_output(stage: Stage, status: str) -> None:
    name = stage.define_task()
    parameters = {"terminationStatus": status, "terminationReason": "enough", "workflowOutput": {"x": "${a.output.x}"}}
    workflow_id = stage.run(
        simple(name, "a"), operator("TERMINATE", "end", inputParameters=parameters), simple(name, "b")
    )
    stage.complete(stage.take(name), x=1)
    workflow = stage.ended(workflow_id)
    assert (workflow["status"], workflow["output"]) == (status, {"x": 1})
    assert workflow["reasonForIncompletion"] == "enough"
    assert statuses(stage, workflow_id) == {"a": "COMPLETED", "end": "COMPLETED"}


def test_terminate_cancels_open_branches(stage: Stage) -> None:
    one, other = stage.define_task(), stage.define_task()
    end = operator("TERMINATE", "end", inputParameters={"terminationStatus": "COMPLETED"})
    workflow_id = stage.run(*fork([simple(one, "a"), end], [simple(other, "b")], join_on=["b"]))
    stage.complete(stage.take(one))
    assert stage.ended(workflow_id)["status"] == "COMPLETED"
    assert statuses(stage, workflow_id)["b"] == "CANCELED"


def test_set_variable_is_seen_by_later_tasks(stage: Stage) -> None:
    name = stage.define_task()
    workflow_id = stage.run(
        operator("SET_VARIABLE", "set", inputParameters={"n": "${workflow.input.n}", "fixed": "f"}),
        simple(name, "a", inputParameters={"n": "${workflow.variables.n}", "first": "${workflow.variables.first}"}),
        data={"n": 4},
        variables={"first": 1},
    )
    assert stage.take(name)["inputData"] == {"n": 4, "first": 1}
    assert stage.workflow(workflow_id)["variables"] == {"first": 1, "n": 4, "fixed": "f"}


def test_noop_completes(stage: Stage) -> None:
    workflow_id = stage.run(operator("NOOP", "nothing"))
    assert stage.ended(workflow_id)["status"] == "COMPLETED"
    assert statuses(stage, workflow_id) == {"nothing": "COMPLETED"}


def test_wait_with_a_duration_goes_on_by_itself(stage: Stage) -> None:
    workflow_id = stage.run(operator("WAIT", "wait", inputParameters={"duration": "1s"}))
    assert stage.workflow(workflow_id)["status"] == "RUNNING"
    workflow = stage.ended(workflow_id)
    assert workflow["status"] == "COMPLETED"
    assert workflow["endTime"] - workflow["startTime"] >= 1000


def test_wait_whose_duration_turns_out_broken_fails_the_start(stage: Stage) -> None:
    wait = operator("WAIT", "wait", inputParameters={"duration": "${workflow.input.duration}"})
    workflow = stage.define_workflow(wait)
    answer = stage.post("/workflow", {"name": workflow, "input": {"duration": "PT2S"}})
    assert (answer.status, answer.message) == (400, "Not valid duration: PT2S")
    assert stage.get("/workflow/search", query=f"workflowType={workflow}").json["totalHits"] == 0


@pytest.mark.parametrize("kind", ["WAIT", "HUMAN"])
def test_wait_and_human_end_with_an_update(stage: Stage, kind: str) -> None:
    workflow_id = stage.run(operator(kind, "gate"), outputParameters={"x": "${gate.output.x}"})
    (task,) = stage.attempts(workflow_id, "gate")
    assert (task["taskType"], task["status"]) == (kind, "IN_PROGRESS")
    expect(stage.post(f"/tasks/{workflow_id}/gate/COMPLETED", {"x": 1}))
    workflow = stage.ended(workflow_id)
    assert (workflow["status"], workflow["output"]) == ("COMPLETED", {"x": 1})


def test_unknown_type_is_a_worker_task_of_that_type(stage: Stage) -> None:
    kind = unique("CUSTOM")
    workflow_id = stage.run({"name": "whatever", "taskReferenceName": "a", "type": kind})
    stage.complete(stage.take(kind))
    assert stage.workflow(workflow_id)["status"] == "COMPLETED"


@embedded_only
@pytest.mark.parametrize(
    "kind",
    ["DO_WHILE", "SUB_WORKFLOW", "INLINE", "HTTP", "EVENT", "START_WORKFLOW", "JSON_JQ_TRANSFORM", "KAFKA_PUBLISH"],
)
def test_operator_without_support_is_refused_at_registration(stage: Stage, kind: str) -> None:
    answer = stage.post("/metadata/workflow", {"name": unique("flow"), "tasks": [operator(kind, "a")]})
    assert answer.status == 400
    assert kind in answer.text


@embedded_only
def test_operator_without_support_is_refused_inside_branches_and_ad_hoc(stage: Stage) -> None:
    body = {"name": unique("flow"), "tasks": [switch({"x": [operator("HTTP", "call")]})]}
    for answer in (
        stage.post("/metadata/workflow", body),
        stage.put("/metadata/workflow", [body]),
        stage.post("/workflow", {"name": body["name"], "input": {}, "workflowDef": body}),
    ):
        assert answer.status == 400
        assert "HTTP" in answer.text
