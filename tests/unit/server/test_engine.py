"""The decider: what follows from what."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET

from unit.server.world import START, World, fork, operator, simple, switch


def test_tasks_run_one_after_the_other() -> None:
    world = World([simple("a"), simple("b")])
    assert world.open() == {"a"}
    world.do("a", outputData={"x": 1})
    assert world.open() == {"b"}
    assert world.run.latest["a"].executed
    world.do("b", outputData={"y": 2})
    assert world.status == "COMPLETED"
    assert world.run.workflow.output == {"y": 2}
    assert world.run.workflow.end_time == world.now


def test_evaluating_again_changes_nothing() -> None:
    world = World([simple("a"), *fork([simple("b")], [simple("c")], on=["b", "c"])])
    world.do("a")
    assert world.evaluate().changed == {}


def test_output_parameters_win_over_the_last_output() -> None:
    world = World([simple("a")], outputParameters={"all": "${a.output}", "text": "n=${a.output.x}"})
    world.do("a", outputData={"x": 1})
    assert world.run.workflow.output == {"all": {"x": 1}, "text": "n=1"}


def test_failed_attempt_is_followed_by_a_new_one_that_sees_it() -> None:
    parameters = {"before": "${a.output.x}", "how": "${a.status}", "fixed": 1}
    world = World([simple("a", inputParameters=parameters)])
    first = world.do("a", "FAILED", outputData={"x": 7}, reasonForIncompletion="why")
    second = world.run.latest["a"]
    assert (first.status, first.retried) == ("FAILED", True)
    assert (second.status, second.retry_count, second.seq) == ("SCHEDULED", 1, 2)
    assert second.retried_task_id == first.task_id
    assert second.reason_for_incompletion == "why"
    assert second.input_data == {"before": 7, "how": "FAILED", "fixed": 1}
    assert second.output_data == {}


def test_last_failure_ends_the_workflow() -> None:
    world = World([simple("a"), simple("b")])
    world.do("a", "FAILED")
    last = world.do("a", "FAILED", reasonForIncompletion="why")
    workflow = world.run.workflow
    assert workflow.status == "FAILED"
    assert workflow.reason_for_incompletion == f"Task {last.task_id} failed with status: FAILED and reason: 'why'"
    assert workflow.failed_reference_task_names == ["a"]
    assert workflow.failed_task_names == ["t"]
    assert world.last.failure_of == last.task_id


def test_missing_reason_reads_null() -> None:
    world = World([simple("a")])
    world.do("a", "FAILED_WITH_TERMINAL_ERROR")
    assert str(world.run.workflow.reason_for_incompletion).endswith("reason: 'null'")


@pytest.mark.parametrize(("status", "ends"), [("FAILED_WITH_TERMINAL_ERROR", "FAILED"), ("CANCELED", "TERMINATED")])
def test_final_statuses_are_not_retried(status: str, ends: str) -> None:
    world = World([simple("a")])
    world.do("a", status)
    assert world.status == ends
    assert len(world.run.attempts) == 1


@pytest.mark.parametrize(
    ("logic", "fields", "delays"),
    [
        ("FIXED", {}, [2, 2, 2]),
        ("LINEAR_BACKOFF", {"backoffScaleFactor": 2}, [4, 8, 12]),
        ("EXPONENTIAL_BACKOFF", {"backoffScaleFactor": 9}, [2, 4, 8]),
        ("EXPONENTIAL_BACKOFF", {"maxRetryDelaySeconds": 3}, [2, 3, 3]),
        ("FIXED", {"backoffJitterMs": 1000}, [2.5, 2.5, 2.5]),
    ],
)
def test_delay_before_a_retry(logic: str, fields: dict[str, Any], delays: list[float]) -> None:
    definition = {"name": "t", "retryCount": 3, "retryDelaySeconds": 2, "retryLogic": logic, **fields}
    world = World([simple("a")], [definition])
    for delay in delays:
        world.do("a", "FAILED")
        attempt = world.run.latest["a"]
        assert attempt.pollable_at == world.now + delay * 1000
        assert attempt.callback_after_seconds == attempt.start_delay_in_seconds == int(delay)
        world.pass_time(delay)
    world.do("a", "FAILED")
    assert world.status == "FAILED"


def test_enormous_exponential_delay_stays_a_number() -> None:
    definition = {"name": "t", "retryCount": 90, "retryDelaySeconds": 1, "retryLogic": "EXPONENTIAL_BACKOFF"}
    world = World([simple("a")], [definition])
    world.run.latest["a"].retry_count = 80
    world.do("a", "FAILED")
    assert world.run.latest["a"].start_delay_in_seconds == 2**32


def test_node_overrides_the_number_of_retries() -> None:
    world = World([simple("a", retryCount=0)])
    world.do("a", "FAILED")
    assert world.status == "FAILED"


def test_optional_task_is_retried_and_then_passed() -> None:
    world = World([simple("a", optional=True), simple("b")])
    world.do("a", "FAILED")
    world.do("a", "FAILED", outputData={"x": 1}, reasonForIncompletion="why")
    assert world.statuses() == {"a": "COMPLETED_WITH_ERRORS", "b": "SCHEDULED"}
    assert world.run.latest["a"].output_data == {"x": 1}
    world.do("b")
    assert world.status == "COMPLETED"


def test_permissive_task_fails_the_workflow_at_its_end() -> None:
    world = World([simple("a", permissive=True), simple("b")])
    failed = world.do("a", "FAILED_WITH_TERMINAL_ERROR", reasonForIncompletion="why")
    assert world.open() == {"b"}
    world.do("b", outputData={"y": 1})
    workflow = world.run.workflow
    assert workflow.status == "FAILED"
    assert str(workflow.reason_for_incompletion).startswith(f"Task {failed.task_id} failed")
    assert workflow.output == {"y": 1}


def test_late_report_is_ignored() -> None:
    world = World([simple("a")])
    attempt = world.do("a")
    with pytest.raises(AssertionError):
        world.report("a", "FAILED")
    assert attempt.status == "COMPLETED"


def test_give_back_makes_the_task_pollable_after_the_callback() -> None:
    world = World([simple("a")])
    world.do("a", "IN_PROGRESS", callbackAfterSeconds=5, outputData={"step": 1})
    attempt = world.run.latest["a"]
    assert (attempt.status, attempt.callback_after_seconds) == ("SCHEDULED", 5)
    assert attempt.pollable_at == world.now + 5000
    world.pass_time(5)
    world.take("a")
    assert (attempt.poll_count, attempt.retry_count, attempt.callback_after_seconds) == (2, 0, 0)
    assert attempt.output_data == {"step": 1}


def test_reason_is_cut() -> None:
    world = World([simple("a", optional=True)], [{"name": "t", "retryCount": 0}])
    attempt = world.do("a", "FAILED", reasonForIncompletion="x" * 600)
    assert attempt.reason_for_incompletion == "x" * 500


def test_start_delay() -> None:
    world = World([simple("a", startDelay=2)])
    attempt = world.run.latest["a"]
    assert (attempt.pollable_at, attempt.start_delay_in_seconds) == (START + 2000, 2)


def test_input_template_fills_what_is_missing_or_null() -> None:
    definition = {"name": "t", "inputTemplate": {"a": 1, "b": "${workflow.input.n}", "c": 3}}
    parameters = {"a": "${workflow.input.nothing}", "c": 4, "d": None}
    world = World([simple("x", inputParameters=parameters)], [definition], data={"n": 5})
    assert world.run.latest["x"].input_data == {"a": 1, "b": 5, "c": 4, "d": None}


def test_definitions_without_registration_have_the_defaults() -> None:
    world = World([simple("a", "nobody")], [])
    world.do("a", "FAILED")
    assert world.run.latest["a"].start_delay_in_seconds == 60
    assert world.run.blueprint.nodes["a"].retries == 3


def test_domain_is_chosen_when_the_task_is_scheduled() -> None:
    world = World([simple("a"), simple("b")], task_to_domain={"*": "x", "t": " one , two, NO_DOMAIN"})
    assert world.run.latest["a"].domain is UNSET
    world.polled.add(("t", "two"))
    world.do("a")
    assert world.run.latest["b"].domain == "two"


def test_retry_stays_in_its_domain() -> None:
    world = World([simple("a")], task_to_domain={"t": "one,two"})
    assert world.run.latest["a"].domain == "two"
    world.polled.add(("t", "one"))
    world.do("a", "FAILED")
    assert world.run.latest["a"].domain == "two"


# -- operators ---------------------------------------------------------------------------------------------------------


def test_fork_starts_all_branches_and_the_join() -> None:
    world = World([*fork([simple("a"), simple("a2")], [simple("b")], on=["a2", "b"]), simple("z")])
    assert world.statuses() == {"fork": "COMPLETED", "a": "SCHEDULED", "b": "SCHEDULED", "join": "IN_PROGRESS"}
    world.do("b", outputData={"b": 1})
    world.do("a")
    world.do("a2")
    join = world.run.latest["join"]
    assert (join.status, join.output_data) == ("COMPLETED", {"b": {"b": 1}})
    assert world.open() == {"z"}


def test_join_waits_for_the_retry_of_a_branch() -> None:
    world = World([*fork([simple("a")], [simple("b")], on=["a", "b"]), simple("z")])
    world.do("b")
    world.do("a", "FAILED")
    assert world.status == "RUNNING"
    assert world.run.latest["join"].status == "IN_PROGRESS"
    world.do("a")
    assert world.open() == {"z"}


def test_failed_branch_cancels_the_others() -> None:
    world = World(fork([simple("a")], [simple("b")], on=["a", "b"]))
    world.do("a", "FAILED_WITH_TERMINAL_ERROR")
    assert world.status == "FAILED"
    assert world.statuses() == {
        "fork": "COMPLETED",
        "a": "FAILED_WITH_TERMINAL_ERROR",
        "b": "CANCELED",
        "join": "CANCELED",
    }


def test_optional_failure_shows_in_the_join() -> None:
    world = World(fork([simple("a", optional=True)], [simple("b")], on=["a", "b"]))
    attempt = world.do("a", "FAILED_WITH_TERMINAL_ERROR")
    world.do("b")
    join = world.run.latest["join"]
    assert join.status == "COMPLETED_WITH_ERRORS"
    assert join.reason_for_incompletion == f"t/{attempt.task_id} completed with errors"
    assert world.status == "COMPLETED"


def test_workflow_waits_for_a_branch_that_the_join_does_not() -> None:
    world = World([*fork([simple("a"), simple("a2")], [simple("b")], on=["b"]), simple("z")])
    world.do("b")
    world.do("z")
    assert (world.status, world.open()) == ("RUNNING", {"a"})
    world.do("a")
    world.do("a2")
    assert world.status == "COMPLETED"


def test_fork_without_join_fails_at_once() -> None:
    world = World([operator("FORK_JOIN", "fork", forkTasks=[[simple("a")]]), simple("b")])
    assert world.status == "FAILED"
    assert world.run.attempts == []
    assert "not followed by a join task" in str(world.run.workflow.reason_for_incompletion)


@pytest.mark.parametrize(
    ("value", "case", "opened"),
    [
        ("x", "x", "in_x"),
        (1, "1", "in_1"),
        (True, "true", "after"),
        (None, "null", "other"),
        ({"k": 1}, "{k=1}", "other"),
    ],
)
def test_switch_takes_the_case_of_its_text(value: Any, case: str, opened: str) -> None:
    cases: dict[str, list[dict[str, Any]]] = {"x": [simple("in_x")], "1": [simple("in_1")], "true": []}
    world = World([switch(cases, [simple("other")]), simple("after")], data={"case": value})
    task = world.run.latest["switch"]
    assert task.output_data == {"evaluationResult": [case], "selectedCase": case}
    assert task.input_data["case"] == case
    assert world.open() == {opened}
    if opened != "after":
        world.do(opened)
        assert world.open() == {"after"}


def test_set_variable_and_noop_run_at_once() -> None:
    tasks = [
        operator("SET_VARIABLE", "set", inputParameters={"x": "${workflow.variables.y}"}),
        operator("NOOP", "noop"),
        simple("a", inputParameters={"x": "${workflow.variables.x}"}),
    ]
    world = World(tasks, variables={"y": 5})
    assert world.run.workflow.variables == {"y": 5, "x": 5}
    assert world.run.latest["a"].input_data == {"x": 5}


def test_terminate_ends_everything() -> None:
    tasks = [
        *fork(
            [simple("a")],
            [
                simple("b"),
                operator(
                    "TERMINATE",
                    "stop",
                    inputParameters={"terminationStatus": "FAILED", "workflowOutput": {"o": "${b.output.x}"}},
                ),
            ],
            on=["a", "stop"],
        )
    ]
    world = World(tasks)
    world.do("b", outputData={"x": 1})
    workflow = world.run.workflow
    stop = world.run.latest["stop"]
    assert (workflow.status, workflow.output) == ("FAILED", {"o": 1})
    assert workflow.reason_for_incompletion == f"Workflow is FAILED by TERMINATE task: {stop.task_id}"
    assert world.run.latest["a"].status == "CANCELED"
    assert world.last.failure_of == stop.task_id


def test_terminate_with_a_scalar_output_completes_without_a_failure() -> None:
    parameters = {"terminationStatus": "COMPLETED", "terminationReason": "done", "workflowOutput": 5}
    world = World([operator("TERMINATE", "stop", inputParameters=parameters), simple("never")])
    assert (world.status, world.run.workflow.output) == ("COMPLETED", {"output": 5})
    assert world.last.failure_of is None
    assert "never" not in world.run.latest


def test_wait_ends_by_time() -> None:
    world = World([operator("WAIT", "wait", inputParameters={"duration": "2 s"}), simple("a")])
    assert world.run.latest["wait"].callback_after_seconds == 2
    world.pass_time(1.9)
    assert world.open() == {"wait"}
    world.pass_time(0.1)
    assert world.open() == {"a"}


@pytest.mark.parametrize("kind", ["WAIT", "HUMAN"])
def test_wait_and_human_end_by_an_update(kind: str) -> None:
    world = World([operator(kind, "gate"), simple("a", inputParameters={"x": "${gate.output.x}"})])
    world.pass_time(1_000_000)
    world.report("gate", "IN_PROGRESS", outputData={"x": 0})
    assert world.statuses() == {"gate": "IN_PROGRESS"}
    world.report("gate", "COMPLETED", outputData={"x": 1})
    assert world.run.latest["a"].input_data == {"x": 1}


def test_wait_for_nonsense_is_refused_and_fails() -> None:
    world = World([operator("WAIT", "wait", inputParameters={"duration": "${workflow.input.d}"})], data={"d": "PT2S"})
    assert world.last.refusal == "Not valid duration: PT2S"
    assert world.status == "FAILED"


def test_unknown_type_is_a_worker_task_of_that_queue() -> None:
    world = World([simple("a", "name", type="FOOBAR")])
    attempt = world.run.latest["a"]
    assert (attempt.task_type, attempt.task_def_name, attempt.status) == ("FOOBAR", "name", "SCHEDULED")
