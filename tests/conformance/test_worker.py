"""What a worker does, as the server sees it: both servers, functions in child processes and in this one."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Any

import pytest

import samples
from conformance.stage import Server
from podium import Task
from rig import Rig, until

#: Samples that kill or fill their process have tests of their own.
NOT_HERE = {
    "cleans_up", "dies_once", "exits_hard_once", "exits_in_a_subtask", "holds_the_gil", "starts_a_program",
    "terminates_its_fork", "waits_for_file", "waits_for_file_async", "wrapped", "wrapped_above",
}  # fmt: skip
FUNCTIONS = [function for function in samples.ALL if function.__name__ not in NOT_HERE]


@pytest.fixture(scope="module", params=["process", "thread"])
def rig(request: pytest.FixtureRequest, server: Server) -> Iterator[Rig]:
    rig = Rig(server.url)
    rig.define(*FUNCTIONS)
    rig.define(samples.fails_first, retry_count=3)
    workers = [rig.worker(function, worker_id="the-worker") for function in FUNCTIONS]
    with rig.running(*workers, isolation=request.param, group="samples"):
        yield rig


def failed(task: Task, status: str = "FAILED") -> str:
    assert task.status == status
    assert task.reason_for_incompletion is not None
    return task.reason_for_incompletion


def logs_of(rig: Rig, task: Task) -> list[str]:
    return [line.log for line in rig.client.get_task_logs(task.task_id)]


# output


def test_dict_is_the_output(rig: Rig) -> None:
    assert rig.run(samples.returns_dict, a=1).output_data == {"a": 1, "b": "x"}


def test_none_is_wrapped(rig: Rig) -> None:
    task = rig.run(samples.returns_none)
    assert task.status == "COMPLETED"
    assert task.output_data == {"result": None}


def test_scalar_is_wrapped(rig: Rig) -> None:
    assert rig.run(samples.returns_scalar, a=1).output_data == {"result": 2}


def test_list_is_wrapped(rig: Rig) -> None:
    assert rig.run(samples.returns_list).output_data == {"result": [1, 2]}


@pytest.mark.parametrize("function", [samples.returns_dataclass, samples.returns_dataclass_async])
def test_defect_17_dataclass_output_is_its_fields_in_def_and_async(rig: Rig, function: Any) -> None:
    order = {"order_id": "o1", "items": [{"sku": "s", "quantity": 2}], "placed": "2026-01-02T03:04:05+00:00"}
    assert rig.run(function, order=order | {"unknown": 1}).output_data == order | {"tags": []}


def test_pydantic_model_in_and_out(rig: Rig) -> None:
    assert rig.run(samples.returns_model, customer={"name": "n"}).output_data == {"name": "n", "age": 0}


def test_rich_types_come_in_as_such_and_go_out_as_they_came(rig: Rig) -> None:
    given = {
        "when": "2026-01-02T03:04:05+00:00", "wait": "PT90S", "price": "1.50", "colour": "red",
        "key": "12345678-1234-5678-1234-567812345678", "data": base64.b64encode(b"\0x").decode(),
    }  # fmt: skip
    output = rig.run(samples.returns_rich, **given).output_data
    assert output["types"] == ["datetime", "timedelta", "Decimal", "UUID", "Colour", "bytes"]
    assert {key: output[key] for key in given} == given
    assert output["path"] == "a/b"
    assert output["set"] == [3]
    assert output["point"] == {"x": 1, "y": 7}


@pytest.mark.parametrize("function", [samples.returns_result, samples.returns_result_async])
def test_defect_17_task_result_is_sent_with_its_ids(rig: Rig, function: Any) -> None:
    task = rig.run(function)
    assert task.status == "COMPLETED"
    assert task.output_data == {"made": "by hand"}
    assert task.worker_id == "the-worker"
    assert logs_of(rig, task) == ["a line of the result"]


def test_failed_task_result_is_a_failure_with_its_reason(rig: Rig) -> None:
    assert failed(rig.run(samples.returns_failed_result)) == "not today"


@pytest.mark.parametrize("function", [samples.returns_in_progress, samples.returns_in_progress_async])
def test_task_in_progress_is_handed_out_again_with_its_output(rig: Rig, function: Any) -> None:
    task = rig.run(function)
    assert task.output_data == {"before": {"seen": [1]}, "polls": 2}
    assert task.retry_count == 0


def test_callback_of_the_context_is_used_for_an_in_progress_result(rig: Rig) -> None:
    assert rig.run(samples.answers_in_progress_by_result).output_data == {"polls": 2}


def test_defect_08_enum_inside_a_dict(rig: Rig) -> None:
    assert rig.run(samples.returns_enum_inside).output_data == {"colour": "blue"}


@pytest.mark.parametrize(
    ("function", "path", "what"),
    [
        (samples.returns_nan, "items[0].n", "nan"),
        (samples.returns_cycle, "again", "contains itself"),
        (samples.returns_lock, "lock", "lock"),
        (samples.returns_lock_async, "lock", "lock"),
    ],
)
def test_defect_08_what_cannot_be_json_fails_at_once_and_names_the_path(
    rig: Rig, function: Any, path: str, what: str
) -> None:
    begun = time.monotonic()
    reason = failed(rig.run(function))
    assert path in reason
    assert what in reason.lower()
    assert time.monotonic() - begun < 10  # not after a minute of attempts


def test_defect_19_set_output_is_merged_and_the_function_wins(rig: Rig) -> None:
    assert rig.run(samples.sets_output).output_data == {"from": "function", "only": "context"}


# plain functions that return an awaitable


def test_awaitable_of_a_plain_function_is_awaited(rig: Rig) -> None:
    task = rig.run(samples.returns_awaitable, a=3)
    assert task.output_data["a"] == 3
    assert logs_of(rig, task) == ["from the function", "from the coroutine"]


def test_defect_18_failing_awaitable_of_a_plain_function_is_a_failure(rig: Rig) -> None:
    assert failed(rig.run(samples.returns_failing_awaitable)) == "ValueError: later"


def test_defect_18_in_progress_from_an_awaitable_of_a_plain_function(rig: Rig) -> None:
    assert rig.run(samples.returns_awaitable_in_progress).output_data == {"before": {"seen": [1]}, "polls": 2}


# input


def test_missing_argument_is_terminal_and_named(rig: Rig) -> None:
    reason = failed(rig.run(samples.returns_dict, b="only b"), "FAILED_WITH_TERMINAL_ERROR")
    assert reason.startswith("ConversionError: a: ")
    assert "required" in reason


def test_wrong_type_is_terminal_and_names_the_path(rig: Rig) -> None:
    order = {"order_id": "o1", "items": [{"sku": "a"}, {"sku": "b"}, {"sku": 3}]}
    reason = failed(rig.run(samples.returns_dataclass, order=order), "FAILED_WITH_TERMINAL_ERROR")
    assert reason == "ConversionError: order.items[2].sku: expected str, got int"


@pytest.mark.parametrize("function", [samples.takes_task, samples.takes_task_async])
def test_defect_16_task_parameter_gets_the_task_in_def_and_async(rig: Rig, function: Any) -> None:
    task = rig.run(function, any="thing")
    assert task.output_data == {"input": {"any": "thing"}, "id": task.task_id}


def test_task_parameter_among_others(rig: Rig) -> None:
    task = rig.run(samples.takes_task_among_others, a=1)
    assert task.output_data == {"a": 1, "b": "b", "id": task.task_id}


# failures


@pytest.mark.parametrize("function", [samples.raises_value_error, samples.raises_value_error_async])
def test_exception_is_a_failure_with_reason_traceback_logs_and_output(rig: Rig, function: Any) -> None:
    task = rig.run(function)
    assert failed(task) == "ValueError: no luck"
    assert task.output_data == {"partial": 1}
    lines = logs_of(rig, task)
    assert lines[0] == "before the failure"
    assert lines[-1].startswith("Traceback")
    assert 'raise ValueError("no luck")' in lines[-1]


def test_defect_21_log_times_are_milliseconds(rig: Rig) -> None:
    task = rig.run(samples.raises_value_error)
    now = time.time() * 1000
    assert all(now - 60_000 < line.created_time < now + 5_000 for line in rig.client.get_task_logs(task.task_id))


@pytest.mark.parametrize("function", [samples.raises_terminal, samples.raises_terminal_async])
def test_non_retryable_exception_is_terminal_with_traceback(rig: Rig, function: Any) -> None:
    task = rig.run(function)
    assert failed(task, "FAILED_WITH_TERMINAL_ERROR") == "NonRetryableException: never again"
    assert len(logs_of(rig, task)) == 1


def test_defect_21_exception_without_message_has_a_reason(rig: Rig) -> None:
    assert failed(rig.run(samples.raises_without_message)) == "KeyError"


@pytest.mark.parametrize("name", samples.BASE_EXCEPTIONS)
@pytest.mark.parametrize("function", [samples.raises_named, samples.raises_named_async])
def test_defect_09_every_exception_is_a_reported_failure(rig: Rig, function: Any, name: str) -> None:
    reason = failed(rig.run(function, name=name))
    assert name in reason
    assert rig.run(samples.returns_none).status == "COMPLETED"  # and everything else goes on


def test_recursion_error_is_a_failure(rig: Rig) -> None:
    assert failed(rig.run(samples.recurses)).startswith("RecursionError: ")


def test_exception_whose_text_fails(rig: Rig) -> None:
    assert "its __str__ raised RuntimeError" in failed(rig.run(samples.raises_mute))


def test_exception_text_that_cannot_be_encoded(rig: Rig) -> None:
    assert failed(rig.run(samples.raises_surrogate)) == r"ValueError: bad \ud800 text"


def test_failed_attempt_is_retried(rig: Rig) -> None:
    workflow = rig.finish(rig.start(samples.fails_first, times=2))
    assert [task.status for task in workflow.tasks] == ["FAILED", "FAILED", "COMPLETED"]
    assert workflow.tasks[-1].output_data == {"attempts": 3}


# the context


@pytest.mark.parametrize("function", [samples.sees_context, samples.sees_context_async])
def test_context_tells_about_the_task(rig: Rig, function: Any) -> None:
    workflow_id = rig.start(function, a=5)
    task = rig.last_task(workflow_id)
    assert task.output_data == {
        "task_id": task.task_id, "workflow_id": workflow_id, "retry_count": 0, "poll_count": 1,
        "name": rig.name_of(function), "type": "SIMPLE", "input": {"a": 5}, "same_task": True,
    }  # fmt: skip


def test_context_follows_into_threads(rig: Rig) -> None:
    assert rig.run(samples.context_in_threads).output_data == {"thread": True}


def test_context_follows_into_tasks_and_their_threads(rig: Rig) -> None:
    assert rig.run(samples.context_in_tasks).output_data == {"task": True, "thread": True}


@pytest.mark.parametrize("count", [1, 10, 11, 25, 150])
def test_every_log_line_arrives_in_order(rig: Rig, count: int) -> None:
    lines = "\n".join(logs_of(rig, rig.run(samples.logs_lines, count=count))).split("\n")
    assert lines == [f"line {number}" for number in range(count)]


# the worker


def test_worker_id_is_seen_by_the_server(rig: Rig) -> None:
    assert rig.run(samples.returns_none).worker_id == "the-worker"


def test_domain_is_polled(rig: Rig) -> None:
    other = Rig(rig.url)
    other.define(samples.tells_process)
    with other.running(other.worker(samples.tells_process, domain="d1"), isolation="thread"):
        until(lambda: other.client.get_poll_data(other.name_of(samples.tells_process)), "a poll in the domain")
        assert other.last_task(other.start(samples.tells_process, domain="d1")).domain == "d1"
        waiting = other.start(samples.tells_process)
        assert other.last_task(other.start(samples.tells_process, domain="d1")).status == "COMPLETED"
        assert other.task(waiting).status == "SCHEDULED"


def test_paused_worker_starts_nothing_until_resumed(rig: Rig) -> None:
    other = Rig(rig.url)
    other.define(samples.tells_process)
    with other.running(other.worker(samples.tells_process, paused=True), isolation="thread") as handler:
        waiting = other.start(samples.tells_process)
        assert not other.client.get_poll_data(other.name_of(samples.tells_process))
        assert other.task(waiting).status == "SCHEDULED"
        handler.set_paused(other.name_of(samples.tells_process), paused=False)
        assert other.last_task(waiting).status == "COMPLETED"


def test_many_tasks_through_few_slots(rig: Rig) -> None:
    ids = [rig.start(samples.returns_scalar, a=number) for number in range(60)]
    assert [rig.last_task(workflow_id).output_data["result"] for workflow_id in ids] == list(range(1, 61))
