"""One attempt: what comes in, what goes out, and that nothing ever escapes. No pool, no HTTP."""

from __future__ import annotations

import asyncio
import contextvars
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
import pytest

import podium
import samples
from podium import (
    NonRetryableException,
    Task,
    TaskExecLog,
    TaskInProgress,
    TaskResult,
    TaskResultStatus,
    get_task_context,
)
from podium.execution import LOGS_PER_UPDATE, MAX_REASON, MAX_TRACEBACK, Attempt, Runnable, run_async, run_plain
from podium.frames import Outcome
from podium.registry import is_async_callable

SOURCE = str(Path(podium.__file__).parent)
IDS = {"taskId": "t1", "workflowInstanceId": "w1"}


def attempt(function: Callable[..., Any], raw: bytes | None = None, **inputs: Any) -> Attempt:
    runnable = Runnable.compile(
        "w", function, is_async=is_async_callable(function), thread_count=1, strict_schema=False, worker_id="id"
    )
    return Attempt(runnable, 7, json.dumps(IDS | {"inputData": inputs}).encode() if raw is None else raw)


def finish(attempt: Attempt) -> Outcome:
    """Run an attempt to its end, in this thread."""

    async def in_context(coroutine: Coroutine[Any, Any, Outcome]) -> Outcome:
        return await asyncio.get_running_loop().create_task(coroutine, context=attempt.context)

    result = run_async(attempt) if attempt.worker.is_async else run_plain(attempt)
    return result if isinstance(result, Outcome) else asyncio.run(in_context(result))


def outcome_of(function: Callable[..., Any], raw: bytes | None = None, **inputs: Any) -> Outcome:
    return finish(attempt(function, raw, **inputs))


def sent(function: Callable[..., Any], **inputs: Any) -> dict[str, Any]:
    """The update that an attempt leads to."""
    body: dict[str, Any] = json.loads(outcome_of(function, **inputs).body)
    return body


def both(function: Callable[[], Any]) -> list[Callable[[], Any]]:
    """The same function as ``def``, as ``async def``, and as ``def`` that returns an awaitable."""

    def plain() -> Any:
        return function()

    async def coroutine() -> Any:
        return function()

    def returns_awaitable() -> Awaitable[Any]:
        return coroutine()

    return [plain, coroutine, returns_awaitable]


# success


@dataclass
class Order:
    total: int


class Model(pydantic.BaseModel):
    total: int


@pytest.mark.parametrize(
    ("value", "output"),
    [
        (None, {"result": None}),
        (3, {"result": 3}),
        ([1, 2], {"result": [1, 2]}),
        ((1, "a"), {"result": [1, "a"]}),
        ({"a": {"b": [1]}}, {"a": {"b": [1]}}),
        ({}, {}),
        (Order(5), {"total": 5}),
        (Model(total=5), {"total": 5}),
        ([Order(5)], {"result": [{"total": 5}]}),
        (samples.Colour.RED, {"result": "red"}),
        (TaskResult.complete({"a": 1}), {"a": 1}),
    ],
)
def test_value_becomes_the_output(value: Any, output: dict[str, Any]) -> None:
    for function in both(lambda: value):
        body = sent(function)
        assert body["status"] == "COMPLETED"
        assert body.get("outputData", {}) == output
        assert (body["taskId"], body["workflowInstanceId"], body["workerId"]) == ("t1", "w1", "id")
        assert "reasonForIncompletion" not in body


def test_outcome_tells_the_engine_what_it_needs() -> None:
    before = time.time()
    outcome = outcome_of(lambda: {"a": "1234"})
    assert outcome.key == 7
    assert outcome.status == "COMPLETED"
    assert outcome.cause is None
    assert outcome.surplus_logs == []
    assert before - 0.01 <= outcome.started <= time.time()
    assert 0 <= outcome.duration < 10


def test_defect_20_output_size_is_that_of_the_json() -> None:
    for size in (0, 10, 1000):
        assert outcome_of(lambda size=size: {"a": "x" * size}).output_size == len('{"a":""}') + size


def test_input_is_bound_by_name() -> None:
    def function(a: int, *, b: str = "x") -> dict[str, Any]:
        return {"a": a, "b": b}

    assert sent(function, a=1, c=3)["outputData"] == {"a": 1, "b": "x"}


# task results and tasks in progress


def test_defect_17_ids_of_a_result_are_the_task_s() -> None:
    for function in both(lambda: TaskResult(task_id="other", workflow_instance_id="other", worker_id="other")):
        body = sent(function)
        assert (body["taskId"], body["workflowInstanceId"], body["workerId"]) == ("t1", "w1", "id")


def test_result_of_the_user_is_left_alone() -> None:
    mine = TaskResult(output_data={"a": samples.Colour.RED}).log("line")
    for _ in range(2):
        body = sent(lambda: mine)
        assert body["outputData"] == {"a": "red"}
        assert len(body["logs"]) == 1
    assert mine == TaskResult(output_data={"a": samples.Colour.RED}, logs=mine.logs)
    assert mine.task_id == ""


def test_failed_result_keeps_reason_and_has_no_cause() -> None:
    outcome = outcome_of(lambda: TaskResult.failed("x" * 600))
    body = json.loads(outcome.body)
    assert (body["status"], body["reasonForIncompletion"]) == ("FAILED", "x" * MAX_REASON)
    assert outcome.cause is None


def test_result_may_carry_storage_path_and_sub_workflow() -> None:
    body = sent(lambda: TaskResult(external_output_payload_storage_path="s3://x", sub_workflow_id="sub"))
    assert body["externalOutputPayloadStoragePath"] == "s3://x"
    assert body["subWorkflowId"] == "sub"


@pytest.mark.parametrize(
    ("result", "path"),
    [
        (TaskResult(status="DONE"), "TaskResult.status"),  # type: ignore[arg-type]
        (TaskResult(status="CANCELED"), "TaskResult.status"),  # type: ignore[arg-type]
        (TaskResult(output_data=[1]), "TaskResult.output_data"),  # type: ignore[arg-type]
        (TaskResult(callback_after_seconds=-1), "callback_after_seconds"),
        (TaskResult(output_data={"a": {"b": float("nan")}}), "a.b"),
        (TaskInProgress(-1), "callback_after_seconds"),
        (TaskInProgress("soon"), "callback_after_seconds"),  # type: ignore[arg-type]
        (TaskInProgress(1, [1]), "TaskInProgress.output"),  # type: ignore[arg-type]
        (TaskInProgress(1, {"a": float("inf")}), "a"),
    ],
)
def test_result_that_cannot_be_sent_fails_the_task_and_names_the_field(result: Any, path: str) -> None:
    for function in both(lambda: result):
        body = sent(function)
        assert body["status"] == "FAILED"
        assert body["reasonForIncompletion"].startswith(f"ConversionError: {path}: ")


@pytest.mark.parametrize(("seconds", "whole"), [(0, 0), (30, 30), (1.2, 2)])
def test_defect_18_task_in_progress_in_every_kind_of_function(seconds: float, whole: int) -> None:
    for function in both(lambda: TaskInProgress(seconds, {"a": 1})):  # type: ignore[arg-type]
        body = sent(function)
        assert body["status"] == "IN_PROGRESS"
        assert body.get("callbackAfterSeconds", 0) == whole
        assert body["outputData"] == {"a": 1}


# the context


def set_things() -> None:
    context = get_task_context()
    context.add_log("line")
    context.set_output({"a": "context", "b": "context"})
    context.set_callback_after(9)


@pytest.mark.parametrize(
    "value", [{"a": "function"}, TaskResult(output_data={"a": "function"}), TaskInProgress(5, {"a": "function"})]
)
def test_defect_19_context_s_output_is_merged_and_the_function_s_wins(value: Any) -> None:
    def function() -> Any:
        set_things()
        return value

    for variant in both(function):
        body = sent(variant)
        assert body["outputData"] == {"a": "function", "b": "context"}
        assert [line["log"] for line in body["logs"]] == ["line"]


def test_defect_18_context_s_lines_and_output_survive_a_failure() -> None:
    def function() -> None:
        set_things()
        raise ValueError("no luck")

    for variant in both(function):
        body = sent(variant)
        assert body["outputData"] == {"a": "context", "b": "context"}
        assert body["logs"][0]["log"] == "line"
        assert body["logs"][1]["log"].startswith("Traceback")


def test_callback_of_the_result_wins_over_the_context_s() -> None:
    def function() -> TaskInProgress:
        set_things()
        return TaskInProgress(5)

    assert sent(function)["callbackAfterSeconds"] == 5


@pytest.mark.parametrize(
    ("result", "alone", "with_context"),
    [
        (TaskResult.in_progress(), 60, 9),
        (TaskResult.in_progress(5), 5, 5),
        (TaskResult(status=TaskResultStatus.IN_PROGRESS), 0, 9),
        (TaskInProgress(), 60, 60),
        (TaskInProgress(0), 0, 9),
    ],
)
def test_callback_that_the_result_leaves_open_is_the_context_s(result: Any, alone: int, with_context: int) -> None:
    def function() -> Any:
        set_things()
        return result

    assert sent(lambda: result).get("callbackAfterSeconds", 0) == alone
    for variant in both(function):
        assert sent(variant)["callbackAfterSeconds"] == with_context


def test_lines_of_the_result_come_before_the_context_s() -> None:
    def function() -> TaskResult:
        set_things()
        return TaskResult().log("of the result")

    assert [line["log"] for line in sent(function)["logs"]] == ["of the result", "line"]


def test_line_without_a_time_gets_one() -> None:
    body = sent(lambda: TaskResult(logs=[TaskExecLog(log="x")]))
    assert body["logs"][0]["createdTime"] > 1_600_000_000_000


def test_more_lines_than_an_update_takes_are_kept_apart() -> None:
    outcome = outcome_of(samples.logs_lines, count=LOGS_PER_UPDATE + 3)
    lines = [line["log"] for line in json.loads(outcome.body)["logs"]]
    assert lines + outcome.surplus_logs == [f"line {number}" for number in range(LOGS_PER_UPDATE + 3)]
    assert len(lines) == LOGS_PER_UPDATE


class Raises(pydantic.BaseModel):
    a: int = 1

    @pydantic.model_serializer
    def serialize(self) -> Any:
        raise RuntimeError("no words")


@pytest.mark.parametrize("output", [{"a": object()}, {"a": float("nan")}, {"a": Raises()}])
def test_context_s_output_that_cannot_be_sent_is_a_failure_that_is_reported(output: dict[str, Any]) -> None:
    def returns() -> None:
        get_task_context().set_output(output)

    def fails() -> None:
        get_task_context().set_output(output)
        raise ValueError("no luck")

    assert sent(returns)["status"] == "FAILED"
    assert sent(fails)["reasonForIncompletion"] == "ValueError: no luck"


# failures


class OddError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("no luck"), "ValueError: no luck"),
        (KeyError(), "KeyError"),
        (KeyError("k"), "KeyError: 'k'"),
        (FileNotFoundError(2, "No such file"), "FileNotFoundError: [Errno 2] No such file"),
        (RuntimeError({"a": 1}), "RuntimeError: {'a': 1}"),
        (RuntimeError(b"\xff"), r"RuntimeError: b'\xff'"),
        (RuntimeError("bad \ud800"), r"RuntimeError: bad \ud800"),
        (OddError(), "OddError: <no message: its __str__ raised RuntimeError>"),
        (ExceptionGroup("several", [ValueError("a")]), "ExceptionGroup: several (1 sub-exception)"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (asyncio.CancelledError(), "CancelledError"),
        (BaseException("b"), "BaseException: b"),
        (MemoryError(), "MemoryError"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_defect_09_C07_C08_whatever_is_raised_is_a_failure_with_a_reason(error: BaseException, reason: str) -> None:
    def function() -> None:
        raise error

    for variant in both(function):
        outcome = outcome_of(variant)
        body = json.loads(outcome.body)
        assert (body["status"], body["reasonForIncompletion"]) == ("FAILED", reason)
        assert outcome.cause is not None
        assert outcome.cause.type_name == type(error).__name__
        assert body["logs"][-1]["log"] == outcome.cause.traceback


def test_C07_megabyte_of_message_is_cut() -> None:
    outcome = outcome_of(both(lambda: (_ for _ in ()).throw(ValueError("x" * 1_000_000)))[0])
    assert len(json.loads(outcome.body)["reasonForIncompletion"]) == MAX_REASON
    assert len(json.loads(outcome.body)["logs"][0]["log"]) < MAX_TRACEBACK + 100


def test_C08_stop_iteration_of_a_plain_function() -> None:
    assert sent(lambda: next(iter(())))["reasonForIncompletion"] == "StopIteration"


def test_C13_deep_recursion() -> None:
    assert sent(samples.recurses)["reasonForIncompletion"].startswith("RecursionError: ")


def test_non_retryable_is_terminal_also_as_a_subclass() -> None:
    class MyError(NonRetryableException): ...

    def function() -> None:
        raise MyError("never")

    for variant in both(function):
        body = sent(variant)
        assert body["status"] == "FAILED_WITH_TERMINAL_ERROR"
        assert body["reasonForIncompletion"] == "MyError: never"
        assert body["logs"][0]["log"].startswith("Traceback")


def test_wrong_input_is_terminal_and_the_function_does_not_run() -> None:
    def function(a: int) -> None:
        raise AssertionError

    for inputs in ({}, {"a": "x"}, {"a": None}):
        body = sent(function, **inputs)
        assert body["status"] == "FAILED_WITH_TERMINAL_ERROR"
        assert body["reasonForIncompletion"].startswith("ConversionError: a: ")


def test_log_of_an_input_that_does_not_fit_is_the_message_alone() -> None:
    def function(a: list[int]) -> None: ...

    body = sent(function, a=["x"])
    assert [line["log"] for line in body["logs"]] == ["podium.errors.ConversionError: a[0]: expected int, got str\n"]


def test_log_of_an_output_that_cannot_be_sent_is_the_message_alone() -> None:
    for function in both(lambda: {"a": object()}):
        (line,) = sent(function)["logs"]
        assert line["log"].startswith("podium.errors.ConversionError: result.a: a value of type object")


def test_traceback_starts_in_the_user_s_function() -> None:
    for function in both(samples.raises_value_error):
        traceback = sent(function)["logs"][-1]["log"].splitlines()
        assert traceback[0] == "Traceback (most recent call last):"
        assert __file__ in traceback[1]
        assert "podium/execution.py" not in "".join(traceback)


def test_traceback_of_what_a_failure_came_from_starts_in_the_user_s_code_too() -> None:
    def function(it: Picky) -> None: ...
    def groups() -> None:
        raise ExceptionGroup("several", [ValueError("one")])

    text = sent(function, it={"value": 1})["logs"][-1]["log"]
    assert text.count("LookupError: not this one") == 2  # as what it is, and within the message
    assert text.startswith(f'Traceback (most recent call last):\n  File "{__file__}"')
    assert "podium/convert" not in text
    assert "podium/execution.py" not in sent(groups)["logs"][-1]["log"]


def test_traceback_of_an_endless_chain_of_causes() -> None:
    def function() -> None:
        error = ValueError(0)
        for number in range(1, 3000):
            later = ValueError(number)
            later.__cause__ = error
            error = later
        raise error

    assert sent(function)["reasonForIncompletion"] == "ValueError: 2999"


class Picky:
    def __init__(self, value: int) -> None:
        raise LookupError("not this one")


def test_constructor_of_an_input_type_may_raise_anything() -> None:
    def function(it: Picky) -> None: ...

    assert "not this one" in sent(function, it={"value": 1})["reasonForIncompletion"]


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), object(), {1: {2: object()}}, {"a": {(1, 2): 3}}])
def test_C09_C10_output_that_cannot_be_json_fails_here(value: Any) -> None:
    for function in both(lambda: {"k": value}):
        body = sent(function)
        assert body["status"] == "FAILED"
        assert body["reasonForIncompletion"].startswith("ConversionError: ")
        assert "outputData" not in body or body["outputData"] == {}


# tasks that cannot be read

UNREADABLE = {
    "wrong type": b'{"taskId":"t1","workflowInstanceId":"w1","retryCount":"three"}',
    "null input": b'{"taskId":"t1","workflowInstanceId":"w1","inputData":null}',
    "list input": b'{"taskId":"t1","workflowInstanceId":"w1","inputData":[1]}',
    "no UTF-8": b'{"taskId":"t1","workflowInstanceId":"w1","inputData":{"a":"\xff"}}',
    "half a character": b'{"taskId":"t1","workflowInstanceId":"w1","inputData":{"a":"\\ud800"}}',
    "5000 digits": b'{"taskId":"t1","workflowInstanceId":"w1","inputData":{"a":' + b"9" * 5000 + b"}}",
    "deep": b'{"taskId":"t1","workflowInstanceId":"w1","inputData":{"a":' + b"[" * 5000 + b"]" * 5000 + b"}}",
    "no JSON": b"<html>",
    "nothing": b"",
}


@pytest.mark.parametrize("raw", UNREADABLE.values(), ids=UNREADABLE)
def test_C02_C04_task_that_cannot_be_read_is_a_terminal_failure_worded_by_the_engine(raw: bytes) -> None:
    for function in both(lambda: None):
        outcome = outcome_of(function, raw=raw)
        assert outcome.status == "FAILED_WITH_TERMINAL_ERROR"
        assert outcome.body == b""
        assert outcome.cause is not None
        assert outcome.cause.message.startswith("task: ")
        assert outcome.key == 7


def test_C03_unknown_fields_and_states_are_ignored() -> None:
    raw = json.dumps(IDS | {"status": "NEWLY_INVENTED", "unknown": {"a": 1}, "inputData": {}}).encode()
    assert outcome_of(lambda: None, raw=raw).status == "COMPLETED"


# the parts of a task that few ask for

WHOLE = IDS | {
    "taskDefName": "name", "pollCount": 3, "seq": 4, "inputData": {"a": 1},
    "workflowTask": {"name": "name", "type": "SIMPLE"}, "taskDefinition": {"name": "name", "retryCount": 7},
}  # fmt: skip


def test_whole_task_is_there_for_who_asks_for_it() -> None:
    def asks(a: int) -> dict[str, Any]:
        context = get_task_context()
        task = context.get_task()
        assert context.get_task() is task
        assert task.input_data is context.get_input()
        return task.to_dict() | {"type": context.get_workflow_task_type(), "a": a}

    for function in both(lambda: asks(1)):
        body = json.loads(outcome_of(function, raw=json.dumps(WHOLE).encode()).body)
        assert body["outputData"] == WHOLE | {"type": "SIMPLE", "a": 1}


def test_input_that_a_function_changes_is_changed_in_the_task_too() -> None:
    def changes() -> dict[str, Any]:
        context = get_task_context()
        context.get_input()["a"] = 2
        return context.get_task().input_data

    assert sent(changes, a=1)["outputData"] == {"a": 2}


def test_part_that_cannot_be_read_fails_only_who_asks_for_it() -> None:
    raw = json.dumps(WHOLE | {"workflowTask": "name"}).encode()

    def asks() -> str:
        return get_task_context().get_task().task_id

    def takes(task: Task) -> str:
        return task.task_id

    for function in both(lambda: get_task_context().get_poll_count()):
        assert outcome_of(function, raw=raw).status == "COMPLETED"
    demanding: list[Callable[..., Any]] = [*both(asks), takes]
    for asking in demanding:
        outcome = outcome_of(asking, raw=raw)
        assert outcome.status == "FAILED_WITH_TERMINAL_ERROR"
        assert outcome.cause is not None
        assert outcome.cause.message == "task: Expected `object | null`, got `str` - at `$.workflowTask`"


def test_C04_large_input() -> None:
    assert outcome_of(lambda text: {"length": len(text)}, text="x" * 20_000_000).status == "COMPLETED"


# isolation of attempts from each other

flavour: contextvars.ContextVar[str] = contextvars.ContextVar("flavour", default="none")


def test_context_variable_set_by_one_task_is_not_seen_by_the_next() -> None:
    def function() -> dict[str, str]:
        before = flavour.get()
        flavour.set("mine")
        return {"before": before}

    for _ in range(2):
        for variant in both(function):
            assert sent(variant)["outputData"] == {"before": "none"}
    assert flavour.get() == "none"


def test_context_variable_reaches_the_awaitable_of_a_plain_function() -> None:
    def function() -> Awaitable[Any]:
        flavour.set("mine")

        async def later() -> dict[str, str]:
            return {"seen": flavour.get(), "task": get_task_context().get_task_id()}

        return later()

    assert sent(function)["outputData"] == {"seen": "mine", "task": "t1"}


def test_task_parameter_in_every_kind_of_function() -> None:
    def plain(task: Task) -> str:
        return task.task_id

    async def coroutine(task: Task) -> str:
        return task.task_id

    for function in (plain, coroutine):
        assert sent(function, any_input=1)["outputData"] == {"result": "t1"}


def test_recursion_limit_is_left_alone() -> None:
    limit = sys.getrecursionlimit()
    outcome_of(samples.recurses)
    assert sys.getrecursionlimit() == limit


def test_task_costs_few_calls_of_podium() -> None:
    def function(order: str, amount: float) -> dict[str, bool]:
        return {"ok": True}

    calls = 0

    def on_event(frame: Any, event: str, _: Any) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename.startswith(SOURCE)

    tried = attempt(function, order="a", amount=1.5)
    sys.setprofile(on_event)
    outcome = run_plain(tried)
    sys.setprofile(None)
    assert isinstance(outcome, Outcome)
    assert outcome.status == "COMPLETED"
    assert 10 < calls <= 24


# the size of outputs

MEGABYTE = 1024 * 1024


@pytest.mark.parametrize(("size", "status"), [(4, "COMPLETED"), (9.9, "COMPLETED"), (11, "FAILED_WITH_TERMINAL_ERROR")])
def test_C12_output_that_the_server_would_not_take_fails_here(size: float, status: str) -> None:
    outcome = outcome_of(lambda: {"a": "x" * int(size * MEGABYTE)})
    assert outcome.status == status
    body = json.loads(outcome.body)
    assert body["status"] == status
    if status == "COMPLETED":
        assert outcome.output_size > size * MEGABYTE
        assert outcome.cause is None
    else:
        assert body["reasonForIncompletion"] == (
            "OutputTooLarge: the output has 11.0 MB of JSON, and the server takes 10 MB (10240 KB) at most: store it "
            "elsewhere, and return where"
        )
        assert outcome.cause is not None
        assert len(outcome.body) < 1000


def test_C12_size_is_that_of_the_json_in_utf_8() -> None:
    assert outcome_of(lambda: {"a": "ü" * (6 * MEGABYTE)}).status == "FAILED_WITH_TERMINAL_ERROR"
    assert outcome_of(lambda: {"a": "u" * (6 * MEGABYTE)}).status == "COMPLETED"


def test_C12_failure_with_a_large_output_stays_that_failure() -> None:
    def function() -> None:
        get_task_context().set_output({"a": "x" * (11 * MEGABYTE)})
        raise ValueError("no luck")

    body = sent(function)
    assert (body["status"], body["reasonForIncompletion"]) == ("FAILED", "ValueError: no luck")
    assert "outputData" not in body or body["outputData"] == {}
    assert any(line["log"].startswith("The output was left out: the output has 11.0 MB") for line in body["logs"])


@pytest.mark.parametrize("size", [4, 11, 100])
def test_C12_memory_stays_below_four_times_the_size(size: int) -> None:
    code = f"""
import json, resource
from podium.execution import Attempt, Runnable, run_plain
def function():
    return {{"a": "x" * ({size} << 20)}}
worker = Runnable.compile("f", function, is_async=False, thread_count=1, strict_schema=False, worker_id="me")
attempt = Attempt(worker, 1, json.dumps({{"taskId": "t", "workflowInstanceId": "w"}}).encode())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run_plain(attempt)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    used = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert used < 4 * size
