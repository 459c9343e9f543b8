"""``${...}`` in inputs and outputs: what it becomes."""

from typing import Any

import pytest

from conformance.stage import Stage, simple

INPUT = {
    "n": 7,
    "text": "hi",
    "yes": True,
    "pi": 1.5,
    "none": None,
    "map": {"a": {"b": [1, 2]}},
    "list": [10, 20],
    "rows": [{"k": 1, "v": "x"}, {"k": 2, "v": "y"}, {"k": 3, "v": "z"}],
    "which": "n",
    "dots": {"a.b": "dotted"},
    "null_inside": {"x": None},
}


def resolved(stage: Stage, parameters: dict[str, Any], **definition: Any) -> dict[str, Any]:
    """The input a task gets for these parameters, with INPUT as the workflow's input."""
    name = stage.define_task(**definition)
    stage.run(simple(name, inputParameters=parameters), data=INPUT)
    found: dict[str, Any] = stage.take(name)["inputData"]
    return found


@pytest.mark.parametrize("key", ["n", "text", "yes", "pi", "none", "map", "list", "rows", "null_inside"])
def test_whole_expression_keeps_the_type(stage: Stage, key: str) -> None:
    assert resolved(stage, {"x": f"${{workflow.input.{key}}}"}) == {"x": INPUT[key]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n=${workflow.input.n}", "n=7"),
        ("x${workflow.input.none}y", "xnully"),
        ("x${workflow.input.missing}y", "xnully"),
        ("${workflow.input.yes}!", "true!"),
        ("${workflow.input.pi}!", "1.5!"),
        ("m=${workflow.input.map}", "m={a={b=[1, 2]}}"),
        ("l=${workflow.input.list}", "l=[10, 20]"),
        ("all=${workflow.input.rows[*]}", 'all=[{"k":1,"v":"x"},{"k":2,"v":"y"},{"k":3,"v":"z"}]'),
        ("some=${workflow.input.rows[?(@.k>1)].v}", 'some=["y","z"]'),
        ("first=${workflow.input.list[0:1]}", "first=[10]"),
        ("${workflow.input.n}-${workflow.input.text}-${workflow.input.n}", "7-hi-7"),
    ],
)
def test_embedded_expression_becomes_text(stage: Stage, text: str, expected: str) -> None:
    assert resolved(stage, {"x": text}) == {"x": expected}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("map.a.b", [1, 2]),
        ("map.a.b[1]", 2),
        ("list[0]", 10),
        ("dots['a.b']", "dotted"),
        ("rows[*].k", [1, 2, 3]),
        ("rows[?(@.k>1)].v", ["y", "z"]),
        ("rows[?(@.v=='y')].k", [2]),
        ("rows[1].v", "y"),
        ("rows[?(@.k!=2)].k", [1, 3]),
        ("rows[?(@.k>=2 && @.v=='z')].k", [3]),
        ("rows[?(@.k==1 || @.v=='z')].k", [1, 3]),
        ("rows[?(@.k in [1,3])].v", ["x", "z"]),
        ("rows[?(@.v=~/Y/i)].k", [2]),
        ("rows[0]['k','v']", {"k": 1, "v": "x"}),
        ("rows..k", [1, 2, 3]),
        ("list[-1]", 20),
        ("list[-1:]", [20]),
        ("list.first()", 10),
        ("map.keys()", ["a"]),
        ("list.length()", 2),
        ("missing", None),
        ("missing.deeper", None),
        ("list[9]", None),
    ],
)
def test_path(stage: Stage, path: str, expected: object) -> None:
    assert resolved(stage, {"x": f"${{workflow.input.{path}}}"}) == {"x": expected}


def test_expressions_reach_into_maps_and_lists_but_not_keys(stage: Stage) -> None:
    parameters = {"deep": [{"${workflow.input.text}": ["${workflow.input.n}", "at ${workflow.input.n}"]}], "plain": 3}
    assert resolved(stage, parameters) == {"deep": [{"${workflow.input.text}": [7, "at 7"]}], "plain": 3}


def test_nested_expression(stage: Stage) -> None:
    assert resolved(stage, {"x": "${workflow.input.${workflow.input.which}}"}) == {"x": 7}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$${workflow.input.n}", "${workflow.input.n}"),
        ("$${${workflow.input.n}}", "${7}"),
        ("$x {y} $", "$x {y} $"),
        ("{n}", "{n}"),
        ("${workflow.input.n", "${workflow.input.n"),
    ],
    ids=["escaped", "expression-in-escaped", "dollar", "braces", "unclosed"],
)
def test_text_that_is_no_expression(stage: Stage, text: str, expected: str) -> None:
    assert resolved(stage, {"x": text}) == {"x": expected}


def test_workflow_fields(stage: Stage) -> None:
    name = stage.define_task()
    fields = ("workflowId", "workflowType", "version", "correlationId", "status", "input")
    workflow = stage.define_workflow(simple(name, inputParameters={key: f"${{workflow.{key}}}" for key in fields}))
    workflow_id = stage.start(workflow, {"n": 1}, correlationId="c1")
    assert stage.take(name)["inputData"] == {
        "workflowId": workflow_id,
        "workflowType": workflow,
        "version": 1,
        "correlationId": "c1",
        "status": "RUNNING",
        "input": {"n": 1},
    }


def test_fields_of_an_earlier_task(stage: Stage) -> None:
    name, after = stage.define_task(), stage.define_task()
    fields = (
        "output",
        "input",
        "status",
        "taskType",
        "referenceTaskName",
        "taskId",
        "retryCount",
        "pollCount",
        "workerId",
    )
    parameters = {key: f"${{a.{key}}}" for key in fields}
    stage.run(
        simple(name, "a", inputParameters={"n": 1}),
        simple(after, "b", inputParameters=parameters),
    )
    task = stage.take(name)
    stage.update(task, "COMPLETED", outputData={"x": 2}, workerId="w1")
    assert stage.take(after)["inputData"] == {
        "output": {"x": 2},
        "input": {"n": 1},
        "status": "COMPLETED",
        "taskType": name,
        "referenceTaskName": "a",
        "taskId": task["taskId"],
        "retryCount": 0,
        "pollCount": 1,
        "workerId": "w1",
    }


def test_bare_reference_is_the_whole_map_of_the_task(stage: Stage) -> None:
    name, after = stage.define_task(), stage.define_task()
    stage.run(simple(name, "a"), simple(after, "b", inputParameters={"all": "${a}"}))
    task = stage.take(name)
    stage.complete(task, x=2)
    whole = stage.take(after)["inputData"]["all"]
    expected = {"taskId": task["taskId"], "output": {"x": 2}, "status": "COMPLETED", "referenceTaskName": "a"}
    assert {key: whole[key] for key in expected} == expected


def test_own_task_id(stage: Stage) -> None:
    name = stage.define_task()
    stage.run(simple(name, inputParameters={"id": "${CPEWF_TASK_ID}", "text": "id ${CPEWF_TASK_ID}"}))
    task = stage.take(name)
    assert task["inputData"] == {"id": task["taskId"], "text": f"id {task['taskId']}"}


def test_reference_to_a_task_that_did_not_run_is_null(stage: Stage) -> None:
    name = stage.define_task()
    stage.run(simple(name, "a", inputParameters={"x": "${b.output.x}"}), simple(name, "b"))
    assert stage.take(name)["inputData"] == {"x": None}


def test_input_template_fills_what_is_missing_or_null(stage: Stage) -> None:
    template = {"added": 1, "null": 2, "given": 3, "n": "${workflow.input.n}"}
    parameters = {"null": "${workflow.input.missing}", "given": "mine"}
    found = resolved(stage, parameters, inputTemplate=template)
    assert found == {"added": 1, "null": 2, "given": "mine", "n": 7}


def test_workflow_input_template_fills_missing_keys(stage: Stage) -> None:
    workflow = stage.define_workflow(simple("some_task"), inputTemplate={"a": 1, "b": 2})
    assert stage.workflow(stage.start(workflow, {"b": 9}))["input"] == {"a": 1, "b": 9}


def test_workflow_input_template_does_not_fill_an_empty_input(stage: Stage) -> None:
    workflow = stage.define_workflow(simple("some_task"), inputTemplate={"a": 1})
    assert stage.workflow(stage.start(workflow, {}))["input"] == {}


def test_output_parameters_become_the_workflows_output(stage: Stage) -> None:
    name = stage.define_task()
    parameters = {"x": "${a.output.x}", "n": "${workflow.input.n}", "none": "${a.output.none}", "fixed": [1]}
    workflow_id = stage.run(simple(name), data={"n": 3}, outputParameters=parameters)
    stage.complete(stage.take(name), x={"y": 1})
    assert stage.workflow(workflow_id)["output"] == {"x": {"y": 1}, "n": 3, "none": None, "fixed": [1]}


@pytest.mark.parametrize(("end", "seen"), [("COMPLETED", "RUNNING"), ("FAILED", "FAILED"), ("CANCELED", "TERMINATED")])
def test_status_that_the_output_parameters_see(stage: Stage, end: str, seen: str) -> None:
    name = stage.define_task()
    workflow_id = stage.run(simple(name), outputParameters={"status": "${workflow.status}"})
    stage.update(stage.take(name), end)
    assert stage.workflow(workflow_id)["output"] == {"status": seen}


def test_output_of_the_last_task_is_the_workflows_output(stage: Stage) -> None:
    name = stage.define_task()
    workflow_id = stage.run(simple(name, "a"), simple(name, "b"))
    stage.complete(stage.take(name), first=1)
    stage.complete(stage.take(name), second=2)
    assert stage.workflow(workflow_id)["output"] == {"second": 2}


def test_output_of_the_failed_task_is_a_failed_workflows_output(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    stage.update(stage.take(name), "FAILED", outputData={"half": 1})
    assert stage.workflow(workflow_id)["output"] == {"half": 1}
