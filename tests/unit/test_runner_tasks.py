"""THE loop: what becomes of the tasks that it was handed, until the server has their results."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from engine_fakes import FakeClient, FakeCrew, outcome_for, task_json, unavailable
from podium import (
    TaskExecutionCompleted,
    TaskExecutionFailure,
    TaskResultStatus,
    TaskUpdateFailure,
)
from podium.errors import PodiumError, TaskFailedError
from podium.frames import Cause, Outcome
from podium.lease import LeaseKeeper
from podium.polled import PolledTask
from runner_stage import START, Play, Stage, Theatre, passing, seconds, tasks, ways


@pytest.fixture
def theatre(monkeypatch: pytest.MonkeyPatch) -> Theatre:
    return Theatre(monkeypatch)


# tasks


def test_events_of_a_task_in_order(theatre: Theatre) -> None:
    def fails(task: Any) -> Outcome:
        return outcome_for(task, TaskResultStatus.FAILED, Cause("ValueError", "no luck", "Traceback ..."))

    async def play(stage: Stage) -> None:
        await passing()
        stage.crew.finish("a")
        await passing()
        stage.crew.finish("b", fails)
        await passing()
        of_tasks = [event for event in stage.heard.events if hasattr(event, "task_id")]
        assert [(type(event).__name__, event.task_id) for event in of_tasks] == [
            ("TaskExecutionStarted", "a"), ("TaskExecutionStarted", "b"),
            ("TaskExecutionCompleted", "a"), ("TaskUpdateCompleted", "a"),
            ("TaskExecutionFailure", "b"), ("TaskUpdateCompleted", "b"),
        ]  # fmt: skip
        (completed,) = stage.heard.of(TaskExecutionCompleted)
        assert (completed.duration_ms, completed.output_size_bytes) == (250, 2)
        assert (completed.worker_id, completed.workflow_instance_id) == ("me", "flow-a")

    stage = theatre.show(play, FakeClient(tasks("a", "b")))
    (failure,) = stage.heard.of(TaskExecutionFailure)
    assert isinstance(failure.cause, TaskFailedError)
    assert (failure.cause.type_name, failure.cause.message) == ("ValueError", "no luck")


def test_timestamp_of_the_end_is_when_the_function_ended(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing()
        stage.crew.finish("a", lambda task: msgspec.structs.replace(outcome_for(task), started=1_000_000.0))
        await passing()

    stage = theatre.show(play, FakeClient(tasks("a")))
    (completed,) = stage.heard.of(TaskExecutionCompleted)
    assert completed.timestamp == datetime.fromtimestamp(1_000_000.25, UTC)


def test_text_of_an_exception_cannot_forge_a_log_line_and_the_record_has_the_ids(
    theatre: Theatre, caplog: pytest.LogCaptureFixture
) -> None:
    forged = Cause("ValueError", "no\nCRITICAL root: forged\x1b[2J", "Traceback ...")

    async def play(stage: Stage) -> None:
        await passing()
        stage.crew.finish("a", lambda task: outcome_for(task, TaskResultStatus.FAILED, forged))
        await passing()

    theatre.show(play, FakeClient(tasks("a")))
    (record,) = [record for record in caplog.records if record.name == "podium.tasks"]
    assert record.getMessage().endswith(r"failed: ValueError: no\nCRITICAL root: forged\x1b[2J")
    fields = vars(record)
    assert (fields["task_id"], fields["workflow_id"], fields["attempt"]) == ("a", "flow-a", 0)
    assert fields["task_type"] == "type"


@pytest.mark.parametrize(
    ("status", "event"),
    [
        ("COMPLETED", TaskExecutionCompleted),
        ("IN_PROGRESS", TaskExecutionCompleted),
        ("FAILED", TaskExecutionFailure),
        ("FAILED_WITH_TERMINAL_ERROR", TaskExecutionFailure),
    ],
)
def test_defect_13_failures_are_failures_for_listeners_also_when_returned(
    theatre: Theatre, status: str, event: type[Any]
) -> None:
    async def play(stage: Stage) -> None:
        await passing()
        stage.crew.finish("a", lambda task: outcome_for(task, TaskResultStatus(status)))

    stage = theatre.show(play, FakeClient(tasks("a")))
    assert len(stage.heard.of(event)) == 1
    assert stage.client.reported == [("a", status)]


def test_higher_priority_first_inside_one_answer(theatre: Theatre) -> None:
    priorities = {"a": 0, "b": 50, "c": 99, "d": 5, "e": 50}
    answer = [task_json(name, workflowPriority=priority) for name, priority in priorities.items()]
    stage = theatre.show(seconds(0), FakeClient(answer), slots=5)
    assert stage.crew.started == ["c", "b", "e", "d", "a"]


def test_C06_more_tasks_than_asked_for_wait_their_turn(theatre: Theatre) -> None:
    names = [f"t{number:02}" for number in range(20)]

    async def play(stage: Stage) -> None:
        await passing()
        assert stage.crew.started == names[:8]
        assert (stage.runner.running, set(stage.runner.task_ids)) == (8, set(names))
        assert stage.leases.kept == 20
        while stage.crew.running:
            stage.crew.finish(stage.crew.running[-1])
            await passing()
        assert stage.leases.kept == 0

    client = FakeClient(tasks(*names, responseTimeoutSeconds=60))
    stage = theatre.show(play, client, slots=8, lease_extend_enabled=True)
    assert stage.crew.started == names
    assert stage.crew.most_at_once == 8
    assert sorted(stage.client.reported) == [(name, "COMPLETED") for name in names]
    assert len([poll for poll in client.polls if poll.at == START]) == 2  # none while tasks waited


def test_waiting_tasks_are_not_polled_on_top(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing(100)
        assert len(stage.client.polls) == 1
        assert stage.crew.started == ["a"]

    theatre.show(play, FakeClient(tasks("a", "b", "c")), slots=1)


@pytest.mark.parametrize("answers", [[["a", "a", "b"]], [["a"], ["a", "b"]], [["a", "b"], ["b"], ["a"]]], ids=str)
def test_C05_task_that_is_handed_out_twice_runs_once(
    theatre: Theatre, answers: list[list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    stage = theatre.show(seconds(0), FakeClient(*(tasks(*names) for names in answers)))
    assert sorted(stage.crew.started) == ["a", "b"]
    assert sorted(stage.client.reported) == [("a", "COMPLETED"), ("b", "COMPLETED")]
    assert "task a was handed out again while in hand" in caplog.text
    assert stage.runner.running == 0


def test_C05_waiting_task_that_is_handed_out_again_runs_once(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing()
        stage.crew.finish("a")
        await passing()
        stage.crew.finish("b")

    client = FakeClient(tasks("a", "b"))
    client.next_tasks.append(task_json("b"))
    stage = theatre.show(play, client, slots=1)
    assert stage.crew.started == ["a", "b"]


def test_task_that_comes_back_after_its_report_runs_again(theatre: Theatre) -> None:
    client = FakeClient(tasks("a"), tasks("a"))
    stage = theatre.show(seconds(0), client, slots=1, crew=FakeCrew(1, instantly=True))
    assert stage.crew.started == ["a", "a"]


@pytest.mark.parametrize("by", ["interim result", "give-back"])
def test_C05_task_that_comes_back_before_its_update_is_answered_runs_again(theatre: Theatre, by: str) -> None:
    """The server hands a task out as soon as it has the update, and that answer may be the faster one."""
    client = FakeClient(tasks("a"))

    async def play(stage: Stage) -> None:
        await passing()
        client.gate = asyncio.Event()
        if by == "give-back":
            stage.crew.interrupt("a")
        else:
            stage.crew.finish("a", lambda task: outcome_for(task, TaskResultStatus.IN_PROGRESS))
        client.poll_answers.append(tasks("a", responseTimeoutSeconds=10))
        await passing(1)
        assert stage.crew.started == ["a"]
        client.gate.set()
        await passing()
        assert stage.crew.started == ["a", "a"]
        assert stage.leases.kept == 1

    stage = theatre.show(play, client, lease_extend_enabled=True)
    assert stage.client.reported == [("a", "IN_PROGRESS"), ("a", "COMPLETED")]
    assert (stage.runner.running, stage.leases.kept) == (0, 0)


def test_C05_task_that_comes_back_while_it_is_given_back_at_the_end_is_given_back_again(theatre: Theatre) -> None:
    client = FakeClient(tasks("a"))

    async def play(stage: Stage) -> None:
        await passing()
        open_poll: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        client.poll_answers.append(open_poll)
        await passing(1)
        client.gate = asyncio.Event()
        stage.crew.interrupt("a")
        stage.runner.stop()
        await passing()
        open_poll.set_result(tasks("a"))
        await passing()
        client.gate.set()

    stage = theatre.show(play, client)
    assert stage.crew.started == ["a"]
    assert stage.client.reported == [("a", "IN_PROGRESS"), ("a", "IN_PROGRESS")]


BAD_TASKS = {
    "wrong type": (b'{"taskId":"bad","workflowInstanceId":"w","responseTimeoutSeconds":"x"}', True),
    "null": (b'{"taskId":"bad","workflowInstanceId":"w","workflowPriority":null}', True),
    "NaN": (b'{"taskId":"bad","workflowInstanceId":"w","inputData":{"a":NaN}}', True),
    "half a character": (b'{"taskId":"bad","workflowInstanceId":"w","inputData":{"a":"\\ud800"}}', True),
    "no workflow": (b'{"taskId":"bad"}', False),
    "no ids": (b"{}", False),
    "id of wrong type": (b'{"taskId":3,"workflowInstanceId":"w"}', False),
    "id no UTF-8": (b'{"taskId":"\xff","workflowInstanceId":"w"}', None),
    "id half a character": (b'{"taskId":"\\ud800","workflowInstanceId":"w"}', False),
    "a number": (b"42", False),
    "a text": (b'"a"', False),
    "null task": (b"null", False),
    "no JSON": (b"<html>", False),
    "deep": (b'{"taskId":"bad","inputData":' + b"[" * 5000 + b"]" * 5000 + b',"workflowInstanceId":"w"}', True),
    "long number": (b'{"taskId":"bad","workflowInstanceId":"w","retryCount":' + b"9" * 5000 + b"}", True),
    "broken inside": (b'{"taskId":"bad","workflowInstanceId":"w","inputData":{"a":nope}}', True),
    "number for an id": (b'{"taskId":7,"workflowInstanceId":"w"}', False),
    "no id": (b'{"taskId":"","workflowInstanceId":"w"}', False),
    "id forges a log line": (b'{"taskId":"x\\nERROR","workflowInstanceId":"w"}', False),
    "id with NUL": (b'{"taskId":"x","workflowInstanceId":"w\\u0000"}', False),
}


@pytest.mark.parametrize(("raw", "readable"), BAD_TASKS.values(), ids=BAD_TASKS)
def test_C02_bad_task_takes_no_neighbour_along(
    theatre: Theatre, raw: bytes, readable: bool | None, caplog: pytest.LogCaptureFixture
) -> None:
    client = FakeClient([task_json("a"), raw, task_json("b")], tasks("c"))
    stage = theatre.show(seconds(0), client, crew=FakeCrew(4, instantly=True))
    assert stage.crew.started == ["a", "b", "c"]
    assert caplog.records[0].getMessage().startswith("worker 'type': the server handed out a task that cannot be read")
    bad = [update.body for update in client.updates if update.body["taskId"] not in {"a", "b", "c"}]
    if readable is not None:
        assert len(bad) == int(readable)
    if readable:
        assert (bad[0]["taskId"], bad[0]["workflowInstanceId"]) == ("bad", "w")
        assert bad[0]["status"] == "FAILED_WITH_TERMINAL_ERROR"
        assert "cannot be read" in bad[0]["reasonForIncompletion"]
    assert stage.runner.running == 0


def test_C02_reason_names_the_field(theatre: Theatre) -> None:
    stage = theatre.show(seconds(0), FakeClient([BAD_TASKS["wrong type"][0]]))
    assert "`$.responseTimeoutSeconds`" in stage.client.updates[0].body["reasonForIncompletion"]


def test_attempt_that_could_not_read_its_task_is_worded_with_the_ids(theatre: Theatre) -> None:
    def unread(task: Any) -> Outcome:
        status = TaskResultStatus.FAILED_WITH_TERMINAL_ERROR
        return Outcome(3, status, b"", [], START, 0.0, 2, Cause("ConversionError", "task: wrong type"))

    async def play(stage: Stage) -> None:
        await passing()
        stage.crew.finish("a", unread)

    (update,) = theatre.show(play, FakeClient(tasks("a"))).client.updates
    assert update.body["taskId"] == "a"
    assert update.body["workflowInstanceId"] == "flow-a"
    assert update.body["status"] == "FAILED_WITH_TERMINAL_ERROR"
    assert update.body["reasonForIncompletion"] == "task: wrong type"


# the next task with the report


def finishing(*names: str) -> Play:
    async def play(stage: Stage) -> None:
        await passing()
        for name in names:
            stage.crew.finish(name)
            await passing()

    return play


def test_full_poll_means_backlog_and_v2_goes_on_until_it_is_empty(theatre: Theatre) -> None:
    client = FakeClient(tasks("a"))
    client.next_tasks.extend(tasks("b", "c"))
    stage = theatre.show(finishing("a", "b", "c"), client, slots=1)
    assert ways(stage) == [("a", "v2"), ("b", "v2"), ("c", "v2")]
    assert stage.crew.started == ["a", "b", "c"]
    assert stage.crew.most_at_once == 1


def test_poll_that_was_not_full_means_no_backlog(theatre: Theatre) -> None:
    assert ways(theatre.show(finishing("a", "b"), FakeClient(tasks("a", "b")), slots=3)) == [("a", "v1"), ("b", "v1")]


def test_v2_that_brings_nothing_ends_the_backlog(theatre: Theatre) -> None:
    stage = theatre.show(finishing("a", "b"), FakeClient(tasks("a", "b")), slots=2)
    assert ways(stage) == [("a", "v2"), ("b", "v1")]


def test_v2_is_not_asked_while_polled_tasks_wait(theatre: Theatre) -> None:
    stage = theatre.show(finishing("a", "b"), FakeClient(tasks("a", "b")), slots=1)
    assert ways(stage)[0] == ("a", "v1")


def test_task_in_progress_asks_for_nothing(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing()
        stage.crew.finish("a", lambda task: outcome_for(task, TaskResultStatus.IN_PROGRESS))

    assert ways(theatre.show(play, FakeClient(tasks("a")), slots=1)) == [("a", "v1")]


def test_unreadable_next_task_ends_the_chain_and_nothing_else(theatre: Theatre) -> None:
    client = FakeClient(tasks("a"), tasks("b"))
    client.next_tasks.append(b"null")
    stage = theatre.show(seconds(0), client, slots=1, crew=FakeCrew(1, instantly=True))
    assert stage.crew.started == ["a", "b"]


# leases


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    notes: list[tuple[str, str]] = []

    def keep(keeper: Any, task: Any, longest: Any) -> None:
        notes.append(("keep", task.task_id))

    def release(keeper: Any, task: Any) -> None:
        notes.append(("release", task.task_id))

    monkeypatch.setattr(LeaseKeeper, "keep", keep)
    monkeypatch.setattr(LeaseKeeper, "release", release)
    return notes


def test_defect_10_D04_lease_is_kept_until_the_server_has_the_result(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing()
        stage.crew.finish("a")
        await passing(25)
        assert stage.leases.kept == 1
        assert [at - START for at, _ in client.beats] == pytest.approx(range(2, 26, 2))
        client.away = None
        await passing(60)
        assert stage.leases.kept == 0
        assert stage.heard.names.count("TaskUpdateCompleted") == 1
        assert client.beats[-1][0] <= client.updates[-1].at

    client = FakeClient(tasks("a", responseTimeoutSeconds=5))
    client.update_errors.extend([unavailable()] * 3)
    client.away = unavailable()
    theatre.show(play, client, lease_extend_enabled=True)


def test_defect_10_lease_is_kept_while_a_task_is_given_back(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing()
        stage.runner.stop()
        await passing(5)
        assert stage.leases.kept == 2

    client = FakeClient(tasks("a", "b", responseTimeoutSeconds=60))
    client.update_errors.append(unavailable())
    stage = theatre.show(play, client, slots=1, lease_extend_enabled=True)
    assert stage.leases.kept == 0


def test_each_lease_is_kept_once_and_released_once(theatre: Theatre, notes: list[tuple[str, str]]) -> None:
    async def play(stage: Stage) -> None:
        await passing()
        stage.crew.finish("a")
        await passing()
        stage.crew.finish("chained")
        await passing()
        stage.runner.stop()
        stage.crew.interrupt("b")

    client = FakeClient(tasks("a", "b"))
    client.next_tasks.append(task_json("chained"))
    theatre.show(play, client, slots=2, lease_extend_enabled=True)
    assert sorted(notes) == sorted((what, name) for what in ("keep", "release") for name in ("a", "b", "chained"))


def test_without_the_option_no_heartbeat_is_sent(theatre: Theatre) -> None:
    stage = theatre.show(seconds(100), FakeClient(tasks("a", responseTimeoutSeconds=5)))
    assert stage.client.beats == []


def test_undelivered_result_frees_slot_and_lease(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing()
        stage.crew.finish("a")
        await passing(100)
        assert (stage.runner.running, stage.leases.kept) == (0, 0)

    client = FakeClient(tasks("a", responseTimeoutSeconds=5))
    client.update_errors.extend([unavailable()] * 9)
    stage = theatre.show(play, client, lease_extend_enabled=True)
    (event,) = stage.heard.of(TaskUpdateFailure)
    assert event.task_result.task_id == "a"


# throughput


def test_thousand_tasks_all_end_once(theatre: Theatre) -> None:
    names = [str(number) for number in range(1000)]
    answers = [tasks(*names[start : start + 7]) for start in range(0, 1000, 7)]
    stage = theatre.show(seconds(1), FakeClient(*answers), slots=7, crew=FakeCrew(7, instantly=True))
    assert sorted(stage.client.reported) == sorted((name, "COMPLETED") for name in names)
    assert json.dumps(stage.runner.task_ids) == "[]"


def test_podium_error_of_any_kind_does_not_end_the_loop(theatre: Theatre) -> None:
    stage = theatre.show(seconds(1), FakeClient(PodiumError("something new")), slots=1)
    assert len(stage.client.polls) > 1


def test_C12_large_output_is_warned_of_once_for_a_worker(theatre: Theatre, caplog: pytest.LogCaptureFixture) -> None:
    def large(task: PolledTask) -> Outcome:
        outcome = outcome_for(task)
        outcome.output_size = 4 * 1024 * 1024
        return outcome

    async def play(stage: Stage) -> None:
        await passing()
        for name in ("a", "b"):
            stage.crew.finish(name, large)
        await passing()

    theatre.show(play, FakeClient(tasks("a", "b")))
    (line,) = [line for line in caplog.messages if "MB" in line]
    assert line == (
        "worker 'type': an output of 4.0 MB; the server stores what is over 3 MB outside of its database, and fails a "
        "task with more than 10 MB"
    )
