"""Executions under oversight, in virtual time: tasks that nobody wants any more, and code that takes too long."""

from __future__ import annotations

import json
import logging
import socket
from typing import Any

import pytest

from engine_fakes import FakeClient, FakeCrew, outcome_for, task_json, unavailable
from podium import TaskCancelled, TaskExecutionFailure, TaskGivenBack
from podium.errors import AnswerError, NotFoundError, PodiumError
from podium.frames import Cause
from podium.models import TERMINAL_TASK_STATUSES, TaskResultStatus, TaskState
from podium.oversight import LONGEST_PAUSE, PATIENCE, limit_of
from podium.polled import read_task
from runner_stage import START, Stage, Theatre, given_back, passing, tasks

STACK = f"""\
Thread 0x00007f0000000001 (most recent call first):
  File "{socket.__file__}", line 1 in recv
  File "/app/orders.py", line 12 in fetch
  File "/app/orders.py", line 30 in pack"""


@pytest.fixture
def theatre(monkeypatch: pytest.MonkeyPatch) -> Theatre:
    return Theatre(monkeypatch)


def cancelled(task: Any) -> Any:
    """The outcome of a coroutine that was cancelled."""
    trace = 'Traceback (most recent call last):\n  File "/app/orders.py", line 7, in waits\n    await it\nCancelled'
    return outcome_for(task, TaskResultStatus.FAILED, Cause("CancelledError", "", trace))


# is the task still wanted


@pytest.mark.parametrize(
    ("response_timeout", "pause"),
    [(1, 0.5), (2, 0.8), (3, 1.2), (5, 2), (10, 4), (75, 30), (3600, LONGEST_PAUSE), (0, LONGEST_PAUSE)],
)
@pytest.mark.parametrize("lease", [True, False])
def test_task_is_looked_at_at_the_pace_of_heartbeats_within_bounds(
    theatre: Theatre, response_timeout: int, pause: float, lease: bool
) -> None:
    async def play(stage: Stage) -> None:
        await passing(3.5 * pause)

    client = FakeClient(tasks("a", responseTimeoutSeconds=response_timeout))
    theatre.show(play, client, lease_extend_enabled=lease)
    assert [at - START for at, _ in client.looks] == pytest.approx([pause, 2 * pause, 3 * pause])


def test_task_that_ends_before_its_first_look_costs_none(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing(1.9)
        stage.crew.finish("a")
        await passing(100)

    client = FakeClient(tasks("a", responseTimeoutSeconds=5))
    theatre.show(play, client)
    assert client.looks == []


@pytest.mark.parametrize("status", sorted(TERMINAL_TASK_STATUSES))
def test_D06_what_the_server_has_settled_is_told_once_and_its_result_is_dropped(
    theatre: Theatre, caplog: pytest.LogCaptureFixture, status: str
) -> None:
    async def play(stage: Stage) -> None:
        await passing(3)
        client.states["a"] = TaskState(status=status)
        await passing(1.5)  # within one interval, which is 2 s
        assert stage.crew.cancelled == ["a"]
        assert stage.runner.running == 1  # until the code has ended
        await passing(20)
        stage.crew.finish("a")
        await passing()
        assert (stage.runner.running, stage.leases.kept) == (0, 0)

    client = FakeClient(tasks("a", responseTimeoutSeconds=5))
    with caplog.at_level(logging.INFO):
        stage = theatre.show(play, client, lease_extend_enabled=True)
    assert client.updates == []
    assert (stage.crew.cancelled, stage.crew.evicted) == (["a"], [])
    assert [at - START for at, _ in client.looks] == [2, 4]
    assert [at - START for at, _ in client.beats] == [2, 4]
    (event,) = stage.heard.of(TaskCancelled)
    assert (event.task_id, event.status, event.worker_id) == ("a", status, "me")
    assert event.duration_ms == pytest.approx(24_500)
    assert stage.heard.of(TaskExecutionFailure) == []
    assert caplog.messages == [
        f"task a of workflow flow-a is not wanted any more, it is {status}: its code is told so",
        f"task a (type) was {status}: its result is dropped",
    ]


@pytest.mark.parametrize("message", ["Task not found for taskId: a", "No such task found by id: a"])
def test_task_that_the_server_has_no_more_is_not_wanted(theatre: Theatre, message: str) -> None:
    async def play(stage: Stage) -> None:
        await passing(2.5)
        assert stage.crew.cancelled == ["a"]
        stage.crew.finish("a", cancelled)

    client = FakeClient(tasks("a", responseTimeoutSeconds=5))
    client.look_errors.append(NotFoundError(404, message))
    stage = theatre.show(play, client)
    assert stage.heard.of(TaskCancelled)[0].status == "REMOVED"
    assert client.updates == []


@pytest.mark.parametrize(
    "problem",
    [unavailable(), NotFoundError(404, "No static resource api/tasks/a."), AnswerError("not JSON"), PodiumError("new")],
    ids=repr,
)
def test_failed_look_is_no_cancellation(theatre: Theatre, problem: PodiumError, caplog: Any) -> None:
    async def play(stage: Stage) -> None:
        await passing(9)
        assert stage.crew.cancelled == []
        stage.crew.finish("a")

    client = FakeClient(tasks("a", responseTimeoutSeconds=5))
    client.look_errors.extend([problem] * 3)
    theatre.show(play, client)
    assert len(client.looks) == 4
    assert client.reported == [("a", "COMPLETED")]
    assert caplog.messages == []  # polls and heartbeats tell of an outage


@pytest.mark.parametrize("status", ["IN_PROGRESS", "SCHEDULED", "NEW_IN_A_LATER_VERSION"])
def test_other_states_are_no_cancellation(theatre: Theatre, status: str) -> None:
    async def play(stage: Stage) -> None:
        client.states["a"] = TaskState(status=status)
        await passing(9)
        assert stage.crew.cancelled == []

    client = FakeClient(tasks("a", responseTimeoutSeconds=5))
    theatre.show(play, client)
    assert client.reported == [("a", "COMPLETED")]


def test_thousand_tasks_are_not_looked_at_all_at_once(theatre: Theatre) -> None:
    class Slow(FakeClient):
        most = under_way = 0

        async def get_task_state(self, task_id: str) -> TaskState:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await passing(0.01)
            self.under_way -= 1
            return await super().get_task_state(task_id)

    async def play(stage: Stage) -> None:
        await passing(5)

    client = Slow(tasks(*map(str, range(1000)), responseTimeoutSeconds=5))
    theatre.show(play, client, slots=1000)
    assert len(client.looks) >= 1000
    assert client.most == 8


def test_on_cancel_kill_ends_the_code_and_frees_the_slot_a_second_later(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing(2.5)
        assert stage.crew.cancelled == ["a"]
        assert stage.crew.evicted == []
        await passing(PATIENCE)
        assert stage.crew.evicted == [("a", "task a was cancelled")]
        assert stage.runner.running == 0

    client = FakeClient(tasks("a", "b", responseTimeoutSeconds=5))
    client.states["a"] = TaskState(status="CANCELED")
    stage = theatre.show(play, client, on_cancel="kill")
    assert given_back(stage) == ["b"]  # a neighbour in the same process
    assert [event.task_id for event in stage.heard.of(TaskCancelled)] == ["a"]
    assert [event.task_id for event in stage.heard.of(TaskGivenBack)] == ["b"]
    assert client.reported == [("b", "IN_PROGRESS")]


def test_on_cancel_kill_kills_nothing_that_ends_when_it_is_told(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing(2.5)
        stage.crew.finish("a", cancelled)
        await passing(10)

    client = FakeClient(tasks("a", responseTimeoutSeconds=5))
    client.states["a"] = TaskState(status="CANCELED")
    stage = theatre.show(play, client, on_cancel="kill")
    assert stage.crew.evicted == []
    assert client.updates == []


# has its code had its time


def definition(**fields: Any) -> dict[str, Any]:
    return {"taskDefinition": {"name": "type", **fields}}


def overdue(theatre: Theatre, head: dict[str, Any], **options: Any) -> Stage:
    """Let a task hang for 20 s beside a neighbour that came 8 s later."""

    async def play(stage: Stage) -> None:
        await passing(8)
        client.poll_answers.append(tasks("b"))
        await passing(1.9)
        assert stage.crew.cancelled == []
        await passing(10)

    client = FakeClient([task_json("a", **head)])
    crew = FakeCrew(4)
    crew.stack = STACK
    return theatre.show(play, client, crew=crew, **options)


def test_D07_code_that_takes_too_long_is_ended_and_failed_and_its_neighbour_is_given_back(
    theatre: Theatre, caplog: pytest.LogCaptureFixture
) -> None:
    stage = overdue(theatre, {}, timeout_seconds=10)
    reason = "took longer than 10 s (timeout_seconds); it was in fetch (/app/orders.py:12)"
    (update,) = stage.client.updates_of("a")
    assert update.at - START == pytest.approx(10 + PATIENCE)
    assert update.body["status"] == "FAILED"
    assert update.body["reasonForIncompletion"] == reason
    assert [line["log"] for line in update.body["logs"]] == [reason, STACK]
    assert stage.crew.cancelled == ["a"]
    assert stage.crew.evicted == [("a", "task a took longer than 10 s (timeout_seconds)")]
    assert given_back(stage)[0] == "b"
    (event,) = stage.heard.of(TaskExecutionFailure)
    assert (event.task_id, event.cause.type_name) == ("a", "TaskTimedOut")
    assert any(f"failed: TaskTimedOut: {reason}" in text for text in caplog.messages)


@pytest.mark.parametrize(
    ("fields", "stated", "status"),
    [
        ({"timeoutSeconds": 10, "timeoutPolicy": "RETRY"}, None, "FAILED"),
        # The policy wants the workflow to end, not another attempt; and it is what a definition has that states none.
        ({"timeoutSeconds": 10, "timeoutPolicy": "TIME_OUT_WF"}, None, "FAILED_WITH_TERMINAL_ERROR"),
        ({"timeoutSeconds": 10}, None, "FAILED_WITH_TERMINAL_ERROR"),
        ({"timeoutSeconds": 600}, 10, "FAILED"),
        ({"timeoutSeconds": 0}, 10, "FAILED"),
        ({"timeoutSeconds": 600, "timeoutPolicy": "ALERT_ONLY"}, 10, "FAILED"),
    ],
)
def test_limit_is_the_option_s_or_else_the_definition_s(
    theatre: Theatre, fields: dict[str, Any], stated: float | None, status: str
) -> None:
    stage = overdue(theatre, definition(**fields), timeout_seconds=stated)
    (update,) = stage.client.updates_of("a")
    assert update.at - START == pytest.approx(10 + PATIENCE)
    assert update.body["status"] == status
    source = "timeout_seconds" if stated else "timeoutSeconds of the task definition"
    assert update.body["reasonForIncompletion"].startswith(f"took longer than 10 s ({source})")


@pytest.mark.parametrize(
    ("head", "stated"),
    [
        ({}, None),
        (definition(), None),
        (definition(timeoutSeconds=0), None),
        (definition(timeoutSeconds=-1), None),
        (definition(timeoutSeconds=10), 0),
        (definition(timeoutSeconds=10, timeoutPolicy="ALERT_ONLY"), None),
        # Whatever a server may put there, the task itself can be read.
        ({"taskDefinition": None}, None),
        ({"taskDefinition": "gone"}, None),
        ({"taskDefinition": [10]}, None),
        (definition(timeoutSeconds="10"), None),
        (definition(timeoutSeconds=None), None),
        (definition(timeoutSeconds=10, timeoutPolicy={"new": "kind"}), None),
    ],
    ids=json.dumps,
)
def test_without_a_limit_nothing_is_ended(head: dict[str, Any], stated: float | None) -> None:
    assert limit_of(read_task(task_json("a", **head)), stated) is None


def test_coroutine_that_ends_when_it_is_told_fails_with_the_place_it_waited_at(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing(10.2)
        stage.crew.finish("a", cancelled)
        await passing(10)

    client = FakeClient(tasks("a", "b"))
    stage = theatre.show(play, client, timeout_seconds=10, slots=2)
    (update,) = client.updates_of("a")
    assert update.body["status"] == "FAILED"
    assert update.body["reasonForIncompletion"].endswith("; it was in waits (/app/orders.py:7)")
    assert "await it" in update.body["logs"][1]["log"]
    assert [task_id for task_id, _ in stage.crew.evicted] == ["b"]


@pytest.mark.parametrize("status", [TaskResultStatus.COMPLETED, TaskResultStatus.FAILED])
def test_result_that_comes_in_the_last_second_counts(theatre: Theatre, status: TaskResultStatus) -> None:
    async def play(stage: Stage) -> None:
        await passing(10.5)
        stage.crew.finish("a", lambda task: outcome_for(task, status))
        await passing(10)

    client = FakeClient(tasks("a"))
    stage = theatre.show(play, client, timeout_seconds=10)
    assert client.reported == [("a", status)]
    assert stage.crew.evicted == []


def test_limit_starts_with_the_execution_not_with_the_wait_for_a_slot(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing(6)
        stage.crew.finish("a")
        await passing(9)
        assert stage.crew.cancelled == []
        stage.crew.finish("b")

    client = FakeClient(tasks("a", "b"))
    theatre.show(play, client, slots=1, timeout_seconds=10)
    assert client.reported == [("a", "COMPLETED"), ("b", "COMPLETED")]


def test_D07_code_that_cannot_be_stopped_is_failed_and_its_slot_stays_taken(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing(12)
        assert client.reported == [("a", "FAILED")]
        assert stage.runner.running == 1
        polls = len(client.polls)
        client.last_answer = tasks("b")
        await passing(100)
        assert len(client.polls) == polls
        assert stage.crew.started == ["a"]
        stage.crew.left_behind.clear()  # its code has ended at last
        stage.runner.wake()
        await passing(0.1)
        assert stage.crew.started == ["a", "b"]
        client.last_answer = []
        stage.crew.finish("b")

    client = FakeClient(tasks("a"))
    client.next_tasks.append(task_json("too-much"))  # what an update might bring
    crew = FakeCrew(1)
    crew.can_kill, crew.stack = False, STACK
    theatre.show(play, client, slots=1, crew=crew, timeout_seconds=10)
    reason = client.updates[0].body["reasonForIncompletion"]
    assert reason == (
        "took longer than 10 s (timeout_seconds); it was in fetch (/app/orders.py:12); it cannot be stopped"
    )


def test_cancelled_code_that_does_not_end_is_ended_by_the_limit_and_reports_nothing(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        client.states["a"] = TaskState(status="CANCELED")
        await passing(12)
        assert stage.runner.running == 0

    client = FakeClient(tasks("a", responseTimeoutSeconds=5))
    stage = theatre.show(play, client, timeout_seconds=10)
    assert [task_id for task_id, _ in stage.crew.evicted] == ["a"]
    assert client.updates == []
    assert [event.status for event in stage.heard.of(TaskCancelled)] == ["CANCELED"]
    assert stage.heard.of(TaskExecutionFailure) == []


def test_max_lease_seconds_ends_heartbeats_and_looks_go_on(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing(21)
        assert [at - START for at, _ in client.beats] == [2, 4, 6, 8]
        client.states["a"] = TaskState(status="TIMED_OUT")
        await passing(2)
        assert stage.crew.cancelled == ["a"]
        stage.crew.finish("a")

    client = FakeClient(tasks("a", responseTimeoutSeconds=5))
    theatre.show(play, client, lease_extend_enabled=True, max_lease_seconds=9)
    assert client.updates == []


def test_max_lease_seconds_is_for_the_code_and_not_for_its_result(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing(8.5)
        stage.crew.finish("a")
        await passing(20)  # the result is refused for some seconds
        times = [at - START for at, _ in client.beats]
        assert times == [2 * number for number in range(1, len(times) + 1)]
        assert times[-1] >= 12

    client = FakeClient(tasks("a", responseTimeoutSeconds=5))
    client.update_errors.extend([unavailable()] * 2)
    theatre.show(play, client, lease_extend_enabled=True, max_lease_seconds=9)
    assert client.reported[-1] == ("a", "COMPLETED")
