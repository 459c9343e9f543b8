"""Pause, resume, retry, restart, rerun, skip, terminate."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from msgspec import UNSET

from podium.server import control
from podium.server.control import RerunRequest
from podium.server.problems import Problem
from unit.server.world import World, blueprint, fork, operator, simple

if TYPE_CHECKING:
    from podium.server.engine import Turn


def refusal(action: Callable[[Turn], object], world: World) -> tuple[int, str]:
    with pytest.raises(Problem) as caught:
        action(world.turn())
    return caught.value.status, caught.value.message


def failed_world() -> World:
    world = World([simple("a"), *fork([simple("b")], [simple("c")], on=["b", "c"]), simple("z")])
    world.do("a", outputData={"x": 1})
    world.do("b", "FAILED_WITH_TERMINAL_ERROR")
    assert world.status == "FAILED"
    return world


def test_paused_workflow_takes_reports_and_goes_on_later() -> None:
    world = World([simple("a"), simple("b")])
    control.pause(world.turn())
    world.do("a")
    assert (world.status, world.open()) == ("PAUSED", set())
    control.resume(world.turn())
    assert (world.status, world.open()) == ("RUNNING", {"b"})
    assert refusal(control.resume, world)[0] == 500


def test_ended_workflow_cannot_be_paused() -> None:
    assert refusal(control.pause, failed_world())[0] == 409


def test_retry_gives_new_attempts_to_failed_and_canceled_tasks() -> None:
    world = failed_world()
    control.retry(world.turn())
    assert world.status == "RUNNING"
    assert world.open() == {"b", "c", "join"}
    for ref in ("b", "c"):
        assert (world.run.latest[ref].retry_count, world.run.latest[ref].status) == (1, "SCHEDULED")
        assert world.run.latest[ref].reason_for_incompletion is UNSET
    world.do("b")
    world.do("c")
    world.do("z")
    assert world.status == "COMPLETED"
    assert world.run.workflow.failed_reference_task_names == ["b"]


def test_retry_waits_again_at_a_canceled_wait() -> None:
    world = World([operator("WAIT", "wait")])
    control.terminate(world.turn(), "enough")
    control.retry(world.turn())
    assert world.run.latest["wait"].status == "IN_PROGRESS"
    world.report("wait")
    assert world.status == "COMPLETED"


def test_retry_is_refused_while_running_and_when_nothing_failed() -> None:
    world = World([simple("a")])
    assert refusal(control.retry, world) == (404, "Workflow is still running.  status=RUNNING")
    world.do("a")
    assert refusal(control.retry, world)[0] == 409


def test_terminate_starts_no_failure_workflow() -> None:
    world = World([simple("a")], failureWorkflow="repair")
    turn = world.turn()
    control.terminate(turn, "because")
    assert (world.status, world.run.workflow.reason_for_incompletion) == ("TERMINATED", "because")
    assert (world.run.latest["a"].status, turn.failure_of) == ("CANCELED", None)
    control.terminate(world.turn(), "again")
    assert world.run.workflow.reason_for_incompletion == "because"


def test_completed_workflow_cannot_be_terminated() -> None:
    world = World([simple("a")])
    world.do("a")
    assert refusal(lambda turn: control.terminate(turn, None), world)[0] == 409


def test_restart_begins_from_nothing_with_the_same_input() -> None:
    world = World([simple("a")], data={"n": 1}, variables={"v": 1})
    world.run.workflow.variables = {"v": 2}
    world.do("a")
    old = world.run.attempts
    turn = world.turn()
    control.restart(turn, blueprint([simple("a2", inputParameters={"n": "${workflow.input.n}"})]))
    assert turn.removed == old
    assert world.open() == {"a2"}
    assert world.run.latest["a2"].input_data == {"n": 1}
    assert world.run.latest["a2"].seq == 1
    assert refusal(lambda turn: control.restart(turn, world.run.blueprint), world)[0] == 409


def test_completed_workflow_that_is_not_restartable() -> None:
    world = World([simple("a")], restartable=False)
    world.do("a")
    assert refusal(lambda turn: control.restart(turn, world.run.blueprint), world)[0] == 409


def test_rerun_from_a_task_keeps_what_was_before() -> None:
    world = World([simple("a"), simple("b"), simple("c")])
    world.do("a")
    middle = world.do("b", outputData={"x": 1})
    world.do("c")
    turn = world.turn()
    control.rerun(turn, RerunRequest(re_run_from_task_id=middle.task_id, task_input={"n": 1}))
    assert [attempt.reference_task_name for attempt in turn.removed] == ["c"]
    assert world.open() == {"b"}
    assert (middle.input_data, middle.output_data, middle.poll_count) == ({"n": 1}, {}, 0)
    world.do("b")
    world.do("c")
    assert world.status == "COMPLETED"


def test_rerun_from_the_start_with_another_input() -> None:
    world = World([simple("a", inputParameters={"n": "${workflow.input.n}"})], data={"n": 1})
    world.do("a")
    control.rerun(world.turn(), RerunRequest(workflow_input={"n": 2}, correlation_id="again"))
    assert world.run.latest["a"].input_data == {"n": 2}
    assert world.run.workflow.correlation_id == "again"


def test_rerun_from_an_operator_runs_it_again() -> None:
    world = World([simple("a"), operator("WAIT", "wait"), simple("b")])
    world.do("a")
    wait = world.report("wait")
    world.do("b", "FAILED_WITH_TERMINAL_ERROR")
    control.rerun(world.turn(), RerunRequest(re_run_from_task_id=wait.task_id))
    assert world.statuses() == {"a": "COMPLETED", "wait": "IN_PROGRESS"}


def test_rerun_is_refused_while_running_and_from_strangers() -> None:
    world = World([simple("a")])
    assert refusal(lambda turn: control.rerun(turn, RerunRequest()), world)[0] == 409
    world.do("a")
    asked = RerunRequest(re_run_from_task_id="nope")
    assert refusal(lambda turn: control.rerun(turn, asked), world) == (400, "Task nope not found")


def test_skipped_task_is_never_scheduled() -> None:
    world = World([simple("a"), simple("b"), simple("c", inputParameters={"x": "${b.output.x}"})])
    control.skip(world.turn(), "b", {}, {"x": 1})
    assert (world.run.latest["b"].status, world.run.latest["b"].seq) == ("SKIPPED", 0)
    world.do("a")
    assert world.run.latest["c"].input_data == {"x": 1}


def test_skip_is_refused_for_unknown_scheduled_and_ended() -> None:
    world = World([simple("a")])
    for ref in ("a", "nope"):
        assert refusal(lambda turn, ref=ref: control.skip(turn, ref, {}, {}), world)[0] == 500  # type: ignore[misc]
    world.do("a")
    assert refusal(lambda turn: control.skip(turn, "a", {}, {}), world)[0] == 500
