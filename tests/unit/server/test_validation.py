"""What definitions may say."""

from __future__ import annotations

from typing import Any

import pytest

from podium.server.definitions import TaskDefinition, WorkflowDefinition, read_document
from podium.server.operators import REFUSED_TYPES, SYSTEM_TYPES
from podium.server.problems import InvalidError, Problem
from podium.server.validation import check_task_definitions, check_workflow_definition
from unit.server.world import fork, operator, simple, switch


def complaints(*tasks: dict[str, Any]) -> list[str]:
    definition = read_document({"name": "flow", "tasks": list(tasks)}, WorkflowDefinition)
    try:
        check_workflow_definition(definition, "here")
    except InvalidError as error:
        return [f"{path}: {message}" for path, message, _ in error.errors]
    return []


def test_good_definitions_pass() -> None:
    assert complaints(simple("a", inputParameters={"x": "${workflow.input.x}", "y": ["${a.output.z[0]}"]})) == []
    assert complaints(switch({"x": [simple("a")]}), *fork([simple("b")], on=["b"]), simple("c", type="FOOBAR")) == []
    assert complaints(simple("a", inputParameters={"x": "${CPEWF_TASK_ID}", "y": "$${free} ${workflow.${a.x}}"})) == []


@pytest.mark.parametrize("kind", sorted(REFUSED_TYPES))
def test_operators_that_do_not_run_here_are_refused_by_name(kind: str) -> None:
    assert complaints(simple("before"), operator(kind, "that_one")) == [
        f"here.tasks[1]: taskReferenceName: that_one: tasks of type {kind} are not supported by the embedded server yet"
    ]


def test_operators_are_either_run_or_refused() -> None:
    assert not REFUSED_TYPES & SYSTEM_TYPES


def test_operators_inside_branches_are_found() -> None:
    nested = fork([switch({"k": [operator("HTTP", "h")]})], on=["switch"])
    assert [text.partition(": ")[0] for text in complaints(*nested)] == [
        "here.tasks[0].forkTasks[0].<list element>[0].decisionCases[k].<map value>[0]"
    ]


def test_switch_with_a_script_is_refused() -> None:
    script = switch({"x": [simple("a")]}) | {"evaluatorType": "javascript"}
    (text,) = complaints(script)
    assert "a SWITCH with evaluatorType javascript is not supported" in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${q.output.z}", "taskReferenceName: q for given task: t input value: x"),
        ("${}", "key: x input parameter value:  is not valid"),
        ("${ a }", "key: x input parameter value:  a  is not valid"),
        ({"deep": ["${q.z}"]}, "taskReferenceName: q for given task: t input value: deep"),
    ],
)
def test_expressions_that_lead_nowhere(value: Any, expected: str) -> None:
    (text,) = complaints(simple("a", inputParameters={"x": value}))
    assert expected in text


def test_references_must_be_unique() -> None:
    (text,) = complaints(simple("a"), *fork([simple("a")], on=["a"]))
    assert "taskReferenceName: a should be unique" in text


def test_nulls_mean_not_given_except_in_user_data() -> None:
    task = {**simple("a"), "inputParameters": {"x": None}, "retryCount": None, "joinOn": None, "unknown": 1}
    definition = read_document({"name": "flow", "tasks": [task], "timeoutSeconds": None}, WorkflowDefinition)
    assert definition.tasks[0].input_parameters == {"x": None}
    assert definition.tasks[0].join_on == []


def test_numbers_in_texts_are_read_and_nonsense_is_refused() -> None:
    assert read_document({"name": "t", "retryCount": "5"}, TaskDefinition).retry_count == 5
    odd = read_document({"name": 7, "retryCount": 5.9, "unknown": 1.5}, TaskDefinition)
    assert (odd.name, odd.retry_count) == ("7", 5)
    with pytest.raises(Problem, match="JSON parse error"):
        read_document({"name": "t", "retryCount": "five"}, TaskDefinition)


def test_all_complaints_about_all_task_definitions_are_listed() -> None:
    definitions = [
        TaskDefinition(name="a", retry_count=-1, response_timeout_seconds=0),
        TaskDefinition(name="b", timeout_seconds=60),
        TaskDefinition(name="c", timeout_seconds=60, response_timeout_seconds=60, total_timeout_seconds=5),
    ]
    with pytest.raises(InvalidError) as caught:
        check_task_definitions(definitions, ["x", "y", "z"])
    assert [path for path, _, _ in caught.value.errors] == ["x.retryCount", "x.responseTimeoutSeconds", "y", "z"]
