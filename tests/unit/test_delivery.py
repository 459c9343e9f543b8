"""Delivering results, in virtual time: which call, how often, how long apart, and what is said when it is in vain."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import msgspec
import pytest

import virtual_time
from engine_fakes import FakeClient, Heard, outcome_for, task_json, unavailable
from podium import TaskResult, TaskResultStatus, TaskUpdateCompleted, TaskUpdateFailure
from podium.delivery import UPDATE_RETRY_DELAYS, Delivery
from podium.endings import Endings
from podium.errors import (
    AnswerError,
    ApiError,
    ConfigError,
    ConnectError,
    CutError,
    PodiumError,
    TimeoutExceededError,
)
from podium.polled import PolledTask, give_back_body, read_task

T = TypeVar("T")
START = 1000.0
UNKNOWN = (404, "No such task found by id: t")


class Stage:
    """A delivery that runs; the server answers nothing but updates, unless a test says otherwise."""

    def __init__(
        self,
        *update_errors: PodiumError | None,
        client: FakeClient | None = None,
        delays: Sequence[float] = UPDATE_RETRY_DELAYS,
    ) -> None:
        self.client = client or FakeClient()
        self.client.update_errors.extend(update_errors)
        self.client.away = unavailable()
        self.heard = Heard()
        self.delivery = Delivery(self.client, self.heard, delays)
        self.task = read_task(task_json("t"))
        self.running = asyncio.create_task(self.delivery.run())

    def report(
        self, *, want_next: bool = False, task: PolledTask | None = None, **fields: Any
    ) -> Coroutine[Any, Any, bytes | None]:
        task = task or self.task
        outcome = outcome_for(task, **fields)
        return self.delivery.report("type", "worker", task, outcome, want_next=want_next)

    @property
    def ways(self) -> list[str]:
        return [update.way for update in self.client.updates]

    @property
    def pauses(self) -> list[float]:
        times = [update.at for update in self.client.updates]
        return [later - earlier for earlier, later in pairwise(times)]

    @property
    def failure(self) -> TaskUpdateFailure:
        (event,) = self.heard.of(TaskUpdateFailure)
        assert isinstance(event, TaskUpdateFailure)
        return event


def play(act: Callable[[], Coroutine[Any, Any, T]]) -> T:
    clock = virtual_time.Clock()
    clock.now = START
    return virtual_time.run(act(), clock)


def reported(*errors: PodiumError | None, want_next: bool = False, seconds: float = 80.0) -> Stage:
    """Report one result to a client whose first updates end in these errors, and let some time pass."""

    async def act() -> Stage:
        stage = Stage(*errors)
        await stage.report(want_next=want_next)
        await asyncio.sleep(seconds)
        return stage

    return play(act)


def api_error(status: int, message: str, **fields: Any) -> ApiError:
    return ApiError.of(status)(status, message, **fields)


def jittered(*delays: float) -> list[Any]:
    """What pauses of that length may be: as long, or up to a fifth shorter."""
    return [pytest.approx(delay * 0.9, rel=0.1112) for delay in delays]


# which call


def test_plain_report_goes_to_v1() -> None:
    stage = reported()
    assert stage.ways == ["v1"]
    (event,) = stage.heard.events
    assert isinstance(event, TaskUpdateCompleted)
    assert (event.task_type, event.task_id, event.worker_id, event.workflow_instance_id) == (
        "type", "t", "worker", "flow-t",
    )  # fmt: skip


def test_v2_brings_the_next_task() -> None:
    async def act() -> None:
        stage = Stage()
        stage.client.next_tasks.append(b"next")
        assert await stage.report(want_next=True) == b"next"
        assert await stage.report(want_next=True) is None
        assert await stage.report(want_next=False) is None
        assert stage.ways == ["v2", "v2", "v1"]

    play(act)


def test_body_is_sent_as_it_is() -> None:
    async def act() -> None:
        stage = Stage()
        await stage.report(outputData={"a": [1, None, "ü"]})
        assert stage.client.updates[0].body["outputData"] == {"a": [1, None, "ü"]}

    play(act)


@pytest.mark.parametrize(
    "error",
    [
        api_error(404, "No static resource api/tasks/update-v2."),
        api_error(404, "<html>"),
        api_error(405, "Request method 'POST' is not supported"),
    ],
    ids=str,
)
def test_defect_01_B13_missing_v2_costs_one_request_and_no_result(
    error: ApiError, caplog: pytest.LogCaptureFixture
) -> None:
    async def act() -> None:
        stage = Stage(error)
        with caplog.at_level(logging.INFO):
            for _ in range(3):
                assert await stage.report(want_next=True) is None
        assert stage.ways == ["v2", "v1", "v1", "v1"]
        assert stage.pauses == [0, 0, 0]
        assert stage.heard.names == ["TaskUpdateCompleted"] * 3

    play(act)
    assert [message[:28] for message in caplog.messages] == ["the server has no update-v2 "]


def test_defect_49_what_one_server_lacks_says_nothing_of_another() -> None:
    async def act() -> None:
        old, new = Stage(api_error(404, "No static resource api/tasks/update-v2.")), Stage()
        await old.report(want_next=True)
        await new.report(want_next=True)
        await old.report(want_next=True)
        assert (old.ways, new.ways) == (["v2", "v1", "v1"], ["v2"])

    play(act)


@pytest.mark.parametrize("message", ["No such task found by id: t", "No such workflow found by id: w"])
def test_defect_07_B12_unknown_task_does_not_switch_v2_off(message: str, caplog: pytest.LogCaptureFixture) -> None:
    async def act() -> None:
        stage = Stage(api_error(404, message))
        await stage.report(want_next=True)
        await stage.report(want_next=True)
        assert stage.ways == ["v2", "v2"]
        assert stage.failure.retry_count == 1

    play(act)
    assert caplog.messages == [f"nobody waits for the result of task t any more: 404 {message}"]


def test_B12_404_in_other_words_switches_v2_off_only_if_v1_takes_the_result() -> None:
    async def act() -> None:
        stage = Stage(api_error(404, "Task is gone"), api_error(404, "Task is gone"))
        await stage.report(want_next=True)
        await stage.report(want_next=True)
        assert stage.ways == ["v2", "v1", "v2"]

    play(act)


def test_after_a_failure_no_next_task_is_asked_for() -> None:
    stage = reported(unavailable(), want_next=True)
    assert stage.ways == ["v2", "v1"]


# what is sent again, and when


@pytest.mark.parametrize(
    "error",
    [
        ConnectError("refused"),
        TimeoutExceededError("no answer"),
        AnswerError("a login page"),
        api_error(500, "could not acquire the lock"),
        api_error(502, "bad gateway"),
        api_error(503, "unavailable"),
        api_error(429, "slow down"),
        api_error(400, "says so itself", server_retryable=True),
        api_error(401, "token"),
        api_error(403, "forbidden"),
    ],
    ids=lambda error: type(error).__name__ + str(getattr(error, "status", "")),
)
def test_what_may_heal_is_sent_until_it_is_taken_and_told_after_four_attempts(
    error: PodiumError, caplog: pytest.LogCaptureFixture
) -> None:
    stage = reported(*[error] * 10, seconds=400)
    assert stage.ways == ["v1"] * 11
    assert stage.pauses == jittered(*UPDATE_RETRY_DELAYS, *[30] * 7)
    assert len({str(update.body) for update in stage.client.updates}) == 1
    assert stage.failure.retry_count == 4
    assert stage.heard.names == ["TaskUpdateFailure", "TaskUpdateCompleted"]
    (told,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert told.getMessage().startswith("the result of task t (type) was not delivered in 4 attempts, and is kept")
    assert len(caplog.records) <= 3  # the first failure, the fourth, and the end: not every attempt
    assert (stage.delivery.waiting, stage.delivery.endings.finished) == (0, 1)


def test_outage_is_told_once_however_many_results_wait_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    async def act() -> None:
        stage = Stage(*[unavailable()] * 15)
        await asyncio.gather(*(stage.report(task=read_task(task_json(f"t{number}"))) for number in range(10)))
        await asyncio.sleep(200)
        assert stage.heard.names.count("TaskUpdateCompleted") == 10
        assert len(stage.ways) == 25

    with caplog.at_level(logging.INFO):
        play(act)
    first, *kept, last = caplog.messages
    assert first.startswith("task t0: the server did not take the update, it is sent again: ")
    assert all("is kept" in line for line in kept)
    assert len(kept) <= 1
    assert last == "updates that had failed are taken again"


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_result_is_delivered_as_soon_as_it_is_taken(failures: int, caplog: pytest.LogCaptureFixture) -> None:
    stage = reported(*[unavailable()] * failures)
    assert len(stage.ways) == failures + 1
    assert stage.heard.names == ["TaskUpdateCompleted"]
    assert stage.heard.events[0].duration_ms >= 0  # type: ignore[attr-defined]
    assert len(caplog.records) <= 1


@pytest.mark.parametrize("want_next", [False, True])
def test_defect_01_B04_B05_cut_connection_is_resent_at_once(want_next: bool) -> None:
    stage = reported(CutError("cut"), want_next=want_next)
    assert stage.pauses == [0]
    assert stage.ways == ["v2" if want_next else "v1", "v1"]
    assert stage.heard.names == ["TaskUpdateCompleted"]


def test_connection_that_is_cut_again_and_again_has_the_usual_pauses() -> None:
    stage = reported(*[CutError("cut")] * 10)
    assert stage.pauses[:4] == [0, *jittered(*UPDATE_RETRY_DELAYS)]
    assert stage.failure.retry_count == 5


def test_B08_silent_connection_is_left_after_ten_seconds() -> None:
    class Silent(FakeClient):
        async def post_result(self, body: bytes) -> None:
            await super().post_result(body)
            if len(self.updates) == 1:
                await asyncio.Event().wait()

    async def act() -> None:
        stage = Stage(client=Silent())
        await stage.report()
        await asyncio.sleep(1)
        assert stage.pauses == [pytest.approx(10, abs=0.1)]
        assert stage.heard.names == ["TaskUpdateCompleted"]

    play(act)


def test_slow_server_is_given_time_from_the_second_attempt_on() -> None:
    class Slow(FakeClient):
        async def post_result(self, body: bytes) -> None:
            await super().post_result(body)
            await asyncio.sleep(30)  # virtual seconds

    async def act() -> None:
        stage = Stage(client=Slow())
        await stage.report()
        await asyncio.sleep(40)
        assert len(stage.ways) == 2
        assert stage.heard.names == ["TaskUpdateCompleted"]

    play(act)


def test_large_result_has_more_time() -> None:
    class Line(FakeClient):
        async def post_result(self, body: bytes) -> None:
            await super().post_result(body)
            await asyncio.sleep(len(body) / 100_000)  # virtual seconds

    async def act() -> None:
        stage = Stage(client=Line())
        await stage.report(outputData={"a": "x" * 5_000_000})
        assert len(stage.ways) == 1

    play(act)


@pytest.mark.parametrize(("wish", "pause"), [(5, 10), (15, 15), (60, 60), (3600, 60), (0, 10)])
@pytest.mark.parametrize("status", [429, 503])
def test_B10_retry_after_is_obeyed_up_to_a_minute_and_never_shortens_the_pause(
    status: int, wish: float, pause: float
) -> None:
    stage = reported(api_error(status, "later", retry_after=wish))
    assert stage.pauses == jittered(pause)
    assert stage.heard.names == ["TaskUpdateCompleted"]


def test_delays_are_configurable() -> None:
    async def act() -> None:
        stage = Stage(*[unavailable()] * 9, delays=(1.5, 3.0))
        await stage.report()
        await asyncio.sleep(20)
        assert stage.pauses[:4] == jittered(1.5, 3.0, 3.0, 3.0)
        assert stage.failure.retry_count == 3
        none = Stage(*[unavailable()] * 2, delays=())
        await none.report()
        await asyncio.sleep(1)
        assert (len(none.ways), none.failure.retry_count) == (1, 1)

    play(act)


# what is refused for good

REFUSALS = [
    (400, "Validation failed"),
    (409, "conflict"),
    (413, "too large"),
    (422, "unprocessable"),
    (500, "JSON parse error: Unexpected character"),
]


@pytest.mark.parametrize(("status", "message"), REFUSALS)
def test_defect_08_B11_refused_result_fails_its_task_at_once_and_says_why(
    status: int, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    stage = reported(api_error(status, message, method="POST", path="/tasks"), want_next=True)
    assert stage.ways == ["v2", "v1"]
    assert stage.pauses == [0]
    small = stage.client.updates[1].body
    assert small["status"] == "FAILED_WITH_TERMINAL_ERROR"
    assert (small["taskId"], small["workflowInstanceId"], small["workerId"]) == ("t", "flow-t", "worker")
    assert small["reasonForIncompletion"] == f"the server refused the result: POST /tasks: {status} {message}"
    assert "outputData" not in small
    assert stage.failure.retry_count == 1
    assert caplog.messages == [f"the server refused the result of task t: POST /tasks: {status} {message}"]


def test_refusal_names_the_server_s_complaints() -> None:
    error = api_error(400, "Validation failed", validation_errors=("outputData: too deep",))
    assert reported(error).client.updates[1].body["reasonForIncompletion"].endswith("(outputData: too deep)")


def test_small_result_is_delivered_as_stubbornly_as_any() -> None:
    stage = reported(api_error(400, "no"), unavailable(), CutError("cut"))
    assert [update.body["status"] for update in stage.client.updates] == [
        "COMPLETED",
        *["FAILED_WITH_TERMINAL_ERROR"] * 3,
    ]


def test_small_result_that_is_refused_too_is_the_end(caplog: pytest.LogCaptureFixture) -> None:
    stage = reported(api_error(400, "no"), api_error(400, "neither"))
    assert len(stage.ways) == 2
    assert caplog.messages[-1] == "task t could not even be failed: 400 neither"


def test_error_of_the_settings_is_not_repeated() -> None:
    assert len(reported(ConfigError("no such path"), ConfigError("no such path")).ways) == 2


# what listeners hear


@pytest.mark.parametrize("error", [unavailable(), api_error(400, "no"), api_error(*UNKNOWN)], ids=str)
def test_failure_event_holds_the_result_and_the_cause(error: PodiumError) -> None:
    async def act() -> Stage:
        stage = Stage(*[error] * 9)
        await stage.report(outputData={"a": 1}, logs=[{"log": "line", "createdTime": 3}])
        await asyncio.sleep(80)
        return stage

    event = play(act).failure
    assert str(event.cause) == str(error)
    assert event.task_result.task_id == "t"
    assert event.task_result.status is TaskResultStatus.COMPLETED
    assert event.task_result.output_data == {"a": 1}
    assert event.task_result.logs[0].log == "line"


# the end of the engine


def test_hurry_ends_a_pause_and_leaves_one_attempt(caplog: pytest.LogCaptureFixture) -> None:
    async def act() -> None:
        stage = Stage(*[unavailable()] * 9)
        await stage.report()
        await asyncio.sleep(1.5)
        assert len(stage.ways) == 1
        stage.delivery.hurry()
        await stage.delivery.finish(5.0)
        assert stage.pauses == [pytest.approx(1.5)]
        assert stage.failure.retry_count == 2
        assert stage.delivery.endings == Endings(lost=1)

    play(act)
    assert caplog.records[-1].levelno == logging.CRITICAL
    assert caplog.messages[-1].startswith("lost, neither delivered nor kept: the results of t (type): 503")


def test_hurry_leaves_no_pause_to_later_results() -> None:
    async def act() -> None:
        stage = Stage(*[unavailable()] * 9)
        stage.delivery.hurry()
        await stage.report()
        await stage.delivery.finish(5.0)
        assert len(stage.ways) == 1
        assert stage.failure.retry_count == 1

    play(act)


def test_hurry_does_not_forbid_the_resending_after_a_cut() -> None:
    async def act() -> None:
        stage = Stage(CutError("cut"))
        stage.delivery.hurry()
        await stage.report()
        await stage.delivery.finish(5.0)
        assert stage.heard.names == ["TaskUpdateCompleted"]

    play(act)


def test_last_attempts_are_not_waited_for_longer_than_there_is_time() -> None:
    class Hanging(FakeClient):
        async def post_result(self, body: bytes) -> None:
            await super().post_result(body)
            await asyncio.Event().wait()

    async def act() -> None:
        stage = Stage(unavailable(), client=Hanging())
        await stage.report()
        stage.delivery.hurry()
        begun = asyncio.get_running_loop().time()
        await stage.delivery.finish(2.0)
        assert asyncio.get_running_loop().time() - begun < 3
        assert stage.delivery.endings == Endings(lost=1)

    play(act)


# giving back


def give_back(task: PolledTask, *errors: PodiumError) -> Stage:
    async def act() -> Stage:
        stage = Stage(*errors)
        await stage.delivery.give_back(task, "worker")
        return stage

    return play(act)


def test_task_is_given_back_with_the_output_that_came_with_it() -> None:
    output = {"seen": [1, {"deep": None}], "n": 1.5}
    (update,) = give_back(read_task(task_json("t", outputData=output))).client.updates
    assert update.way == "v1"
    assert update.body == {
        "taskId": "t", "workflowInstanceId": "flow-t", "status": "IN_PROGRESS", "workerId": "worker",
        "outputData": output,
    }  # fmt: skip


def test_output_goes_back_byte_for_byte() -> None:
    raw = b'{"taskId":"t","workflowInstanceId":"w","outputData":{"n": 12345678901234567890123, "f":1.10}}'
    assert b'"outputData":{"n": 12345678901234567890123, "f":1.10}' in give_back_body(read_task(raw), "worker")


def test_task_without_output_is_given_back_without() -> None:
    body = json.loads(give_back_body(read_task(task_json("t")), "worker"))
    assert body.get("outputData", {}) == {}
    assert msgspec.json.decode(json.dumps(body), type=TaskResult).callback_after_seconds == 0


def test_giving_back_is_repeated_and_its_failure_only_warns(caplog: pytest.LogCaptureFixture) -> None:
    assert len(give_back(read_task(task_json("t")), unavailable()).ways) == 2
    stage = give_back(read_task(task_json("t")), *[unavailable()] * 9)
    assert len(stage.ways) == 4
    assert stage.heard.events == []
    assert caplog.messages[-1].startswith("task t could not be given back (503 unavailable)")
    assert all(record.levelno == logging.WARNING for record in caplog.records)


# log lines that the update has no room for


def with_surplus(count: int, *log_errors: PodiumError | None) -> Stage:
    async def act() -> Stage:
        stage = Stage()
        stage.client.log_errors.extend(log_errors)
        outcome = outcome_for(stage.task, logs=[{"log": f"line {number}", "createdTime": 5} for number in range(10)])
        outcome.surplus_logs = [f"line {number}" for number in range(10, 10 + count)]
        await stage.delivery.report("type", "worker", stage.task, outcome, want_next=False)
        return stage

    return play(act)


def lines_of(stage: Stage) -> list[str]:
    """All lines in the order in which the server will show them: by time, so the update's own come first."""
    (update,) = stage.client.updates
    entries = [line["log"] for line in update.body["logs"]] + [message for _, _, message in stage.client.logs]
    return "\n".join(entries).split("\n")


@pytest.mark.parametrize("count", [1, 90, 91, 600, 9990])
def test_surplus_lines_are_sent_in_order_before_the_result(count: int) -> None:
    stage = with_surplus(count)
    assert lines_of(stage) == [f"line {number}" for number in range(10 + count)]
    assert {task_id for _, task_id, _ in stage.client.logs} == {"t"}
    assert max(at for at, _, _ in stage.client.logs) <= stage.client.updates[0].at
    assert min(at for at, _, _ in stage.client.logs) > START  # not in the millisecond of the last line before them
    assert len(stage.client.logs) <= 90 + 20


@pytest.mark.parametrize("good", [0, 3])
def test_lines_that_cannot_be_sent_alone_go_with_the_result(good: int, caplog: pytest.LogCaptureFixture) -> None:
    stage = with_surplus(5, *[None] * good, unavailable())
    (update,) = stage.client.updates
    entries = [line["log"] for line in update.body["logs"]]
    assert len(entries) == 10  # the server would drop an eleventh
    assert entries[-1].split("\n") == ["line 9", *[f"line {number}" for number in range(10 + good, 15)]]
    assert len(stage.client.logs) == good + 1
    assert update.body["logs"][-1]["createdTime"] == 5
    assert "are sent with its result, together" in caplog.text


def test_empty_line_is_sent_as_a_blank_one() -> None:
    async def act() -> Stage:
        stage = Stage()
        outcome = outcome_for(stage.task)
        outcome.surplus_logs = ["a", "", "b"]
        await stage.delivery.report("type", "worker", stage.task, outcome, want_next=False)
        return stage

    assert [message for _, _, message in play(act).client.logs] == ["a", " ", "b"]
