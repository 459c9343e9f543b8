"""What happens when nothing happens."""

from __future__ import annotations

from typing import Any

from podium.server import actions, control
from podium.server.timeouts import next_deadline
from unit.server.world import START, World, simple


def definition(**fields: Any) -> list[dict[str, Any]]:
    return [{"name": "t", "retryCount": 1, "retryDelaySeconds": 0, **fields}]


def test_silent_worker_loses_its_attempt() -> None:
    world = World([simple("a")], definition(responseTimeoutSeconds=3))
    assert next_deadline(world.run) is None
    attempt = world.take("a")
    assert next_deadline(world.run) == START + 3000
    world.pass_time(2.999)
    assert attempt.status == "IN_PROGRESS"
    world.pass_time(0.001)
    assert attempt.status == "TIMED_OUT"
    assert attempt.reason_for_incompletion == (
        f"responseTimeout: 3 exceeded for the taskId: {attempt.task_id} with Task Definition: t"
    )
    assert world.run.latest["a"].retry_count == 1
    world.take("a")
    world.pass_time(3)
    assert world.status == "TIMED_OUT"


def test_extended_lease_moves_the_deadline() -> None:
    world = World([simple("a")], definition(responseTimeoutSeconds=3))
    attempt = world.take("a")
    world.pass_time(2)
    actions.keep_alive(world.turn(), attempt)
    assert next_deadline(world.run) == world.now + 3000
    world.pass_time(2)
    assert attempt.status == "IN_PROGRESS"


def test_given_back_task_has_no_response_timeout() -> None:
    world = World([simple("a")], definition(responseTimeoutSeconds=3))
    world.do("a", "IN_PROGRESS", callbackAfterSeconds=1)
    world.pass_time(1000)
    assert world.status == "RUNNING"


def test_task_timeout_policies() -> None:
    for policy, ends in (("TIME_OUT_WF", "TIMED_OUT"), ("RETRY", "RUNNING"), ("ALERT_ONLY", "RUNNING")):
        world = World([simple("a")], definition(timeoutSeconds=5, responseTimeoutSeconds=5, timeoutPolicy=policy))
        first = world.take("a")
        actions.keep_alive(world.turn(), first)
        world.pass_time(4)
        actions.keep_alive(world.turn(), first)
        world.pass_time(1)
        assert world.status == ends
        assert (first.status == "IN_PROGRESS") == (policy == "ALERT_ONLY")
        if policy == "TIME_OUT_WF":
            assert world.run.workflow.reason_for_incompletion == (
                "Task timed out after 5 seconds. Timeout configured as 5 seconds. Timeout policy configured to "
                "TIME_OUT_WF"
            )


def test_poll_timeout_counts_from_when_the_task_is_pollable() -> None:
    world = World([simple("a", startDelay=10)], definition(pollTimeoutSeconds=2))
    assert next_deadline(world.run) == START + 12_000
    world.pass_time(11)
    assert world.status == "RUNNING"
    world.pass_time(1)
    assert world.status == "TIMED_OUT"
    assert str(world.run.workflow.reason_for_incompletion).startswith("Task poll timed out after 2 seconds.")


def test_total_timeout_spans_the_attempts() -> None:
    world = World([simple("a")], definition(totalTimeoutSeconds=10, retryCount=9, retryDelaySeconds=4))
    world.do("a", "FAILED")
    world.pass_time(4)
    world.do("a", "FAILED")
    world.pass_time(5.9)
    assert world.status == "RUNNING"
    world.pass_time(0.1)
    assert world.status == "TIMED_OUT"
    assert str(world.run.workflow.reason_for_incompletion).endswith("No further retries will be attempted.")
    assert len(world.run.attempts) == 3


def test_total_timeout_counts_anew_after_a_retry_of_the_workflow() -> None:
    world = World([simple("a")], definition(totalTimeoutSeconds=10))
    world.pass_time(10)
    assert world.status == "TIMED_OUT"
    control.retry(world.turn())
    assert next_deadline(world.run) == world.now + 10_000
    world.do("a")
    assert world.status == "COMPLETED"


def test_workflow_timeout_cancels_what_is_open() -> None:
    world = World([simple("a")], timeoutSeconds=60, timeoutPolicy="TIME_OUT_WF", failureWorkflow="repair")
    assert next_deadline(world.run) == START + 60_000
    turn = world.pass_time(61)
    assert (world.status, world.run.latest["a"].status) == ("TIMED_OUT", "CANCELED")
    assert turn.failure_of == ""
    assert next_deadline(world.run) is None


def test_workflow_timeout_counts_anew_after_a_retry() -> None:
    world = World([simple("a")], timeoutSeconds=60, timeoutPolicy="TIME_OUT_WF")
    world.pass_time(100)
    control.retry(world.turn())
    assert next_deadline(world.run) == world.now + 60_000


def test_alert_only_workflow_never_times_out() -> None:
    world = World([simple("a")], timeoutSeconds=60)
    world.pass_time(1000)
    assert world.status == "RUNNING"


def test_paused_workflow_times_out_only_as_a_whole() -> None:
    world = World([simple("a")], definition(responseTimeoutSeconds=3), timeoutSeconds=60, timeoutPolicy="TIME_OUT_WF")
    world.take("a")
    control.pause(world.turn())
    assert next_deadline(world.run) == START + 60_000
    world.pass_time(30)
    assert world.open() == {"a"}
    world.pass_time(30)
    assert world.status == "TIMED_OUT"


def test_optional_task_that_timed_out_is_passed() -> None:
    world = World([simple("a", optional=True), simple("b")], definition(responseTimeoutSeconds=3, retryCount=0))
    world.take("a")
    world.pass_time(3)
    assert world.statuses() == {"a": "COMPLETED_WITH_ERRORS", "b": "SCHEDULED"}
