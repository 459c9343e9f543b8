"""The whole engine against a server that misbehaves: what the unit tests promise, over real connections.

Functions run in this process, so that a test can hold them and look at them.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

import samples
from engine_fakes import task_json
from fake_server import Answer, FakeServer, Fault, Gate, Request, error_answer, json_answer, text_answer
from podium import updates
from rig import until
from scene import DONE, NOTHING, Scene, raw_tasks, tasks


@pytest.fixture
def scene() -> Iterator[Scene]:
    with FakeServer() as server:
        yield Scene(server)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# polls


BAD_ANSWERS: dict[str, Answer] = {
    "login page": text_answer("<html><title>Sign in</title></html>"),
    "null": json_answer(None),
    "object": json_answer({}),
    "number": json_answer(42),
    "text": json_answer("tasks"),
    "nothing": Answer(),
    "broken JSON": Answer(body=b'[{"taskId":'),
    "half an answer": Answer(body=b"[" + b" " * 1000 + b"]", fault=Fault.CUT_BODY),
    "cut": Answer(fault=Fault.CUT),
    "no gzip": Answer(body=b"junk", headers={"Content-Encoding": "gzip"}),
    "wrong charset": Answer(body="[\x00]".encode("utf-16"), headers={"Content-Type": "application/json"}),
    "redirect": Answer(status=302, headers={"Location": "http://127.0.0.1:1/elsewhere"}),
    "error page": text_answer("<html>Bad gateway</html>", 502),
}


@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_C01_B06_answer_that_is_no_list_of_tasks_is_a_failed_poll_told_once(
    scene: Scene, answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    # A GET that was cut before its answer began is sent again by the transport: hence two answers for one failed poll.
    scene.polls(samples.returns_none, answer, answer, tasks("a"), NOTHING)
    with caplog.at_level(logging.INFO), scene.running(samples.returns_none):
        scene.completed("a", deadline=5)
        until(lambda: scene.heard.updates, "the events")
    assert scene.heard.poll_failures
    (warning,) = warnings_of(caplog)
    assert warning.startswith(f"polling for {scene.rig.name_of(samples.returns_none)!r} failed: ")
    assert any("works again after" in message for message in caplog.messages)


def test_defect_02_storm_of_401_is_met_with_patience(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    denied = json_answer({"error": "NO_ACCESS", "message": "no"}, 401)
    scene.polls(samples.returns_none, denied, denied, tasks("a"), NOTHING)
    with scene.running(samples.returns_none):
        scene.completed("a", deadline=15)
    first, second = (later - earlier for earlier, later in pairwise(scene.poll_times[:3]))
    assert 1.9 < first < 3
    assert 3.9 < second < 6
    assert len(warnings_of(caplog)) == 1


def test_B09_server_errors_are_polled_seldom_and_their_end_is_noticed_soon(scene: Scene) -> None:
    bad = error_answer(503, "unavailable")
    scene.polls(samples.returns_none, *[bad] * 5, tasks("a"), NOTHING)
    with scene.running(samples.returns_none):
        scene.completed("a", deadline=10)
    waits = [later - earlier for earlier, later in pairwise(scene.poll_times[:6])]
    assert all(wait >= 0.8 * least for wait, least in zip(waits, [0.1, 0.2, 0.4, 0.8, 1.6], strict=True))
    assert waits[-1] < 3


def test_B10_retry_after_of_a_poll_is_obeyed(scene: Scene) -> None:
    busy = Answer(status=429, headers={"Retry-After": "2"})
    scene.polls(samples.returns_none, busy, tasks("a"), NOTHING)
    with scene.running(samples.returns_none):
        scene.completed("a", deadline=10)
    assert 1.9 < scene.poll_times[1] - scene.poll_times[0] < 4


def test_B07_poll_that_is_never_answered_is_followed_by_the_next_within_its_time_and_five_seconds(scene: Scene) -> None:
    scene.polls(samples.returns_none, Answer(fault=Fault.SILENCE), tasks("a"), NOTHING)
    with scene.running(samples.returns_none, poll_timeout=100):
        scene.completed("a", deadline=10)
    assert 4.5 < scene.poll_times[1] - scene.poll_times[0] < 0.1 + 5.0 + 0.5  # the last for a busy machine


def test_C02_C04_bad_tasks_take_neither_their_neighbours_nor_the_engine_along(scene: Scene) -> None:
    deep = b'{"taskId":"deep","workflowInstanceId":"w","inputData":{"a":' + b"[" * 5000 + b"]" * 5000 + b"}}"
    broken = b'{"taskId":"broken","workflowInstanceId":"w","inputData":{"a":"\xff"}}'
    wrong = b'{"taskId":"wrong","workflowInstanceId":"w","retryCount":"three"}'
    scene.polls(samples.returns_none, raw_tasks(task_json("a"), deep, broken, wrong), tasks("b"), NOTHING)
    with scene.running(samples.returns_none) as handler:
        until(lambda: len(scene.reports()) >= 5, "five reports")
        assert handler.is_healthy()
    reports = {report["taskId"]: report for report in scene.reports()}
    assert reports["a"]["status"] == reports["b"]["status"] == "COMPLETED"
    for name, why in (("deep", "nested too deeply"), ("broken", "codec can't decode"), ("wrong", "`$.retryCount`")):
        assert reports[name]["status"] == "FAILED_WITH_TERMINAL_ERROR"
        assert why in reports[name]["reasonForIncompletion"]


# results


def reports_of(scene: Scene, task_id: str) -> list[dict[str, Any]]:
    return [report for report in scene.reports() if report["taskId"] == task_id]


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.RESET, Fault.CUT_HEAD, Fault.CUT_BODY])
def test_B04_B05_cut_update_is_resent_within_a_second_and_hurts_no_poll(scene: Scene, fault: Fault) -> None:
    open_poll, go = Gate(), threading.Event()
    cut_at: list[float] = []

    def function(name: str) -> None:
        assert name == "b" or go.wait(10)

    def cut(_request: Request) -> Answer:
        cut_at.append(time.monotonic())
        return Answer(body=b"some text", fault=fault)

    scene.server.on("POST", "/api/tasks", cut, DONE)
    late = Answer(body=tasks("b", name="b").body, headers={"Content-Type": "application/json"}, gate=open_poll)
    path = scene.polls(function, tasks("a", name="a"), late, NOTHING)
    with scene.running(function, thread_count=2):
        scene.server.wait_for(2, path)
        go.set()
        until(lambda: len(reports_of(scene, "a")) == 2, "the resending", deadline=5)
        assert time.monotonic() - cut_at[0] < 1
        assert reports_of(scene, "b") == []
        open_poll.open()
        until(lambda: reports_of(scene, "b"), "the task of the open poll", deadline=5)
        until(lambda: len(scene.heard.updates) == 2, "both acknowledged")
    assert scene.heard.poll_failures == []
    assert scene.heard.update_failures == []


def test_B08_update_that_is_never_answered_is_sent_again_on_another_connection(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updates, "FIRST_ANSWER", 0.3)
    scene.server.on("POST", "/api/tasks", Answer(fault=Fault.SILENCE), DONE)
    scene.polls(samples.returns_none, tasks("a"), NOTHING)
    with scene.running(samples.returns_none):
        until(lambda: scene.heard.updates, "the acknowledgement", deadline=5)
    first, second = scene.server.to("/api/tasks")
    assert first.body == second.body
    assert first.connection != second.connection


def test_B17_idle_connections_that_the_server_closes_cost_nothing(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    started, go = threading.Event(), threading.Event()

    def function() -> None:
        started.set()
        assert go.wait(10)

    scene.polls(function, tasks("a"), tasks("b"), NOTHING)
    with scene.running(function, thread_count=1):
        assert started.wait(10)
        scene.server.close_connections()
        go.set()
        scene.completed("a", "b", deadline=5)
    assert warnings_of(caplog) == []


@pytest.mark.parametrize("answer", [error_answer(404, "No static resource api/tasks/update-v2."), Answer(status=405)])
def test_defect_01_B13_server_without_update_v2(scene: Scene, answer: Answer) -> None:
    scene.server.on("POST", "/api/tasks/update-v2", answer)
    scene.polls(samples.returns_none, tasks("a"), tasks("b"), tasks("c"), NOTHING)
    with scene.running(samples.returns_none, thread_count=1):
        scene.completed("a", "b", "c", deadline=5)
        until(lambda: len(scene.heard.updates) == 3, "all acknowledged")
    assert len(scene.server.to("/api/tasks/update-v2")) == 1
    assert len(scene.server.to("/api/tasks")) == 3


def test_defect_08_B11_refused_result_fails_its_task_and_frees_the_slot(scene: Scene) -> None:
    scene.server.on("POST", "/api/tasks", error_answer(400, "Validation failed"), DONE)
    scene.polls(samples.returns_none, tasks("a"), NOTHING)
    with scene.running(samples.returns_none) as handler:
        until(lambda: scene.heard.update_failures, "the failure", deadline=5)
        until(lambda: handler.get_worker_status()[0]["running"] == 0, "the free slot", deadline=1)
    assert [report["status"] for report in scene.reports()] == ["COMPLETED", "FAILED_WITH_TERMINAL_ERROR"]
    assert scene.heard.update_failures[0].retry_count == 1
    assert scene.heard.update_failures[0].task_result.task_id == "a"


# tasks


def test_C06_twenty_tasks_for_a_count_of_eight(scene: Scene) -> None:
    names = [f"t{number}" for number in range(20)]
    running, most, lock = 0, 0, threading.Lock()
    eight, go = threading.Event(), threading.Event()

    def function() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == 8:
                eight.set()
        assert go.wait(10)
        with lock:
            running -= 1

    path = scene.polls(function, tasks(*names), NOTHING)
    with scene.running(function, thread_count=8) as handler:
        assert eight.wait(10)
        assert handler.get_worker_status()[0]["running"] == 8
        go.set()
        scene.completed(*names)
        until(lambda: len(scene.heard.updates) == 20, "all acknowledged")
    assert most == 8
    assert scene.server.to(path)[0].query["count"] == "8"
    assert sorted(report["taskId"] for report in scene.reports()) == sorted(names)


def test_C05_task_twice_in_one_answer_runs_once(scene: Scene) -> None:
    calls: list[str] = []

    def function(a: str) -> None:
        calls.append(a)

    scene.polls(function, tasks("a", "a", a="x"), tasks("b", a="y"), NOTHING)
    with scene.running(function):
        scene.completed("a", "b")
    assert calls == ["x", "y"]
    assert len(scene.reports()) == 2


@pytest.mark.parametrize("size", [1_000_000, 20_000_000])
def test_C04_large_input(scene: Scene, size: int) -> None:
    def function(text: str) -> int:
        return len(text)

    scene.polls(function, tasks("a", text="x" * size), NOTHING)
    with scene.running(function):
        scene.completed("a")
    assert scene.reports()[0]["outputData"] == {"result": size}


def test_results_are_what_was_sent(scene: Scene) -> None:
    scene.polls(samples.returns_dict, tasks("a", a=1, b="ü\u2028\0"), NOTHING)
    with scene.running(samples.returns_dict):
        scene.completed("a")
    (request,) = scene.server.to("/api/tasks")
    assert json.loads(request.body)["outputData"] == {"a": 1, "b": "ü\u2028\0"}
    assert request.headers["content-type"] == "application/json"
